//! The causal Wan transformer: predicts the flow of a chunk of noisy latent frames, attending to earlier chunks through
//! the cache (docs/algorithms/causal_dit.md).

pub mod block;
pub mod config;
mod linear;
pub mod model;
mod observer;

pub use config::{TransformerConfig, WanConfigFile};
pub use model::{CausalWan, PromptContext, TimeEmbedding};
pub use observer::Observer;
