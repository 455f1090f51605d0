//! Config file and cache folders.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use super::{Report, Section, models};
use crate::{
    cli::config::effective_preset,
    config::{Environment, Layer, Layers},
    hub::HubSettings,
    models::cache_dir::cache_dir,
};

pub(super) fn examine(environment: &Environment, report: &mut Report) {
    config(environment, report);
    caches(environment, report);
    models::models_section(environment, report);
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
                Ok((name, preset)) => {
                    if let Err(error) = layers.resolve(&name, &preset).check(&preset) {
                        report.problem(
                            true,
                            error.to_string(),
                            "change it with `deepforcing config set` or take it away with `deepforcing config unset`; \
                             `deepforcing config show` prints where each setting comes from",
                        );
                    }
                    section.row("preset", name);
                }
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
    let lookup = |name: &str| environment.get(name).cloned();
    let mut section = Section::new("folders");
    let hub = match HubSettings::from_env(lookup) {
        Ok(settings) => {
            let token = settings.token.map(|token| format!("from {}", token.origin));
            section.row("Hugging Face token", token);
            section.row("Hugging Face endpoint", settings.endpoint.value);
            section.row("offline", settings.offline.value);
            settings.cache
        }
        Err(error) => {
            report.problem(true, error.to_string(), "correct the variable or unset it");
            None
        }
    };
    for (name, folder, variable, needed_for) in [
        ("Hugging Face cache", hub, "HF_HUB_CACHE", "to download models"),
        (
            "own cache",
            cache_dir(lookup),
            "DEEPFORCING_CACHE",
            "to keep the unpacked toy model and hashes of files",
        ),
    ] {
        match folder {
            Some(folder) => {
                let state = folder_state(name, &folder.value, variable, needed_for, report);
                section.row(name, folder.value.display().to_string());
                section.row(format!("{name} comes from"), folder.origin.to_string());
                section.row(format!("{name} is"), state);
            }
            None => {
                section.row(name, None::<String>);
                let todo = format!("set HOME, or name a folder with {variable}");
                report.problem(false, format!("there is no {name}, which is needed {needed_for}"), todo);
            }
        }
    }
    report.sections.push(section);
}

fn folder_state(name: &str, folder: &Path, variable: &str, needed_for: &str, report: &mut Report) -> String {
    match writable(folder) {
        Ok(()) if folder.is_dir() => "writable".into(),
        Ok(()) => "not there yet, can be made".into(),
        Err(error) => {
            let what = format!("files cannot be made in the {name} `{}` ({error})", folder.display());
            let todo = format!("make it writable {needed_for}, or name another folder with {variable}");
            report.problem(false, what, todo);
            format!("not writable: {error}")
        }
    }
}

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
}
