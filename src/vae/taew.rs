//! TAEW2.1, the tiny decoder of the Wan 2.1 latent space (`madebyollin/taehv`, `taew2_1.pth`).
//!
//! Its memory is the input of each of nine blocks at the previous time step. Kept between calls, it makes decoding in
//! chunks exactly equal to decoding at once.

use candle_core::{Device, Tensor};

use super::{
    CausalConv3d, ConvSpec, History, LATENT_CHANNELS, PICTURE_CHANNELS, Probe, VaeError, check_frames,
    wan::latent_statistics,
};
use crate::{
    Result,
    checkpoint::{CheckpointError, TensorSpec, Weights},
};

/// Memory blocks per stage.
const BLOCKS: usize = 3;

/// Sizes of a TAEW decoder, from the latents to the pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaeConfig {
    /// Channels of the three stages and before the last convolution.
    pub widths: [usize; 4],
    /// Frames per frame at the end of each stage. Less than the file was trained for is allowed: the last rows of its
    /// weights are used, which give the last sub-frames.
    pub time_upscale: [usize; 3],
}

impl Default for TaeConfig {
    fn default() -> Self {
        Self::taew21()
    }
}

impl TaeConfig {
    /// The published TAEW2.1.
    pub fn taew21() -> Self {
        Self {
            widths: [256, 128, 64, 64],
            time_upscale: [1, 2, 2],
        }
    }

    /// Reads the sizes from the tensors.
    ///
    /// # Errors
    /// When a tensor that tells a size is missing.
    pub fn from_weights(weights: &Weights) -> Result<Self, VaeError> {
        let rows = |name: &str| {
            weights
                .shape(name)
                .and_then(|shape| shape.first().copied())
                .ok_or_else(|| VaeError::Unsupported {
                    origin: weights.origin(),
                    reason: format!("tensor `{name}` is missing or has no shape"),
                })
        };
        let names = [
            "decoder.1.weight",
            "decoder.8.weight",
            "decoder.14.weight",
            "decoder.20.weight",
        ];
        let mut widths = [0; 4];
        for (width, name) in widths.iter_mut().zip(names) {
            *width = rows(name)?;
        }
        let mut time_upscale = [0; 3];
        for (stage, upscale) in time_upscale.iter_mut().enumerate() {
            let name = format!("decoder.{}.conv.weight", Stage::index(stage) + 4);
            let (rows, width) = (rows(&name)?, widths[stage]);
            if width == 0 || rows == 0 || rows % width != 0 {
                return Err(VaeError::Unsupported {
                    origin: weights.origin(),
                    reason: format!("`{name}` has {rows} rows, expected a multiple of {width}"),
                });
            }
            *upscale = rows / width;
        }
        Ok(Self { widths, time_upscale })
    }

    /// The tensors of the decoder (`decoder.*`) of these sizes, sorted by name. The file also holds an encoder
    /// (`encoder.*`), which is not used.
    ///
    /// # Errors
    /// When the sizes do not make a decoder.
    pub fn expected_tensors(&self) -> Result<Vec<TensorSpec>> {
        let recorder = Weights::recorder();
        TaeDecoder::with_config(self, &recorder)?;
        Ok(recorder.recorded())
    }

    /// Pictures per latent.
    pub fn pictures_per_latent(&self) -> usize {
        self.time_upscale.iter().product()
    }
}

/// What a decoder remembers of one video. Make a fresh one for every video.
#[derive(Debug, Clone, Default)]
pub struct TaeState {
    memories: [[History; BLOCKS]; 3],
    latents: usize,
}

impl TaeState {
    /// The start of a video: no memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Latent frames decoded so far.
    pub fn latents(&self) -> usize {
        self.latents
    }
}

/// `relu(conv(relu(conv(relu(conv([x, past]))))) + x)`; `past` is `x` one time step earlier.
#[derive(Debug)]
struct MemoryBlock {
    /// Over the current and the past frame: a causal convolution of two frames.
    first: CausalConv3d,
    second: CausalConv3d,
    third: CausalConv3d,
}

impl MemoryBlock {
    fn new(weights: Weights, width: usize) -> Result<Self, CheckpointError> {
        let conv = |index: usize, frames| {
            let spec = ConvSpec::new(width, width, frames, 3).with_relu();
            CausalConv3d::new_2d(weights.pp("conv").pp(index), spec, true)
        };
        Ok(Self {
            first: conv(0, 2)?,
            second: conv(2, 1)?,
            third: conv(4, 1)?,
        })
    }

    fn forward(&self, x: &Tensor, past: &mut History) -> candle_core::Result<Tensor> {
        let h = self.first.stream(x, past, None)?;
        let h = self.second.forward(&h)?;
        self.third.forward_add(&h, x)
    }
}

/// Three memory blocks, then twice the rows and columns, more frames, and the next width.
#[derive(Debug)]
struct Stage {
    blocks: Vec<MemoryBlock>,
    /// 1×1 convolution whose output channels `k·C…` are sub-frame `k`.
    grow: CausalConv3d,
    upscale: usize,
    conv: CausalConv3d,
}

impl Stage {
    /// Index in the file of the first layer of stage `stage`.
    fn index(stage: usize) -> usize {
        3 + 6 * stage
    }

