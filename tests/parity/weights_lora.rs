//! Kind `weights_lora`: LoRAs in the spellings of all tools, merged into one base.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use deepforcing::checkpoint::{
    Checkpoint, Network, TensorSpec, Weights,
    lora::{Lora, LoraMerge, Merged},
};
use serde_json::Value;

use super::{Case, weights_layout::says};

/// What the refusal of a file must say, by a part of the file's name.
const SAYS: &[(&str, &[&str])] = &[
    ("half_pair", &["blocks.0.ffn.0", "has A (down) and no B (up)"]),
    ("rank", &["blocks.0.ffn.0", "rank 3", "rank 4"]),
    ("14b_blocks", &["blocks.39", "2 blocks", "14B"]),
    ("14b_width", &["5120", "14B"]),
    ("i2v", &["k_img", "image-to-video"]),
    ("text_encoder", &["changes nothing", "text encoder"]),
    ("alpha_nan", &["alpha", "finite"]),
    ("dora_scale", &["DoRA", "dora_scale"]),
    ("flux", &["FLUX", "double_blocks"]),
    ("full_model", &["is not a LoRA", "whole model"]),
];

/// A LoRA of a case: file and strength.
type Choice = (String, f64);

pub fn run(case: &Case) -> Result<()> {
    let base = case.meta["base"].as_str().context("meta.json names no base")?;
    let base = Checkpoint::open_network(&case.file(base), Network::Transformer, None)?;
    let (tolerance, tensors) = (&case.meta["tolerance"], base.specs());
    let tolerance = [&tolerance["atol"], &tolerance["rtol"]].map(|value| value.as_f64().unwrap_or(1e-6));
    let mut expected: HashMap<String, Tensor> = HashMap::new();
    for file in case.meta["expected"].as_array().context("no `expected`")? {
        let file = file.as_str().context("`expected` is no list of files")?;
        expected.extend(candle_core::safetensors::load(case.file(file), &Device::Cpu)?);
    }
    let mut left: BTreeSet<&str> = expected.keys().map(String::as_str).collect();
    for (name, info) in case.meta["files"].as_object().context("no `files`")? {
        let alpha = info["needs"]["alpha"].as_f64();
        let mut merge = LoraMerge::default();
        let added: Result<Vec<Merged>> = choices(name, info)?
            .iter()
            .map(|(file, strength)| Ok(merge.add(&Lora::open(&case.file(file))?, &tensors, *strength, alpha)?))
            .collect();
        if info["error"].is_string() {
            says(case, name, added.map(drop), SAYS);
            continue;
        }
        let added = added.with_context(|| name.clone())?;
        if let [merged] = &added[..] {
            counts(case, name, info, merged);
        }
        let weights = Weights::from_checkpoint(base.clone(), DType::F32, &Device::Cpu).changed(Arc::new(merge));
        let group = info["expected_group"].as_str().context("a file has no group")?;
        let prefix = format!("{group}:");
        left.retain(|key| !key.starts_with(&prefix));
        compare(case, name, (&base, &tensors), &weights, tolerance, |tensor| {
            expected.get(&format!("{prefix}{tensor}"))
        })?;
    }
    for key in left {
        case.fail(format!("{key}: stored but never compared"));
    }
    Ok(())
}

/// The files of an entry, each with its strength.
fn choices(name: &str, info: &Value) -> Result<Vec<Choice>> {
    if let Some(files) = info["files"].as_array() {
        let choice = |file: &Value| Some((file[0].as_str()?.to_string(), file[1].as_f64()?));
        let choices: Option<Vec<_>> = files.iter().map(choice).collect();
        return choices.context("`files` are no pairs of file and strength");
    }
    let file = info["file"].as_str().unwrap_or(name).to_string();
    Ok(vec![(file, info["strength"].as_f64().unwrap_or(1.0))])
}

/// What is said of a LoRA is what `meta.json` says of it.
fn counts(case: &Case, name: &str, info: &Value, merged: &Merged) {
    let changed = merged.matrices + merged.differences;
    case.check(
        format!("{name}: {changed} tensors are changed"),
        info["changed"] == changed,
    );
    if let Some(scale) = info["scale"].as_f64() {
        let largest = merged.largest;
        case.check(
            format!("{name}: the scale is {largest}"),
            (largest - scale).abs() < 1e-12,
        );
    }
}

/// Compares all tensors: those that are expected to change with what they become, the others with the base.
fn compare<'a>(
    case: &Case,
    name: &str,
    (base, tensors): (&Checkpoint, &[TensorSpec]),
    weights: &Weights,
    [absolute, relative]: [f64; 2],
    expected: impl Fn(&str) -> Option<&'a Tensor>,
) -> Result<()> {
    let values = |tensor: &Tensor| -> Result<Vec<f32>> { Ok(tensor.flatten_all()?.to_vec1()?) };
    for TensorSpec { name: tensor, shape } in tensors {
        let got = values(&weights.get(shape.clone(), tensor)?)?;
        let (want, room) = match expected(tensor) {
            Some(want) => (values(want)?, [absolute, relative]),
            None => (values(&base.tensor(tensor, DType::F32, &Device::Cpu)?)?, [0.0, 0.0]),
        };
        let near = |(got, want): (&f32, &f32)| {
            let (got, want) = (f64::from(*got), f64::from(*want));
            (got - want).abs() <= room[0] + room[1] * want.abs()
        };
        let equal = got.len() == want.len() && got.iter().zip(&want).all(near);
        case.check(format!("{name}: {tensor} differs"), equal);
    }
    Ok(())
}
