//! Rows of the cache: moving them to the front in place, and summing groups of them.

use candle_core::{CpuStorage, CustomOp1, InplaceOp1, Layout, Result, Shape, Tensor, backend::BackendStorage, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, DType};
use multiversion::multiversion;

use super::f32_slice;
#[cfg(feature = "cuda")]
use super::{cuda, launch};

/// Moves the rows `kept` (ascending) of `buffer` to its front, in order and in place; what lies behind them afterwards is
/// unspecified. `buffer` is contiguous, on the CPU, its rows are along the first axis.
///
/// [`super::keep_chosen_rows`] does it on any device.
///
/// # Errors
/// When an index is out of range or the indices do not rise.
pub fn keep_rows(buffer: &Tensor, kept: &[usize]) -> Result<()> {
    buffer.inplace_op1(&KeepRows { kept })
}

/// Writes `rows` into `buffer` from row `at` on; both are contiguous and alike but for their number of rows.
///
/// # Errors
/// When they are not, or the rows do not fit.
pub fn write_rows(buffer: &Tensor, rows: &Tensor, at: usize) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = buffer.device() {
        let (count, width) = rows_of(rows.layout());
        let fits = rows_of(buffer.layout()).1 == width && at + count <= buffer.dim(0)?;
        let from = cuda::Operand::of(rows, "write_rows")?;
        let to = cuda::Operand::of(buffer, "write_rows")?.require(from.dtype, "write_rows")?;
        if !fits {
            bail!("write_rows: {:?} at {at} do not fit {:?}", rows.dims(), buffer.dims());
        }
        let size = from.dtype.size_in_bytes();
        // candle copies an element per thread; the driver copies at the speed of the memory.
        return cuda::copy(device, from.at, to + (at * width * size) as u64, count * width * size);
    }
    buffer.slice_set(rows, 0, at)
}

/// Sums of `groups` equal runs of rows: `[rows, …]` to `[groups, width]` in f32, width being the elements of a row.
///
/// # Errors
/// When the rows cannot be shared out.
pub fn sum_rows(x: &Tensor, groups: usize) -> Result<Tensor> {
    x.apply_op1_no_bwd(&SumRows { groups })
}

struct KeepRows<'a> {
    kept: &'a [usize],
}

struct SumRows {
    groups: usize,
}

impl SumRows {
    /// Rows of a group, and elements of a row.
    fn sizes(&self, layout: &Layout) -> Result<(usize, usize)> {
        let (rows, width) = rows_of(layout);
        if self.groups == 0 || rows % self.groups != 0 {
            bail!("sum_rows: {rows} rows cannot be shared out to {} groups", self.groups);
        }
        Ok((rows / self.groups, width))
    }
}

/// Number and elements of the rows along the first axis.
fn rows_of(layout: &Layout) -> (usize, usize) {
    match layout.dims() {
        [rows, rest @ ..] => (*rows, rest.iter().product()),
        [] => (0, 0),
    }
}

impl InplaceOp1 for KeepRows<'_> {
    fn name(&self) -> &'static str {
        "keep_rows"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (rows, width) = rows_of(layout);
        let rises = self.kept.windows(2).all(|pair| pair[0] < pair[1]);
        if !rises || self.kept.last().is_some_and(|last| *last >= rows) {
            bail!("keep_rows: indices must rise and lie below {rows}");
        }
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("keep_rows needs a contiguous tensor");
        };
        match storage {
            CpuStorage::F32(values) => self.move_rows(&mut values[start..end], width),
            CpuStorage::U32(values) => self.move_rows(&mut values[start..end], width),
            other => bail!("keep_rows needs f32 or u32, got {:?}", other.dtype()),
        }
        Ok(())
    }
}

impl KeepRows<'_> {
    fn move_rows<T: Copy>(&self, values: &mut [T], width: usize) {
        // Rows only move towards the front, so that a run never overwrites one that is still to be moved.
        let mut to = 0;
        for run in self.kept.chunk_by(|a, b| a + 1 == *b) {
            let from = run[0];
            if from != to {
                values.copy_within(from * width..(from + run.len()) * width, to * width);
            }
            to += run.len();
        }
    }
}

impl CustomOp1 for SumRows {
    fn name(&self) -> &'static str {
        "sum_rows"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (per_group, width) = self.sizes(layout)?;
        let x = f32_slice(x, layout, "sum_rows")?;
        let mut out = vec![0f32; self.groups * width];
        if width > 0 {
            for (row, x) in x.chunks_exact(width).enumerate() {
                add(&mut out[row / per_group * width..][..width], x);
            }
        }
        Ok((CpuStorage::F32(out), (self.groups, width).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (per_group, width) = self.sizes(layout)?;
        let operand = cuda::Operand::new(x, layout, "sum_rows")?;
        let element = operand.element("sum_rows")?;
        cuda::produce(x, DType::F32, (self.groups, width), |out| {
            launch::sum_rows(element, out, operand.at, self.groups, per_group, width)
        })
    }
}

#[multiversion(targets = "simd")]
fn add(total: &mut [f32], x: &[f32]) {
    for (total, x) in total.iter_mut().zip(x) {
        *total += x;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn kept_rows_come_to_the_front_in_order() -> Result<()> {
        let buffer = Tensor::arange(0f32, 16f32, &Device::Cpu)?.reshape((8, 1, 2))?;
        keep_rows(&buffer, &[0, 2, 3, 6])?;
        let front = buffer.narrow(0, 0, 4)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(front, [0., 1., 4., 5., 6., 7., 12., 13.]);
        assert!(keep_rows(&buffer, &[1, 0]).is_err());
        assert!(keep_rows(&buffer, &[8]).is_err());
        Ok(())
    }

    #[test]
    fn groups_of_rows_are_summed() -> Result<()> {
        let x = Tensor::randn(0f32, 1f32, (6, 2, 4), &Device::Cpu)?;
        let want = x.reshape((3, 2, 8))?.sum(1)?;
        let worst = (sum_rows(&x, 3)? - want)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(worst < 1e-6);
        assert!(sum_rows(&x, 4).is_err());
        Ok(())
    }
}
