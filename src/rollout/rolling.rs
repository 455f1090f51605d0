//! The loop of Rolling Forcing (docs/algorithms/rolling_forcing.md): a window of blocks moves through the video, a block a
//! call; the older a block in it, the cleaner.

mod rules;

use std::sync::Arc;

use candle_core::{Device, Tensor};

pub use rules::{Asked, RollingError};

use rules::{check, check_blocks};

use super::{
    Ahead, CancelToken, ChunkLoop, ChunkPlan, Cue, Director, LatentChunk, NoiseSource, Progress, PromptChange,
    RolloutSettings, Script, Snapshot, SpanError, spans::Spans,
};
use crate::{
    Error, Result,
    cache::{KvCache, Purpose, window::window_sizes},
    rollout::sampler::{self, DenoisingStep, Schedule},
    transformer::{CausalWan, Observer, PromptContext, TimeEmbedding},
};

/// A call of the network, as a [`Listener`] sees it.
pub struct Call<'a> {
    /// First latent frame.
    pub start: usize,
    pub purpose: Purpose,
    /// Latents `[frames, channels, height, width]`: noisy ones of the window, or clean ones of its first block.
    pub input: &'a Tensor,
    /// One per latent frame, 0 to 1000.
    pub timesteps: &'a [f64],
    /// As `input`.
    pub flow: &'a Tensor,
    /// After the call.
    pub cache: &'a KvCache,
}

