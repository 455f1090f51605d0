//! Kind `checkpoint_containers`: one tiny model in every container variant of `torch.save`.

use std::collections::HashMap;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use deepforcing::checkpoint::{Checkpoint, CheckpointError, TensorSpec};
use serde_json::Value;

use super::Case;

/// Opens every file that `meta.json` lists and compares every tensor bit by bit.
pub fn run(case: &Case) -> Result<()> {
    let files = case.meta["files"].as_object().context("meta.json has no `files`")?;
    let expected = case.meta["expected"]
        .as_object()
        .context("meta.json has no `expected`")?;
    let mapping = case.meta["key_mapping_example"]
        .as_object()
        .context("meta.json has no `key_mapping_example`")?;
    for name in expected.keys() {
        own_reader_agrees(case, name)?;
    }
    for (file, info) in files {
        let path = case.file(file);
        // Only zip archives have a root folder; the format from before PyTorch 1.6 may be refused, but clearly.
        if info["archive_root"].is_null() {
            let error = Checkpoint::open(&path)
                .err()
                .with_context(|| format!("{file} was accepted"))?;
            let clear = matches!(error, CheckpointError::WrongKind { .. }) && error.to_string().contains("old format");
            case.check(format!("{file}: unclear refusal: {error}"), clear);
            continue;
        }
        let dtype = info["dtype"]
            .as_str()
            .with_context(|| format!("{file} has no `dtype`"))?;
        let want = format!("expected_{dtype}.safetensors");
        case.check(format!("{want} is not listed"), expected.contains_key(&want));
        compare(case, file, &want, dtype)?;
        // `top_key` is null for a flat file, one key, or a sentence that names several.
        let checkpoint = Checkpoint::open(&path)?;
        let named = info["top_key"].as_str();
        let preferred = ["generator_ema", "generator", "model"];
        let key = preferred
            .into_iter()
            .find(|key| named.is_some_and(|text| text.split_whitespace().any(|w| w == *key)));
        case.check(
            format!("{file}: took {:?}, expected {key:?}", checkpoint.state_dict()),
            checkpoint.state_dict() == key,
        );
        for bare in mapping.values().filter_map(Value::as_str) {
            case.check(format!("{file}: no tensor {bare}"), checkpoint.shape(bare).is_some());
        }
    }
    Ok(())
}

fn load(case: &Case, file: &str) -> Result<HashMap<String, Tensor>> {
    Ok(candle_core::safetensors::load(case.file(file), &Device::Cpu)?)
}

/// The expected tensors, read by ourselves.
fn own_reader_agrees(case: &Case, file: &str) -> Result<()> {
    let dtype = load(case, file)?.values().next().context("no tensors")?.dtype();
    compare(case, file, file, dtype.as_str())
}

fn compare(case: &Case, file: &str, want: &str, dtype: &str) -> Result<()> {
    let want = load(case, want)?;
    let count = case.meta["tensor_count"]
        .as_u64()
        .context("meta.json has no `tensor_count`")?;
    let checkpoint = Checkpoint::open(&case.file(file)).with_context(|| file.to_string())?;
    let specs: Vec<_> = want
        .iter()
        .map(|(name, tensor)| TensorSpec {
            name: name.clone(),
            shape: tensor.dims().to_vec(),
        })
        .collect();
    checkpoint.require(&specs, &[])?;
    case.check(
        format!("{file}: {} tensors, expected {count}", checkpoint.names().len()),
        checkpoint.names().len() as u64 == count,
    );
    for (name, want) in &want {
        let stored = checkpoint.stored_dtype(name);
        case.check(
            format!("{file}: {name} is stored as {stored:?}, expected {dtype}"),
            stored == Some(dtype),
        );
        // f32 holds every value of the stored formats exactly.
        let got = checkpoint.tensor(name, DType::F32, &Device::Cpu)?;
        let bits = |tensor: &Tensor| -> Result<Vec<u32>> {
            Ok(tensor
                .to_dtype(DType::F32)?
                .flatten_all()?
                .to_vec1::<f32>()?
                .into_iter()
                .map(f32::to_bits)
                .collect())
        };
        case.check(
            format!("{file}: {name} differs"),
            got.dims() == want.dims() && bits(&got)? == bits(want)?,
        );
        let native = checkpoint.tensor(name, want.dtype(), &Device::Cpu)?;
        case.check(
            format!("{file}: {name} differs in {dtype}"),
            bits(&native)? == bits(want)?,
        );
    }
    Ok(())
}
