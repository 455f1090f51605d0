//! The chunk loop of the Self Forcing family (self_forcing.md section 2).

use std::sync::Arc;

use candle_core::Tensor;

use super::{CancelToken, ChunkPlan, NoiseSource, chunk_plans};
use crate::{
    Error, Result,
    cache::{KvCache, Policy, plan::attention_sizes},
    rollout::sampler::{self, DenoisingStep, SamplerSettings, Schedule},
    transformer::{CausalWan, PromptContext, TimeEmbedding, model::Observer},
};

/// What is to be generated.
#[derive(Debug, Clone)]
pub struct RolloutSettings {
    /// Latent frames to generate, given ones not counted.
    pub frames: usize,
    /// Latent frames of a chunk.
    pub chunk: usize,
    /// Whether the first latent frame is a chunk of its own (models trained so).
    pub first_frame_alone: bool,
    /// Latent height and width.
    pub height: usize,
    pub width: usize,
    pub sampler: SamplerSettings,
    /// Checked against its rules by [`crate::cache::CacheSettings::resolve`].
    pub policy: Policy,
    /// Feeds the scorer `random`; the noise has its own source.
    pub seed: u64,
    /// Number of the first latent frame. Only differences of positions matter, so the video does not depend on it.
    pub first_position: u64,
    /// Whether the last chunk is written into the cache too, at the cost of a pass that the video does not need.
    pub fill_last: bool,
}

/// A prompt that takes over at a chunk.
pub struct PromptChange {
    /// Generated from the first chunk that starts at this latent frame or later.
    pub frame: usize,
    pub context: Arc<PromptContext>,
}

/// A finished chunk.
pub struct LatentChunk {
    /// Number of the chunk.
    pub index: usize,
    pub plan: ChunkPlan,
    /// `[frames, channels, height, width]`.
    pub latents: Tensor,
}

/// What happens inside a chunk.
pub enum Progress<'a> {
    /// A denoising step is done; `x0` is its clean estimate.
    Step {
        chunk: usize,
        step: usize,
        steps: usize,
        x0: &'a Tensor,
    },
    /// The chunk was written into the cache.
    Cached { chunk: usize },
}

/// A video in the making: gives one chunk of latents after the other.
pub struct Rollout {
    model: Arc<CausalWan>,
    settings: RolloutSettings,
    cache: KvCache,
    plans: Vec<ChunkPlan>,
    next: usize,
    prompts: Vec<PromptChange>,
    given: Option<Tensor>,
    noise: Box<dyn NoiseSource>,
    cancel: CancelToken,
    steps: Vec<(DenoisingStep, TimeEmbedding)>,
    first_steps: Option<Vec<(DenoisingStep, TimeEmbedding)>>,
    context_time: TimeEmbedding,
    given_time: TimeEmbedding,
}

impl Rollout {
    /// Prepares a rollout with an empty cache.
    ///
    /// `prompts` are in order, the first one at frame 0. `given` are latents `[frames, channels, height, width]` that
    /// start the video (an image or a clip), if any.
    ///
    /// # Errors
    /// On lengths that cannot be cut into chunks, sampler settings that cannot be, no prompt, latents of another size,
    /// or when the device cannot hold the cache.
    pub fn new(
        model: Arc<CausalWan>,
        settings: RolloutSettings,
        prompts: Vec<PromptChange>,
        given: Option<Tensor>,
        noise: Box<dyn NoiseSource>,
    ) -> Result<Self> {
        settings.sampler.validate()?;
        let given_frames = match &given {
            Some(given) => check_given(given, &model, &settings)?,
            None => 0,
        };
        let plans = chunk_plans(
            given_frames,
            settings.frames,
            settings.chunk,
            settings.first_frame_alone,
        )?;
        if prompts.first().is_none_or(|first| first.frame > 0) {
            return Err(Error::NoPrompt);
        }
        let schedule = Schedule::new(settings.sampler.shift);
        let embed = |steps: &[u32]| -> Result<Vec<_>> {
            let steps = schedule.denoising_steps(steps, settings.sampler.warp);
            let embedded = steps
                .into_iter()
                .map(|step| Ok((step, model.time_embedding(&[step.timestep.into()])?)));
            embedded.collect()
        };
        let shape = model.cache_shape(settings.height, settings.width, settings.chunk);
        let chunks = plans.iter().map(|plan| plan.frames);
        model.warm_up(&attention_sizes(&settings.policy, shape.tokens_per_frame(), chunks))?;
        let cache = KvCache::new(settings.policy, shape, settings.seed, model.dtype(), model.device())?;
        Ok(Self {
            steps: embed(&settings.sampler.steps)?,
            first_steps: settings.sampler.first_chunk_steps.as_deref().map(embed).transpose()?,
            context_time: model.time_embedding(&[settings.sampler.context_noise])?,
            given_time: model.time_embedding(&[0.0])?,
            cache,
            plans,
            next: 0,
            prompts,
            given,
            noise,
            cancel: CancelToken::default(),
            model,
            settings,
        })
    }

