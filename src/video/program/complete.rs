//! The copy of a finished video that players can search, with its texts.

use std::{
    ffi::OsString,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{
    super::{Form, VideoSettings, probe::top_level_boxes},
    child::{Input, Running},
    find::FfmpegProgram,
    options::{tool, words},
    pieces_mp4, pieces_webm,
};
use crate::files;

/// Bytes of the partial file that are read at once, and of its head at most: texts are in it.
const PART: usize = 1 << 20;
const LONGEST_HEAD: u64 = 80 << 20;

/// Copies the video in `from` into a new file `to`: an mp4 with its index in front, or a webm with a duration and an
/// index. Returns the number of frames.
///
/// # Errors
/// Why it cannot be copied.
pub(in super::super) fn complete(
    program: &FfmpegProgram,
    from: &Path,
    to: &Path,
    form: Form,
    settings: &VideoSettings,
) -> Result<u64, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut source = files::open(from).map_err(text)?;
    let mut start = Vec::new();
    source
        .by_ref()
        .take(LONGEST_HEAD)
        .read_to_end(&mut start)
        .map_err(text)?;
    let (head, passed) = match form {
        Form::Webm => pieces_webm::head_with_texts(&start, &settings.metadata)?,
        _ => pieces_mp4::head_with_texts(&start, &settings.metadata)?,
    };
    drop(start);
    source.seek(SeekFrom::Start(passed)).map_err(text)?;
    let made = files::create(to).map_err(text)?;
    let arguments = arguments(program, form, settings, &place_of(&made, to));
    let started = Running::start(&program.path, &arguments, Input::Pipe, None);
    let mut running = started.map_err(|error| format!("`{}` cannot be started: {error}", program.path.display()))?;
    let progress = running.output();
    let progress = std::thread::spawn(move || progress.map_or_else(|| Ok(Vec::new()), |output| output.all(1 << 24)));
    let fed = feed(&mut running, &head, &mut source);
    let said = running.end()?;
    fed?;
    let errors = said.errors();
    if !errors.is_empty() {
        return Err(errors);
    }
    if form == Form::Mp4 {
        check_index(to)?;
    }
    let progress = progress.join().map_err(|_| "its output cannot be read".to_owned())?;
    frames_in(&String::from_utf8_lossy(&progress.map_err(text)?))
        .ok_or_else(|| "ffmpeg does not say how much it copied".to_owned())
}

fn arguments(program: &FfmpegProgram, form: Form, settings: &VideoSettings, to: &Path) -> Vec<OsString> {
    let mut all = words(["-hide_banner", "-nostdin", "-y", "-xerror", "-loglevel", "level+error"]);
    all.extend(words(["-progress", "pipe:1", "-protocol_whitelist", "file,pipe"]));
    all.extend(words([
        "-f",
        if form == Form::Webm { "matroska" } else { "mov" },
        "-i",
        "pipe:0",
    ]));
    all.extend(words([
        "-map",
        "0:v:0",
        "-c",
        "copy",
        "-map_metadata",
        "0",
        "-metadata",
        &tool(),
    ]));
    // FFmpeg would keep what the partial file says of itself.
    all.extend(words(["-metadata", "encoder=", "-r", &settings.fps.to_string()]));
    match form {
        Form::Webm => {
            if program.number.is_none_or(|number| number >= (5, 1)) {
                all.extend(words(["-cues_to_front", "1"]));
            }
            all.extend(words(["-f", "webm"]));
        }
        _ => all.extend(words(["-movflags", "faststart", "-f", "mp4"])),
    }
    let mut url = OsString::from("file:");
    url.push(to);
    all.push(url);
    all
}

fn feed(running: &mut Running, head: &[u8], source: &mut File) -> Result<(), String> {
    let write = |running: &mut Running, bytes: &[u8]| {
        let written = running.write(bytes);
        written.map_err(|error| format!("ffmpeg does not take the video: {error}"))
    };
    write(running, head)?;
    let mut buffer = vec![0; PART];
    loop {
        match source.read(&mut buffer).map_err(|error| error.to_string())? {
            0 => break,
            read => write(running, &buffer[..read])?,
        }
    }
    running.end_input();
    Ok(())
}

/// The number of frames in the last report.
fn frames_in(progress: &str) -> Option<u64> {
    let mut counts = progress.lines().rev().filter_map(|line| line.strip_prefix("frame="));
    counts.next()?.trim().parse().ok()
}

/// A full disk while the index moves to the front is not always said.
fn check_index(path: &Path) -> Result<(), String> {
    let boxes = top_level_boxes(path).map_err(|error| error.to_string())?;
    let at = |wanted: &str| boxes.iter().position(|kind| kind == wanted);
    match (at("moov"), at("mdat")) {
        (Some(index), Some(frames)) if index < frames => Ok(()),
        _ => Err("the copy is not complete: is the disk full?".to_owned()),
    }
}

/// The name by which the program opens a file that was just made: that of the open file where the system has one, so that
/// a link which others put in its place meanwhile is not followed.
fn place_of(made: &File, path: &Path) -> PathBuf {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;

        let open = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), made.as_raw_fd()));
        if open.exists() {
            return open;
        }
    }
    let _ = made;
    path.to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_last_report_counts() {
        let said = "frame=3\nfps=0.0\nprogress=continue\nframe=  21\nprogress=end\n";
        assert_eq!(super::frames_in(said), Some(21));
        assert_eq!(super::frames_in("progress=end\n"), None);
    }
}
