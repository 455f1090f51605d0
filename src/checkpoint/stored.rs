//! One tensor inside a mapped file: where it lies, and how it is read.

mod blocks;
mod runs;

use std::{path::Path, sync::Arc};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;

use super::{
    CheckpointError,
    element::{Element, Source, Target},
    gguf::BlockType,
    scaled::{E4m3, E5m2, Scale, Scales},
    staging::{self, Staged},
};
use blocks::Blocks;
use runs::{Fill, Part, Runs};

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
    /// What its values are multiplied by.
    scale: Option<Arc<Scale>>,
    /// The same tensor once more, which must be the same bit for bit where it is read.
    twin: Option<Box<Stored>>,
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

/// Strides of a tensor whose values lie one after the other.
pub(super) fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
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
            scale: None,
            twin: None,
        })
    }

    /// A tensor of blocks, the first at byte `start`; the caller has checked that all lie inside of the file.
    pub(super) fn in_blocks(file: &Arc<Mmap>, start: usize, kind: &'static BlockType, shape: Vec<usize>) -> Self {
        Self {
            start,
            ..Self::unreadable(file, Element::Blocks(kind), shape)
        }
    }

    /// A tensor in a format that is listed and cannot be read.
    pub(super) fn unreadable(file: &Arc<Mmap>, element: Element, shape: Vec<usize>) -> Self {
        Self {
            file: file.clone(),
            start: 0,
            element,
            strides: contiguous(&shape),
            shape,
            scale: None,
            twin: None,
        }
    }

    /// Gives the values a factor.
    pub(super) fn set_scale(&mut self, scale: Arc<Scale>) {
        self.scale = Some(scale);
    }

    /// Whether the values have a factor.
    pub(super) fn is_scaled(&self) -> bool {
        self.scale.is_some()
    }

    /// Takes note of a second copy, which must hold the same values; one in the same place is none.
    /// False when it is of another shape or type.
    pub(super) fn set_twin(&mut self, twin: Stored) -> bool {
        if (twin.element, &twin.shape) != (self.element, &self.shape) {
            return false;
        }
        let same_place =
            Arc::ptr_eq(&twin.file, &self.file) && twin.start == self.start && twin.strides == self.strides;
        if !same_place {
            self.twin = Some(Box::new(twin));
        }
        true
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bytes of all values in the file.
    pub(super) fn bytes(&self) -> u64 {
        let count = self
            .shape
            .iter()
            .fold(1u64, |count, size| count.saturating_mul(*size as u64));
        match self.element {
            Element::Blocks(kind) => (count / kind.values() as u64).saturating_mul(kind.bytes() as u64),
            element => count.saturating_mul(element.size().unwrap_or(1) as u64),
        }
    }

    pub(super) fn element(&self) -> Element {
        self.element
    }

    /// Reads and converts the whole tensor.
    pub(super) fn read(&self, label: Label, dtype: DType, device: &Device) -> Result<Tensor, CheckpointError> {
        let whole = [Part {
            start: self.start,
            first: 0,
            shape: &self.shape,
            strides: &self.strides,
        }];
        if let Some(twin) = &self.twin {
            let own = self.clone_alone().read(label, DType::F32, &Device::Cpu)?;
            same_bits(&own, &twin.read(label, DType::F32, &Device::Cpu)?, label)?;
        }
        self.read_parts(&whole, self.shape.clone(), label, dtype, device)
    }

    /// The same without its twin.
    fn clone_alone(&self) -> Self {
        Self {
            twin: None,
            ..self.clone()
        }
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
        let width: usize = inner.iter().product();
        let parts = rows.iter().map(|row| match usize::try_from(*row) {
            Ok(index) if index < count => Ok(Part {
                start: self.start + index * stride,
                first: index * width,
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
        if let Some(twin) = &self.twin {
            let own = self.clone_alone().read_rows(rows, label, DType::F32, &Device::Cpu)?;
            let other = twin.read_rows(rows, label, DType::F32, &Device::Cpu)?;
            same_bits(&own, &other, label)?;
        }
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
        let count = self.shape.iter().product();
        let scales = self.scale.as_ref().map(|scale| scale.load(label.path, count));
        let scales = scales.transpose()?;
        let scales = scales.as_ref();
        let read = match self.element {
            Element::F64 => self.bring::<f64>(parts, shape, scales, dtype, device),
            Element::F32 => self.bring::<f32>(parts, shape, scales, dtype, device),
            Element::F16 => self.bring::<f16>(parts, shape, scales, dtype, device),
            Element::Bf16 => self.bring::<bf16>(parts, shape, scales, dtype, device),
            Element::I64 => self.bring::<i64>(parts, shape, scales, dtype, device),
            Element::I32 => self.bring::<i32>(parts, shape, scales, dtype, device),
            Element::I16 => self.bring::<i16>(parts, shape, scales, dtype, device),
            Element::I8 => self.bring::<i8>(parts, shape, scales, dtype, device),
            Element::U64 => self.bring::<u64>(parts, shape, scales, dtype, device),
            Element::U32 => self.bring::<u32>(parts, shape, scales, dtype, device),
            Element::U16 => self.bring::<u16>(parts, shape, scales, dtype, device),
            Element::U8 | Element::Bool => self.bring::<u8>(parts, shape, scales, dtype, device),
            Element::F8E4m3 => self.bring::<E4m3>(parts, shape, scales, dtype, device),
            Element::F8E5m2 => self.bring::<E5m2>(parts, shape, scales, dtype, device),
            Element::Blocks(kind) => {
                let blocks = Blocks {
                    file: &self.file,
                    start: self.start,
                    kind,
                };
                blocks.read(parts, shape, dtype, device)
            }
            Element::Other(_) | Element::Numbered(_) => {
                return Err(CheckpointError::StoredDtype {
                    name: label.name.into(),
                    origin: label.origin(),
                    dtype: self.element.to_string(),
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
            Err(Bad::NotFinite) if matches!(self.element, Element::F8E4m3 | Element::F8E5m2) || self.is_scaled() => {
                Err(CheckpointError::FaultyConversion {
                    name: label.name.into(),
                    origin: label.origin(),
                    count: self.count_not_finite(parts, scales),
                    dtype: self.element.name(),
                })
            }
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
        scales: Option<&Scales>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, Bad> {
        if let [part] = parts {
            let runs = Runs::new(part, S::SIZE);
            let fill = Fill {
                runs: &runs,
                file: &self.file,
                scales,
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
        let host = self.convert::<S>(parts, shape, scales, dtype)?;
        host.and_then(|tensor| tensor.to_device(device)).map_err(Bad::Device)
    }

    fn convert<S: Source>(
        &self,
        parts: &[Part],
        shape: Vec<usize>,
        scales: Option<&Scales>,
        dtype: DType,
    ) -> Result<candle_core::Result<Tensor>, Bad> {
        fn tensor<T: Target>(values: Vec<T>, shape: Vec<usize>) -> candle_core::Result<Tensor> {
            Tensor::from_vec(values, shape, &Device::Cpu)
        }
        Ok(match dtype {
            DType::F32 => tensor(self.gather::<S, f32>(parts, scales)?, shape),
            DType::BF16 => tensor(self.gather::<S, bf16>(parts, scales)?, shape),
            DType::F16 => tensor(self.gather::<S, f16>(parts, scales)?, shape),
            DType::F64 => tensor(self.gather::<S, f64>(parts, scales)?, shape),
            DType::I64 => tensor(self.gather::<S, i64>(parts, scales)?, shape),
            DType::U32 => tensor(self.gather::<S, u32>(parts, scales)?, shape),
            DType::U8 => tensor(self.gather::<S, u8>(parts, scales)?, shape),
            // Rare ones take the way over a second copy.
            _ => tensor(self.gather::<S, f64>(parts, scales)?, shape).and_then(|t| t.to_dtype(dtype)),
        })
    }

    /// All values of the parts, one after another, in row-major order.
    fn gather<S: Source, T: Target>(&self, parts: &[Part], scales: Option<&Scales>) -> Result<Vec<T>, Bad> {
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
                scales,
            };
            fill.of::<S, T>(0, own)?;
        }
        Ok(values)
    }

    /// How many values of the parts are not finite: for the message about them, one value after the other.
    fn count_not_finite(&self, parts: &[Part], scales: Option<&Scales>) -> usize {
        let bad = |part: &Part, at: usize| {
            let runs = Runs::new(part, self.element.size().unwrap_or(1));
            let fill = Fill {
                runs: &runs,
                file: &self.file,
                scales,
            };
            let mut value = [0f32];
            let read = match self.element {
                Element::F8E4m3 => fill.of::<E4m3, f32>(at, &mut value),
                Element::F8E5m2 => fill.of::<E5m2, f32>(at, &mut value),
                Element::I8 => fill.of::<i8, f32>(at, &mut value),
                Element::F16 => fill.of::<f16, f32>(at, &mut value),
                Element::Bf16 => fill.of::<bf16, f32>(at, &mut value),
                _ => fill.of::<f32, f32>(at, &mut value),
            };
            read.is_err()
        };
        let of_part = |part: &Part| {
            let values = 0..part.shape.iter().product::<usize>();
            values.into_par_iter().filter(|at| bad(part, *at)).count()
        };
        parts.iter().map(of_part).sum()
    }
}

/// Refuses two copies of a tensor that differ.
fn same_bits(own: &Tensor, other: &Tensor, label: Label) -> Result<(), CheckpointError> {
    let bits = |tensor: &Tensor| tensor.flatten_all().and_then(|values| values.to_vec1::<f32>());
    let differ = |own: &[f32], other: &[f32]| own.iter().zip(other).any(|(a, b)| a.to_bits() != b.to_bits());
    match (bits(own), bits(other)) {
        (Ok(own), Ok(other)) if differ(&own, &other) => Err(CheckpointError::Twins {
            name: label.name.into(),
            origin: label.origin(),
        }),
        (Err(source), _) | (_, Err(source)) => Err(CheckpointError::Device {
            name: label.name.into(),
            source,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
