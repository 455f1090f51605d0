//! The Wan 2.1 video autoencoder: 8 × 8 pixels and 4 pictures per latent position, the first picture alone.
//!
//! Decoding is a stream: every causal convolution remembers the last frames of its input, so that any chunking of the
//! latents gives the same pictures, bit by bit.

mod blocks;
mod config;
mod decoder;
mod encoder;

pub use config::WanVaeConfig;
pub use decoder::{DecoderState, WanDecoder};
pub use encoder::{EncoderState, WanEncoder};

use candle_core::{Device, Tensor};

use super::LATENT_CHANNELS;

/// Mean of each latent channel over the VAE's training data.
pub const LATENT_MEAN: [f32; LATENT_CHANNELS] = [
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632, -0.1922,
    -0.9497, 0.2503, -0.2921,
];

/// Standard deviation of each latent channel over the VAE's training data.
pub const LATENT_STD: [f32; LATENT_CHANNELS] = [
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253,
    2.8251, 1.9160,
];

/// Mean and standard deviation as `[1, 16, 1, 1]`.
pub(super) fn latent_statistics(device: &Device) -> candle_core::Result<(Tensor, Tensor)> {
    let column = |values: &[f32]| Tensor::new(values, device)?.reshape((1, LATENT_CHANNELS, 1, 1));
    Ok((column(&LATENT_MEAN)?, column(&LATENT_STD)?))
}
