//! Rotation with a temporal base of its own for every head (docs/algorithms/policies.md section 5).

use std::{cell::RefCell, collections::HashMap};

use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::{
    KvCache,
    knobs::{Draw, Jitter},
    rope::{Angles, Rope, TokenPosition},
};
use crate::{Error, Result};

/// The base that all heads have otherwise.
const BASE: f64 = 10000.0;
/// Keeps the draw apart from noise of the same seed.
const STREAM: u64 = 0x6a17_7e12;

/// Temporal frequencies of the heads.
pub(super) struct HeadBases {
    sigma: f64,
    /// Of each layer, or one for all: the frequencies of each head, one after the other.
    frequencies: Vec<Vec<f64>>,
    heads: usize,
    layers: usize,
    /// Angles that were asked for last, where all layers share them.
    last: RefCell<Option<(Vec<TokenPosition>, Angles)>>,
}

impl HeadBases {
    /// Draws the bases of a video from its seed.
    pub(super) fn draw(jitter: Jitter, layers: usize, heads: usize, rope: &Rope, seed: u64) -> Self {
        let mut generator = ChaCha12Rng::seed_from_u64(seed ^ STREAM);
        let rows = match jitter.draw {
            Draw::Shared => 1,
            Draw::PerLayer => layers,
        };
        let mut row = |_| (0..heads).map(|_| generator.random_range(-1.0..=1.0)).collect();
        let draws: Vec<Vec<f64>> = (0..rows).map(&mut row).collect();
        Self::of(jitter.sigma.get(), &draws, layers, rope)
    }

    fn of(sigma: f64, draws: &[Vec<f64>], layers: usize, rope: &Rope) -> Self {
        let pairs = rope.pairs()[0];
        let of_head = |draw: &f64| {
            let base = BASE * (1.0 + sigma * draw);
            (0..pairs).map(move |i| base.powf(-(i as f64) / pairs as f64))
        };
        Self {
            sigma,
            frequencies: draws.iter().map(|row| row.iter().flat_map(of_head).collect()).collect(),
            heads: draws.first().map_or(0, Vec::len),
            layers,
            last: RefCell::new(None),
        }
    }

    /// The same with other draws: those of each layer, or one for all, each of all heads.
    ///
    /// # Errors
    /// When there are not as many as layers and heads.
    pub(super) fn with_draws(&self, draws: &[Vec<f64>], rope: &Rope) -> Result<Self> {
        let rows = draws.len() == 1 || draws.len() == self.layers;
        if !rows || draws.iter().any(|row| row.len() != self.heads) {
            return Err(Error::HeadDraws {
                layers: self.layers,
                heads: self.heads,
            });
        }
        Ok(Self::of(self.sigma, draws, self.layers, rope))
    }

    /// Angles of tokens, `[tokens, heads, head_dim/2]`.
    pub(super) fn angles(
        &self,
        rope: &Rope,
        layer: usize,
        positions: impl Iterator<Item = TokenPosition>,
        device: &Device,
    ) -> Result<Angles> {
        let positions: Vec<TokenPosition> = positions.collect();
        let shared = self.frequencies.len() == 1;
        if let Some((known, angles)) = &*self.last.borrow()
            && shared
            && *known == positions
        {
            return Ok(angles.clone());
        }
        let frequencies = &self.frequencies[if shared { 0 } else { layer }];
        let angles = self.compute(rope, frequencies, &positions, device)?;
        if shared {
            *self.last.borrow_mut() = Some((positions, angles.clone()));
        }
        Ok(angles)
    }

