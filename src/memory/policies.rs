//! What each cache policy costs beside `fifo`, from the sizes of the networks alone.

use serde::Serialize;

use super::{
    Sizes,
    composition::{CacheState, all_states},
    estimate,
};
use crate::{
    Result,
    cache::{
        Policy, PolicyName,
        knobs::{Classing, Context, Heads, LastChunk},
    },
    recipe::Recipe,
    transformer::TransformerConfig,
};

/// Chunks at the end of a long video over which is averaged.
const LAST_CHUNKS: usize = 12;

/// A policy at the values of its release.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyCost {
    pub name: String,
    /// Where it was published, and when.
    pub source: &'static str,
    pub year: u32,
    pub keeps: &'static str,
    /// No policy needs a model that was trained with it.
    pub training_free: bool,
    /// Models that were trained with it nevertheless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_models: Option<&'static str>,
    /// Bytes of the cache, what is held outside the window included; absent where the values break a rule with this model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The same, divided by that of `fifo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<f64>,
    /// Multiplications of the transformer for a chunk late in a long video, divided by those of `fifo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// Why the values cannot be used with this model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Every policy at the values of its release, for a video as `recipe` has it.
///
/// # Errors
/// When the recipe cannot be.
pub fn policy_costs(sizes: &Sizes, recipe: &Recipe) -> Result<Vec<PolicyCost>> {
    let of = |name: PolicyName| -> Result<(u64, f64)> {
        let mut recipe = recipe.clone();
        recipe.cache.policy = name;
        recipe.cache = name.released().over(&recipe.cache);
        let settings = recipe.rollout_settings()?;
        let config = &sizes.transformer;
        let shape = config.cache_shape(settings.height, settings.width, settings.chunk);
        let bytes = estimate::cache(&settings.policy, &shape, recipe.video.latent_frames);
        let states = all_states(&recipe);
        let steps = settings.sampler.steps.len();
        let tokens = shape.tokens_per_frame();
        Ok((
            bytes,
            chunk_cost(config, &settings.policy, &states, steps, tokens, settings.chunk),
        ))
    };
    let (plain_bytes, plain_cost) = of(PolicyName::Fifo)?;
    let row = |name: &PolicyName| {
        let about = name.about();
        let (found, refused) = match of(*name) {
            Ok(found) => (Some(found), None),
            Err(error) => (None, Some(error.to_string())),
        };
        PolicyCost {
            name: name.to_string(),
            source: about.source,
            year: about.year,
            keeps: about.keeps,
            training_free: true,
            trained_models: about.trained,
            bytes: found.map(|(bytes, _)| bytes),
            memory: found.map(|(bytes, _)| bytes as f64 / plain_bytes.max(1) as f64),
            cost: found.map(|(_, cost)| cost / plain_cost),
            refused,
        }
    };
    Ok(PolicyName::ALL.iter().map(row).collect())
}

/// Multiplications of a chunk: all its denoising steps, the clean pass, and passes over chunks before it.
fn chunk_cost(
    config: &TransformerConfig,
    policy: &Policy,
    states: &[CacheState],
    steps: usize,
    tokens: usize,
    chunk: usize,
) -> f64 {
    let last = &states[states.len().saturating_sub(LAST_CHUNKS)..];
    let held = last.iter().map(|state| state.held() as f64).sum::<f64>() / last.len().max(1) as f64;
    let seen = policy.heads.map_or(held, |heads| seen_by_heads(&heads, chunk as f64));
    let pass = |frames: f64| pass_cost(config, chunk * tokens, frames * tokens as f64);
    let own = chunk as f64;
    let after = match policy.context {
        None => pass(seen),
        Some(Context {
            last: LastChunk::SelfCached,
            ..
        }) => pass(own),
        Some(Context {
            last: LastChunk::ReEncoded,
            ..
        }) => pass(own) + pass(2.0 * own),
    };
    steps as f64 * pass(seen) + after
}

/// Frames that a head sees in the mean, the chunk included. Without a profile half of the heads are static.
fn seen_by_heads(heads: &Heads, chunk: f64) -> f64 {
    let of = |class: usize| {
        let view = heads.views[class];
        let chosen = heads.changed.filter(|_| view.chosen);
        let chosen = chosen.map_or(0.0, |changed| changed.kept as f64 / changed.patches.max(1) as f64);
        (view.sink + view.last) as f64 + chosen + chunk
    };
    match heads.classing {
        Classing::Found { dummies } => dummies.get() * of(2) + dummies.rest().get() * (of(0) + of(1)) / 2.0,
        Classing::Profile(_) => (of(0) + of(1)) / 2.0,
    }
}

/// Multiplications of a pass over `queries` tokens that attend to `keys` tokens.
fn pass_cost(config: &TransformerConfig, queries: usize, keys: f64) -> f64 {
    let (queries, dim, ffn) = (queries as f64, config.dim as f64, config.ffn_dim as f64);
    // Four projections of self-attention, two of cross-attention, whose keys and values are there; feed-forward.
    let linear = queries * (6.0 * dim * dim + 2.0 * dim * ffn);
    let attention = 2.0 * queries * (keys + config.context_len as f64) * dim;
    (linear + attention) * config.layers as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that are published for 480×832: 40.4 and 20.2 TFLOP at 21 and 6 frames.
    #[test]
    fn a_pass_costs_what_is_published() {
        let wan = TransformerConfig::wan_1_3b();
        let tera = |frames: f64| 2.0 * pass_cost(&wan, 3 * 1560, frames * 1560.0) / 1e12;
        assert!((tera(21.0) - 40.4).abs() < 0.3, "{}", tera(21.0));
        assert!((tera(6.0) - 20.2).abs() < 0.3, "{}", tera(6.0));
    }
}
