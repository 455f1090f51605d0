//! Pictures and the video file: from rendered frames to an H.264 mp4, and from a clip or image to starting frames.
//!
//! | file | what it holds |
//! |---|---|
//! | `output` | checks of the output path, the names used while a video is being written, the final rename |
//! | `encoder` | [`VideoEncoder`]: RGB frames in, mp4 out |
//! | `codec` | the choice of FFmpeg encoder and its options |
//! | `colour` | BT.709 conversion between RGB and YUV |
//! | `reader` | [`Clip`]: frames of an existing video or image, as a tensor |

mod output;
mod reader;
mod settings;

#[cfg(feature = "ffmpeg")]
mod codec;
#[cfg(feature = "ffmpeg")]
mod colour;
#[cfg(feature = "ffmpeg")]
mod encoder;

#[cfg(not(feature = "ffmpeg"))]
#[path = "encoder_absent.rs"]
mod encoder;

use std::path::PathBuf;

pub use encoder::VideoEncoder;
pub use output::check_output;
pub use reader::{Clip, read_frames, read_image};
pub use settings::{Codec, EncoderInfo, Metadata, Preset, RejectedEncoder, VideoSettings, VideoSummary};

/// What is wrong with the output file, the encoder, or a clip that is to be read.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// The crate was built without the `ffmpeg` feature.
    #[error(
        "this build has no video encoder or decoder: it was compiled without the feature `ffmpeg`; \
         rebuild without `--no-default-features` or with `--features ffmpeg`"
    )]
    NoFfmpeg,

    /// The output name ends in something else than `.mp4`.
    #[error("output '{path}' does not end in .mp4: supported extensions are: .mp4; rename the output")]
    Extension { path: PathBuf },
    /// The output path is a folder.
    #[error("output '{path}' is a folder: give the name of a file in it, for example '{example}'")]
    IsFolder { path: PathBuf, example: PathBuf },
    /// The output path is a device, pipe or socket.
    #[error("output '{path}' exists and is not a regular file: give another name")]
    NotAFile { path: PathBuf },
    /// The folder of the output does not exist.
    #[error("folder '{folder}' of output '{path}' does not exist: create it or choose another folder")]
    FolderMissing { folder: PathBuf, path: PathBuf },
    /// What should be the folder of the output is a file.
    #[error("'{folder}' in output '{path}' is not a folder: choose another folder")]
    FolderIsFile { folder: PathBuf, path: PathBuf },
    /// No file can be created beside the output.
    #[error("cannot create a file in folder '{folder}' ({source}): choose a folder in which you may write")]
    NotWritable { folder: PathBuf, source: std::io::Error },
    /// The output exists and may not be replaced.
    #[error("output '{path}' exists already: choose another name, or replace it with --overwrite")]
    Exists { path: PathBuf },
    /// Another process holds the partial file of the same output.
    #[error(
        "another run is writing '{path}' now (its frames are in '{partial}'): wait for it or choose another output name"
    )]
    Busy { path: PathBuf, partial: PathBuf },
    /// FFmpeg takes only UTF-8 names.
    #[error("path '{path}' is not valid UTF-8, which FFmpeg needs: rename it")]
    NotUtf8 { path: PathBuf },

    /// The picture size does not suit yuv420p H.264.
    #[error("video size {width}x{height} cannot be encoded: width and height must be even and between 2 and 16384")]
    Size { width: u32, height: u32 },
    /// A number in [`VideoSettings`] is out of range.
    #[error("video setting {name} is {value}: it must be {expected}")]
    Setting {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    /// A pushed frame has the wrong number of bytes.
    #[error("frame {frame} has {actual} bytes: {width}x{height} RGB needs {expected}")]
    FrameSize {
        frame: u64,
        width: u32,
        height: u32,
        expected: usize,
        actual: usize,
    },
    /// The installed FFmpeg has none of the encoders that this crate can use, or none of them opens.
    #[error(
        "the installed FFmpeg has no usable video encoder ({}): install an FFmpeg with libx264",
        settings::list_rejected(.rejected)
    )]
    NoEncoder { rejected: Vec<RejectedEncoder> },
    /// The encoder or the file writer failed.
    #[error("cannot write '{path}' after {frames} frames ({reason}): check the free space of its disk")]
    Write { path: PathBuf, frames: u64, reason: String },
    /// The video was finished without a single frame.
    #[error("'{path}' was not written: the video has no frames")]
    NoFrames { path: PathBuf },
    /// All frames are encoded, but the final file could not be made of them.
    #[error("cannot finish '{path}' ({reason}): its frames are kept in '{partial}', which players can open")]
    Finish {
        path: PathBuf,
        partial: PathBuf,
        reason: String,
    },

    /// A clip or image could not be opened or decoded.
    #[error("cannot read '{path}': {reason}")]
    Unreadable { path: PathBuf, reason: String },
    /// The size to which a clip is to be fitted is empty.
    #[error("cannot fit a picture to {width}x{height}: both sides must be at least 1")]
    FitSize { width: u32, height: u32 },
    /// A clip has no frames, or frames of a wrong size.
    #[error("the clip cannot be used: {reason}")]
    Clip { reason: String },
}
