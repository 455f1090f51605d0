//! A tiny network with random weights, for properties of whole rollouts: one token per latent frame of 2×2 values, so that
//! long videos are cheap.

use std::{collections::HashMap, sync::Arc};

use candle_core::{DType, Device, Tensor};
use deepforcing::{
    checkpoint::Weights,
    transformer::{CausalWan, ContextKind, PromptContext, TransformerConfig, action::ActionConfig},
};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};

pub const CHANNELS: usize = 4;
/// Channels beside the noisy ones of a world.
pub const BESIDE: usize = 3;
/// Keys of a world.
pub const KEYS: usize = 3;
const TEXT: [usize; 2] = [4, 8];

pub fn random(seed: u64, shape: &[usize], scale: f32, offset: f32) -> Tensor {
    let mut generator = ChaCha12Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| -> f32 { StandardNormal.sample(&mut generator) })
        .map(|value| offset + scale * value)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A network whose self-attention matters: matrices keep the size of what goes through them.
pub fn model() -> Arc<CausalWan> {
    of_config(config())
}

fn config() -> TransformerConfig {
    TransformerConfig {
        dim: 16,
        heads: 2,
        ffn_dim: 32,
        layers: 2,
        freq_dim: 8,
        context_dim: TEXT[1],
        context_len: TEXT[0],
        in_channels: CHANNELS,
        out_channels: CHANNELS,
        ..TransformerConfig::wan_1_3b()
    }
}

/// A world of 3 keys and a mouse, with action modules in both blocks.
pub fn world() -> Arc<CausalWan> {
    of_config(TransformerConfig {
        context: ContextKind::Image,
        in_channels: CHANNELS + BESIDE,
        actions: Some(ActionConfig {
            blocks: vec![0, 1],
            keys: KEYS,
            mouse: true,
            key_dim: 4,
            heads: 2,
            head_dim: 8,
        }),
        ..config()
    })
}

fn of_config(config: TransformerConfig) -> Arc<CausalWan> {
    let specs = CausalWan::expected_tensors(config.clone()).unwrap();
    let tensors: HashMap<String, Tensor> = specs
        .into_iter()
        .enumerate()
        .map(|(i, spec)| {
            let inputs: usize = spec.shape[1..].iter().product();
            let (scale, offset) = match spec.shape.len() {
                1 if spec.name.contains("norm") && spec.name.ends_with("weight") => (0.2, 1.0),
                1 => (0.1, 0.0),
                _ if spec.name.ends_with("modulation") => (0.3, 0.0),
                _ => (1.0 / (inputs as f32).sqrt(), 0.0),
            };
            (spec.name, random(i as u64, &spec.shape, scale, offset))
        })
        .collect();
    let weights = Weights::from_tensors(tensors, DType::F32, &Device::Cpu);
    Arc::new(CausalWan::new(config, weights).unwrap())
}

pub fn prompt(model: &CausalWan, seed: u64) -> Arc<PromptContext> {
    Arc::new(model.prompt_context(&random(1000 + seed, &TEXT, 1.0, 0.0)).unwrap())
}

pub type Values = Vec<f32>;

pub fn values(tensor: &Tensor) -> Values {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}
