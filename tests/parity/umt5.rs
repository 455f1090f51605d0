//! The UMT5 encoder.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};
use deepforcing::{
    checkpoint::{Checkpoint, TensorSpec, Weights},
    text::{Observer, Sequence, TokenizedPrompt, Umt5, Umt5Config, relative_bucket},
};
use serde_json::Value;

use super::Case;

/// Kind `umt5`: whole encoder with f32 and bf16 weights, intermediate results, bucket tables, names of the real file.
pub fn run(case: &Case) -> Result<()> {
    let text_len = size(case, "text_len")?;
    let ids = rows(case, "ids", text_len)?;
    let lengths: Vec<usize> = rows(case, "mask", text_len)?
        .iter()
        .map(|row| row.iter().sum::<u32>() as usize)
        .collect();
    case.check(
        "prompt_lengths",
        case.meta["prompt_lengths"] == Value::from(lengths.clone()),
    );

    let exact = encoder(case, "weights_f32.pth")?;
    case.check("configuration", exact.config() == &config(case)?);
    let prompts: Vec<_> = ids
        .iter()
        .zip(&lengths)
        .map(|(row, length)| prompt(&row[..*length]))
        .collect();
    let prompts: Vec<_> = prompts.iter().collect();
    case.close(
        "out_f32",
        &Tensor::stack(&exact.encode(&prompts, text_len)?, 0)?,
        tolerance(case, "out_f32")?,
    );
    // The same with padding carried through all blocks.
    let sequences: Vec<_> = ids
        .iter()
        .zip(&lengths)
        .map(|(ids, keys)| Sequence { ids, keys: *keys })
        .collect();
    let padded = exact.encode_with(&sequences, text_len, None)?;
    case.close("out_f32", &Tensor::stack(&padded, 0)?, tolerance(case, "out_f32")?);

    let rounded = encoder(case, "weights_bf16.pth")?;
    let out = Tensor::stack(&rounded.encode(&prompts, text_len)?, 0)?;
    for name in ["out_bf16_weights_upcast", "out_bf16_compute"] {
        case.close(name, &out, tolerance(case, name)?);
    }

    let first = sequences.first().context("no prompt")?;
    activations(case, &exact, first, text_len)?;
    buckets(case)?;
    real_tensors(case)
}

/// Stored `act.*` are those of the first prompt, padded, with a batch dimension.
fn activations(case: &Case, model: &Umt5, sequence: &Sequence, text_len: usize) -> Result<()> {
    let mut seen = HashMap::new();
    let observer: Observer = &mut |name, value| {
        seen.insert(format!("act.{name}"), value.clone());
    };
    model.encode_with(&[*sequence], text_len, Some(observer))?;
    for name in case.names().iter().filter(|name| name.starts_with("act.")) {
        let got = seen
            .get(name)
            .with_context(|| format!("the encoder does not show `{name}`"))?;
        case.close(name, &got.unsqueeze(0)?, tolerance(case, "act.*")?);
    }
    Ok(())
}

fn buckets(case: &Case) -> Result<()> {
    let positions = case.integers("rel_pos")?;
    for (name, buckets) in [("rel_bucket", size(case, "num_buckets")?), ("rel_bucket_real", 32)] {
        let max_distance = size(case, "max_dist")?;
        let table: Vec<_> = positions
            .iter()
            .map(|r| i64::from(relative_bucket(*r, buckets, max_distance)))
            .collect();
        case.exact(name, &table);
    }
    Ok(())
}

/// Every tensor of the real checkpoint is asked for, and nothing else.
fn real_tensors(case: &Case) -> Result<()> {
    let path = case.file("manifests/umt5_xxl_enc_bf16.json");
    if !path.exists() {
        return Ok(());
    }
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let mut want = Vec::new();
    for tensor in manifest["tensors"].as_array().context("manifest: tensors")? {
        let name = tensor["name"].as_str().context("manifest: name")?.to_string();
        want.push(TensorSpec {
            name,
            shape: serde_json::from_value(tensor["shape"].clone())?,
        });
    }
    want.sort();
    let got = Umt5::expected_tensors(&Umt5Config::xxl())?;
    for spec in &want {
        case.check(format!("{spec:?} is not asked for"), got.contains(spec));
    }
    for spec in &got {
        case.check(format!("{spec:?} is not in the real checkpoint"), want.contains(spec));
    }
    Ok(())
}

fn encoder(case: &Case, file: &str) -> Result<Umt5> {
    let checkpoint = Checkpoint::open(&case.file(file))?;
    Ok(Umt5::new(Weights::from_checkpoint(
        checkpoint,
        DType::F32,
        &case.compute.device,
    ))?)
}

fn config(case: &Case) -> Result<Umt5Config> {
    ensure!(
        case.meta["config"]["shared_pos"] == Value::Bool(false),
        "UMT5 has a position table per block"
    );
    Ok(Umt5Config {
        vocab: size(case, "vocab_size")?,
        dim: size(case, "dim")?,
        attention_dim: size(case, "dim_attn")?,
        ffn_dim: size(case, "dim_ffn")?,
        heads: size(case, "num_heads")?,
        layers: size(case, "num_layers")?,
        buckets: size(case, "num_buckets")?,
        max_distance: size(case, "max_dist")?,
    })
}

fn size(case: &Case, name: &str) -> Result<usize> {
    let value = case.meta["config"][name].as_u64();
    Ok(value.with_context(|| format!("meta.json: config.{name}"))? as usize)
}

fn tolerance(case: &Case, name: &str) -> Result<f64> {
    let value = case.meta["tolerance"][name]["rel_l2"].as_f64();
    value.with_context(|| format!("meta.json: tolerance of {name}"))
}

fn rows(case: &Case, name: &str, length: usize) -> Result<Vec<Vec<u32>>> {
    let all = case.integers(name)?;
    all.chunks(length)
        .map(|row| row.iter().map(|v| Ok(u32::try_from(*v)?)).collect())
        .collect()
}

fn prompt(ids: &[u32]) -> TokenizedPrompt {
    TokenizedPrompt {
        ids: ids.to_vec(),
        total: ids.len(),
    }
}