    /// Lets `cancel` stop this rollout.
    pub fn set_cancel(&mut self, cancel: CancelToken) {
        self.cancel = cancel;
    }

    /// All chunks, the given ones first.
    pub fn plans(&self) -> &[ChunkPlan] {
        &self.plans
    }

    /// The cache, for inspection.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// The cache, to set a probe.
    pub fn cache_mut(&mut self) -> &mut KvCache {
        &mut self.cache
    }

    /// Makes the next chunk; `None` after the last one or when the rollout was cancelled.
    ///
    /// # Errors
    /// On a device failure, or [`Error::Cancelled`] when [`CancelToken::now`] was called. The rollout cannot go on
    /// after an error.
    pub fn next_chunk(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Option<LatentChunk>> {
        let Some(plan) = self.plans.get(self.next).copied() else {
            return Ok(None);
        };
        if self.cancel.is_cancelled() {
            return Ok(None);
        }
        let index = self.next;
        self.next += 1;
        let current = self.prompts.partition_point(|change| change.frame <= plan.start);
        let prompt = self.prompts[current.saturating_sub(1)].context.clone();
        let latents = match (&self.given, plan.given) {
            (Some(given), true) => given.narrow(0, plan.start, plan.frames)?.contiguous()?,
            _ => self.denoise(index, plan, &prompt, progress)?,
        };
        let last = self.next == self.plans.len();
        if !last || self.settings.fill_last {
            let time = if plan.given {
                &self.given_time
            } else {
                &self.context_time
            };
            let position = self.settings.first_position + plan.start as u64;
            self.model
                .fill_cache(&latents, time, &prompt, position, &mut self.cache)?;
            progress(Progress::Cached { chunk: index });
        }
        Ok(Some(LatentChunk { index, plan, latents }))
    }

    /// From noise to clean latents: estimate, re-noise with a fresh draw, estimate again.
    fn denoise(
        &mut self,
        chunk: usize,
        plan: ChunkPlan,
        prompt: &PromptContext,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Tensor> {
        let device = self.model.device();
        let given = self
            .plans
            .iter()
            .take_while(|p| p.given)
            .map(|p| p.frames)
            .sum::<usize>();
        let first = plan.start - given;
        let steps = match &self.first_steps {
            Some(steps) if first == 0 => steps,
            _ => &self.steps,
        };
        let channels = self.model.config().in_channels;
        let shape = [plan.frames, channels, self.settings.height, self.settings.width];
        let position = self.settings.first_position + plan.start as u64;
        let mut noisy = self.noise.initial(first, shape, device)?;
        let mut clean = noisy.clone();
        for (i, (step, time)) in steps.iter().enumerate() {
            if self.cancel.is_urgent() {
                return Err(Error::Cancelled);
            }
            let mut observer = Observer::silent();
            let flow = self
                .model
                .forward(&noisy, time, prompt, position, &mut self.cache, &mut observer)?;
            clean = sampler::flow_to_x0(&noisy, &flow, &[step.sigma])?;
            progress(Progress::Step {
                chunk,
                step: i,
                steps: steps.len(),
                x0: &clean,
            });
            if let Some((next, _)) = steps.get(i + 1) {
                let fresh = self.noise.renoise(i, first, shape, device)?;
                noisy = sampler::add_noise(&clean, &fresh, &[next.sigma])?;
            }
        }
        Ok(clean)
    }
}

/// Checks the size of given latents and returns their number of frames.
fn check_given(given: &Tensor, model: &CausalWan, settings: &RolloutSettings) -> Result<usize> {
    let expected = [model.config().in_channels, settings.height, settings.width];
    match given.dims() {
        [frames, rest @ ..] if rest == expected => Ok(*frames),
        found => Err(Error::GivenLatents {
            found: found.to_vec(),
            expected: expected.to_vec(),
        }),
    }
}
