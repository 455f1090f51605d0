//! Model files as named tensors.
//!
//! [`Checkpoint`] is a file (or an indexed set of files); [`Weights`] is what a network's constructor asks for its
//! tensors, by name and shape.

mod weights;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::{DType, Device, Tensor};

pub use weights::{TensorSpec, Weights};

/// What is wrong with a model file.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be opened or read.
    #[error("cannot read `{}`: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// A tensor that the model needs is not in the file.
    #[error("tensor `{name}` is missing from `{origin}`")]
    Missing { name: String, origin: String },
    /// A tensor has another shape than the model needs.
    #[error("tensor `{name}` in `{origin}` has shape {found:?}, expected {expected:?}")]
    Shape {
        name: String,
        origin: String,
        found: Vec<usize>,
        expected: Vec<usize>,
    },
    /// A tensor holds NaN or infinite values.
    #[error("tensor `{name}` in `{origin}` holds a value that is not finite; the file is damaged, download it again")]
    NotFinite { name: String, origin: String },
    /// Moving a tensor to the device failed.
    #[error("tensor `{name}`: {source}")]
    Device { name: String, source: candle_core::Error },
}

/// An opened model file: names, shapes and data of its tensors.
///
/// Cheap to clone; tensors are read when asked for.
#[derive(Clone)]
pub struct Checkpoint {
    path: PathBuf,
    tensors: Arc<HashMap<String, Tensor>>,
}

impl Checkpoint {
    /// Opens `.safetensors`, `.safetensors.index.json`, `.pt` or `.pth`.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let unreadable = |reason: candle_core::Error| CheckpointError::Unreadable {
            path: path.into(),
            reason: reason.to_string(),
        };
        let tensors = if path.extension().is_some_and(|e| e == "safetensors") {
            candle_core::safetensors::load(path, &Device::Cpu).map_err(unreadable)?
        } else {
            candle_core::pickle::read_all(path)
                .map_err(unreadable)?
                .into_iter()
                .collect()
        };
        Ok(Self {
            path: path.into(),
            tensors: Arc::new(tensors),
        })
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.tensors.keys().cloned().collect();
        names.sort();
        names
    }

    /// Shape of a tensor, if the file has it.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|t| t.dims().to_vec())
    }

    /// Reads one tensor and converts it.
    pub fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor, CheckpointError> {
        let fail = |source| CheckpointError::Device {
            name: name.into(),
            source,
        };
        let tensor = self.tensors.get(name).ok_or_else(|| CheckpointError::Missing {
            name: name.into(),
            origin: self.path.display().to_string(),
        })?;
        tensor.to_dtype(dtype).and_then(|t| t.to_device(device)).map_err(fail)
    }

    /// Reads only the given rows (indices along dimension 0) of a matrix: `[rows.len(), columns]`.
    pub fn rows(&self, name: &str, rows: &[u32], dtype: DType, device: &Device) -> Result<Tensor, CheckpointError> {
        let fail = |source| CheckpointError::Device {
            name: name.into(),
            source,
        };
        let index = Tensor::new(rows, &Device::Cpu).map_err(fail)?;
        self.tensor(name, dtype, &Device::Cpu)?
            .index_select(&index, 0)
            .and_then(|t| t.to_device(device))
            .map_err(fail)
    }
}
