//! Kinds `dit_forward`, `dit_bidirectional` and `rope`: the network alone.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use deepforcing::{
    cache::{KvCache, Policy, rope::Rope},
    checkpoint::{Checkpoint, Weights},
    kernels,
    transformer::{CausalWan, Observer, TransformerConfig, WanConfigFile},
};

use super::{Case, number, tolerance};

/// The network of a case, checked against the sizes that its `meta.json` states.
pub fn load_model(case: &Case) -> Result<Arc<CausalWan>> {
    let file = case.meta["weights"].as_str().context("meta.json names no weights")?;
    // Some cases say behind the name where it is.
    let file = file.split_once(" (").map_or(file, |(file, _)| file);
    let weights = Weights::from_checkpoint(
        Checkpoint::open(&case.file(file))?,
        case.compute.dtype,
        &case.compute.device,
    );
    let stated = &case.meta["model"];
    let from_file = WanConfigFile {
        num_heads: Some(number(stated, "num_heads")?),
        text_len: Some(number(stated, "text_len")?),
        eps: stated["eps"].as_f64(),
        ..WanConfigFile::default()
    };
    let config = TransformerConfig::from_weights(&weights, &from_file)?;
    let sizes = [
        (config.dim, "dim"),
        (config.layers, "num_layers"),
        (config.ffn_dim, "ffn_dim"),
        (config.freq_dim, "freq_dim"),
        (config.context_dim, "text_dim"),
        (config.in_channels, "in_dim"),
        (config.out_channels, "out_dim"),
    ];
    for (found, name) in sizes {
        // The two collections name the channels differently.
        let name = match (stated.get(name), name) {
            (None, "in_dim") => "in_channels",
            (None, "out_dim") => "out_channels",
            _ => name,
        };
        // Some cases leave these to the weights.
        if (name.ends_with("_channels") || name == "ffn_dim") && stated.get(name).is_none() {
            continue;
        }
        case.check(
            format!("{name} read from shapes is {found}"),
            found == number::<usize>(stated, name)?,
        );
    }
    Ok(Arc::new(CausalWan::new(config, weights)?))
}

fn timesteps(case: &Case, name: &str) -> Result<Vec<f64>> {
    Ok(case
        .input(name)?
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?
        .to_vec1()?)
}

/// Two chained forwards through one cache, with intermediates.
pub fn run_forward(case: &Case) -> Result<()> {
    let (model, tolerance) = (load_model(case)?, tolerance(case, 1e-5));
    let prompt = case.input("prompt_embeds")?;
    let context = model.prompt_context(&prompt)?;
    let calls = case.meta["calls"].as_array().context("meta.json has no calls")?;
    let mut cache: Option<KvCache> = None;
    for call in calls {
        let text = |key: &str| call[key].as_str().with_context(|| format!("a call has no {key}"));
        let name = text("name")?;
        let input = case.input(text("input")?)?;
        let time = model.time_embedding(&timesteps(case, text("timesteps_per_frame")?)?)?;
        let (frames, _, height, width) = input.dims4()?;
        let cache = match &mut cache {
            Some(cache) => cache,
            None => {
                let capacity = frames * calls.len();
                let shape = model.cache_shape(height, width, frames);
                let policy = Policy::whole(capacity);
                cache.insert(KvCache::new(policy, shape, 0, model.dtype(), model.device())?)
            }
        };
        let mut seen = HashMap::new();
        let mut listen = |key: &str, tensor: &Tensor| {
            seen.insert(key.to_string(), tensor.clone());
        };
        let start = call["start_frame"].as_u64().context("a call has no start_frame")?;
        let flow = model.forward(&input, &time, &context, start, cache, &mut Observer::new(&mut listen))?;
        seen.insert("text".into(), model.context_tokens(&prompt)?);
        case.close(&format!("expected.{name}"), &flow, tolerance);
        for (key, tensor) in seen {
            let stored = format!("expected.{name}.{key}");
            if case.has(&stored) {
                case.close(&stored, &tensor, tolerance);
            }
        }
    }
    for (layer, tokens) in context.blocks.iter().enumerate() {
        case.close(&format!("expected.cross.{layer}.k"), &tokens.keys, tolerance);
        case.close(&format!("expected.cross.{layer}.v"), &tokens.values, tolerance);
    }
    compare_cache(case, "expected.kv", &cache.context("no call was made")?, tolerance)
}

/// Compares rotated keys and values of every layer that is stored.
pub fn compare_cache(case: &Case, prefix: &str, cache: &KvCache, tolerance: f64) -> Result<()> {
    for (layer, tokens) in cache.layers().iter().enumerate() {
        let (keys, values) = tokens.view()?;
        for (name, tensor) in [("k", keys), ("v", values)] {
            let stored = format!("{prefix}.{layer}.{name}");
            if case.has(&stored) {
                case.close(&stored, &tensor, tolerance);
            }
        }
    }
    Ok(())
}

pub fn run_bidirectional(case: &Case) -> Result<()> {
    let model = load_model(case)?;
    let context = model.prompt_context(&case.input("prompt_embeds")?)?;
    let time = model.time_embedding(&timesteps(case, "t")?)?;
    let flow = model.forward_bidirectional(&case.input("x")?, &time, &context, &mut Observer::silent())?;
    case.close("expected.flow", &flow, tolerance(case, 1e-5));
    Ok(())
}

pub fn run_rope(case: &Case) -> Result<()> {
    let grid: Vec<usize> = serde_json::from_value(case.meta["grid"].clone())?;
    let splits = case.meta["splits"].as_array().context("meta.json has no splits")?;
    for split in splits {
        let head_dim: usize = number(split, "head_dim")?;
        let x = case.input(&format!("x.d{head_dim}"))?;
        let prefix = format!("expected.d{head_dim}.start");
        for name in case.names().iter().filter(|name| name.starts_with(&prefix)) {
            let place = name.trim_start_matches(&prefix);
            let (start, delta) = place.split_once(".delta").unwrap_or((place, "0"));
            let position = start.parse::<i64>()? + delta.parse::<i64>()?;
            let angles = Rope::new(head_dim).chunk_angles(position, grid[0], grid[1], grid[2], &case.compute.device)?;
            let rotated = kernels::rotate(&x, &angles.cos, &angles.sin)?;
            case.close(name, &rotated, tolerance(case, 1e-6));
        }
        let pairs = &split["complex_pairs"];
        let stated: [usize; 3] = [number(pairs, "t")?, number(pairs, "h")?, number(pairs, "w")?];
        case.check(
            format!("pairs of head_dim {head_dim}"),
            Rope::new(head_dim).pairs() == stated,
        );
    }
    Ok(())
}
