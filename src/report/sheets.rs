//! Contact sheets: for every video a strip of its pictures at regular moments, and measures of videos that have none.

use std::{
    cell::Cell,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use image::{RgbImage, codecs::jpeg::JpegEncoder, imageops};
use rayon::prelude::*;

use super::{
    Options,
    study::{State, Study, Video},
};
use crate::{
    Error,
    metrics::{self, Chunks, FRAME_RATES, Metrics, MetricsError, Report},
    video::{Picture, VideoError, for_chosen_frames},
};

/// Most pictures of a strip: a longer video has fewer in a second.
const COLUMNS: u64 = 120;
/// Most pictures of all strips, some 4 KB each.
const PICTURES: u64 = 6000;
/// Most strips; the videos after them have none.
const STRIPS: usize = 2000;
/// Seconds from one picture to the next that are tried.
const STEPS: [u64; 10] = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600];
const QUALITY: u8 = 70;
/// Pictures per second of a video that does not tell.
const DEFAULT_FPS: f64 = 16.0;
/// Notes of one kind that are given one by one.
const NOTED: usize = 5;

/// The pictures of one video, side by side.
#[derive(Debug)]
pub(super) struct Strip {
    pub jpeg: Vec<u8>,
    pub pictures: u32,
}

/// The strips of all videos, and how they are cut.
#[derive(Debug)]
pub(super) struct Sheets {
    /// Seconds from one picture to the next.
    pub every: u64,
    /// Of one picture.
    pub width: u32,
    pub height: u32,
    /// One per video.
    pub strips: Vec<Option<Strip>>,
}

/// What was found in a file.
#[derive(Default)]
struct Looked {
    strip: Option<Strip>,
    metrics: Option<Report>,
    problem: Option<String>,
}

/// Makes the strips, and measures what was not measured while it was made.
///
/// # Errors
/// When it is cancelled.
pub(super) fn look(study: &mut Study, options: &Options) -> Result<Sheets, Error> {
    let mut sheets = plan(study);
    let made = AtomicUsize::new(0);
    let total = study.videos.len();
    let looked: Vec<Looked> = study
        .videos
        .par_iter()
        .enumerate()
        .map(|(number, video)| {
            if options.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let looked = look_at(&study.folder, video, &sheets, number < STRIPS, options);
            (options.progress)(made.fetch_add(1, Ordering::Relaxed) + 1, total);
            looked
        })
        .collect::<Result<_, _>>()?;
    let mut problems = Vec::new();
    let (mut measured, mut unmeasured) = (0, 0);
    for (video, looked) in study.videos.iter_mut().zip(looked) {
        if let Some(problem) = looked.problem {
            video.state = State::Damaged;
            problems.push(problem);
        }
        if looked.metrics.is_some() {
            measured += 1;
            video.measured_now = true;
            video.metrics = looked.metrics;
        }
        unmeasured += usize::from(video.metrics.is_none());
        sheets.strips.push(looked.strip);
    }
    note(&mut study.notes, problems, total);
    if measured > 0 {
        let text = format!("{measured} of {total} videos were measured for this report, from their files");
        study.notes.push(text);
    }
    if unmeasured > 0 {
        let text = format!(
            "{unmeasured} of {total} videos are not measured: they have neither measures nor a file that can be read"
        );
        study.notes.push(text);
    }
    Ok(sheets)
}

/// Says when first and last five seconds are not apart.
pub(super) fn note_overlap(study: &mut Study) {
    let overlaps = study.videos.iter().filter_map(|video| video.metrics.as_ref());
    let overlaps: Vec<_> = overlaps
        .map(|report| report.windows.overlap)
        .filter(|overlap| *overlap > 0.0)
        .collect();
    if let Some(most) = overlaps.iter().copied().reduce(f64::max) {
        study.notes.push(format!(
            "{} of {} videos are shorter than 10 s: their first and last five seconds share up to {most:.1} s, so what is \
             said of the last against the first is too small",
            overlaps.len(),
            study.videos.len()
        ));
    }
}

fn note(notes: &mut Vec<String>, mut problems: Vec<String>, total: usize) {
    let same = problems.len() > 1 && problems.iter().all(|problem| *problem == problems[0]);
    let more = problems.len().saturating_sub(if same { 1 } else { NOTED });
    problems.truncate(problems.len() - more);
    notes.append(&mut problems);
    if more > 0 {
        notes.push(format!("{more} more of {total} videos cannot be read"));
    }
}

/// Chooses size and distance of the pictures so that the page stays small.
fn plan(study: &Study) -> Sheets {
    let shown = || study.videos.iter().take(STRIPS);
    let longest = shown().filter_map(Video::seconds).fold(1.0, f64::max);
    let count = |every: u64| -> u64 { shown().map(|video| pictures(video, every)).sum() };
    let fits = |every: &u64| longest / *every as f64 <= COLUMNS as f64 && count(*every) <= PICTURES;
    let every = STEPS.into_iter().find(fits).unwrap_or(STEPS[STEPS.len() - 1]);
    let height = match count(every) {
        0..1000 => 96,
        1000..3000 => 72,
        _ => 56,
    };
    let size = shown().find_map(Video::size).unwrap_or((16, 9));
    // Odd shapes get bars.
    let width = (f64::from(height) * size.0 as f64 / size.1 as f64).round();
    Sheets {
        every,
        width: width.clamp(f64::from(height) / 3.0, f64::from(height) * 3.0) as u32,
        height,
        strips: Vec::new(),
    }
}

fn pictures(video: &Video, every: u64) -> u64 {
    let seconds = video.seconds().unwrap_or(60.0);
    ((seconds / every as f64).ceil() as u64).clamp(1, COLUMNS)
}

