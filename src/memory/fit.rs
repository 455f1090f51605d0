//! Settings with which a video fits into a limit of GPU memory.
//!
//! Levers are pulled one after the other, those that cost least first, until the video fits; then those that turn out not
//! to be needed are let go again. Settings that the user has given are never touched.

use candle_core::DType;

use super::{GpuRoom, MemoryPlan, Sizes};
use crate::{
    Result,
    cache::{CacheSettings, Overflow},
    hub::human_bytes,
    models::DecoderKind,
    recipe::Recipe,
    rollout::request::PictureSize,
};

/// Caches for less memory: window and budget, sink, recent frames. They keep the share of the sink (about half) that Deep
/// Forcing asks for.
const SMALL_CACHES: [(usize, usize, usize); 3] = [(15, 8, 4), (12, 6, 4), (9, 4, 4)];
/// Smaller pictures of about the same shape as 832×480.
const SMALL_PICTURES: [PictureSize; 3] = [
    PictureSize {
        width: 640,
        height: 368,
    },
    PictureSize {
        width: 512,
        height: 288,
    },
    PictureSize {
        width: 384,
        height: 224,
    },
];

/// Which settings may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// The user has not chosen a decoder, and the model has the tiny one.
    pub decoder: bool,
    /// The user has given none of the sizes of the cache.
    pub cache: bool,
    /// The user has not given the size of the pictures.
    pub size: bool,
}

/// Settings that fit, or the smallest that there are.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    pub decoder: DecoderKind,
    pub cache: CacheSettings,
    pub size: PictureSize,
    pub text_on_cpu: bool,
    /// What was changed, for people; empty when the video fits as it is.
    pub changes: Vec<String>,
    pub plan: MemoryPlan,
}

/// A change of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lever {
    TextOnCpu,
    TinyDecoder,
    /// Compress at every chunk in place of every second one.
    WindowOfBudget,
    Cache((usize, usize, usize)),
    Pictures(PictureSize),
}

/// Chooses settings for a video that may take `bytes` of a GPU's memory. `sizes` are those of the networks of `recipe`.
///
/// # Errors
/// When a setting of `recipe` breaks a rule.
pub fn fit(sizes: &Sizes, recipe: &Recipe, free: Free, dtype: DType, bytes: u64) -> Result<Fit> {
    let base = Fit {
        decoder: recipe.model.decoder,
        cache: recipe.cache,
        size: PictureSize {
            width: recipe.video.width,
            height: recipe.video.height,
        },
        text_on_cpu: false,
        changes: Vec::new(),
        plan: MemoryPlan::on_gpu(
            sizes,
            recipe,
            &GpuRoom {
                dtype,
                bytes: Some(bytes),
                text_on_cpu: false,
            },
        )?,
    };
    let with = |levers: &[Lever]| pulled(&base, levers, sizes, recipe, dtype, bytes);
    let mut pulled_levers = Vec::new();
    let mut best = with(&[])?;
    for lever in levers(&base, free, recipe.rollout.chunk) {
        if best.fits() {
            break;
        }
        pulled_levers.push(lever);
        best = with(&pulled_levers)?;
    }
    // The last lever may do alone what earlier ones did not.
    let mut index = 0;
    while best.fits() && index < pulled_levers.len() {
        let mut fewer = pulled_levers.clone();
        fewer.remove(index);
        let without = with(&fewer)?;
        match without.fits() {
            true => (pulled_levers, best) = (fewer, without),
            false => index += 1,
        }
    }
    Ok(best)
}

impl Fit {
    /// Whether the video fits.
    pub fn fits(&self) -> bool {
        self.plan.gpu.as_ref().is_none_or(super::GpuPlan::fits)
    }

    /// What was chosen, or what is missing, in a sentence.
    pub fn summary(&self, bytes: u64, free: Free) -> String {
        let needed = human_bytes(self.plan.gpu.as_ref().map_or(0, |gpu| gpu.needed));
        let limit = human_bytes(bytes);
        if !self.fits() {
            let fixed = [
                (free.decoder, "the decoder"),
                (free.cache, "the cache"),
                (free.size, "the size of the pictures"),
            ];
            let fixed: Vec<_> = fixed.iter().filter(|(free, _)| !free).map(|(_, name)| *name).collect();
            let fixed = match fixed.is_empty() {
                true => String::new(),
                false => format!(
                    " without changing what was given or cannot be changed ({})",
                    fixed.join(", ")
                ),
            };
            return format!("no known settings fit into {limit}{fixed}: the smallest need about {needed}");
        }
        match self.changes.is_empty() {
            true => format!("the video fits into {limit} as it is: about {needed}"),
            false => format!("to fit into {limit} (about {needed}): {}", self.changes.join("; ")),
        }
    }
}

