//! The whole network: patches and embeddings in, blocks, flow out.

use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};

use super::{
    action::ActionInputs,
    block::{Block, Conditioning, Context, CrossAttentionTokens, Depth},
    conditions::{ContextEmbedding, FrameConditions},
    config::{PATCH, TransformerConfig},
    linear::Linear,
    observer::Observer,
};
use crate::{
    Result,
    cache::{
        CacheShape, KvCache, Pass, Place,
        rope::{Angles, Rope, TokenPosition},
    },
    checkpoint::{TensorSpec, Weights},
    kernels,
};

/// The causal Wan transformer.
pub struct CausalWan {
    config: TransformerConfig,
    patch_embedding: Linear,
    context_embedding: ContextEmbedding,
    time_embedding: [Linear; 2],
    time_projection: Linear,
    blocks: Vec<Block>,
    head: Linear,
    head_modulation: Tensor,
    rope: Rope,
    /// Angles of the chunk that was worked on last: every pass over it needs the same.
    angles: Mutex<Option<(AnglesOf, Angles)>>,
    device: Device,
}

/// Start, frames, rows and columns of a chunk.
type AnglesOf = (u64, usize, usize, usize);

/// What a pass is told beside latents and timesteps. Cheap to clone.
#[derive(Clone)]
pub struct PromptContext {
    /// Keys and values of the prompt, or of the image that a world begins with: one per block.
    pub blocks: Vec<CrossAttentionTokens>,
    /// What belongs to the frames of the chunk; nothing for models of text alone.
    pub frames: FrameConditions,
}

impl PromptContext {
    /// The same for a chunk whose frames have conditions of their own.
    #[must_use]
    pub fn of_frames(&self, frames: FrameConditions) -> Self {
        Self {
            blocks: self.blocks.clone(),
            frames,
        }
    }
}

/// Embedding of the timesteps of a chunk's frames.
pub struct TimeEmbedding {
    /// e, `[frames, dim]`, for the head.
    pub time: Tensor,
    /// e0, `[frames, 6, dim]`, for the blocks.
    pub modulation: Tensor,
}

impl CausalWan {
    /// Builds the network. Asks `weights` for every tensor by its published name (docs/algorithms/causal_dit.md section 2).
    ///
    /// # Errors
    /// When a tensor is missing, mis-shaped or not finite.
    pub fn new(config: TransformerConfig, weights: Weights) -> Result<Self> {
        let dim = config.dim;
        let time = weights.pp("time_embedding");
        let patch = [dim, config.in_channels, 1, PATCH, PATCH];
        let head_outputs = PATCH * PATCH * config.out_channels;
        Ok(Self {
            patch_embedding: Linear::from_patches(patch, weights.pp("patch_embedding"))?,
            context_embedding: ContextEmbedding::new(&config, &weights)?,
            time_embedding: [
                Linear::new(config.freq_dim, dim, time.pp(0))?,
                Linear::new(dim, dim, time.pp(2))?,
            ],
            time_projection: Linear::new(dim, 6 * dim, weights.pp("time_projection.1"))?,
            blocks: (0..config.layers)
                .map(|i| Block::new(&config, i, weights.pp("blocks").pp(i)))
                .collect::<Result<_>>()?,
            head: Linear::new(dim, head_outputs, weights.pp("head.head"))?,
            head_modulation: weights.get([1, 2, dim], "head.modulation")?,
            rope: Rope::new(config.head_dim()),
            angles: Mutex::new(None),
            device: weights.device().clone(),
            config,
        })
    }

    /// Names and shapes of all tensors of a network of these sizes.
    ///
    /// # Errors
    /// Never in practice: nothing is read.
    pub fn expected_tensors(config: TransformerConfig) -> Result<Vec<TensorSpec>> {
        let recorder = Weights::recorder();
        Self::new(config, recorder.clone())?;
        Ok(recorder.recorded())
    }

    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Sizes of a cache for latents of `height`×`width` and chunks of `chunk` latent frames.
    pub fn cache_shape(&self, height: usize, width: usize, chunk: usize) -> CacheShape {
        self.config.cache_shape(height, width, chunk)
    }

