//! LoRA: small changes to the matrices of a model, merged while they are read (docs/algorithms/checkpoints.md section 4).
//!
//! | file | what it holds |
//! |---|---|
//! | `names` | the spellings of all tools, as tables |
//! | `alpha` | how strongly pairs work, where their tensors do not say |
//! | `choice` | a LoRA as people name it |
//! | `deltas` | from the parts of a module to the changes of its tensors |
//! | `merge` | the change of each tensor, added to it |

mod alpha;
mod choice;
mod deltas;
mod error;
mod merge;
mod names;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Checkpoint, CheckpointError, KeyMap, OpenOptions, TensorSpec};

pub use choice::LoraChoice;
pub use error::LoraError;
pub use merge::{LoraMerge, Merged};

use alpha::Alphas;
use deltas::{Module, Parts};
use merge::{Delta, Form};
use names::{Modules, Part};

/// State dict of a LoRA in a training file.
const STATE_DICT: &str = "generator_lora";

/// Number of the last block of the 14B models.
const LAST_OF_14B: usize = 39;

/// Names that a message lists.
const NAMED: usize = 5;

/// An opened LoRA file.
pub struct Lora {
    path: PathBuf,
    checkpoint: Checkpoint,
    /// By the names of modules in the file.
    modules: BTreeMap<String, Parts>,
    alphas: Alphas,
}

impl Lora {
    /// Opens a LoRA; reads names and shapes, and what is said of its alpha.
    ///
    /// # Errors
    /// When the file cannot be read, is no LoRA, is incomplete, or holds changes of a kind that is not made.
    pub fn open(path: &Path) -> Result<Self, LoraError> {
        let checkpoint = open_state_dict(path)?;
        let (mut modules, mut others) = (BTreeMap::<String, Parts>::new(), Vec::new());
        for name in checkpoint.names() {
            let Some((module, part)) = names::split(&name) else {
                others.push(name);
                continue;
            };
            let module = module.to_string();
            let parts = modules.entry(module.clone()).or_default();
            if let Some(first) = parts.insert(part, name.clone()) {
                return Err(LoraError::Twice {
                    path: path.into(),
                    module,
                    first,
                    second: name,
                });
            }
        }
        refuse_others(path, &checkpoint, &others, modules.is_empty())?;
        let has_tensors = modules.values().any(|parts| parts.contains_key(&Part::Alpha));
        let lora = Self {
            alphas: Alphas::of(path, &checkpoint, has_tensors)?,
            path: path.into(),
            checkpoint,
            modules,
        };
        lora.refuse_incomplete()?;
        Ok(lora)
    }

    /// Refuses modules of which something is missing.
    fn refuse_incomplete(&self) -> Result<(), LoraError> {
        let lacking = |parts: &Parts| {
            let without_lengths = parts.contains_key(&Part::Down) && !parts.contains_key(&Part::Magnitude);
            let normed =
                (self.alphas.normed && without_lengths).then_some(("the pair of a DoRA (`use_dora`)", "magnitude"));
            deltas::incomplete(parts).or(normed)
        };
        let first = self
            .modules
            .iter()
            .find_map(|(module, parts)| Some((module, lacking(parts)?)));
        match first {
            None => Ok(()),
            Some((module, (has, lacks))) => Err(LoraError::Unpaired {
                path: self.path.clone(),
                module: module.clone(),
                has,
                lacks,
            }),
        }
    }

