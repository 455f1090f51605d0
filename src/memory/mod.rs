//! How much memory a video needs, known before anything is loaded.
//!
//! | file | what it holds |
//! |---|---|
//! | `sizes` | sizes of the networks, from the headers of their files or as published |
//! | `estimate` | bytes of each part, from the sizes of the networks |
//! | `gpu` | what of it is on a GPU |
//! | `fit` | settings that fit into a limit |
//! | `levers` | what a refusal advises |
//! | `size` | sizes as people write them |
//! | `available` | what there is: free memory and limits of control groups |
//! | `policies` | what each cache policy costs |
//! | `composition` | what the cache holds over time |
//!
//! The sizes are read from the headers of the model files, which takes no time. The estimate is of the highest moment:
//! weights stay, and on top of them come reading the prompts, encoding a start, or rendering, one after the other.
//!
//! Measured on Linux with the bundled model, largest resident size against the estimate: 64x64 for 5 s 123 MB (estimate
//! 107), 256x256 for 5 s 415 MB (398), 512x320 for 1.3 s 663 MB (729). The resident size counts pages of the model files
//! too, which the system can drop.

mod available;
mod composition;
pub mod estimate;
mod fit;
mod gpu;
mod levers;
mod policies;
mod size;
mod sizes;

use std::fmt;

use serde::Serialize;

pub use available::{Available, Limit};
pub use composition::{CacheState, composition};
pub use fit::{Fit, Free, fit};
pub use gpu::{GpuMemoryError, GpuPlan, GpuRoom};
pub use policies::{PolicyCost, policy_costs};
pub use size::ByteSize;
pub use sizes::{ConditionSizes, DecoderSizes, Sizes};

use self::levers::Levers;
use crate::{
    Result,
    cache::{knobs::Classing, window},
    hub::human_bytes,
    models::ModelFiles,
    recipe::Recipe,
    rollout::LoopKind,
};

/// The program itself with its libraries and threads.
const PROGRAM: u64 = 60_000_000;
/// Bytes in memory per byte of a tokenizer file.
const TOKENIZER: u64 = 10;
/// Largest parts that a refusal lists.
const LISTED: usize = 3;
/// Parts that are treated in a way of their own on a GPU.
const TEXT_ENCODER: &str = "text encoder, block by block";
const PICTURES: &str = "pictures";

/// When a part is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    Always,
    /// While prompts are turned into embeddings.
    ReadingPrompts,
    /// While the tokens of the image that a world begins with are made.
    ReadingImage,
    /// While the image or clip that the video begins with is encoded.
    EncodingStart,
    Rendering,
}

/// One consumer of memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Part {
    pub name: &'static str,
    pub bytes: u64,
    pub when: When,
}

/// The estimated memory of one video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemoryPlan {
    /// At the highest moment.
    pub needed: u64,
    /// What there is now; absent on systems that do not tell.
    pub available: Option<Available>,
    /// Largest first.
    pub parts: Vec<Part>,
    /// The memory of the GPU, when networks are on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuPlan>,
    /// What can be changed to need less.
    #[serde(skip)]
    levers: Levers,
}

/// More memory than there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Of the machine.
    #[error(transparent)]
    Host(HostMemoryError),
    /// Of the GPU.
    #[error(transparent)]
    Gpu(GpuMemoryError),
}

/// More memory than the machine has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the video needs about {} of memory, and {} are available{}; the largest parts are {largest}. {levers}; or go on all \
     the same with --no-memory-check",
    human_bytes(*needed),
    human_bytes(available.bytes),
    match available.limit {
        Limit::Machine => "",
        Limit::ControlGroup => " within the limit of this container or job",
    }
)]
pub struct HostMemoryError {
    pub needed: u64,
    pub available: Available,
    /// The largest parts with their sizes.
    pub largest: String,
    /// What to change.
    pub levers: String,
}

impl MemoryPlan {
    /// Estimates the memory for a video on the CPU, with the prompts of that video alone.
    ///
    /// # Errors
    /// When a model file cannot be read, or a setting breaks a rule.
    pub fn of(files: &ModelFiles, recipe: &Recipe) -> Result<Self> {
        Self::of_sizes(&Sizes::of(files)?, recipe)
    }

    /// The same for networks of known sizes.
    ///
    /// # Errors
    /// When a setting breaks a rule.
    pub fn of_sizes(sizes: &Sizes, recipe: &Recipe) -> Result<Self> {
        let mut plan = Self::empty(recipe);
        plan.parts = parts(sizes, recipe)?;
        plan.available = Available::now();
        plan.finish();
        Ok(plan)
    }

