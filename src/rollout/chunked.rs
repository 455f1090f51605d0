//! The chunk loop of the Self Forcing family (docs/algorithms/self_forcing.md section 2).

use std::sync::Arc;

use candle_core::Tensor;

use super::{
    Ahead, CancelToken, ChunkLoop, ChunkPlan, Cue, Director, LatentChunk, NoiseSource, OnSwitch, Progress,
    PromptChange, Script, Snapshot, World, history::History, spans::Spans, world::WorldState,
};
use crate::{
    Error, Result,
    cache::{
        KvCache, Policy, PolicyError, RecacheSink,
        context::{self, Keep, Sees, Step},
        holding::attention_sizes,
    },
    rollout::sampler::{self, DenoisingStep, SamplerSettings, Schedule},
    transformer::{CausalWan, Observer, PromptContext, TimeEmbedding, config::PATCH},
};

/// What is to be generated.
#[derive(Debug, Clone)]
pub struct RolloutSettings {
    /// Latent frames to generate with [`Rollout::new`], given ones not counted.
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

/// A video in the making: gives one chunk of latents after the other.
pub struct Rollout {
    model: Arc<CausalWan>,
    settings: RolloutSettings,
    cache: KvCache,
    director: Box<dyn Director>,
    spans: Spans,
    /// Chunks of the whole video, where that is known.
    chunks: Option<usize>,
    next: NextChunk,
    /// The chunk that has left but is not in the cache yet.
    unwritten: Option<Unwritten>,
    given: Option<Tensor>,
    /// Only of models of a world.
    world: Option<WorldState>,
    /// Only where a change of the prompt may need it.
    history: Option<History>,
    noise: Box<dyn NoiseSource>,
    cancel: CancelToken,
    steps: Vec<(DenoisingStep, TimeEmbedding)>,
    first_steps: Option<Vec<(DenoisingStep, TimeEmbedding)>>,
    context_time: TimeEmbedding,
    given_time: TimeEmbedding,
}

/// Where the loop stands.
#[derive(Debug, Clone, Copy, Default)]
struct NextChunk {
    index: usize,
    start: usize,
    /// Number of the prompt of the chunk before.
    prompt: Option<usize>,
}

/// A finished chunk on its way into the cache.
struct Unwritten {
    index: usize,
    plan: ChunkPlan,
    latents: Tensor,
    prompt: Arc<PromptContext>,
}

impl Rollout {
    /// Prepares a video of fixed length, `settings.frames`, with an empty cache.
    ///
    /// `prompts` are in order, the first one at frame 0. `given` are latents `[frames, channels, height, width]` that
    /// start the video (an image or a clip), if any.
    ///
    /// # Errors
    /// As [`Rollout::directed`], or when there is no prompt.
    pub fn new(
        model: Arc<CausalWan>,
        settings: RolloutSettings,
        prompts: Vec<PromptChange>,
        given: Option<Tensor>,
        noise: Box<dyn NoiseSource>,
    ) -> Result<Self> {
        settings.sampler.validate()?;
        let script = Script::new(settings.frames, prompts)?;
        Self::directed(model, settings, Box::new(script), given, noise)
    }

