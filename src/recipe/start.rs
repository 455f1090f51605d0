//! The image or clip that a video begins with.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RecipeError;
use crate::{hub::file_hash, rollout::start::StartFile};

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

    /// The file, at its recorded path or at another one.
    pub fn file(&self, elsewhere: Option<&Path>) -> StartFile {
        let path = elsewhere.map_or_else(|| PathBuf::from(&self.name), Path::to_owned);
        match self.kind {
            StartKind::Image => StartFile::Image(path),
            StartKind::Clip => StartFile::Clip(path),
        }
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
