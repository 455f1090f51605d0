//! Weights of 8 bits with the scales that belong to them, in the spellings of all tools
//! (docs/algorithms/weights_fp8.md).
//!
//! | file | what it holds |
//! |---|---|
//! | `float8` | the two formats of floating-point numbers of 8 bits |
//! | `described` | what files say of how their layers were quantised |

mod described;
mod error;
mod float8;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use candle_core::{DType, Device};

use super::{
    CheckpointError,
    element::Element,
    layout::{Layout, OF_FILE, Side},
    stored::{Label, Stored},
};

pub use error::ScaledError;
pub(super) use float8::{E4m3, E5m2};

/// The scales of a weight: value number i is multiplied by scale number i / `run`.
#[derive(Clone)]
pub(super) struct Scale {
    name: String,
    values: Stored,
    /// A factor of all scales, with its name.
    whole: Option<(String, Stored)>,
}

/// Scales in memory.
pub(super) struct Scales {
    pub(super) values: Vec<f32>,
    /// Values of the weight that share a scale; they lie one behind the other.
    pub(super) run: usize,
}

impl Scale {
    /// Reads the scales of a weight of `count` values.
    ///
    /// # Errors
    /// When one is not finite.
    pub(super) fn load(&self, path: &Path, count: usize) -> Result<Scales, CheckpointError> {
        let mut values = numbers(&self.values, &self.name, path)?;
        if let Some((name, whole)) = &self.whole {
            let factor = numbers(whole, name, path)?.first().copied().unwrap_or(1.0);
            values.iter_mut().for_each(|value| *value *= factor);
        }
        Ok(Scales {
            run: (count / values.len().max(1)).max(1),
            values,
        })
    }
}

/// All numbers of a tensor.
fn numbers(stored: &Stored, name: &str, path: &Path) -> Result<Vec<f32>, CheckpointError> {
    let tensor = stored.read(Label { name, path }, DType::F32, &Device::Cpu);
    let tensor = tensor.map_err(|error| match error {
        CheckpointError::NotFinite { .. } => CheckpointError::Scaled {
            path: path.into(),
            source: Box::new(ScaledError::NotFinite { name: name.into() }),
        },
        error => error,
    })?;
    let values = tensor.flatten_all().and_then(|values| values.to_vec1());
    values.map_err(|source| CheckpointError::Device {
        name: name.into(),
        source,
    })
}

/// Scales of weights, by the weights' names in the model, and what else is said of them.
#[derive(Default)]
struct Found<'a> {
    scales: BTreeMap<&'a str, &'a str>,
    wholes: BTreeMap<&'a str, &'a str>,
    /// Whether the file says in any way that its weights are scaled.
    marked: bool,
}

impl<'a> Found<'a> {
    /// Goes by the names of tensors that describe others.
    fn of(layout: &'a Layout) -> Result<Self, ScaledError> {
        let mut found = Self::default();
        for side in &layout.sides {
            found.marked |= side.kind == OF_FILE;
            if side.kind == OF_FILE {
                continue;
            }
            if !layout.tensors.contains_key(&side.of) {
                return Err(ScaledError::NoWeight {
                    name: side.stored.clone(),
                    weight: layout.stored_name(&side.of),
                });
            }
            found.take(side)?;
        }
        let alone = found
            .wholes
            .iter()
            .find(|(weight, _)| !found.scales.contains_key(*weight));
        if let Some((_, whole)) = alone {
            return Err(ScaledError::NoWeight {
                name: (*whole).into(),
                weight: whole.trim_end_matches("_tensor").into(),
            });
        }
        found.marked |= !found.scales.is_empty();
        Ok(found)
    }

