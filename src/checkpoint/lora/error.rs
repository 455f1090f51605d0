//! What can be wrong with a LoRA.

use std::path::PathBuf;

use super::super::CheckpointError;

/// Why a LoRA cannot be merged into a model.
#[derive(Debug, thiserror::Error)]
pub enum LoraError {
    /// The file itself.
    #[error("the LoRA cannot be read: {0}")]
    File(#[from] CheckpointError),
    /// A file without any part of a LoRA.
    #[error(
        "`{}` is not a LoRA: none of its {tensors} tensors is a part of one{}",
        path.display(),
        match looks_like {
            Some(model) => format!(
                "; it looks like a whole model ({model}), which is given with --model, in a folder of model files"
            ),
            None => "; give a file with pairs such as `….lora_A.weight` and `….lora_B.weight`".into(),
        }
    )]
    NotALora {
        path: PathBuf,
        tensors: usize,
        looks_like: Option<&'static str>,
    },
    /// A change that is no pair of matrices.
    #[error(
        "LoRA `{}`: tensor `{name}` is {kind}, which this program does not merge; convert the file to pairs of \
         matrices, or merge it into the model with the tool that made it",
        path.display()
    )]
    Kind {
        path: PathBuf,
        name: String,
        kind: &'static str,
    },
    /// Tensors that are no part of a LoRA.
    #[error(
        "LoRA `{}`: {count} of its tensors are no part of a LoRA that is known: {}; it would be merged in part only",
        path.display(), names.join(", ")
    )]
    UnknownParts {
        path: PathBuf,
        count: usize,
        names: Vec<String>,
    },
    /// One matrix of a pair.
    #[error(
        "LoRA `{}`: layer `{module}` has {has} and no {lacks}; the file is incomplete, get it again",
        path.display()
    )]
    Unpaired {
        path: PathBuf,
        module: String,
        has: &'static str,
        lacks: &'static str,
    },
    /// Two names for one layer.
    #[error(
        "LoRA `{}`: `{first}` and `{second}` are both the layer `{module}`; the file mixes two LoRAs",
        path.display()
    )]
    Twice {
        path: PathBuf,
        module: String,
        first: String,
        second: String,
    },
    /// Factors that do not go together.
    #[error(
        "LoRA `{}`: layer `{module}` has factors of different ranks: A is {down:?} (rank {}), B is {up:?} (rank {}); \
         the file is damaged, get it again",
        path.display(), down.first().copied().unwrap_or(0), up.get(1).copied().unwrap_or(0)
    )]
    Rank {
        path: PathBuf,
        module: String,
        down: Vec<usize>,
        up: Vec<usize>,
    },
    /// A layer of another size.
    #[error(
        "LoRA `{}` does not fit the model: it changes layer `{module}` by a matrix of shape {change:?}, the model's is \
         {weight:?}{hint}; use a LoRA that was made for this model",
        path.display()
    )]
    Shape {
        path: PathBuf,
        module: String,
        change: Vec<usize>,
        weight: Vec<usize>,
        hint: &'static str,
    },
    /// A block that the model does not have.
    #[error(
        "LoRA `{}` does not fit the model: it changes layer `{module}`, and the model has {blocks} blocks (0 to {}){}; \
         use a LoRA that was made for this model",
        path.display(), blocks.saturating_sub(1), if *of_14b { ": it is one for the 14B model" } else { "" }
    )]
    Block {
        path: PathBuf,
        module: String,
        blocks: usize,
        of_14b: bool,
    },
    /// A LoRA of another network.
    #[error(
        "LoRA `{}` is made for {network} (it has `{name}`); use one for the text-to-video model of Wan 2.1",
        path.display()
    )]
    Foreign {
        path: PathBuf,
        name: String,
        network: &'static str,
    },
    /// No layer of the model is changed.
    #[error(
        "LoRA `{}` changes nothing: {}; use a LoRA that was made for this model",
        path.display(),
        match layers {
            0 => "it has layers of the text encoder alone, which stays as it is".into(),
            layers => format!("none of its {layers} layers is in the model ({})", names.join(", ")),
        }
    )]
    Nothing {
        path: PathBuf,
        layers: usize,
        names: Vec<String>,
    },
    /// Some layers are the model's, some are not.
    #[error(
        "LoRA `{}`: {count} of its {layers} layers are not in the model: {}; half a LoRA would give wrong pictures, use \
         one that was made for this model",
        path.display(), names.join(", ")
    )]
    Unmatched {
        path: PathBuf,
        count: usize,
        layers: usize,
        names: Vec<String>,
    },
    /// A DoRA at a strength other than 1.
    #[error(
        "LoRA `{}`: layer `{module}` has a magnitude (DoRA), which replaces the lengths of rows and has no strength \
         {strength}; give it with strength 1",
        path.display()
    )]
    NormedStrength {
        path: PathBuf,
        module: String,
        strength: f64,
    },
    /// Two DoRAs of one layer.
    #[error(
        "LoRA `{}`: another LoRA has given the rows of `{tensor}` their lengths (DoRA), which cannot be done twice; leave \
         one of the two out",
        path.display()
    )]
    TwoNormed { path: PathBuf, tensor: String },
    /// A scale that cannot be.
    #[error("LoRA `{}`: {place} gives the alpha {value}; expected a finite number", path.display())]
    Alpha {
        path: PathBuf,
        place: String,
        value: String,
    },
    /// A description beside or in the file that cannot be used.
    #[error("LoRA `{}`: {place}: {reason}", path.display())]
    Description {
        path: PathBuf,
        place: String,
        reason: String,
    },
}
