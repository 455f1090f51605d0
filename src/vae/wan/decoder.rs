//! Latents to pictures, one latent frame at a time.

use candle_core::Tensor;

use super::{
    blocks::{Head, Histories, MiddleBlock, ResidualBlock, conv1, conv3},
    config::WanVaeConfig,
    latent_statistics,
};
use crate::{
    Result,
    checkpoint::{CheckpointError, Weights},
    vae::{CausalConv3d, ConvSpec, LATENT_CHANNELS, PICTURE_CHANNELS, Probe, check_frames},
};

/// What a decoder remembers of one video. Make a fresh one for every video.
#[derive(Debug, Clone, Default)]
pub struct DecoderState {
    histories: Histories,
    /// Latents decoded so far.
    latents: usize,
    zero_history: bool,
}

impl DecoderState {
    /// The start of a video: its first latent gives one picture, each later one four.
    pub fn new() -> Self {
        Self::default()
    }

    /// A history of zeros that counts as present: the first latent gives four pictures, too, of which the first three
    /// are to be dropped. An interactive front end of the reference starts like this; it is *not* the function that
    /// the VAE was trained for.
    pub fn zero_history() -> Self {
        Self {
            zero_history: true,
            ..Self::default()
        }
    }

    /// Latent frames decoded so far.
    pub fn latents(&self) -> usize {
        self.latents
    }
}

/// Doubles rows and columns, and frames if temporal.
#[derive(Debug)]
struct Upsample {
    time_conv: Option<CausalConv3d>,
    conv: CausalConv3d,
}

impl Upsample {
    fn new(weights: Weights, width: usize, temporal: bool) -> Result<Self, CheckpointError> {
        // Output channel s·width + c is channel c of sub-frame s: in memory, two frames in a row.
        let time_spec = ConvSpec::new(width, 2 * width, 3, 1);
        let time_conv = match temporal {
            true => Some(CausalConv3d::new(weights.pp("time_conv"), time_spec)?),
            false => None,
        };
        let spec = ConvSpec::new(width, width / 2, 1, 3).upsampled();
        Ok(Self {
            time_conv,
            conv: CausalConv3d::new_2d(weights.pp("resample.1"), spec, true)?,
        })
    }

    /// `first` leaves the frames alone and remembers nothing, as for the first latent of a video.
    fn forward(&self, x: &Tensor, first: bool, histories: &mut Histories) -> candle_core::Result<Tensor> {
        let Some(time_conv) = &self.time_conv else {
            return self.conv.forward(x);
        };
        let history = histories.next();
        if first {
            return self.conv.forward(x);
        }
        let (frames, channels, height, width) = x.dims4()?;
        let x = time_conv.stream(x, history, None)?;
        self.conv.forward(&x.reshape((2 * frames, channels, height, width))?)
    }
}

#[derive(Debug)]
struct Stage {
    blocks: Vec<ResidualBlock>,
    upsample: Option<Upsample>,
}

/// The Wan 2.1 decoder. Holds weights only; what belongs to a video is in its [`DecoderState`].
#[derive(Debug)]
pub struct WanDecoder {
    conv2: CausalConv3d,
    conv1: CausalConv3d,
    middle: MiddleBlock,
    stages: Vec<Stage>,
    head: Head,
}

impl WanDecoder {
    /// Reads the sizes from the tensors; the encoder's are not needed.
    ///
    /// # Errors
    /// When tensors are missing or do not make a decoder of this kind.
    pub fn new(weights: &Weights) -> Result<Self> {
        Self::with_config(&WanVaeConfig::from_decoder(weights)?, weights)
    }

