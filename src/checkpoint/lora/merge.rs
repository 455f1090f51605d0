//! Changes of a model's tensors, added while they are read.

use std::{collections::HashMap, path::PathBuf};

use candle_core::{DType, Tensor};

use super::{
    super::{Checkpoint, CheckpointError, TensorSpec, weights::Change},
    Lora, LoraError,
};
use crate::kernels;

/// Two matrices whose product is added to a tensor.
pub(super) struct Pair {
    pub(super) file: Checkpoint,
    /// Names in the file.
    pub(super) down: String,
    pub(super) up: String,
    /// Strength and alpha / rank.
    pub(super) scale: f64,
}

/// What a LoRA changes, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    pub path: PathBuf,
    /// Matrices that it changes, of so many in the blocks of the model.
    pub matrices: usize,
    pub of: usize,
    /// Layers of the text encoder, which stays as it is.
    pub passed_over: usize,
    /// Largest factor that a product is multiplied by.
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
        if self.passed_over > 0 {
            write!(f, "; {} layers of the text encoder are passed over", self.passed_over)?;
        }
        Ok(())
    }
}

/// The LoRAs of a model: what is added to which tensor. Give it to [`Weights::changed`](crate::checkpoint::Weights::changed).
#[derive(Default)]
pub struct LoraMerge {
    pairs: HashMap<String, Vec<Pair>>,
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
        let (pairs, merged) = lora.pairs(model, strength, alpha)?;
        for (tensor, pair) in pairs {
            self.pairs.entry(tensor).or_default().push(pair);
        }
        Ok(merged)
    }
}

impl Change for LoraMerge {
    fn touches(&self, name: &str) -> bool {
        self.pairs.contains_key(name)
    }

    fn apply(&self, name: &str, tensor: Tensor) -> Result<Tensor, CheckpointError> {
        let device_error = |source| CheckpointError::Device {
            name: name.into(),
            source,
        };
        let shape = tensor.dims().to_vec();
        let mut matrix = tensor.flatten_from(1).map_err(device_error)?;
        let device = matrix.device().clone();
        for pair in self.pairs.get(name).into_iter().flatten() {
            if pair.scale == 0.0 {
                continue;
            }
            let factor = |part: &str| {
                let factor = pair.file.tensor(part, DType::F32, &device)?;
                factor.flatten_from(1).map_err(device_error)
            };
            let (up, down) = (factor(&pair.up)?, factor(&pair.down)?);
            matrix = kernels::add_low_rank(matrix, &up, &down, pair.scale).map_err(device_error)?;
        }
        matrix.reshape(shape).map_err(device_error)
    }
}