    /// Prepares the device for self-attention of these numbers of queries and keys
    /// ([`crate::cache::holding::attention_sizes`]), and for cross-attention of the same queries.
    ///
    /// # Errors
    /// On a device failure.
    pub fn warm_up(&self, sizes: &[(usize, usize)]) -> Result<()> {
        // Plans are of bf16 alone.
        if self.dtype() != DType::BF16 {
            return Ok(());
        }
        let mut all = sizes.to_vec();
        all.extend(sizes.iter().map(|(queries, _)| (*queries, self.config.context_len)));
        let (heads, dim) = (self.config.heads, self.config.head_dim());
        Ok(kernels::warm_up_attention(&self.device, &all, heads, dim)?)
    }

    /// Prepares what cross-attention attends to: a prompt embedding `[rows ≤ context_len, context_dim]`, of which missing
    /// rows are zero rows that are attended to, or the tokens of an image `[tokens, context_dim]`.
    ///
    /// # Errors
    /// On a shape that is not the model's.
    pub fn prompt_context(&self, embedding: &Tensor) -> Result<PromptContext> {
        let tokens = self.context_tokens(embedding)?;
        let blocks = self.blocks.iter().map(|block| block.cross_tokens(&tokens));
        Ok(PromptContext {
            blocks: blocks.collect::<Result<_>>()?,
            frames: FrameConditions::default(),
        })
    }

    /// What the blocks make their cross-attention's keys and values from, `[rows, dim]`.
    ///
    /// # Errors
    /// As [`CausalWan::prompt_context`].
    pub fn context_tokens(&self, embedding: &Tensor) -> Result<Tensor> {
        let embedding = embedding.to_device(&self.device)?.to_dtype(self.dtype())?;
        self.context_embedding.forward(&embedding)
    }

    /// Gives `cache` what the action modules attend to: the last `window` latent frames. Nothing for a network without
    /// such modules.
    ///
    /// # Errors
    /// When a chunk is longer than that, or the device cannot hold it.
    pub fn add_action_windows(&self, cache: &mut KvCache, window: usize) -> Result<()> {
        let Some(actions) = &self.config.actions else {
            return Ok(());
        };
        let tokens = cache.shape().tokens_per_frame();
        for block in &actions.blocks {
            for items in actions.items(tokens) {
                cache.add_frame_window(*block, window, [items, actions.head_dim])?;
            }
        }
        Ok(())
    }

    /// Embeds one timestep (0 to 1000, fractions allowed) per latent frame, or a single one for all of them.
    ///
    /// # Errors
    /// On a device failure.
    pub fn time_embedding(&self, timesteps: &[f64]) -> Result<TimeEmbedding> {
        let freq_dim = self.config.freq_dim;
        let sinusoids = timesteps.iter().flat_map(|t| sinusoid(*t, freq_dim)).map(|v| v as f32);
        let sinusoid = Tensor::from_vec(sinusoids.collect(), (timesteps.len(), freq_dim), &self.device)?;
        let sinusoid = sinusoid.to_dtype(self.dtype())?;
        let hidden = kernels::silu(self.time_embedding[0].forward(&sinusoid)?)?;
        let time = self.time_embedding[1].forward(&hidden)?;
        let modulation = self.time_projection.forward(&kernels::silu(time.copy()?)?)?;
        let modulation = modulation.reshape((timesteps.len(), 6, self.config.dim))?;
        Ok(TimeEmbedding { time, modulation })
    }

    /// Flow of a chunk: `latents` `[frames, channels, height, width]` at latent frame `start`, one timestep per frame or
    /// one for all. The chunk's keys and values are written into `cache`.
    ///
    /// # Errors
    /// On sizes that don't fit, a full cache, or a device failure.
    pub fn forward(
        &self,
        latents: &Tensor,
        time: &TimeEmbedding,
        prompt: &PromptContext,
        start: u64,
        cache: &mut KvCache,
        observer: &mut Observer<'_>,
    ) -> Result<Tensor> {
        let (frames, ..) = latents.dims4()?;
        let pass = cache.begin(start, frames)?;
        self.forward_pass(latents, time, prompt, pass, cache, observer)
    }