    /// Times are few: their angles are computed once each and spread over the tokens on the device.
    fn compute(
        &self,
        rope: &Rope,
        frequencies: &[f64],
        positions: &[TokenPosition],
        device: &Device,
    ) -> Result<Angles> {
        let (mut places, mut times, mut which) = (HashMap::new(), Vec::new(), Vec::with_capacity(positions.len()));
        for position in positions {
            let place = *places.entry(position.time).or_insert_with(|| {
                times.push(position.time);
                times.len() as u32 - 1
            });
            which.push(place);
        }
        let of_times: Vec<(f64, f64)> = times
            .iter()
            .flat_map(|time| frequencies.iter().map(|f| (*time as f64 * f).sin_cos()))
            .collect();
        let which = Tensor::from_vec(which, positions.len(), device)?;
        let plain = rope.angles(positions.iter().copied(), device)?;
        let [pairs, ..] = rope.pairs();
        let spread = |plain: &Tensor, of_times: Vec<f32>| -> Result<Tensor> {
            let table = Tensor::from_vec(of_times, (times.len(), self.heads * pairs), device)?;
            let time = table.index_select(&which, 0)?;
            let time = time.reshape((positions.len(), self.heads, pairs))?;
            let rest = plain.dim(1)? - pairs;
            let space = plain.narrow(1, pairs, rest)?.unsqueeze(1)?;
            let space = space.broadcast_as((positions.len(), self.heads, rest))?;
            Ok(Tensor::cat(&[time, space.contiguous()?], 2)?)
        };
        Ok(Angles {
            cos: spread(&plain.cos, of_times.iter().map(|(_, cos)| *cos as f32).collect())?,
            sin: spread(&plain.sin, of_times.iter().map(|(sin, _)| *sin as f32).collect())?,
        })
    }
}

impl KvCache {
    /// Takes `draws` from −1 to 1 in place of those of the seed for the temporal bases of the heads: one for each head, in
    /// one row for all layers or a row for each layer.
    ///
    /// # Errors
    /// When they are not as many, or all heads have the same base.
    pub fn set_head_draws(&mut self, draws: &[Vec<f64>]) -> Result<()> {
        let Some(bases) = &self.bases else {
            let (layers, heads) = (self.shape.layers, self.shape.heads);
            return Err(Error::HeadDraws { layers, heads });
        };
        self.bases = Some(bases.with_draws(draws, &self.rope)?);
        Ok(())
    }

    /// Rotation of the tokens of a layer's input at `places` where heads have temporal bases of their own; `None` where
    /// they have one base.
    ///
    /// # Errors
    /// On a device failure.
    pub fn head_angles(&self, layer: usize, places: impl Iterator<Item = i64>) -> Result<Option<Angles>> {
        let (Some(bases), Some(first)) = (&self.bases, self.layers.first()) else {
            return Ok(None);
        };
        let (rows, columns) = (self.shape.rows as u32, self.shape.columns as u32);
        let cells = move |time| {
            (0..rows).flat_map(move |row| (0..columns).map(move |column| TokenPosition { time, row, column }))
        };
        let positions = places.flat_map(cells);
        bases.angles(&self.rope, layer, positions, first.raw.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::share::Share;

    fn positions() -> impl Iterator<Item = TokenPosition> {
        (0..6).map(|i| TokenPosition {
            time: 3 * i / 2,
            row: i as u32 % 2,
            column: i as u32,
        })
    }

    #[test]
    fn without_spread_all_heads_rotate_alike() {
        let rope = Rope::new(32);
        let jitter = |sigma| Jitter {
            sigma: Share::thousandths(sigma),
            draw: Draw::PerLayer,
        };
        let plain = rope.angles(positions(), &Device::Cpu).unwrap();
        let still = HeadBases::draw(jitter(0), 2, 3, &rope, 7);
        let of = |bases: &HeadBases, layer| bases.angles(&rope, layer, positions(), &Device::Cpu).unwrap().cos;
        for head in 0..3 {
            let of_head = of(&still, 1).narrow(1, head, 1).unwrap().squeeze(1).unwrap();
            let differs = (of_head - &plain.cos).unwrap().abs().unwrap().max_all().unwrap();
            assert!(differs.to_scalar::<f32>().unwrap() < 1e-6);
        }
        let spread = HeadBases::draw(jitter(800), 2, 3, &rope, 7);
        let same = |a: &Tensor, b: &Tensor| {
            (a - b)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        assert!(same(&of(&spread, 0), &of(&spread, 1)) > 1e-3, "layers differ");
        let again = HeadBases::draw(jitter(800), 2, 3, &rope, 7);
        assert_eq!(same(&of(&spread, 1), &of(&again, 1)), 0.0, "same seed, same bases");
        assert!(spread.with_draws(&[vec![0.0; 2]], &rope).is_err());
        assert!(spread.with_draws(&[vec![0.0; 3]], &rope).is_ok());
    }
}
