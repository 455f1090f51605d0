//! What other loops do beside a chunk: encoding the cache again at a change of the prompt, a pass of a rolling window, and
//! merging a LoRA while the model is loaded.

use std::{collections::HashMap, sync::Arc, time::Duration};

use candle_core::{DType, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::{
    BenchSettings, Networks, clock::Clock, clock::milliseconds, flops::Flops, networks::random_weights,
    run::rollout_settings, run::tokens_per_frame,
};
use crate::{
    Result,
    cache::{CacheSettings, Holding, PolicyName, RecacheSink, Switch, window::window_sizes},
    checkpoint::{
        Checkpoint, Weights,
        lora::{Lora, LoraMerge},
    },
    device::Compute,
    rollout::{
        CancelToken, ChunkLoop, OnSwitch, Progress, PromptChange, RollingRollout, Rollout, Script, SeededNoise,
        sampler::SamplerSettings,
    },
    transformer::{CausalWan, TransformerConfig},
};

/// LongLive's cache: window and sink in latent frames.
const LONGLIVE: (usize, usize) = (12, 3);
/// Rolling Forcing's cache and levels.
const ROLLING: (usize, usize) = (21, 3);
const LEVELS: [u32; 5] = [1000, 800, 600, 400, 200];
/// LongLive's LoRA.
const RANK: usize = 256;
/// Blocks of the transformer that are loaded with and without a LoRA: the share does not depend on their number.
const BLOCKS: usize = 4;
/// Times that a measurement is made; the fastest counts.
const ROUNDS: usize = 3;

/// The times of other loops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LoopTimes {
    pub recache: RecacheTimes,
    pub window: WindowTimes,
    pub lora: LoraTimes,
}

/// Encoding a full cache again, as LongLive does.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RecacheTimes {
    /// Latent frames that are encoded again, of so many in the cache.
    pub frames: usize,
    pub held: usize,
    /// Milliseconds.
    pub time: f64,
    /// Of a whole chunk in the same cache, its pass into the cache included.
    pub chunk: f64,
    pub tflops: f64,
    /// Of the steps of that chunk.
    pub chunk_tflops: f64,
}

/// A pass of a full rolling window, as Rolling Forcing does it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WindowTimes {
    /// Latent frames that are denoised at a time, and those that they attend to.
    pub frames: usize,
    pub attended: usize,
    /// Milliseconds.
    pub time: f64,
    /// Of the pass that writes its first chunk into the cache.
    pub cache_pass: f64,
    pub tflops: f64,
}

/// Loading with a LoRA of LongLive's rank.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LoraTimes {
    pub rank: usize,
    /// Blocks of the transformer that were loaded, from a file in bf16.
    pub blocks: usize,
    /// Milliseconds without the LoRA, and with it.
    pub load: f64,
    pub merged: f64,
}

impl LoraTimes {
    /// What the LoRA adds, for what the load takes.
    pub fn share(&self) -> f64 {
        (self.merged - self.load) / self.load.max(1e-9)
    }
}

/// Measures the other loops with the networks and the picture size of a measurement.
///
/// # Errors
/// On a device failure, or when no temporary file can be written.
pub fn measure(
    settings: &BenchSettings,
    networks: &Networks,
    compute: &Compute,
    cancel: &CancelToken,
    tell: &mut impl FnMut(&str),
) -> Result<LoopTimes> {
    let stop = || {
        if cancel.is_cancelled() {
            Err(crate::Error::Cancelled)
        } else {
            Ok(())
        }
    };
    tell("measuring a cache that is encoded again");
    let recache = recache(settings, networks, compute)?;
    stop()?;
    tell("measuring a rolling window");
    let window = window(settings, networks, compute)?;
    stop()?;
    tell("measuring a LoRA");
    let lora = lora(networks.model.config(), settings.seed, compute)?;
    Ok(LoopTimes { recache, window, lora })
}

fn cache(policy: PolicyName, (window, sink): (usize, usize)) -> CacheSettings {
    CacheSettings {
        policy,
        window,
        sink,
        ..CacheSettings::default()
    }
}

/// Contexts of two prompts, which differ in nothing but that they are two.
fn changes(networks: &Networks, second: usize) -> Result<Vec<PromptChange>> {
    let context = Arc::new(networks.model.prompt_context(&networks.embedding)?);
    Ok([0, second]
        .map(|frame| PromptChange {
            frame,
            context: context.clone(),
        })
        .into())
}

