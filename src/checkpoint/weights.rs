//! What a network's constructor asks for its tensors.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use candle_core::{DType, Device, Tensor};

use super::{Checkpoint, CheckpointError};

/// Name and shape of a tensor, as a model expects it in its file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<usize>,
}

/// Where tensors come from.
#[derive(Clone)]
enum Source {
    File(Checkpoint),
    Memory(Arc<HashMap<String, Tensor>>),
    /// Gives zeros without memory and remembers what was asked for.
    Recorder(Arc<Mutex<BTreeMap<String, Vec<usize>>>>),
}

/// Something that changes tensors while they are read.
pub trait Change: Send + Sync {
    /// Whether the tensor of this name is changed.
    fn touches(&self, name: &str) -> bool;

    /// The changed tensor, of the same shape. `tensor` is f32 and shared with nobody, so that it may be changed itself.
    ///
    /// # Errors
    /// When what it is changed by cannot be read, or on a device failure.
    fn apply(&self, name: &str, tensor: Tensor) -> Result<Tensor, CheckpointError>;
}

/// Tensors under a name prefix, converted to one dtype on one device.
///
/// Constructors of networks take this and ask for every tensor by name and shape, so that the same code that builds a
/// model also tells what its file must hold ([`Weights::recorder`]).
#[derive(Clone)]
pub struct Weights {
    source: Source,
    change: Option<Arc<dyn Change>>,
    prefix: String,
    dtype: DType,
    device: Device,
}

impl Weights {
    /// Tensors of a file.
    pub fn from_checkpoint(checkpoint: Checkpoint, dtype: DType, device: &Device) -> Self {
        Self::new(Source::File(checkpoint), dtype, device)
    }

    /// Tensors in memory (tests, benchmarks with random weights).
    pub fn from_tensors(tensors: HashMap<String, Tensor>, dtype: DType, device: &Device) -> Self {
        Self::new(Source::Memory(Arc::new(tensors)), dtype, device)
    }

    /// Weights that hold nothing and record what is asked for; see [`Weights::recorded`].
    pub fn recorder() -> Self {
        Self::new(Source::Recorder(Arc::default()), DType::F32, &Device::Cpu)
    }

    fn new(source: Source, dtype: DType, device: &Device) -> Self {
        Self {
            source,
            change: None,
            prefix: String::new(),
            dtype,
            device: device.clone(),
        }
    }

    /// The same weights with a change, which is made in f32 before a tensor is rounded to their dtype.
    #[must_use]
    pub fn changed(self, change: Arc<dyn Change>) -> Self {
        Self {
            change: Some(change),
            ..self
        }
    }

    /// The change of a tensor, under its full name.
    fn change_of(&self, name: &str) -> Option<&dyn Change> {
        self.change.as_deref().filter(|change| change.touches(name))
    }

    /// What was asked of a [`Weights::recorder`] so far, sorted by name; empty for other sources.
    pub fn recorded(&self) -> Vec<TensorSpec> {
        let Source::Recorder(seen) = &self.source else {
            return Vec::new();
        };
        let seen = seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        seen.iter()
            .map(|(name, shape)| TensorSpec {
                name: name.clone(),
                shape: shape.clone(),
            })
            .collect()
    }