    /// A decoder of known sizes.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn with_config(config: &WanVaeConfig, weights: &Weights) -> Result<Self> {
        let decoder = weights.pp("decoder");
        let layers = decoder.pp("upsamples");
        let widths: Vec<usize> = config.widths().into_iter().rev().collect();
        let innermost = widths.first().copied().unwrap_or(config.dim);
        let (mut width, mut index, mut stages) = (innermost, 0, Vec::new());
        for (stage, &out) in widths.iter().enumerate() {
            let mut blocks = Vec::new();
            for _ in 0..=config.num_res_blocks {
                blocks.push(ResidualBlock::new(layers.pp(index), width, out)?);
                (width, index) = (out, index + 1);
            }
            let temporal = config.temporal_downsample.iter().rev().nth(stage);
            let upsample = match temporal {
                Some(&temporal) => Some(Upsample::new(layers.pp(index), width, temporal)?),
                None => None,
            };
            if upsample.is_some() {
                (width, index) = (width / 2, index + 1);
            }
            stages.push(Stage { blocks, upsample });
        }
        Ok(Self {
            conv2: conv1(weights.pp("conv2"), LATENT_CHANNELS, LATENT_CHANNELS)?,
            conv1: conv3(decoder.pp("conv1"), LATENT_CHANNELS, innermost)?,
            middle: MiddleBlock::new(decoder.pp("middle"), innermost)?,
            stages,
            head: Head::new(decoder.pp("head"), width, PICTURE_CHANNELS)?,
        })
    }

    /// The next latents of a video, `[F, 16, h, w]` as the diffusion model makes them, to pictures `[T, 3, 8h, 8w]` in
    /// −1…1; T = 4F, less 3 at the start of a video. Any chunking of a video gives the same pictures.
    ///
    /// # Errors
    /// When the shape is not that of latents, or differs from the stream's; the state is then of no more use.
    pub fn decode(&self, state: &mut DecoderState, latents: &Tensor) -> Result<Tensor> {
        Ok(self.decode_raw(state, latents)?.clamp(-1f32, 1f32)?)
    }

    /// As [`Self::decode`], without the final clamp to −1…1.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_raw(&self, state: &mut DecoderState, latents: &Tensor) -> Result<Tensor> {
        self.decode_observed(state, latents, &mut Probe::none())
    }

    /// As [`Self::decode_raw`]; `probe` sees the activations `conv2` (all latents) and `conv1`, `middle.0–2`,
    /// `stageN.res`, `stageN.up` of each latent, named with `.fI` for latent I of the video.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_observed(&self, state: &mut DecoderState, latents: &Tensor, probe: &mut Probe) -> Result<Tensor> {
        check_frames("latents", latents, LATENT_CHANNELS, 1)?;
        let (mean, std) = latent_statistics(latents.device())?;
        let z = latents.broadcast_mul(&std)?.broadcast_add(&mean)?;
        let z = self.conv2.forward(&z.to_dtype(self.conv2.dtype())?)?;
        probe.see(|| "conv2".into(), &z);
        let pictures = (0..z.dim(0)?)
            .map(|latent| self.decode_latent(state, &z.narrow(0, latent, 1)?, probe))
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&pictures, 0)?)
    }

    fn decode_latent(&self, state: &mut DecoderState, z: &Tensor, probe: &mut Probe) -> candle_core::Result<Tensor> {
        let latent = state.latents;
        let first = latent == 0 && !state.zero_history;
        let histories = &mut state.histories;
        histories.rewind();
        let mut x = self.conv1.stream(z, histories.next(), None)?;
        probe.see(|| format!("conv1.f{latent}"), &x);
        x = self.middle.forward(&x, histories, |block, x| {
            probe.see(|| format!("middle.{block}.f{latent}"), x)
        })?;
        for (index, stage) in self.stages.iter().enumerate() {
            for block in &stage.blocks {
                x = block.forward(&x, histories)?;
            }
            probe.see(|| format!("stage{index}.res.f{latent}"), &x);
            if let Some(upsample) = &stage.upsample {
                x = upsample.forward(&x, first, histories)?;
                probe.see(|| format!("stage{index}.up.f{latent}"), &x);
            }
        }
        let pictures = self.head.forward(&x, histories)?;
        state.latents += 1;
        Ok(pictures)
    }
}
