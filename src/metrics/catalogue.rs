//! The metrics by name: formula, unit and source, as the program prints them.

use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// What is measured, and how. Read back by its key alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Metric {
    /// Short name for files.
    pub key: &'static str,
    /// Name for people.
    pub name: &'static str,
    pub unit: &'static str,
    pub formula: &'static str,
    /// Who defined it.
    pub source: &'static str,
    /// What [`Measured::change`](super::Measured::change) is.
    pub change: Change,
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Stored {
            key: String,
        }
        let Stored { key } = Stored::deserialize(deserializer)?;
        let known = METRICS.into_iter().find(|metric| metric.key == key);
        known.ok_or_else(|| D::Error::custom(format_args!("there is no metric `{key}`")))
    }
}

/// How the last five seconds are set against the first five.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Last over first.
    Ratio,
    /// Last less first.
    Difference,
    /// How far the last five seconds are from the first five, by the metric itself.
    Distance,
    /// There is none.
    None,
}

const OURS: &str = "deepforcing; no published definition";

/// VBench's temporal flickering.
pub const TEMPORAL_FLICKERING: Metric = Metric {
    key: "temporal_flickering",
    name: "VBench temporal flickering",
    unit: "score, 1 = still",
    formula: "(255 - mean over adjacent pictures of the mean |difference| of all pixels and channels) / 255",
    source: "VBench, vbench/temporal_flickering.py, exact; the published scores leave out videos that move, judged by RAFT",
    change: Change::Difference,
};

/// Distance of the mean colour from that of the first seconds.
pub const COLOUR_DRIFT: Metric = Metric {
    key: "colour_drift",
    name: "colour drift",
    unit: "CIE76 ΔE*ab",
    formula: "distance of a second's mean CIELAB colour (D65) from that of the first five seconds; whole: mean of the \
              seconds; change: last five seconds from the first five",
    source: OURS,
    change: Change::Distance,
};

/// Slope of [`COLOUR_DRIFT`].
pub const COLOUR_DRIFT_SLOPE: Metric = Metric {
    key: "colour_drift_slope",
    name: "colour drift slope",
    unit: "CIE76 ΔE*ab per minute",
    formula: "slope of the least-squares line through the colour drift of the seconds at their middles, weighted by \
              their pictures",
    source: OURS,
    change: Change::None,
};

/// Mean lightness.
pub const BRIGHTNESS: Metric = Metric {
    key: "brightness",
    name: "brightness",
    unit: "L*, 0 to 100",
    formula: "mean CIELAB L*",
    source: "CIE 1976",
    change: Change::Ratio,
};

/// Spread of lightness.
pub const CONTRAST: Metric = Metric {
    key: "contrast",
    name: "contrast",
    unit: "L*",
    formula: "standard deviation of L* over the pixels of a picture",
    source: "root-mean-square contrast (Peli 1990), of CIELAB L*",
    change: Change::Ratio,
};

/// Mean chroma.
pub const SATURATION: Metric = Metric {
    key: "saturation",
    name: "saturation",
    unit: "C*ab",
    formula: "mean CIELAB chroma sqrt(a*² + b*²) over the pixels of a picture",
    source: "CIE 1976",
    change: Change::Ratio,
};

/// Variance of the Laplacian.
pub const SHARPNESS: Metric = Metric {
    key: "sharpness",
    name: "sharpness",
    unit: "grey levels²",
    formula: "variance of 4c - left - right - above - below over the inner pixels of BT.709 luma",
    source: "Pech-Pacheco et al. 2000; kernel of OpenCV's Laplacian",
    change: Change::Ratio,
};

/// Distance of the luma histogram from that of the first seconds.
pub const LUMA_HISTOGRAM_DISTANCE: Metric = Metric {
    key: "luma_histogram_distance",
    name: "luma histogram distance",
    unit: "grey levels",
    formula: "earth mover's distance of a second's histogram of BT.709 luma (256 levels) from that of the first five \
              seconds; whole: mean of the seconds; change: last five seconds from the first five",
    source: "Rubner et al. 2000; the choice of seconds is ours",
    change: Change::Distance,
};

/// Mean motion by block matching.
pub const MOTION: Metric = Metric {
    key: "motion",
    name: "block-matching motion",
    unit: "pixels per picture",
    formula: "mean length of the motion of 8×8 squares of luma since the picture before, by hierarchical block matching \
              with a fit between pixels",
    source: "deepforcing; no optical flow, and no stand-in for VBench's dynamic degree, which is defined by RAFT",
    change: Change::Ratio,
};

/// Largest motions against all.
pub const SEAM_DISCONTINUITY: Metric = Metric {
    key: "seam_discontinuity",
    name: "chunk-seam discontinuity",
    unit: "ratio, 1 = even",
    formula: "mean of the K largest block-matching motions over the mean of all, K = number of seams between chunks",
    source: "form of Forcing-KV's optical_difference.py, by block matching instead of neural flow",
    change: Change::Difference,
};

/// Likeness to the sink.
pub const SINK_SIMILARITY: Metric = Metric {
    key: "sink_similarity",
    name: "similarity to the sink",
    unit: "0 to 1",
    formula: "1 - d/255, d = root mean square difference of 8×8 RGB thumbnails of a picture and the nearest one of the \
              sink that is 2 s older at least; mean over pictures",
    source: OURS,
    change: Change::Difference,
};

/// Likeness to all that was.
pub const EARLIER_SIMILARITY: Metric = Metric {
    key: "earlier_similarity",
    name: "similarity to earlier",
    unit: "0 to 1",
    formula: "the same to the nearest of all pictures kept: the sink, and four a second of the last two minutes",
    source: OURS,
    change: Change::Difference,
};

/// How much of the video is a return.
pub const ROLLED_BACK: Metric = Metric {
    key: "rolled_back",
    name: "rolled back",
    unit: "share of pictures",
    formula: "pictures in stretches of a chunk or more whose d to one that is 2 s older at least is a quarter or less of \
              the largest d to it in between, where half of the thumbnail had changed at once by 8 grey levels, and \
              that begin by a jump (from half of that d on, 1.5 times the steps of the second before) or a fade (within 3 \
              s, its halfway picture 0.15 of that d or more from all that was shown before): no motion to and fro",
    source: "deepforcing, for what LoL (arXiv 2601.16914) describes as sink-collapse; the formula is ours",
    change: Change::Difference,
};

/// Every metric, in the order of reports.
pub const METRICS: [Metric; 13] = [
    TEMPORAL_FLICKERING,
    COLOUR_DRIFT,
    COLOUR_DRIFT_SLOPE,
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
    SHARPNESS,
    LUMA_HISTOGRAM_DISTANCE,
    MOTION,
    SEAM_DISCONTINUITY,
    SINK_SIMILARITY,
    EARLIER_SIMILARITY,
    ROLLED_BACK,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_metric_is_described_and_only_the_exact_one_has_the_name_of_vbench() {
        let keys: HashSet<_> = METRICS.iter().map(|metric| metric.key).collect();
        assert_eq!(keys.len(), METRICS.len());
        for metric in METRICS {
            for text in [metric.name, metric.unit, metric.formula, metric.source] {
                assert!(!text.is_empty() && !text.contains("  "), "{}: `{text}`", metric.key);
            }
            assert_eq!(metric.name.contains("VBench"), metric.key == TEMPORAL_FLICKERING.key);
        }
    }
}
