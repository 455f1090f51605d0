//! `deepforcing models list`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, print, print_json};
use crate::{
    Result,
    hub::{HubError, Source, human_bytes},
    models::bundled,
    models::preset::{Preset, Sources},
    models::{Locator, Role},
};

#[derive(Args)]
pub(super) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) fn run(&self, locator: &Locator) -> Result<(), Failure> {
        let mut models = Vec::new();
        for name in Preset::names() {
            models.push(Listed::new(name, locator)?);
        }
        if self.json {
            return print_json(&models.iter().map(Listed::json).collect());
        }
        let width = models.iter().map(|model| model.name.len()).max().unwrap_or_default();
        for model in &models {
            print(&format!(
                "{:width$}  {:32}  {}",
                model.name,
                model.state(),
                model.preset.description
            ))?;
        }
        Ok(())
    }
}

/// A model, with what of it is there.
struct Listed {
    name: &'static str,
    preset: Preset,
    /// Each file with its path, if it is there.
    files: Vec<(Role, Source, Option<PathBuf>)>,
    /// Files that make the model whole; one decoder is enough.
    needed: Vec<Role>,
}

impl Listed {
    fn new(name: &'static str, locator: &Locator) -> Result<Self> {
        let preset = Preset::load(name)?;
        // Without a place for a cache nothing is there; a variable that cannot be is an error.
        let hub = match locator.hub() {
            Ok(hub) => Some(hub),
            Err(HubError::NoHome) => None,
            Err(error) => return Err(error.into()),
        };
        let all = preset.sources.iter().flat_map(Sources::all);
        let find = |source: &Source| hub.and_then(|hub| hub.find(source));
        let files = all.map(|(role, source)| (role, source.clone(), find(source)));
        let sources = preset.sources.iter();
        let needed = sources.flat_map(|sources| sources.with_one_decoder(|source| find(source).is_some()));
        Ok(Self {
            name,
            files: files.collect(),
            needed: needed.map(|(role, _)| role).collect(),
            preset,
        })
    }

    fn is_bundled(&self) -> bool {
        self.name == Preset::BUNDLED
    }

    fn needed(&self) -> impl Iterator<Item = &(Role, Source, Option<PathBuf>)> {
        self.files.iter().filter(|(role, ..)| self.needed.contains(role))
    }

    fn is_there(&self) -> bool {
        match self.is_bundled() {
            true => bundled::IS_AVAILABLE,
            false => self.needed().all(|(.., path)| path.is_some()),
        }
    }

    /// Bytes that are there, and those that are missing and known.
    fn bytes(&self) -> (u64, u64) {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let there = self.needed().filter_map(|(.., path)| path.as_deref()).map(size).sum();
        let missing = self.needed().filter(|(.., path)| path.is_none());
        (there, missing.filter_map(|(_, source, _)| source.bytes).sum())
    }

    fn state(&self) -> String {
        let (there, missing) = self.bytes();
        let unknown = self
            .needed()
            .any(|(_, source, path)| path.is_none() && source.bytes.is_none());
        let missing = match unknown {
            true => format!("over {}", human_bytes(missing)),
            false => human_bytes(missing),
        };
        match (self.is_bundled(), self.is_there()) {
            (true, true) => "part of the program".into(),
            (true, false) => "not built into this program".into(),
            (false, true) => format!("there ({})", human_bytes(there)),
            (false, false) if there > 0 => format!("{} there, {missing} missing", human_bytes(there)),
            (false, false) => format!("not there ({missing})"),
        }
    }

    fn json(&self) -> Value {
        let (there, missing) = self.bytes();
        let files = self.files.iter().map(|(role, source, path)| {
            json!({
                "role": role.name(),
                "repo": source.repo,
                "file": source.file,
                "revision": source.revision,
                "bytes": source.bytes,
                "sha256": source.sha256,
                "path": path,
            })
        });
        json!({
            "name": self.name,
            "description": self.preset.description,
            "location": if self.is_bundled() { "bundled" } else { "hub" },
            "present": self.is_there(),
            "bytes_present": there,
            "bytes_missing": missing,
            "files": files.collect::<Vec<_>>(),
        })
    }
}
