//! Opening a file with FFmpeg so that nothing but this file is read, and reading ends.
//!
//! FFmpeg knows playlists, descriptions of streams, name patterns and texts that are drawn: files of a few bytes that make
//! it open other files, ask the network or wait for ever. Here the kind of a file is told by its content alone, must be
//! one of [`FORMATS`](super::kinds::FORMATS), and the only protocol is that for local files.

#![allow(unsafe_code)]

use std::{
    ffi::CString,
    fs::File,
    io::Read,
    path::Path,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use ffmpeg_next::{
    self as ffmpeg, Dictionary, ffi,
    format::{self, context::Input},
};

use super::{
    codec::quiet,
    encoded::url,
    ffmpeg_text::{container_name, error_text},
    kinds::{FORMATS, LARGEST_PIECE, LAST_LOOK, NO_PLAYLIST, is_playlist},
    metadata::check_png,
    mp4_tables,
    probe::top_level_boxes,
    still::check_rereadable,
};
use crate::files;

/// How sure a look must be before more is read; FFmpeg's `AVPROBE_SCORE_RETRY`.
const SURE: i32 = 25;
/// Kinds whose files name other files or addresses.
const PLAYLISTS: &[&str] = &[
    "hls",
    "applehttp",
    "dash",
    "concat",
    "sdp",
    "rtsp",
    "rtp",
    "imf",
    "webm_dash_manifest",
    "mpjpeg",
    "image2",
    "vapoursynth",
];
/// Bytes from which a kind is told at first, as in FFmpeg.
const FIRST_LOOK: usize = 2 << 10;

/// Whether reading is to stop.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Ends all reading of videos in this process, now and later.
pub(super) fn stop_reading() {
    STOPPED.store(true, Ordering::Relaxed);
}

/// Asked by FFmpeg again and again while it reads.
extern "C" fn stopped(_: *mut std::ffi::c_void) -> std::ffi::c_int {
    STOPPED.load(Ordering::Relaxed).into()
}

/// Opens a file as FFmpeg sees it, or says why it cannot be opened.
pub(super) fn open_input(path: &Path) -> Result<Input, String> {
    open(path, true)
}

/// The same for a file of our own, which is read to its end even when the user wants to stop.
pub(super) fn open_own(path: &Path) -> Result<Input, String> {
    open(path, false)
}

fn open(path: &Path, stops: bool) -> Result<Input, String> {
    quiet();
    // SAFETY: it sets a number.
    unsafe { ffi::av_max_alloc(LARGEST_PIECE) };
    match std::fs::metadata(path) {
        Err(error) => return Err(error.to_string()),
        Ok(found) if found.is_dir() => return Err("it is a folder, not a video file".to_owned()),
        Ok(found) if found.is_file() && found.len() == 0 => return Err("it is empty".to_owned()),
        Ok(_) => check_rereadable(path)?,
    }
    let mut file = files::open(path).map_err(|error| error.to_string())?;
    let kind = Kind::of(&mut file).map_err(|error| error.to_string())?;
    kind.check()?;
    mp4_tables::check(&mut file)?;
    check_png(&file)?;
    let reason = match open_as(path, kind.format, stops) {
        Ok(input) if input.nb_streams() > 0 => return Ok(input),
        Ok(_) => "there is nothing in it".to_owned(),
        Err(error) => error_text(error),
    };
    let boxes = top_level_boxes(path).unwrap_or_default();
    let begins = boxes.first().is_some_and(|name| name == "ftyp");
    Err(match begins && !boxes.iter().any(|name| name == "moov") {
        true => "it has no index (moov): its recording or download was interrupted, and it cannot be played".to_owned(),
        false => format!("it is not a video that FFmpeg can open: {reason}"),
    })
}

/// What a file is.
struct Kind {
    /// Null when nobody knows.
    format: *const ffi::AVInputFormat,
    /// FFmpeg's names of it.
    names: String,
    playlist: bool,
}

impl Kind {
    /// By content alone: a name may say that a file is a pattern for others.
    fn of(file: &mut File) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        let mut look = FIRST_LOOK;
        loop {
            let ended = file
                .by_ref()
                .take((look - bytes.len()) as u64)
                .read_to_end(&mut bytes)?
                == 0
                || bytes.len() < look;
            let last = ended || look >= LAST_LOOK;
            let format = probed(&bytes, if last { 0 } else { SURE });
            if last || !format.is_null() {
                // SAFETY: it comes from FFmpeg's table.
                let names = unsafe { container_name(format) };
                return Ok(Self {
                    playlist: is_playlist(&bytes) || names.split(',').any(|name| PLAYLISTS.contains(&name)),
                    format,
                    names,
                });
            }
            look *= 2;
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.playlist {
            return Err(NO_PLAYLIST.to_owned());
        }
        let known = self.names.split(',').any(|name| FORMATS.contains(&name));
        match self.format.is_null() || known {
            true => Ok(()),
            false => Err(format!(
                "it is not a video: FFmpeg takes it for `{}`, a kind of file that is not read here",
                self.names
            )),
        }
    }
}

/// The kind that a beginning looks like most, if that is more than `least` of 100.
fn probed(bytes: &[u8], least: i32) -> *const ffi::AVInputFormat {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len() + ffi::AVPROBE_PADDING_SIZE as usize, 0);
    let data = ffi::AVProbeData {
        filename: c"".as_ptr(),
        buf: padded.as_mut_ptr(),
        buf_size: bytes.len() as i32,
        mime_type: ptr::null(),
    };
    let mut score = 0;
    // SAFETY: name and bytes live until the call returns, with as many zeros behind them as FFmpeg wants.
    let format = unsafe { ffi::av_probe_input_format3(&data, 1, &mut score) };
    if score > least { format } else { ptr::null() }
}

