//! The image or clip that a video begins with.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RecipeError;
use crate::{files, hub::file_hash, rollout::start::StartFile};

/// What a start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartKind {
    Image,
    Clip,
}

/// The file that a video begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StartRecord {
    pub kind: StartKind,
    /// Its path as it was given.
    pub name: String,
    pub sha256: String,
    /// Latent frames that were made of it.
    pub latent_frames: usize,
}

impl StartRecord {
    /// Describes a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(file: &StartFile, latent_frames: usize) -> Result<Self, RecipeError> {
        Ok(Self {
            kind: match file {
                StartFile::Image(_) => StartKind::Image,
                StartFile::Clip(_) => StartKind::Clip,
            },
            name: file.path().to_string_lossy().into_owned(),
            sha256: hash(file.path())?,
            latent_frames,
        })
    }

    /// The file: the one that the user names, else one of the recorded name beside `recipe`, the file that holds the
    /// recipe. A recipe may come from anybody, so no other place that it names is looked at.
    ///
    /// # Errors
    /// [`RecipeError::StartElsewhere`] when there is none.
    pub fn file(&self, elsewhere: Option<&Path>, recipe: &Path) -> Result<StartFile, RecipeError> {
        let path = match elsewhere {
            Some(path) => path.to_owned(),
            None => self.beside(recipe)?,
        };
        Ok(match self.kind {
            StartKind::Image => StartFile::Image(path),
            StartKind::Clip => StartFile::Clip(path),
        })
    }

    fn beside(&self, recipe: &Path) -> Result<PathBuf, RecipeError> {
        let name = Path::new(&self.name);
        let relative = files::is_inside(&self.name).then_some(name);
        let last = name.file_name().map(Path::new);
        let mut places = relative.into_iter().chain(last).map(|name| recipe.with_file_name(name));
        let found = places.find(|path| path.symlink_metadata().is_ok());
        found.ok_or_else(|| RecipeError::StartElsewhere {
            name: name.into(),
            file: recipe.into(),
            reason: match std::fs::metadata(name) {
                Ok(there) if there.is_dir() => "it is a folder",
                Ok(there) if !there.is_file() => "it is not an ordinary file",
                _ => "no other place that a recipe names is looked at",
            },
        })
    }

    /// Whether `file` is still the one that was recorded.
    ///
    /// # Errors
    /// When it cannot be read, or has other bytes.
    pub fn check(&self, file: &StartFile) -> Result<(), RecipeError> {
        let found = hash(file.path())?;
        match found == self.sha256 {
            true => Ok(()),
            false => Err(RecipeError::StartChanged {
                path: file.path().into(),
                found: super::human::short_hash(&found),
                expected: super::human::short_hash(&self.sha256),
            }),
        }
    }
}

fn hash(path: &Path) -> Result<String, RecipeError> {
    file_hash::sha256(path).map_err(|error| RecipeError::Start {
        path: path.into(),
        reason: error.to_string(),
    })
}
