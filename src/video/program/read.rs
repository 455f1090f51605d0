//! Clips and images, and what a file holds, through the program.

use std::{path::Path, sync::Arc};

use image::{DynamicImage, RgbImage};

use super::{
    super::{
        Clip, Colour, Metadata, Picture, Probe, VideoError,
        probe::{index_first, is_fragmented},
        reader::{IMAGES, NO_IMAGE, Resampler, clip_of_pictures, damaged, fitted, no_image, unreadable},
        still::opaque,
        still_kind,
    },
    child::{Input, Running},
    find::FfmpegProgram,
    frames::{Pictures, Source},
    look::{Look, input_options, look, opened},
    options::words,
    pieces_webm,
};

/// Most bytes of the texts of a file.
const LONGEST_TEXTS: u64 = 64 << 20;

fn source<'a>(program: &Arc<FfmpegProgram>, path: &'a Path) -> Result<Source<'a>, VideoError> {
    Source::open(Arc::clone(program), path).map_err(|reason| unreadable(path, reason))
}

fn pictures(source: &Source<'_>, path: &Path) -> Result<Pictures, VideoError> {
    source.pictures().map_err(|reason| unreadable(path, reason))
}

/// As `reader::read_frames`.
pub(in super::super) fn read_frames(
    program: &Arc<FfmpegProgram>,
    path: &Path,
    max_frames: usize,
) -> Result<Clip, VideoError> {
    let source = source(program, path)?;
    let mut from = pictures(&source, path)?;
    let mut all = Vec::new();
    while all.len() < max_frames {
        match from.next_rgb().map_err(|reason| damaged(path, all.len(), reason))? {
            Some(picture) => all.push(picture),
            None => break,
        }
    }
    clip_of_pictures(path, source.rate(), all)
}