/// The levers that may be pulled, in order.
fn levers(base: &Fit, free: Free, chunk: usize) -> Vec<Lever> {
    let mut levers = vec![Lever::TextOnCpu];
    if free.decoder && base.decoder == DecoderKind::Wan {
        levers.push(Lever::TinyDecoder);
    }
    // A policy that keeps the whole video has no smaller window; to the others its length is nothing.
    let policy = base.cache.knobs(chunk, chunk);
    if free.cache && policy.overflow == Overflow::Drop && policy.takes_any_window() {
        if policy.left() < policy.window {
            levers.push(Lever::WindowOfBudget);
        }
        let smaller = SMALL_CACHES
            .into_iter()
            .filter(|(window, sink, recent)| *window < policy.left() && recent.max(&chunk) + sink <= *window);
        levers.extend(smaller.map(Lever::Cache));
    }
    if free.size {
        let area = |size: &PictureSize| size.width * size.height;
        let smaller = SMALL_PICTURES.into_iter().filter(|size| area(size) < area(&base.size));
        levers.extend(smaller.map(Lever::Pictures));
    }
    levers
}

/// The settings after pulling levers.
fn pulled(base: &Fit, levers: &[Lever], sizes: &Sizes, recipe: &Recipe, dtype: DType, bytes: u64) -> Result<Fit> {
    let mut fit = base.clone();
    for lever in levers {
        match *lever {
            Lever::TextOnCpu => fit.text_on_cpu = true,
            Lever::TinyDecoder => fit.decoder = DecoderKind::Tae,
            Lever::WindowOfBudget => fit.cache.window = fit.cache.budget,
            Lever::Cache((window, sink, recent)) => {
                (fit.cache.window, fit.cache.budget) = (window, window);
                fit.cache.sink = fit.cache.sink.min(sink);
                fit.cache.recent = fit.cache.recent.min(recent.max(recipe.rollout.chunk));
            }
            Lever::Pictures(size) => fit.size = turned(size, base.size),
        }
    }
    fit.changes = changes(base, &fit);
    let mut recipe = recipe.clone();
    recipe.cache = fit.cache;
    (recipe.video.width, recipe.video.height) = (fit.size.width, fit.size.height);
    let tiny = (fit.decoder != base.decoder)
        .then(|| sizes.with_tiny_decoder())
        .transpose()?;
    let room = GpuRoom {
        dtype,
        bytes: Some(bytes),
        text_on_cpu: fit.text_on_cpu,
    };
    recipe.model.decoder = fit.decoder;
    fit.plan = MemoryPlan::on_gpu(tiny.as_ref().unwrap_or(sizes), &recipe, &room)?;
    Ok(fit)
}

/// Upright when the pictures asked for are.
fn turned(size: PictureSize, like: PictureSize) -> PictureSize {
    match like.height > like.width {
        true => PictureSize {
            width: size.height,
            height: size.width,
        },
        false => size,
    }
}

fn changes(base: &Fit, fit: &Fit) -> Vec<String> {
    let mut changes = Vec::new();
    if fit.text_on_cpu {
        changes.push("prompts are read on the CPU".into());
    }
    if fit.decoder != base.decoder {
        changes.push("the tiny decoder (--vae tae)".into());
    }
    let (before, now) = (base.cache, fit.cache);
    if now != before {
        let values = [
            ("--window", before.window, now.window),
            ("--sink", before.sink, now.sink),
            ("--budget", before.budget, now.budget),
            ("--recent", before.recent, now.recent),
        ];
        let values = values.iter().filter(|(_, before, now)| before != now);
        let values: Vec<_> = values.map(|(name, _, now)| format!("{name} {now}")).collect();
        changes.push(format!("a smaller cache ({})", values.join(" ")));
    }
    if fit.size != base.size {
        changes.push(format!(
            "smaller pictures (--size {}x{})",
            fit.size.width, fit.size.height
        ));
    }
    changes
}

#[cfg(test)]
mod tests;
