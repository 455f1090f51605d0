//! One tensor inside a mapped file: where it lies, and how it is read.

use std::{path::Path, sync::Arc};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;

use super::{
    CheckpointError,
    element::{Element, Source, Target},
    staging::{self, Staged},
};

/// Values that one thread converts at a time.
const CHUNK: usize = 1 << 16;

/// More dimensions than any model has; keeps hostile files cheap.
const MAX_RANK: usize = 32;

/// Place, format and strides of a tensor. [`Stored::new`] guarantees that every element lies inside `storage`.
#[derive(Clone)]
pub(super) struct Stored {
    file: Arc<Mmap>,
    /// First byte of element `[0, 0, …]`.
    start: usize,
    element: Element,
    shape: Vec<usize>,
    /// In elements.
    strides: Vec<usize>,
}

/// Which tensor of which file, for messages.
#[derive(Clone, Copy)]
pub(super) struct Label<'a> {
    pub(super) name: &'a str,
    pub(super) path: &'a Path,
}

impl Label<'_> {
    fn origin(&self) -> String {
        self.path.display().to_string()
    }
}

/// Why values could not be converted, or brought to the device.
pub(super) enum Bad {
    NotFinite,
    TooLarge,
    OutOfFile,
    Device(candle_core::Error),
}

impl Stored {
    /// Checks that the tensor lies inside bytes `storage` of the file. `offset` and `strides` count elements.
    ///
    /// # Errors
    /// The reason in words.
    pub(super) fn new(
        file: &Arc<Mmap>,
        storage: std::ops::Range<usize>,
        element: Element,
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<Self, String> {
        if shape.len() > MAX_RANK || shape.len() != strides.len() {
            return Err(format!("{} dimensions with {} strides", shape.len(), strides.len()));
        }
        // Zeros count as one here: no product of some of the dimensions may overflow either.
        let most = shape.iter().try_fold(1usize, |n, d| n.checked_mul((*d).max(1)));
        let most = most.ok_or_else(|| format!("shape {shape:?} is too large"))?;
        let count = if shape.contains(&0) { 0 } else { most };
        // A format that cannot be read is reported when the tensor is asked for.
        let size = element.size().unwrap_or(0);
        let outside = || format!("shape {shape:?}, strides {strides:?}, offset {offset} reach outside of its storage");
        let last = shape.iter().zip(&strides).try_fold(offset, |at, (dim, stride)| {
            at.checked_add(dim.saturating_sub(1).checked_mul(*stride)?)
        });
        let values = if count == 0 {
            Some(offset)
        } else {
            last.and_then(|last| last.checked_add(1))
        };
        let end = values
            .and_then(|n| n.checked_mul(size))
            .and_then(|bytes| bytes.checked_add(storage.start));
        if storage.end > file.len() || end.is_none_or(|end| end > storage.end) {
            return Err(outside());
        }
        // Stride 0 repeats values: a tiny file must not ask for all memory.
        let bytes = count.checked_mul(size.max(1)).ok_or_else(outside)?;
        if bytes > file.len().max(1 << 20) {
            return Err(format!(
                "shape {shape:?} repeats values to more bytes than the file has"
            ));
        }
        let start = offset
            .checked_mul(size)
            .and_then(|o| o.checked_add(storage.start))
            .ok_or_else(outside)?;
        // Strides that are never taken may be anything.
        let taken = |(dim, stride): (&usize, &usize)| if count == 0 || *dim == 1 { 0 } else { *stride };
        let strides = shape.iter().zip(&strides).map(taken).collect();
        Ok(Self {
            file: file.clone(),
            start,
            element,
            shape,
            strides,
        })
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(super) fn element(&self) -> Element {
        self.element
    }

    /// Reads and converts the whole tensor.
    pub(super) fn read(&self, label: Label, dtype: DType, device: &Device) -> Result<Tensor, CheckpointError> {
        let whole = [Part {
            start: self.start,
            shape: &self.shape,
            strides: &self.strides,
        }];
        self.read_parts(&whole, self.shape.clone(), label, dtype, device)
    }

    /// Reads and converts the given rows (indices along dimension 0): `[rows.len(), …]`.
    pub(super) fn read_rows(
        &self,
        rows: &[u32],
        label: Label,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, CheckpointError> {
        let count = self.shape.first().copied().unwrap_or(0);
        let stride = self.strides.first().copied().unwrap_or(0) * self.element.size().unwrap_or(0);
        let inner = self.shape.get(1..).unwrap_or_default();
        let parts = rows.iter().map(|row| match usize::try_from(*row) {
            Ok(index) if index < count => Ok(Part {
                start: self.start + index * stride,
                shape: inner,
                strides: self.strides.get(1..).unwrap_or_default(),
            }),
            _ => Err(CheckpointError::Row {
                name: label.name.into(),
                origin: label.origin(),
                row: *row,
                count,
            }),
        });
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let shape = [&[rows.len()], inner].concat();
        self.read_parts(&parts, shape, label, dtype, device)
    }

    fn read_parts(
        &self,
        parts: &[Part],
        shape: Vec<usize>,
        label: Label,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, CheckpointError> {
        let read = match self.element {
            Element::F64 => self.bring::<f64>(parts, shape, dtype, device),
            Element::F32 => self.bring::<f32>(parts, shape, dtype, device),
            Element::F16 => self.bring::<f16>(parts, shape, dtype, device),
            Element::Bf16 => self.bring::<bf16>(parts, shape, dtype, device),
            Element::I64 => self.bring::<i64>(parts, shape, dtype, device),
            Element::I32 => self.bring::<i32>(parts, shape, dtype, device),
            Element::I16 => self.bring::<i16>(parts, shape, dtype, device),
            Element::I8 => self.bring::<i8>(parts, shape, dtype, device),
            Element::U64 => self.bring::<u64>(parts, shape, dtype, device),
            Element::U32 => self.bring::<u32>(parts, shape, dtype, device),
            Element::U16 => self.bring::<u16>(parts, shape, dtype, device),
            Element::U8 | Element::Bool => self.bring::<u8>(parts, shape, dtype, device),
            Element::Other(stored) => {
                return Err(CheckpointError::StoredDtype {
                    name: label.name.into(),
                    origin: label.origin(),
                    dtype: stored.into(),
                });
            }
        };
        let device_error = |source| CheckpointError::Device {
            name: label.name.into(),
            source,
        };
        match read {
            Ok(tensor) => Ok(tensor),
            Err(Bad::Device(source)) => Err(device_error(source)),
            Err(Bad::NotFinite) => Err(CheckpointError::NotFinite {
                name: label.name.into(),
                origin: label.origin(),
            }),
            Err(Bad::TooLarge) => Err(CheckpointError::TooLarge {
                name: label.name.into(),
                origin: label.origin(),
                dtype: dtype.as_str(),
            }),
            Err(Bad::OutOfFile) => Err(CheckpointError::BadTensor {
                name: label.name.into(),
                origin: label.origin(),
                reason: "it reaches beyond the end of the file".into(),
            }),
        }
    }

    /// Reads the parts onto the device: a large tensor's values go through page-locked memory where there is a GPU, all
    /// others through a tensor of the host.
    fn bring<S: Source>(
        &self,
        parts: &[Part],
        shape: Vec<usize>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, Bad> {
        if let [part] = parts {
            let runs = Runs::new(part, S::SIZE);
            let fill = Fill {
                runs: &runs,
                file: &self.file,
            };
            let staged = match dtype {
                DType::F32 => staging::upload::<f32>(&shape, device, |at, out| fill.of::<S, f32>(at, out))?,
                DType::BF16 => staging::upload::<bf16>(&shape, device, |at, out| fill.of::<S, bf16>(at, out))?,
                _ => Staged::No,
            };
            if let Staged::Yes(tensor) = staged {
                return Ok(tensor);
            }
        }
        let host = self.convert::<S>(parts, shape, dtype)?;
        host.and_then(|tensor| tensor.to_device(device)).map_err(Bad::Device)
    }

    fn convert<S: Source>(
        &self,
        parts: &[Part],
        shape: Vec<usize>,
        dtype: DType,
    ) -> Result<candle_core::Result<Tensor>, Bad> {
        fn tensor<T: Target>(values: Vec<T>, shape: Vec<usize>) -> candle_core::Result<Tensor> {
            Tensor::from_vec(values, shape, &Device::Cpu)
        }
        Ok(match dtype {
            DType::F32 => tensor(self.gather::<S, f32>(parts)?, shape),
            DType::BF16 => tensor(self.gather::<S, bf16>(parts)?, shape),
            DType::F16 => tensor(self.gather::<S, f16>(parts)?, shape),
            DType::F64 => tensor(self.gather::<S, f64>(parts)?, shape),
            DType::I64 => tensor(self.gather::<S, i64>(parts)?, shape),
            DType::U32 => tensor(self.gather::<S, u32>(parts)?, shape),
            DType::U8 => tensor(self.gather::<S, u8>(parts)?, shape),
            // Rare ones take the way over a second copy.
            _ => tensor(self.gather::<S, f64>(parts)?, shape).and_then(|t| t.to_dtype(dtype)),
        })
    }

    /// All values of the parts, one after another, in row-major order.
    fn gather<S: Source, T: Target>(&self, parts: &[Part]) -> Result<Vec<T>, Bad> {
        let count: usize = parts.iter().map(|part| part.shape.iter().product::<usize>()).sum();
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut values = vec![T::zero(); count];
        let mut rest = values.as_mut_slice();
        for part in parts {
            let runs = Runs::new(part, S::SIZE);
            let (own, others) = rest.split_at_mut(runs.count().min(rest.len()));
            rest = others;
            let fill = Fill {
                runs: &runs,
                file: &self.file,
            };
            fill.of::<S, T>(0, own)?;
        }
        Ok(values)
    }
}

/// Converts parts of a tensor, on all threads.
struct Fill<'a> {
    runs: &'a Runs,
    file: &'a [u8],
}

impl Fill<'_> {
    /// Values number `from`, `from + 1`, … into `out`.
    fn of<S: Source, T: Target>(&self, from: usize, out: &mut [T]) -> Result<(), Bad> {
        if out.len() <= CHUNK {
            return self.runs.fill::<S, T>(self.file, from, out);
        }
        out.par_chunks_mut(CHUNK)
            .enumerate()
            .try_for_each(|(chunk, out)| self.runs.fill::<S, T>(self.file, from + chunk * CHUNK, out))
    }
}

/// A sub-tensor at byte `start`.
struct Part<'a> {
    start: usize,
    shape: &'a [usize],
    strides: &'a [usize],
}

/// A strided tensor as runs of equally spaced values: adjacent dimensions that lie densely are one.
struct Runs {
    start: usize,
    /// Outer dimensions: length and stride in bytes.
    outer: Vec<(usize, usize)>,
    /// Length and stride in bytes of the innermost dimension.
    inner: (usize, usize),
}

impl Runs {
    fn new(part: &Part, size: usize) -> Self {
        let mut dims: Vec<(usize, usize)> = Vec::with_capacity(part.shape.len() + 1);
        for (&length, &stride) in part.shape.iter().zip(part.strides) {
            let stride = stride * size;
            match dims.last_mut() {
                _ if length == 1 => {}
                Some(outer) if outer.1 == length * stride => *outer = (outer.0 * length, stride),
                _ => dims.push((length, stride)),
            }
        }
        let inner = dims.pop().unwrap_or((1, size));
        Self {
            start: part.start,
            outer: dims,
            inner,
        }
    }

    fn count(&self) -> usize {
        self.outer.iter().map(|(length, _)| length).product::<usize>() * self.inner.0
    }

    /// First byte of run number `run`.
    fn position(&self, mut run: usize) -> usize {
        let mut at = self.start;
        for (length, stride) in self.outer.iter().rev() {
            at += run % length * stride;
            run /= length;
        }
        at
    }

    /// Converts values number `from`, `from + 1`, … into `out`.
    fn fill<S: Source, T: Target>(&self, file: &[u8], from: usize, out: &mut [T]) -> Result<(), Bad> {
        let (length, stride) = self.inner;
        let mut done = 0;
        while done < out.len() {
            let (run, column) = ((from + done) / length, (from + done) % length);
            let take = (length - column).min(out.len() - done);
            let begin = self.position(run) + column * stride;
            let end = begin + (take - 1) * stride + S::SIZE;
            let bytes = file.get(begin..end).ok_or(Bad::OutOfFile)?;
            let out_run = &mut out[done..done + take];
            if stride == S::SIZE {
                convert_run(bytes.chunks_exact(S::SIZE).map(S::read), out_run)?;
            } else {
                convert_run(
                    (0..take).map(|i| S::read(bytes.get(i * stride..).unwrap_or_default())),
                    out_run,
                )?;
            }
            done += take;
        }
        Ok(())
    }
}

/// Converts value by value; one pass, so that a file is read once.
fn convert_run<S: Source, T: Target>(values: impl Iterator<Item = S>, out: &mut [T]) -> Result<(), Bad> {
    let (mut finite, mut fits) = (true, true);
    for (slot, value) in out.iter_mut().zip(values) {
        let converted = T::convert(value);
        finite &= value.is_finite();
        fits &= converted.fits();
        *slot = converted;
    }
    match (finite, fits) {
        (false, _) => Err(Bad::NotFinite),
        (true, false) => Err(Bad::TooLarge),
        (true, true) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
