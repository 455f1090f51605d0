//! Attention that never holds the score matrix: tiles of queries against tiles of keys with a running softmax.

#![allow(unsafe_code)]

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};
use gemm::Parallelism;
use multiversion::multiversion;
use rayon::prelude::*;

#[cfg(feature = "cudnn")]
use super::cudnn;
use super::{activation::exp, f32_slice};
#[cfg(feature = "cuda")]
use super::{cuda, launch};

/// Queries of one tile at most; a tile's scores stay in the cache of one core.
const QUERY_TILE: usize = 96;
/// Keys of one tile at most.
const KEY_TILE: usize = 512;
/// Multiplications below which waking other threads costs more than it saves.
const SERIAL: usize = 1 << 19;

/// Softmax attention without mask: `softmax(q·kᵀ·scale)·v`, per head.
///
/// `q` is `[queries, heads, head_dim]`, `k` and `v` are `[keys, heads, head_dim]`, all contiguous (views of a longer
/// buffer along the first axis are). Returns `[queries, heads, head_dim]`. The result does not depend on the number
/// of threads.
///
/// # Errors
/// When shapes disagree or there is no key.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Tensor> {
    q.apply_op3_no_bwd(k, v, &Attention { scale: scale as f32 })
}

struct Attention {
    scale: f32,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let [queries, keys, heads, dim] = fitting(q_layout, k_layout, v_layout)?;
        let q = f32_slice(q, q_layout, "attention")?;
        let k = f32_slice(k, k_layout, "attention")?;
        let v = f32_slice(v, v_layout, "attention")?;
        let mut out = vec![0f32; queries * heads * dim];
        let target = OutPointer(out.as_mut_ptr());
        let sizes = Sizes {
            heads,
            dim,
            keys,
            scale: self.scale,
        };
        // Even tiles: the last one is not a remainder that one thread waits for.
        let tiles = queries.div_ceil(QUERY_TILE);
        let rows_per_tile = queries.div_ceil(tiles.max(1));
        let attend = |scratch: &mut Scratch, job: usize| {
            let (head, tile) = (job / tiles, job % tiles);
            let first = tile * rows_per_tile;
            let rows = rows_per_tile.min(queries.saturating_sub(first));
            if rows > 0 {
                let offset = first * heads * dim + head * dim;
                // SAFETY: every (head, tile) writes its own rows of its own head, within `out`.
                unsafe {
                    tile_attention(
                        &sizes,
                        scratch,
                        &q[offset..],
                        &k[head * dim..],
                        &v[head * dim..],
                        rows,
                        target.at(offset),
                    )
                }
            }
        };
        if queries * keys * heads * dim < SERIAL {
            let mut scratch = Scratch::default();
            (0..heads * tiles).for_each(|job| attend(&mut scratch, job));
        } else {
            let jobs = (0..heads * tiles).into_par_iter();
            jobs.for_each_init(Scratch::default, attend);
        }
        Ok((CpuStorage::F32(out), (queries, heads, dim).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        q: &CudaStorage,
        q_layout: &Layout,
        k: &CudaStorage,
        k_layout: &Layout,
        v: &CudaStorage,
        v_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let [queries, keys, heads, dim] = fitting(q_layout, k_layout, v_layout)?;
        let (inputs, element) = cuda::alike("attention", [(q, q_layout), (k, k_layout), (v, v_layout)])?;
        let sizes = launch::AttentionSizes {
            queries,
            keys,
            heads,
            dim,
            scale: self.scale,
        };
        let shape = Shape::from((queries, heads, dim));
        let (storage, out) = cuda::allocate(&q.device, q.dtype(), &shape)?;
        #[cfg(feature = "cudnn")]
        if element == launch::Element::Bf16 && queries > 0 {
            let of = cudnn::AttentionShape {
                queries,
                keys,
                heads,
                dim,
            };
            if cudnn::attention(&q.device, of, out, inputs, self.scale)? {
                return Ok((storage, shape));
            }
        }
        cuda::run(&q.device, &launch::attention(element, out, inputs, sizes)?)?;
        Ok((storage, shape))
    }
}

/// Prepares attention for these numbers of queries and keys, so that the first chunk does not wait for it: on a GPU with
/// cuDNN a plan takes up to a second. Does nothing elsewhere.
///
/// # Errors
/// When the library fails.
pub fn warm_up_attention(device: &Device, sizes: &[(usize, usize)], heads: usize, dim: usize) -> Result<()> {
    #[cfg(feature = "cudnn")]
    if let Device::Cuda(device) = device {
        let shape = |&(queries, keys): &(usize, usize)| cudnn::AttentionShape {
            queries,
            keys,
            heads,
            dim,
        };
        return cudnn::warm_up(device, &sizes.iter().map(shape).collect::<Vec<_>>());
    }
    let _ = (device, sizes, heads, dim);
    Ok(())
}

/// Queries, keys, heads and channels per head, when the tensors go together.
fn fitting(q: &Layout, k: &Layout, v: &Layout) -> Result<[usize; 4]> {
    let (queries, heads, dim) = q.shape().dims3()?;
    let (keys, key_heads, key_dim) = k.shape().dims3()?;
    if (key_heads, key_dim) != (heads, dim) || v.dims() != k.dims() {
        bail!(
            "attention: q {:?}, k {:?}, v {:?} do not go together",
            q.dims(),
            k.dims(),
            v.dims()
        );
    }
    if keys == 0 {
        bail!("attention: no key to attend to");
    }
    Ok([queries, keys, heads, dim])
}

/// Output buffer shared by the threads, which write disjoint parts of it.
#[derive(Clone, Copy)]
struct OutPointer(*mut f32);
// SAFETY: see the use: jobs write disjoint elements, and the buffer outlives them.
unsafe impl Send for OutPointer {}
unsafe impl Sync for OutPointer {}

impl OutPointer {
    /// # Safety
    /// `offset` must lie within the buffer.
    unsafe fn at(self, offset: usize) -> *mut f32 {
        unsafe { self.0.add(offset) }
    }
}

struct Sizes {
    heads: usize,
    dim: usize,
    keys: usize,
    scale: f32,
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    sums: Vec<f32>,
    maxima: Vec<f32>,
    output: Vec<f32>,
}

/// Attention of `rows` queries of one head over all keys; `q`, `k`, `v` start at the head's first element.
///
/// # Safety
/// `out` must be valid for `rows` rows of `dim` values, `heads·dim` apart.
unsafe fn tile_attention(
    sizes: &Sizes,
    scratch: &mut Scratch,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    rows: usize,
    out: *mut f32,
) {
    let (dim, stride) = (sizes.dim, (sizes.heads * sizes.dim) as isize);
    let tiles = sizes.keys.div_ceil(KEY_TILE);
    let keys_per_tile = sizes.keys.div_ceil(tiles);
    scratch.scores.resize(rows * keys_per_tile, 0.0);
    scratch.output.resize(rows * dim, 0.0);
    scratch.sums.clear();
    scratch.sums.resize(rows, 0.0);
    scratch.maxima.clear();
    scratch.maxima.resize(rows, f32::NEG_INFINITY);
    let mut first = 0;
    while first < sizes.keys {
        let keys = keys_per_tile.min(sizes.keys - first);
        let scores = &mut scratch.scores[..rows * keys];
        let key_offset = first * stride as usize;
        // SAFETY: the strides below stay within the slices: `keys` keys from `key_offset`, `rows` queries.
        unsafe {
            gemm::gemm(
                rows,
                keys,
                dim,
                scores.as_mut_ptr(),
                1,
                keys as isize,
                false,
                q.as_ptr(),
                1,
                stride,
                k[key_offset..].as_ptr(),
                stride,
                1,
                0.0,
                sizes.scale,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
        for row in 0..rows {
            let row_scores = &mut scores[row * keys..][..keys];
            let maximum = scratch.maxima[row].max(row_maximum(row_scores));
            let correction = exp(scratch.maxima[row] - maximum);
            let sum = exponentials(row_scores, maximum);
            scratch.sums[row] = if first == 0 {
                sum
            } else {
                scratch.sums[row] * correction + sum
            };
            scratch.maxima[row] = maximum;
            if first > 0 && correction != 1.0 {
                scratch.output[row * dim..][..dim]
                    .iter_mut()
                    .for_each(|o| *o *= correction);
            }
        }
        // SAFETY: as above, for values and the thread's own output tile.
        unsafe {
            gemm::gemm(
                rows,
                dim,
                keys,
                scratch.output.as_mut_ptr(),
                1,
                dim as isize,
                first > 0,
                scores.as_ptr(),
                1,
                keys as isize,
                v[key_offset..].as_ptr(),
                1,
                stride,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
        first += keys;
    }
    for row in 0..rows {
        let norm = 1.0 / scratch.sums[row];
        for (i, value) in scratch.output[row * dim..][..dim].iter().enumerate() {
            // SAFETY: promised by the caller.
            unsafe { *out.offset(row as isize * stride + i as isize) = value * norm };
        }
    }
}

#[multiversion(targets = "simd")]
fn row_maximum(row: &[f32]) -> f32 {
    // Independent lanes: a single running maximum would not vectorise.
    let mut lanes = [f32::NEG_INFINITY; 16];
    let blocks = row.chunks_exact(16);
    let rest = blocks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.into_iter().fold(rest, f32::max)
}

/// Replaces each score by `e^(score − maximum)` and returns their sum.
#[multiversion(targets = "simd")]
fn exponentials(row: &mut [f32], maximum: f32) -> f32 {
    let mut lanes = [0f32; 16];
    let mut blocks = row.chunks_exact_mut(16);
    for block in &mut blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *value = exp(*value - maximum);
            *lane += *value;
        }
    }
    let mut sum = 0.0;
    for value in blocks.into_remainder() {
        *value = exp(*value - maximum);
        sum += *value;
    }
    sum + lanes.iter().sum::<f32>()
}

#[cfg(test)]
mod tests {
    use candle_core::D;

    use super::*;

    fn reference(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Tensor> {
        let by_head = |t: &Tensor| t.transpose(0, 1)?.contiguous();
        let scores = (by_head(q)?.matmul(&by_head(k)?.transpose(1, 2)?)? * scale)?;
        let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
        weights.matmul(&by_head(v)?)?.transpose(0, 1)?.contiguous()
    }

    #[test]
    fn equals_the_plain_formula_at_odd_sizes() -> Result<()> {
        for (queries, keys, heads, dim) in [(1, 1, 1, 8), (97, 513, 3, 16), (200, 1537, 2, 64), (5, 40, 4, 128)] {
            let make = |n: usize| Tensor::randn(0f32, 2f32, (n, heads, dim), &Device::Cpu);
            let (q, k, v) = (make(queries)?, make(keys)?, make(keys)?);
            let got = attention(&q, &k, &v, 0.3)?;
            let want = reference(&q, &k, &v, 0.3)?;
            let worst = (got - want)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(worst < 2e-5, "{queries}x{keys}: {worst}");
        }
        Ok(())
    }

    #[test]
    fn attends_to_a_view_of_a_longer_buffer() -> Result<()> {
        let buffer = Tensor::randn(0f32, 1f32, (50, 2, 8), &Device::Cpu)?;
        let q = Tensor::randn(0f32, 1f32, (7, 2, 8), &Device::Cpu)?;
        let view = buffer.narrow(0, 10, 20)?;
        let got = attention(&q, &view, &view, 1.0)?;
        let want = reference(&q, &view.copy()?, &view.copy()?, 1.0)?;
        assert!((got - want)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
        Ok(())
    }

    #[test]
    fn no_key_is_an_error() {
        let q = Tensor::zeros((1, 1, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        let k = Tensor::zeros((0, 1, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(attention(&q, &k, &k, 1.0).is_err());
    }
}
