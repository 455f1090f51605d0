//! Sizes of a Wan VAE, read from its tensors.

use super::{WanDecoder, WanEncoder};
use crate::{
    Result,
    checkpoint::{TensorSpec, Weights},
    vae::{LATENT_CHANNELS, VaeError},
};

/// Sizes of a Wan VAE. Stages run from the pictures to the latents, as in the encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WanVaeConfig {
    /// Channels next to the pictures.
    pub dim: usize,
    /// Channels of each stage in units of `dim`.
    pub dim_mult: Vec<usize>,
    /// Residual blocks per encoder stage; decoder stages have one more.
    pub num_res_blocks: usize,
    /// Whether the sampling between two stages also halves the frames.
    pub temporal_downsample: Vec<bool>,
}

impl Default for WanVaeConfig {
    fn default() -> Self {
        Self::wan21()
    }
}

impl WanVaeConfig {
    /// The published Wan 2.1 VAE.
    pub fn wan21() -> Self {
        Self {
            dim: 96,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            temporal_downsample: vec![false, true, true],
        }
    }

    /// Reads the sizes from the names and shapes of the decoder's tensors.
    ///
    /// # Errors
    /// When a tensor that tells a size is missing, or the sizes do not make a VAE of this kind.
    pub fn from_decoder(weights: &Weights) -> Result<Self, VaeError> {
        let layers = Layers::read(&weights.pp("decoder.upsamples"), weights, "decoder.head.0.gamma")?;
        let blocks = layers.blocks_per_stage(weights)?;
        let Some(num_res_blocks) = blocks.checked_sub(1).filter(|&n| n > 0) else {
            return Err(layers.unsupported(weights, "a decoder stage needs at least two residual blocks".into()));
        };
        let (mut widths, mut temporal) = (layers.widths, layers.temporal);
        widths.reverse();
        temporal.reverse();
        Self::checked(weights, layers.dim, widths, num_res_blocks, temporal)
    }

    /// Reads the sizes from the names and shapes of the encoder's tensors.
    ///
    /// # Errors
    /// As [`Self::from_decoder`].
    pub fn from_encoder(weights: &Weights) -> Result<Self, VaeError> {
        let layers = Layers::read(&weights.pp("encoder.downsamples"), weights, "encoder.conv1.bias")?;
        let blocks = layers.blocks_per_stage(weights)?;
        Self::checked(weights, layers.dim, layers.widths, blocks, layers.temporal)
    }

    /// Every tensor of a VAE file of these sizes, decoder and encoder, sorted by name.
    ///
    /// # Errors
    /// When the sizes do not make a VAE.
    pub fn expected_tensors(&self) -> Result<Vec<TensorSpec>> {
        let recorder = Weights::recorder();
        WanDecoder::with_config(self, &recorder)?;
        WanEncoder::with_config(self, &recorder)?;
        Ok(recorder.recorded())
    }

    /// Channels of each stage, from the pictures to the latents.
    pub fn widths(&self) -> Vec<usize> {
        self.dim_mult.iter().map(|m| m * self.dim).collect()
    }

    fn checked(
        weights: &Weights,
        dim: usize,
        widths: Vec<usize>,
        num_res_blocks: usize,
        temporal_downsample: Vec<bool>,
    ) -> Result<Self, VaeError> {
        let unsupported = |reason: String| VaeError::Unsupported {
            origin: weights.origin(),
            reason,
        };
        if widths.len() != 4 {
            return Err(unsupported(format!(
                "it has {} stages, expected 4 (8 × 8 pixels per latent)",
                widths.len()
            )));
        }
        if temporal_downsample.iter().filter(|t| **t).count() != 2 {
            return Err(unsupported(format!(
                "{temporal_downsample:?} of its samplings are temporal, expected 2 (4 pictures per latent)"
            )));
        }
        if dim == 0 || widths.iter().any(|w| w % dim != 0 || *w == 0) {
            return Err(unsupported(format!(
                "stage widths {widths:?} are not multiples of {dim}"
            )));
        }
        let dim_mult = widths.iter().map(|w| w / dim).collect();
        Ok(Self {
            dim,
            dim_mult,
            num_res_blocks,
            temporal_downsample,
        })
    }
}

/// What the numbered layers between `conv1` and `middle` say, in their order.
struct Layers {
    dim: usize,
    /// Residual blocks of each stage.
    blocks: Vec<usize>,
    /// Output width of each stage.
    widths: Vec<usize>,
    temporal: Vec<bool>,
}

impl Layers {
    fn read(layers: &Weights, weights: &Weights, dim_name: &str) -> Result<Self, VaeError> {
        let missing = |name: &str| VaeError::Unsupported {
            origin: weights.origin(),
            reason: format!("tensor `{name}` is missing or has no shape"),
        };
        let width = |w: &Weights, name: &str| w.shape(name).and_then(|s| s.first().copied());
        let dim = width(weights, dim_name).ok_or_else(|| missing(dim_name))?;
        let latent = width(weights, "conv2.bias").or_else(|| width(weights, "conv1.bias").map(|n| n / 2));
        if latent != Some(LATENT_CHANNELS) {
            return Err(VaeError::Unsupported {
                origin: weights.origin(),
                reason: format!("it has {latent:?} latent channels, expected {LATENT_CHANNELS}"),
            });
        }
        let (mut blocks, mut widths, mut temporal) = (vec![0], vec![0], Vec::new());
        for index in 0.. {
            let layer = layers.pp(index);
            if let Some(out) = width(&layer, "residual.2.bias") {
                *blocks.last_mut().ok_or_else(|| missing(dim_name))? += 1;
                *widths.last_mut().ok_or_else(|| missing(dim_name))? = out;
            } else if layer.shape("resample.1.weight").is_some() {
                temporal.push(layer.shape("time_conv.weight").is_some());
                blocks.push(0);
                widths.push(0);
            } else {
                break;
            }
        }
        Ok(Self {
            dim,
            blocks,
            widths,
            temporal,
        })
    }

    /// The number of residual blocks, which every stage must share.
    fn blocks_per_stage(&self, weights: &Weights) -> Result<usize, VaeError> {
        match self.blocks.first() {
            Some(&first) if first > 0 && self.blocks.iter().all(|&b| b == first) => Ok(first),
            _ => Err(self.unsupported(weights, format!("its stages have {:?} residual blocks", self.blocks))),
        }
    }

    fn unsupported(&self, weights: &Weights, reason: String) -> VaeError {
        VaeError::Unsupported {
            origin: weights.origin(),
            reason,
        }
    }
}
