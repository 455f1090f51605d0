//! Changes of a model's tensors, added while they are read.

use std::{collections::HashMap, path::PathBuf};

use candle_core::{DType, Device, Tensor};

use super::{
    super::{Checkpoint, CheckpointError, TensorSpec, weights::Change},
    Lora, LoraError,
};
use crate::kernels;

/// A change of a tensor.
pub(super) struct Delta {
    pub(super) file: Checkpoint,
    /// Strength and alpha / rank.
    pub(super) scale: f64,
    pub(super) form: Form,
}

/// How a change is stored; texts are names of tensors in the file.
pub(super) enum Form {
    /// The product of two matrices, `up · down`.
    Pair { down: String, up: String },
    /// All of it.
    Whole(String),
    /// The Kronecker product of two matrices (LoKr).
    Kron(Factor, Factor),
    /// The product of two matrices element by element (LoHa).
    Hadamard(Factor, Factor),
    /// The product of two matrices, and the lengths of the rows of the sum (DoRA).
    Normed {
        down: String,
        up: String,
        magnitude: String,
    },
}

/// A matrix, or two whose product it is.
pub(super) enum Factor {
    Whole(String),
    Product(String, String),
}

/// What a LoRA changes, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    pub path: PathBuf,
    /// Matrices that it changes by products, of so many in the blocks of the model.
    pub matrices: usize,
    pub of: usize,
    /// Tensors that it changes by differences which it holds as a whole.
    pub differences: usize,
    /// Matrices whose alpha is 0, so that they stay as they are.
    pub idle: usize,
    /// Layers of the text encoder, which stays as it is.
    pub passed_over: usize,
    /// Largest factor that a change is multiplied by.
    pub largest: f64,
}

impl std::fmt::Display for Merged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            path,
            matrices,
            of,
            largest,
            ..
        } = self;
        let path = path.display();
        write!(
            f,
            "LoRA `{path}`: {matrices} of {of} matrices are changed, by a factor of at most {largest}"
        )?;
        if self.differences > 0 {
            write!(f, "; {} tensors are changed by whole differences", self.differences)?;
        }
        if self.idle > 0 {
            write!(f, "; {} matrices have the alpha 0 and stay as they are", self.idle)?;
        }
        if self.passed_over > 0 {
            write!(f, "; {} layers of the text encoder are passed over", self.passed_over)?;
        }
        Ok(())
    }
}

/// The LoRAs of a model: what is added to which tensor. Give it to [`Weights::changed`](crate::checkpoint::Weights::changed).
#[derive(Default)]
pub struct LoraMerge {
    deltas: HashMap<String, Vec<Delta>>,
}

impl LoraMerge {
    /// Adds a LoRA for a model with the tensors `model`. `alpha` counts where the file says none; without one the scale is
    /// the strength alone.
    ///
    /// # Errors
    /// When the LoRA does not fit the model, or changes nothing of it.
    pub fn add(
        &mut self,
        lora: &Lora,
        model: &[TensorSpec],
        strength: f64,
        alpha: Option<f64>,
    ) -> Result<Merged, LoraError> {
        let (deltas, merged) = lora.deltas(model, strength, alpha)?;
        for (tensor, delta) in deltas {
            let of_tensor = self.deltas.entry(tensor.clone()).or_default();
            if delta.is_normed() && of_tensor.iter().any(Delta::is_normed) {
                return Err(LoraError::TwoNormed {
                    path: merged.path,
                    tensor,
                });
            }
            // It is about the weight as the model has it; all others are sums, in any order.
            let place = if delta.is_normed() { 0 } else { of_tensor.len() };
            of_tensor.insert(place, delta);
        }
        Ok(merged)
    }
}

impl Change for LoraMerge {
    fn touches(&self, name: &str) -> bool {
        self.deltas.contains_key(name)
    }

    fn apply(&self, name: &str, tensor: Tensor) -> Result<Tensor, CheckpointError> {
        let device_error = |source| CheckpointError::Device {
            name: name.into(),
            source,
        };
        let shape = tensor.dims().to_vec();
        let rows = shape.first().copied().unwrap_or(1);
        let mut matrix = tensor.reshape((rows, ())).map_err(device_error)?;
        for delta in self.deltas.get(name).into_iter().flatten() {
            // The lengths of rows change without a product, too.
            if delta.scale != 0.0 || delta.is_normed() {
                matrix = delta.added_to(matrix, name)?;
            }
        }
        matrix.reshape(shape).map_err(device_error)
    }
}

