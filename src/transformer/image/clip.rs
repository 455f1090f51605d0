//! The vision tower of CLIP: tokens of an image, from all of its blocks but the last
//! (docs/algorithms/matrix_game_2.md section 4).

use candle_core::{DType, Tensor};

use super::picture::{Extent, bicubic};
use crate::{
    Error, Result,
    checkpoint::{TensorSpec, Weights},
    kernels,
    transformer::linear::Linear,
    vae::PICTURE_CHANNELS,
};

/// Mean and standard deviation of the pictures that CLIP was trained on, in 0…1.
const MEAN: [f32; PICTURE_CHANNELS] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f32; PICTURE_CHANNELS] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
/// Of all norms.
const EPS: f32 = 1e-5;
/// Channels of a head of ViT-H/14.
const HEAD_DIM: usize = 80;
/// Prefix of the vision tower in its file, and those of what else is there.
const VISUAL: &str = "visual";
/// What the file holds beside the vision tower.
pub const OTHERS: [&str; 2] = ["textual.", "log_scale"];

/// Sizes of a vision tower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipConfig {
    pub dim: usize,
    pub heads: usize,
    /// Blocks in the file.
    pub layers: usize,
    /// Blocks that are computed: all but the last.
    pub used: usize,
    /// Pixels of a patch, on each side.
    pub patch: usize,
    /// Patches of the picture, on each side.
    pub side: usize,
    pub mlp_dim: usize,
    /// Width of the projection, which is not computed; `None` where the file has none.
    pub out_dim: Option<usize>,
}

impl ClipConfig {
    /// ViT-H/14 of Open CLIP.
    pub fn vit_h_14() -> Self {
        Self {
            dim: 1280,
            heads: 16,
            layers: 32,
            used: 31,
            patch: 14,
            side: 16,
            mlp_dim: 5120,
            out_dim: Some(1024),
        }
    }

    /// Reads the sizes from the tensors of a CLIP file; heads have 80 channels where `heads` does not say how many there
    /// are.
    ///
    /// # Errors
    /// When they make no vision tower.
    pub fn from_weights(weights: &Weights, heads: Option<usize>) -> Result<Self> {
        let visual = weights.pp(VISUAL);
        let wrong = |reason: String| Error::NotClip {
            origin: weights.origin(),
            reason,
        };
        let dims = |name: &str, rank: usize| match visual.shape(name) {
            Some(shape) if shape.len() == rank => Ok(shape),
            Some(shape) => Err(wrong(format!(
                "tensor `{VISUAL}.{name}` has shape {shape:?}, expected {rank} axes"
            ))),
            None => Err(wrong(format!("it has no tensor `{VISUAL}.{name}`"))),
        };
        let patches = dims("patch_embedding.weight", 4)?;
        let (dim, patch) = (patches[0], patches[3]);
        let places = dims("pos_embedding", 3)?[1].saturating_sub(1);
        let side = places.isqrt();
        let heads = heads.unwrap_or(dim / HEAD_DIM);
        if heads == 0 || !dim.is_multiple_of(heads) {
            return Err(wrong(format!("{heads} heads do not divide its width {dim}")));
        }
        if side == 0 || side * side != places {
            return Err(wrong(format!("its {places} patches make no square")));
        }
        let mut layers = 0;
        while visual.contains(&format!("transformer.{layers}.norm1.weight")) {
            layers += 1;
        }
        if layers < 2 {
            return Err(wrong(format!("it has {layers} blocks, and all but the last are used")));
        }
        Ok(Self {
            dim,
            heads,
            layers,
            used: layers - 1,
            patch,
            side,
            mlp_dim: dims("transformer.0.mlp.0.weight", 2)?[0],
            out_dim: visual.shape("head").and_then(|shape| shape.get(1).copied()),
        })
    }

    /// Names and shapes of the tensors of a vision tower of these sizes, of which the last block and what comes after it
    /// are not read.
    ///
    /// # Errors
    /// Never in practice: nothing is read.
    pub fn expected_tensors(&self) -> Result<Vec<TensorSpec>> {
        let recorder = Weights::recorder();
        let whole = Self {
            used: self.layers,
            ..self.clone()
        };
        ClipVision::new(whole, &recorder)?;
        let visual = recorder.pp(VISUAL);
        norm(self.dim, &visual.pp("post_norm"))?;
        if let Some(out) = self.out_dim {
            visual.get([self.dim, out], "head")?;
        }
        Ok(recorder.recorded())
    }

    /// Names and shapes of the tensors that are read of a vision tower of these sizes.
    ///
    /// # Errors
    /// Never in practice: nothing is read.
    pub fn used_tensors(&self) -> Result<Vec<TensorSpec>> {
        let recorder = Weights::recorder();
        ClipVision::new(self.clone(), &recorder)?;
        Ok(recorder.recorded())
    }

    /// Tokens that it gives.
    pub fn tokens(&self) -> usize {
        self.side * self.side + 1
    }

    /// Pixels of the picture that it reads, on each side.
    pub fn pixels(&self) -> usize {
        self.side * self.patch
    }
}

type Norm = (Tensor, Tensor);

fn norm(width: usize, weights: &Weights) -> Result<Norm> {
    Ok((weights.get([width], "weight")?, weights.get([width], "bias")?))
}

