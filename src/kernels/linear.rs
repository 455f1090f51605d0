//! Linear layers: one matrix product with the bias in place of a zeroed result.

#![allow(unsafe_code)]

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use gemm::Parallelism;

#[cfg(feature = "cuda")]
use super::{cuda, launch, products};
use super::{f32_slice, for_rows, gelu_tanh};

/// `x·weightᵀ + bias`: `x` `[rows, in]`, `weight` `[out, in]` as stored, `bias` `[out]`; gives `[rows, out]`.
///
/// # Errors
/// When shapes disagree.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return on_cuda(x, weight, bias, launch::Activation::Identity);
    }
    x.apply_op3_no_bwd(weight, bias, &Linear)
}

/// [`linear`], then GELU in its tanh form; bias and activation are one pass on a GPU.
///
/// # Errors
/// When shapes disagree.
pub fn linear_gelu(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return on_cuda(x, weight, bias, launch::Activation::GeluTanh);
    }
    gelu_tanh(linear(x, weight, bias)?)
}

/// By cuBLASLt in one kernel, else the product by cuBLAS, then bias and activation in place.
#[cfg(feature = "cuda")]
fn on_cuda(x: &Tensor, weight: &Tensor, bias: &Tensor, kind: launch::Activation) -> Result<Tensor> {
    let gelu = kind == launch::Activation::GeluTanh;
    if let Some(done) = products::product(x, weight, bias, gelu)? {
        return Ok(done);
    }
    let product = x.matmul(&weight.t()?)?;
    let (count, width) = (product.elem_count(), product.dim(1)?);
    if bias.dims() != [width] {
        bail!("linear: bias {:?} does not fit {:?}", bias.dims(), product.dims());
    }
    if let candle_core::Device::Cuda(device) = product.device() {
        let at = cuda::Operand::of(&product, "linear")?;
        let bias = cuda::Operand::of(bias, "linear")?.require(at.dtype, "linear")?;
        let launch = launch::bias_activation(at.element("linear")?, at.at, bias, count, width, kind)?;
        cuda::run(device, &launch)?;
    }
    Ok(product)
}

struct Linear;

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let (outputs, weight_inputs) = weight_layout.shape().dims2()?;
        if weight_inputs != inputs || bias_layout.dims() != [outputs] {
            bail!(
                "linear: x {:?}, weight {:?}, bias {:?} do not go together",
                x_layout.dims(),
                weight_layout.dims(),
                bias_layout.dims()
            );
        }
        let x = f32_slice(x, x_layout, "linear")?;
        let weight = f32_slice(weight, weight_layout, "linear")?;
        let bias = f32_slice(bias, bias_layout, "linear")?;
        let mut out = vec![0f32; rows * outputs];
        for_rows(&mut out, outputs, |_, row| row.copy_from_slice(bias));
        // SAFETY: sizes and strides are those of the slices, checked above.
        unsafe {
            gemm::gemm(
                rows,
                outputs,
                inputs,
                out.as_mut_ptr(),
                1,
                outputs as isize,
                true,
                x.as_ptr(),
                1,
                inputs as isize,
                weight.as_ptr(),
                inputs as isize,
                1,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::Rayon(rayon::current_num_threads()),
            );
        }
        Ok((CpuStorage::F32(out), (rows, outputs).into()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn equals_matmul_plus_bias() -> Result<()> {
        let x = Tensor::randn(0f32, 1f32, (37, 24), &Device::Cpu)?;
        let w = Tensor::randn(0f32, 1f32, (19, 24), &Device::Cpu)?;
        let b = Tensor::randn(0f32, 1f32, 19, &Device::Cpu)?;
        let want = x.matmul(&w.t()?)?.broadcast_add(&b)?;
        let worst = (linear(&x, &w, &b)? - want)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(worst < 1e-5, "{worst}");
        assert!(linear(&x, &w.t()?.contiguous()?, &b).is_err());
        Ok(())
    }
}
