//! `.gguf`: the container of llama.cpp, as the node for ComfyUI by city96 and stable-diffusion.cpp write it
//! (docs/algorithms/gguf.md).
//!
//! | file | what it holds |
//! |---|---|
//! | `reader` | numbers and texts, bounded by the file |
//! | `header` | metadata, places of tensors, and what of a header is refused |
//! | `block_type` | the table of types; `legacy` and `k_quants` decode their blocks |
//! | `architecture` | models that are ours and models that are not; sizes that the metadata states |
//! | `vocabulary` | the tokenizer of a text encoder |

mod architecture;
mod block_type;
mod header;
mod k_quants;
mod legacy;
mod reader;
mod vocabulary;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use memmap2::Mmap;

pub use block_type::BlockType;
pub use vocabulary::{Piece, Vocabulary, carries_tokenizer, is_gguf};

use super::{
    CheckpointError, Contents,
    element::Element,
    stored::{Stored, contiguous},
};
use header::{Header, HeaderError, Kind, Record};
use reader::Value;

/// Before the names of tensors that had to be stored in another shape.
const ORIGINAL_SHAPE: &str = "comfy.gguf.orig_shape.";

/// Reads the header of a file.
pub(super) fn open(path: &Path, map: &Arc<Mmap>) -> Result<Contents, CheckpointError> {
    let Header { metadata, mut tensors } = read_header(path, map)?;
    architecture::check(&metadata).map_err(|error| told(path, error))?;
    if tensors.is_empty() {
        return Err(told(path, HeaderError::Damaged("it holds no tensors".into())));
    }
    restore_shapes(&metadata, &mut tensors).map_err(|error| told(path, error))?;
    split_joined_dimensions(&mut tensors);
    architecture::check_sizes(&metadata, &tensors).map_err(|error| told(path, error))?;
    let stored = tensors.into_iter().map(|tensor| {
        let name = tensor.name.clone();
        Ok((name, stored(path, map, tensor)?))
    });
    Ok(Contents {
        tensors: stored.collect::<Result<HashMap<_, _>, CheckpointError>>()?,
        state_dict: None,
        notes: notes(&metadata),
    })
}

/// Where the tensors of a file lie.
fn read_header(path: &Path, bytes: &[u8]) -> Result<Header, CheckpointError> {
    Header::read(bytes).map_err(|error| told(path, error))
}

fn told(path: &Path, error: HeaderError) -> CheckpointError {
    let path = path.into();
    match error {
        HeaderError::Damaged(reason) => CheckpointError::Damaged { path, reason },
        HeaderError::Unsupported(reason, advice) => CheckpointError::Unsupported { path, reason, advice },
    }
}

fn stored(path: &Path, map: &Arc<Mmap>, tensor: Record) -> Result<Stored, CheckpointError> {
    let element = match tensor.kind {
        Kind::F32 => Element::F32,
        Kind::F16 => Element::F16,
        Kind::Bf16 => Element::Bf16,
        Kind::Blocks(kind) => return Ok(Stored::in_blocks(map, tensor.place.start, kind, tensor.shape)),
        Kind::Named(name) => return Ok(Stored::unreadable(map, Element::Other(name), tensor.shape)),
        Kind::Unknown(number) => return Ok(Stored::unreadable(map, Element::Numbered(number), tensor.shape)),
    };
    let strides = contiguous(&tensor.shape);
    Stored::new(map, tensor.place, element, 0, tensor.shape, strides).map_err(|reason| CheckpointError::BadTensor {
        name: tensor.name,
        origin: path.display().to_string(),
        reason,
    })
}

/// Gives tensors the shapes that they had before they were stored in others.
fn restore_shapes(metadata: &BTreeMap<String, Value>, tensors: &mut [Record]) -> Result<(), HeaderError> {
    for tensor in tensors {
        let key = format!("{ORIGINAL_SHAPE}{}", tensor.name);
        let Some(value) = metadata.get(&key) else { continue };
        let shown = tensor.name.escape_debug();
        let shape = match value {
            Value::Array(array) => array.sizes(),
            _ => None,
        };
        let product = |shape: &[usize]| shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        match shape {
            Some(shape) if product(&shape) == product(&tensor.shape) => tensor.shape = shape,
            Some(shape) => {
                let reason = format!(
                    "tensor `{shown}` has the shape {:?}, and by its metadata {shape:?}, which are not as many values",
                    tensor.shape
                );
                return Err(reason.into());
            }
            None => {
                return Err(format!("`{}` in its metadata is no list of sizes", key.escape_debug()).into());
            }
        }
    }
    Ok(())
}

/// Tools whose tensors have four dimensions at most join outputs and inputs of a convolution in time and space: the bias
/// tells how many outputs there are.
fn split_joined_dimensions(tensors: &mut [Record]) {
    let outputs: HashMap<String, usize> = tensors
        .iter()
        .filter_map(|tensor| match tensor.shape[..] {
            [outputs] => Some((tensor.name.strip_suffix(".bias")?.to_string(), outputs)),
            _ => None,
        })
        .collect();
    for tensor in tensors {
        let [joined, rest @ ..] = &tensor.shape[..] else {
            continue;
        };
        let of_bias = tensor
            .name
            .strip_suffix(".weight")
            .and_then(|module| outputs.get(module));
        let Some(&outputs) = of_bias.filter(|_| rest.len() == 3) else {
            continue;
        };
        if outputs > 0 && *joined > outputs && joined.is_multiple_of(outputs) {
            tensor.shape = [&[outputs, joined / outputs], rest].concat();
        }
    }
}

/// The metadata as texts, without its lists.
fn notes(metadata: &BTreeMap<String, Value>) -> HashMap<String, String> {
    let text = |value: &Value| match value {
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Text(text) => Some(text.clone()),
        Value::Array(_) => None,
    };
    let pairs = metadata
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), text(value)?)));
    pairs.collect()
}

#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;