/// Is shown every call; the flow of updates, which nothing else needs, is computed for it.
pub type Listener = Box<dyn FnMut(Call<'_>) + Send>;

/// A video in the making, in a rolling window: gives one chunk (a block of the window) of latents after the other.
pub struct RollingRollout {
    model: Arc<CausalWan>,
    settings: RolloutSettings,
    cache: KvCache,
    director: Box<dyn Director>,
    spans: Spans,
    chunks: Option<usize>,
    noise: Box<dyn NoiseSource>,
    cancel: CancelToken,
    /// Noise levels, the noisiest first.
    levels: Vec<DenoisingStep>,
    /// Of the timesteps that were needed last.
    embedded: Option<(Vec<f64>, TimeEmbedding)>,
    context_time: TimeEmbedding,
    window: Window,
    unwritten: Option<Unwritten>,
    listener: Option<Listener>,
}

/// The blocks in work.
#[derive(Default)]
struct Window {
    /// Number of the coming call, from 0: a block is at level 0 in the call of its number, and a level further in every
    /// call after that.
    call: usize,
    /// Number of the first block.
    first: usize,
    /// Blocks.
    count: usize,
    /// Their noisy latents; `None` when there is no block.
    noisy: Option<Tensor>,
    /// Whether no further block will come.
    ended: bool,
    /// The prompt of all blocks, with its number.
    prompt: Option<(usize, Arc<PromptContext>)>,
}

/// A clean block on its way into the cache.
struct Unwritten {
    index: usize,
    latents: Tensor,
    prompt: Arc<PromptContext>,
}

impl RollingRollout {
    /// Prepares a video of fixed length, `settings.frames`, under one prompt, with an empty cache.
    ///
    /// # Errors
    /// As [`RollingRollout::directed`], or when there is no prompt or more than one.
    pub fn new(
        model: Arc<CausalWan>,
        settings: RolloutSettings,
        prompts: Vec<PromptChange>,
        noise: Box<dyn NoiseSource>,
    ) -> Result<Self> {
        if prompts.len() > 1 {
            return Err(RollingError::Switch.into());
        }
        let script = Script::new(settings.frames, prompts)?;
        Self::directed(model, settings, Box::new(script), noise)
    }

    /// Prepares a video whose end is decided by `director` while it is made, with an empty cache; it is asked when a block
    /// enters the window. `settings.frames` is not looked at.
    ///
    /// # Errors
    /// On settings that a rolling window cannot make, lengths that are no whole blocks or fewer than there are levels, or
    /// when the device cannot hold the cache.
    pub fn directed(
        model: Arc<CausalWan>,
        settings: RolloutSettings,
        director: Box<dyn Director>,
        noise: Box<dyn NoiseSource>,
    ) -> Result<Self> {
        let (sampler, policy, chunk) = (&settings.sampler, &settings.policy, settings.chunk);
        sampler.validate()?;
        if chunk == 0 {
            return Err(SpanError::EmptyChunk.into());
        }
        if settings.first_frame_alone {
            return Err(RollingError::FirstFrame.into());
        }
        check(policy, sampler, chunk, None)?;
        let spans = Spans::new(0, chunk, false)?;
        let plans = director
            .generated_frames()
            .map(|frames| spans.plans(frames))
            .transpose()?;
        if let Some(plans) = &plans {
            check_blocks(plans.len(), sampler, chunk)?;
        }
        let shape = model.cache_shape(settings.height, settings.width, chunk);
        let sizes = window_sizes(policy, chunk, sampler.steps.len(), shape.tokens_per_frame());
        model.warm_up(&sizes)?;
        let cache = KvCache::new(*policy, shape, settings.seed, model.dtype(), model.device())?;
        Ok(Self {
            levels: Schedule::new(sampler.shift).denoising_steps(&sampler.steps, sampler.warp),
            embedded: None,
            context_time: model.time_embedding(&[sampler.context_noise])?,
            cache,
            director,
            spans,
            chunks: plans.map(|plans| plans.len()),
            noise,
            cancel: CancelToken::default(),
            window: Window::default(),
            unwritten: None,
            listener: None,
            model,
            settings,
        })
    }

    /// Shows every call of the network to `listener`.
    pub fn listen(&mut self, listener: Listener) {
        self.listener = Some(listener);
    }

    fn plan(&self, block: usize) -> ChunkPlan {
        self.spans.at(self.spans.first_frame_of(block))
    }

    fn direct(&mut self, block: usize) -> Result<Option<Cue>> {
        let plan = self.plan(block);
        self.director.direct(Ahead {
            chunk: block,
            start: plan.start,
            frames: plan.frames,
            generated: plan.start,
            given: false,
        })
    }

    fn shape(&self, frames: usize) -> [usize; 4] {
        let channels = self.model.config().out_channels;
        [frames, channels, self.settings.height, self.settings.width]
    }

    /// Lets the next block into the window, if there is one.
    fn enter(&mut self) -> Result<()> {
        if self.window.ended {
            return Ok(());
        }
        let block = self.window.first + self.window.count;
        let Some(cue) = self.direct(block)? else {
            self.window.ended = true;
            return Ok(());
        };
        match &self.window.prompt {
            Some((number, _)) if *number != cue.number => return Err(RollingError::Switch.into()),
            Some(_) => {}
            None => self.window.prompt = Some((cue.number, cue.context)),
        }
        let plan = self.plan(block);
        let initial = self
            .noise
            .initial(plan.start, self.shape(plan.frames), self.model.device())?;
        self.window.noisy = Some(match self.window.noisy.take() {
            Some(noisy) => Tensor::cat(&[noisy, initial], 0)?,
            None => initial,
        });
        self.window.count += 1;
        Ok(())
    }

    /// The level that a block is at in the coming call.
    fn level(&self, block: usize) -> usize {
        self.window.call - block
    }

    /// The level of each latent frame of the window.
    fn frame_levels(&self) -> Vec<DenoisingStep> {
        let blocks = self.window.first..self.window.first + self.window.count;
        let levels = blocks.map(|block| self.levels[self.level(block)]);
        levels
            .flat_map(|level| std::iter::repeat_n(level, self.settings.chunk))
            .collect()
    }

    fn position(&self, block: usize) -> u64 {
        self.settings.first_position + self.plan(block).start as u64
    }

    fn check_cancel(&self) -> Result<()> {
        if self.cancel.is_urgent() {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// The clean estimates of all blocks of the window.
    fn denoise(&mut self, noisy: &Tensor, prompt: &PromptContext) -> Result<Tensor> {
        self.check_cancel()?;
        let levels = self.frame_levels();
        let timesteps: Vec<f64> = levels.iter().map(|level| level.timestep.into()).collect();
        let sigmas: Vec<f32> = levels.iter().map(|level| level.sigma).collect();
        let time = match self.embedded.take() {
            Some((of, time)) if of == timesteps => time,
            _ => self.model.time_embedding(&timesteps)?,
        };
        let pass = self
            .cache
            .begin_window(self.position(self.window.first), levels.len(), Purpose::Denoise)?;
        let cache = &mut self.cache;
        let flow = self
            .model
            .forward_pass(noisy, &time, prompt, pass, cache, &mut Observer::silent())?;
        if let Some(listener) = &mut self.listener {
            listener(Call {
                start: self.spans.first_frame_of(self.window.first),
                purpose: Purpose::Denoise,
                input: noisy,
                timesteps: &timesteps,
                flow: &flow,
                cache: &self.cache,
            });
        }
        self.embedded = Some((timesteps, time));
        Ok(sampler::flow_to_x0(noisy, &flow, &sigmas)?)
    }

    /// Writes the clean estimate of a block, the first of the window, into the cache.
    fn update(&mut self, block: usize, clean: &Tensor, prompt: &PromptContext) -> Result<()> {
        let frames = self.settings.chunk;
        let pass = self.cache.begin_window(self.position(block), frames, Purpose::Update)?;
        let (model, time, cache) = (&self.model, &self.context_time, &mut self.cache);
        let Some(listener) = &mut self.listener else {
            return model.fill_pass(clean, time, prompt, pass, cache);
        };
        let flow = model.forward_pass(clean, time, prompt, pass, cache, &mut Observer::silent())?;
        listener(Call {
            start: self.spans.first_frame_of(block),
            purpose: Purpose::Update,
            input: clean,
            timesteps: &vec![self.settings.sampler.context_noise; frames],
            flow: &flow,
            cache: &self.cache,
        });
        Ok(())
    }

    /// The blocks from `from` on, re-noised to their next level; `clean` are the estimates of the whole window.
    fn renoised(&mut self, clean: &Tensor, from: usize) -> Result<Option<Tensor>> {
        let (chunk, device) = (self.settings.chunk, self.model.device().clone());
        let mut noisy = Vec::with_capacity(self.window.count);
        for block in from..self.window.first + self.window.count {
            let estimate = clean.narrow(0, (block - self.window.first) * chunk, chunk)?;
            let (level, start) = (self.level(block), self.plan(block).start);
            let fresh = self.noise.renoise(level, start, self.shape(chunk), &device)?;
            noisy.push(sampler::add_noise(&estimate, &fresh, &[self.levels[level + 1].sigma])?);
        }
        Ok(match noisy.is_empty() {
            true => None,
            false => Some(Tensor::cat(&noisy, 0)?),
        })
    }
}

impl ChunkLoop for RollingRollout {
    fn next_chunk(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Option<LatentChunk>> {
        if self.cancel.is_cancelled() {
            return Ok(None);
        }
        loop {
            self.enter()?;
            let (Some(noisy), Some((_, prompt))) = (self.window.noisy.take(), self.window.prompt.clone()) else {
                if self.settings.fill_last {
                    self.write_back(progress)?;
                }
                return Ok(None);
            };
            self.write_back(progress)?;
            let clean = self.denoise(&noisy, &prompt)?;
            let (first, last) = (self.window.first, self.levels.len() - 1);
            // Only the first block of the video takes as many calls as there are levels.
            let (step, steps) = if first == 0 { (self.level(0), last + 1) } else { (0, 1) };
            progress(Progress::Step {
                chunk: first,
                step,
                steps,
                x0: &clean,
            });
            let latents = clean.narrow(0, 0, self.settings.chunk)?.contiguous()?;
            let done = self.level(first) == last;
            self.window.noisy = self.renoised(&clean, first + usize::from(done))?;
            self.window.call += 1;
            if !done {
                self.check_cancel()?;
                self.update(first, &latents, &prompt)?;
                continue;
            }
            self.window.first += 1;
            self.window.count -= 1;
            self.unwritten = Some(Unwritten {
                index: first,
                latents: latents.clone(),
                prompt,
            });
            return Ok(Some(LatentChunk {
                index: first,
                plan: self.plan(first),
                latents,
            }));
        }
    }

    fn write_back(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<()> {
        let Some(block) = self.unwritten.take() else {
            return Ok(());
        };
        self.update(block.index, &block.latents, &block.prompt)?;
        progress(Progress::Cached { chunk: block.index });
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
        let noisy = self.window.noisy.as_ref();
        Ok(Snapshot {
            chunk: self.window.first,
            frame: self.spans.first_frame_of(self.window.first),
            prompt: self.window.prompt.as_ref().map(|(number, _)| *number),
            cache: self.cache.snapshot()?,
            history: None,
            window: noisy.map(|noisy| noisy.to_device(&Device::Cpu)).transpose()?,
            actions: None,
        })
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let chunk = snapshot.chunk;
        super::check_boundary(snapshot, self.spans.first_frame_of(chunk), self.settings.first_position)?;
        let count = self.carried(snapshot)?;
        let other = |reason: &str| Error::Snapshot { reason: reason.into() };
        let mut prompt = None;
        if count > 0 {
            // The prompt of the blocks that are in the window.
            let cue = self.direct(chunk + count - 1)?;
            let cue = cue.ok_or_else(|| other("its window goes beyond the end of the video"))?;
            if snapshot.prompt != Some(cue.number) {
                return Err(other("its window is of another prompt"));
            }
            prompt = Some((cue.number, cue.context));
        }
        self.cache.restore(&snapshot.cache)?;
        self.unwritten = None;
        let levels = self.levels.len();
        self.window = Window {
            call: if chunk > 0 { chunk + levels - 1 } else { 0 },
            first: chunk,
            count,
            noisy: snapshot
                .window
                .as_ref()
                .map(|noisy| noisy.to_device(self.model.device()))
                .transpose()?,
            // While further blocks come, the window is full.
            ended: chunk > 0 && count + 1 < levels,
            prompt,
        };
        Ok(())
    }
}

impl RollingRollout {
    /// Blocks in the window of a snapshot.
    fn carried(&self, snapshot: &Snapshot) -> Result<usize> {
        let (levels, chunk) = (self.levels.len(), self.settings.chunk);
        let frames = snapshot
            .window
            .as_ref()
            .map_or(0, |window| window.dims().first().copied().unwrap_or(0));
        let count = frames / chunk;
        let least = match self.chunks {
            Some(chunks) => (levels - 1).min(chunks.saturating_sub(snapshot.chunk)),
            None => 0,
        };
        let fits = match &snapshot.window {
            Some(window) => {
                let shape = self.shape(count * chunk);
                count > 0 && window.dims() == shape && window.dtype() == candle_core::DType::F32
            }
            None => true,
        };
        let expected = if snapshot.chunk == 0 { 0..=0 } else { least..=levels - 1 };
        if fits && expected.contains(&count) {
            return Ok(count);
        }
        let dims = snapshot.window.as_ref().map(|window| window.dims().to_vec());
        Err(Error::Snapshot {
            reason: format!(
                "its window of noisy latents is {dims:?}, expected {expected:?} chunks of {:?}",
                self.shape(chunk)
            ),
        })
    }
}
