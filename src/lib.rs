//! Long video from prompts: causal Wan video diffusion (Self Forcing) with the Deep Forcing key/value cache
//! (arXiv 2512.05081).
//!
//! Data flows one way:
//!
//! ```text
//! prompt ─ text ─► prompt embedding ─► rollout { noise → denoise with cache → latent } ─► vae ─► video
//! ```
//!
//! What is computed, as formulas and shapes, is written in `docs/algorithms`; comments cite its pages and sections.
//! How to change the program: `CONTRIBUTING.md`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`checkpoint`] | `.safetensors`, `.gguf` and `.pt`/`.pth` files as named tensors; LoRAs |
//! | [`text`] | prompt cleaning, tokenizer, UMT5 encoder |
//! | [`transformer`] | the causal Wan transformer |
//! | [`cache`] | which tokens stay and at which positions: Deep Sink, Participative Compression |
//! | [`prompts`] | prompt files, prompt switches, names of several videos |
//! | [`recipe`] | everything that determines a video, as it is stored in its file |
//! | [`rollout`] | the chunk loop |
//! | [`vae`] | streaming video autoencoders |
//! | [`video`] | frames and the video encoder |
//! | [`device`] | CPU or GPU, and in which number format |
//! | [`hub`] | model files in the cache that all tools of the Hugging Face hub share |
//! | [`batch`] | many videos in one folder, in a run that can be stopped and resumed |
//! | [`mod@report`] | videos of a folder set side by side, in a page |
//! | [`bench`] | how fast a machine makes videos, and whether its devices agree |
//! | [`sweep`] | the same videos under many settings |
//! | [`memory`] | how much memory a video needs, and what its cache holds over time |
//! | [`metrics`] | measures of a video that need no neural network |
//! | [`models`] | the networks of a run, from published files |
//! | [`render`] | from what is asked for to videos: model, jobs, each video from its recipe |
//! | [`files`] | ordinary files only, nothing written through links; text of strangers as it may be printed |
//! | [`config`] | settings in layers: flags, environment, config file, preset |
//! | [`trace`] | what the cache keeps of a video, in a file and on a page |
//! | [`kernels`] | CPU kernels of element-wise operations and attention |

// Only the modules that say so at their top call FFmpeg, CUDA or the system, map files, or count on lengths by themselves.
#![deny(unsafe_code)]

pub mod batch;
pub mod bench;
pub mod cache;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod device;
mod error;
pub mod files;
pub mod hub;
pub mod kernels;
pub mod memory;
pub mod metrics;
pub mod models;
pub mod prompts;
pub mod recipe;
pub mod render;
pub mod report;
pub mod rollout;
pub mod sweep;
pub mod text;
pub mod trace;
pub mod transformer;
pub mod vae;
pub mod video;

pub use error::{Error, Result};
