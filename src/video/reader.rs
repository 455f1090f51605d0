//! Existing clips as starting frames.

use std::{collections::VecDeque, path::Path, rc::Rc};

use image::RgbImage;

use super::{
    Clip, VideoError,
    clip::fit_picture,
    program::{self, Through, through},
    still_kind,
};

/// An image of a kind that only FFmpeg knows; `start` is the beginning of the file.
pub(super) fn read_other_image(path: &Path, start: &[u8]) -> Result<Clip, VideoError> {
    match through()? {
        #[cfg(feature = "ffmpeg")]
        Through::Libraries => with_ffmpeg::read_other_image(path, start),
        Through::Program(program) => program::read_other_image(&program, path, start),
    }
}

/// Reads the first `max_frames` frames of a video, or all if there are fewer; upright, with square pixels. Sound and
/// other streams are ignored, transparency is dropped, the range of HDR is not compressed.
///
/// A fragmented mp4 or webm that breaks off, as a killed run leaves it, gives its whole frames.
///
/// # Errors
/// [`VideoError::Unreadable`] if the file is missing, holds no video, is damaged, changes its size on the way, or has
/// pictures larger than 16384 pixels on a side; [`VideoError::NoFfmpeg`] without FFmpeg.
pub fn read_frames(path: &Path, max_frames: usize) -> Result<Clip, VideoError> {
    match through()? {
        #[cfg(feature = "ffmpeg")]
        Through::Libraries => with_ffmpeg::read_frames(path, max_frames),
        Through::Program(program) => program::read_frames(&program, path, max_frames),
    }
}

/// A frame of a video that is being read.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames per second of the video on average; none if the file does not tell.
    pub fps: Option<f64>,
    /// RGB, `height * width * 3` bytes.
    pub rgb: &'a [u8],
}

