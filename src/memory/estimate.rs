//! Bytes that the networks take, from their sizes. All numbers are f32.
//!
//! Formulas count the tensors that are alive at the worst moment of a pass; `tests/memory.rs` compares them with what is
//! really allocated. There, estimate / allocation was 0.97 to 1.01 for the transformer with its cache, 1.04 to 1.13 for
//! Wan decoder and encoder, 1.12 for the tiny decoder and 1.1 to 1.3 for the text encoder (whose block of
//! weights, by far its largest part, was left out).

use crate::{
    cache::{CacheShape, Policy},
    text::Umt5Config,
    transformer::{TransformerConfig, action::ActionConfig, config::PATCH, image::ClipConfig},
    vae::{PICTURE_CHANNELS, TaeConfig, WanVaeConfig, pictures_of_latents},
};

/// Bytes of a number.
const F32: u64 = size_of::<f32>() as u64;
/// Tensors of a residual block of the Wan VAE that are alive at once: its input, two norms, two convolutions.
const RESIDUAL_TENSORS: u64 = 5;
/// Frames that a convolution over three frames remembers.
const REMEMBERED: u64 = 2;
/// Bytes of a slot's description in the cache.
const SLOT: u64 = size_of::<crate::cache::Slot>() as u64;
/// Bytes of a token's place in a state on disk.
const SLOT_ON_DISK: u64 = 40;

/// Product of sizes; absurd ones become the largest number in place of a small one.
fn product<const N: usize>(factors: [usize; N]) -> u64 {
    factors
        .into_iter()
        .fold(1u64, |product, n| product.saturating_mul(n as u64))
}

/// The key/value cache of all layers: keys twice (as made, and rotated), values once, for window + chunk frames. What a
/// video of `latent_frames` never fills is reserved, but takes no memory.
pub fn cache(policy: &Policy, shape: &CacheShape, latent_frames: usize) -> u64 {
    let frames = policy.window.saturating_add(shape.chunk).min(latent_frames);
    let tokens = product([frames, shape.tokens_per_frame()]);
    let per_token = product([3, shape.heads, shape.head_dim])
        .saturating_mul(F32)
        .saturating_add(SLOT);
    let window = product([shape.layers]).saturating_mul(tokens).saturating_mul(per_token);
    window.saturating_add(put_aside(policy, shape, latent_frames, F32))
}

/// Frames that a policy holds outside the window: keys as made and values, in numbers of `number` bytes.
fn put_aside(policy: &Policy, shape: &CacheShape, latent_frames: usize, number: u64) -> u64 {
    let frames = policy.stored(shape.chunk).min(latent_frames);
    let tokens = product([shape.layers, frames, shape.tokens_per_frame()]);
    tokens.saturating_mul(product([2, shape.heads, shape.head_dim]).saturating_mul(number))
}

/// The state of a video on disk at its largest (`crate::render::state`): what the cache holds at a chunk boundary, in
/// numbers of `number` bytes, and the latents of all chunks, of `latent` numbers a frame.
pub fn state(policy: &Policy, shape: &CacheShape, latent_frames: usize, number: u64, latent: usize) -> u64 {
    let tokens = product([policy.window.min(latent_frames), shape.tokens_per_frame()]);
    let per_token = product([3, shape.heads, shape.head_dim])
        .saturating_mul(number)
        .saturating_add(SLOT_ON_DISK);
    let cache = product([shape.layers]).saturating_mul(tokens).saturating_mul(per_token);
    let cache = cache.saturating_add(put_aside(policy, shape, latent_frames, number));
    // Clean latents that chunks are made anew from.
    let kept = policy.context.map_or(0, |_| policy.window);
    cache.saturating_add(product([latent_frames.saturating_add(kept), latent]).saturating_mul(F32))
}

/// What a pass of the transformer over a chunk needs besides weights and cache.
pub fn transformer_pass(config: &TransformerConfig, policy: &Policy, shape: &CacheShape) -> u64 {
    let tokens = product([shape.chunk, shape.tokens_per_frame()]);
    let (dim, ffn) = (config.dim as u64, config.ffn_dim as u64);
    // Self-attention: input, modulated input, queries, keys and values before and after norm and rotation, output.
    let attention = 10 * dim;
    // Feed-forward: input, modulated input, hidden layer, output.
    let feed_forward = 4 * dim + ffn;
    // An action module: input and joined input, two hidden layers, queries, keys and values before and after rotation.
    let action = config
        .actions
        .as_ref()
        .map_or(0, |actions| (4 * dim) + 9 * actions.width() as u64);
    // Noise, its successor, flow and clean latents, in f32 and in part in f64.
    let latents = 8 * (PATCH * PATCH * config.in_channels) as u64;
    let pass = tokens
        .saturating_mul(attention.max(feed_forward).max(action) + latents)
        .saturating_mul(F32);
    // Keys that get other positions are rotated anew: all of the window at worst, with cosines and sines.
    let window = product([policy.window, shape.tokens_per_frame()]);
    let moved = if policy.moves_keys() {
        window.saturating_mul(dim + shape.head_dim as u64).saturating_mul(F32)
    } else {
        0
    };
    // Cosines and sines of every head.
    let angles = policy
        .jitter
        .map_or(0, |_| tokens.saturating_mul(dim).saturating_mul(2 * F32));
    let pass = pass.saturating_add(angles);
    pass.max(moved.saturating_add(tokens.saturating_mul(attention).saturating_mul(F32)))
}

