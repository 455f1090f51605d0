//! The error of the library: what was wrong, with which value, and what to do next.

use crate::{checkpoint::CheckpointError, text::TextError, vae::VaeError, video::VideoError};

/// Everything that can go wrong between a prompt and a finished video.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model file could not be read or does not fit the model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The prompt or the tokenizer.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The video autoencoder or its input.
    #[error(transparent)]
    Vae(#[from] VaeError),
    /// The output file or the video encoder.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// A tensor operation failed on the device.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Result with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
