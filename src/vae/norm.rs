//! The Wan VAE's norm over channels, with SiLU in the same pass.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;

use crate::{
    checkpoint::{CheckpointError, Weights},
    kernels::{exp, f32_slice, f32_tensor_slice},
};

/// As errors call the operation.
const NAME: &str = "channel-norm";

/// Positions handled together; their values of all channels stay in the first-level cache for narrow layers.
const POSITIONS: usize = 256;

/// `x / max(‖x‖₂, 1e-12) · √C · gamma` over the channels at each position of `[frames, C, height, width]`.
#[derive(Debug)]
pub struct ChannelNorm {
    gamma: Tensor,
    silu: bool,
}

impl ChannelNorm {
    /// `gamma` is stored `[C, 1, …]` with `ones` trailing ones; `silu` applies SiLU afterwards.
    ///
    /// # Errors
    /// When `gamma` is missing or has another shape.
    pub fn new(weights: Weights, channels: usize, ones: usize, silu: bool) -> Result<Self, CheckpointError> {
        let mut stored = vec![channels];
        stored.resize(1 + ones, 1);
        let gamma = weights.get_as(stored, "gamma", [channels])?;
        Ok(Self { gamma, silu })
    }

    /// Same shape as `x`.
    ///
    /// # Errors
    /// When the shape or the device does not fit.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.contiguous()?.apply_op1_no_bwd(self)
    }
}

impl CustomOp1 for ChannelNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, channels, height, width) = layout.shape().dims4()?;
        let plane = height * width;
        if self.gamma.dims() != [channels] {
            candle_core::bail!("norm over {:?} channels was given {channels}", self.gamma.dims());
        }
        let (gamma, gamma_layout) = self.gamma.storage_and_layout();
        let gamma = f32_tensor_slice(&gamma, gamma_layout, NAME)?;
        let x = f32_slice(storage, layout, NAME)?;
        let mut out = vec![0f32; x.len()];
        if plane > 0 {
            let blocks = plane.div_ceil(POSITIONS);
            let mut tasks: Vec<Vec<&mut [f32]>> = (0..x.len() / channels.max(1) / plane * blocks)
                .map(|_| Vec::with_capacity(channels))
                .collect();
            for (index, out_plane) in out.chunks_mut(plane).enumerate() {
                for (block, slice) in out_plane.chunks_mut(POSITIONS).enumerate() {
                    tasks[index / channels * blocks + block].push(slice);
                }
            }
            tasks.into_par_iter().enumerate().for_each(|(index, mut out)| {
                let (frame, block) = (index / blocks, index % blocks);
                let x = &x[frame * channels * plane..(frame + 1) * channels * plane];
                normalise(x, plane, block * POSITIONS, gamma, self.silu, &mut out);
            });
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        if self.gamma.dims() != [layout.shape().dims4()?.1] {
            candle_core::bail!(
                "norm over {:?} channels was given {:?}",
                self.gamma.dims(),
                layout.dims()
            );
        }
        super::cuda::channel_norm(storage, layout, &self.gamma, self.silu)
    }
}

/// One block of positions from `start` of a frame `[channels, plane]`; `out` has a slice per channel.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn normalise(x: &[f32], plane: usize, start: usize, gamma: &[f32], silu: bool, out: &mut [&mut [f32]]) {
    let count = out.first().map_or(0, |slice| slice.len());
    let mut scale = [0f32; POSITIONS];
    let scale = &mut scale[..count];
    for channel in x.chunks_exact(plane) {
        for (sum, v) in scale.iter_mut().zip(&channel[start..start + count]) {
            *sum += v * v;
        }
    }
    let root = (gamma.len() as f32).sqrt();
    for sum in scale.iter_mut() {
        *sum = root / sum.sqrt().max(1e-12);
    }
    for ((out, channel), &gamma) in out.iter_mut().zip(x.chunks_exact(plane)).zip(gamma) {
        let x = &channel[start..start + count];
        for ((out, v), scale) in out.iter_mut().zip(x).zip(scale.iter()) {
            let v = v * scale * gamma;
            *out = if silu { v / (1.0 + exp(-v)) } else { v };
        }
    }
}