/// What a pass over a rolling window of `levels` chunks needs besides weights and cache: keys and values of all that it
/// attends to are joined.
pub fn window_pass(config: &TransformerConfig, policy: &Policy, shape: &CacheShape, levels: usize) -> u64 {
    let wide = CacheShape {
        chunk: shape.chunk.saturating_mul(levels),
        ..*shape
    };
    let joined = product([policy.window, shape.tokens_per_frame(), config.dim]).saturating_mul(2 * F32);
    transformer_pass(config, policy, &wide).saturating_add(joined)
}

/// Keys and values of a prompt for all blocks, and its embedding.
pub fn prompt(config: &TransformerConfig) -> u64 {
    let contexts = product([2, config.layers, config.context_len, config.dim]);
    let embedding = product([config.context_len, config.context_dim]);
    contexts.saturating_add(embedding).saturating_mul(F32)
}

/// Keys and values that the action modules keep: of the last `window` latent frames of `tokens` tokens.
pub fn action_windows(actions: &ActionConfig, tokens: usize, window: usize) -> u64 {
    let items: usize = actions.items(tokens).into_iter().fold(0, usize::saturating_add);
    product([2, actions.blocks.len(), window, items, actions.head_dim]).saturating_mul(F32)
}

/// The vision tower at work: hidden layer, queries, keys and values, states of a block.
pub fn vision_tower(config: &ClipConfig) -> u64 {
    product([config.tokens(), 2 * config.mlp_dim + 8 * config.dim]).saturating_mul(F32)
}

/// The text encoder at work: the parameters of one block, and its activations for a prompt of `tokens` tokens.
pub fn text_encoder(config: &Umt5Config, tokens: usize) -> u64 {
    let attention = product([4, config.dim, config.attention_dim]);
    let feed_forward = product([3, config.dim, config.ffn_dim]);
    // Scores, bias and their sum, or its softmax in place of one of them.
    let scores = product([3, config.heads, tokens, tokens]);
    let states = product([tokens, 3 * config.ffn_dim + 8 * config.dim]);
    [attention, feed_forward, scores, states]
        .into_iter()
        .fold(0, u64::saturating_add)
        .saturating_mul(F32)
}

/// The activations of the Wan decoder and what it remembers of the video, for latents of `height`×`width`.
pub fn wan_decoder(config: &WanVaeConfig, height: usize, width: usize) -> u64 {
    let stages = wan_stages(config, height, width);
    let remembered = stages
        .iter()
        .map(|stage| remembered(stage, config.num_res_blocks as u64 + 1));
    let working = stages
        .iter()
        .map(|stage| RESIDUAL_TENSORS * stage.tensor())
        .max()
        .unwrap_or(0);
    remembered.fold(working, u64::saturating_add)
}

/// The same for the encoder, which works on groups of four pictures.
pub fn wan_encoder(config: &WanVaeConfig, height: usize, width: usize) -> u64 {
    let stages = wan_stages(config, height, width);
    let remembered = stages
        .iter()
        .map(|stage| remembered(stage, config.num_res_blocks as u64));
    let working = stages
        .iter()
        .map(|stage| RESIDUAL_TENSORS * stage.tensor())
        .max()
        .unwrap_or(0);
    remembered.fold(working, u64::saturating_add)
}

/// A stage of the Wan VAE with the frames that it works on for one latent frame.
struct Stage {
    width: u64,
    area: u64,
    frames: u64,
}

impl Stage {
    /// Bytes of an activation.
    fn tensor(&self) -> u64 {
        [self.width, self.area, self.frames, F32]
            .into_iter()
            .fold(1, u64::saturating_mul)
    }
}

/// Stages from the latents to the pictures.
fn wan_stages(config: &WanVaeConfig, height: usize, width: usize) -> Vec<Stage> {
    let (mut area, mut frames) = (product([height, width]), 1u64);
    let widths = config.widths().into_iter().rev();
    let temporal = config.temporal_downsample.iter().rev().map(Some).chain([None]);
    let stages = widths.zip(temporal).map(|(width, temporal)| {
        let stage = Stage {
            width: width as u64,
            area,
            frames,
        };
        if let Some(temporal) = temporal {
            area = area.saturating_mul(4);
            frames *= if *temporal { 2 } else { 1 };
        }
        stage
    });
    stages.collect()
}

