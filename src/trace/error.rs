//! What can be wrong with a trace.

use std::{io, path::PathBuf};

use super::FORMAT;

/// A trace that cannot be written, read or drawn.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A layer beyond the last.
    #[error("there is no layer {layer}: the model has {layers}, numbered 0 to {}", layers.saturating_sub(1))]
    NoLayer { layer: usize, layers: usize },
    /// A head beyond the last.
    #[error("there is no attention head {head}: the model has {heads}, numbered 0 to {}", heads.saturating_sub(1))]
    NoHead { head: usize, heads: usize },
    /// The output exists and may not be replaced.
    #[error("`{}` exists already: choose another name, or replace it with --overwrite", path.display())]
    Exists { path: PathBuf },
    /// The output is a folder.
    #[error("`{}` is a folder: give the name of a file in it", path.display())]
    IsFolder { path: PathBuf },
    /// The folder of the output cannot be made.
    #[error("cannot write `{}`: {reason}", path.display())]
    Folder { path: PathBuf, reason: String },
    /// The output cannot be begun.
    #[error("cannot write `{}`: {source}", path.display())]
    Create { path: PathBuf, source: io::Error },
    /// The disk did not take all of a trace.
    #[error(
        "cannot write the trace `{}` beyond its first {chunks} chunks: {source}; the video is not affected",
        path.display()
    )]
    Write {
        path: PathBuf,
        chunks: u64,
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read the trace `{}`: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// The file holds something else.
    #[error("`{}` is no trace: {reason}; expected a file of `generate --trace`", path.display())]
    NotATrace { path: PathBuf, reason: String },
    /// Made by a later version.
    #[error(
        "the trace `{}` has format {format}, made by deepforcing {version}; this program reads up to format {FORMAT}: \
         update it",
        path.display()
    )]
    Newer {
        path: PathBuf,
        format: u64,
        version: String,
    },
    /// A header and nothing else.
    #[error("the trace `{}` holds no chunk: the run ended before its first one was denoised", path.display())]
    Nothing { path: PathBuf },
}

impl TraceError {
    /// Whether the fault lies in what was asked for.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoLayer { .. } | Self::NoHead { .. })
    }
}
