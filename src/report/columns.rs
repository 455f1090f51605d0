//! The columns of the results table: which value of each metric, and which direction is better.

use super::study::Video;
use crate::metrics::{
    BRIGHTNESS, COLOUR_DRIFT, COLOUR_DRIFT_SLOPE, CONTRAST, EARLIER_SIMILARITY, LUMA_HISTOGRAM_DISTANCE, MOTION,
    Metric, ROLLED_BACK, SATURATION, SEAM_DISCONTINUITY, SHARPNESS, SINK_SIMILARITY, TEMPORAL_FLICKERING,
};

/// A value of every video.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// Unlike all others, for files.
    pub key: &'static str,
    pub title: &'static str,
    /// What the number is.
    pub unit: &'static str,
    pub better: Better,
    value: Value,
}

/// Which values are better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Better {
    Higher,
    Lower,
    /// The nearest to this.
    Near(f64),
    /// Neither is: it depends on what is wanted.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
enum Value {
    /// Of the whole video.
    Whole(Metric),
    /// Last five seconds against the first five.
    Change(Metric),
    /// Seconds that the video took to make.
    Making,
}

impl Better {
    pub fn describe(self) -> String {
        match self {
            Self::Higher => "higher is better".into(),
            Self::Lower => "lower is better".into(),
            Self::Near(value) => format!("nearer to {value} is better"),
            Self::Unknown => "no direction is better in itself".into(),
        }
    }

    /// A sign for the head of a column.
    pub fn sign(self) -> String {
        match self {
            Self::Higher => "↑".into(),
            Self::Lower => "↓".into(),
            Self::Near(value) => format!("→ {value}"),
            Self::Unknown => String::new(),
        }
    }

    /// How bad a value is; none without a direction.
    pub fn badness(self, value: f64) -> Option<f64> {
        match self {
            Self::Higher => Some(-value),
            Self::Lower => Some(value),
            Self::Near(best) => Some((value - best).abs()),
            Self::Unknown => None,
        }
    }
}

impl Column {
    /// The value of a video, if it has one.
    pub fn of(&self, video: &Video) -> Option<f64> {
        let measured = |metric: Metric| video.metrics.as_ref()?.metric(metric.key);
        let value = match self.value {
            Value::Whole(metric) => measured(metric)?.whole,
            Value::Change(metric) => measured(metric)?.change,
            Value::Making => video.line.times.map(|times| times.total).filter(|total| *total > 0.0),
        };
        value.filter(|value| value.is_finite())
    }

    /// The metric that it shows a value of.
    pub fn metric(&self) -> Option<Metric> {
        match self.value {
            Value::Whole(metric) | Value::Change(metric) => Some(metric),
            Value::Making => None,
        }
    }
}

const RATIO: &str = "last 5 s ÷ first 5 s";
const DISTANCE: &str = "last 5 s from first 5 s";

const fn column(key: &'static str, title: &'static str, unit: &'static str, better: Better, value: Value) -> Column {
    Column {
        key,
        title,
        unit,
        better,
        value,
    }
}

/// Every column, in the order of tables.
pub(super) const COLUMNS: [Column; 15] = [
    column(
        "colour_drift",
        "colour drift",
        "ΔE, last 5 s from first 5 s",
        Better::Lower,
        Value::Change(COLOUR_DRIFT),
    ),
    column(
        "colour_drift_slope",
        "drift slope",
        "ΔE per minute",
        Better::Near(0.0),
        Value::Whole(COLOUR_DRIFT_SLOPE),
    ),
    column(
        "saturation_ratio",
        "saturation",
        RATIO,
        Better::Near(1.0),
        Value::Change(SATURATION),
    ),
    column(
        "contrast_ratio",
        "contrast",
        RATIO,
        Better::Near(1.0),
        Value::Change(CONTRAST),
    ),
    column(
        "brightness_ratio",
        "brightness",
        RATIO,
        Better::Near(1.0),
        Value::Change(BRIGHTNESS),
    ),
    column(
        "sharpness_ratio",
        "sharpness",
        RATIO,
        Better::Near(1.0),
        Value::Change(SHARPNESS),
    ),
    column(
        "luma_histogram_distance",
        "luma histogram",
        DISTANCE,
        Better::Lower,
        Value::Change(LUMA_HISTOGRAM_DISTANCE),
    ),
    column(
        "motion_ratio",
        "motion kept",
        RATIO,
        Better::Near(1.0),
        Value::Change(MOTION),
    ),
    column(
        "motion",
        "motion",
        "pixels per picture",
        Better::Unknown,
        Value::Whole(MOTION),
    ),
    column(
        "temporal_flickering",
        "VBench flicker",
        "score, 1 = still",
        Better::Higher,
        Value::Whole(TEMPORAL_FLICKERING),
    ),
    column(
        "seam_discontinuity",
        "chunk seams",
        "ratio, 1 = even",
        Better::Lower,
        Value::Whole(SEAM_DISCONTINUITY),
    ),
    column(
        "rolled_back",
        "rolled back",
        "share of pictures",
        Better::Lower,
        Value::Whole(ROLLED_BACK),
    ),
    column(
        "sink_similarity",
        "like the sink",
        "0 to 1",
        Better::Unknown,
        Value::Whole(SINK_SIMILARITY),
    ),
    column(
        "earlier_similarity",
        "like earlier",
        "0 to 1",
        Better::Unknown,
        Value::Whole(EARLIER_SIMILARITY),
    ),
    column(
        "render_seconds",
        "render time",
        "seconds per video",
        Better::Lower,
        Value::Making,
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::metrics::METRICS;

    #[test]
    fn every_metric_has_a_column_and_keys_differ() {
        let keys: HashSet<_> = COLUMNS.iter().map(|column| column.key).collect();
        assert_eq!(keys.len(), COLUMNS.len());
        let shown: HashSet<_> = COLUMNS
            .iter()
            .filter_map(Column::metric)
            .map(|metric| metric.key)
            .collect();
        for metric in METRICS {
            assert!(shown.contains(metric.key), "{}", metric.key);
        }
    }

    #[test]
    fn nearer_is_better_from_both_sides() {
        let near = Better::Near(1.0);
        assert_eq!(near.badness(0.75), near.badness(1.25));
        assert!(Better::Higher.badness(2.0) < Better::Higher.badness(1.0));
        assert!(Better::Lower.badness(1.0) < Better::Lower.badness(2.0));
        assert_eq!(Better::Unknown.badness(1.0), None);
    }
}
