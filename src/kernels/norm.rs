//! Norms with a gain over the last axis. candle has them, but sums in order, one element after the other, and gives every
//! row to the thread pool on its own.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};
use multiversion::multiversion;

#[cfg(feature = "cuda")]
use super::{cuda, launch};
use super::{f32_slice, for_rows, modulation::lane_sum};

/// `x / √(mean(x²) + eps) · gain`: `x` is `[tokens, dim]`, `gain` is `[dim]`.
///
/// # Errors
/// When shapes disagree.
pub fn rms_norm(x: &Tensor, gain: &Tensor, eps: f32) -> Result<Tensor> {
    x.apply_op2_no_bwd(gain, &RmsNorm { eps })
}

/// `(x − mean(x)) / √(variance(x) + eps) · gain + bias`: `x` is `[tokens, dim]`, `gain` and `bias` are `[dim]`.
///
/// # Errors
/// When shapes disagree.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    x.apply_op3_no_bwd(gain, bias, &LayerNorm { eps })
}

struct RmsNorm {
    eps: f32,
}

struct LayerNorm {
    eps: f32,
}

/// Width of the tokens, when the gain has it too.
fn width(x: &Layout, gain: &Layout) -> Result<usize> {
    let (_, dim) = x.shape().dims2()?;
    if gain.dims() != [dim] {
        bail!("a norm's gain or bias {:?} does not fit {:?}", gain.dims(), x.dims());
    }
    Ok(dim)
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dim = width(x_layout, gain_layout)?;
        let x = f32_slice(x, x_layout, self.name())?;
        let gain = f32_slice(gain, gain_layout, self.name())?;
        let mut out = vec![0f32; x.len()];
        for_rows(&mut out, dim, |token, out| {
            rms_row(out, &x[token * dim..][..dim], gain, self.eps);
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        gain: &CudaStorage,
        gain_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let sizes = token_sizes(x_layout, gain_layout)?;
        let ([x_at, gain], element) = cuda::alike(self.name(), [(x, x_layout), (gain, gain_layout)])?;
        cuda::produce(x, x.dtype(), x_layout.shape(), |out| {
            launch::rms_norm(element, out, x_at, gain, sizes, self.eps)
        })
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dim = width(x_layout, gain_layout)?;
        width(x_layout, bias_layout)?;
        let x = f32_slice(x, x_layout, self.name())?;
        let gain = f32_slice(gain, gain_layout, self.name())?;
        let bias = f32_slice(bias, bias_layout, self.name())?;
        let mut out = vec![0f32; x.len()];
        for_rows(&mut out, dim, |token, out| {
            layer_row(out, &x[token * dim..][..dim], gain, bias, self.eps);
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        gain: &CudaStorage,
        gain_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let sizes = token_sizes(x_layout, gain_layout)?;
        width(x_layout, bias_layout)?;
        let tensors = [(x, x_layout), (gain, gain_layout), (bias, bias_layout)];
        let (inputs, element) = cuda::alike(self.name(), tensors)?;
        cuda::produce(x, x.dtype(), x_layout.shape(), |out| {
            launch::layer_norm(element, out, inputs, sizes, self.eps)
        })
    }
}

/// Sizes for the kernels, when they go together.
#[cfg(feature = "cuda")]
fn token_sizes(x: &Layout, gain: &Layout) -> Result<launch::Tokens> {
    let dim = width(x, gain)?;
    let (tokens, _) = x.shape().dims2()?;
    Ok(launch::Tokens { tokens, dim, shared: 1 })
}

#[multiversion(targets = "simd")]
fn rms_row(out: &mut [f32], x: &[f32], gain: &[f32], eps: f32) {
    let inverse = 1.0 / (lane_sum(x, |v| v * v) / x.len() as f32 + eps).sqrt();
    for ((out, x), gain) in out.iter_mut().zip(x).zip(gain) {
        *out = x * inverse * gain;
    }
}

#[multiversion(targets = "simd")]
fn layer_row(out: &mut [f32], x: &[f32], gain: &[f32], bias: &[f32], eps: f32) {
    let count = x.len() as f32;
    let mean = lane_sum(x, |v| v) / count;
    let variance = lane_sum(x, |v| (v - mean) * (v - mean)) / count;
    let inverse = 1.0 / (variance + eps).sqrt();
    for (((out, x), gain), bias) in out.iter_mut().zip(x).zip(gain).zip(bias) {
        *out = (x - mean) * inverse * gain + bias;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn both_equal_candles() -> Result<()> {
        // Enough rows for several threads, and a width that is no multiple of the lanes.
        for (tokens, dim) in [(3, 8), (700, 100)] {
            let x = (Tensor::randn(0f32, 3f32, (tokens, dim), &Device::Cpu)? + 1.0)?;
            let gain = Tensor::randn(0f32, 1f32, dim, &Device::Cpu)?;
            let bias = Tensor::randn(0f32, 1f32, dim, &Device::Cpu)?;
            let worst = |a: Tensor, b: Tensor| (a - b)?.abs()?.max_all()?.to_scalar::<f32>();
            let want = candle_nn::ops::rms_norm(&x, &gain, 1e-6)?;
            assert!(worst(rms_norm(&x, &gain, 1e-6)?, want)? < 1e-5);
            let want = candle_nn::ops::layer_norm(&x, &gain, &bias, 1e-6)?;
            assert!(worst(layer_norm(&x, &gain, &bias, 1e-6)?, want)? < 1e-5);
        }
        Ok(())
    }

    #[test]
    fn a_gain_of_another_width_is_refused() -> Result<()> {
        let x = Tensor::zeros((2, 4), candle_core::DType::F32, &Device::Cpu)?;
        let gain = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu)?;
        assert!(rms_norm(&x, &gain, 1e-6).is_err());
        assert!(layer_norm(&x, &gain, &gain, 1e-6).is_err());
        Ok(())
    }
}