    /// Prepares a video whose prompts and end are decided by `director` while it is made, with an empty cache;
    /// `settings.frames` is not looked at.
    ///
    /// # Errors
    /// On lengths that cannot be cut into chunks, wrong sampler settings, latents of another size, or when the device
    /// cannot hold the cache.
    pub fn directed(
        model: Arc<CausalWan>,
        settings: RolloutSettings,
        director: Box<dyn Director>,
        given: Option<Tensor>,
        noise: Box<dyn NoiseSource>,
    ) -> Result<Self> {
        settings.sampler.validate()?;
        settings.policy.check_first_frame(settings.first_frame_alone)?;
        settings
            .policy
            .check_frame((settings.height / PATCH) * (settings.width / PATCH))?;
        let given_frames = match &given {
            Some(given) => check_given(given, &model, &settings)?,
            None => 0,
        };
        let spans = Spans::new(given_frames, settings.chunk, settings.first_frame_alone)?;
        let plans = director
            .generated_frames()
            .map(|frames| spans.plans(frames))
            .transpose()?;
        let schedule = Schedule::new(settings.sampler.shift);
        let embed = |steps: &[u32]| -> Result<Vec<_>> {
            let steps = schedule.denoising_steps(steps, settings.sampler.warp);
            let embedded = steps
                .into_iter()
                .map(|step| Ok((step, model.time_embedding(&[step.timestep.into()])?)));
            embedded.collect()
        };
        let shape = model.cache_shape(settings.height, settings.width, settings.chunk);
        let sizes = match &plans {
            Some(plans) => {
                let befores = std::iter::once(None).chain(plans.iter().map(Some));
                let switch = |before: Option<&ChunkPlan>, plan: &ChunkPlan| {
                    let before = before?;
                    let rule = director.known_switch(before.start, plan.start);
                    rule.of_cache(before.frames)
                };
                let each = plans.iter().zip(befores);
                each.map(|(plan, before)| (plan.frames, switch(before, plan))).collect()
            }
            // The sizes repeat once the window has been full a few times; a switch is prepared when it comes.
            None => spans
                .frames()
                .take(4 * settings.policy.window / settings.chunk + 2)
                .map(|frames| (frames, None))
                .collect::<Vec<_>>(),
        };
        model.warm_up(&attention_sizes(&settings.policy, shape.tokens_per_frame(), sizes))?;
        let cache = KvCache::new(settings.policy, shape, settings.seed, model.dtype(), model.device())?;
        Ok(Self {
            steps: embed(&settings.sampler.steps)?,
            first_steps: settings.sampler.first_chunk_steps.as_deref().map(embed).transpose()?,
            context_time: model.time_embedding(&[settings.sampler.context_noise])?,
            given_time: model.time_embedding(&[0.0])?,
            cache,
            history: (director.may_recache() || settings.policy.context.is_some()).then(History::default),
            director,
            spans,
            chunks: plans.map(|plans| plans.len()),
            next: NextChunk::default(),
            unwritten: None,
            given,
            world: None,
            noise,
            cancel: CancelToken::default(),
            model,
            settings,
        })
    }

    /// Makes it the rollout of a world, whose director is asked for actions, too. Models that read an image and actions can
    /// make nothing else.
    ///
    /// # Errors
    /// When a chunk is longer than the action window, its policy needs other passes than a world's, or the device cannot hold it.
    pub fn of_world(mut self, world: World) -> Result<Self> {
        if self.settings.policy.context.is_some() {
            return Err(PolicyError::ContextOfWorld.into());
        }
        self.model.add_action_windows(&mut self.cache, world.action_window)?;
        self.world = Some(WorldState::new(world.image));
        Ok(self)
    }

    /// `prompt` with what belongs to the frames of the chunk `ahead`, where it is one of a world.
    fn conditions(&mut self, ahead: Ahead, prompt: Arc<PromptContext>) -> Result<Arc<PromptContext>> {
        let Some(world) = &mut self.world else {
            return Ok(prompt);
        };
        let frames = world.conditions(self.model.config(), self.director.as_mut(), ahead)?;
        Ok(Arc::new(prompt.of_frames(frames)))
    }

    /// What the director is asked before the next chunk.
    fn ahead(&self) -> (ChunkPlan, Ahead) {
        let plan = self.spans.at(self.next.start);
        let ahead = Ahead {
            chunk: self.next.index,
            start: plan.start,
            frames: plan.frames,
            generated: plan.start.saturating_sub(self.spans.given()),
            given: plan.given,
        };
        (plan, ahead)
    }

    fn position(&self, plan: ChunkPlan) -> u64 {
        self.settings.first_position + plan.start as u64
    }

