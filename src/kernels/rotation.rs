//! Rotation of adjacent channel pairs, the arithmetic of rotary position embeddings.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, DType, backend::BackendStorage};
use multiversion::multiversion;

#[cfg(feature = "cuda")]
use super::{cuda, launch};
use super::{f32_slice, for_rows};

/// Rotates the pair of channels `(2i, 2i+1)` of every head of a token by the token's angle `i`.
///
/// `x` is `[tokens, heads, head_dim]`, `cos` and `sin` are `[tokens, head_dim/2]`, or `[tokens, heads, head_dim/2]` where
/// heads rotate differently.
///
/// # Errors
/// When shapes disagree.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let ((tokens, heads, dim), [.., pairs]) = (x.dims3()?, cos.dims()) else {
        bail!("rotate: angles {:?} fit nothing", cos.dims());
    };
    if cos.dims() != [tokens, heads, *pairs] {
        return x.apply_op3_no_bwd(cos, sin, &Rotate);
    }
    // A head is to itself what a token of one head is.
    let alone = x.reshape((tokens * heads, 1, dim))?;
    let flat = |angles: &Tensor| angles.reshape((tokens * heads, *pairs));
    let rotated = alone.apply_op3_no_bwd(&flat(cos)?, &flat(sin)?, &Rotate)?;
    rotated.reshape((tokens, heads, dim))
}

struct Rotate;

impl CustomOp3 for Rotate {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        cos: &CpuStorage,
        cos_layout: &Layout,
        sin: &CpuStorage,
        sin_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let [_, heads, dim] = fitting(x_layout, cos_layout, sin_layout)?;
        let x = f32_slice(x, x_layout, "rotate")?;
        let cos = f32_slice(cos, cos_layout, "rotate")?;
        let sin = f32_slice(sin, sin_layout, "rotate")?;
        let mut out = vec![0f32; x.len()];
        let (width, pairs) = (heads * dim, dim / 2);
        for_rows(&mut out, width, |token, out| {
            let x = &x[token * width..][..width];
            let (cos, sin) = (&cos[token * pairs..][..pairs], &sin[token * pairs..][..pairs]);
            for (out, x) in out.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
                rotate_head(out, x, cos, sin);
            }
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        cos: &CudaStorage,
        cos_layout: &Layout,
        sin: &CudaStorage,
        sin_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let [tokens, heads, dim] = fitting(x_layout, cos_layout, sin_layout)?;
        let ([x_at], element) = cuda::alike("rotate", [(x, x_layout)])?;
        let cos = cuda::Operand::new(cos, cos_layout, "rotate")?.require(DType::F32, "rotate")?;
        let sin = cuda::Operand::new(sin, sin_layout, "rotate")?.require(DType::F32, "rotate")?;
        cuda::produce(x, x.dtype(), x_layout.shape(), |out| {
            launch::rotate(element, out, [x_at, cos, sin], [tokens, heads, dim / 2])
        })
    }
}

/// Tokens, heads and channels per head, when the angles fit.
fn fitting(x: &Layout, cos: &Layout, sin: &Layout) -> Result<[usize; 3]> {
    let (tokens, heads, dim) = x.shape().dims3()?;
    if dim % 2 != 0 || cos.dims() != [tokens, dim / 2] || sin.dims() != cos.dims() {
        bail!(
            "rotate: angles {:?} and {:?} do not fit {:?}",
            cos.dims(),
            sin.dims(),
            x.dims()
        );
    }
    Ok([tokens, heads, dim])
}

#[multiversion(targets = "simd")]
fn rotate_head(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32]) {
    for (((out, x), cos), sin) in out.chunks_exact_mut(2).zip(x.chunks_exact(2)).zip(cos).zip(sin) {
        out[0] = x[0] * cos - x[1] * sin;
        out[1] = x[0] * sin + x[1] * cos;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn heads_may_rotate_differently() -> Result<()> {
        let x = Tensor::new(&[[[1f32, 2.], [3., 4.]]], &Device::Cpu)?;
        let cos = Tensor::new(&[[[0f32], [1.]]], &Device::Cpu)?;
        let sin = Tensor::new(&[[[1f32], [0.]]], &Device::Cpu)?;
        let got = rotate(&x, &cos, &sin)?;
        assert_eq!(got.dims(), [1, 2, 2]);
        assert_eq!(got.flatten_all()?.to_vec1::<f32>()?, [-2., 1., 3., 4.]);
        Ok(())
    }

    #[test]
    fn a_quarter_turn_swaps_the_pair() -> Result<()> {
        let x = Tensor::new(&[[[1f32, 2., 3., 4.]]], &Device::Cpu)?;
        let cos = Tensor::new(&[[0f32, 1.]], &Device::Cpu)?;
        let sin = Tensor::new(&[[1f32, 0.]], &Device::Cpu)?;
        let got = rotate(&x, &cos, &sin)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(got, [-2., 1., 3., 4.]);
        Ok(())
    }
}
