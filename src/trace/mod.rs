//! What the cache keeps of a video, chunk by chunk, in a file; and the page that draws it.
//!
//! # The file
//!
//! A trace is JSON lines: UTF-8, one object per line, written a chunk at a time, so that the file of a run that was
//! killed ends with a whole line. Until it is whole it stands beside its place ([`partial_of`]: `.NAME.partial.jsonl`),
//! where it can be read as it grows. `kind` tells what a line is; kinds and keys that a reader does not know are to be
//! ignored. The types of [`format`] are the reference; in the order of the file:
//!
//! | kind | one for | holds |
//! |---|---|---|
//! | `header` | the file, first | `format` ([`FORMAT`]), version of the program, [`Recipe`](crate::recipe::Recipe), name of the video, sizes, which attention is recorded |
//! | `event` | layer and chunk for which room was made | the plan, which tokens were selected, their scores, positions of all that stayed |
//! | `attention` | layer and chunk, if asked for | share of attention of every latent frame in the cache |
//! | `chunk` | chunk, after its other lines | what the cache holds while the chunk is denoised, by origin frame |
//! | `end` | the file, last | whether the video is complete; missing when the run was killed or is going on |
//!
//! Everything is recorded at the first denoising step of a chunk (of a chunk that is given, at its only pass), which is
//! when room is made. Frames are latent frames counted from the start of the video; tokens of a frame are numbered row by
//! row (`row · columns + column`). *Slots* are the places of the cache in order.
//!
//! Packed values:
//! * *runs* `[[value, tokens], …]`: `tokens` neighbouring slots that share a value;
//! * *bits*: base64 (standard alphabet, padded) of bits, the first one the highest of its byte, as `numpy.unpackbits`
//!   reads them;
//! * *gaps*: base64 of a byte for each token of a frame, its distance from the one before (the first one's from -1); a
//!   byte of 255 is a distance without a token: `cells = cumsum(b)[b != 255] - 1`;
//! * *levels*: base64 of one byte per selected token, 0 for the lowest kept score to 255 for the highest.
//!
//! # Size
//!
//! Of the 1.3B model at 480×832 (30 layers, 1560 tokens a frame) with the paper's cache, an event has 30 lines of about
//! 13 kB: 15 MB for a minute of video (measured with random scores, which spread the selection over the most frames).
//! Policies that select nothing need 1 to 2 MB. Attention of all 360 heads adds up to 0.6 kB for each head and chunk,
//! 18 MB a minute.

pub mod attended;
pub mod attention;
mod error;
pub mod format;
mod line_file;
mod pack;
mod page;
mod reader;
mod recorder;

use std::path::{Path, PathBuf};

use crate::video::check_folder_of;

pub use attention::{Every, HeadChoice, Numbers};
pub use error::TraceError;
pub use line_file::partial_of;
pub use page::{Page, Pictures};
pub use reader::{Damage, Trace};
pub use recorder::Tracing;

/// Number of the format that this program writes, the highest that it reads. It rises when a reader of the old one would
/// misunderstand the new one.
pub const FORMAT: u32 = 1;

/// What is to be recorded of a video.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceOptions {
    /// The file to write.
    pub path: PathBuf,
    /// The video's name in the trace, when it is made under another one.
    pub video: Option<PathBuf>,
    /// Layers and heads whose attention is recorded; none by default, as it takes time.
    pub attention: Vec<HeadChoice>,
    /// Chunks at which attention is recorded.
    pub every: Every,
}

/// Checks, before any work is done, that a file can be written.
///
/// # Errors
/// When it exists and may not be replaced, is a folder, or its folder cannot be made.
pub fn check_output(path: &Path, overwrite: bool) -> Result<(), TraceError> {
    if path.is_dir() || path.file_name().is_none() {
        return Err(TraceError::IsFolder { path: path.into() });
    }
    if path.exists() && !overwrite {
        return Err(TraceError::Exists { path: path.into() });
    }
    check_folder_of(path).map_err(|error| TraceError::Folder {
        path: path.into(),
        reason: error.to_string(),
    })
}