/// Histories of a stage's convolutions, two per block; the middle block or the head counts as one more block.
fn remembered(stage: &Stage, blocks: u64) -> u64 {
    let frame = stage.tensor() / stage.frames;
    (2 * blocks + 2).saturating_mul(REMEMBERED).saturating_mul(frame)
}

/// The activations of the tiny decoder and what it remembers.
pub fn tae_decoder(config: &TaeConfig, height: usize, width: usize) -> u64 {
    let area = product([height, width]);
    let mut frames = 1u64;
    let mut remembered = 0u64;
    let mut working = 0u64;
    for (stage, side) in [1u64, 2, 4].into_iter().enumerate() {
        let area = area.saturating_mul(side * side);
        let tensor = product([config.widths[stage]]).saturating_mul(area).saturating_mul(F32);
        // One frame for each of three blocks.
        remembered = remembered.saturating_add(tensor.saturating_mul(3));
        let blocks = tensor.saturating_mul(frames).saturating_mul(4);
        frames *= config.time_upscale[stage] as u64;
        // Grown in time, then enlarged into the next width; at the end the same after its ReLU.
        let grown = tensor.saturating_mul(frames);
        let next = product([config.widths[stage + 1], 4])
            .saturating_mul(area)
            .saturating_mul(frames * F32);
        working = working.max(blocks).max(grown.saturating_add(next.saturating_mul(2)));
    }
    remembered.saturating_add(working)
}

/// Pictures of a chunk of `latents` latent frames on their way from the decoder to the file: as numbers (in parts,
/// joined, limited, flattened) and as bytes (waiting, and in work).
pub fn pictures(latents: usize, width: usize, height: usize) -> u64 {
    let pictures = pictures_of_latents(latents).saturating_add(3);
    let values = product([pictures, PICTURE_CHANNELS, width, height]);
    values.saturating_mul(4 * F32 + 5)
}

/// The video encoder: pictures that it holds while it looks for motion.
pub fn video_encoder(width: usize, height: usize) -> u64 {
    product([24, width, height, 3]) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::CacheSettings;

    #[test]
    fn the_cache_is_what_the_store_allocates() {
        let policy = CacheSettings::default().resolve(3, 240).unwrap();
        let shape = CacheShape {
            layers: 2,
            heads: 2,
            head_dim: 12,
            rows: 4,
            columns: 5,
            chunk: 3,
        };
        let cache_store =
            crate::cache::KvCache::new(policy, shape, 0, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let slots = 2 * 24 * 20 * SLOT;
        assert_eq!(cache(&policy, &shape, 240), cache_store.bytes() as u64 + slots);
    }

    #[test]
    fn published_sizes_come_out_as_known() {
        let shape = CacheShape {
            layers: 30,
            heads: 12,
            head_dim: 128,
            rows: 30,
            columns: 52,
            chunk: 3,
        };
        let policy = CacheSettings::default().resolve(3, 240).unwrap();
        let gigabytes = |bytes: u64| (bytes as f64 / 1e8).round() / 10.0;
        // 24 frames · 1,560 tokens · 30 layers · 3 · 1,536 values.
        assert_eq!(gigabytes(cache(&policy, &shape, 240)), 20.7);
        assert_eq!(gigabytes(cache(&policy, &shape, 6)), 5.2);
        assert_eq!(gigabytes(wan_decoder(&WanVaeConfig::wan21(), 60, 104)), 7.5);
    }

    #[test]
    fn a_rolling_window_needs_what_a_pass_over_all_its_chunks_does() {
        let config = TransformerConfig::wan_1_3b();
        let shape = CacheShape {
            layers: 30,
            heads: 12,
            head_dim: 128,
            rows: 30,
            columns: 52,
            chunk: 3,
        };
        let policy = CacheSettings {
            policy: crate::cache::PolicyName::SinkRerope,
            sink: 3,
            ..CacheSettings::default()
        };
        let policy = policy.resolve(3, 240).unwrap();
        let wide = transformer_pass(&config, &policy, &CacheShape { chunk: 15, ..shape });
        let joined = 2 * 21 * 1560 * 1536 * F32;
        assert_eq!(window_pass(&config, &policy, &shape, 5), wide + joined);
        assert!(wide > 3 * transformer_pass(&config, &policy, &shape));
    }

    #[test]
    fn absurd_sizes_do_not_overflow() {
        let policy = Policy::whole(usize::MAX);
        let shape = CacheShape {
            layers: usize::MAX,
            heads: 12,
            head_dim: 128,
            rows: 1 << 30,
            columns: 1 << 30,
            chunk: 3,
        };
        assert_eq!(cache(&policy, &shape, usize::MAX), u64::MAX);
        assert!(transformer_pass(&TransformerConfig::wan_1_3b(), &policy, &shape) > u64::MAX / 2);
        assert_eq!(tae_decoder(&TaeConfig::taew21(), 1 << 32, 1 << 32), u64::MAX);
    }
}
