//! Config file, cache folders, models.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{Report, Section};
use crate::{
    cli::config::effective_preset,
    config::{Environment, Layer, Layers},
};

pub(super) fn examine(environment: &Environment, report: &mut Report) {
    config(environment, report);
    caches(environment, report);
    models_section(environment, report);
}

fn config(environment: &Environment, report: &mut Report) {
    let mut section = Section::new("config");
    match Layers::load(Layer::default(), environment) {
        Ok(layers) => {
            let path = layers.file.as_ref().map(|file| file.path.display().to_string());
            let there = layers.file.as_ref().is_some_and(|file| file.path.is_file());
            section.row("file", path);
            section.row("file is there", there);
            match effective_preset(&layers) {
                Ok((name, _)) => section.row("preset", name),
                Err(error) => report.problem(
                    true,
                    error.to_string(),
                    "`deepforcing config show` prints where the preset comes from",
                ),
            }
            for warning in layers.warnings {
                report.problem(false, warning, "rename or unset it");
            }
        }
        Err(error) => report.problem(true, error.to_string(), "correct it or take it away"),
    }
    report.sections.push(section);
}

fn caches(environment: &Environment, report: &mut Report) {
    let mut section = Section::new("folders");
    let Some(cache) = hub_cache(environment) else {
        section.row("Hugging Face cache", None::<String>);
        report.problem(
            false,
            "there is no folder for downloaded models",
            "set HOME, or name one with HF_HUB_CACHE",
        );
        report.sections.push(section);
        return;
    };
    let state = match writable(&cache) {
        Ok(()) => "writable".into(),
        Err(error) => {
            report.problem(
                false,
                format!("files cannot be made in the Hugging Face cache `{}` ({error})", cache.display()),
                "models that are there can be used; to pull others, name another folder with HF_HUB_CACHE",
            );
            format!("not writable: {error}")
        }
    };
    section.row("Hugging Face cache", cache.display().to_string());
    section.row("Hugging Face cache is", state);
    report.sections.push(section);
}

/// The cache that all tools of the Hugging Face hub share.
fn hub_cache(environment: &Environment) -> Option<PathBuf> {
    let folder = |name: &str| environment.get(name).map(PathBuf::from);
    folder("HF_HUB_CACHE")
        .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| folder("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/huggingface/hub")))
}

/// Models that are there, and whether they are whole.
///
/// The models of the Hugging Face cache come from `crate::hub` and `crate::models`; until then nothing is known.
fn models_section(_environment: &Environment, _report: &mut Report) {}

/// Whether files can be made in a folder, or in the nearest folder above it that is there.
fn writable(folder: &Path) -> io::Result<()> {
    let mut nearest = folder;
    while !nearest.is_dir() {
        if nearest.exists() {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                format!("`{}` is no folder", nearest.display()),
            ));
        }
        nearest = match nearest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
    let trial = nearest.join(format!(".deepforcing-doctor-{}", std::process::id()));
    File::create_new(&trial)?;
    fs::remove_file(&trial)
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_judged_by_the_one_above() {
        let folder = tempdir().unwrap();
        assert!(writable(folder.path()).is_ok());
        assert!(writable(&folder.path().join("a/b/c")).is_ok());
        fs::write(folder.path().join("file"), "").unwrap();
        let error = writable(&folder.path().join("file/b")).unwrap_err();
        assert!(error.to_string().contains("no folder"), "{error}");
        // Nothing is left behind or made.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_cache_is_found_as_other_tools_find_it() {
        let at = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
            hub_cache(&variables.collect())
        };
        assert_eq!(at(&[]), None);
        assert_eq!(at(&[("HOME", "/h")]), Some("/h/.cache/huggingface/hub".into()));
        assert_eq!(at(&[("HOME", "/h"), ("HF_HOME", "/f")]), Some("/f/hub".into()));
        assert_eq!(at(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/f")]), Some("/c".into()));
    }
}
