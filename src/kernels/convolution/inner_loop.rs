//! The inner loop of the convolution: blocks of sums in registers, over all input channels and taps.

#![allow(unsafe_code)]

use multiversion::multiversion;

/// Output channels whose weights are stored side by side.
pub(super) const LANE: usize = 8;
/// Output positions per step of the inner loop; tiles are padded to a multiple of it.
pub(super) const STEP: usize = 48;

/// `sums[channel, p] += Σ weight[input, tap, channel] · input[input, p + offsets[tap]]` for taps from `first_tap` on.
///
/// `weight` is `[input, tap, 8]`, `input` has `stride` values per channel, `sums` is 8 rows of a multiple of [`STEP`]
/// positions, of which only the first `count` are needed.
pub(super) fn multiply_add(
    weight: &[f32],
    input: &[f32],
    stride: usize,
    offsets: &[usize],
    first_tap: usize,
    sums: &mut [f32],
    count: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512.
        unsafe {
            match count {
                0..=4 => avx512::multiply_add::<4>(weight, input, stride, offsets, first_tap, sums),
                _ => avx512::multiply_add::<LANE>(weight, input, stride, offsets, first_tap, sums),
            }
        }
        return;
    }
    multiply_add_portable(weight, input, stride, offsets, first_tap, sums, count);
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn multiply_add_portable(
    weight: &[f32],
    input: &[f32],
    stride: usize,
    offsets: &[usize],
    first_tap: usize,
    sums: &mut [f32],
    count: usize,
) {
    use multiversion::target::target_cfg_f;
    // The block of sums must fit 16 registers, of 8 or 4 values.
    for first in (0..count).step_by(4) {
        if target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64")) {
            block::<true, 4, 16>(weight, input, stride, offsets, first_tap, sums, first);
        } else {
            block::<false, 4, 8>(weight, input, stride, offsets, first_tap, sums, first);
        }
    }
}

/// [`multiply_add`] for output channels `first..first + CHANNELS`.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn block<const FUSED: bool, const CHANNELS: usize, const WIDTH: usize>(
    weight: &[f32],
    input: &[f32],
    stride: usize,
    offsets: &[usize],
    first_tap: usize,
    sums: &mut [f32],
    first: usize,
) {
    let positions = sums.len() / LANE;
    let weights = weight.chunks_exact(offsets.len() * LANE);
    for at in (0..positions).step_by(WIDTH) {
        let mut sum = [[0f32; WIDTH]; CHANNELS];
        for (c, sum) in sum.iter_mut().enumerate() {
            sum.copy_from_slice(&sums[(first + c) * positions + at..][..WIDTH]);
        }
        for (weight, input) in weights.clone().zip(input.chunks(stride)) {
            for (weight, &offset) in weight.chunks_exact(LANE).zip(offsets).skip(first_tap) {
                let (weight, input) = (&weight[first..][..CHANNELS], &input[at + offset..][..WIDTH]);
                for c in 0..CHANNELS {
                    for p in 0..WIDTH {
                        sum[c][p] = match FUSED {
                            true => weight[c].mul_add(input[p], sum[c][p]),
                            false => weight[c] * input[p] + sum[c][p],
                        };
                    }
                }
            }
        }
        for (c, sum) in sum.iter().enumerate() {
            sums[(first + c) * positions + at..][..WIDTH].copy_from_slice(sum);
        }
    }
}

/// The inner loop by hand: left to itself, the compiler splits the vectors and loses half of the speed.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps};

    use super::{LANE, STEP};

    /// [`super::multiply_add`] for the first `CHANNELS` of the eight output channels.
    #[target_feature(enable = "avx512f")]
    // Indices of constant range unroll into registers.
    #[allow(clippy::needless_range_loop)]
    pub(super) fn multiply_add<const CHANNELS: usize>(
        weight: &[f32],
        input: &[f32],
        stride: usize,
        offsets: &[usize],
        first_tap: usize,
        sums: &mut [f32],
    ) {
        let positions = sums.len() / LANE;
        let channels = weight.len() / (offsets.len() * LANE);
        let reach = offsets.iter().max().map_or(0, |offset| offset + positions);
        assert!(CHANNELS <= LANE && positions.is_multiple_of(STEP) && first_tap <= offsets.len());
        assert!(
            channels == 0 || (channels - 1) * stride + reach <= input.len(),
            "the packed input is too short"
        );
        for at in (0..positions).step_by(STEP) {
            // SAFETY: rows of `sums` have `positions` values and at + STEP ≤ positions; the assertions bound
            // every read of `input`; `weight` has LANE values for each of its channels and taps.
            unsafe {
                let mut sum = [[_mm512_setzero_ps(); 3]; CHANNELS];
                let row = |c: usize, v: usize| c * positions + at + 16 * v;
                for c in 0..CHANNELS {
                    for v in 0..3 {
                        sum[c][v] = _mm512_loadu_ps(sums.as_ptr().add(row(c, v)));
                    }
                }
                for channel in 0..channels {
                    let from = input.as_ptr().add(channel * stride + at);
                    let mut weight = weight.as_ptr().add((channel * offsets.len() + first_tap) * LANE);
                    for &offset in &offsets[first_tap..] {
                        let from = from.add(offset);
                        let x = [
                            _mm512_loadu_ps(from),
                            _mm512_loadu_ps(from.add(16)),
                            _mm512_loadu_ps(from.add(32)),
                        ];
                        for c in 0..CHANNELS {
                            let w = _mm512_set1_ps(*weight.add(c));
                            for v in 0..3 {
                                sum[c][v] = _mm512_fmadd_ps(w, x[v], sum[c][v]);
                            }
                        }
                        weight = weight.add(LANE);
                    }
                }
                for c in 0..CHANNELS {
                    for v in 0..3 {
                        _mm512_storeu_ps(sums.as_mut_ptr().add(row(c, v)), sum[c][v]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_inner_loops_agree() {
        let values = |count: usize, step: usize| (0..count).map(|i| (i * step % 101) as f32 / 50.0 - 1.0).collect();
        let (channels, stride, positions) = (5, 160, 2 * STEP);
        let offsets = [0, 1, 2, 20, 21, 22];
        let weight: Vec<f32> = values(channels * offsets.len() * LANE, 37);
        let input: Vec<f32> = values(channels * stride, 53);
        for first_tap in [0, 3] {
            for count in [3, 4, 5, 8] {
                let mut got: Vec<f32> = values(LANE * positions, 29);
                let mut portable = got.clone();
                multiply_add(&weight, &input, stride, &offsets, first_tap, &mut got, count);
                multiply_add_portable(&weight, &input, stride, &offsets, first_tap, &mut portable, count);
                for (got, want) in got.iter().zip(&portable).take(count * positions) {
                    assert!((got - want).abs() < 1e-5, "{got} instead of {want}");
                }
            }
        }
    }
}
