//! The model of a run: which one is meant, its settings, its files on this machine.

use super::{printer::Printer, pulling::pull_missing, render::Work};
use crate::{
    Error, Result,
    config::{Layers, Settings},
    file_hash::FileHashes,
    memory::MemoryPlan,
    models::{Found, Located, Locator, ModelChoice, ModelFile, ModelFiles, ModelLocation, Needs},
    recipe::{FileRecord, ModelRecord},
    rollout::CancelToken,
};

/// A model and the settings to run it with.
pub(super) struct Model {
    locator: Locator,
    pub located: Located,
    pub settings: Settings,
    needs: Needs,
}

impl Model {
    /// Decides which model is meant. `encoder`: whether a video begins with pictures.
    ///
    /// # Errors
    /// When there is no such model or preset.
    pub fn locate(layers: &Layers, encoder: bool, cancel: &CancelToken, printer: &Printer) -> Result<Self> {
        let locator = Locator::from_env(|name| std::env::var_os(name));
        let (model, preset) = (layers.model(), layers.preset());
        let needs = Needs {
            decoder: layers.vae(),
            encoder,
        };
        let choice = ModelChoice {
            model: model.as_deref(),
            preset: preset.as_deref(),
        };
        let located = locator.locate(choice, needs, &|| cancel.is_cancelled())?;
        if let Some(reason) = &located.fallback {
            printer.note(&format!(
                "the model `{}` is not on this machine and cannot be downloaded ({reason}); using the small bundled \
                 model `toy`, which shows a toy world",
                crate::preset::Preset::DEFAULT
            ));
        }
        printer.detail(&format!("model {}, preset {}", located.model, located.preset_name));
        let settings = layers.resolve(&located.preset_name, &located.preset);
        Ok(Self {
            locator,
            located,
            settings,
            needs,
        })
    }

    /// The files, or which of them are missing.
    ///
    /// # Errors
    /// As [`Locator::files`].
    pub fn found(&self) -> Result<Found> {
        self.locator.files(&self.located, self.needs)
    }

    /// The files; what is missing is downloaded, after saying how much that is.
    ///
    /// # Errors
    /// When a file cannot be had.
    pub fn files(&self, cancel: &CancelToken, printer: &Printer) -> Result<ModelFiles> {
        if let Found::Missing(missing) = self.found()? {
            pull_missing(self.locator.hub()?, &self.located.model, &missing, printer, cancel)?;
        }
        match self.found()? {
            Found::Files(files) => Ok(*files),
            Found::Missing(missing) => Err(Error::StillMissing {
                files: missing
                    .iter()
                    .map(|source| source.label())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// Those of `files` that the run needs.
    pub fn list(&self, files: &ModelFiles) -> Vec<ModelFile> {
        files.list(self.needs)
    }

    /// The model without its files, for a recipe.
    pub fn outline(&self) -> ModelRecord {
        ModelRecord {
            model: match &self.located.location {
                ModelLocation::Folder(_) => None,
                ModelLocation::Hub | ModelLocation::Bundled => Some(self.located.model.clone()),
            },
            preset: self.located.preset_name.clone(),
            decoder: self.needs.decoder,
            files: Vec::new(),
        }
    }

    /// The model and its files with their hashes, for a recipe.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn record(&self, files: &ModelFiles) -> Result<ModelRecord> {
        let hashes = FileHashes::new(self.locator.own_cache());
        let mut record = self.outline();
        for file in self.list(files) {
            let unreadable = |error: std::io::Error| Error::ModelFileUnreadable {
                path: file.path.clone(),
                reason: error.to_string(),
            };
            record.files.push(FileRecord {
                role: file.role.name().into(),
                name: file
                    .path
                    .file_name()
                    .map_or_else(String::new, |name| name.to_string_lossy().into()),
                bytes: std::fs::metadata(&file.path).map_err(unreadable)?.len(),
                sha256: Some(hashes.sha256(&file.path).map_err(unreadable)?),
                repo: file.source.as_ref().map(|source| source.repo.clone()),
                revision: file.source.as_ref().map(|source| source.revision.clone()),
            });
        }
        Ok(record)
    }
}

/// Refuses what needs more memory than there is, before anything is loaded.
///
/// # Errors
/// With the parts that are largest and what makes them smaller.
pub(super) fn check_memory(files: &ModelFiles, works: &[Work]) -> Result<()> {
    for work in works {
        MemoryPlan::of(files, &work.job.recipe)?.check()?;
    }
    Ok(())
}

/// Lets every part of the program compute with as many threads.
pub(super) fn use_threads(threads: Option<usize>) {
    let Some(threads) = threads else { return };
    // SAFETY: called once, before the first thread that reads variables is made; candle reads its number of threads
    // from these two only.
    unsafe {
        std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
        std::env::set_var("CANDLE_NUM_THREADS", threads.to_string());
    }
}
