//! LoRA: small changes to the matrices of a model, merged while they are read (docs/algorithms/checkpoints.md section 4).
//!
//! | file | what it holds |
//! |---|---|
//! | `names` | the spellings of all tools, as tables |
//! | `alpha` | how strongly pairs work, where their tensors do not say |
//! | `choice` | a LoRA as people name it |
//! | `merge` | the change of each tensor, added to it |

mod alpha;
mod choice;
mod error;
mod merge;
mod names;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device};

use super::{Checkpoint, CheckpointError, KeyMap, OpenOptions, TensorSpec};

pub use choice::LoraChoice;
pub use error::LoraError;
pub use merge::{LoraMerge, Merged};

use alpha::Alphas;
use merge::Pair;
use names::{Modules, Part};

/// State dict of a LoRA in a training file.
const STATE_DICT: &str = "generator_lora";

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

/// Names of the tensors of a module.
#[derive(Default)]
struct Parts {
    down: Option<String>,
    up: Option<String>,
    alpha: Option<String>,
}

impl Parts {
    fn place(&mut self, part: Part) -> &mut Option<String> {
        match part {
            Part::Down => &mut self.down,
            Part::Up => &mut self.up,
            Part::Alpha => &mut self.alpha,
        }
    }
}

impl Lora {
    /// Opens a LoRA; reads names and shapes, and what is said of its alpha.
    ///
    /// # Errors
    /// When the file cannot be read, is no LoRA, or holds changes that are no pairs of matrices.
    pub fn open(path: &Path) -> Result<Self, LoraError> {
        let checkpoint = open_state_dict(path)?;
        let (mut modules, mut others) = (BTreeMap::<String, Parts>::new(), Vec::new());
        for name in checkpoint.names() {
            let Some((module, part)) = names::split(&name) else {
                others.push(name);
                continue;
            };
            let module = module.to_string();
            let place = modules.entry(module.clone()).or_default().place(part);
            if let Some(first) = place.replace(name.clone()) {
                return Err(LoraError::Twice {
                    path: path.into(),
                    module,
                    first,
                    second: name,
                });
            }
        }
        refuse_others(path, &checkpoint, &others, modules.is_empty())?;
        for (module, parts) in &modules {
            let (has, lacks) = match (&parts.down, &parts.up) {
                (Some(_), None) => ("A (down)", "B (up)"),
                (None, Some(_)) => ("B (up)", "A (down)"),
                (None, None) => ("an alpha", "pair of matrices"),
                (Some(_), Some(_)) => continue,
            };
            return Err(LoraError::Unpaired {
                path: path.into(),
                module: module.clone(),
                has,
                lacks,
            });
        }
        let has_tensors = modules.values().any(|parts| parts.alpha.is_some());
        Ok(Self {
            alphas: Alphas::of(path, &checkpoint, has_tensors)?,
            path: path.into(),
            checkpoint,
            modules,
        })
    }

    /// The pairs, each with the model's name of the tensor that it changes. `alpha` counts where the file says none; without
    /// one it is the rank, so that the scale is 1.
    ///
    /// # Errors
    /// When the LoRA does not fit a model with these tensors, or changes nothing of it.
    fn pairs(
        &self,
        model: &[TensorSpec],
        strength: f64,
        alpha: Option<f64>,
    ) -> Result<(Vec<(String, Pair)>, Merged), LoraError> {
        let known = Modules::of(model);
        let mut found: BTreeMap<&str, &str> = BTreeMap::new();
        let (mut unknown, mut of_text) = (Vec::new(), 0);
        for module in self.modules.keys() {
            match known.find(module) {
                Some(own) => {
                    if let Some(first) = found.insert(own, module) {
                        return Err(LoraError::Twice {
                            path: self.path.clone(),
                            module: own.into(),
                            first: first.into(),
                            second: module.clone(),
                        });
                    }
                }
                None if names::of_text_encoder(module) => of_text += 1,
                None => unknown.push(module.as_str()),
            }
        }
        self.refuse_unknown(&known, &unknown, found.len())?;
        let mut largest = 0f64;
        let mut pairs = Vec::with_capacity(found.len());
        for (own, module) in &found {
            let pair = self.pair(module, own, known.shape(own), strength, alpha)?;
            largest = largest.max(pair.scale.abs());
            pairs.push((format!("{own}.weight"), pair));
        }
        let merged = Merged {
            path: self.path.clone(),
            matrices: pairs.len(),
            of: known.matrices(),
            passed_over: of_text,
            largest,
        };
        Ok((pairs, merged))
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
                of_14b: known.blocks == 30 && last == Some(39),
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

    /// The pair of a module; `weight` is the shape of what it changes.
    fn pair(
        &self,
        module: &str,
        own: &str,
        weight: &[usize],
        strength: f64,
        given: Option<f64>,
    ) -> Result<Pair, LoraError> {
        let (Some(down), Some(up)) = self
            .modules
            .get(module)
            .map_or((None, None), |parts| (parts.down.clone(), parts.up.clone()))
        else {
            return Err(LoraError::Unpaired {
                path: self.path.clone(),
                module: module.into(),
                has: "one matrix",
                lacks: "the other",
            });
        };
        let shape = |name: &str| self.checkpoint.shape(name).unwrap_or_default();
        let (down_shape, up_shape) = (shape(&down), shape(&up));
        let rank = rank(&down_shape, &up_shape).ok_or_else(|| LoraError::Rank {
            path: self.path.clone(),
            module: own.into(),
            down: down_shape.clone(),
            up: up_shape.clone(),
        })?;
        let change = [up_shape[0], down_shape[1..].iter().product()];
        if change[0] != weight[0] || change[1] != weight[1..].iter().product::<usize>() {
            let of_14b = change.iter().any(|size| [5120, 13824].contains(size));
            return Err(LoraError::Shape {
                path: self.path.clone(),
                module: own.into(),
                change: change.into(),
                weight: weight.into(),
                hint: if of_14b { ": it is a LoRA for the 14B model" } else { "" },
            });
        }
        let alpha = self.alpha(module)?.or(given).unwrap_or(rank as f64);
        Ok(Pair {
            file: self.checkpoint.clone(),
            scale: strength * self.alphas.scale(alpha, rank),
            down,
            up,
        })
    }

    /// What the file, or its description, says of a module.
    fn alpha(&self, module: &str) -> Result<Option<f64>, LoraError> {
        let Some(name) = self.modules.get(module).and_then(|parts| parts.alpha.as_deref()) else {
            return Ok(self.alphas.of_module(module));
        };
        let value = self.checkpoint.tensor(name, DType::F64, &Device::Cpu)?;
        let values = value.flatten_all().and_then(|values| values.to_vec1::<f64>());
        let values = values.map_err(|source| CheckpointError::Device {
            name: name.into(),
            source,
        })?;
        match values[..] {
            [alpha] => Ok(Some(alpha)),
            _ => Err(LoraError::Alpha {
                path: self.path.clone(),
                place: format!("tensor `{name}`"),
                value: format!("of {} numbers", values.len()),
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

/// The rank of factors `[rank, in…]` and `[out, rank, 1…]`, if they go together.
fn rank(down: &[usize], up: &[usize]) -> Option<usize> {
    let ([rank, _, ..], [_, columns, ones @ ..]) = (down, up) else {
        return None;
    };
    (rank == columns && *rank > 0 && ones.iter().all(|size| *size == 1)).then_some(*rank)
}

#[cfg(test)]
mod tests;