/// Chunks until the cache is full and has rolled once, then switches, each with a chunk after it.
fn recache(settings: &BenchSettings, networks: &Networks, compute: &Compute) -> Result<RecacheTimes> {
    let (chunk, window) = (settings.chunk, LONGLIVE.0);
    let settled = window / chunk + 2;
    let chunks = settled + ROUNDS;
    let longlive = BenchSettings {
        cache: cache(PolicyName::Sink, LONGLIVE),
        ..settings.clone()
    };
    let rule = OnSwitch::Recache {
        sink: RecacheSink::Keep,
    };
    let mut prompts = changes(networks, settled * chunk)?;
    for round in 1..ROUNDS {
        let context = prompts[0].context.clone();
        let frame = (settled + round) * chunk;
        prompts.push(PromptChange { frame, context });
    }
    let frames = chunks * chunk;
    let script = Script::new(frames, prompts)?.on_switch(vec![rule; ROUNDS]);
    let of_rollout = rollout_settings(&longlive, frames)?;
    let policy = of_rollout.policy;
    let noise = Box::new(SeededNoise::new(settings.seed));
    let mut rollout = Rollout::directed(networks.model.clone(), of_rollout, Box::new(script), None, noise)?;
    let per_frame = tokens_per_frame(settings);
    let (mut best, mut best_chunk, mut best_step) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    for number in 0..chunks {
        let laps = laps(&mut rollout, compute)?;
        if number >= settled {
            best = best.min(laps.switched);
            best_chunk = best_chunk.min(laps.steps.iter().sum::<f64>() + laps.cached);
            // The first one makes room.
            best_step = laps.steps.iter().skip(1).copied().fold(best_step, f64::min);
        }
    }
    // Counts alone tell what the pass was.
    let mut holding = Holding::default();
    for _ in 0..settled {
        holding.take(&policy, chunk * per_frame, per_frame)?;
    }
    let pass = holding.switch(&policy, Switch::Recache(RecacheSink::Keep), per_frame);
    let (queries, keys) = pass.unwrap_or_default();
    let config = networks.model.config();
    let tflops = |flops: Flops, time: f64| flops.total() / 1e9 / time.max(1e-9);
    Ok(RecacheTimes {
        frames: queries / per_frame,
        held: keys / per_frame,
        time: best,
        chunk: best_chunk,
        tflops: tflops(Flops::cache_pass(config, queries, keys), best),
        chunk_tflops: tflops(Flops::forward(config, chunk * per_frame, keys), best_step),
    })
}

/// Milliseconds of what a chunk consists of.
#[derive(Default)]
struct Laps {
    switched: f64,
    steps: Vec<f64>,
    cached: f64,
}

fn laps(rollout: &mut dyn ChunkLoop, compute: &Compute) -> Result<Laps> {
    let mut clock = Clock::start(compute)?;
    let (mut laps, mut failed) = (Laps::default(), None);
    let mut progress = |progress: Progress<'_>| match clock.lap().map(milliseconds) {
        Ok(took) => match progress {
            Progress::Step { .. } => laps.steps.push(took),
            Progress::Cached { .. } => laps.cached = took,
            Progress::Switched { .. } => laps.switched = took,
        },
        Err(error) => failed = Some(error),
    };
    let chunk = rollout.next_chunk(&mut progress)?;
    rollout.write_back(&mut progress)?;
    if let Some(error) = failed {
        return Err(error);
    }
    chunk.map(|_| laps).ok_or(crate::Error::Cancelled)
}

fn window(settings: &BenchSettings, networks: &Networks, compute: &Compute) -> Result<WindowTimes> {
    let (chunk, levels) = (settings.chunk, LEVELS.len());
    let rolling = BenchSettings {
        cache: cache(
            PolicyName::SinkRerope,
            (ROLLING.0.max(ROLLING.1 + levels * chunk), ROLLING.1),
        ),
        sampler: SamplerSettings {
            steps: LEVELS.into(),
            first_chunk_steps: None,
            ..settings.sampler.clone()
        },
        ..settings.clone()
    };
    // The window is full, and the cache as well, before the last chunks empty it.
    let settled = rolling.cache.window / chunk + 1;
    let chunks = settled + ROUNDS + levels;
    let of_rollout = rollout_settings(&rolling, chunks * chunk)?;
    let policy = of_rollout.policy;
    let prompts = changes(networks, 0)?.into_iter().take(1).collect();
    let noise = Box::new(SeededNoise::new(settings.seed));
    let mut rollout = RollingRollout::new(networks.model.clone(), of_rollout, prompts, noise)?;
    let (mut best, mut best_pass) = (f64::INFINITY, f64::INFINITY);
    for number in 0..settled + ROUNDS {
        let laps = laps(&mut rollout, compute)?;
        if number >= settled {
            best = laps.steps.iter().copied().fold(best, f64::min);
            best_pass = best_pass.min(laps.cached);
        }
    }
    let per_frame = tokens_per_frame(settings);
    let queries = levels * chunk * per_frame;
    let sizes = window_sizes(&policy, chunk, levels, per_frame);
    let full = sizes.iter().filter(|(asked, _)| *asked == queries);
    let keys = full.map(|(_, keys)| *keys).max().unwrap_or(queries);
    let flops = Flops::forward(networks.model.config(), queries, keys);
    Ok(WindowTimes {
        frames: levels * chunk,
        attended: keys / per_frame,
        time: best,
        cache_pass: best_pass,
        tflops: flops.total() / 1e9 / best.max(1e-9),
    })
}

