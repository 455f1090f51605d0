//! Pictures to latents.

use candle_core::{DType, Tensor};

use super::{
    blocks::{Head, Histories, MiddleBlock, ResidualBlock, conv1, conv3},
    config::WanVaeConfig,
    latent_statistics,
};
use crate::{
    Result,
    checkpoint::{CheckpointError, Weights},
    vae::{
        CausalConv3d, ConvSpec, LATENT_CHANNELS, PICTURE_CHANNELS, Padding, Probe, SPATIAL_FACTOR, TEMPORAL_FACTOR,
        VaeError, check_frames,
    },
};

/// Frames that a convolution over three frames remembers.
const REMEMBERED: usize = 2;

/// Halves rows and columns, and frames if temporal.
#[derive(Debug)]
struct Downsample {
    conv: CausalConv3d,
    time_conv: Option<CausalConv3d>,
}

impl Downsample {
    fn new(weights: Weights, width: usize, temporal: bool) -> Result<Self, CheckpointError> {
        let spec = ConvSpec::new(width, width, 1, 3).downsampled();
        let time_spec = ConvSpec {
            time_stride: 2,
            padding: Padding::Valid,
            ..ConvSpec::new(width, width, 3, 1)
        };
        let time_conv = match temporal {
            true => Some(CausalConv3d::new(weights.pp("time_conv"), time_spec)?),
            false => None,
        };
        Ok(Self {
            conv: CausalConv3d::new_2d(weights.pp("resample.1"), spec, true)?,
            time_conv,
        })
    }

    /// `first`, the group of the single first picture, keeps its frame and is only remembered.
    fn forward(&self, x: &Tensor, first: bool, histories: &mut Histories) -> candle_core::Result<Tensor> {
        let x = self.conv.forward(x)?;
        let Some(time_conv) = &self.time_conv else {
            return Ok(x);
        };
        let history = histories.next();
        if first {
            time_conv.remember(&x, history)?;
            return Ok(x);
        }
        time_conv.stream(&x, history, None)
    }
}

#[derive(Debug)]
struct Stage {
    blocks: Vec<ResidualBlock>,
    downsample: Option<Downsample>,
}

/// What an encoder remembers of one stream of pictures.
#[derive(Debug, Clone, Default)]
pub struct EncoderState {
    histories: Histories,
    /// Latent frames made.
    groups: usize,
}

/// The Wan 2.1 encoder: the mean of the latent distribution, without sampling.
#[derive(Debug)]
pub struct WanEncoder {
    conv1: CausalConv3d,
    stages: Vec<Stage>,
    middle: MiddleBlock,
    head: Head,
    /// The VAE's own `conv1`, after the encoder.
    to_moments: CausalConv3d,
}

impl WanEncoder {
    /// Reads the sizes from the tensors; the decoder's are not needed.
    ///
    /// # Errors
    /// When tensors are missing or do not make an encoder of this kind.
    pub fn new(weights: &Weights) -> Result<Self> {
        Self::with_config(&WanVaeConfig::from_encoder(weights)?, weights)
    }

