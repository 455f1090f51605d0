//! What can be wrong with a recipe.

use std::path::{Path, PathBuf};

use super::FORMAT;

/// A recipe that cannot be read or followed.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// JSON of another program, or none at all.
    #[error("this is not a recipe of deepforcing: {reason}")]
    NotARecipe { reason: String },
    /// Made by a later version.
    #[error(
        "the recipe has format {format}, made by deepforcing {version}; this program reads up to format {FORMAT}: update \
         it"
    )]
    Newer { format: u64, version: String },
    /// A recipe with a value that cannot be.
    #[error("the recipe is damaged: {reason}")]
    Damaged { reason: String },
    /// The image or clip that the video began with cannot be read.
    #[error("cannot read `{}`, which the video begins with: {reason}; say where it is with --start FILE", path.display())]
    Start { path: PathBuf, reason: String },
    /// The image or clip is another one by now.
    #[error(
        "`{}` is not the file that the video began with (its SHA-256 is {found}, the recipe says {expected}); find the \
         same file, or go on with --allow-changed",
        path.display()
    )]
    StartChanged {
        path: PathBuf,
        found: String,
        expected: String,
    },
    /// The start is not where a recipe may say that it is.
    #[error(
        "the video begins with `{}`, which is not beside `{}` ({reason}); say where it is with --start FILE",
        name.display(), file.display()
    )]
    StartElsewhere {
        name: PathBuf,
        file: PathBuf,
        reason: &'static str,
    },
    /// The start gives another number of latent frames than the recipe says.
    #[error(
        "`{}` gives {found} latent frames to begin with, the recipe says {expected}; find the file that the video began \
         with",
        path.display()
    )]
    StartLength {
        path: PathBuf,
        found: usize,
        expected: usize,
    },
    /// Any of these, in a file.
    #[error("`{}`: {problem}", path.display())]
    InFile { path: PathBuf, problem: Box<Self> },
}

impl RecipeError {
    /// Names the file that holds the recipe.
    pub fn of_file(self, path: &Path) -> Self {
        Self::InFile {
            path: path.into(),
            problem: Box::new(self),
        }
    }
}
