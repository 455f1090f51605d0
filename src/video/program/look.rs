//! What a file holds, from what the program says of it when it opens it.
//!
//! ```text
//! Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'file:/dev/fd/0':
//!   Duration: 00:00:01.31, start: 0.000000, bitrate: 288 kb/s
//!   Stream #0:0[0x1](und): Video: h264 (High) (avc1 / 0x31637661), yuv420p(tv, bt709, progressive), 96x96, 281 kb/s, 16 fps, 16 tbr, 16384 tbn (default)
//! ```
//!
//! The file is the standard input of the program, which opens it under a name that tells nothing: a name may say that a
//! file is a pattern for others. What may be in it is the same as for the linked libraries (see `kinds`).

use std::{
    ffi::OsString,
    fs::File,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    super::{
        kinds::{FORMATS, LARGEST_PIECE, LAST_LOOK, NO_PLAYLIST, is_playlist},
        metadata::check_png,
        mp4_tables,
        probe::top_level_boxes,
        still::{check_rereadable, check_size},
    },
    child::{Input, Running},
    find::FfmpegProgram,
    options::words,
};
use crate::files;

/// Lines of what is said of a file that are kept: chapters and tags of others may be many.
const MOST_LINES: usize = 2000;
/// The name under which the program opens its standard input again as a file.
const ITSELF: &str = "file:/dev/fd/0";

/// What the program says of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Look {
    /// Names of the container, separated by commas.
    pub container: String,
    /// Playing time in seconds.
    pub duration: Option<f64>,
    /// When the first frame is shown, in seconds.
    pub start: Option<f64>,
    /// The pictures.
    pub video: Video,
    /// Number of streams of any kind.
    pub streams: usize,
    /// The program that wrote the file.
    pub encoder: Option<String>,
}

/// The stream with the moving picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Video {
    /// Its number among all streams.
    pub index: usize,
    pub codec: String,
    pub pixel_format: String,
    /// `tv` or `pc`.
    pub range: Option<String>,
    /// Matrix between RGB and YUV, primaries, transfer.
    pub colours: [Option<String>; 3],
    pub width: u32,
    pub height: u32,
    /// Width of a pixel over its height; none if the file does not tell.
    pub aspect: Option<(u32, u32)>,
    pub fps: Option<f64>,
    /// Degrees by which a player turns the picture clockwise: 0, 90, 180, 270.
    pub rotation: u32,
    cover: bool,
    default: bool,
}

/// Options of the program that say what it may open, and the file.
pub(super) fn input_options(before: &[OsString]) -> Vec<OsString> {
    let mut all = words(["-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info"]);
    all.extend(words(["-max_alloc", &LARGEST_PIECE.to_string()]));
    all.extend(words([
        "-protocol_whitelist",
        "file",
        "-format_whitelist",
        &FORMATS.join(","),
    ]));
    all.extend_from_slice(before);
    all.extend(words(["-i", ITSELF]));
    all
}

/// The file, if it is one that may be read.
///
/// # Errors
/// Why it may not.
pub(super) fn opened(path: &Path) -> Result<File, String> {
    match std::fs::metadata(path) {
        Err(error) => return Err(error.to_string()),
        Ok(found) if found.is_dir() => return Err("it is a folder, not a video file".to_owned()),
        Ok(found) if found.is_file() && found.len() == 0 => return Err("it is empty".to_owned()),
        Ok(_) => check_rereadable(path)?,
    }
    let text = |error: std::io::Error| error.to_string();
    let mut file = files::open(path).map_err(text)?;
    if is_playlist(&beginning(&file).map_err(text)?) {
        return Err(NO_PLAYLIST.to_owned());
    }
    mp4_tables::check(&mut file)?;
    check_png(&file)?;
    std::io::Seek::rewind(&mut file).map_err(text)?;
    Ok(file)
}

