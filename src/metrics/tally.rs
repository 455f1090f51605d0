//! What was measured of one picture, and means over several.

use super::{
    colour::{Colour, Lab},
    luma::Histogram,
    repetition::Echo,
};

/// What was measured of one picture.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub colour: Colour,
    pub sharpness: Option<f64>,
    pub histogram: Histogram,
    pub echo: Echo,
    /// Beside the picture before.
    pub pair: Option<Pair>,
}

/// What was measured of two adjacent pictures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    /// Mean absolute difference in grey levels.
    pub difference: f64,
    /// Mean motion in pixels.
    pub motion: Option<f64>,
}

/// A mean that grows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn add_some(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.add(value);
        }
    }

    pub fn get(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// Means over pictures.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub pictures: u64,
    pub lab: [Mean; 3],
    pub contrast: Mean,
    pub saturation: Mean,
    pub sharpness: Mean,
    pub histogram: Histogram,
    pub sink_similarity: Mean,
    pub earlier_similarity: Mean,
    pub difference: Mean,
    pub motion: Mean,
}

impl Tally {
    pub fn empty() -> Self {
        let mean = Mean::default();
        Self {
            pictures: 0,
            lab: [mean; 3],
            contrast: mean,
            saturation: mean,
            sharpness: mean,
            histogram: Histogram::empty(),
            sink_similarity: mean,
            earlier_similarity: mean,
            difference: mean,
            motion: mean,
        }
    }

    pub fn add(&mut self, facts: &Facts) {
        self.add_picture(facts);
        self.add_pair(facts);
    }

    /// Adds what does not concern the picture before.
    pub fn add_picture(&mut self, facts: &Facts) {
        self.pictures += 1;
        for (mean, value) in self.lab.iter_mut().zip(facts.colour.mean) {
            mean.add(value);
        }
        self.contrast.add(facts.colour.contrast);
        self.saturation.add(facts.colour.saturation);
        self.sharpness.add_some(facts.sharpness);
        self.histogram.add(&facts.histogram);
        let echo = facts.echo;
        self.sink_similarity.add_some(echo.sink);
        self.earlier_similarity.add_some(echo.earlier);
    }

    fn add_pair(&mut self, facts: &Facts) {
        if let Some(pair) = facts.pair {
            self.difference.add(pair.difference);
            self.motion.add_some(pair.motion);
        }
    }

    pub fn colour(&self) -> Lab {
        self.lab.map(|mean| mean.get().unwrap_or(0.0))
    }
}
