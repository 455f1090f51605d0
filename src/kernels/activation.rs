//! Activations over slices, in place, and as candle operations.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, backend::BackendStorage, bail};
use multiversion::multiversion;
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::{cuda, launch};

/// Work given to one thread at a time, in elements.
const GRAIN: usize = 1 << 14;

/// `e^x`, to about 1 ulp over the range of f32; branch-free so that loops over it vectorise.
///
/// The exponent is split as `x = n·ln 2 + r`; `2^n` is assembled from bits, `e^r` is a polynomial on
/// `|r| ≤ ln 2 / 2`. Below −87.3 the result is the smallest normal number rather than a subnormal.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it leaves the nearest integer in the low mantissa bits
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let mantissa = p * r * r + r + 1.0;
    let exponent = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    mantissa * exponent
}

/// `x ← x · sigmoid(x)`.
#[multiversion(targets = "simd")]
pub fn silu_in_place(values: &mut [f32]) {
    for v in values {
        *v /= 1.0 + exp(-*v);
    }
}

/// `x ← 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`, the tanh form of GELU.
///
/// Evaluated as `x · sigmoid(2u)`, which is the same function and keeps its precision for large negative `x`.
#[multiversion(targets = "simd")]
pub fn gelu_tanh_in_place(values: &mut [f32]) {
    for v in values {
        let x = *v;
        let u = 0.797_884_6 * (x + 0.044_715 * x * x * x);
        *v = x / (1.0 + exp(-2.0 * u));
    }
}

/// Element-wise activations as in-place operations on tensors.
enum Activation {
    Silu,
    GeluTanh,
}

impl InplaceOp1 for Activation {
    fn name(&self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu_tanh",
        }
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(values) = storage else {
            bail!("{} needs f32, got {:?}", self.name(), storage.dtype());
        };
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("{} needs a contiguous tensor", self.name());
        };
        let apply = match self {
            Self::Silu => silu_in_place,
            Self::GeluTanh => gelu_tanh_in_place,
        };
        match &mut values[start..end] {
            few if few.len() <= GRAIN => apply(few),
            many => many.par_chunks_mut(GRAIN).for_each(apply),
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let x = cuda::Operand::new(storage, layout, self.name())?;
        let kind = match self {
            Self::Silu => launch::Activation::Silu,
            Self::GeluTanh => launch::Activation::GeluTanh,
        };
        let width = layout.dims().last().copied().unwrap_or(1);
        let launch = launch::bias_activation(x.element(self.name())?, x.at, 0, x.count, width, kind)?;
        cuda::run(&storage.device, &launch)
    }
}

/// SiLU. The tensor's storage is overwritten: pass one that nobody else holds.
///
/// # Errors
/// On a device failure.
pub fn silu(x: Tensor) -> Result<Tensor> {
    x.inplace_op1(&Activation::Silu)?;
    Ok(x)
}

/// GELU in its tanh form. The tensor's storage is overwritten: pass one that nobody else holds.
///
/// # Errors
/// On a device failure.
pub fn gelu_tanh(x: Tensor) -> Result<Tensor> {
    x.inplace_op1(&Activation::GeluTanh)?;
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_matches_the_standard_library() {
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let (got, want) = (exp(x) as f64, (x as f64).exp());
            assert!((got / want - 1.0).abs() < 3e-7, "exp({x}) = {got}, expected {want}");
        }
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn activations_match_their_definition_in_f64() {
        let xs: Vec<f32> = (-2000..2000).map(|i| i as f32 / 100.0).collect();
        let (mut gelu, mut silu) = (xs.clone(), xs.clone());
        gelu_tanh_in_place(&mut gelu);
        silu_in_place(&mut silu);
        for ((x, gelu), silu) in xs.iter().zip(gelu).zip(silu) {
            let x = *x as f64;
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            let want_gelu = 0.5 * x * (1.0 + u.tanh());
            let want_silu = x / (1.0 + (-x).exp());
            assert!((gelu as f64 - want_gelu).abs() < 1e-6 * (1.0 + x.abs()), "gelu({x})");
            assert!((silu as f64 - want_silu).abs() < 1e-6 * (1.0 + x.abs()), "silu({x})");
        }
    }
}