    /// The changes, each with the model's name of the tensor that it is of. `alpha` counts where the file says none; without
    /// one it is the rank, so that the scale is 1.
    ///
    /// # Errors
    /// When the LoRA does not fit a model with these tensors, or changes nothing of it.
    fn deltas(
        &self,
        model: &[TensorSpec],
        strength: f64,
        alpha: Option<f64>,
    ) -> Result<(Vec<(String, Delta)>, Merged), LoraError> {
        let known = Modules::of(model);
        let mut found: BTreeMap<&str, Module> = BTreeMap::new();
        let (mut unknown, mut of_text) = (Vec::new(), 0);
        for (name, parts) in &self.modules {
            let Some(own) = known.find(name) else {
                match names::of_text_encoder(name) {
                    true => of_text += 1,
                    false => unknown.push(name.as_str()),
                }
                continue;
            };
            let module = Module {
                lora: self,
                known: &known,
                name,
                own,
                parts,
                strength,
                given: alpha,
            };
            if !module.has_targets() {
                unknown.push(name);
            } else if let Some(first) = found.insert(own, module) {
                return Err(self.twice(own, first.name, name));
            }
        }
        self.refuse_unknown(&known, &unknown, found.len())?;
        let mut merged = Merged {
            path: self.path.clone(),
            matrices: 0,
            of: known.matrices(),
            differences: 0,
            idle: 0,
            passed_over: of_text,
            largest: 0.0,
        };
        let mut all = Vec::new();
        let mut differences: BTreeMap<String, &str> = BTreeMap::new();
        for module in found.values() {
            for (tensor, delta) in module.deltas()? {
                merged.largest = merged.largest.max(delta.scale.abs());
                if !matches!(delta.form, Form::Whole(_)) {
                    merged.matrices += 1;
                    merged.idle += usize::from(delta.scale == 0.0 && strength != 0.0);
                } else if let Some(first) = differences.insert(tensor.clone(), module.name) {
                    return Err(self.twice(&tensor, first, module.name));
                }
                all.push((tensor, delta));
            }
        }
        merged.differences = differences.len();
        Ok((all, merged))
    }

    fn twice(&self, module: &str, first: &str, second: &str) -> LoraError {
        LoraError::Twice {
            path: self.path.clone(),
            module: module.into(),
            first: first.into(),
            second: second.into(),
        }
    }

    /// Refuses layers that the model does not have; `matched` is the number of those that it has.
    fn refuse_unknown(&self, known: &Modules, unknown: &[&str], matched: usize) -> Result<(), LoraError> {
        let path = || self.path.clone();
        if let Some((name, network)) = unknown.iter().find_map(|name| Some((*name, names::foreign(name)?))) {
            return Err(LoraError::Foreign {
                path: path(),
                name: name.into(),
                network,
            });
        }
        let beyond = |module: &&&str| names::block(module).is_some_and(|block| block >= known.blocks);
        if let Some(module) = unknown.iter().find(beyond) {
            let last = unknown.iter().filter_map(|module| names::block(module)).max();
            return Err(LoraError::Block {
                path: path(),
                module: (*module).into(),
                blocks: known.blocks,
                of_14b: last == Some(LAST_OF_14B),
            });
        }
        let named = || unknown.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
        match (matched, unknown.len()) {
            (0, count) => Err(LoraError::Nothing {
                path: path(),
                layers: count,
                names: named(),
            }),
            (_, 0) => Ok(()),
            (_, count) => Err(LoraError::Unmatched {
                path: path(),
                count,
                layers: self.modules.len(),
                names: named(),
            }),
        }
    }
}

/// The state dict of a LoRA in a training file, else the file itself.
fn open_state_dict(path: &Path) -> Result<Checkpoint, LoraError> {
    let options = |state_dict: Option<&str>| OpenOptions {
        state_dict: state_dict.map(str::to_string),
        key_map: KeyMap::Verbatim,
    };
    match Checkpoint::open_with(path, &options(Some(STATE_DICT))) {
        Err(CheckpointError::NoStateDict { .. }) => Ok(Checkpoint::open_with(path, &options(None))?),
        opened => Ok(opened?),
    }
}

/// Refuses tensors that are no part of a pair; `alone`: whether the file has no other.
fn refuse_others(path: &Path, checkpoint: &Checkpoint, others: &[String], alone: bool) -> Result<(), LoraError> {
    let kind = others.iter().find_map(|name| Some((name, names::other_kind(name)?)));
    if let Some((name, kind)) = kind {
        return Err(LoraError::Kind {
            path: path.into(),
            name: name.clone(),
            kind,
        });
    }
    if alone {
        return Err(LoraError::NotALora {
            path: path.into(),
            tensors: others.len(),
            looks_like: checkpoint.looks_like(),
        });
    }
    if others.is_empty() {
        return Ok(());
    }
    Err(LoraError::UnknownParts {
        path: path.into(),
        count: others.len(),
        names: others.iter().take(NAMED).map(|name| format!("`{name}`")).collect(),
    })
}

#[cfg(test)]
mod tests;
