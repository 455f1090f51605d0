//! Floating-point operations of the transformer, by arithmetic: additions and multiplications counted separately, matrix
//! products alone.

use serde::{Deserialize, Serialize};

use crate::transformer::TransformerConfig;

/// Operations of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Flops {
    /// Projections and feed-forward layers.
    pub linear: f64,
    pub self_attention: f64,
    pub cross_attention: f64,
}

impl Flops {
    /// All of them.
    pub fn total(&self) -> f64 {
        self.linear + self.self_attention + self.cross_attention
    }

    /// A whole forward pass: `queries` tokens that attend to `attended` tokens.
    pub fn forward(config: &TransformerConfig, queries: usize, attended: usize) -> Self {
        Self::blocks(config, queries, attended, config.layers as f64)
    }

    /// The pass that writes a clean chunk into the cache: of the last block only queries, keys and values are computed.
    pub fn cache_pass(config: &TransformerConfig, queries: usize, attended: usize) -> Self {
        let mut flops = Self::blocks(config, queries, attended, config.layers.saturating_sub(1) as f64);
        flops.linear += 2.0 * 3.0 * (config.dim * config.dim) as f64 * queries as f64;
        flops
    }

    fn blocks(config: &TransformerConfig, queries: usize, attended: usize, blocks: f64) -> Self {
        let (dim, ffn, queries) = (config.dim as f64, config.ffn_dim as f64, queries as f64);
        // Queries, keys, values and output of self-attention; queries and output of cross-attention, whose keys and values
        // are computed once per prompt; two feed-forward layers.
        let weights = 6.0 * dim * dim + 2.0 * dim * ffn;
        let attention = |attended: f64| 2.0 * 2.0 * queries * attended * dim * blocks;
        Self {
            linear: 2.0 * queries * (weights * blocks + action_weights(config)),
            self_attention: attention(attended as f64),
            cross_attention: attention(config.context_len as f64),
        }
    }
}

/// Weights of the linear layers that every token goes through in the action modules. What they attend to is too little to
/// count.
fn action_weights(config: &TransformerConfig) -> f64 {
    let Some(actions) = &config.actions else {
        return 0.0;
    };
    let (dim, width) = (config.dim as f64, actions.width() as f64);
    // Joined input, hidden layer, queries, keys and values, output.
    let mouse = if actions.mouse {
        2.0 * dim * width + 4.0 * width * width
    } else {
        0.0
    };
    (mouse + 2.0 * dim * width) * actions.blocks.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of a latent frame at 480×832.
    const FRAME: usize = 1560;

    fn tera(flops: f64, digits: i32) -> f64 {
        let scale = 10f64.powi(digits);
        (flops / 1e12 * scale).round() / scale
    }

    #[test]
    fn the_published_table_comes_out() {
        let config = TransformerConfig::wan_1_3b();
        // Frames attended, self-attention, total, for chunks of three frames.
        for (frames, attention, total) in [(3, 4.04, 16.2), (16, 21.53, 33.7), (19, 25.57, 37.7), (21, 28.26, 40.4)] {
            let flops = Flops::forward(&config, 3 * FRAME, frames * FRAME);
            assert_eq!(tera(flops.linear, 2), 11.70);
            assert_eq!(tera(flops.self_attention, 2), attention, "{frames} frames");
            assert_eq!(tera(flops.cross_attention, 2), 0.44);
            assert_eq!(tera(flops.total(), 1), total, "{frames} frames");
        }
        for (frames, total) in [(16, 11.2), (21, 13.5)] {
            let flops = Flops::forward(&config, FRAME, frames * FRAME);
            assert_eq!(tera(flops.total(), 1), total, "frame-wise, {frames} frames");
        }
        // Five forwards a chunk at the full window.
        let chunk = 5.0 * Flops::forward(&config, 3 * FRAME, 21 * FRAME).total();
        assert_eq!(tera(chunk, 0), 202.0);
    }

    #[test]
    fn action_modules_are_a_twelfth_of_a_pass() {
        /// Tokens of a latent frame at 640×352.
        const WORLD: usize = 880;
        let with = TransformerConfig::matrix_game_2(4, true);
        let without = TransformerConfig {
            actions: None,
            ..with.clone()
        };
        let total = |config: &TransformerConfig| Flops::forward(config, 3 * WORLD, 6 * WORLD).total();
        let share = 1.0 - total(&without) / total(&with);
        assert!((0.08..0.085).contains(&share), "{share}");
    }

    #[test]
    fn the_cache_pass_saves_most_of_the_last_block() {
        let config = TransformerConfig::wan_1_3b();
        let (whole, pass) = (
            Flops::forward(&config, FRAME, 21 * FRAME),
            Flops::cache_pass(&config, FRAME, 21 * FRAME),
        );
        let saved = (whole.total() - pass.total()) / whole.total();
        assert!((0.02..1.0 / 30.0).contains(&saved), "{saved}");
    }
}