fn beginning(file: &File) -> std::io::Result<Vec<u8>> {
    use std::io::Read;

    let mut bytes = Vec::new();
    file.take(LAST_LOOK as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Looks at a file.
///
/// # Errors
/// Why it cannot be read as a video.
pub(super) fn look(program: &FfmpegProgram, path: &Path) -> Result<Look, String> {
    let lines = said_of(program, path)?;
    let stream = lines.iter().any(|line| line.trim_start().starts_with("Stream #0:"));
    if let Some(index) = lines.iter().position(|line| line.starts_with("Input #0, ") && stream) {
        return parsed(&lines[index..]);
    }
    let boxes = top_level_boxes(path).unwrap_or_default();
    let begins = boxes.first().is_some_and(|name| name == "ftyp");
    if begins && !boxes.iter().any(|name| name == "moov") {
        return Err(
            "it has no index (moov): its recording or download was interrupted, and it cannot be played".to_owned(),
        );
    }
    let errors: Vec<&str> = lines.iter().filter_map(|line| reason_in(line)).collect();
    if errors.iter().any(|error| error.contains("whitelist")) {
        return Err("it is not a video, but a kind of file that is not read here".to_owned());
    }
    let reason = errors.last().copied().unwrap_or("there is nothing in it");
    Err(format!("it is not a video that FFmpeg can open: {reason}"))
}

/// What is wrong in a line such as `/dev/fd/0: Invalid data found when processing input`.
fn reason_in(line: &str) -> Option<&str> {
    let line = line.trim();
    let text = line.split_once("/dev/fd/0").map_or(line, |(_, text)| text);
    let text = text.trim_start_matches(['.', ':', '\'', ' ']);
    (!text.is_empty() && !text.contains("output file must be specified")).then_some(text)
}

/// What the program says when it opens a file, without the levels.
fn said_of(program: &FfmpegProgram, path: &Path) -> Result<Vec<String>, String> {
    let file = opened(path)?;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&lines);
    let on_line = Box::new(move |line: &str| {
        let mut lines = heard.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < MOST_LINES {
            lines.push(without_level(line).to_owned());
        }
        true
    });
    let arguments = input_options(&[]);
    let started = Running::start(&program.path, &arguments, Input::File(file), Some(on_line));
    let running = started.map_err(|error| format!("`{}` cannot be started: {error}", program.path.display()))?;
    // Without an output it ends as if something were wrong.
    if let Err(reason) = running.end()
        && !reason.contains("exit code")
    {
        return Err(reason);
    }
    Ok(std::mem::take(
        &mut lines.lock().unwrap_or_else(PoisonError::into_inner),
    ))
}

/// A line without `[info] ` and what stands before it: the part of the program that says it.
pub(super) fn without_level(line: &str) -> &str {
    ["[info] ", "[warning] ", "[error] ", "[fatal] "]
        .iter()
        .find_map(|level| line.split_once(level))
        .map_or(line, |(_, text)| text)
}

fn parsed(lines: &[String]) -> Result<Look, String> {
    let mut look = Look::default();
    let mut videos: Vec<Video> = Vec::new();
    let (mut sound, mut of_video) = (false, false);
    for line in lines {
        if let Some(rest) = line.strip_prefix("Input #0, ") {
            look.container = rest.split(", from ").next().unwrap_or_default().to_owned();
        } else if line.starts_with("Output #") || line.starts_with("Stream mapping") || line.starts_with("Input #1") {
            break;
        }
        let text = line.trim();
        if let Some(rest) = text.strip_prefix("Duration: ") {
            let mut parts = rest.split(", ");
            look.duration = parts.next().and_then(seconds);
            let start = parts.find_map(|part| part.strip_prefix("start: "));
            look.start = start.and_then(|start| start.parse().ok());
        } else if let Some(rest) = text.strip_prefix("Stream #0:") {
            look.streams += 1;
            of_video = false;
            sound |= rest.contains(": Audio: ");
            if let Some((number, rest)) = rest.split_once(": Video: ") {
                let number: String = number.chars().take_while(char::is_ascii_digit).collect();
                videos.extend(video(number.parse().unwrap_or(0), rest));
                of_video = true;
            }
        } else if look.duration.is_none()
            && look.streams == 0
            && let Some(rest) = text.strip_prefix("encoder ").or_else(|| text.strip_prefix("ENCODER "))
        {
            look.encoder = rest.split_once(": ").map(|(_, name)| name.to_owned());
        } else if of_video
            && let Some(rest) = text.strip_prefix("displaymatrix: rotation of ")
            && let Some(video) = videos.last_mut()
        {
            let degrees = rest.split(' ').next().and_then(|degrees| degrees.parse::<f64>().ok());
            // Against the clock.
            video.rotation = (-degrees.unwrap_or(0.0)).rem_euclid(360.0).round() as u32 / 90 * 90 % 360;
        }
    }
    look.video = chosen(&look, videos, sound)?;
    Ok(look)
}

fn chosen(look: &Look, videos: Vec<Video>, sound: bool) -> Result<Video, String> {
    let covers = videos.iter().any(|video| video.cover);
    let largest = look.container == "ico";
    let rank = |video: &Video| {
        let area = u64::from(video.width) * u64::from(video.height);
        (video.default && !largest, area)
    };
    let moving = videos.into_iter().filter(|video| !video.cover);
    // The first of equals.
    let best = moving.reduce(|best, next| if rank(&next) > rank(&best) { next } else { best });
    match best {
        Some(video) => Ok(video),
        None if covers => Err("it holds sound and a cover picture, but no video".to_owned()),
        None if sound => Err("it holds sound, but no video stream".to_owned()),
        None => Err("it holds no video stream".to_owned()),
    }
}

/// `00:00:01.31`; none for `N/A`.
fn seconds(text: &str) -> Option<f64> {
    let mut all = 0.0;
    for part in text.split(':') {
        all = all * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(all)
}

/// A stream of pictures, from what is said behind `Video: `.
fn video(index: usize, text: &str) -> Option<Video> {
    let parts = parts(text);
    let mut parts = parts.iter().map(String::as_str);
    let codec = parts.next()?.split(' ').next()?.to_owned();
    let mut video = Video {
        index,
        codec,
        cover: text.contains("(attached pic)"),
        default: text.contains("(default)"),
        ..Video::default()
    };
    let mut parts = parts.peekable();
    if let Some(format) = parts.next_if(|part| size(part).is_none()) {
        let (name, inside) = format.split_once('(').unwrap_or((format, ""));
        video.pixel_format = name.to_owned();
        for part in inside.trim_end_matches(')').split(", ") {
            match part {
                "tv" | "pc" => video.range = Some(part.to_owned()),
                "progressive"
                | "top first"
                | "bottom first"
                | "top coded first (swapped)"
                | "bottom coded first (swapped)"
                | "" => {}
                part if part.ends_with(" bpc") || part.contains("interlaced") => {}
                part => {
                    let mut names = part.split('/');
                    let one = names.next().unwrap_or_default();
                    let of = |name: Option<&str>| Some(name.unwrap_or(one).to_owned()).filter(|name| name != "unknown");
                    video.colours = [
                        Some(one.to_owned()).filter(|name| name != "unknown"),
                        of(names.next()),
                        of(names.next()),
                    ];
                }
            }
        }
    }
    for part in parts {
        if video.width == 0
            && let Some((width, height)) = size(part)
        {
            (video.width, video.height) = (width, height);
            video.aspect = aspect(part);
        } else if let Some(rate) = part.strip_suffix(" fps") {
            video.fps = rate_of(rate);
        } else if part.starts_with("SAR ") && video.aspect.is_none() {
            video.aspect = aspect(part);
        }
    }
    Some(video)
}

/// Parts between commas that are not in brackets.
fn parts(text: &str) -> Vec<String> {
    let (mut all, mut depth) = (vec![String::new()], 0u32);
    for letter in text.chars() {
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match (letter, depth, all.last_mut()) {
            (',', 0, _) => all.push(String::new()),
            (_, _, Some(last)) => last.push(letter),
            _ => {}
        }
    }
    all.iter().map(|part| part.trim().to_owned()).collect()
}

/// `96x64`, with anything behind it.
fn size(part: &str) -> Option<(u32, u32)> {
    let (width, height) = part.split(' ').next()?.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

/// `[SAR 4:3 DAR 16:9]`.
fn aspect(part: &str) -> Option<(u32, u32)> {
    let (_, rest) = part.split_once("SAR ")?;
    let (wide, high) = rest.split([' ', ']']).next()?.split_once(':')?;
    let (wide, high) = (wide.parse().ok()?, high.parse().ok()?);
    (wide > 0 && high > 0).then_some((wide, high))
}

/// A rate is said with two digits; those of television are whole ones by 1.001.
fn rate_of(text: &str) -> Option<f64> {
    let rate: f64 = match text.strip_suffix('k') {
        Some(thousands) => thousands.parse::<f64>().ok()? * 1000.0,
        None => text.parse().ok()?,
    };
    let television = rate.ceil() / 1.001;
    let exact = match rate.fract() != 0.0 && (television - rate).abs() < 0.006 {
        true => television,
        false => rate,
    };
    (exact > 0.0).then_some(exact)
}

impl Look {
    /// Columns that make the pixels square. A file can claim pixels of any shape, so the size as shown has the limits of
    /// the size as stored.
    ///
    /// # Errors
    /// When the picture is too large.
    pub fn display_width(&self) -> Result<u32, String> {
        let (video, most) = (&self.video, f64::from(super::super::clip::MAX_SIDE));
        let Some((wide, high)) = video.aspect else {
            return Ok(video.width);
        };
        let width = (f64::from(video.width) * f64::from(wide) / f64::from(high)).round();
        let width = match (1.0..=most).contains(&width) {
            true => width as u32,
            false => video.width,
        };
        check_size(width, video.height)?;
        Ok(width)
    }

    /// Whether the file is an image, not a video.
    pub fn is_image(&self) -> bool {
        self.container.ends_with("_pipe")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_said_is_understood() {
        let look = parsed(&lines(
            "Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'file:/dev/fd/0':\n  Metadata:\n    title           : Stream #0:7: Video: x\n  \
             Duration: 00:01:01.31, start: 0.500000, bitrate: 288 kb/s\n  \
             Stream #0:0(und): Audio: aac (LC), 44100 Hz, stereo\n  \
             Stream #0:1[0x1](und): Video: h264 (High) (avc1 / 0x31637661), yuv420p(tv, bt470bg/bt709/unknown, progressive), \
             96x64 [SAR 4:3 DAR 2:1], 281 kb/s, 29.97 fps, 16 tbr, 16384 tbn (default)\n    Side data:\n      \
             displaymatrix: rotation of -90.00 degrees\n",
        ))
        .unwrap();
        assert_eq!((look.duration, look.start), (Some(61.31), Some(0.5)));
        let video = &look.video;
        assert_eq!(
            (video.index, &*video.codec, &*video.pixel_format),
            (1, "h264", "yuv420p")
        );
        assert_eq!((video.width, video.height, video.aspect), (96, 64, Some((4, 3))));
        assert_eq!((look.display_width(), video.rotation), (Ok(128), 90));
        assert_eq!(video.fps, Some(30.0 / 1.001));
        let [space, primaries, transfer] = &video.colours;
        assert_eq!(
            (space.as_deref(), primaries.as_deref()),
            (Some("bt470bg"), Some("bt709"))
        );
        assert_eq!((transfer, video.range.as_deref()), (&None, Some("tv")));
    }

    #[test]
    fn kinds_of_streams_are_told_apart() {
        let stream = |text: &str| lines(&format!("Input #0, x, from 'y':\n{text}\n"));
        for (text, says) in [
            ("  Stream #0:0: Audio: pcm_s16le, 8000 Hz", "sound, but no video"),
            (
                "  Stream #0:0: Video: png, rgb24(pc), 8x8, 90k tbr (attached pic)",
                "a cover picture",
            ),
            ("  Stream #0:0: Subtitle: ass", "no video stream"),
        ] {
            assert!(parsed(&stream(text)).unwrap_err().contains(says), "{text}");
        }
        let icon = parsed(&lines(
            "Input #0, ico, from 'y':\n  Stream #0:0: Video: png, rgba, 16x16\n  Stream #0:1: Video: bmp, bgra, 32x32",
        ));
        assert_eq!(icon.unwrap().video.index, 1);
        let bare = parsed(&stream("  Stream #0:0: Video: gif, bgra, 8x8, 16 fps, 16 tbr")).unwrap();
        assert_eq!((bare.video.colours, bare.video.range), ([None, None, None], None));
    }
}