    fn take(&mut self, side: &'a Side) -> Result<(), ScaledError> {
        let into = match side.kind {
            "scale_weight" | "weight_scale" => &mut self.scales,
            "scale_weight_tensor" => &mut self.wholes,
            "weight_scale_2" | "weight_global_scale" | "input_global_scale" => {
                return Err(ScaledError::Format {
                    layer: module(&side.stored).into(),
                    format: "NVFP4 (4-bit numbers with two levels of scales)".into(),
                });
            }
            // Of activations, which are not quantised here; descriptions are read by themselves.
            _ => return Ok(()),
        };
        match into.insert(&side.of, &side.stored) {
            Some(first) => Err(ScaledError::Twice {
                first: first.into(),
                second: side.stored.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// Name of a tensor without what comes behind its module.
fn module(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(module, _)| module)
}

/// Gives the tensors of a network the scales that belong to them. `file`: everything in the file, by its names there;
/// `notes`: what its header says.
///
/// # Errors
/// When a scale is missing, is not what it should be, or the weights were quantised in a way that is not known.
pub(super) fn attach(
    layout: &Layout,
    tensors: &mut BTreeMap<String, Stored>,
    file: &HashMap<String, Stored>,
    notes: &HashMap<String, String>,
) -> Result<(), ScaledError> {
    let found = Found::of(layout)?;
    let described = described::check(layout, tensors, file, notes)?;
    let marked = found.marked || described;
    for (weight, name) in &found.scales {
        let (Some(stored), Some(scale)) = (tensors.get_mut(*weight), file.get(*name)) else {
            continue;
        };
        let whole = found
            .wholes
            .get(weight)
            .and_then(|name| Some(((*name).to_string(), file.get(*name)?.clone())));
        check_scale(name, scale, stored)?;
        if let Some((name, whole)) = &whole {
            check_whole(name, whole, stored)?;
        }
        stored.set_scale(Arc::new(Scale {
            name: (*name).into(),
            values: scale.clone(),
            whole,
        }));
    }
    for (name, stored) in tensors.iter() {
        let lacks = match stored.element() {
            _ if stored.is_scaled() => false,
            Element::I8 => true,
            Element::F8E4m3 | Element::F8E5m2 => marked && is_matrix_of_block(name, stored.shape()),
            _ => false,
        };
        if lacks {
            return Err(ScaledError::NoScale {
                name: layout.stored_name(name),
                dtype: stored.element().name(),
                marked,
            });
        }
    }
    Ok(())
}

/// Whether a tensor is a matrix of an attention or feed-forward layer: what all tools quantise.
fn is_matrix_of_block(name: &str, shape: &[usize]) -> bool {
    shape.len() == 2 && name.starts_with("blocks.") && name.ends_with(".weight") && !name.contains("embedding")
}

/// Whether scales of this type and shape go with a weight.
fn check_scale(name: &str, scale: &Stored, weight: &Stored) -> Result<(), ScaledError> {
    if weight.element() == Element::U8 {
        return Err(ScaledError::Format {
            layer: module(name).into(),
            format: "NVFP4 or another format of less than 8 bits".into(),
        });
    }
    check_dtype(name, scale)?;
    let fits = match (weight.shape(), scale.shape()) {
        (_, scale) if scale.iter().all(|size| *size == 1) => true,
        ([rows, ..], [scales] | [scales, 1]) => scales == rows,
        ([rows, columns], [scales, blocks, 1]) => scales == rows && *blocks > 0 && columns % blocks == 0,
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(shape_error(name, scale, weight))
    }
}

/// Whether a factor of all scales is one number.
fn check_whole(name: &str, whole: &Stored, weight: &Stored) -> Result<(), ScaledError> {
    check_dtype(name, whole)?;
    if whole.shape().iter().all(|size| *size == 1) {
        Ok(())
    } else {
        Err(shape_error(name, whole, weight))
    }
}

fn check_dtype(name: &str, scale: &Stored) -> Result<(), ScaledError> {
    match scale.element() {
        Element::F64 | Element::F32 | Element::F16 | Element::Bf16 => Ok(()),
        other => Err(ScaledError::Dtype {
            name: name.into(),
            dtype: other.name(),
        }),
    }
}

fn shape_error(name: &str, scale: &Stored, weight: &Stored) -> ScaledError {
    ScaledError::Shape {
        name: name.into(),
        scale: scale.shape().to_vec(),
        weight: weight.shape().to_vec(),
    }
}
