//! Measures of a video that need no neural network, taken while its pictures stream by: flickering, drift of colour and
//! sharpness, motion, seams between chunks, repetition.
//!
//! [`METRICS`] names every metric with formula, unit and source. Each is given for the whole video, for its first and its
//! last five seconds, and most for each second. No picture but the last is kept: memory is a few pictures, 8 bytes per
//! picture more for the motions, and some 200 bytes per second.
//!
//! ```
//! # fn main() -> Result<(), deepforcing::metrics::MetricsError> {
//! use deepforcing::metrics::{Metrics, Options};
//!
//! let mut metrics = Metrics::new(32, 32, 16.0, Options::default())?;
//! for _ in 0..32 {
//!     metrics.push(&[90; 32 * 32 * 3])?;
//! }
//! let report = metrics.finish()?;
//! assert_eq!(report.metric("temporal_flickering").and_then(|flicker| flicker.whole), Some(1.0));
//! # Ok(())
//! # }
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `catalogue` | the metrics by name |
//! | `work` | the reduced picture that most metrics look at |
//! | `flicker`, `colour`, `luma`, `sharpness`, `motion`, `seams`, `repetition` | how each is computed |
//! | `tally` | means over pictures |
//! | `report` | [`Report`]: all values of a video |
//! | `side` | [`Measuring`]: the same on a thread of its own; [`measure_file`] |

mod catalogue;
mod colour;
mod error;
mod flicker;
mod luma;
mod motion;
mod repetition;
mod report;
mod seams;
mod sharpness;
mod side;
mod tally;
mod work;

use std::{collections::VecDeque, ops::RangeInclusive};

pub use catalogue::{
    BRIGHTNESS, COLOUR_DRIFT, COLOUR_DRIFT_SLOPE, CONTRAST, Change, EARLIER_SIMILARITY, LUMA_HISTOGRAM_DISTANCE,
    METRICS, MOTION, Metric, ROLLED_BACK, SATURATION, SEAM_DISCONTINUITY, SHARPNESS, SINK_SIMILARITY,
    TEMPORAL_FLICKERING,
};
pub use colour::Lab;
pub use error::MetricsError;
pub use report::{Measured, Report, RollBack, Second, Windows};
pub use seams::Chunks;
pub use side::{Measuring, measure_file};

use colour::{colour, delta_e};
use luma::Histogram;
use motion::Pyramid;
use repetition::{Repetition, RolledBack};
use report::Part;
use tally::{Facts, Pair, Tally};
use work::WorkPicture;

use crate::{
    cache::PolicyError,
    recipe::Recipe,
    vae::{TEMPORAL_FACTOR, pictures_of_latents},
};

/// Length of the first and the last part of a video that are compared, in seconds.
const WINDOW: f64 = 5.0;

/// Pictures per second that can be counted with.
pub const FRAME_RATES: RangeInclusive<f64> = 1.0..=1000.0;

/// What is not in the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Pictures of the chunks.
    pub chunks: Chunks,
    /// Pictures that count as the sink: 37 for ten latent frames, the sink of Deep Forcing.
    pub sink_pictures: u64,
}

impl Options {
    /// Those of a video that was made after `recipe`: its chunks (what it begins with is the first), and the sink of its
    /// cache.
    ///
    /// # Errors
    /// When its cache settings break a rule.
    pub fn of(recipe: &Recipe) -> Result<Self, PolicyError> {
        let rollout = recipe.rollout;
        let policy = recipe.cache.resolve(rollout.chunk, recipe.video.latent_frames)?;
        let first = match &recipe.start {
            Some(start) => start.latent_frames,
            None if rollout.first_frame_alone => 1,
            None => rollout.chunk,
        };
        Ok(Self {
            chunks: Chunks {
                first: pictures_of_latents(first) as u64,
                rest: (TEMPORAL_FACTOR * rollout.chunk) as u64,
            },
            sink_pictures: pictures_of_latents(policy.sink) as u64,
        })
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            chunks: Chunks::default(),
            sink_pictures: 37,
        }
    }
}

