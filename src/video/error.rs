//! What can go wrong with outputs, encoders and clips.

use std::path::PathBuf;

use super::{Form, Kept, RejectedEncoder, settings};

/// How to get the program.
const INSTALL: &str = "Install it (apt install ffmpeg; brew install ffmpeg; pip install imageio-ffmpeg in the Python \
                       environment of this program), or name the program with --ffmpeg PATH or DEEPFORCING_FFMPEG";

/// What is wrong with the output file, the encoder, or a clip that is to be read.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// FFmpeg is neither linked nor found as a program.
    #[error(
        "there is no FFmpeg, which encodes mp4 and webm and reads videos: this build has none in it, and {}. {INSTALL}; \
         png, gif, y4m and rgb are written without it",
        say_unusable(unusable)
    )]
    NoFfmpeg {
        /// Why programs that were found cannot be used.
        unusable: Vec<String>,
    },
    /// The program `ffmpeg` that was named, or found, is none that can be used.
    #[error("`{path}`, {origin}, cannot be used as the program ffmpeg: {reason}")]
    Program {
        path: PathBuf,
        /// Where the name comes from.
        origin: String,
        reason: String,
    },

    /// The output name has an extension that stands for no known form.
    #[error(
        "output '{path}' has no extension that tells the form of the video: known are .mp4, .webm, .gif, .y4m, .rgb, \
         numbered pictures (frame_%05d.png, or a folder name that ends in /), and - for standard output"
    )]
    Extension { path: PathBuf },
    /// A `--format` that does not exist.
    #[error("unknown format '{name}': known are mp4, webm, gif, png, y4m, rgb")]
    UnknownForm { name: String },
    /// The extension says one form, `--format` another.
    #[error("output '{path}' has the extension of {extension}, but the format asked for is {format}: change either")]
    FormConflict {
        path: PathBuf,
        extension: Form,
        format: Form,
    },
    /// A name for numbered pictures that does not work.
    #[error("output '{path}' {reason}: numbered pictures need a name like '{example}' or a folder name that ends in /")]
    Pattern {
        path: PathBuf,
        reason: &'static str,
        example: String,
    },
    /// A form that cannot be streamed.
    #[error("{form} cannot be written to standard output: formats that can are mp4, webm, y4m, rgb")]
    StdoutForm { form: Form },
    /// Standard output is a terminal.
    #[error(
        "standard output is a terminal, which cannot show a video: pipe it into a program \
         (deepforcing ... -o - | ffplay -), redirect it (> video.mp4), or name a file"
    )]
    Terminal,
    /// The program that read standard output has closed it; the usual end of `... -o - | player`, no failure.
    #[error("nobody reads standard output any more: the video ends after {frames} frames")]
    ReaderGone { frames: u64 },
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
    #[error("cannot create a file in folder '{folder}' ({source}): {}", folder_advice(source))]
    NotWritable { folder: PathBuf, source: std::io::Error },
    /// The output has a name that no usual file system takes.
    #[error("the file name of output '{path}' has {bytes} bytes, more than file systems take (255): shorten it")]
    NameTooLong { path: PathBuf, bytes: usize },
    /// The output exists and may not be replaced.
    #[error("output '{path}' exists already: choose another name, or replace it with --overwrite")]
    Exists { path: PathBuf },
    /// Another process holds the partial file of the same output.
    #[error(
        "another run is writing '{path}' now (its frames are in '{partial}'): wait for it or choose another output name"
    )]
    Busy { path: PathBuf, partial: PathBuf },
    /// FFmpeg takes only UTF-8 names.
    #[error("path '{path}' is not valid UTF-8 (or holds a NUL), which FFmpeg cannot take: rename it")]
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
    /// The encoder that was asked for is not there or does not open.
    #[error(
        "the encoder that was asked for cannot be used ({}): name another one, or leave the choice to the program with \
         --encoder auto; `deepforcing doctor` lists what is there",
        settings::list_rejected(.rejected)
    )]
    NamedEncoder { rejected: Vec<RejectedEncoder> },
    /// The encoder or the file writer failed; what was safe on the disk before stays there.
    #[error(
        "cannot write '{path}' after {frames} frames ({reason}): {advice}; {}",
        say_kept(.kept.as_ref())
    )]
    Write {
        path: PathBuf,
        frames: u64,
        reason: String,
        /// What to do about it.
        advice: &'static str,
        kept: Option<Kept>,
    },
    /// The video was finished without a single frame.
    #[error("'{path}' was not written: the video has no frames")]
    NoFrames { path: PathBuf },
    /// All frames are encoded, but the final file could not be made of them.
    #[error("cannot finish '{path}' ({reason}): {}", say_partial(partial, *kept))]
    Finish {
        path: PathBuf,
        partial: PathBuf,
        reason: String,
        /// Whether `partial` is there.
        kept: bool,
    },

    /// A picture that is to be saved under a name of no known kind.
    #[error("picture '{path}' ends in neither .png nor .jpg: rename it")]
    PictureExtension { path: PathBuf },
    /// A picture could not be written.
    #[error("cannot write picture '{path}': {reason}")]
    Picture { path: PathBuf, reason: String },
    /// A file that can be read, but says nothing about how it was made.
    #[error(
        "'{path}' holds no title and no comment: it was not made by deepforcing, or its metadata was removed or left out (--no-recipe)"
    )]
    NoMetadata { path: PathBuf },

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

impl VideoError {
    /// Whether the fault lies in what was asked for, not in files or devices.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Extension { .. }
                | Self::UnknownForm { .. }
                | Self::FormConflict { .. }
                | Self::Pattern { .. }
                | Self::StdoutForm { .. }
                | Self::Terminal
                | Self::PictureExtension { .. }
                | Self::NameTooLong { .. }
                | Self::Setting { .. }
                | Self::Program { .. }
        )
    }
}

fn say_unusable(unusable: &[String]) -> String {
    match unusable {
        [] => "no program `ffmpeg` is beside it, in its Python environment or in the PATH".to_owned(),
        reasons => format!("the programs that were found are of no use ({})", reasons.join("; ")),
    }
}

/// What to do about a failure to write.
pub(super) fn advice(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;

    // EMFILE and ENFILE, which have no kind of their own.
    if matches!(error.raw_os_error(), Some(23 | 24)) && cfg!(unix) {
        return "let the program open more files at once (ulimit -n)";
    }
    match error.kind() {
        ErrorKind::FileTooLarge => {
            "the file is as long as it may be: raise the limit (ulimit -f), or write to another disk"
        }
        ErrorKind::NotFound => "its folder was removed or renamed meanwhile",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "it may not be written to any more",
        _ => "check the free space of its disk",
    }
}

/// What to do when no file can be created in a folder.
fn folder_advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::InvalidFilename => "shorten the path",
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "free some space, or choose a folder on another disk"
        }
        _ => "choose a folder in which you may write",
    }
}

fn say_partial(partial: &std::path::Path, kept: bool) -> String {
    if kept {
        format!("its frames are kept in '{}', complete and readable", partial.display())
    } else {
        "its frames are gone, as the folder was removed or renamed while they were written".to_owned()
    }
}

fn say_kept(kept: Option<&Kept>) -> String {
    kept.map_or_else(|| "nothing of it is kept".to_owned(), Kept::to_string)
}