/// As `reader::for_chosen_frames`.
pub(in super::super) fn for_chosen_frames<E: From<VideoError>>(
    program: &Arc<FfmpegProgram>,
    path: &Path,
    mut wanted: impl FnMut(u64, Option<f64>) -> bool,
    mut each: impl FnMut(Picture<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let source = source(program, path)?;
    let mut from = pictures(&source, path)?;
    let mut frames = 0;
    while let Some(picture) = from.next_rgb().map_err(|reason| damaged(path, frames, reason))? {
        if wanted(frames as u64, source.rate()) {
            each(Picture {
                width: picture.width(),
                height: picture.height(),
                fps: source.rate(),
                rgb: picture.as_raw(),
            })?;
        }
        frames += 1;
    }
    match frames {
        0 => Err(unreadable(path, "it holds no frames".to_owned()).into()),
        _ => Ok(()),
    }
}

/// As `reader::read_last_frames`: the first pass finds out which frames are shown at the last ticks, the second takes
/// those.
pub(in super::super) fn read_last_frames(
    program: &Arc<FfmpegProgram>,
    path: &Path,
    (count, fps): (usize, f64),
    size: Option<(u32, u32)>,
) -> Result<Clip, VideoError> {
    let source = source(program, path)?;
    if let Some(last) = source.at_last(count as f64 / fps) {
        let first = source
            .times(true)
            .ok()
            .and_then(|times| times.first().copied().flatten());
        let start = first.or(source.look.start);
        if let Ok(frames) = last_frames(path, &last, start, (count, fps))
            && frames.len() == count
            && let Ok(clip) = clip_of(path, &last, fps, &frames, size)
        {
            return Ok(clip);
        }
    }
    // Short, or its index is of no use.
    let frames = last_frames(path, &source, None, (count, fps))?;
    clip_of(path, &source, fps, &frames, size)
}

/// Numbers of the frames that are shown at the last ticks, counted from where the source begins.
fn last_frames(
    path: &Path,
    source: &Source<'_>,
    start: Option<f64>,
    (count, fps): (usize, f64),
) -> Result<Vec<usize>, VideoError> {
    let times = source
        .times(false)
        .map_err(|(frames, reason)| damaged(path, frames, reason))?;
    let mut resampler = Resampler::new(fps, count, start);
    let period = source.rate().map(|rate| 1.0 / rate);
    let mut end = None;
    for (frame, time) in times.into_iter().enumerate() {
        // Without times, frames follow each other at the rate of the file.
        let time = time.or(end).unwrap_or(0.0);
        resampler.push(time, frame);
        end = Some(time + period.unwrap_or(1.0 / fps));
    }
    let shown = resampler.finish(end.unwrap_or(0.0));
    Ok(shown.iter().map(|frame| **frame).collect())
}

/// The pictures of `frames`, whose numbers do not fall.
fn clip_of(
    path: &Path,
    source: &Source<'_>,
    fps: f64,
    frames: &[usize],
    size: Option<(u32, u32)>,
) -> Result<Clip, VideoError> {
    let mut from = pictures(source, path)?;
    let mut all: Vec<RgbImage> = Vec::with_capacity(frames.len());
    let mut number = 0;
    while let Some(&wanted) = frames.get(all.len()) {
        let Some(picture) = from.next_rgb().map_err(|reason| damaged(path, number, reason))? else {
            let reason = "it ends earlier when it is read again".to_owned();
            return Err(damaged(path, number, reason));
        };
        if number == wanted {
            let times = frames[all.len()..].iter().take_while(|other| **other == wanted).count();
            all.extend(std::iter::repeat_n(fitted(picture, size)?, times));
        }
        number += 1;
    }
    clip_of_pictures(path, Some(fps), all)
}

/// An image of a kind that only FFmpeg knows; `start` is the beginning of the file.
pub(in super::super) fn read_other_image(
    program: &Arc<FfmpegProgram>,
    path: &Path,
    start: &[u8],
) -> Result<Clip, VideoError> {
    let told = still_kind::name(start).is_some();
    let kinds = |reason: String| {
        let reason = if told { reason } else { format!("{IMAGES} ({reason})") };
        no_image(path, start, &reason)
    };
    let mut source = Source::open(Arc::clone(program), path)
        .map_err(|reason| no_image(path, start, if told { &reason } else { IMAGES }))?;
    // A large HEIC picture comes in tiles.
    if source.look.streams > 1 && told {
        return Err(no_image(path, start, "it has several parts"));
    }
    let orientation = still_kind::orientation(path, start);
    (source.turns, source.opaque) = (orientation.is_none(), true);
    let mut from = source.pictures().map_err(kinds)?;
    let Some(picture) = from.next().map_err(kinds)? else {
        return clip_of_pictures(path, None, Vec::new());
    };
    if !source.look.is_image() && !matches!(from.next(), Ok(None)) {
        return Err(unreadable(path, NO_IMAGE.to_owned()));
    }
    let mut picture = DynamicImage::ImageRgb8(opaque(picture));
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    clip_of_pictures(path, None, vec![picture.into_rgb8()])
}

/// Title and comment of a video.
pub(in super::super) fn container_metadata(program: &FfmpegProgram, path: &Path) -> Result<Metadata, VideoError> {
    let texts = texts(program, path).map_err(|reason| unreadable(path, reason))?;
    Ok(metadata_of(&texts))
}

fn metadata_of(texts: &[(String, String)]) -> Metadata {
    let text = |key: &str| {
        let found = texts
            .iter()
            .find(|(known, text)| known.eq_ignore_ascii_case(key) && !text.is_empty());
        found.map(|(_, text)| text.clone())
    };
    Metadata {
        title: text("title"),
        comment: text("comment"),
    }
}

/// The texts of a file with their names.
fn texts(program: &FfmpegProgram, path: &Path) -> Result<Vec<(String, String)>, String> {
    // Says what is wrong with a file that is no video.
    if let Err(reason) = look(program, path)
        && !reason.starts_with("it holds")
    {
        return Err(reason);
    }
    let mut arguments = input_options(&[]);
    arguments.extend(words([
        "-map_metadata",
        "0",
        "-map_metadata:s",
        "-1",
        "-map_chapters",
        "-1",
    ]));
    arguments.extend(words(["-f", "ffmetadata", "pipe:1"]));
    let heard = Box::new(|line: &str| line.contains("[info]"));
    let started = Running::start(&program.path, &arguments, Input::File(opened(path)?), Some(heard));
    let mut running = started.map_err(|error| format!("`{}` cannot be started: {error}", program.path.display()))?;
    let bytes = running.read_to_end(LONGEST_TEXTS).map_err(|error| error.to_string())?;
    running.end()?;
    Ok(unescaped(&String::from_utf8_lossy(&bytes)))
}

/// The texts before the first section of FFmpeg's format for them: `;FFMETADATA1`, then `KEY=VALUE`, where a backslash
/// stands before `=`, `;`, `#`, itself and the end of a line.
fn unescaped(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let (mut key, mut part, mut escaped) = (None, String::new(), false);
    let mut comment = false;
    for letter in text.chars().chain(['\n']) {
        match letter {
            _ if escaped => {
                part.push(letter);
                escaped = false;
            }
            '\\' => escaped = true,
            '\n' => {
                if let Some(key) = key.take() {
                    all.push((key, std::mem::take(&mut part)));
                } else if part.starts_with('[') && !comment {
                    return all;
                }
                part.clear();
                comment = false;
            }
            ';' | '#' if key.is_none() && part.is_empty() => comment = true,
            '=' if key.is_none() && !comment => key = Some(std::mem::take(&mut part)),
            letter => part.push(letter),
        }
    }
    all
}

/// As `probe::probe`.
pub(in super::super) fn probe(program: &Arc<FfmpegProgram>, path: &Path) -> Result<Probe, String> {
    let look = look(program, path)?;
    let texts = texts(program, path)?;
    let video = &look.video;
    let mp4 = look.container.contains("mp4");
    let fragmented = mp4 && is_fragmented(path);
    let frames = packets(program, path, video.index)?;
    let [space, primaries, transfer] = [0, 1, 2].map(|at| video.colours[at].as_deref().and_then(known));
    // The text `encoder` of a webm is the library that put it together.
    let written = match look.container.contains("matroska") {
        true => pieces_webm::writing_app(path),
        false => look.encoder.clone(),
    };
    Ok(Probe {
        codec: video.codec.clone(),
        pixel_format: video.pixel_format.clone(),
        width: video.width,
        height: video.height,
        rotation: video.rotation,
        fps: video.fps,
        frames,
        duration: duration(&look, frames, fragmented),
        colour: Colour {
            space,
            primaries,
            transfer,
            range: video.range.as_deref().and_then(known),
        },
        faststart: (mp4 && !fragmented).then(|| index_first(path)),
        fragmented,
        program: written,
        metadata: metadata_of(&texts),
        container: look.container,
    })
}

/// Playing time in seconds. It is said in hundredths; where the frames come evenly, they tell it exactly.
fn duration(look: &Look, frames: u64, fragmented: bool) -> Option<f64> {
    let of_frames = look.video.fps.map(|fps| frames as f64 / fps);
    match (look.duration, of_frames) {
        (Some(said), Some(counted)) if !fragmented && (said - counted).abs() > 0.01 => Some(said),
        (said, None) => said,
        (_, counted) => counted,
    }
}

/// FFmpeg's names of matrices, primaries, transfers and ranges.
const COLOURS: &[&str] = &[
    "tv",
    "pc",
    "bt709",
    "bt470m",
    "bt470bg",
    "smpte170m",
    "smpte240m",
    "film",
    "bt2020",
    "bt2020nc",
    "bt2020c",
    "bt2020-10",
    "bt2020-12",
    "smpte428",
    "smpte431",
    "smpte432",
    "smpte2084",
    "smpte2085",
    "arib-std-b67",
    "gbr",
    "fcc",
    "ycgco",
    "linear",
    "log100",
    "log316",
    "iec61966-2-1",
    "iec61966-2-4",
    "bt1361e",
    "ictcp",
];

fn known(name: &str) -> Option<&'static str> {
    COLOURS.iter().find(|known| **known == name).copied()
}

