//! What a rolling window can make, and what it cannot.

use super::super::{LoopKind, RolloutDefaults, sampler::SamplerSettings};
use crate::cache::{Placement, Policy, PolicyName};

/// What a rolling window cannot make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RollingError {
    #[error(
        "a video of {blocks} chunk{} is too short for a rolling window of {levels} chunks: ask for at least {} latent frames \
         ({least} pictures), or for fewer denoising steps", if *blocks == 1 { "" } else { "s" }, levels * chunk
    )]
    FewBlocks {
        blocks: usize,
        levels: usize,
        chunk: usize,
        least: usize,
    },
    #[error(
        "{policy} does not go together with a rolling window, whose sink lies directly before the frames that it sees and \
         which drops the oldest others: choose policy `sink-rerope`, or a preset with another loop"
    )]
    Policy { policy: String },
    #[error(
        "window {window} < sink {sink} + {levels} denoising steps × chunk {chunk}: the window must hold the sink and all \
         chunks that are denoised at a time; raise the window, or lower the sink or the number of steps"
    )]
    Window {
        window: usize,
        sink: usize,
        levels: usize,
        chunk: usize,
    },
    #[error(
        "the prompt cannot change in a rolling window: chunks before and after the switch are denoised together; leave \
         the switches out, or choose a preset with another loop"
    )]
    Switch,
    #[error(
        "a video made in a rolling window cannot begin with an image or a clip; leave it out, or choose a preset with \
         another loop"
    )]
    Start,
    #[error(
        "steps of its own for the first chunk do not go together with a rolling window; leave out first-chunk-steps"
    )]
    FirstSteps,
    #[error("a first frame alone does not go together with a rolling window; leave out first-frame-alone")]
    FirstFrame,
    #[error("a trace of the cache cannot be made of a rolling window; leave out --trace")]
    Trace,
}

/// What is asked of a rolling window.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub rollout: RolloutDefaults,
    pub sampler: &'a SamplerSettings,
    pub policy: &'a Policy,
    /// For messages.
    pub name: PolicyName,
    /// Latent frames to generate.
    pub frames: usize,
    pub prompts: usize,
    pub given: usize,
}

impl Asked<'_> {
    /// Refuses what the loop cannot make; other loops are not looked at.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub fn check(&self) -> Result<(), RollingError> {
        if self.rollout.kind != LoopKind::Rolling {
            return Ok(());
        }
        if self.rollout.first_frame_alone {
            return Err(RollingError::FirstFrame);
        }
        check(self.policy, self.sampler, self.rollout.chunk, Some(self.name))?;
        if self.given > 0 {
            return Err(RollingError::Start);
        }
        if self.prompts > 1 {
            return Err(RollingError::Switch);
        }
        check_blocks(
            self.frames / self.rollout.chunk.max(1),
            self.sampler,
            self.rollout.chunk,
        )
    }
}

pub(super) fn check(
    policy: &Policy,
    sampler: &SamplerSettings,
    chunk: usize,
    name: Option<PolicyName>,
) -> Result<(), RollingError> {
    let (levels, &Policy { window, sink, .. }) = (sampler.steps.len(), policy);
    // The knobs of policy `sink-rerope`.
    if policy.placement != Placement::Consecutive || !policy.is_plain() {
        let policy = match name {
            Some(name) => format!("policy `{name}`"),
            None => "a policy that does more than drop frames, or whose sink stays where it is,".into(),
        };
        return Err(RollingError::Policy { policy });
    }
    if sampler.first_chunk_steps.is_some() {
        return Err(RollingError::FirstSteps);
    }
    if window < levels.saturating_mul(chunk).saturating_add(sink) {
        return Err(RollingError::Window {
            window,
            sink,
            levels,
            chunk,
        });
    }
    Ok(())
}

pub(super) fn check_blocks(blocks: usize, sampler: &SamplerSettings, chunk: usize) -> Result<(), RollingError> {
    let levels = sampler.steps.len();
    if blocks >= levels {
        return Ok(());
    }
    Err(RollingError::FewBlocks {
        blocks,
        levels,
        chunk,
        least: crate::vae::pictures_of_latents(levels * chunk),
    })
}