    /// Estimates the memory for a video whose networks are on a GPU.
    ///
    /// # Errors
    /// When a setting breaks a rule.
    pub fn on_gpu(sizes: &Sizes, recipe: &Recipe, room: &GpuRoom) -> Result<Self> {
        let mut plan = Self::empty(recipe);
        let (host, gpu) = gpu::split(parts(sizes, recipe)?, room);
        plan.parts = host;
        plan.gpu = Some(GpuPlan::new(gpu, room));
        plan.available = Available::now();
        plan.finish();
        Ok(plan)
    }

    fn empty(recipe: &Recipe) -> Self {
        Self {
            needed: 0,
            available: None,
            parts: Vec::new(),
            gpu: None,
            levers: Levers {
                cache: recipe.cache,
                chunk: recipe.rollout.chunk,
                decoder: recipe.model.decoder,
            },
        }
    }

    /// Sums up and sorts the parts.
    fn finish(&mut self) {
        self.needed = needed(&self.parts);
        self.parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    }

    /// Whether there is as much memory as is needed.
    ///
    /// # Errors
    /// [`MemoryError`], with the largest parts and what makes them smaller.
    pub fn check(&self) -> Result<(), MemoryError> {
        if let Some(gpu) = &self.gpu {
            gpu.check(&self.levers).map_err(MemoryError::Gpu)?;
        }
        let Some(available) = self.available.filter(|available| available.bytes < self.needed) else {
            return Ok(());
        };
        Err(MemoryError::Host(HostMemoryError {
            needed: self.needed,
            available,
            largest: largest(&self.parts),
            levers: self.levers.to_string(),
        }))
    }
}

impl fmt::Display for MemoryPlan {
    /// One line for the sum, and one for each part that matters, each with a line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let available = match self.available {
            Some(Available { bytes, limit }) => {
                let limit = match limit {
                    Limit::Machine => "",
                    Limit::ControlGroup => ", the limit of this container or job",
                };
                format!(" of {} available{limit}", human_bytes(bytes))
            }
            None => String::new(),
        };
        writeln!(f, "{:<13} about {}{available}", "memory", human_bytes(self.needed))?;
        write_parts(f, &self.parts)?;
        match &self.gpu {
            Some(gpu) => gpu.fmt(f),
            None => Ok(()),
        }
    }
}

fn write_parts(f: &mut fmt::Formatter<'_>, parts: &[Part]) -> fmt::Result {
    for part in parts.iter().filter(|part| part.bytes > 0) {
        let when = match part.when {
            When::Always | When::Rendering => "",
            When::ReadingPrompts => ", while prompts are read",
            When::ReadingImage => ", while the image is read",
            When::EncodingStart => ", while the start is encoded",
        };
        writeln!(f, "  {:>10}  {}{when}", human_bytes(part.bytes), part.name)?;
    }
    Ok(())
}

/// The sum at the highest moment.
fn needed(parts: &[Part]) -> u64 {
    let sum = |when: When| {
        let parts = parts.iter().filter(|part| part.when == when);
        parts.map(|part| part.bytes).fold(0, u64::saturating_add)
    };
    let moments = [
        When::ReadingPrompts,
        When::ReadingImage,
        When::EncodingStart,
        When::Rendering,
    ];
    let highest = moments.into_iter().map(sum).max().unwrap_or(0);
    sum(When::Always).saturating_add(highest)
}

/// The largest of sorted parts, for a refusal.
fn largest(parts: &[Part]) -> String {
    let largest = parts.iter().take(LISTED);
    let largest = largest.map(|part| format!("{} ({})", part.name, human_bytes(part.bytes)));
    largest.collect::<Vec<_>>().join(", ")
}

/// What a video needs on the CPU, part by part.
/// Bytes on disk of the state that is kept beside a video in the making, at its largest.
///
/// # Errors
/// When a setting breaks a rule.
pub fn state_bytes(sizes: &Sizes, recipe: &Recipe) -> Result<u64> {
    let settings = recipe.rollout_settings()?;
    let number = if recipe.dtype == "bf16" { 2 } else { 4 };
    let latent = sizes.transformer.out_channels * settings.height * settings.width;
    let shape = sizes
        .transformer
        .cache_shape(settings.height, settings.width, settings.chunk);
    let (mut policy, mut frames) = (settings.policy, recipe.video.latent_frames);
    if recipe.rollout.kind == LoopKind::Rolling {
        // A chunk more is held, and the latents of the window are kept as well.
        policy.window = window::capacity(&policy, settings.chunk);
        frames = frames.saturating_add(settings.chunk.saturating_mul(settings.sampler.steps.len()));
    }
    let state = estimate::state(&policy, &shape, frames, number, latent);
    let actions = sizes.transformer.actions.as_ref().map_or(0, |actions| {
        let window = recipe.action_window(&policy);
        // The estimate is of f32.
        estimate::action_windows(actions, shape.tokens_per_frame(), window) / 4 * number
    });
    Ok(state.saturating_add(actions))
}

