//! How much attention each latent frame in the cache gets: the paper's figures 4 and 16.

use candle_core::{Device, Tensor};

use crate::{Result, cache::Slot, kernels};

/// A run of neighbouring slots whose tokens come from one latent frame: the frame, and the number of tokens.
pub type FrameRun = (u64, usize);

/// Latent frames of `slots` in order, neighbours from one frame joined.
pub fn frame_runs(slots: &[Slot]) -> Vec<FrameRun> {
    let runs = slots.chunk_by(|a, b| a.frame == b.frame);
    runs.map(|run| (run[0].frame, run.len())).collect()
}

/// Share of the attention of `queries` `[tokens, heads, head_dim]` that each run of `keys` `[slots, heads, head_dim]`
/// gets, on average over the queries: one row for each of `heads`, one number for each of `runs`; a row sums to 1.
///
/// Softmax attention over values that are 1 in their run's channel and 0 elsewhere is exactly that share, so the kernel
/// of the networks computes it, in tiles, on whatever device they run; the matrix of scores is never held. Memory is
/// needed for one head's keys and as many values.
///
/// # Errors
/// When a head does not exist or the runs are not all slots, or on a device failure.
pub fn attention_by_frame(
    queries: &Tensor,
    keys: &Tensor,
    runs: &[FrameRun],
    heads: &[usize],
) -> Result<Vec<Vec<f32>>> {
    let (tokens, _, dim) = queries.dims3()?;
    let scale = 1.0 / (dim as f64).sqrt();
    let mut shares = vec![Vec::with_capacity(runs.len()); heads.len()];
    let mut before = 0;
    // A head has room for as many runs as it has channels.
    for group in runs.chunks(dim) {
        let members = membership(group, before, keys.dim(0)?, dim)?;
        let members = members.to_device(keys.device())?.to_dtype(keys.dtype())?;
        for (head, shares) in heads.iter().zip(&mut shares) {
            let of_head = |tensor: &Tensor| tensor.narrow(1, *head, 1)?.contiguous();
            let attended = kernels::attention(&of_head(queries)?, &of_head(keys)?, &members, scale)?;
            let sums = kernels::sum_rows(&attended, 1)?.flatten_all()?;
            let sums = sums.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?;
            shares.extend(sums[..group.len()].iter().map(|sum| sum / tokens as f32));
        }
        before += group.iter().map(|(_, tokens)| tokens).sum::<usize>();
    }
    Ok(shares)
}

/// Values `[slots, 1, channels]`: 1 in channel `i` for the slots of run `i`, which follow the first `before` slots.
fn membership(runs: &[FrameRun], before: usize, slots: usize, channels: usize) -> Result<Tensor> {
    let mut values = vec![0f32; slots * channels];
    let mut at = before;
    for (channel, (_, tokens)) in runs.iter().enumerate() {
        let end = (at + tokens).min(slots);
        (at..end).for_each(|slot| values[slot * channels + channel] = 1.0);
        at = end;
    }
    Ok(Tensor::from_vec(values, (slots, 1, channels), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(shape: (usize, usize, usize)) -> Tensor {
        Tensor::randn(0f32, 1.5f32, shape, &Device::Cpu).unwrap()
    }

    /// `softmax(q·kᵀ/√d)`, summed over the run, averaged over the queries, number by number.
    fn plain(queries: &Tensor, keys: &Tensor, runs: &[FrameRun], head: usize) -> Vec<f64> {
        let rows =
            |t: &Tensor| -> Vec<Vec<f32>> { t.narrow(1, head, 1).unwrap().squeeze(1).unwrap().to_vec2().unwrap() };
        let (queries, keys) = (rows(queries), rows(keys));
        let mut shares = vec![0.0; runs.len()];
        for q in &queries {
            let dot = |k: &Vec<f32>| q.iter().zip(k).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            let weights: Vec<f64> = keys.iter().map(|k| (dot(k) / (q.len() as f64).sqrt()).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut at = 0;
            for (share, (_, tokens)) in shares.iter_mut().zip(runs) {
                *share += weights[at..at + tokens].iter().sum::<f64>() / total / queries.len() as f64;
                at += tokens;
            }
        }
        shares
    }

    #[test]
    fn equals_the_plain_formula() {
        // More runs than channels, in the last case: several passes.
        for (tokens, runs, heads, dim) in [
            (7, vec![(0, 3), (1, 3), (5, 1)], 2, 8),
            (130, vec![(0, 260), (3, 1), (4, 400), (9, 39)], 3, 16),
            (5, (0..21).map(|frame| (frame, 2)).collect(), 2, 8),
        ] {
            let slots = runs.iter().map(|(_, tokens)| tokens).sum();
            let (queries, keys) = (random((tokens, heads, dim)), random((slots, heads, dim)));
            let chosen: Vec<usize> = (0..heads).rev().collect();
            let got = attention_by_frame(&queries, &keys, &runs, &chosen).unwrap();
            for (head, got) in chosen.iter().zip(got) {
                assert!((got.iter().sum::<f32>() - 1.0).abs() < 1e-4);
                for (got, want) in got.iter().zip(plain(&queries, &keys, &runs, *head)) {
                    assert!((f64::from(*got) - want).abs() < 1e-5, "{got} {want}");
                }
            }
        }
    }

    #[test]
    fn a_head_that_does_not_exist_is_an_error() {
        assert!(attention_by_frame(&random((3, 2, 8)), &random((4, 2, 8)), &[(0, 4)], &[2]).is_err());
    }
}
