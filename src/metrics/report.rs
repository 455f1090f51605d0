//! What was measured of a video.

use serde::{Deserialize, Serialize};

use super::{
    Chunks,
    catalogue::{self as c, Change, Metric},
    colour::{Lab, delta_e},
    flicker,
    seams::discontinuity,
    tally::{Mean, Tally},
};

/// What was measured of a video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub width: usize,
    pub height: usize,
    /// Pictures per second that were counted with.
    pub fps: f64,
    pub pictures: u64,
    /// Playing time in seconds.
    pub seconds: f64,
    /// By which the sides of the pictures were divided for all metrics but flickering, sharpness and histogram.
    pub reduction: usize,
    /// Pictures of the chunks that seams were counted by.
    pub chunks: Chunks,
    /// Pictures that count as the sink.
    pub sink_pictures: u64,
    pub windows: Windows,
    pub metrics: Vec<Measured>,
    pub per_second: Vec<Second>,
    pub roll_backs: Vec<RollBack>,
}

/// The first and the last five seconds, in seconds. A shorter video is both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Windows {
    pub first: [f64; 2],
    pub last: [f64; 2],
    /// Seconds that belong to both; more than 0 in a video of less than ten seconds.
    pub overlap: f64,
}

/// A metric and its values. A value that does not exist (motion of one picture, a ratio to zero) is none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    #[serde(flatten)]
    pub metric: Metric,
    /// Of the whole video.
    pub whole: Option<f64>,
    /// Of the first five seconds.
    pub first: Option<f64>,
    /// Of the last five seconds.
    pub last: Option<f64>,
    /// Last against first, as [`Metric::change`] says.
    #[serde(rename = "last_against_first")]
    pub change: Option<f64>,
}

/// What was measured of a second. Pairs of pictures belong to the second of the later one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Second {
    pub second: u64,
    /// Pictures in it; the last second can have fewer.
    pub pictures: u64,
    pub temporal_flickering: Option<f64>,
    /// Mean L*, a*, b*.
    pub colour: Lab,
    pub colour_drift: f64,
    pub brightness: f64,
    pub contrast: Option<f64>,
    pub saturation: Option<f64>,
    pub sharpness: Option<f64>,
    pub luma_histogram_distance: f64,
    pub motion: Option<f64>,
    pub sink_similarity: Option<f64>,
    pub earlier_similarity: Option<f64>,
    pub rolled_back: Option<f64>,
}

impl Second {
    /// The value of a metric, if it has one per second.
    pub fn value(&self, key: &str) -> Option<f64> {
        match key {
            "temporal_flickering" => self.temporal_flickering,
            "colour_drift" => Some(self.colour_drift),
            "brightness" => Some(self.brightness),
            "contrast" => self.contrast,
            "saturation" => self.saturation,
            "sharpness" => self.sharpness,
            "luma_histogram_distance" => Some(self.luma_histogram_distance),
            "motion" => self.motion,
            "sink_similarity" => self.sink_similarity,
            "earlier_similarity" => self.earlier_similarity,
            "rolled_back" => self.rolled_back,
            _ => None,
        }
    }
}

/// Adjacent seconds that return to something earlier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RollBack {
    /// The first second of it.
    pub second: u64,
    /// Seconds that it lasts.
    pub seconds: u64,
    /// The moment that the first of its pictures returns to, in seconds.
    pub to: f64,
    /// Whether that is in the sink.
    pub sink: bool,
}

impl Report {
    /// The values of a metric by its key.
    pub fn metric(&self, key: &str) -> Option<&Measured> {
        self.metrics.iter().find(|measured| measured.metric.key == key)
    }
}

/// A part of a video: its pictures, the motions within it, its number of seams, and the share that is rolled back.
pub(super) struct Part {
    pub tally: Tally,
    pub motions: Vec<f64>,
    pub seams: u64,
    pub rolled_back: Option<f64>,
}

