//! Means and spread over the videos of a row, the best of a column, and how values go over time.

use serde::Serialize;

use super::{
    columns::{Better, COLUMNS, Column},
    study::{Study, Video},
};
use crate::metrics::{Change, METRICS, Metric};

/// Seconds of the longest curve that is drawn.
const LONGEST: usize = 24 * 3600;
/// Seconds of all videos up to which a page has the curve of each, some 70 bytes for each second.
const SINGLE: f64 = 100_000.0;

/// Mean and spread of some values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Stat {
    pub mean: f64,
    /// Sample standard deviation (divided by n - 1); none for one value.
    pub std: Option<f64>,
    pub min: f64,
    pub max: f64,
    pub n: usize,
}

impl Stat {
    /// None without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self {
            mean,
            std: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            n,
        })
    }
}

/// A column with the values of every row.
#[derive(Debug)]
pub(super) struct Filled {
    pub column: Column,
    /// One per row.
    pub cells: Vec<Cell>,
    /// Digits behind the point.
    pub decimals: usize,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cell {
    pub stat: Option<Stat>,
    /// Whether no other row is better, to the digits shown.
    pub best: bool,
}

impl Filled {
    pub fn text(&self, value: f64) -> String {
        let decimals = self.decimals;
        let text = format!("{value:.decimals$}");
        // No minus before a zero.
        match text.strip_prefix('-') {
            Some(zero) if zero.bytes().all(|byte| matches!(byte, b'0' | b'.')) => zero.into(),
            _ => text,
        }
    }
}

/// The columns that have values.
pub(super) fn table(study: &Study) -> Vec<Filled> {
    let filled = COLUMNS.iter().map(|column| {
        let stats = (0..study.rows.len()).map(|row| {
            let values: Vec<_> = study.of_row(row).filter_map(|video| column.of(video)).collect();
            Stat::of(&values)
        });
        fill(*column, stats.collect(), study.compares())
    });
    filled
        .filter(|filled| filled.cells.iter().any(|cell| cell.stat.is_some()))
        .collect()
}

fn fill(column: Column, stats: Vec<Option<Stat>>, compares: bool) -> Filled {
    let largest = stats.iter().flatten().map(|stat| stat.mean.abs()).fold(0.0, f64::max);
    // Four digits of the largest value.
    let decimals = match largest {
        size if size < 1e-9 => 2,
        // Ratios are about 1, on either side of it.
        _ if column.better == Better::Near(1.0) => 3,
        size => (3.0 - size.log10().floor()).clamp(0.0, 4.0) as usize,
    };
    let cells = stats.into_iter().map(|stat| Cell { stat, best: false }).collect();
    let mut filled = Filled {
        column,
        cells,
        decimals,
    };
    if compares {
        mark_best(&mut filled);
    }
    filled
}

/// Marks the best of at least two rows, equals included; a column in which all are equal has none.
fn mark_best(filled: &mut Filled) {
    let scale = 10f64.powi(filled.decimals as i32);
    let badness: Vec<_> = filled
        .cells
        .iter()
        .map(|cell| {
            let shown = (cell.stat?.mean * scale).round() / scale;
            filled.column.better.badness(shown)
        })
        .collect();
    let known = || badness.iter().flatten().copied();
    let (least, most) = (
        known().fold(f64::INFINITY, f64::min),
        known().fold(f64::NEG_INFINITY, f64::max),
    );
    let same = |a: f64, b: f64| (a - b).abs() < 0.25 / scale;
    if known().count() < 2 || same(least, most) {
        return;
    }
    for (cell, badness) in filled.cells.iter_mut().zip(badness) {
        cell.best = badness.is_some_and(|badness| same(badness, least));
    }
}

/// How a metric goes over time.
#[derive(Debug)]
pub(super) struct Curves {
    pub metric: Metric,
    /// Whether values are divided by those of the video's first five seconds.
    pub relative: bool,
    /// For every row, one per second.
    pub rows: Vec<Vec<Option<Stat>>>,
    /// For every video, one per second, so that some of a row can be chosen; nothing where rows have no choice, or where
    /// it would be too much for a page.
    pub videos: Vec<Vec<Option<f64>>>,
}

impl Curves {
    /// What the vertical axis shows.
    pub fn unit(&self) -> String {
        match self.relative {
            true => "÷ its first 5 s".into(),
            false => self.metric.unit.into(),
        }
    }
}

/// Metrics whose curves are looked at first.
pub(super) const IMPORTANT: [&str; 6] = [
    "colour_drift",
    "saturation",
    "contrast",
    "sharpness",
    "motion",
    "sink_similarity",
];

/// The curves of all metrics that have values per second, the important ones first.
pub(super) fn curves(study: &Study) -> Vec<Curves> {
    let mut metrics = METRICS.to_vec();
    metrics.sort_by_key(|metric| {
        let place = IMPORTANT.iter().position(|key| *key == metric.key);
        place.unwrap_or(IMPORTANT.len())
    });
    let seconds: f64 = study.videos.iter().filter_map(Video::seconds).sum();
    let single = study.compares() && seconds <= SINGLE;
    let all = metrics.into_iter().map(|metric| Curves {
        metric,
        relative: metric.change == Change::Ratio,
        rows: (0..study.rows.len()).map(|row| row_curve(study, row, metric)).collect(),
        videos: match single {
            true => study.videos.iter().map(|video| video_curve(video, metric)).collect(),
            false => Vec::new(),
        },
    });
    all.filter(|curves| curves.rows.iter().flatten().any(Option::is_some))
        .collect()
}

fn row_curve(study: &Study, row: usize, metric: Metric) -> Vec<Option<Stat>> {
    let mut seconds: Vec<Vec<f64>> = Vec::new();
    for video in study.of_row(row) {
        for (second, value) in values(video, metric) {
            if second >= seconds.len() {
                seconds.resize_with(second + 1, Vec::new);
            }
            seconds[second].push(value);
        }
    }
    seconds.iter().map(|values| Stat::of(values)).collect()
}

fn video_curve(video: &Video, metric: Metric) -> Vec<Option<f64>> {
    let mut seconds = Vec::new();
    for (second, value) in values(video, metric) {
        if second >= seconds.len() {
            seconds.resize(second + 1, None);
        }
        seconds[second] = Some(value);
    }
    seconds
}

/// The values of a video second by second.
fn values(video: &Video, metric: Metric) -> Vec<(usize, f64)> {
    let Some(report) = &video.metrics else {
        return Vec::new();
    };
    let first = match metric.change {
        Change::Ratio => report.metric(metric.key).and_then(|measured| measured.first),
        _ => Some(1.0),
    };
    let Some(first) = first.filter(|first| first.abs() > 1e-9) else {
        return Vec::new();
    };
    let seconds = report.per_second.iter().filter_map(|second| {
        let value = second.value(metric.key)? / first;
        let at = usize::try_from(second.second).ok().filter(|at| *at < LONGEST)?;
        value.is_finite().then_some((at, value))
    });
    seconds.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(key: &str, means: &[Option<f64>]) -> Filled {
        let column = COLUMNS.iter().find(|column| column.key == key).unwrap();
        let stats = means.iter().map(|mean| Stat::of(&Vec::from_iter(*mean)));
        fill(*column, stats.collect(), true)
    }

    fn best(key: &str, means: &[Option<f64>]) -> Vec<usize> {
        let filled = filled(key, means);
        let cells = filled.cells.iter().enumerate();
        cells.filter(|(_, cell)| cell.best).map(|(row, _)| row).collect()
    }

    #[test]
    fn spread_is_that_of_a_sample() {
        let stat = Stat::of(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((stat.mean, stat.min, stat.max, stat.n), (2.5, 1.0, 4.0, 4));
        assert!((stat.std.unwrap() - (5.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(Stat::of(&[7.0]).unwrap().std, None);
        assert_eq!(Stat::of(&[]), None);
    }

    #[test]
    fn the_best_is_marked_by_the_direction_of_its_metric() {
        assert_eq!(best("colour_drift", &[Some(3.0), Some(1.0), None, Some(2.0)]), [1]);
        assert_eq!(best("temporal_flickering", &[Some(0.9), Some(0.8)]), [0]);
        assert_eq!(best("motion_ratio", &[Some(1.5), Some(0.9), Some(0.5)]), [1]);
        assert!(best("motion", &[Some(1.5), Some(0.9)]).is_empty());
        // What looks equal is equal.
        assert_eq!(best("colour_drift", &[Some(10.001), Some(10.002), Some(20.0)]), [0, 1]);
        // Without a rival, or with none that is worse, nothing is best.
        assert!(best("colour_drift", &[Some(1.0), None]).is_empty());
        assert!(best("rolled_back", &[Some(0.0), Some(0.0)]).is_empty());
    }

    #[test]
    fn a_column_has_as_many_digits_as_its_largest_value_needs() {
        for (largest, text) in [(0.9876, "0.5000"), (12.0, "0.50"), (1234.0, "0"), (5.5, "0.500")] {
            assert_eq!(filled("colour_drift", &[Some(largest), Some(0.1)]).text(0.5), text);
        }
        assert_eq!(filled("colour_drift", &[Some(12.0)]).text(-0.001), "0.00");
    }
}
