//! What a network is told beside latents, timesteps and positions: the context of its cross-attention, and what belongs
//! to the frames of a chunk.

use candle_core::Tensor;

use super::{
    config::{ContextKind, TransformerConfig},
    linear::Linear,
};
use crate::{Error, Result, checkpoint::Weights, kernels};

/// Of the norms of an image's embedding.
const IMAGE_NORM_EPS: f32 = 1e-5;

/// From what the context's encoder gives to what the blocks attend to.
pub(super) enum ContextEmbedding {
    /// Of prompts; shorter ones are filled up with zero rows.
    Text { layers: [Linear; 2], rows: usize },
    /// Of an image (docs/algorithms/matrix_game_2.md section 2).
    Image(Box<ImageEmbedding>),
}

/// LayerNorm, Linear, GELU, Linear, LayerNorm.
pub(super) struct ImageEmbedding {
    norms: [(Tensor, Tensor); 2],
    layers: [Linear; 2],
}

impl ContextEmbedding {
    pub(super) fn new(config: &TransformerConfig, weights: &Weights) -> Result<Self> {
        let (from, dim) = (config.context_dim, config.dim);
        Ok(match config.context {
            ContextKind::Text => {
                let weights = weights.pp("text_embedding");
                Self::Text {
                    layers: [
                        Linear::new(from, dim, weights.pp(0))?,
                        Linear::new(dim, dim, weights.pp(2))?,
                    ],
                    rows: config.context_len,
                }
            }
            ContextKind::Image => {
                let weights = weights.pp("img_emb.proj");
                let norm = |name: usize, width: usize| -> Result<_> {
                    let weights = weights.pp(name);
                    Ok((weights.get([width], "weight")?, weights.get([width], "bias")?))
                };
                Self::Image(Box::new(ImageEmbedding {
                    norms: [norm(0, from)?, norm(4, dim)?],
                    layers: [
                        Linear::new(from, from, weights.pp(1))?,
                        Linear::new(from, dim, weights.pp(3))?,
                    ],
                }))
            }
        })
    }

    /// `[rows, context_dim]` to `[rows, dim]`.
    pub(super) fn forward(&self, context: &Tensor) -> Result<Tensor> {
        match self {
            Self::Text { layers, rows } => {
                let missing = rows.saturating_sub(context.dim(0)?);
                let padded = context.pad_with_zeros(0, 0, missing)?;
                let hidden = kernels::gelu_tanh(layers[0].forward(&padded)?)?;
                layers[1].forward(&hidden)
            }
            Self::Image(image) => {
                let norm = |x: &Tensor, (gain, bias): &(Tensor, Tensor)| -> Result<Tensor> {
                    Ok(kernels::layer_norm(x, gain, bias, IMAGE_NORM_EPS)?)
                };
                let x = norm(&context.contiguous()?, &image.norms[0])?;
                let hidden = image.layers[0].forward(&x)?.gelu_erf()?;
                norm(&image.layers[1].forward(&hidden)?, &image.norms[1])
            }
        }
    }
}

/// Actions of a chunk as a network reads them: for each of its latent frames the rows that it sees
/// (docs/algorithms/world_actions.md section 2).
#[derive(Debug, Clone)]
pub struct FrameActions {
    /// `[frames, rows, keys]`.
    pub keyboard: Tensor,
    /// `[frames, rows · 2]`; none for models without a mouse.
    pub mouse: Option<Tensor>,
}

/// What the frames of a chunk are made under, beside a prompt. Empty for models of text alone.
#[derive(Debug, Clone, Default)]
pub struct FrameConditions {
    /// Mask and latents of the image that a world begins with, `[frames, channels, height, width]`.
    pub latents: Option<Tensor>,
    pub actions: Option<FrameActions>,
}

impl FrameConditions {
    /// `latents` with the `channels` channels that stand beside them.
    pub(super) fn beside(&self, latents: &Tensor, channels: usize) -> Result<Tensor> {
        match &self.latents {
            None if channels == 0 => Ok(latents.clone()),
            None => Err(Error::NoImage { channels }),
            Some(beside) => Ok(Tensor::cat(&[latents, &beside.to_dtype(latents.dtype())?], 1)?),
        }
    }
}