/// Gives every frame of a video to `each`, as [`read_frames`] would read it, without keeping it.
///
/// # Errors
/// As [`read_frames`], also without a single frame; the error of `each`, which ends the reading.
pub fn for_each_frame<E: From<VideoError>>(
    path: &Path,
    each: impl FnMut(Picture<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for_chosen_frames(path, |_, _| true, each)
}

/// As [`for_each_frame`], for the frames of which `wanted` says so, by their number and the frames per second of the
/// video if the file tells; the others are decoded, but not converted to RGB.
///
/// # Errors
/// As [`for_each_frame`].
pub fn for_chosen_frames<E: From<VideoError>>(
    path: &Path,
    wanted: impl FnMut(u64, Option<f64>) -> bool,
    each: impl FnMut(Picture<'_>) -> Result<(), E>,
) -> Result<(), E> {
    match through()? {
        #[cfg(feature = "ffmpeg")]
        Through::Libraries => with_ffmpeg::for_chosen_frames(path, wanted, each),
        Through::Program(program) => program::for_chosen_frames(&program, path, wanted, each),
    }
}

/// Reads the last `count` frames of a video as if it had `fps` frames per second, or all if there are fewer. What is
/// shown at each moment decides, so that slow motion, dropped frames and other variable rates keep their speed.
///
/// Memory is needed for `count` pictures, however long the clip; of a long clip only the end is decoded.
///
/// # Errors
/// As [`read_frames`]; [`VideoError::Clip`] for a `count` of 0 or an `fps` that is none.
pub fn read_last_frames(path: &Path, count: usize, fps: f64) -> Result<Clip, VideoError> {
    read_last(path, count, fps, None)
}

/// As [`read_last_frames`], each picture fitted to `size` (width, height) as [`Clip::fit`] does it while the clip is read:
/// memory is needed for `count` pictures of that size and a few of the clip's own.
///
/// # Errors
/// As [`read_last_frames`]; [`VideoError::FitSize`] for an empty size.
pub fn read_last_frames_fitted(path: &Path, count: usize, fps: f64, size: (u32, u32)) -> Result<Clip, VideoError> {
    read_last(path, count, fps, Some(size))
}

fn read_last(path: &Path, count: usize, fps: f64, size: Option<(u32, u32)>) -> Result<Clip, VideoError> {
    if count == 0 || !(fps.is_finite() && fps > 0.0) {
        return Err(VideoError::Clip {
            reason: format!("{count} frames at {fps} per second were asked for"),
        });
    }
    match through()? {
        #[cfg(feature = "ffmpeg")]
        Through::Libraries => with_ffmpeg::read_last_frames(path, count, fps, size),
        Through::Program(program) => program::read_last_frames(&program, path, (count, fps), size),
    }
}

/// Brings frames to a constant rate and keeps the last ones.
///
/// A frame is shown from the tick nearest to its time until the next frame's; of several with one tick the last is.
pub(super) struct Resampler<T> {
    fps: f64,
    count: usize,
    /// Time of tick 0.
    start: Option<f64>,
    /// The frame that is being shown, and the tick at which it began.
    shown: Option<(Rc<T>, i64)>,
    /// What was shown at the last `count` ticks.
    last: VecDeque<Rc<T>>,
}

impl<T> Resampler<T> {
    pub fn new(fps: f64, count: usize, start: Option<f64>) -> Self {
        Self {
            fps,
            count,
            start,
            shown: None,
            last: VecDeque::new(),
        }
    }

    /// Takes the frame that is shown from second `time` on.
    pub fn push(&mut self, time: f64, frame: T) {
        let tick = self.tick(time);
        let tick = self.shown.as_ref().map_or(tick, |&(_, before)| tick.max(before));
        self.show_until(tick);
        self.shown = Some((Rc::new(frame), tick));
    }

    /// The frames of the last ticks, if the last frame is shown until second `end`, once at least.
    pub fn finish(mut self, end: f64) -> VecDeque<Rc<T>> {
        if let Some((_, began)) = self.shown {
            let end = self.tick(end).max(began + 1);
            self.show_until(end);
        }
        self.last
    }

    fn tick(&mut self, time: f64) -> i64 {
        let start = *self.start.get_or_insert(time);
        // Halves down, or twice the rate would give a tick too many.
        ((time - start) * self.fps - 0.5 - 1e-6).ceil() as i64
    }

    fn show_until(&mut self, tick: i64) {
        let Some((frame, began)) = &self.shown else { return };
        let ticks = usize::try_from(tick - began).unwrap_or(0).min(self.count);
        self.last
            .extend(std::iter::repeat_with(|| Rc::clone(frame)).take(ticks));
        let surplus = self.last.len().saturating_sub(self.count);
        self.last.drain(..surplus);
    }
}

pub(super) fn unreadable(path: &Path, reason: String) -> VideoError {
    VideoError::Unreadable {
        path: path.to_owned(),
        reason,
    }
}

/// What went wrong, and after how many frames.
pub(super) fn damaged(path: &Path, frames: usize, reason: String) -> VideoError {
    let reason = match frames {
        0 => format!("none of its frames can be decoded: {reason}"),
        _ => format!("damaged after {frames} frames: {reason}"),
    };
    unreadable(path, reason)
}

/// A clip of pictures of one size.
pub(super) fn clip_of_pictures(path: &Path, fps: Option<f64>, pictures: Vec<RgbImage>) -> Result<Clip, VideoError> {
    let Some((width, height)) = pictures.first().map(RgbImage::dimensions) else {
        return Err(unreadable(path, "it holds no frames".to_owned()));
    };
    Ok(Clip {
        width,
        height,
        fps,
        frames: pictures.into_iter().map(RgbImage::into_raw).collect(),
    })
}

pub(super) fn fitted(picture: RgbImage, size: Option<(u32, u32)>) -> Result<RgbImage, VideoError> {
    match size {
        Some((width, height)) => fit_picture(picture, width, height),
        None => Ok(picture),
    }
}

/// Why a file that should be an image cannot be read as one; `start` is its beginning.
pub(super) fn no_image(path: &Path, start: &[u8], reason: &str) -> VideoError {
    unreadable(
        path,
        match still_kind::name(start) {
            Some(kind) => format!("it is {kind}, which cannot be read here ({reason}): convert it to PNG or JPEG"),
            None => format!("it is not an image: {reason}"),
        },
    )
}

/// The kinds of images that can be used instead.
pub(super) const IMAGES: &str = "use PNG, JPEG, GIF, WebP, BMP or TIFF";
/// What is said of a video where an image is wanted.
pub(super) const NO_IMAGE: &str =
    "it is not an image: it is a video; take a picture out of it, or continue it as a clip";

#[cfg(feature = "ffmpeg")]
mod with_ffmpeg {
    use std::path::Path;

    use image::RgbImage;

    use super::{
        super::{
            decode::{Decoder, Timed},
            still_kind,
        },
        Clip, IMAGES, NO_IMAGE, Picture, Resampler, VideoError, clip_of_pictures, damaged, fitted, no_image,
        unreadable,
    };

    pub(super) fn read_frames(path: &Path, max_frames: usize) -> Result<Clip, VideoError> {
        let mut decoder = Decoder::open(path).map_err(|reason| unreadable(path, reason))?;
        let mut pictures = Vec::new();
        while pictures.len() < max_frames {
            match next_picture(path, &mut decoder, pictures.len())? {
                Some(picture) => pictures.push(picture),
                None => break,
            }
        }
        clip_of_pictures(path, decoder.rate, pictures)
    }

    fn next_picture(path: &Path, decoder: &mut Decoder, frames: usize) -> Result<Option<RgbImage>, VideoError> {
        let next = decoder.next().and_then(|next| match next {
            Some(Timed { frame, .. }) => decoder.rgb(&frame).map(Some),
            None => Ok(None),
        });
        next.map_err(|reason| damaged(path, frames, reason))
    }

    pub(super) fn for_chosen_frames<E: From<VideoError>>(
        path: &Path,
        mut wanted: impl FnMut(u64, Option<f64>) -> bool,
        mut each: impl FnMut(Picture<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut decoder = Decoder::open(path).map_err(|reason| unreadable(path, reason))?;
        let mut frames = 0;
        while let Some(Timed { frame, .. }) = decoder.next().map_err(|reason| damaged(path, frames, reason))? {
            if wanted(frames as u64, decoder.rate) {
                let picture = decoder.rgb(&frame).map_err(|reason| damaged(path, frames, reason))?;
                each(Picture {
                    width: picture.width(),
                    height: picture.height(),
                    fps: decoder.rate,
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

    /// Two passes: the first finds out which frames are shown at the last ticks, the second converts those and no other.
    /// To hold them all as they are decoded until the end is known would take gigabytes for a large clip.
    pub(super) fn read_last_frames(
        path: &Path,
        count: usize,
        fps: f64,
        size: Option<(u32, u32)>,
    ) -> Result<Clip, VideoError> {
        let seconds = count as f64 / fps;
        let open = || Decoder::open(path).map_err(|reason| unreadable(path, reason));
        let mut decoder = open()?;
        if decoder.skip_to_last(seconds)
            && let Ok(frames) = last_frames(path, &mut decoder, count, fps)
            && frames.len() == count
        {
            drop(decoder);
            let mut again = open()?;
            if again.skip_to_last(seconds)
                && let Ok(clip) = clip_of(path, again, fps, &frames, size)
            {
                return Ok(clip);
            }
        }
        // Short, or its index is of no use.
        let mut decoder = open()?;
        let frames = last_frames(path, &mut decoder, count, fps)?;
        drop(decoder);
        clip_of(path, open()?, fps, &frames, size)
    }

    /// Numbers of the frames that are shown at the last ticks, from where the decoder stands.
    fn last_frames(path: &Path, decoder: &mut Decoder, count: usize, fps: f64) -> Result<Vec<usize>, VideoError> {
        let mut resampler = Resampler::new(fps, count, decoder.start);
        let period = decoder.rate.map(|rate| 1.0 / rate);
        let (mut frames, mut end) = (0, None);
        while let Some(next) = decoder.next().map_err(|reason| damaged(path, frames, reason))? {
            // Without times, frames follow each other at the rate of the file.
            let time = next.time.or(end).unwrap_or(0.0);
            resampler.push(time, frames);
            frames += 1;
            end = Some(time + period.unwrap_or(1.0 / fps));
        }
        Ok(resampler
            .finish(end.unwrap_or(0.0))
            .iter()
            .map(|frame| **frame)
            .collect())
    }

    /// The pictures of `frames`, whose numbers do not fall.
    fn clip_of(
        path: &Path,
        mut decoder: Decoder,
        fps: f64,
        frames: &[usize],
        size: Option<(u32, u32)>,
    ) -> Result<Clip, VideoError> {
        let mut pictures: Vec<RgbImage> = Vec::with_capacity(frames.len());
        let mut number = 0;
        while let Some(&wanted) = frames.get(pictures.len()) {
            let next = decoder.next().map_err(|reason| damaged(path, number, reason))?;
            let Some(Timed { frame, .. }) = next else { break };
            if number == wanted {
                let picture = decoder.rgb(&frame).map_err(|reason| unreadable(path, reason))?;
                let picture = fitted(picture, size)?;
                let times = frames[pictures.len()..]
                    .iter()
                    .take_while(|other| **other == wanted)
                    .count();
                pictures.extend(std::iter::repeat_n(picture, times));
            }
            number += 1;
        }
        if pictures.len() < frames.len() {
            return Err(damaged(
                path,
                number,
                "it ends earlier when it is read again".to_owned(),
            ));
        }
        clip_of_pictures(path, Some(fps), pictures)
    }

    /// An image of a kind that only FFmpeg knows; `start` is the beginning of the file.
    pub(super) fn read_other_image(path: &Path, start: &[u8]) -> Result<Clip, VideoError> {
        let no_image = |reason: &str| no_image(path, start, reason);
        let kinds = |reason: String| {
            let told = still_kind::name(start).is_some();
            no_image(&if told { reason } else { format!("{IMAGES} ({reason})") })
        };
        let mut decoder = Decoder::open(path).map_err(|reason| match still_kind::name(start) {
            Some(_) => no_image(&reason),
            None => no_image(IMAGES),
        })?;
        // A large HEIC picture comes in tiles.
        if decoder.streams() > 1 && still_kind::name(start).is_some() {
            return Err(no_image("it has several parts"));
        }
        if let Some(orientation) = still_kind::orientation(path, start) {
            decoder.turn(orientation);
        }
        let Some(Timed { frame, .. }) = decoder.next().map_err(kinds)? else {
            return clip_of_pictures(path, None, Vec::new());
        };
        if !decoder.is_image() && !matches!(decoder.next(), Ok(None)) {
            return Err(unreadable(path, NO_IMAGE.to_owned()));
        }
        let picture = decoder.opaque(&frame).map_err(kinds)?;
        clip_of_pictures(path, None, vec![picture])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resample(times: &[f64], end: f64, fps: f64, count: usize) -> Vec<usize> {
        let mut resampler = Resampler::new(fps, count, None);
        for (at, &time) in times.iter().enumerate() {
            resampler.push(time, at);
        }
        resampler.finish(end).iter().map(|frame| **frame).collect()
    }

    #[test]
    fn constant_rates_are_thinned_and_repeated() {
        let times = |fps: f64| (0..6).map(|n| n as f64 / fps).collect::<Vec<_>>();
        assert_eq!(resample(&times(16.0), 6.0 / 16.0, 16.0, 99), [0, 1, 2, 3, 4, 5]);
        assert_eq!(resample(&times(16.0), 6.0 / 16.0, 16.0, 2), [4, 5]);
        assert_eq!(
            resample(&times(8.0), 6.0 / 8.0, 16.0, 99),
            [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        );
        // The last frame is not lost.
        assert_eq!(resample(&times(32.0), 6.0 / 32.0, 16.0, 99), [1, 3, 5]);
        assert_eq!(resample(&[0.0], 0.0, 16.0, 9), [0]);
        assert_eq!(resample(&[], 0.0, 16.0, 9), [0; 0]);
    }

    #[test]
    fn gaps_are_filled_within_the_count() {
        assert_eq!(
            resample(&[0.0, 0.5, 0.6], 1.0, 10.0, 99),
            [0, 0, 0, 0, 0, 1, 2, 2, 2, 2]
        );
        assert_eq!(resample(&[0.0, 1e9, 1e9 + 0.1], 1e9 + 0.2, 10.0, 4), [0, 0, 1, 2]);
        // Times that go backwards do not undo what was shown.
        assert_eq!(resample(&[0.0, 0.3, 0.1], 0.5, 10.0, 99), [0, 0, 0, 2, 2]);
    }
}