/// Puts the values of all metrics together.
pub(super) fn measured(whole: &Part, first: &Part, last: &Part, seconds: &[Second]) -> Vec<Measured> {
    let parts = |metric, value: &dyn Fn(&Part) -> Option<f64>| {
        let [whole, first, last] = [whole, first, last].map(value);
        Measured {
            metric,
            whole,
            first,
            last,
            change: change(metric, first, last),
        }
    };
    let distance = |metric, whole: Option<f64>, change: Option<f64>| Measured {
        metric,
        whole,
        first: None,
        last: None,
        change,
    };
    let mean = |value: fn(&Second) -> f64| {
        let mut mean = Mean::default();
        seconds.iter().for_each(|second| mean.add(value(second)));
        mean.get()
    };
    let (first_tally, last_tally) = (&first.tally, &last.tally);
    vec![
        parts(c::TEMPORAL_FLICKERING, &|part| {
            part.tally.difference.get().map(flicker::score)
        }),
        distance(
            c::COLOUR_DRIFT,
            mean(|second| second.colour_drift),
            Some(delta_e(last_tally.colour(), first_tally.colour())),
        ),
        distance(c::COLOUR_DRIFT_SLOPE, slope_per_minute(seconds), None),
        parts(c::BRIGHTNESS, &|part| part.tally.lab[0].get()),
        parts(c::CONTRAST, &|part| part.tally.contrast.get()),
        parts(c::SATURATION, &|part| part.tally.saturation.get()),
        parts(c::SHARPNESS, &|part| part.tally.sharpness.get()),
        distance(
            c::LUMA_HISTOGRAM_DISTANCE,
            mean(|second| second.luma_histogram_distance),
            Some(last_tally.histogram.distance(&first_tally.histogram)),
        ),
        parts(c::MOTION, &|part| part.tally.motion.get()),
        parts(c::SEAM_DISCONTINUITY, &|part| discontinuity(&part.motions, part.seams)),
        parts(c::SINK_SIMILARITY, &|part| part.tally.sink_similarity.get()),
        parts(c::EARLIER_SIMILARITY, &|part| part.tally.earlier_similarity.get()),
        parts(c::ROLLED_BACK, &|part| part.rolled_back),
    ]
}

fn change(metric: Metric, first: Option<f64>, last: Option<f64>) -> Option<f64> {
    let (first, last) = (first?, last?);
    match metric.change {
        // Less than this is rounding, not a value.
        Change::Ratio => (first.abs() > 1e-9).then(|| last / first),
        Change::Difference => Some(last - first),
        Change::Distance | Change::None => None,
    }
}

/// Slope of the least-squares line through the colour drift of the seconds; none with fewer than two.
fn slope_per_minute(seconds: &[Second]) -> Option<f64> {
    let rate = seconds.first()?.pictures as f64;
    let points = seconds.iter().map(|second| {
        let weight = second.pictures as f64;
        let minute = (second.second as f64 + 0.5 * weight.min(rate) / rate) / 60.0;
        (weight, minute, second.colour_drift)
    });
    let (mut total, mut x, mut y) = (0.0, 0.0, 0.0);
    for (weight, minute, drift) in points.clone() {
        total += weight;
        x += weight * minute;
        y += weight * drift;
    }
    let (x, y) = (x / total, y / total);
    let (mut above, mut below) = (0.0, 0.0);
    for (weight, minute, drift) in points {
        above += weight * (minute - x) * (drift - y);
        below += weight * (minute - x) * (minute - x);
    }
    (below > 0.0).then(|| above / below)
}

/// Joins adjacent seconds with pictures that roll back.
pub(super) fn roll_backs(seconds: &[(u64, Option<u64>)], fps: f64, sink_pictures: u64) -> Vec<RollBack> {
    let mut found: Vec<RollBack> = Vec::new();
    for &(second, to) in seconds {
        let Some(to) = to else { continue };
        match found.last_mut() {
            Some(last) if last.second + last.seconds == second => last.seconds += 1,
            _ => found.push(RollBack {
                second,
                seconds: 1,
                to: to as f64 / fps,
                sink: to < sink_pictures,
            }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, Options};

    #[test]
    fn a_stored_report_reads_back() {
        let mut metrics = Metrics::new(32, 32, 16.0, Options::default()).unwrap();
        for shade in 0..40u8 {
            metrics.push(&[shade; 32 * 32 * 3]).unwrap();
        }
        let report = metrics.finish().unwrap();
        let text = serde_json::to_string(&report).unwrap();
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(read.windows, report.windows);
        for (read, made) in read.metrics.iter().zip(&report.metrics) {
            assert_eq!(read.metric, made.metric);
            // The last digit may be lost.
            let same = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() <= b.abs() * 1e-15,
                (a, b) => a == b,
            };
            assert!(
                same(read.whole, made.whole) && same(read.change, made.change),
                "{}",
                made.metric.key
            );
        }
        assert_eq!(read.per_second.len(), report.per_second.len());
        let unknown = text.replace("\"colour_drift\"", "\"colour_shift\"");
        let error = serde_json::from_str::<Report>(&unknown).unwrap_err();
        assert!(error.to_string().contains("colour_shift"), "{error}");
    }
}
