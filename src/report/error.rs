//! Why a report cannot be written.

use std::path::PathBuf;

/// Why a report cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder does not exist.
    #[error("there is no folder `{}`; give the output folder of `deepforcing sweep` or `deepforcing batch`", path.display())]
    NoFolder { path: PathBuf },
    /// Something else has its name.
    #[error("`{}` is not a folder; give the output folder of `deepforcing sweep` or `deepforcing batch`", path.display())]
    NotAFolder { path: PathBuf },
    /// A folder of other things.
    #[error(
        "`{}` holds no manifest.jsonl, so it is not the output folder of a sweep or batch; give one that is, or measure \
         single videos with `deepforcing metrics FILE`",
        path.display()
    )]
    NoManifest { path: PathBuf },
    /// Nothing is finished.
    #[error("no video of `{}` is finished yet; wait for the first one and run this again", path.display())]
    Empty { path: PathBuf },
    /// Lines, but none that can be used.
    #[error(
        "no line of the manifest of `{}` can be used; the first is {line} of `{file}`: {reason}. Run the sweep or batch \
         again to have it written anew",
        path.display()
    )]
    NoLine {
        path: PathBuf,
        file: String,
        line: usize,
        reason: String,
    },
    /// The grid cannot be read.
    #[error(
        "cannot read `{}`: {reason}; correct it, or rename it to get a report without the grid",
        path.display()
    )]
    Plan { path: PathBuf, reason: String },
    /// A file that is there cannot be read.
    #[error("cannot read `{}`: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// A file of the report cannot be written.
    #[error("cannot write `{}`: {reason}; check the rights and the free space of its folder", path.display())]
    Write { path: PathBuf, reason: String },
    /// A bug in how a plot is drawn.
    #[error("cannot draw the plot `{name}`: {reason}; please report this as a bug")]
    Drawing { name: String, reason: String },
}