fn look_at(
    folder: &Path,
    video: &Video,
    sheets: &Sheets,
    with_strip: bool,
    options: &Options,
) -> Result<Looked, Error> {
    let measure = video.metrics.is_none();
    if video.state == State::Missing || !(measure || with_strip) {
        return Ok(Looked::default());
    }
    let known = video.line.fps;
    let frame = Cell::new(0);
    let mut pictures: Vec<RgbImage> = Vec::new();
    let next = Cell::new(0);
    let due = |number: u64, rate: Option<f64>| {
        let fps = known.or(rate).unwrap_or(DEFAULT_FPS);
        with_strip && next.get() < COLUMNS && number >= ((next.get() * sheets.every) as f64 * fps).round() as u64
    };
    let mut metrics = Measuring::new(video);
    let wanted = |number, rate| {
        frame.set(number);
        measure || due(number, rate)
    };
    let read = for_chosen_frames::<Error>(&folder.join(&video.line.file), wanted, |picture| {
        if options.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if due(frame.get(), picture.fps) {
            pictures.extend(thumbnail(&picture, sheets));
            next.set(next.get() + 1);
        }
        match measure {
            true => metrics.push(&picture, known).map_err(Error::from),
            false => Ok(()),
        }
    });
    let problem = match read {
        Ok(()) => None,
        // Reading is stopped then as well.
        Err(_) if options.cancel.is_cancelled() => return Err(Error::Cancelled),
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        // The same for every file.
        Err(error @ Error::Video(VideoError::NoFfmpeg { .. } | VideoError::Program { .. })) => {
            Some(format!("videos cannot be looked at: {error}"))
        }
        // The page may travel; where it was made is nobody's business.
        Err(error) => Some(error.to_string().replace(&format!("{}/", folder.display()), "")),
    };
    // What is damaged further on would be measured as a shorter video.
    let metrics = if problem.is_none() { metrics.finish() } else { None };
    let strip = strip(&pictures, sheets);
    Ok(Looked {
        strip,
        metrics,
        problem,
    })
}

/// Measures of a video, begun with its first picture.
struct Measuring {
    options: metrics::Options,
    metrics: Option<Metrics>,
}

impl Measuring {
    fn new(video: &Video) -> Self {
        Self {
            options: metric_options(&video.line.recipe()),
            metrics: None,
        }
    }

    fn push(&mut self, picture: &Picture, fps: Option<f64>) -> Result<(), MetricsError> {
        let metrics = match &mut self.metrics {
            Some(metrics) => metrics,
            none => {
                let fps = fps.or(picture.fps).filter(|fps| FRAME_RATES.contains(fps));
                let (width, height) = (picture.width as usize, picture.height as usize);
                none.insert(Metrics::new(width, height, fps.unwrap_or(DEFAULT_FPS), self.options)?)
            }
        };
        metrics.push(picture.rgb)
    }

    fn finish(self) -> Option<Report> {
        self.metrics.and_then(|metrics| metrics.finish().ok())
    }
}

/// Chunks and sink as the recipe has them, in pictures.
fn metric_options(recipe: &serde_json::Value) -> metrics::Options {
    let number = |path: &str| recipe.pointer(path).and_then(serde_json::Value::as_u64);
    let defaults = metrics::Options::default();
    let chunk = number("/rollout/chunk").filter(|chunk| (1..1000).contains(chunk));
    let alone = recipe.pointer("/rollout/first-frame-alone") == Some(&true.into());
    let sink = number("/cache/sink").filter(|sink| *sink < 1000);
    metrics::Options {
        chunks: chunk.map_or(defaults.chunks, |chunk| Chunks {
            first: if alone { 1 } else { 4 * chunk - 3 },
            rest: 4 * chunk,
        }),
        sink_pictures: sink.map_or(defaults.sink_pictures, |sink| (4 * sink).saturating_sub(3)),
    }
}

/// A picture at the size of the sheet; other shapes get bars.
fn thumbnail(picture: &Picture, sheets: &Sheets) -> Option<RgbImage> {
    let whole = RgbImage::from_raw(picture.width, picture.height, picture.rgb.to_vec())?;
    let scale = f64::min(
        f64::from(sheets.width) / f64::from(picture.width),
        f64::from(sheets.height) / f64::from(picture.height),
    );
    let side = |pixels: u32, most: u32| ((f64::from(pixels) * scale).round() as u32).clamp(1, most);
    let (width, height) = (side(picture.width, sheets.width), side(picture.height, sheets.height));
    let small = match scale < 1.0 {
        true => imageops::thumbnail(&whole, width, height),
        false => imageops::resize(&whole, width, height, imageops::FilterType::Triangle),
    };
    if (width, height) == (sheets.width, sheets.height) {
        return Some(small);
    }
    let mut framed = RgbImage::new(sheets.width, sheets.height);
    let (left, top) = ((sheets.width - width) / 2, (sheets.height - height) / 2);
    imageops::replace(&mut framed, &small, left.into(), top.into());
    Some(framed)
}

fn strip(pictures: &[RgbImage], sheets: &Sheets) -> Option<Strip> {
    if pictures.is_empty() {
        return None;
    }
    let mut whole = RgbImage::new(sheets.width * pictures.len() as u32, sheets.height);
    for (at, picture) in pictures.iter().enumerate() {
        imageops::replace(&mut whole, picture, (at as u32 * sheets.width).into(), 0);
    }
    let mut jpeg = Vec::new();
    let encoded = JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&whole);
    encoded.ok()?;
    Some(Strip {
        jpeg,
        pictures: pictures.len() as u32,
    })
}
