//! Kind `weights_end_to_end`: a forward pass through weights in the formats of other tools.

use std::collections::HashMap;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use deepforcing::{
    checkpoint::{Checkpoint, Network, Weights},
    transformer::{CausalWan, Observer, TransformerConfig, WanConfigFile},
};

use super::{Case, number};

pub fn run(case: &Case) -> Result<()> {
    let files = case.meta["files"].as_object().context("meta.json has no `files`")?;
    let inputs = Inputs::of(case)?;
    let config = &case.meta["config"];
    let told = WanConfigFile {
        num_heads: Some(number(config, "num_heads")?),
        text_len: Some(number(config, "text_len")?),
        eps: config["eps"].as_f64(),
        ..WanConfigFile::default()
    };
    for file in files.keys() {
        let checkpoint = Checkpoint::open_network(&case.file(file), Network::Transformer, None)?;
        let weights = Weights::from_checkpoint(checkpoint.clone(), case.compute.dtype, &case.compute.device);
        let sizes = TransformerConfig::from_weights(&weights, &told)?;
        checkpoint.require(&CausalWan::expected_tensors(sizes.clone())?, &[])?;
        let model = CausalWan::new(sizes, weights)?;
        let context = model.prompt_context(&inputs.get(case, "prompt_embeds")?)?;
        let times = inputs
            .get(case, "t")?
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F64)?
            .to_vec1()?;
        let time = model.time_embedding(&times)?;
        let x = inputs.get(case, "x")?;
        let flow = model.forward_bidirectional(&x, &time, &context, &mut Observer::silent())?;
        case.close(&format!("flow.{file}"), &flow, 1e-4);
    }
    Ok(())
}

/// What goes into the network: stored with the case, or with another one that it names.
struct Inputs(HashMap<String, Tensor>);

impl Inputs {
    fn of(case: &Case) -> Result<Self> {
        let named = case.meta["inputs"].as_str().unwrap_or_default();
        let file = named.split_whitespace().next().unwrap_or_default();
        let path = case.file(file);
        if case.has("x") || file.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        Ok(Self(candle_core::safetensors::load(path, &Device::Cpu)?))
    }

    fn get(&self, case: &Case, name: &str) -> Result<Tensor> {
        match self.0.get(name) {
            Some(tensor) => Ok(tensor.to_device(&case.compute.device)?),
            None => case.input(name),
        }
    }
}
