//! The causal Wan transformer: predicts the flow of a chunk of noisy latent frames, attending to earlier chunks through
//! the cache (docs/algorithms/causal_dit.md).
//!
//! | file | what it holds |
//! |---|---|
//! | `model` | the whole network: patches in, flow out |
//! | `block` | self-attention over the cache, cross-attention to the context, actions, feed-forward |
//! | `action` | the module of a block that reads keyboard and mouse, with its caches |
//! | `conditions` | the context of cross-attention, and what belongs to the frames of a chunk |
//! | `image` | the vision tower that makes the context of worlds, and how pictures are prepared for it |
//! | `config` | sizes, read from the shapes of the tensors |
//! | `observer`, `linear` | looks at intermediate tensors; linear layers |

pub mod action;
pub mod block;
pub mod conditions;
pub mod config;
pub mod image;
mod linear;
pub mod model;
mod observer;

pub use conditions::{FrameActions, FrameConditions};
pub use config::{ContextKind, TransformerConfig, WanConfigFile};
pub use model::{CausalWan, PromptContext, TimeEmbedding};
pub use observer::Observer;