    /// An encoder of known sizes.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn with_config(config: &WanVaeConfig, weights: &Weights) -> Result<Self> {
        let encoder = weights.pp("encoder");
        let layers = encoder.pp("downsamples");
        let (mut width, mut index, mut stages) = (config.dim, 0, Vec::new());
        for (stage, &out) in config.widths().iter().enumerate() {
            let mut blocks = Vec::new();
            for _ in 0..config.num_res_blocks {
                blocks.push(ResidualBlock::new(layers.pp(index), width, out)?);
                (width, index) = (out, index + 1);
            }
            let downsample = match config.temporal_downsample.get(stage) {
                Some(&temporal) => Some(Downsample::new(layers.pp(index), width, temporal)?),
                None => None,
            };
            index += usize::from(downsample.is_some());
            stages.push(Stage { blocks, downsample });
        }
        Ok(Self {
            conv1: conv3(encoder.pp("conv1"), PICTURE_CHANNELS, config.dim)?,
            stages,
            middle: MiddleBlock::new(encoder.pp("middle"), width)?,
            head: Head::new(encoder.pp("head"), width, 2 * LATENT_CHANNELS)?,
            to_moments: conv1(weights.pp("conv1"), 2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS)?,
        })
    }

    /// Pictures `[T, 3, H, W]` in −1…1 to latents `[F, 16, H/8, W/8]` as the diffusion model takes them; F = 1 + (T−1)/4.
    /// Pictures beyond 1 + 4(F−1) are dropped, as the reference does.
    ///
    /// # Errors
    /// When the shape is not that of pictures, or height or width is not divisible by 8.
    pub fn encode(&self, pictures: &Tensor) -> Result<Tensor> {
        self.encode_observed(pictures, &mut Probe::none())
    }

    /// As [`Self::encode`]; `probe` sees the activations `enc.conv1`, `enc.stageN.res`, `enc.stageN.down`,
    /// `enc.middle` of each group of pictures, named with `.chunkI`, and `enc.out_mu_logvar` of all.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_observed(&self, pictures: &Tensor, probe: &mut Probe) -> Result<Tensor> {
        self.encode_next(&mut EncoderState::default(), pictures, probe)
    }

    /// The next pictures of a stream, `[T, 3, H, W]` in −1…1, to latents `[F, 16, H/8, W/8]`: 1 + 4(F − 1) pictures at its
    /// start, 4F later. How a stream is cut into calls does not change its latents.
    ///
    /// # Errors
    /// As [`Self::encode`]; also when a stream goes on with fewer than four pictures. The state is then of no more use.
    pub fn encode_stream(&self, state: &mut EncoderState, pictures: &Tensor) -> Result<Tensor> {
        self.encode_next(state, pictures, &mut Probe::none())
    }

    fn encode_next(&self, state: &mut EncoderState, pictures: &Tensor, probe: &mut Probe) -> Result<Tensor> {
        check_frames("pictures", pictures, PICTURE_CHANNELS, SPATIAL_FACTOR)?;
        let alone = usize::from(state.groups == 0);
        let groups = alone + (pictures.dim(0)? - alone) / TEMPORAL_FACTOR;
        let mut moments = Vec::with_capacity(groups);
        let mut begin = 0;
        for _ in 0..groups {
            let size = if state.groups == 0 { 1 } else { TEMPORAL_FACTOR };
            moments.push(self.encode_group(&pictures.narrow(0, begin, size)?, state, probe)?);
            begin += size;
        }
        if moments.is_empty() {
            return Err(VaeError::Shape {
                what: "pictures that go on",
                found: pictures.dims().to_vec(),
                channels: PICTURE_CHANNELS,
                detail: format!(" with at least {TEMPORAL_FACTOR} frames"),
            }
            .into());
        }
        let moments = self.to_moments.forward(&Tensor::cat(&moments, 0)?)?;
        let moments = moments.to_dtype(DType::F32)?;
        probe.see(|| "enc.out_mu_logvar".into(), &moments);
        let (mean, std) = latent_statistics(pictures.device())?;
        Ok(moments
            .narrow(1, 0, LATENT_CHANNELS)?
            .broadcast_sub(&mean)?
            .broadcast_div(&std)?)
    }

    /// Latent frames after which a picture that is repeated gives the same latents for ever, whatever came before: all
    /// that the convolutions remember is then of that picture.
    pub fn settles_after(&self) -> usize {
        // What the widest convolutions of a stage remember, in pictures.
        let convolutions = |count: usize, pictures: usize| count * REMEMBERED * pictures;
        let mut pictures = 1;
        let mut reach = convolutions(1, pictures);
        for stage in &self.stages {
            reach += convolutions(2 * stage.blocks.len(), pictures);
            if stage.downsample.as_ref().is_some_and(|down| down.time_conv.is_some()) {
                reach += convolutions(1, pictures);
                pictures *= 2;
            }
        }
        // Two blocks in the middle, and the head.
        reach += convolutions(5, pictures);
        // One more for the group that is not whole, and one for the first picture, which is alone.
        reach.div_ceil(TEMPORAL_FACTOR) + 2
    }

    fn encode_group(
        &self,
        pictures: &Tensor,
        state: &mut EncoderState,
        probe: &mut Probe,
    ) -> candle_core::Result<Tensor> {
        let group = state.groups;
        state.groups += 1;
        let histories = &mut state.histories;
        histories.rewind();
        let pictures = pictures.to_dtype(self.conv1.dtype())?;
        let mut x = self.conv1.stream(&pictures, histories.next(), None)?;
        probe.see(|| format!("enc.conv1.chunk{group}"), &x);
        for (index, stage) in self.stages.iter().enumerate() {
            for block in &stage.blocks {
                x = block.forward(&x, histories)?;
            }
            probe.see(|| format!("enc.stage{index}.res.chunk{group}"), &x);
            if let Some(downsample) = &stage.downsample {
                x = downsample.forward(&x, group == 0, histories)?;
                probe.see(|| format!("enc.stage{index}.down.chunk{group}"), &x);
            }
        }
        x = self.middle.forward(&x, histories, |_, _| {})?;
        probe.see(|| format!("enc.middle.chunk{group}"), &x);
        self.head.forward(&x, histories)
    }
}
