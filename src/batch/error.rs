//! What can go wrong with a batch as a whole.

use std::path::PathBuf;

/// Why a batch cannot run or go on.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Variables of a cluster that say no part of a list.
    #[error("cannot tell which part of the list to render: {reason}; give it with --shard I/N (0/1 is all of it)")]
    ShardVariables { reason: String },
    /// The last seed would be too large.
    #[error("{item}: seed {seed} and {samples} samples need seeds beyond 18446744073709551615; choose a lower seed")]
    Seed { item: String, seed: u64, samples: u32 },
    /// Two videos would get one file.
    #[error("{first} and {second} would both be written to `{name}`; {advice}")]
    Collision {
        first: String,
        second: String,
        name: String,
        advice: &'static str,
    },
    /// A form that is no single file.
    #[error("a folder of videos has one file per video; formats that can be are mp4, webm, gif, y4m, rgb")]
    Form,
    /// The folder is a file, or may not be written.
    #[error("cannot write in folder `{}`: {reason}; choose a folder in which you may write", path.display())]
    Folder { path: PathBuf, reason: String },
    /// Another process works there.
    #[error(
        "another process works in folder `{}`{holder}; wait for it, give another folder, or share the work with \
         --shard I/N (a different I for each process)",
        path.display()
    )]
    Busy { path: PathBuf, holder: String },
    /// A manifest cannot be read.
    #[error("cannot read `{}`: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// A line that this program did not write.
    #[error(
        "`{}`, line {line}: not an entry of a manifest ({reason}); correct the line, or remove it and its video is made \
         again",
        path.display()
    )]
    Line { path: PathBuf, line: usize, reason: String },
    /// A line of the list of failures that this program did not write.
    #[error("`{}`, line {line}: not a video that failed ({reason}); correct or remove the line", path.display())]
    FailedLine { path: PathBuf, line: usize, reason: String },
    /// A file of the batch itself cannot be written.
    #[error("cannot write `{}`: {reason}; check the free space of its disk, then run the same command again", path.display())]
    Write { path: PathBuf, reason: String },
    /// Finished videos of other settings.
    #[error(
        "{count} finished video{} of `{}` would be made differently now, the first is `{name}`: {changes}; \
         render again with --overwrite, keep what is there with --skip-existing, or give another folder",
        if *count == 1 { "" } else { "s" },
        folder.display()
    )]
    Changed {
        count: usize,
        folder: PathBuf,
        name: String,
        changes: String,
    },
    /// Files that the batch did not write.
    #[error(
        "{count} file{} of `{}` {} there already and in no manifest, the first is `{name}`; replace with --overwrite, keep \
         with --skip-existing, or give another folder",
        if *count == 1 { "" } else { "s" },
        folder.display(),
        if *count == 1 { "is" } else { "are" }
    )]
    Foreign {
        count: usize,
        folder: PathBuf,
        name: String,
    },
}

impl BatchError {
    /// Whether the fault lies in what was asked for.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::ShardVariables { .. } | Self::Seed { .. } | Self::Collision { .. } | Self::Form
        )
    }
}