/// Whole packets of a stream.
fn packets(program: &FfmpegProgram, path: &Path, stream: usize) -> Result<u64, String> {
    let mut arguments = input_options(&words(["-fflags", "+discardcorrupt"]));
    arguments.extend(words([
        "-map",
        &format!("0:{stream}"),
        "-c",
        "copy",
        "-f",
        "framecrc",
        "pipe:1",
    ]));
    let heard = Box::new(|line: &str| line.contains("[info]"));
    let started = Running::start(&program.path, &arguments, Input::File(opened(path)?), Some(heard));
    let mut running = started.map_err(|error| format!("`{}` cannot be started: {error}", program.path.display()))?;
    let bytes = running.read_to_end(1 << 30).map_err(|error| error.to_string())?;
    // A file that breaks off has the packets up to there.
    running.end().ok();
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines
        .filter(|line| line.first().is_some_and(u8::is_ascii_digit))
        .count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_as_they_were() {
        let said = ";FFMETADATA1\nmajor_brand=isom\ntitle=a \\=\\; ball\\\nand\\\\ more \\# x\ncomment={\"a\"\\: 1}\n[STREAM]\ntitle=no\n";
        let texts = unescaped(said);
        let found = metadata_of(&texts);
        assert_eq!(found.title.as_deref(), Some("a =; ball\nand\\ more # x"));
        assert_eq!(found.comment.as_deref(), Some("{\"a\": 1}"));
        assert!(unescaped("").is_empty() && unescaped(";FFMETADATA1\n").is_empty());
    }
}