    /// As [`CausalWan::forward`], for a pass that `cache` was told about.
    ///
    /// # Errors
    /// As [`CausalWan::forward`].
    pub fn forward_pass(
        &self,
        latents: &Tensor,
        time: &TimeEmbedding,
        prompt: &PromptContext,
        pass: Pass,
        cache: &mut KvCache,
        observer: &mut Observer<'_>,
    ) -> Result<Tensor> {
        let mut context = Context::Cached { cache, pass };
        self.run(latents, time, prompt, &mut context, Depth::Full, observer)?
            .ok_or(crate::Error::NoBlocks)
    }

    /// Writes a clean chunk into `cache`, without computing what only its flow would need.
    ///
    /// # Errors
    /// As [`CausalWan::forward`].
    pub fn fill_cache(
        &self,
        latents: &Tensor,
        time: &TimeEmbedding,
        prompt: &PromptContext,
        start: u64,
        cache: &mut KvCache,
    ) -> Result<()> {
        let (frames, ..) = latents.dims4()?;
        let pass = cache.begin_clean(start, frames)?;
        self.fill_pass(latents, time, prompt, pass, cache)
    }

    /// As [`CausalWan::fill_cache`], for a pass that `cache` was told about.
    ///
    /// # Errors
    /// As [`CausalWan::forward`].
    pub fn fill_pass(
        &self,
        latents: &Tensor,
        time: &TimeEmbedding,
        prompt: &PromptContext,
        pass: Pass,
        cache: &mut KvCache,
    ) -> Result<()> {
        let mut context = Context::Cached { cache, pass };
        let depth = Depth::CacheOnly;
        self.run(latents, time, prompt, &mut context, depth, &mut Observer::silent())?;
        Ok(())
    }

    /// Writes `cache` anew from clean latents, in one pass in which the frames see each other and what stays of the cache:
    /// `pass` and `places` are those of [`KvCache::rewrite`], `latents` `[places, channels, height, width]` belong to the
    /// places.
    ///
    /// # Errors
    /// On sizes that don't fit, or a device failure.
    pub fn rewrite_cache(
        &self,
        latents: &Tensor,
        time: &TimeEmbedding,
        prompt: &PromptContext,
        (pass, places): (Pass, &[Place]),
        cache: &mut KvCache,
    ) -> Result<()> {
        if latents.dim(0)? != places.len() {
            return Err(crate::Error::Recache {
                reason: format!("{} latent frames were given for {}", latents.dim(0)?, places.len()),
            });
        }
        let mut context = Context::Rewritten { cache, pass, places };
        let depth = Depth::CacheOnly;
        self.run(latents, time, prompt, &mut context, depth, &mut Observer::silent())?;
        Ok(())
    }

    /// Flow of a whole clip in which every frame sees every other; positions start at 0.
    ///
    /// # Errors
    /// As [`CausalWan::forward`].
    pub fn forward_bidirectional(
        &self,
        latents: &Tensor,
        time: &TimeEmbedding,
        prompt: &PromptContext,
        observer: &mut Observer<'_>,
    ) -> Result<Tensor> {
        self.run(latents, time, prompt, &mut Context::Whole, Depth::Full, observer)?
            .ok_or(crate::Error::NoBlocks)
    }

    fn run(
        &self,
        latents: &Tensor,
        time: &TimeEmbedding,
        prompt: &PromptContext,
        context: &mut Context<'_>,
        depth: Depth,
        observer: &mut Observer<'_>,
    ) -> Result<Option<Tensor>> {
        let (frames, _, height, width) = latents.dims4()?;
        let (rows, columns) = (height / PATCH, width / PATCH);
        let angles = match context {
            Context::Rewritten { places, .. } => self.place_angles(places, rows, columns)?,
            _ => self.chunk_angles((context.start(), frames, rows, columns))?,
        };
        observer.see("time_e", &time.time);
        observer.see("time_e0", &time.modulation);
        let actions = self.chunk_actions(prompt, context, frames)?;
        let input = prompt.frames.beside(latents, self.config.beside_channels())?;
        let mut x = self
            .patch_embedding
            .forward(&patchify(&input)?.to_dtype(self.dtype())?)?;
        observer.see("patch", &x);
        for (i, (block, prompt)) in self.blocks.iter().zip(&prompt.blocks).enumerate() {
            let last = i + 1 == self.blocks.len();
            let depth = if last { depth } else { Depth::Full };
            let of_heads = context.head_angles(i, frames)?;
            let conditioning = Conditioning {
                modulation: &time.modulation,
                angles: of_heads.as_ref().unwrap_or(&angles),
                prompt,
                actions: actions.as_ref(),
            };
            match block.forward(&x, &conditioning, context, depth, observer)? {
                Some(out) => x = out,
                None => {
                    context.end_pass()?;
                    return Ok(None);
                }
            }
            observer.see(&format!("block.{i}"), &x);
        }
        context.end_pass()?;
        let modulation = self.head_modulation.broadcast_add(&time.time.unsqueeze(1)?)?;
        let row = |i: usize| modulation.narrow(1, i, 1)?.squeeze(1)?.contiguous();
        let x = kernels::modulated_norm(&x, &row(1)?, &row(0)?, self.config.eps)?;
        let x = self.head.forward(&x)?;
        observer.see("head", &x);
        let flow = unpatchify(&x, frames, self.config.out_channels, rows, columns)?;
        // Latents keep their own precision: steps of the sampler add up.
        Ok(Some(flow.to_dtype(latents.dtype())?))
    }

