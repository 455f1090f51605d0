//! Products of two thin matrices added to a large one in place.

#![allow(unsafe_code)]

use candle_core::{CpuStorage, InplaceOp3, Layout, Result, Tensor, bail};
use gemm::Parallelism;

use super::f32_slice;

/// `weight + scale·(up·down)`: `weight` `[out, in]`, `up` `[out, rank]`, `down` `[rank, in]`, all f32 and contiguous.
///
/// On the CPU `weight` itself is changed, in one pass over it, so that no second matrix of its size is made; it must not be
/// shared.
///
/// # Errors
/// When shapes disagree, or on a device failure.
pub fn add_low_rank(weight: Tensor, up: &Tensor, down: &Tensor, scale: f64) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let ((rows, rank), (down_rank, columns)) = (up.dims2()?, down.dims2()?);
    if (rows, columns) != (outputs, inputs) || rank != down_rank {
        bail!(
            "add_low_rank: {:?} times {:?} is not of shape {:?}",
            up.dims(),
            down.dims(),
            weight.dims()
        );
    }
    if !weight.device().is_cpu() {
        return weight + (up * scale)?.matmul(down)?;
    }
    weight.inplace_op3(up, down, &AddLowRank { scale: scale as f32 })?;
    Ok(weight)
}

struct AddLowRank {
    scale: f32,
}

impl InplaceOp3 for AddLowRank {
    fn name(&self) -> &'static str {
        "add_low_rank"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
        down: &CpuStorage,
        down_layout: &Layout,
    ) -> Result<()> {
        let (outputs, inputs) = weight_layout.shape().dims2()?;
        let (_, rank) = up_layout.shape().dims2()?;
        let (up, down) = (
            f32_slice(up, up_layout, self.name())?,
            f32_slice(down, down_layout, self.name())?,
        );
        let (CpuStorage::F32(weight), Some((start, end))) = (weight, weight_layout.contiguous_offsets()) else {
            bail!("add_low_rank needs a contiguous f32 matrix");
        };
        let weight = &mut weight[start..end];
        // SAFETY: sizes and strides are those of the slices; the shapes were compared by the caller.
        unsafe {
            gemm::gemm(
                outputs,
                inputs,
                rank,
                weight.as_mut_ptr(),
                1,
                inputs as isize,
                true,
                up.as_ptr(),
                1,
                rank as isize,
                down.as_ptr(),
                1,
                inputs as isize,
                1.0,
                self.scale,
                false,
                false,
                false,
                Parallelism::Rayon(rayon::current_num_threads()),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn equals_the_product_and_the_sum() -> Result<()> {
        let random = |rows: usize, columns: usize| Tensor::randn(0f32, 1f32, (rows, columns), &Device::Cpu);
        let (weight, up, down) = (random(37, 24)?, random(37, 5)?, random(5, 24)?);
        let want = (&weight + (up.matmul(&down)? * -0.75)?)?;
        let got = add_low_rank(weight.copy()?, &up, &down, -0.75)?;
        let worst = (&got - want)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(worst < 1e-5, "{worst}");
        assert!(add_low_rank(weight.copy()?, &up, &random(4, 24)?, 1.0).is_err());
        assert!(add_low_rank(weight, &up, &random(5, 23)?, 1.0).is_err());
        Ok(())
    }
}
