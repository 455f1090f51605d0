//! Who decides what a rollout makes next: asked before every chunk, so that prompts can change and a video can end while
//! it is made.

use std::sync::Arc;

use crate::{Result, transformer::PromptContext};

/// What a director is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Number of the chunk.
    pub chunk: usize,
    /// Its first latent frame, counted from the start of the video.
    pub start: usize,
    /// Latent frames that it will have.
    pub frames: usize,
    /// Latent frames generated so far, given ones not counted.
    pub generated: usize,
    /// Whether its latents are given.
    pub given: bool,
}

/// What becomes of the cache when the prompt changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnSwitch {
    /// The cache stays as it is: what is seen of the past was made under the prompt before.
    #[default]
    Keep,
}

/// A prompt as a director gives it.
#[derive(Clone)]
pub struct Cue {
    /// Tells prompts apart: another number than at the chunk before is a change.
    pub number: usize,
    pub context: Arc<PromptContext>,
    pub on_switch: OnSwitch,
}

/// Decides, before each chunk, whether there is one and under which prompt it is made.
///
/// A rollout that was restored asks for the chunk after the snapshot: a director answers by the chunk it is asked about,
/// not by how often it was asked.
pub trait Director: Send {
    /// The prompt of the chunk `ahead`; `None` when the video is over. Given chunks are asked about, too, and cannot be
    /// refused.
    ///
    /// # Errors
    /// What ends the rollout.
    fn direct(&mut self, ahead: Ahead) -> Result<Option<Cue>>;

    /// Latent frames that will be generated, given ones not counted, where that is known before.
    fn generated_frames(&self) -> Option<usize> {
        None
    }
}

/// A prompt that takes over at a chunk.
pub struct PromptChange {
    /// Generated from the first chunk that starts at this latent frame or later.
    pub frame: usize,
    pub context: Arc<PromptContext>,
}

/// A video of fixed length with prompts at fixed frames.
pub struct Script {
    frames: usize,
    prompts: Vec<PromptChange>,
}

impl Script {
    /// `frames` latent frames are generated; `prompts` are in order, the first one at frame 0.
    ///
    /// # Errors
    /// [`crate::Error::NoPrompt`] when no prompt begins the video.
    pub fn new(frames: usize, prompts: Vec<PromptChange>) -> Result<Self> {
        if prompts.first().is_none_or(|first| first.frame > 0) {
            return Err(crate::Error::NoPrompt);
        }
        Ok(Self { frames, prompts })
    }
}

impl Director for Script {
    fn direct(&mut self, ahead: Ahead) -> Result<Option<Cue>> {
        if !ahead.given && ahead.generated >= self.frames {
            return Ok(None);
        }
        let begun = self.prompts.partition_point(|change| change.frame <= ahead.start);
        let number = begun.saturating_sub(1);
        let prompt = self.prompts.get(number).ok_or(crate::Error::NoPrompt)?;
        Ok(Some(Cue {
            number,
            context: prompt.context.clone(),
            on_switch: OnSwitch::Keep,
        }))
    }

    fn generated_frames(&self) -> Option<usize> {
        Some(self.frames)
    }
}
