//! Per-frame modulation of tokens: scale and shift after a norm, gate before a residual sum.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};
use multiversion::multiversion;

#[cfg(feature = "cuda")]
use super::{cuda, launch};
use super::{f32_slice, for_rows};

/// `LayerNorm(x)·(1 + scale) + shift`, the norm without parameters of its own.
///
/// `x` is `[tokens, dim]`; `scale` and `shift` are `[frames, dim]`, each row for `tokens/frames` tokens in order.
/// `eps` is added to the variance.
///
/// # Errors
/// When shapes disagree.
pub fn modulated_norm(x: &Tensor, scale: &Tensor, shift: &Tensor, eps: f64) -> Result<Tensor> {
    x.apply_op3_no_bwd(scale, shift, &ModulatedNorm { eps: eps as f32 })
}

/// `x + gate·y`: `x` and `y` are `[tokens, dim]`, `gate` is `[frames, dim]`, each row for `tokens/frames` tokens.
///
/// # Errors
/// When shapes disagree.
pub fn gated_residual(x: &Tensor, y: &Tensor, gate: &Tensor) -> Result<Tensor> {
    x.apply_op3_no_bwd(y, gate, &GatedResidual)
}

struct ModulatedNorm {
    eps: f32,
}

struct GatedResidual;

/// Tokens that share a row of `rows`, when the sizes go together.
fn tokens_per_row(tokens: &Layout, rows: &Layout) -> Result<usize> {
    let (count, dim) = tokens.shape().dims2()?;
    let (frames, row_dim) = rows.shape().dims2()?;
    if frames == 0 || count % frames != 0 || row_dim != dim {
        bail!("modulation {:?} does not fit tokens {:?}", rows.dims(), tokens.dims());
    }
    Ok(count / frames)
}