/// Takes the pictures of a video one by one and measures them.
pub struct Metrics {
    width: usize,
    height: usize,
    fps: f64,
    options: Options,
    /// Pictures of the first and of the last part.
    window: usize,
    reduction: usize,
    before: Before,
    work: WorkPicture,
    luma: Vec<u8>,
    repetition: Repetition,
    whole: Tally,
    first: Tally,
    last: VecDeque<Facts>,
    motions: Vec<f64>,
    seconds: Vec<SecondSoFar>,
    second: Tally,
}

/// What is kept of the picture before.
#[derive(Default)]
struct Before {
    rgb: Vec<u8>,
    pyramid: Option<Pyramid>,
}

/// A second that is over.
struct SecondSoFar {
    second: Second,
    /// Until the first seconds are known, which it is compared with.
    histogram: Option<Histogram>,
}

impl Metrics {
    /// For pictures of `width` columns and `height` rows, `fps` in a second.
    ///
    /// # Errors
    /// When there are no pixels, no picture in a chunk, or the rate is not between 1 and 1000.
    pub fn new(width: usize, height: usize, fps: f64, options: Options) -> Result<Self, MetricsError> {
        if width == 0 || height == 0 {
            return Err(MetricsError::NoPixels { width, height });
        }
        if !FRAME_RATES.contains(&fps) {
            return Err(MetricsError::FrameRate { fps });
        }
        let Chunks { first, rest } = options.chunks;
        if first == 0 || rest == 0 {
            return Err(MetricsError::Chunks { first, rest });
        }
        Ok(Self {
            width,
            height,
            fps,
            options,
            window: (WINDOW * fps).round().max(1.0) as usize,
            reduction: work::reduction(width, height),
            before: Before::default(),
            work: WorkPicture::default(),
            luma: vec![0; width * height],
            repetition: Repetition::new(fps, rest, options.sink_pictures),
            whole: Tally::empty(),
            first: Tally::empty(),
            last: VecDeque::new(),
            motions: Vec::new(),
            seconds: Vec::new(),
            second: Tally::empty(),
        })
    }

    /// Takes the next picture: rows, columns, red-green-blue.
    ///
    /// # Errors
    /// When it has another size.
    pub fn push(&mut self, rgb: &[u8]) -> Result<(), MetricsError> {
        let expected = self.width * self.height * 3;
        if rgb.len() != expected {
            return Err(MetricsError::PictureSize {
                picture: self.whole.pictures,
                found: rgb.len(),
                expected,
                width: self.width,
                height: self.height,
            });
        }
        let facts = self.measure(rgb);
        let begins = |second: usize| (second as f64 * self.fps - 1e-6).ceil() as u64;
        if self.whole.pictures > 0 && self.whole.pictures >= begins(self.seconds.len() + 1) {
            self.close_second();
        }
        self.count(facts);
        Ok(())
    }

    fn measure(&mut self, rgb: &[u8]) -> Facts {
        luma::luma(rgb, &mut self.luma);
        self.work.fill(rgb, self.width, self.reduction);
        let work = &self.work;
        let mut work_luma = vec![0; work.width * work.height];
        luma::luma(&work.rgb, &mut work_luma);
        let pyramid = Pyramid::new(work.width, work.height, work_luma);
        let pair = self.before.pyramid.as_ref().map(|before| Pair {
            difference: flicker::mean_difference(&self.before.rgb, rgb),
            motion: pyramid
                .motion_since(before)
                .map(|motion| motion * self.reduction as f64),
        });
        let facts = Facts {
            colour: colour(&work.rgb),
            sharpness: sharpness::sharpness(&self.luma, self.width),
            histogram: Histogram::of(&self.luma),
            echo: self.repetition.push(&work.rgb, work.width),
            pair,
        };
        self.before.pyramid = Some(pyramid);
        self.before.rgb.clear();
        self.before.rgb.extend_from_slice(rgb);
        facts
    }

    fn count(&mut self, facts: Facts) {
        self.whole.add(&facts);
        self.second.add(&facts);
        if self.first.pictures < self.window as u64 {
            self.first.add(&facts);
        }
        self.motions.extend(facts.pair.and_then(|pair| pair.motion));
        if self.last.len() == self.window {
            self.last.pop_front();
        }
        self.last.push_back(facts);
    }

