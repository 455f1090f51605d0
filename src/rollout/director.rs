//! Who decides what a rollout makes next: asked before every chunk, so that prompts can change and a video can end while
//! it is made.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::actions::{ActionRows, pictures_of_chunk};
use crate::{
    Result,
    cache::{RecacheSink, Switch, policy::names},
    transformer::PromptContext,
};

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSwitch {
    /// The cache stays as it is: what is seen of the past was made under the prompt before.
    #[default]
    Keep,
    /// The frames of the cache are encoded again from their clean latents, under the new prompt.
    Recache { sink: RecacheSink },
    /// All but the sink and the last chunk is dropped.
    Flush,
    /// As [`OnSwitch::Flush`], and what is left lies far in the past of the next chunk: a new scene begins.
    Cut,
}

impl OnSwitch {
    /// Whether clean latents are needed.
    pub fn recaches(&self) -> bool {
        matches!(self, Self::Recache { .. })
    }

    /// Whether nothing is done.
    pub fn keeps(&self) -> bool {
        *self == Self::Keep
    }

    /// The rule without what becomes of the sink.
    pub fn rule(&self) -> SwitchRule {
        match self {
            Self::Keep => SwitchRule::Keep,
            Self::Recache { .. } => SwitchRule::Recache,
            Self::Flush => SwitchRule::Flush,
            Self::Cut => SwitchRule::Cut,
        }
    }
}

/// [`OnSwitch`] as users say it, what becomes of the sink apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchRule {
    #[default]
    Keep,
    Recache,
    Flush,
    Cut,
}

names!(SwitchRule:
    "keep" => SwitchRule::Keep,
    "recache" => SwitchRule::Recache,
    "flush" => SwitchRule::Flush,
    "cut" => SwitchRule::Cut,
);

impl OnSwitch {
    /// What is done to the cache; `last` are the latent frames of the last chunk.
    pub fn of_cache(&self, last: usize) -> Option<Switch> {
        match self {
            Self::Keep => None,
            Self::Recache { sink } => Some(Switch::Recache(*sink)),
            Self::Flush | Self::Cut => Some(Switch::Flush { frames: last }),
        }
    }
}

impl SwitchRule {
    /// What is done, given what becomes of the sink.
    pub fn with_sink(self, sink: RecacheSink) -> OnSwitch {
        match self {
            Self::Keep => OnSwitch::Keep,
            Self::Recache => OnSwitch::Recache { sink },
            Self::Flush => OnSwitch::Flush,
            Self::Cut => OnSwitch::Cut,
        }
    }
}

/// A prompt as a director gives it.
#[derive(Clone)]
pub struct Cue {
    /// Tells prompts apart: another number than at the chunk before is a change.
    pub number: usize,
    pub context: Arc<PromptContext>,
    /// What becomes of the cache, where this is a change.
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

    /// Actions of the pictures of the chunk `ahead` ([`super::actions::pictures_of_chunk`]), where the model reads any; asked
    /// for after [`Director::direct`], once for each chunk.
    ///
    /// # Errors
    /// What ends the rollout.
    fn actions(&mut self, _ahead: Ahead) -> Result<Option<ActionRows>> {
        Ok(None)
    }

    /// Latent frames that will be generated, given ones not counted, where that is known before.
    fn generated_frames(&self) -> Option<usize> {
        None
    }

    /// Whether a cue may say [`OnSwitch::Recache`]: the loop then keeps the clean latents that this needs.
    fn may_recache(&self) -> bool {
        true
    }

    /// What becomes of the cache between the chunk that begins at latent frame `last` and the one that begins at `next`,
    /// where that is known before.
    fn known_switch(&self, _last: usize, _next: usize) -> OnSwitch {
        OnSwitch::Keep
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
    /// Of the second and later prompts.
    on_switch: Vec<OnSwitch>,
    actions: Option<ActionRows>,
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
        Ok(Self {
            frames,
            prompts,
            on_switch: Vec::new(),
            actions: None,
        })
    }

    /// What becomes of the cache at each change, in order, the first for the second prompt; it stays as it is where
    /// there is none.
    #[must_use]
    pub fn on_switch(mut self, rules: Vec<OnSwitch>) -> Self {
        self.on_switch = rules;
        self
    }

    /// Actions that steer the video: a row for each picture that its latent frames give.
    #[must_use]
    pub fn with_actions(mut self, rows: ActionRows) -> Self {
        self.actions = Some(rows);
        self
    }

    /// Number of the prompt of the chunk that begins at a latent frame.
    fn number(&self, start: usize) -> usize {
        prompt_at(&self.prompts, |change| change.frame, start)
    }

    /// What becomes of the cache where a prompt takes over.
    fn rule(&self, number: usize) -> OnSwitch {
        let change = number.checked_sub(1);
        let rule = change.and_then(|change| self.on_switch.get(change));
        rule.copied().unwrap_or_default()
    }
}

/// Number of the prompt of the chunk that begins at latent frame `start`: the last of `prompts` that begins (`frame`) there
/// or before.
pub fn prompt_at<T>(prompts: &[T], frame: impl Fn(&T) -> usize, start: usize) -> usize {
    prompts
        .partition_point(|prompt| frame(prompt) <= start)
        .saturating_sub(1)
}

impl Director for Script {
    fn direct(&mut self, ahead: Ahead) -> Result<Option<Cue>> {
        if !ahead.given && ahead.generated >= self.frames {
            return Ok(None);
        }
        let number = self.number(ahead.start);
        let prompt = self.prompts.get(number).ok_or(crate::Error::NoPrompt)?;
        Ok(Some(Cue {
            number,
            context: prompt.context.clone(),
            on_switch: self.rule(number),
        }))
    }

    fn actions(&mut self, ahead: Ahead) -> Result<Option<ActionRows>> {
        let chunk = pictures_of_chunk(ahead.start, ahead.frames);
        Ok(self.actions.as_ref().map(|rows| rows.of(chunk)).transpose()?)
    }

    fn generated_frames(&self) -> Option<usize> {
        Some(self.frames)
    }

    fn may_recache(&self) -> bool {
        self.on_switch.iter().any(OnSwitch::recaches)
    }

    fn known_switch(&self, last: usize, next: usize) -> OnSwitch {
        let number = self.number(next);
        if number == self.number(last) {
            return OnSwitch::Keep;
        }
        self.rule(number)
    }
}