impl CustomOp3 for ModulatedNorm {
    fn name(&self) -> &'static str {
        "modulated_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
        shift: &CpuStorage,
        shift_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shared = tokens_per_row(x_layout, scale_layout)?;
        tokens_per_row(x_layout, shift_layout)?;
        let (tokens, dim) = x_layout.shape().dims2()?;
        let x = f32_slice(x, x_layout, self.name())?;
        let scale = f32_slice(scale, scale_layout, self.name())?;
        let shift = f32_slice(shift, shift_layout, self.name())?;
        let mut out = vec![0f32; tokens * dim];
        for_rows(&mut out, dim, |token, out| {
            let row = token / shared * dim;
            let x = &x[token * dim..][..dim];
            normalise(out, x, &scale[row..][..dim], &shift[row..][..dim], self.eps);
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        scale: &CudaStorage,
        scale_layout: &Layout,
        shift: &CudaStorage,
        shift_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let sizes = token_sizes(x_layout, scale_layout)?;
        tokens_per_row(x_layout, shift_layout)?;
        let tensors = [(x, x_layout), (scale, scale_layout), (shift, shift_layout)];
        let (inputs, element) = cuda::alike(self.name(), tensors)?;
        cuda::produce(x, x.dtype(), x_layout.shape(), |out| {
            launch::modulated_norm(element, out, inputs, sizes, self.eps)
        })
    }
}

impl CustomOp3 for GatedResidual {
    fn name(&self) -> &'static str {
        "gated_residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
        gate: &CpuStorage,
        gate_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shared = tokens_per_row(x_layout, gate_layout)?;
        if y_layout.dims() != x_layout.dims() {
            bail!("gated_residual: {:?} and {:?} differ", x_layout.dims(), y_layout.dims());
        }
        let (tokens, dim) = x_layout.shape().dims2()?;
        let x = f32_slice(x, x_layout, self.name())?;
        let y = f32_slice(y, y_layout, self.name())?;
        let gate = f32_slice(gate, gate_layout, self.name())?;
        let mut out = vec![0f32; tokens * dim];
        for_rows(&mut out, dim, |token, out| {
            let (at, row) = (token * dim, token / shared * dim);
            add_gated(out, &x[at..][..dim], &y[at..][..dim], &gate[row..][..dim]);
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        y: &CudaStorage,
        y_layout: &Layout,
        gate: &CudaStorage,
        gate_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let sizes = token_sizes(x_layout, gate_layout)?;
        if y_layout.dims() != x_layout.dims() {
            bail!("gated_residual: {:?} and {:?} differ", x_layout.dims(), y_layout.dims());
        }
        let (inputs, element) = cuda::alike(self.name(), [(x, x_layout), (y, y_layout), (gate, gate_layout)])?;
        cuda::produce(x, x.dtype(), x_layout.shape(), |out| {
            launch::gated_residual(element, out, inputs, sizes)
        })
    }
}

/// Sizes for the kernels, when they go together.
#[cfg(feature = "cuda")]
fn token_sizes(tokens: &Layout, rows: &Layout) -> Result<launch::Tokens> {
    let shared = tokens_per_row(tokens, rows)?;
    let (tokens, dim) = tokens.shape().dims2()?;
    Ok(launch::Tokens { tokens, dim, shared })
}

/// Sum over independent lanes, so that the loop vectorises; the order is the same on every machine.
#[inline(always)]
pub(super) fn lane_sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let blocks = values.chunks_exact(16);
    let rest: f32 = blocks.remainder().iter().map(|v| f(*v)).sum();
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane += f(*value);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[multiversion(targets = "simd")]
fn normalise(out: &mut [f32], x: &[f32], scale: &[f32], shift: &[f32], eps: f32) {
    let count = x.len() as f32;
    let mean = lane_sum(x, |v| v) / count;
    let variance = lane_sum(x, |v| (v - mean) * (v - mean)) / count;
    let inverse = 1.0 / (variance + eps).sqrt();
    for (((out, x), scale), shift) in out.iter_mut().zip(x).zip(scale).zip(shift) {
        *out = (x - mean) * inverse * (1.0 + scale) + shift;
    }
}

#[multiversion(targets = "simd")]
fn add_gated(out: &mut [f32], x: &[f32], y: &[f32], gate: &[f32]) {
    for (((out, x), y), gate) in out.iter_mut().zip(x).zip(y).zip(gate) {
        *out = x + y * gate;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Device};

    use super::*;

    #[test]
    fn equals_the_composed_operations() -> Result<()> {
        let (frames, per_frame, dim) = (3, 5, 40);
        let x = (Tensor::randn(0f32, 3f32, (frames * per_frame, dim), &Device::Cpu)? + 2.0)?;
        let y = Tensor::randn(0f32, 1f32, (frames * per_frame, dim), &Device::Cpu)?;
        let scale = Tensor::randn(0f32, 1f32, (frames, dim), &Device::Cpu)?;
        let shift = Tensor::randn(0f32, 1f32, (frames, dim), &Device::Cpu)?;
        let by_frame = |t: &Tensor| t.reshape((frames, per_frame, dim));
        let row = |t: &Tensor| t.unsqueeze(1);

        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred.broadcast_div(&(variance + 1e-6)?.sqrt()?)?;
        let want = by_frame(&normed)?
            .broadcast_mul(&(row(&scale)? + 1.0)?)?
            .broadcast_add(&row(&shift)?)?;
        let got = by_frame(&modulated_norm(&x, &scale, &shift, 1e-6)?)?;
        assert!((got - want)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);

        let want = (by_frame(&x)? + by_frame(&y)?.broadcast_mul(&row(&scale)?)?)?;
        let got = by_frame(&gated_residual(&x, &y, &scale)?)?;
        assert!((got - want)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
        Ok(())
    }

    #[test]
    fn a_modulation_that_does_not_divide_the_tokens_is_refused() -> Result<()> {
        let x = Tensor::zeros((7, 4), candle_core::DType::F32, &Device::Cpu)?;
        let m = Tensor::zeros((2, 4), candle_core::DType::F32, &Device::Cpu)?;
        assert!(modulated_norm(&x, &m, &m, 1e-6).is_err());
        Ok(())
    }
}
