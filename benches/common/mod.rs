//! Networks with random weights, of the sizes that the benchmarks share.

use std::{collections::HashMap, sync::Arc};

use candle_core::{DType, Device, Tensor};
use deepforcing::{
    cache::{CacheSettings, Policy, PolicyName},
    checkpoint::{TensorSpec, Weights},
    rollout::sampler::SamplerSettings,
    rollout::{PromptChange, Rollout, RolloutSettings, SeededNoise},
    transformer::{CausalWan, PromptContext, TransformerConfig},
};

/// Latent frames of a chunk.
pub const CHUNK: usize = 3;
/// Latent frames of the window.
pub const WINDOW: usize = 21;

/// A transformer and the latents it is run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// That of the parity cases: dim 128, 2 heads of 64, 3 layers, ffn 256, 16 rows of text, 4×6 latents (6 tokens).
    Tiny,
    /// One token a frame, one head of 32, one layer: for videos of a day.
    Token,
    /// dim 256, 4 heads of 64, 8 layers, ffn 1024, 512 rows of text, 16×16 latents (64 tokens a frame).
    Mid,
}

impl Size {
    pub fn config(self) -> TransformerConfig {
        let (dim, heads, layers, ffn_dim, context_dim, context_len) = match self {
            Self::Tiny => (128, 2, 3, 256, 48, 16),
            Self::Token => (32, 1, 1, 64, 16, 8),
            Self::Mid => (256, 4, 8, 1024, 256, 512),
        };
        TransformerConfig {
            dim,
            heads,
            layers,
            ffn_dim,
            context_dim,
            context_len,
            ..TransformerConfig::wan_1_3b()
        }
    }

    /// Height and width of the latents.
    pub fn latents(self) -> (usize, usize) {
        match self {
            Self::Tiny => (4, 6),
            Self::Token => (2, 2),
            Self::Mid => (16, 16),
        }
    }

    /// Tokens of a latent frame.
    pub fn tokens(self) -> usize {
        let (height, width) = self.latents();
        height * width / 4
    }
}

pub fn random(shape: &[usize], bound: f32) -> Tensor {
    Tensor::rand(-bound, bound, shape, &Device::Cpu).unwrap()
}

/// Uniform weights whose layers keep the size of their input; gains, biases and modulation below 1.
pub fn random_weights(specs: Vec<TensorSpec>) -> Weights {
    let tensor = |spec: TensorSpec| {
        let fan_in: usize = spec.shape[1..].iter().product();
        let bound = if fan_in > 1 { (3.0 / fan_in as f32).sqrt() } else { 1.0 };
        (spec.name, random(&spec.shape, bound))
    };
    let tensors: HashMap<_, _> = specs.into_iter().map(tensor).collect();
    Weights::from_tensors(tensors, DType::F32, &Device::Cpu)
}

pub fn transformer(size: Size) -> Arc<CausalWan> {
    let config = size.config();
    let weights = random_weights(CausalWan::expected_tensors(config.clone()).unwrap());
    Arc::new(CausalWan::new(config, weights).unwrap())
}

pub fn prompt(model: &CausalWan) -> PromptContext {
    let config = model.config();
    model
        .prompt_context(&random(&[config.context_len / 8, config.context_dim], 1.0))
        .unwrap()
}

pub fn policy(policy: PolicyName) -> Policy {
    let settings = CacheSettings {
        policy,
        window: WINDOW,
        ..CacheSettings::default()
    };
    settings.resolve(CHUNK, usize::MAX).unwrap()
}

/// A rollout of `chunks` chunks with four denoising steps and the cache pass.
pub fn rollout(size: Size, name: PolicyName, chunks: usize) -> Rollout {
    let model = transformer(size);
    let (height, width) = size.latents();
    let prompts = vec![PromptChange {
        frame: 0,
        context: Arc::new(prompt(&model)),
    }];
    let settings = RolloutSettings {
        frames: CHUNK * chunks,
        chunk: CHUNK,
        first_frame_alone: false,
        height,
        width,
        sampler: SamplerSettings::default(),
        policy: policy(name),
        seed: 1,
        first_position: 0,
        fill_last: true,
    };
    Rollout::new(model, settings, prompts, None, Box::new(SeededNoise::new(1))).unwrap()
}