fn normed(x: &Tensor, (gain, bias): &Norm) -> Result<Tensor> {
    Ok(kernels::layer_norm(x, gain, bias, EPS)?)
}

struct ClipBlock {
    norms: [Norm; 2],
    qkv: Linear,
    proj: Linear,
    mlp: [Linear; 2],
}

impl ClipBlock {
    fn new(config: &ClipConfig, weights: &Weights) -> Result<Self> {
        let (dim, wide) = (config.dim, config.mlp_dim);
        Ok(Self {
            norms: [norm(dim, &weights.pp("norm1"))?, norm(dim, &weights.pp("norm2"))?],
            qkv: Linear::new(dim, 3 * dim, weights.pp("attn.to_qkv"))?,
            proj: Linear::new(dim, dim, weights.pp("attn.proj"))?,
            mlp: [
                Linear::new(dim, wide, weights.pp("mlp.0"))?,
                Linear::new(wide, dim, weights.pp("mlp.2"))?,
            ],
        })
    }

    /// `x` is `[tokens, dim]`.
    fn forward(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let (tokens, dim) = x.dims2()?;
        let qkv = self.qkv.forward(&normed(x, &self.norms[0])?)?;
        let part = |i: usize| {
            qkv.narrow(1, i * dim, dim)?
                .contiguous()?
                .reshape((tokens, heads, dim / heads))
        };
        let scale = 1.0 / ((dim / heads) as f64).sqrt();
        let seen = kernels::attention(&part(0)?, &part(1)?, &part(2)?, scale)?;
        let x = (x + self.proj.forward(&seen.flatten_from(1)?)?)?;
        let hidden = self.mlp[0].forward(&normed(&x, &self.norms[1])?)?.gelu_erf()?;
        Ok((&x + self.mlp[1].forward(&hidden)?)?)
    }
}

/// The vision tower.
pub struct ClipVision {
    config: ClipConfig,
    patches: Linear,
    class: Tensor,
    places: Tensor,
    pre_norm: Norm,
    blocks: Vec<ClipBlock>,
}

impl ClipVision {
    /// Asks `weights` for the tensors of the blocks that are computed.
    ///
    /// # Errors
    /// When one is missing, mis-shaped or not finite.
    pub fn new(config: ClipConfig, weights: &Weights) -> Result<Self> {
        let visual = weights.pp(VISUAL);
        let (dim, patch) = (config.dim, config.patch);
        let stored = [dim, PICTURE_CHANNELS, patch, patch];
        let inputs = PICTURE_CHANNELS * patch * patch;
        Ok(Self {
            patches: Linear::from_weight(visual.get_as(stored, "patch_embedding.weight", [dim, inputs])?)?,
            class: visual.get_as([1, 1, dim], "cls_embedding", [1, dim])?,
            places: visual.get_as([1, config.tokens(), dim], "pos_embedding", [config.tokens(), dim])?,
            pre_norm: norm(dim, &visual.pp("pre_norm"))?,
            blocks: (0..config.used)
                .map(|i| ClipBlock::new(&config, &visual.pp("transformer").pp(i)))
                .collect::<Result<_>>()?,
            config,
        })
    }

    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// What the tower reads of a picture `[3, height, width]` in −1…1: `[3, pixels, pixels]`.
    ///
    /// # Errors
    /// When it is no picture, or on a device failure.
    pub fn prepare(&self, picture: &Tensor) -> Result<Tensor> {
        let (channels, height, width) = picture.dims3()?;
        let (side, extent) = (self.config.pixels(), Extent { width, height });
        let planes = picture.to_dtype(DType::F32)?.to_device(&candle_core::Device::Cpu)?;
        let mut values = Vec::with_capacity(channels * side * side);
        for (channel, (mean, deviation)) in MEAN.into_iter().zip(DEVIATION).enumerate().take(channels) {
            let plane = planes.get(channel)?.flatten_all()?.to_vec1::<f32>()?;
            let small = bicubic(&plane, extent, side);
            values.extend(small.into_iter().map(|v| (v * 0.5 + 0.5 - mean) / deviation));
        }
        let prepared = Tensor::from_vec(values, (PICTURE_CHANNELS, side, side), self.class.device())?;
        Ok(prepared.to_dtype(self.class.dtype())?)
    }

    /// Tokens `[1 + patches, dim]` of a picture that was [prepared](Self::prepare).
    ///
    /// # Errors
    /// On a device failure.
    pub fn encode(&self, prepared: &Tensor) -> Result<Tensor> {
        let ClipConfig {
            patch,
            side,
            heads,
            dim,
            ..
        } = self.config;
        let patches = prepared
            .reshape((PICTURE_CHANNELS, side, patch, side, patch))?
            .permute(vec![1, 3, 0, 2, 4])?
            .contiguous()?
            .reshape((side * side, PICTURE_CHANNELS * patch * patch))?;
        let patches = self.patches.forward(&patches)?;
        debug_assert_eq!(patches.dims(), [side * side, dim]);
        let x = (Tensor::cat(&[&self.class, &patches], 0)? + &self.places)?;
        let mut x = normed(&x, &self.pre_norm)?;
        for block in &self.blocks {
            x = block.forward(&x, heads)?;
        }
        Ok(x)
    }
}