    /// Does to the cache what a change of the prompt asks for: the last chunk is in it, the next one not yet.
    fn switch(&mut self, cue: &Cue, progress: &mut dyn FnMut(Progress<'_>)) -> Result<()> {
        match cue.on_switch {
            OnSwitch::Keep => return Ok(()),
            // Chunks that were made anew are made once more before the chunk.
            OnSwitch::Recache { .. } if self.made_anew(self.next.index) => {}
            OnSwitch::Recache { sink } => self.recache(&cue.context, sink)?,
            OnSwitch::Flush => self.flush()?,
            OnSwitch::Cut => {
                self.flush()?;
                self.cache.cut()?;
            }
        }
        progress(Progress::Switched {
            chunk: self.next.index,
            cache: &self.cache,
        });
        Ok(())
    }

    /// Whether the window of chunk `index` is made of chunks that were made anew.
    fn made_anew(&self, index: usize) -> bool {
        let context = self.settings.policy.context;
        context.is_some_and(|context| index >= context.native)
    }

    fn flush(&mut self) -> Result<()> {
        let last = self.spans.first_frame_of(self.next.index.saturating_sub(1));
        self.cache.flush(self.next.start - last)
    }

    /// Makes finished chunks anew for the window of the next one, where the policy says so; `rebuild`: all of them.
    fn make_anew(&mut self, prompt: &PromptContext, rebuild: bool) -> Result<()> {
        let Some(rule) = self.settings.policy.context else {
            return Ok(());
        };
        for step in context::before(rule, self.next.index, rebuild) {
            match step {
                Step::Assemble { chunk } => {
                    let (first, frames) = match chunk {
                        Some(chunk) => self.frames_of(chunk),
                        // The first chunk after the sink's that will be in the window.
                        None => (self.frames_of(self.next.index.saturating_sub(2).max(1)).0, 0),
                    };
                    self.cache.assemble(first, frames)?;
                }
                Step::Pass { chunk, keep, sees } => {
                    let (first, frames) = self.frames_of(chunk);
                    let latents = match &self.history {
                        Some(history) => history.frames(first, frames)?,
                        None => continue,
                    };
                    self.context_pass(&latents, prompt, first, (keep, sees))?;
                }
            }
        }
        Ok(())
    }

    /// First frame and number of frames of a chunk, in positions.
    fn frames_of(&self, chunk: usize) -> (u64, usize) {
        let plan = self.spans.at(self.spans.first_frame_of(chunk));
        (self.position(plan), plan.frames)
    }

    /// A clean pass over a finished chunk that begins at position `first`.
    fn context_pass(
        &mut self,
        latents: &Tensor,
        prompt: &PromptContext,
        first: u64,
        (keep, sees): (Keep, Sees),
    ) -> Result<()> {
        let pass = self.cache.begin_context(first, latents.dim(0)?, keep, sees)?;
        let (model, time) = (&self.model, &self.context_time);
        model.fill_pass(latents, time, prompt, pass, &mut self.cache)
    }

    /// Encodes the frames of the cache again, from their clean latents, under `prompt`
    /// (docs/algorithms/longlive.md section 3).
    fn recache(&mut self, prompt: &PromptContext, sink: RecacheSink) -> Result<()> {
        self.cache.undo_cut()?;
        let Some((pass, places)) = self.cache.rewrite(sink) else {
            return Ok(());
        };
        let Some(history) = &self.history else {
            return Err(Error::Recache {
                reason: "the director had said that it would not ask for that".into(),
            });
        };
        let latents = history.at(&places)?;
        let (time, cache) = (&self.context_time, &mut self.cache);
        self.model.rewrite_cache(&latents, time, prompt, (pass, &places), cache)
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
        let first = plan.start - self.spans.given();
        let steps = match &self.first_steps {
            Some(steps) if first == 0 => steps,
            _ => &self.steps,
        };
        let channels = self.model.config().out_channels;
        let shape = [plan.frames, channels, self.settings.height, self.settings.width];
        let position = self.position(plan);
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

impl ChunkLoop for Rollout {
    fn next_chunk(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Option<LatentChunk>> {
        if self.cancel.is_cancelled() {
            return Ok(None);
        }
        let (plan, ahead) = self.ahead();
        let Some(cue) = self.director.direct(ahead)? else {
            if self.settings.fill_last {
                self.write_back(progress)?;
            }
            return Ok(None);
        };
        self.write_back(progress)?;
        let mut rebuild = false;
        if self.next.prompt.is_some_and(|before| before != cue.number) {
            self.switch(&cue, progress)?;
            rebuild = cue.on_switch.recaches() && self.made_anew(self.next.index);
        }
        self.make_anew(&cue.context, rebuild)?;
        let index = self.next.index;
        let context = self.conditions(ahead, cue.context)?;
        let latents = match &self.given {
            Some(given) if plan.given => given.narrow(0, plan.start, plan.frames)?.contiguous()?,
            _ => self.denoise(index, plan, &context, progress)?,
        };
        self.next = NextChunk {
            index: index + 1,
            start: plan.start + plan.frames,
            prompt: Some(cue.number),
        };
        self.unwritten = Some(Unwritten {
            index,
            plan,
            latents: latents.clone(),
            prompt: context,
        });
        Ok(Some(LatentChunk { index, plan, latents }))
    }

    fn write_back(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<()> {
        let Some(chunk) = self.unwritten.take() else {
            return Ok(());
        };
        let time = if chunk.plan.given {
            &self.given_time
        } else {
            &self.context_time
        };
        let position = self.position(chunk.plan);
        let context = self.settings.policy.context;
        match context.and_then(|rule| context::after(rule, chunk.index)) {
            Some(how) => self.context_pass(&chunk.latents, &chunk.prompt, position, how)?,
            None => self
                .model
                .fill_cache(&chunk.latents, time, &chunk.prompt, position, &mut self.cache)?,
        }
        if let Some(history) = &mut self.history {
            history.push(position, &chunk.latents)?;
            history.forget(&self.cache);
        }
        progress(Progress::Cached { chunk: chunk.index });
        Ok(())
    }

    fn set_cancel(&mut self, cancel: CancelToken) {
        self.cancel = cancel;
    }

    fn chunks(&self) -> Option<usize> {
        self.chunks
    }

    fn cache(&self) -> &KvCache {
        &self.cache
    }

    fn cache_mut(&mut self) -> &mut KvCache {
        &mut self.cache
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        self.write_back(&mut |_| ())?;
        Ok(Snapshot {
            chunk: self.next.index,
            frame: self.next.start,
            prompt: self.next.prompt,
            cache: self.cache.snapshot()?,
            history: match &self.history {
                Some(history) => history.snapshot()?,
                None => None,
            },
            window: None,
            actions: self.world.as_ref().map(|world| world.rows_before(self.next.start)),
        })
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let (chunk, frame) = (snapshot.chunk, snapshot.frame);
        super::check_boundary(snapshot, self.spans.first_frame_of(chunk), self.settings.first_position)?;
        self.cache.restore(&snapshot.cache)?;
        if let Some(world) = &mut self.world {
            world.restore(snapshot, self.model.config())?;
        }
        if let Some(history) = &mut self.history {
            let shape = [
                self.model.config().out_channels,
                self.settings.height,
                self.settings.width,
            ];
            history.restore(snapshot.history.as_ref(), shape, &self.cache, self.model.device())?;
        }
        self.unwritten = None;
        self.next = NextChunk {
            index: chunk,
            start: frame,
            prompt: snapshot.prompt,
        };
        Ok(())
    }
}

/// Checks the size of given latents and returns their number of frames.
fn check_given(given: &Tensor, model: &CausalWan, settings: &RolloutSettings) -> Result<usize> {
    let expected = [model.config().out_channels, settings.height, settings.width];
    match given.dims() {
        [frames, rest @ ..] if rest == expected => Ok(*frames),
        found => Err(Error::GivenLatents {
            found: found.to_vec(),
            expected: expected.to_vec(),
        }),
    }
}