impl Delta {
    fn is_normed(&self) -> bool {
        matches!(self.form, Form::Normed { .. })
    }

    /// The sum with a matrix, which nobody else has.
    fn added_to(&self, matrix: Tensor, name: &str) -> Result<Tensor, CheckpointError> {
        let device_error = |source| CheckpointError::Device {
            name: name.into(),
            source,
        };
        let device = matrix.device().clone();
        let read = |part: &str| -> Result<Tensor, CheckpointError> {
            let tensor = self.file.tensor(part, DType::F32, &device)?;
            let rows = tensor.dims().first().copied().unwrap_or(1);
            tensor.reshape((rows, ())).map_err(device_error)
        };
        let scale = self.scale;
        let sum = match &self.form {
            Form::Pair { down, up } => kernels::add_low_rank(matrix, &read(up)?, &read(down)?, scale),
            Form::Whole(whole) => {
                // Dimensions of 1 may stand elsewhere.
                let whole = read(whole)?.reshape(matrix.shape()).map_err(device_error)?;
                add(&matrix, &whole, scale)
            }
            Form::Kron(first, second) => {
                let factors = (first.read(&read)?, second.read(&read)?);
                kron(&factors.0, &factors.1).and_then(|product| add(&matrix, &product, scale))
            }
            Form::Hadamard(first, second) => {
                let factors = (first.read(&read)?, second.read(&read)?);
                (factors.0 * factors.1).and_then(|product| add(&matrix, &product, scale))
            }
            Form::Normed { down, up, magnitude } => {
                let sum = kernels::add_low_rank(matrix, &read(up)?, &read(down)?, scale);
                let normed = sum.and_then(|sum| with_lengths(&sum, &read_column(&self.file, magnitude, &device)?));
                let normed = normed.map_err(device_error)?;
                check_finite(&normed, name, &self.file)?;
                Ok(normed)
            }
        };
        sum.map_err(device_error)
    }
}

impl Factor {
    fn read(&self, read: &dyn Fn(&str) -> Result<Tensor, CheckpointError>) -> Result<Tensor, CheckpointError> {
        match self {
            Self::Whole(name) => read(name),
            Self::Product(a, b) => read(a)?.matmul(&read(b)?).map_err(|source| CheckpointError::Device {
                name: a.clone(),
                source,
            }),
        }
    }
}

fn add(matrix: &Tensor, change: &Tensor, scale: f64) -> candle_core::Result<Tensor> {
    matrix + (change * scale)?
}

/// `[a, b]` and `[c, d]` give `[a·c, b·d]`.
fn kron(first: &Tensor, second: &Tensor) -> candle_core::Result<Tensor> {
    let ((a, b), (c, d)) = (first.dims2()?, second.dims2()?);
    let product = first
        .reshape((a, 1, b, 1))?
        .broadcast_mul(&second.reshape((1, c, 1, d))?)?;
    product.reshape((a * c, b * d))
}

/// A vector as a column.
fn read_column(file: &Checkpoint, name: &str, device: &Device) -> candle_core::Result<Tensor> {
    let vector = file.tensor(name, DType::F32, device);
    vector.map_err(candle_core::Error::wrap)?.reshape(((), 1))
}

/// The rows of a matrix with these lengths.
fn with_lengths(matrix: &Tensor, lengths: &Tensor) -> candle_core::Result<Tensor> {
    let own = matrix.sqr()?.sum_keepdim(1)?.sqrt()?;
    matrix.broadcast_mul(&(lengths / own)?)
}

/// A row of zeros has no direction that it could be made longer in.
fn check_finite(tensor: &Tensor, name: &str, file: &Checkpoint) -> Result<(), CheckpointError> {
    let sum = tensor.sum_all().and_then(|sum| sum.to_scalar::<f32>());
    match sum {
        Ok(sum) if sum.is_finite() => Ok(()),
        Ok(_) => Err(CheckpointError::NotFinite {
            name: name.into(),
            origin: file.path().display().to_string(),
        }),
        Err(source) => Err(CheckpointError::Device {
            name: name.into(),
            source,
        }),
    }
}
