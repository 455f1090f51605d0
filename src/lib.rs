//! Long video from prompts: causal Wan video diffusion (Self Forcing) with the Deep Forcing key/value cache
//! (arXiv 2512.05081).
//!
//! Data flows one way:
//!
//! ```text
//! prompt ─ text ─► prompt embedding ─► rollout { noise → denoise with cache → latent } ─► vae ─► video
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`checkpoint`] | `.safetensors` and `.pt`/`.pth` files as named tensors |
//! | [`text`] | prompt cleaning, tokenizer, UMT5 encoder |
//! | [`transformer`] | the causal Wan transformer |
//! | [`cache`] | which tokens stay and at which positions: Deep Sink, Participative Compression |
//! | [`sampler`] | flow-matching schedule, few-step denoising |
//! | [`rollout`] | the chunk loop |
//! | [`start`] | videos that begin from an image or a clip |
//! | [`vae`] | streaming video autoencoders |
//! | [`video`] | frames and the video encoder |
//! | [`engine`] | a loaded model that renders any number of videos |
//! | [`models`] | the networks of a run, from a folder of published files |
//! | [`pipeline`] | denoising, decoding and encoding side by side |
//! | [`preset`] | model, sampler and cache settings with names |
//! | [`kernels`] | CPU kernels of element-wise operations and attention |

pub mod cache;
pub mod checkpoint;
pub mod cli;
pub mod engine;
mod error;
pub mod kernels;
pub mod models;
pub mod pipeline;
pub mod preset;
pub mod request;
pub mod rollout;
pub mod sampler;
pub mod start;
pub mod text;
pub mod transformer;
pub mod vae;
pub mod video;

pub use error::{Error, Result};
