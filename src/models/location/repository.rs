//! A repository of the hub as a model: `organisation/name[@revision][:file]`.

use std::path::Path;

use super::{Located, ModelLocation, named};
use crate::{
    Error, Result, checkpoint,
    hub::{Hub, HubError, Source},
    models::{Role, preset::Preset},
};

/// Names that repositories have their transformer under, where none is named.
const USUAL: &[&str] = &[
    "transformer/diffusion_pytorch_model.safetensors.index.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "model.pt",
];

/// What was typed: a repository, and a file in it if one is named.
pub(super) struct Repository {
    repo: String,
    revision: String,
    file: Option<String>,
}

/// Reads `organisation/name[@revision][:file]`; `None` for what is no such thing.
pub(super) fn parse(text: &str) -> Option<Repository> {
    let (place, file) = match text.split_once(':') {
        Some((place, file)) => (place, Some(file.to_string())),
        None => (text, None),
    };
    let (repo, revision) = place.split_once('@').unwrap_or((place, "main"));
    let repository = Repository {
        repo: repo.into(),
        revision: revision.into(),
        file,
    };
    let whole = repo.split('/').count() == 2 && !repo.starts_with(['.', '~', '/']);
    let source = repository.source(repository.file.as_deref().unwrap_or(USUAL[0]));
    (whole && source.check().is_ok()).then_some(repository)
}

impl Repository {
    /// The preset that it runs with unless another is asked for.
    pub(super) fn preset(&self) -> &'static str {
        self.known_preset().unwrap_or(Preset::DEFAULT)
    }

    /// The preset whose model it is.
    fn known_preset(&self) -> Option<&'static str> {
        preset_of(&self.repo).filter(|_| self.file.is_none() && self.revision == "main")
    }

    fn source(&self, file: &str) -> Source {
        Source {
            repo: self.repo.clone(),
            file: file.into(),
            revision: self.revision.clone(),
            bytes: None,
            sha256: None,
        }
    }
}

/// The transformer of a repository, with the other files of the preset.
pub(super) fn locate(
    hub: Result<&Hub, HubError>,
    name: &str,
    repository: Repository,
    settings: Option<&str>,
    cancelled: &dyn Fn() -> bool,
) -> Result<Located> {
    if let Some(preset) = repository.known_preset() {
        return named(preset, settings);
    }
    let source = match &repository.file {
        Some(file) => repository.source(file),
        None => usual(hub?, &repository, cancelled)?,
    };
    let located = named(settings.unwrap_or(Preset::DEFAULT), None)?;
    let of_family = Preset::load(Preset::DEFAULT)?.sources.unwrap_or_default();
    let sources = located.preset.sources.clone().unwrap_or(of_family);
    // Its sizes are those of its tensors.
    let sources = sources
        .only(|role| role != Role::Config)
        .with(Role::Transformer, source);
    Ok(Located {
        model: name.into(),
        preset: Preset {
            sources: Some(sources),
            ..located.preset
        },
        location: ModelLocation::Hub,
        ..located
    })
}

/// The first preset whose transformer is published there.
fn preset_of(repo: &str) -> Option<&'static str> {
    let publishes = |name: &&str| {
        let sources = Preset::load(name).ok().and_then(|preset| preset.sources);
        sources.is_some_and(|sources| sources.of(Role::Transformer).is_some_and(|source| source.repo == repo))
    };
    Preset::names().into_iter().find(publishes)
}

/// The transformer under the first usual name that the cache or the repository has.
fn usual(hub: &Hub, repository: &Repository, cancelled: &dyn Fn() -> bool) -> Result<Source> {
    let sources = || USUAL.iter().map(|file| repository.source(file));
    if let Some(there) = sources().find(|source| hub.find(source).is_some()) {
        return Ok(there);
    }
    for source in sources() {
        match hub.describe(&source, cancelled) {
            Ok(_) => return Ok(source),
            Err(HubError::NoFile { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::RepositoryFile {
        repo: repository.repo.clone(),
        names: USUAL.join("`, `"),
    })
}

/// What is not in the cache of a file, and of the parts that it names if it is an index.
pub(super) fn missing_of(hub: &Hub, source: &Source) -> Vec<Source> {
    let Some(path) = hub.find(source) else {
        return vec![source.clone()];
    };
    let folder = Path::new(&source.file).parent().unwrap_or(Path::new(""));
    let part = |path: std::path::PathBuf| {
        let name = path.file_name()?;
        Some(Source {
            file: folder.join(name).to_str()?.to_string(),
            bytes: None,
            sha256: None,
            ..source.clone()
        })
    };
    let parts = checkpoint::shards_of(&path).into_iter().filter_map(part);
    parts.filter(|part| hub.find(part).is_none()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_told_from_a_path() {
        let parsed = |text: &str| parse(text).map(|known| (known.repo, known.revision, known.file));
        let main = || "main".to_string();
        assert_eq!(parsed("Kijai/Wan"), Some(("Kijai/Wan".into(), main(), None)));
        assert_eq!(
            parsed("Kijai/Wan@v1.0:a/b.safetensors"),
            Some(("Kijai/Wan".into(), "v1.0".into(), Some("a/b.safetensors".into())))
        );
        for other in [
            "nowhere",
            "./nowhere",
            "../a",
            "a/b/c",
            "/a/b",
            "~/a",
            "a/b:../c",
            "a/b@",
            "a b/c",
            "a/b:",
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }

    #[test]
    fn a_known_repository_is_its_preset() {
        assert_eq!(preset_of("gdhe17/Self-Forcing"), Some("deep-forcing"));
        assert_eq!(preset_of("nobody/nothing"), None);
    }
}