    fn close_second(&mut self) {
        let tally = std::mem::replace(&mut self.second, Tally::empty());
        self.seconds.push(SecondSoFar {
            second: Second {
                second: self.seconds.len() as u64,
                pictures: tally.pictures,
                temporal_flickering: tally.difference.get().map(flicker::score),
                colour: tally.colour(),
                colour_drift: 0.0,
                brightness: tally.colour()[0],
                contrast: tally.contrast.get(),
                saturation: tally.saturation.get(),
                sharpness: tally.sharpness.get(),
                luma_histogram_distance: 0.0,
                motion: tally.motion.get(),
                sink_similarity: tally.sink_similarity.get(),
                earlier_similarity: tally.earlier_similarity.get(),
                rolled_back: None,
            },
            histogram: Some(tally.histogram),
        });
        if self.first.pictures == self.window as u64 {
            self.compare_with_first();
        }
    }

    /// Sets the seconds that wait for it against the first part.
    fn compare_with_first(&mut self) {
        let reference = self.first.colour();
        for waiting in self.seconds.iter_mut().rev() {
            let Some(histogram) = waiting.histogram.take() else {
                break;
            };
            waiting.second.colour_drift = delta_e(waiting.second.colour, reference);
            waiting.second.luma_histogram_distance = histogram.distance(&self.first.histogram);
        }
    }

    /// The values of all metrics.
    ///
    /// # Errors
    /// When there was no picture.
    pub fn finish(mut self) -> Result<Report, MetricsError> {
        let pictures = self.whole.pictures;
        if pictures == 0 {
            return Err(MetricsError::NoPictures);
        }
        self.close_second();
        self.compare_with_first();
        let (chunks, sink_pictures) = (self.options.chunks, self.options.sink_pictures);
        let mut seconds: Vec<_> = self.seconds.into_iter().map(|so_far| so_far.second).collect();
        let rolled_back = self.repetition.finish();
        let backs = rolled_back_seconds(&rolled_back, &mut seconds);
        let in_window = self.last.len() as u64;
        let mut last = Tally::empty();
        for (at, facts) in self.last.iter().enumerate() {
            match at {
                // The picture before it is not in the window.
                0 => last.add_picture(facts),
                _ => last.add(facts),
            }
        }
        // Of n pictures there are n - 1 motions, or none in pictures too small for it.
        let within = (in_window as usize - 1).min(self.motions.len());
        let part = |tally, motions: &[f64], before, end| Part {
            tally,
            motions: motions.to_vec(),
            seams: chunks.seams_within(before, end),
            rolled_back: rolled_back.share(before, end),
        };
        let windows = Windows::new(pictures, in_window, self.fps);
        let first = part(self.first, &self.motions[..within], 0, in_window);
        let last_motions = &self.motions[self.motions.len() - within..];
        let last = part(last, last_motions, pictures - in_window, pictures);
        let whole = part(self.whole, &self.motions, 0, pictures);
        Ok(Report {
            width: self.width,
            height: self.height,
            fps: self.fps,
            pictures,
            seconds: pictures as f64 / self.fps,
            reduction: self.reduction,
            chunks,
            sink_pictures,
            windows,
            metrics: report::measured(&whole, &first, &last, &seconds),
            roll_backs: report::roll_backs(&backs, self.fps, sink_pictures),
            per_second: seconds,
        })
    }
}

/// Fills in what of the seconds is rolled back; gives them with the picture that their first stretch is most like.
fn rolled_back_seconds(rolled_back: &RolledBack, seconds: &mut [Second]) -> Vec<(u64, Option<u64>)> {
    let mut from = 0;
    let fill = |second: &mut Second| {
        let end = from + second.pictures;
        second.rolled_back = rolled_back.share(from, end);
        let to = rolled_back.first_within(from, end);
        from = end;
        (second.second, to)
    };
    seconds.iter_mut().map(fill).collect()
}

impl Windows {
    fn new(pictures: u64, window: u64, fps: f64) -> Self {
        let time = |picture: u64| picture as f64 / fps;
        Self {
            first: [0.0, time(window)],
            last: [time(pictures - window), time(pictures)],
            overlap: time((2 * window).saturating_sub(pictures)),
        }
    }
}
