//! A world to measure: an image of noise, and nothing done in it.

use candle_core::Tensor;

use super::run::BenchSettings;
use crate::{
    Result,
    rollout::{ActionRows, ImageLatents, World, actions::MOUSE_COLUMNS},
    transformer::{CausalWan, TransformerConfig},
    vae::{SPATIAL_FACTOR, pictures_of_latents},
};

/// Channels beside the latents that are the same in every chunk.
struct Still(Tensor);

impl ImageLatents for Still {
    fn frames(&mut self, _: usize, frames: usize) -> Result<Tensor> {
        let (_, channels, height, width) = self.0.dims4()?;
        Ok(self.0.expand((frames, channels, height, width))?.contiguous()?)
    }
}

/// What a model of a world is measured under; `None` for one that reads prompts.
///
/// # Errors
/// On a device failure.
pub(super) fn world(settings: &BenchSettings, model: &CausalWan) -> Result<Option<World>> {
    let channels = model.config().beside_channels();
    if channels == 0 {
        return Ok(None);
    }
    let side = |pixels: usize| pixels / SPATIAL_FACTOR;
    let shape = (1, channels, side(settings.size.height), side(settings.size.width));
    Ok(Some(World {
        image: Box::new(Still(Tensor::ones(shape, candle_core::DType::F32, model.device())?)),
        action_window: settings.action_window,
    }))
}

/// Rows of pictures in which nothing is done.
///
/// # Errors
/// Never in practice.
pub(super) fn still(config: &TransformerConfig, latent_frames: usize) -> Result<ActionRows> {
    let pictures = pictures_of_latents(latent_frames);
    let (keys, mouse) = config
        .actions
        .as_ref()
        .map_or((0, false), |actions| (actions.keys, actions.mouse));
    let mouse = mouse.then(|| vec![[0.0; MOUSE_COLUMNS]; pictures]);
    Ok(ActionRows::new(vec![vec![0.0; keys]; pictures], mouse)?)
}
