//! Which models the files of an architecture are, and the sizes that their metadata states.

use std::collections::BTreeMap;

use super::{
    header::{HeaderError, Record},
    reader::Value,
};

/// What the transformers, VAEs and text encoders of Wan 2.1 are called; a file may say nothing.
const OURS: &[&str] = &["wan", "pig", "cow", "t5", "t5encoder"];

/// What others are.
const OTHERS: &[(&str, &str)] = &[
    ("llama", "a language model"),
    ("qwen", "a language model"),
    ("gemma", "a language model"),
    ("mistral", "a language model"),
    ("phi", "a language model"),
    ("gpt", "a language model"),
    ("deepseek", "a language model"),
    ("bert", "a text encoder of another network"),
    ("clip", "CLIP, which this model does not have"),
    ("flux", "FLUX, which makes images"),
    ("sd1", "Stable Diffusion"),
    ("sd3", "Stable Diffusion 3"),
    ("sdxl", "Stable Diffusion XL"),
    ("aura", "AuraFlow"),
    ("hidream", "HiDream"),
    ("hyvid", "HunyuanVideo"),
    ("ltxv", "LTX-Video"),
    ("cosmos", "Cosmos"),
    ("lumina", "Lumina"),
    ("whisper", "a speech recogniser"),
];

const ADVICE: &str = "give a GGUF file of Wan 2.1 1.3B (text to video), or of its text encoder UMT5-XXL";

/// What is computed with in UMT5, whatever a file says.
const EPSILON: f64 = 1e-6;

/// Refuses the files of other models by name.
pub(super) fn check(metadata: &BTreeMap<String, Value>) -> Result<(), HeaderError> {
    let name = match metadata.get("general.architecture") {
        None => return Ok(()),
        Some(Value::Text(name)) => name.as_str(),
        Some(_) => return Err(HeaderError::Damaged("its `general.architecture` is no text".into())),
    };
    if OURS.contains(&name) {
        return Ok(());
    }
    let known = OTHERS.iter().find(|(start, _)| name.starts_with(start));
    let shown: String = name.chars().take(40).flat_map(char::escape_debug).collect();
    let model = known.map_or("another model", |(_, model)| model);
    Err(HeaderError::Unsupported(
        format!("its architecture is `{shown}`: {model}"),
        ADVICE,
    ))
}

/// Where a size of the metadata is seen in the shape of a tensor.
const SIZES: &[(&str, &str, usize)] = &[
    ("embedding_length", "token_embd.weight", 1),
    ("feed_forward_length", "enc.blk.0.ffn_up.weight", 0),
    ("attention.head_count", "enc.blk.0.attn_rel_b.weight", 1),
    ("attention.relative_buckets_count", "enc.blk.0.attn_rel_b.weight", 0),
];

/// Compares the sizes of a text encoder with its tensors.
pub(super) fn check_sizes(metadata: &BTreeMap<String, Value>, tensors: &[Record]) -> Result<(), HeaderError> {
    let Some(prefix) = ["t5encoder.", "t5."]
        .into_iter()
        .find(|prefix| metadata.keys().any(|key| key.starts_with(prefix)))
    else {
        return Ok(());
    };
    let stated = |key: &str| metadata.get(&format!("{prefix}{key}"));
    let shape = |name: &str| {
        tensors
            .iter()
            .find(|tensor| tensor.name == name)
            .map(|tensor| &tensor.shape)
    };
    let compare = |key: &str, found: Option<usize>, what: &str| match (stated(key), found) {
        (Some(Value::Integer(number)), Some(found)) if usize::try_from(*number) != Ok(found) => Err(format!(
            "its metadata gives `{prefix}{key}` = {number}, but {what} {found}"
        )),
        _ => Ok(()),
    };
    for (key, tensor, dimension) in SIZES {
        let found = shape(tensor).and_then(|shape| shape.get(*dimension)).copied();
        compare(key, found, &format!("the size of `{tensor}` is"))?;
    }
    let blocks = tensors.iter().filter_map(|tensor| {
        let (block, _) = tensor.name.strip_prefix("enc.blk.")?.split_once('.')?;
        block.parse::<usize>().ok()
    });
    let blocks = blocks.max().map(|last| last.saturating_add(1));
    compare("block_count", blocks, "the number of blocks is")?;
    for key in ["attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon"] {
        match stated(key) {
            // It is stored in 32 bits.
            Some(Value::Float(epsilon)) if (epsilon / EPSILON - 1.0).abs() > 1e-3 => {
                return Err(HeaderError::Unsupported(
                    format!("its metadata gives `{prefix}{key}` = {epsilon}; UMT5 has {EPSILON}"),
                    ADVICE,
                ));
            }
            _ => {}
        }
    }
    Ok(())
}