fn parts(sizes: &Sizes, recipe: &Recipe) -> Result<Vec<Part>> {
    let settings = recipe.rollout_settings()?;
    let (height, width) = (settings.height, settings.width);
    let config = &sizes.transformer;
    let shape = config.cache_shape(height, width, settings.chunk);
    if let Some(Classing::Profile(profile)) = settings.policy.heads.map(|heads| heads.classing) {
        // Known before anything is loaded.
        profile.check(config.layers, config.heads)?;
    }
    let mut parts = Vec::new();
    let mut add = |name: &'static str, bytes: u64, when: When| parts.push(Part { name, bytes, when });
    add("program", PROGRAM, When::Always);
    add("transformer weights", sizes.transformer_bytes, When::Always);
    match &sizes.conditions {
        ConditionSizes::Prompts { text, tokenizer_bytes } => {
            let prompts = estimate::prompt(config).saturating_mul(recipe.prompts.len() as u64);
            add("prompts", prompts, When::Always);
            // A token has a byte at least.
            let bytes = recipe.prompts.iter().map(|prompt| prompt.text.len() + 1).max();
            let tokens = bytes.unwrap_or(config.context_len).min(config.context_len);
            // Blocks are read one after the other; of the vocabulary only the rows of the prompts.
            let encoder = estimate::text_encoder(text, tokens);
            add(TEXT_ENCODER, encoder, When::ReadingPrompts);
            add("tokenizer", tokenizer_bytes.saturating_mul(TOKENIZER), When::Always);
        }
        ConditionSizes::Image { tower, bytes } => {
            add("image tokens", estimate::prompt(config), When::Always);
            // Loaded for the image and let go again.
            add("image encoder", *bytes, When::ReadingImage);
            add(
                "image encoder at work",
                estimate::vision_tower(tower),
                When::ReadingImage,
            );
        }
    }
    // Decoder weights are held twice: as they are stored, and in the order in which the convolutions read them.
    add("decoder weights", sizes.decoder_bytes.saturating_mul(2), When::Always);
    let working = match &sizes.decoder {
        DecoderSizes::Wan(config) => estimate::wan_decoder(config, height, width),
        DecoderSizes::Tae(config) => estimate::tae_decoder(config, height, width),
    };
    add("decoder at work", working, When::Rendering);
    // The image of a world is encoded chunk by chunk, between the passes.
    let encoding = match &sizes.conditions {
        ConditionSizes::Prompts { .. } => recipe.start.is_some().then_some(When::EncodingStart),
        ConditionSizes::Image { .. } => Some(When::Rendering),
    };
    if let (Some(when), Some((config, stored))) = (encoding, &sizes.encoder) {
        add("encoder weights", stored.saturating_mul(2), When::Always);
        let working = estimate::wan_encoder(config, height, width);
        add("encoder at work", working, when);
    }
    if let Some(actions) = &config.actions {
        let window = recipe.action_window(&settings.policy);
        let windows = estimate::action_windows(actions, shape.tokens_per_frame(), window);
        add("action caches", windows, When::Rendering);
    }
    let cache = estimate::cache(&settings.policy, &shape, recipe.video.latent_frames);
    add("key/value cache", cache, When::Rendering);
    // Where the cache is encoded again, all of its frames go through the network at once.
    let widest = config.cache_shape(height, width, recipe.widest_pass(&settings.policy));
    let pass = match recipe.rollout.kind {
        LoopKind::Chunks => estimate::transformer_pass(config, &settings.policy, &widest),
        LoopKind::Rolling => estimate::window_pass(config, &settings.policy, &shape, settings.sampler.steps.len()),
    };
    add("transformer at work", pass, When::Rendering);
    let (picture_width, picture_height) = (recipe.video.width, recipe.video.height);
    let pictures = estimate::pictures(settings.chunk, picture_width, picture_height);
    let encoder = estimate::video_encoder(picture_width, picture_height);
    add(PICTURES, pictures.saturating_add(encoder), When::Rendering);
    Ok(parts)
}

#[cfg(test)]
mod tests;