    fn new(decoder: &Weights, stage: usize, from: usize, to: usize, upscale: usize) -> Result<Self> {
        let index = Self::index(stage);
        let blocks = (0..BLOCKS)
            .map(|block| MemoryBlock::new(decoder.pp(index + block), from))
            .collect::<Result<Vec<_>, _>>()?;
        let grow = decoder.pp(index + 4).pp("conv");
        let stored = grow
            .shape("weight")
            .and_then(|shape| shape.first().copied())
            .unwrap_or(from * upscale);
        let weight = grow.get([stored, from, 1, 1], "weight")?;
        let Some(skipped) = stored.checked_sub(from * upscale) else {
            return Err(VaeError::Unsupported {
                origin: decoder.origin(),
                reason: format!(
                    "its stage {stage} gives {} frames per frame, {upscale} were asked for",
                    stored / from
                ),
            }
            .into());
        };
        let weight = weight.narrow(0, skipped, from * upscale)?;
        Ok(Self {
            blocks,
            grow: CausalConv3d::pointwise(weight, from, from * upscale),
            upscale,
            conv: CausalConv3d::new_2d(decoder.pp(index + 5), ConvSpec::new(from, to, 1, 3).upsampled(), false)?,
        })
    }

    /// Growing in time mixes only channels, so it may come before the upsampling, at a quarter of the work.
    fn grow(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (frames, channels, height, width) = x.dims4()?;
        let x = self
            .grow
            .forward(x)?
            .reshape((frames * self.upscale, channels, height, width))?;
        self.conv.forward(&x)
    }
}

/// The TAEW2.1 decoder. Holds weights only; what belongs to a video is in its [`TaeState`].
#[derive(Debug)]
pub struct TaeDecoder {
    first: CausalConv3d,
    stages: Vec<Stage>,
    last: CausalConv3d,
    pictures_per_latent: usize,
    /// Mean and standard deviation `[1, 16, 1, 1]` of the latents, where it was trained on ones that are not normalised.
    statistics: Option<(Tensor, Tensor)>,
}

impl TaeDecoder {
    /// Reads the sizes from the tensors.
    ///
    /// # Errors
    /// When tensors are missing or do not make a decoder of this kind.
    pub fn new(weights: &Weights) -> Result<Self> {
        Self::with_config(&TaeConfig::from_weights(weights)?, weights)
    }

    /// A decoder of known sizes.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn with_config(config: &TaeConfig, weights: &Weights) -> Result<Self> {
        let decoder = weights.pp("decoder");
        let widths = config.widths;
        let stages = (0..3)
            .map(|stage| {
                Stage::new(
                    &decoder,
                    stage,
                    widths[stage],
                    widths[stage + 1],
                    config.time_upscale[stage],
                )
            })
            .collect::<Result<Vec<_>>>()?;
        let first = ConvSpec::new(LATENT_CHANNELS, widths[0], 1, 3).with_relu();
        let last = ConvSpec::new(widths[3], PICTURE_CHANNELS, 1, 3);
        Ok(Self {
            first: CausalConv3d::new_2d(decoder.pp(1), first, true)?,
            stages,
            last: CausalConv3d::new_2d(decoder.pp(22), last, true)?,
            pictures_per_latent: config.pictures_per_latent(),
            statistics: None,
        })
    }

    /// The same decoder for weights that were trained on the latents of the Wan VAE as they are, not normalised: those of
    /// `lighttaew2_1`, which have the same names and shapes.
    ///
    /// # Errors
    /// When the device fails.
    pub fn with_raw_latents(self, device: &Device) -> Result<Self> {
        let statistics = latent_statistics(device)?;
        Ok(Self {
            statistics: Some(statistics),
            ..self
        })
    }

    /// The next latents of a video, `[F, 16, h, w]` as the diffusion model makes them, to pictures `[T, 3, 8h, 8w]` in
    /// nominally 0…1, not clamped. The first 3 pictures of a video are dropped, so that T is that of the Wan VAE:
    /// 4F, less 3 at the start.
    ///
    /// # Errors
    /// When the shape is not that of latents, or differs from the stream's; the state is then of no more use.
    pub fn decode(&self, state: &mut TaeState, latents: &Tensor) -> Result<Tensor> {
        let skip = if state.latents == 0 {
            self.pictures_per_latent - 1
        } else {
            0
        };
        let pictures = self.decode_all(state, latents, &mut Probe::none())?;
        Ok(pictures.narrow(0, skip, pictures.dim(0)? - skip)?)
    }

    /// As [`Self::decode`], but all 4F pictures. `probe` sees the outputs of the file's layers, named `decoder.N`, for
    /// one latent after the other.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_all(&self, state: &mut TaeState, latents: &Tensor, probe: &mut Probe) -> Result<Tensor> {
        check_frames("latents", latents, LATENT_CHANNELS, 1)?;
        let pictures = (0..latents.dim(0)?)
            .map(|latent| self.decode_latent(state, &latents.narrow(0, latent, 1)?, probe))
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&pictures, 0)?)
    }

    fn decode_latent(&self, state: &mut TaeState, latent: &Tensor, probe: &mut Probe) -> candle_core::Result<Tensor> {
        let latent = match &self.statistics {
            Some((mean, deviation)) => latent.broadcast_mul(deviation)?.broadcast_add(mean)?,
            None => latent.clone(),
        };
        let x = ((latent / 3.0)?.tanh()? * 3.0)?;
        probe.see(|| "decoder.0".into(), &x);
        let mut x = self.first.forward(&x.to_dtype(self.first.dtype())?)?;
        probe.see(|| "decoder.2".into(), &x);
        for (index, (stage, memories)) in self.stages.iter().zip(&mut state.memories).enumerate() {
            let layer = Stage::index(index);
            for (block, (memory_block, memory)) in stage.blocks.iter().zip(memories).enumerate() {
                x = memory_block.forward(&x, memory)?;
                probe.see(|| format!("decoder.{}", layer + block), &x);
            }
            x = stage.grow(&x)?;
            probe.see(|| format!("decoder.{}", layer + 5), &x);
        }
        let x = x.relu()?;
        probe.see(|| "decoder.21".into(), &x);
        state.latents += 1;
        self.last.forward(&x)
    }
}
