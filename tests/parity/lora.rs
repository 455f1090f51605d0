//! Kind `longlive_lora`: a base model and a LoRA, merged while it is read.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use deepforcing::{
    cache::{KvCache, Policy},
    checkpoint::{
        Checkpoint, Weights,
        lora::{Lora, LoraMerge},
    },
    transformer::{CausalWan, Observer, TransformerConfig, WanConfigFile},
};

use super::{Case, number};

/// Merges the LoRA from both of its containers and compares the matrices, then one forward pass, with the LoRA and without.
pub fn run(case: &Case) -> Result<()> {
    let tolerance = case.meta["tolerance"]["atol"].as_f64().unwrap_or(1e-4);
    forward(case, &Model::open(case, None)?, "_base_only", tolerance)?;
    for file in ["lora.safetensors", "lora.pt"] {
        let model = Model::open(case, Some(&case.file(file)))?;
        compare_matrices(case, &model)?;
        forward(case, &model, "", tolerance)?;
    }
    Ok(())
}

struct Model {
    weights: Weights,
    config: TransformerConfig,
}

impl Model {
    fn open(case: &Case, lora: Option<&Path>) -> Result<Self> {
        let file = case.meta["weights"].as_str().context("meta.json names no weights")?;
        let checkpoint = Checkpoint::open(&case.file(file))?;
        let weights = Weights::from_checkpoint(checkpoint, case.compute.dtype, &case.compute.device);
        let stated = &case.meta["model"];
        let from_file = WanConfigFile {
            num_heads: Some(number(stated, "num_heads")?),
            text_len: Some(number(stated, "text_len")?),
            ..WanConfigFile::default()
        };
        let config = TransformerConfig::from_weights(&weights, &from_file)?;
        let Some(lora) = lora else {
            return Ok(Self { weights, config });
        };
        let tensors = CausalWan::expected_tensors(config.clone())?;
        let mut merge = LoraMerge::default();
        let alpha = number(&case.meta, "alpha")?;
        let merged = merge.add(&Lora::open(lora)?, &tensors, 1.0, Some(alpha))?;
        let modules = case.meta["target_modules"].as_array().context("no `target_modules`")?;
        case.check(
            format!("{merged}: expected {} in each block", modules.len()),
            merged.matrices == modules.len() * config.layers && merged.matrices == merged.of,
        );
        case.check(
            format!("the scale is {}", merged.largest),
            merged.largest == number::<f64>(&case.meta, "scale")?,
        );
        Ok(Self {
            weights: weights.changed(Arc::new(merge)),
            config,
        })
    }
}

fn compare_matrices(case: &Case, model: &Model) -> Result<()> {
    let tolerance = case.meta["tolerance"]["merged_weights_atol"].as_f64().unwrap_or(1e-5);
    for name in case.names() {
        if let Some(tensor) = name.strip_prefix("merged.") {
            let shape = case.input(&name)?.dims().to_vec();
            case.close(&name, &model.weights.get(shape, tensor)?, tolerance);
        }
    }
    Ok(())
}

/// One cached call on an empty cache; the stored tensors end in `ending`.
fn forward(case: &Case, model: &Model, ending: &str, tolerance: f64) -> Result<()> {
    let network = CausalWan::new(model.config.clone(), model.weights.clone())?;
    let timestep: f64 = number(&case.meta["forward"], "timestep")?;
    let noisy = case.input("noisy")?.squeeze(0)?;
    let (frames, _, height, width) = noisy.dims4()?;
    let context = network.prompt_context(&case.input("prompt_embeds")?.squeeze(0)?)?;
    let time = network.time_embedding(&vec![timestep; frames])?;
    let shape = network.cache_shape(height, width, frames);
    let mut cache = KvCache::new(Policy::whole(frames), shape, 0, network.dtype(), network.device())?;
    let flow = network.forward(&noisy, &time, &context, 0, &mut cache, &mut Observer::silent())?;
    let estimate = (&noisy - (flow.to_dtype(noisy.dtype())? * (timestep / 1000.0))?)?;
    case.close(&format!("flow{ending}"), &flow.unsqueeze(0)?, tolerance);
    case.close(&format!("x0{ending}"), &estimate.unsqueeze(0)?, tolerance);
    Ok(())
}
