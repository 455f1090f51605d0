//! Participative Compression: how strongly recent queries take part in each candidate, and which candidates stay.
//!
//! The score of token `j` is `Σ_r Σ_heads q_r·k_j / (√head_dim · heads)` over the recent queries `r`, without softmax
//! (docs/algorithms/deep_forcing.md section 2). It is linear in the queries, so only their sum per frame is kept
//! (docs/algorithms/kv_cache.md section 4).

use std::collections::VecDeque;

use candle_core::{Result, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};

use super::plan::Slot;
use crate::kernels;

/// Sums of rotated queries, one `[heads·head_dim]` row per latent frame of each pass, newest last.
#[derive(Default)]
pub struct QuerySums {
    frames: VecDeque<Tensor>,
}

impl QuerySums {
    /// Sums of the queries `[frames·per_frame, heads, head_dim]` of a pass: one tensor per latent frame.
    ///
    /// # Errors
    /// When the queries are not whole frames, or on a device failure.
    pub fn of_pass(queries: &Tensor, frames: usize) -> Result<Vec<Tensor>> {
        let sums = kernels::sum_rows(queries, frames)?;
        (0..frames).map(|frame| sums.get(frame)).collect()
    }

    /// Adds a pass and forgets all but the last `recent` frames.
    pub fn push(&mut self, pass: Vec<Tensor>, recent: usize) {
        self.frames.extend(pass);
        while self.frames.len() > recent {
            self.frames.pop_front();
        }
    }

    /// The sums that are kept, newest last.
    pub(super) fn frames(&self) -> impl Iterator<Item = &Tensor> {
        self.frames.iter()
    }

    /// Takes `frames` in place of the sums that are kept.
    pub(super) fn replace(&mut self, frames: VecDeque<Tensor>) {
        self.frames = frames;
    }

    /// Sum over the frames that are kept; `None` before the first pass.
    ///
    /// # Errors
    /// On a device failure.
    pub fn total(&self) -> Result<Option<Tensor>> {
        sum(self.frames.iter())
    }
}

/// Sum of equally shaped tensors.
///
/// # Errors
/// When shapes differ, or on a device failure.
pub fn sum<'a>(mut tensors: impl Iterator<Item = &'a Tensor>) -> Result<Option<Tensor>> {
    let Some(first) = tensors.next() else {
        return Ok(None);
    };
    tensors.try_fold(first.clone(), |total, t| total + t).map(Some)
}

/// Scores of keys `[tokens, heads, head_dim]` (rotated) against a sum of queries `[heads·head_dim]`, on their device:
/// `[tokens]` in f32.
///
/// # Errors
/// When the widths differ, or on a device failure.
pub fn scores(keys: &Tensor, queries: &Tensor) -> Result<Tensor> {
    let (_, heads, dim) = keys.dims3()?;
    kernels::token_scores(keys, queries, 1.0 / ((dim as f64).sqrt() * heads as f64))
}

/// Standard normal numbers in place of scores, the same for the same seed, layer and chunk.
pub fn random_scores(count: usize, seed: u64, layer: usize, chunk_start: u64) -> Vec<f32> {
    let mut generator = ChaCha12Rng::seed_from_u64(seed ^ 0x5c0e_5eed);
    generator.set_stream(chunk_start.wrapping_mul(1 << 16).wrapping_add(layer as u64));
    (0..count).map(|_| StandardNormal.sample(&mut generator)).collect()
}

/// Indices of the `count` best-scored slots among those chosen fewer than `reuse_limit` times (0: no limit), ascending.
/// Equal scores go to the older token. `first` is the index of the first candidate.
pub fn choose(scores: &[f32], candidates: &[Slot], first: usize, count: usize, reuse_limit: u32) -> Vec<usize> {
    let eligible = |i: usize| reuse_limit == 0 || candidates[i].reuses < reuse_limit;
    let best = kernels::best(scores, eligible, count);
    best.into_iter().map(|i| first + i).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn slot(reuses: u32) -> Slot {
        Slot {
            reuses,
            ..Slot::of_frame(0, 0, 0)
        }
    }

    #[test]
    fn the_best_are_chosen_in_cache_order() {
        let slots = [slot(0); 5];
        assert_eq!(choose(&[1.0, 5.0, 3.0, 5.0, 0.0], &slots, 10, 3, 7), [11, 12, 13]);
        assert_eq!(choose(&[2.0; 5], &slots, 0, 2, 7), [0, 1], "ties go to the older");
    }

    #[test]
    fn a_token_that_was_chosen_often_enough_is_left_out() {
        let slots = [slot(0), slot(2), slot(1)];
        assert_eq!(choose(&[1.0, 9.0, 5.0], &slots, 0, 2, 2), [0, 2]);
        assert_eq!(choose(&[1.0, 9.0, 5.0], &slots, 0, 1, 0), [1], "0 is no limit");
        assert_eq!(
            choose(&[1.0, 9.0, 5.0], &slots, 0, 3, 1),
            [0],
            "fewer are kept when fewer remain"
        );
    }

    #[test]
    fn the_sum_of_queries_scores_like_the_queries_one_by_one() -> Result<()> {
        let q = Tensor::randn(0f32, 1f32, (6, 2, 4), &Device::Cpu)?;
        let k = Tensor::randn(0f32, 1f32, (5, 2, 4), &Device::Cpu)?;
        let mut sums = QuerySums::default();
        sums.push(QuerySums::of_pass(&q, 3)?, 2);
        let total = sums.total()?.unwrap();
        let flat = |t: &Tensor| t.flatten_from(1);
        let recent = q.narrow(0, 2, 4)?;
        let want = (flat(&k)?.matmul(&flat(&recent)?.t()?)?.sum(1)? * (1.0 / (2.0 * 2.0)))?.to_vec1::<f32>()?;
        for (got, want) in scores(&k, &total)?.to_vec1::<f32>()?.iter().zip(want) {
            assert!((got - want).abs() < 1e-5);
        }
        Ok(())
    }

    #[test]
    fn random_scores_repeat() {
        assert_eq!(random_scores(8, 1, 2, 3), random_scores(8, 1, 2, 3));
        assert_ne!(random_scores(8, 1, 2, 3), random_scores(8, 1, 3, 3));
    }
}
