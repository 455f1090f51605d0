//! Single-head attention over the positions of each frame.

#![allow(unsafe_code)]

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use gemm::{Parallelism, gemm};
use multiversion::multiversion;
use rayon::prelude::*;

use crate::kernels::{exp, f32_slice};

/// Bytes of scores per task: tiles of queries, so that the full matrix (156 MB for 60×104 positions) never exists.
const SCORES_BUDGET: usize = 1 << 20;

/// `softmax(qᵀk / √C) v` per frame: `[frames, 3·C, height, width]` (q, k, v) to `[frames, C, height, width]`.
///
/// # Errors
/// When the shape or the device does not fit.
pub(super) fn frame_attention(qkv: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if qkv.device().is_cuda() {
        return super::cuda::frame_attention(&qkv.contiguous()?);
    }
    qkv.contiguous()?.apply_op1_no_bwd(&FrameAttention)
}

struct FrameAttention;

impl CustomOp1 for FrameAttention {
    fn name(&self) -> &'static str {
        "frame-attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (frames, channels, height, width) = layout.shape().dims4()?;
        if channels % 3 != 0 {
            bail!("attention needs queries, keys and values, got {channels} channels");
        }
        let (channels, positions) = (channels / 3, height * width);
        let qkv = f32_slice(storage, layout, self.name())?;
        let mut out = vec![0f32; frames * channels * positions];
        if !out.is_empty() {
            let fits = SCORES_BUDGET / (4 * positions);
            let tile = positions.div_ceil(2 * rayon::current_num_threads()).min(fits).max(16);
            let tiles = positions.div_ceil(tile);
            let mut tasks: Vec<Vec<&mut [f32]>> = (0..frames * tiles).map(|_| Vec::with_capacity(channels)).collect();
            for (index, plane) in out.chunks_mut(positions).enumerate() {
                for (block, slice) in plane.chunks_mut(tile).enumerate() {
                    tasks[index / channels * tiles + block].push(slice);
                }
            }
            tasks.into_par_iter().enumerate().for_each(|(index, mut out)| {
                let (frame, block) = (index / tiles, index % tiles);
                let qkv = &qkv[frame * 3 * channels * positions..(frame + 1) * 3 * channels * positions];
                attend(qkv, channels, positions, block * tile, &mut out);
            });
        }
        Ok((CpuStorage::F32(out), (frames, channels, height, width).into()))
    }
}

/// Queries from `start` on; `qkv` is `[3·channels, positions]`, `out` has a slice per channel.
fn attend(qkv: &[f32], channels: usize, positions: usize, start: usize, out: &mut [&mut [f32]]) {
    let count = out.first().map_or(0, |slice| slice.len());
    let (q, kv) = qkv.split_at(channels * positions);
    let (k, v) = kv.split_at(channels * positions);
    let q = &q[start..];
    let row = positions as isize;
    let mut scores = vec![0f32; count * positions];
    // SAFETY: q (channels × positions from `start`, of which `count` columns are read), k and scores have the sizes
    // that their strides span.
    unsafe {
        gemm(
            count,
            positions,
            channels,
            scores.as_mut_ptr(),
            1,
            row,
            false,
            q.as_ptr(),
            row,
            1,
            k.as_ptr(),
            1,
            row,
            0.0,
            1.0 / (channels as f32).sqrt(),
            false,
            false,
            false,
            Parallelism::None,
        );
    }
    let sums: Vec<f32> = scores.chunks_exact_mut(positions).map(exponentiate).collect();
    let mut mixed = vec![0f32; channels * count];
    // SAFETY: v is channels × positions, scores count × positions (read transposed), mixed channels × count.
    unsafe {
        gemm(
            channels,
            count,
            positions,
            mixed.as_mut_ptr(),
            1,
            count as isize,
            false,
            v.as_ptr(),
            1,
            row,
            scores.as_ptr(),
            row,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
    for (out, mixed) in out.iter_mut().zip(mixed.chunks_exact(count)) {
        for ((out, mixed), sum) in out.iter_mut().zip(mixed).zip(&sums) {
            *out = mixed / sum;
        }
    }
}

/// `row ← exp(row − max)`; returns the sum.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn exponentiate(row: &mut [f32]) -> f32 {
    const LANES: usize = 16;
    let mut largest = [f32::NEG_INFINITY; LANES];
    for chunk in row.chunks(LANES) {
        for (largest, &v) in largest.iter_mut().zip(chunk) {
            *largest = if v > *largest { v } else { *largest };
        }
    }
    let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = [0f32; LANES];
    for chunk in row.chunks_mut(LANES) {
        for (sum, v) in sum.iter_mut().zip(chunk) {
            *v = exp(*v - largest);
            *sum += *v;
        }
    }
    sum.iter().sum()
}