/// Opens a file as of a kind; without one FFmpeg says what is wrong with it.
fn open_as(path: &Path, format: *const ffi::AVInputFormat, stops: bool) -> Result<Input, ffmpeg::Error> {
    if format.is_null() {
        return Err(ffmpeg::Error::InvalidData);
    }
    let name = CString::new(url(path)?).map_err(|_| ffmpeg::Error::InvalidData)?;
    let allowed = FORMATS.join(",");
    let options: Dictionary = [
        ("format_whitelist", allowed.as_str()),
        ("protocol_whitelist", "file"),
        ("pattern_type", "none"),
    ]
    .iter()
    .collect();
    // SAFETY: the context is new and handed over to FFmpeg, which frees it when it cannot be opened; what is left of the
    // options is freed; the format comes from FFmpeg's table, which older versions take as mutable and do not change.
    unsafe {
        let mut context = ffi::avformat_alloc_context();
        if context.is_null() {
            return Err(ffmpeg::Error::Other {
                errno: ffmpeg::error::ENOMEM,
            });
        }
        if stops {
            (*context).interrupt_callback = ffi::AVIOInterruptCB {
                callback: Some(stopped),
                opaque: ptr::null_mut(),
            };
        }
        let mut options = options.disown();
        let opened = ffi::avformat_open_input(&mut context, name.as_ptr(), format.cast_mut(), &mut options);
        ffi::av_dict_free(&mut options);
        if opened < 0 {
            return Err(opened.into());
        }
        let told = ffi::avformat_find_stream_info(context, ptr::null_mut());
        if told < 0 {
            ffi::avformat_close_input(&mut context);
            return Err(told.into());
        }
        Ok(format::context::Input::wrap(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        open_input(&path).err().unwrap()
    }

    #[test]
    fn what_names_other_files_is_refused() {
        let live = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:///etc/passwd\n";
        let concat = "ffconcat version 1.0\nfile other.mp4\n";
        let sdp =
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n";
        let dash = "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"dynamic\"></MPD>";
        for (name, text) in [
            ("live.m3u8", live),
            ("x.mp4", live),
            ("x.mp4", concat),
            ("x.ffconcat", concat),
            ("x.sdp", sdp),
            ("x.mpd", dash),
            ("x", "\u{feff}\n [playlist]\nFile1=a.mp4\n"),
        ] {
            let said = said(name, text.as_bytes());
            assert!(said.contains("a playlist, not a video"), "{name}: {said}");
        }
    }

    #[test]
    fn texts_and_drawings_are_no_videos() {
        let ansi = "\u{1b}[31mred\u{1b}[0m\r\n".repeat(99);
        let svg =
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"><rect width=\"9\" height=\"9\"/></svg>";
        for (name, text) in [
            ("a.ans", ansi.as_str()),
            ("a.svg", svg),
            ("a.txt", "text"),
            ("a%d.svg", svg),
        ] {
            let said = said(name, text.as_bytes());
            assert!(said.contains("not a video"), "{name}: {said}");
        }
    }
}
