//! What a world is made under beside its actions: the image that it begins with (docs/algorithms/matrix_game_2.md
//! section 4).

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::{
    ActionBuffer, Ahead, Director, Snapshot,
    actions::{ActionRows, ActionWindow, MOUSE_COLUMNS, WINDOW_ROWS},
};
use crate::{
    Error, Result,
    transformer::{FrameActions, FrameConditions, TransformerConfig},
    vae::{EncoderState, LATENT_CHANNELS, TEMPORAL_FACTOR, WanEncoder, pictures_of_latents},
};

/// Channels that say which latent frames the image belongs to: 1 at the first one, 0 after.
pub const MASK_CHANNELS: usize = 4;

/// Where the channels beside the noisy latents of a world come from.
pub trait ImageLatents: Send {
    /// Those of the latent frames `first..first + frames`, counted from the start of the video:
    /// `[frames, channels, height, width]`. Any frames may be asked for, in any order.
    ///
    /// # Errors
    /// On a device failure.
    fn frames(&mut self, first: usize, frames: usize) -> Result<Tensor>;
}

/// What a rollout needs to make a world.
pub struct World {
    pub image: Box<dyn ImageLatents>,
    /// Latent frames of which the action modules remember keys and values. A property of the trained model, apart from the
    /// window of the tokens.
    pub action_window: usize,
}

/// The image of a world in the making, and the actions so far that frames to come see.
pub(super) struct WorldState {
    image: Box<dyn ImageLatents>,
    actions: ActionBuffer,
}

impl WorldState {
    pub(super) fn new(image: Box<dyn ImageLatents>) -> Self {
        Self {
            image,
            actions: ActionBuffer::recent(),
        }
    }

    /// What belongs to the frames of the chunk `ahead`, whose actions `director` is asked for.
    ///
    /// # Errors
    /// When there are no such actions, or on a device failure.
    pub(super) fn conditions(
        &mut self,
        config: &TransformerConfig,
        director: &mut dyn Director,
        ahead: Ahead,
    ) -> Result<FrameConditions> {
        let (start, frames) = (ahead.start, ahead.frames);
        let actions = match &config.actions {
            Some(config) => {
                let rows = self.actions.ask(director, ahead)?;
                rows.check(config.keys, config.mouse)?;
                Some(frame_actions(rows, start, frames)?)
            }
            None => None,
        };
        let latents = match config.beside_channels() {
            0 => None,
            _ => Some(self.image.frames(start, frames)?),
        };
        Ok(FrameConditions { latents, actions })
    }

    /// The rows that the latent frames from `next` on see, of those that there are.
    pub(super) fn rows_before(&self, next: usize) -> ActionRows {
        let mut rows = self.actions.rows().clone();
        rows.forget_before(next);
        rows
    }

    /// Goes on where `snapshot` was taken.
    ///
    /// # Errors
    /// When its actions are not those of the model, or end elsewhere.
    pub(super) fn restore(&mut self, snapshot: &Snapshot, config: &TransformerConfig) -> Result<()> {
        let Some(config) = &config.actions else {
            return Ok(());
        };
        let wrong = |reason: String| Error::Snapshot { reason };
        let rows = snapshot.actions.clone();
        let rows = rows.ok_or_else(|| wrong("it has no actions".into()))?;
        rows.check(config.keys, config.mouse)
            .map_err(|error| wrong(error.to_string()))?;
        let (end, expected) = (rows.pictures().end, pictures_of_latents(snapshot.frame));
        if end != expected {
            return Err(wrong(format!("its actions end at picture {end}, expected {expected}")));
        }
        self.actions = ActionBuffer::after(rows);
        Ok(())
    }
}

/// Latents of an image followed by mid grey for ever, encoded when they are asked for.
///
/// The autoencoder looks back only so far: after some latent frames all of the grey ones are the same
/// ([`WanEncoder::settles_after`]), so that a world without an end needs no more of the encoder than its first minute.
pub struct EncodedImage {
    encoder: Arc<WanEncoder>,
    /// `[1, 3, height, width]` in −1…1.
    picture: Tensor,
    state: EncoderState,
    /// `[channels, height, width]` each, from the first latent frame on.
    made: Vec<Tensor>,
}

impl EncodedImage {
    /// For a picture `[1, 3, height, width]` in −1…1.
    pub fn new(encoder: Arc<WanEncoder>, picture: Tensor) -> Self {
        Self {
            encoder,
            picture,
            state: EncoderState::default(),
            made: Vec::new(),
        }
    }

    /// The next latent frame, with its mask in front.
    fn encode_one(&mut self) -> Result<Tensor> {
        let first = self.made.is_empty();
        let pictures = if first {
            self.picture.clone()
        } else {
            let (_, channels, height, width) = self.picture.dims4()?;
            let shape = (TEMPORAL_FACTOR, channels, height, width);
            Tensor::zeros(shape, self.picture.dtype(), self.picture.device())?
        };
        let latents = self.encoder.encode_stream(&mut self.state, &pictures)?.squeeze(0)?;
        let (_, height, width) = latents.dims3()?;
        let shape = (MASK_CHANNELS, height, width);
        let mask = if first {
            Tensor::ones(shape, DType::F32, latents.device())?
        } else {
            Tensor::zeros(shape, DType::F32, latents.device())?
        };
        Ok(Tensor::cat(&[&mask, &latents], 0)?)
    }
}

impl ImageLatents for EncodedImage {
    fn frames(&mut self, first: usize, frames: usize) -> Result<Tensor> {
        let settled = self.encoder.settles_after();
        while self.made.len() < (first + frames).min(settled + 1) {
            let next = self.encode_one()?;
            self.made.push(next);
            if self.made.len() > settled {
                // Nothing is encoded any more.
                self.state = EncoderState::default();
            }
        }
        let frames: Vec<&Tensor> = (first..first + frames)
            .map(|frame| &self.made[frame.min(settled)])
            .collect();
        Ok(Tensor::stack(&frames, 0)?)
    }
}

/// Channels that were recorded elsewhere, `[frames, channels, height, width]`.
pub struct RecordedImage(pub Tensor);

impl ImageLatents for RecordedImage {
    fn frames(&mut self, first: usize, frames: usize) -> Result<Tensor> {
        Ok(self.0.narrow(0, first, frames)?.contiguous()?)
    }
}

/// Latent channels that stand beside the noisy ones of a world whose autoencoder is that of Wan.
pub const BESIDE_CHANNELS: usize = MASK_CHANNELS + LATENT_CHANNELS;

/// The rows that the latent frames `first..first + frames` see, as the network reads them; on the host.
///
/// # Errors
/// When a picture has no row.
pub fn frame_actions(rows: &ActionRows, first: usize, frames: usize) -> Result<FrameActions> {
    let windows: Vec<ActionWindow> = (first..first + frames)
        .map(|frame| rows.window(frame))
        .collect::<Result<_, _>>()?;
    let keyboard: Vec<f32> = windows.iter().flat_map(|window| &window.keyboard).copied().collect();
    let moves: Option<Vec<f32>> = windows
        .iter()
        .map(|window| window.mouse.as_deref())
        .collect::<Option<Vec<_>>>()
        .map(|moves| moves.concat());
    let host = &candle_core::Device::Cpu;
    Ok(FrameActions {
        keyboard: Tensor::from_vec(keyboard, (frames, WINDOW_ROWS, rows.keys()), host)?,
        mouse: match moves {
            Some(moves) => Some(Tensor::from_vec(moves, (frames, WINDOW_ROWS * MOUSE_COLUMNS), host)?),
            None => None,
        },
    })
}