    /// What the action modules read of the chunk, if there are any.
    fn chunk_actions(
        &self,
        prompt: &PromptContext,
        context: &Context<'_>,
        frames: usize,
    ) -> Result<Option<ActionInputs>> {
        match &self.config.actions {
            Some(config) => {
                let rows = prompt.frames.actions.as_ref().ok_or(crate::Error::NoActions)?;
                ActionInputs::new(config, rows, context.start(), frames, (self.dtype(), &self.device)).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Angles of a chunk, computed when it is not the last one again.
    fn chunk_angles(&self, of: AnglesOf) -> Result<Angles> {
        let mut last = self.angles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, angles)) = &*last
            && *known == of
        {
            return Ok(angles.clone());
        }
        let (start, frames, rows, columns) = of;
        let angles = self
            .rope
            .chunk_angles(start as i64, frames, rows, columns, &self.device)?;
        *last = Some((of, angles.clone()));
        Ok(angles)
    }

    /// Angles of frames at any positions.
    fn place_angles(&self, places: &[Place], rows: usize, columns: usize) -> Result<Angles> {
        let positions = places.iter().flat_map(|place| {
            (0..rows as u32).flat_map(move |row| {
                (0..columns as u32).map(move |column| TokenPosition {
                    time: place.position,
                    row,
                    column,
                })
            })
        });
        Ok(self.rope.angles(positions, &self.device)?)
    }

    /// Dtype of activations and cache.
    pub fn dtype(&self) -> DType {
        self.head_modulation.dtype()
    }
}

/// Sinusoidal embedding of a timestep: `dim/2` cosines, then as many sines, of `timestep · 10000^(−i/(dim/2))`.
pub fn sinusoid(timestep: f64, dim: usize) -> Vec<f64> {
    let half = dim / 2;
    let angle = |i: usize| timestep * 10000f64.powf(-(i as f64) / half as f64);
    (0..half)
        .map(|i| angle(i).cos())
        .chain((0..half).map(|i| angle(i).sin()))
        .collect()
}

/// `[frames, channels, height, width]` to `[tokens, channels·2·2]`; values of a patch ordered channel, row, column.
fn patchify(latents: &Tensor) -> Result<Tensor> {
    let (frames, channels, height, width) = latents.dims4()?;
    let (rows, columns) = (height / PATCH, width / PATCH);
    Ok(latents
        .contiguous()?
        .reshape(vec![frames, channels, rows, PATCH, columns, PATCH])?
        .permute(vec![0, 2, 4, 1, 3, 5])?
        .contiguous()?
        .reshape((frames * rows * columns, channels * PATCH * PATCH))?)
}

/// `[tokens, 2·2·channels]`, values ordered row, column, channel, to `[frames, channels, height, width]`.
fn unpatchify(x: &Tensor, frames: usize, channels: usize, rows: usize, columns: usize) -> Result<Tensor> {
    Ok(x.reshape(vec![frames, rows, columns, PATCH, PATCH, channels])?
        .permute(vec![0, 5, 1, 3, 2, 4])?
        .contiguous()?
        .reshape((frames, channels, rows * PATCH, columns * PATCH))?)
}