/// Loads some blocks of the network from a file, with and without a LoRA beside it.
fn lora(config: &TransformerConfig, seed: u64, compute: &Compute) -> Result<LoraTimes> {
    let config = TransformerConfig {
        layers: config.layers.min(BLOCKS),
        ..config.clone()
    };
    let folder = tempfile::tempdir().map_err(unwritten)?;
    let specs = CausalWan::expected_tensors(config.clone())?;
    let host = Compute::cpu();
    let weights = random_weights(specs.clone(), seed, &host)?;
    let mut tensors = HashMap::with_capacity(specs.len());
    let mut factors = HashMap::new();
    let mut generator = ChaCha12Rng::seed_from_u64(seed);
    for spec in &specs {
        let tensor = weights.get(spec.shape.clone(), &spec.name)?;
        tensors.insert(spec.name.clone(), tensor.to_dtype(DType::BF16)?);
        let module = spec.name.strip_suffix(".weight");
        if let (Some(module), [outputs, inputs]) =
            (module.filter(|_| spec.name.starts_with("blocks.")), &spec.shape[..])
        {
            let mut factor = |shape: (usize, usize)| -> Result<Tensor> {
                let values: Vec<f32> = (0..shape.0 * shape.1)
                    .map(|_| -> f32 { StandardNormal.sample(&mut generator) })
                    .map(|value| value * 1e-3)
                    .collect();
                Ok(Tensor::from_vec(values, shape, &host.device)?.to_dtype(DType::BF16)?)
            };
            factors.insert(format!("{module}.lora_A.weight"), factor((RANK, *inputs))?);
            factors.insert(format!("{module}.lora_B.weight"), factor((*outputs, RANK))?);
        }
    }
    let [base, added] = ["base.safetensors", "lora.safetensors"].map(|name| folder.path().join(name));
    candle_core::safetensors::save(&tensors, &base)?;
    candle_core::safetensors::save(&factors, &added)?;
    drop((tensors, factors, weights));
    let (mut load, mut merged) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        for (best, with) in [(&mut load, false), (&mut merged, true)] {
            let mut clock = Clock::start(compute)?;
            let weights = Weights::from_checkpoint(Checkpoint::open(&base)?, compute.dtype, &compute.device);
            let weights = if with {
                let mut merge = LoraMerge::default();
                merge.add(&Lora::open(&added)?, &specs, 1.0, None)?;
                weights.changed(Arc::new(merge))
            } else {
                weights
            };
            let network = CausalWan::new(config.clone(), weights)?;
            *best = clock.lap()?.min(*best);
            drop(network);
        }
    }
    Ok(LoraTimes {
        rank: RANK,
        blocks: config.layers,
        load: milliseconds(load),
        merged: milliseconds(merged),
    })
}

fn unwritten(error: std::io::Error) -> crate::Error {
    crate::Error::CannotWrite {
        path: std::env::temp_dir(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Scale, *};
    use crate::rollout::request::PictureSize;

    #[test]
    fn every_loop_is_measured_with_the_sizes_it_is_published_with() {
        let compute = Compute::cpu();
        let networks = Networks::random(Scale::Tiny.transformer(), Scale::Tiny, None, 0, &compute).unwrap();
        let settings = BenchSettings {
            preset: "longlive".into(),
            random_weights: true,
            vae: "none".into(),
            size: PictureSize { width: 32, height: 32 },
            fps: 16,
            chunk: 3,
            sampler: SamplerSettings::default(),
            cache: CacheSettings::default(),
            action_window: 21,
            chunks: 2,
            seed: 0,
            encode: false,
            side_by_side: false,
            loops: true,
        };
        let found = measure(&settings, &networks, &compute, &CancelToken::default(), &mut |_| ()).unwrap();
        // The sink of three frames stays as it is.
        assert_eq!((found.recache.frames, found.recache.held), (9, 12));
        assert_eq!((found.window.frames, found.window.attended), (15, 21));
        assert_eq!((found.lora.rank, found.lora.blocks), (256, 3));
        let times = [
            found.recache.time,
            found.recache.chunk,
            found.window.time,
            found.window.cache_pass,
        ];
        assert!(times.iter().all(|time| *time > 0.0 && time.is_finite()), "{found:?}");
        assert!(found.recache.tflops > 0.0 && found.window.tflops > 0.0);
        assert!(found.lora.load > 0.0 && found.lora.merged > 0.0);
    }
}
