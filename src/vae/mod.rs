//! Streaming video autoencoders: latent frames in, pictures out and back (docs/algorithms/vae.md).
//!
//! [`Decoder`] is one of the two decoders of the Wan 2.1 latent space; a [`DecodeStream`] is a decoder with the memory
//! of one video. Latents are `[frames, 16, h, w]` as the diffusion model makes them, pictures `[frames, 3, 8h, 8w]` in
//! −1…1. The first latent of a video gives one picture, each later one four.

mod attention;
mod convolution;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(all(test, feature = "cuda"))]
mod device_tests;
#[cfg(test)]
mod emulated_tests;
mod norm;
mod rgb;
mod taew;
mod wan;

use std::sync::Arc;

use candle_core::{Device, Tensor};

pub use crate::kernels::convolution::{CausalConv3d, ConvSpec, History, Padding};
pub use rgb::frames_to_rgb8;
pub use taew::{TaeConfig, TaeDecoder, TaeState};
pub use wan::{DecoderState, EncoderState, LATENT_MEAN, LATENT_STD, WanDecoder, WanEncoder, WanVaeConfig};

use crate::{
    Result,
    checkpoint::{TensorSpec, Weights},
};

/// Pixels per latent position, in rows and in columns.
pub const SPATIAL_FACTOR: usize = 8;
/// Pictures per latent frame after the first.
pub const TEMPORAL_FACTOR: usize = 4;
/// Channels of a latent.
pub const LATENT_CHANNELS: usize = 16;
/// Channels of a picture.
pub const PICTURE_CHANNELS: usize = 3;

/// What is wrong with the input of a video autoencoder, or with its file.
#[derive(Debug, thiserror::Error)]
pub enum VaeError {
    /// A tensor is not what the autoencoder takes.
    #[error("{what} have shape {found:?}, expected [frames ≥ 1, {channels}, height, width]{detail}")]
    Shape {
        what: &'static str,
        found: Vec<usize>,
        channels: usize,
        detail: String,
    },
    /// The file holds another kind of autoencoder.
    #[error("`{origin}` is not a video autoencoder of the Wan 2.1 kind: {reason}")]
    Unsupported { origin: String, reason: String },
}

/// Pictures of `latents` latent frames from the start of a video: 1, then 4 for each.
pub fn pictures_of_latents(latents: usize) -> usize {
    (latents * TEMPORAL_FACTOR).saturating_sub(TEMPORAL_FACTOR - 1)
}

/// A decoder of the Wan 2.1 latent space; weights only, to be shared by streams.
#[derive(Debug)]
// One exists per process: its size does not matter.
#[allow(clippy::large_enum_variant)]
pub enum Decoder {
    /// The Wan 2.1 VAE's decoder.
    Wan(WanDecoder),
    /// The tiny decoder TAEW2.1.
    Tae(TaeDecoder),
}

impl Decoder {
    /// Tells by the tensors' names which decoder a file holds, and builds it.
    ///
    /// # Errors
    /// When it holds neither, or tensors are missing or have unexpected shapes.
    pub fn new(weights: &Weights) -> Result<Self> {
        if is_tiny(weights) {
            Ok(Self::Tae(TaeDecoder::new(weights)?))
        } else {
            Ok(Self::Wan(WanDecoder::new(weights)?))
        }
    }

    /// The same for a tiny decoder that was trained on latents which are not normalised; others stay as they are.
    ///
    /// # Errors
    /// When the device fails.
    pub fn with_raw_latents(self, device: &Device) -> Result<Self> {
        Ok(match self {
            Self::Tae(decoder) => Self::Tae(decoder.with_raw_latents(device)?),
            wan => wan,
        })
    }

    /// The tensors that [`Self::new`] and an encoder of the same sizes ask of a file, sorted by name.
    ///
    /// # Errors
    /// When the file holds neither decoder.
    pub fn expected_tensors(weights: &Weights) -> Result<Vec<TensorSpec>> {
        match is_tiny(weights) {
            true => TaeConfig::from_weights(weights)?.expected_tensors(),
            false => WanVaeConfig::from_decoder(weights)?.expected_tensors(),
        }
    }

    /// The start of a video.
    pub fn stream(self: &Arc<Self>) -> DecodeStream {
        let state = match self.as_ref() {
            Self::Wan(_) => State::Wan(DecoderState::new()),
            Self::Tae(_) => State::Tae(TaeState::new()),
        };
        DecodeStream {
            decoder: self.clone(),
            state,
        }
    }
}

/// Whether the tensors are those of a tiny decoder, going by a name that only it has.
pub(crate) fn is_tiny(weights: &Weights) -> bool {
    weights.shape("decoder.1.weight").is_some()
}

/// A decoder with what it remembers of one video.
#[derive(Debug, Clone)]
pub struct DecodeStream {
    decoder: Arc<Decoder>,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Wan(DecoderState),
    Tae(TaeState),
}

impl DecodeStream {
    /// The next latents `[F, 16, h, w]` to the next pictures `[T, 3, 8h, 8w]`, clamped to −1…1. T is 4F, less 3 at the
    /// start of the video. How a video is cut into calls does not change its pictures.
    ///
    /// # Errors
    /// When the shape is not that of latents or differs from that of earlier calls; the stream is then of no more use.
    pub fn push(&mut self, latents: &Tensor) -> Result<Tensor> {
        match (self.decoder.as_ref(), &mut self.state) {
            (Decoder::Wan(decoder), State::Wan(state)) => decoder.decode(state, latents),
            (Decoder::Tae(decoder), State::Tae(state)) => {
                let pictures = decoder.decode(state, latents)?;
                Ok(pictures.affine(2.0, -1.0)?.clamp(-1f32, 1f32)?)
            }
            _ => unreachable!("a stream is made with the state of its decoder"),
        }
    }

    /// Latent frames decoded so far.
    pub fn latents(&self) -> usize {
        match &self.state {
            State::Wan(state) => state.latents(),
            State::Tae(state) => state.latents(),
        }
    }
}

/// A look at activations by name; costs nothing when nobody looks.
pub struct Probe<'a>(Option<&'a mut Look<'a>>);

/// Called with the name and value of an activation.
type Look<'a> = dyn FnMut(&str, &Tensor) + 'a;

impl<'a> Probe<'a> {
    /// Nobody looks.
    pub fn none() -> Self {
        Self(None)
    }

    /// `look` is called with the name and value of each activation.
    pub fn new(look: &'a mut dyn FnMut(&str, &Tensor)) -> Self {
        Self(Some(look))
    }

    fn see(&mut self, name: impl FnOnce() -> String, value: &Tensor) {
        if let Some(look) = &mut self.0 {
            look(&name(), value);
        }
    }
}

/// Checks for `[frames ≥ 1, channels, height, width]` with height and width positive multiples of `factor`.
fn check_frames(what: &'static str, tensor: &Tensor, channels: usize, factor: usize) -> Result<(), VaeError> {
    let fits = |n: usize| n > 0 && n.is_multiple_of(factor);
    match *tensor.dims() {
        [frames, c, height, width] if frames > 0 && c == channels && fits(height) && fits(width) => Ok(()),
        _ => Err(VaeError::Shape {
            what,
            found: tensor.dims().to_vec(),
            channels,
            detail: match factor {
                1 => String::new(),
                _ => format!(" with height and width divisible by {factor}"),
            },
        }),
    }
}

#[cfg(test)]
mod tests;