    /// The same weights under a longer prefix: `w.pp("blocks").pp(3)` asks for `blocks.3.*`.
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            prefix: self.full_name(&name.to_string()),
            ..self.clone()
        }
    }

    /// Device on which tensors are given out.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Dtype in which tensors are given out.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether the source has the tensor `name` (always true for a recorder).
    pub fn contains(&self, name: &str) -> bool {
        match &self.source {
            Source::Recorder(_) => true,
            _ => self.shape(name).is_some(),
        }
    }

    /// Shape of tensor `name`, if the source has it; a recorder has none.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let name = self.full_name(name);
        match &self.source {
            Source::File(file) => file.shape(&name),
            Source::Memory(tensors) => tensors.get(&name).map(|t| t.dims().to_vec()),
            Source::Recorder(_) => None,
        }
    }

    /// Tensor `name`, which must have exactly this shape.
    ///
    /// # Errors
    /// When it is missing, has another shape, or holds values that are not finite.
    pub fn get(&self, shape: impl Into<Vec<usize>>, name: &str) -> Result<Tensor, CheckpointError> {
        let shape = shape.into();
        self.get_as(shape.clone(), name, shape)
    }

    /// Tensor `name` of shape `stored` in the file, reshaped to `wanted` (same element count).
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn get_as(
        &self,
        stored: impl Into<Vec<usize>>,
        name: &str,
        wanted: impl Into<Vec<usize>>,
    ) -> Result<Tensor, CheckpointError> {
        let (stored, wanted, name) = (stored.into(), wanted.into(), self.full_name(name));
        let device_error = |source| CheckpointError::Device {
            name: name.clone(),
            source,
        };
        let change = self.change_of(&name);
        let dtype = if change.is_some() { DType::F32 } else { self.dtype };
        let tensor = match &self.source {
            Source::Recorder(seen) => {
                seen.lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .insert(name.clone(), stored);
                // Stride 0: a full-size model is recorded without its memory.
                return Tensor::zeros((), self.dtype, &self.device)
                    .and_then(|zero| zero.broadcast_as(wanted))
                    .map_err(device_error);
            }
            Source::File(file) => {
                let found = file.shape(&name).ok_or_else(|| self.missing(&name))?;
                self.check_shape(&name, found, &stored)?;
                file.tensor(&name, dtype, &self.device)?
            }
            Source::Memory(tensors) => {
                let tensor = tensors.get(&name).ok_or_else(|| self.missing(&name))?;
                self.check_shape(&name, tensor.dims().to_vec(), &stored)?;
                let tensor = tensor.to_dtype(dtype).and_then(|t| t.to_device(&self.device));
                let own = |tensor: Tensor| if change.is_some() { tensor.copy() } else { Ok(tensor) };
                tensor.and_then(own).map_err(device_error)?
            }
        };
        let tensor = match change {
            Some(change) => change
                .apply(&name, tensor)?
                .to_dtype(self.dtype)
                .map_err(device_error)?,
            None => tensor,
        };
        tensor.reshape(wanted).map_err(device_error)
    }

    /// Rows `rows` of matrix `name` of shape `[count, columns]`, without reading the rest: `[rows.len(), columns]`.
    ///
    /// # Errors
    /// As [`Weights::get`]; also when a row lies outside the matrix.
    pub fn rows(&self, shape: [usize; 2], name: &str, rows: &[u32]) -> Result<Tensor, CheckpointError> {
        let device_error = |source| CheckpointError::Device {
            name: self.full_name(name),
            source,
        };
        let file = match &self.source {
            Source::File(file) if self.change_of(&self.full_name(name)).is_none() => file,
            Source::File(_) | Source::Memory(_) => {
                self.check_rows(shape, name, rows)?;
                let matrix = self.get(shape, name)?;
                return Tensor::new(rows, matrix.device())
                    .and_then(|index| matrix.index_select(&index, 0))
                    .map_err(device_error);
            }
            Source::Recorder(_) => {
                self.check_rows(shape, name, rows)?;
                let columns = self.get(shape, name)?.narrow(0, 0, shape[0].min(1));
                return columns
                    .and_then(|row| row.broadcast_as((rows.len(), shape[1])))
                    .map_err(device_error);
            }
        };
        let name = self.full_name(name);
        let found = file.shape(&name).ok_or_else(|| self.missing(&name))?;
        self.check_shape(&name, found, &shape)?;
        file.rows(&name, rows, self.dtype, &self.device)
    }

    fn check_rows(&self, shape: [usize; 2], name: &str, rows: &[u32]) -> Result<(), CheckpointError> {
        match rows
            .iter()
            .find(|row| usize::try_from(**row).map_or(true, |row| row >= shape[0]))
        {
            None => Ok(()),
            Some(row) => Err(CheckpointError::Row {
                name: self.full_name(name),
                origin: self.origin(),
                row: *row,
                count: shape[0],
            }),
        }
    }

    /// Names the file, for messages.
    pub fn origin(&self) -> String {
        match &self.source {
            Source::File(file) => file.path().display().to_string(),
            Source::Memory(_) => "memory".into(),
            Source::Recorder(_) => "recorder".into(),
        }
    }

    fn full_name(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.into(),
            prefix => format!("{prefix}.{name}"),
        }
    }

    fn missing(&self, name: &str) -> CheckpointError {
        CheckpointError::Missing {
            name: name.into(),
            origin: self.origin(),
        }
    }

    fn check_shape(&self, name: &str, found: Vec<usize>, expected: &[usize]) -> Result<(), CheckpointError> {
        if found == expected {
            return Ok(());
        }
        Err(CheckpointError::Shape {
            name: name.into(),
            origin: self.origin(),
            found,
            expected: expected.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorder_remembers_and_costs_nothing() {
        let weights = Weights::recorder();
        let block = weights.pp("blocks").pp(3);
        assert_eq!(
            block.get([1 << 20, 1 << 20], "weight").unwrap().dims(),
            [1 << 20, 1 << 20]
        );
        assert_eq!(weights.get_as([4, 1], "gamma", [4]).unwrap().dims(), [4]);
        assert_eq!(
            weights.rows([1 << 30, 1 << 20], "table", &[0, 7]).unwrap().dims(),
            [2, 1 << 20]
        );
        assert!(weights.rows([5, 2], "small", &[5]).is_err());
        let names: Vec<_> = weights.recorded().into_iter().map(|spec| spec.name).collect();
        assert_eq!(names, ["blocks.3.weight", "gamma", "table"]);
    }

    #[test]
    fn memory_is_asked_by_exact_shape() {
        let table = Tensor::arange(0f32, 6., &Device::Cpu).unwrap().reshape((3, 2)).unwrap();
        let weights = Weights::from_tensors([("a.t".into(), table)].into(), DType::F64, &Device::Cpu);
        let a = weights.pp("a");
        assert_eq!(
            a.rows([3, 2], "t", &[2, 0]).unwrap().to_vec2::<f64>().unwrap(),
            [[4., 5.], [0., 1.]]
        );
        assert!(matches!(
            a.rows([3, 2], "t", &[3]),
            Err(CheckpointError::Row { row: 3, count: 3, .. })
        ));
        assert!(matches!(a.get([2, 3], "t"), Err(CheckpointError::Shape { .. })));
        assert!(matches!(a.get([2, 3], "u"), Err(CheckpointError::Missing { .. })));
    }
}
