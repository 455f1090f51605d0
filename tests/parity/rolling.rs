//! Kind `rolling_forcing`: whole videos in a rolling window, with every call of the network.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use deepforcing::{
    cache::{CacheSettings, KvCache, PolicyName, Purpose},
    rollout::sampler::SamplerSettings,
    rollout::{ChunkLoop, Progress, PromptChange, RecordedNoise, RollingRollout, RolloutSettings},
};
use serde_json::Value;

use super::{Case, number, transformer::load_model};

/// Of whole tensors, as for rollouts of the other systems.
const TOLERANCE: f64 = 1e-4;

pub fn run(case: &Case) -> Result<()> {
    let model = load_model(case)?;
    let (cache, schedule) = (&case.meta["cache"], &case.meta["schedule"]);
    let unbatched = |name: &str| -> Result<Tensor> { Ok(case.input(name)?.squeeze(0)?) };
    let (chunk, initial) = (number::<usize>(cache, "block_frames")?, unbatched("noise")?);
    let (frames, _, height, width) = initial.dims4()?;
    let steps: Vec<u32> = number(schedule, "denoising_step_list")?;
    let policy = CacheSettings {
        policy: PolicyName::SinkRerope,
        window: number(cache, "max_attention_frames")?,
        sink: number(cache, "sink_frames")?,
        ..CacheSettings::default()
    };
    let policy = policy.resolve(chunk, frames)?;
    let levels = steps.len();
    let settings = RolloutSettings {
        frames,
        chunk,
        first_frame_alone: false,
        height,
        width,
        sampler: SamplerSettings {
            steps,
            shift: number(schedule, "timestep_shift")?,
            context_noise: number(schedule, "context_noise")?,
            ..SamplerSettings::default()
        },
        policy,
        seed: 0,
        first_position: 0,
        fill_last: true,
    };
    let prompts = vec![PromptChange {
        frame: 0,
        context: Arc::new(model.prompt_context(&unbatched("prompt_embeds")?)?),
    }];
    let renoise = by_step(&case.input("renoise")?, frames / chunk, levels)?;
    let noise = RecordedNoise {
        initial,
        renoise: Some(renoise),
    };
    let mut rollout = RollingRollout::new(model, settings, prompts, Box::new(noise))?;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let log = calls.clone();
    rollout.listen(Box::new(move |call| {
        if let Ok(mut log) = log.lock() {
            log.push(Seen::of(&call));
        }
    }));
    let (mut latents, mut estimates) = (Vec::new(), Vec::new());
    let mut listen = |progress: Progress<'_>| {
        if let Progress::Step { x0, .. } = progress {
            estimates.push(x0.clone());
        }
    };
    while let Some(done) = rollout.next_chunk(&mut listen)? {
        case.check(
            format!("chunk {} leaves as number {}", done.index, latents.len()),
            done.index == latents.len() && done.plan.start == done.index * chunk,
        );
        latents.push(done.latents);
    }
    case.close("latents", &Tensor::cat(&latents, 0)?.unsqueeze(0)?, TOLERANCE);
    let calls = calls.lock().map_err(|_| anyhow::anyhow!("the listener panicked"))?;
    compare_calls(case, &calls, &estimates, levels * chunk)?;
    compare_trace(case, &calls)?;
    compare_cache(case, rollout.cache())
}

/// Noise `[step, frame, …]` from that of the case, `[window, block in the window, frame of the block, …]`.
fn by_step(stored: &Tensor, blocks: usize, levels: usize) -> Result<Tensor> {
    let step = |step: usize| -> Result<Tensor> {
        let of_block = |block: usize| -> candle_core::Result<Tensor> {
            let window = block + step;
            stored.get(window)?.get(block - (window + 1).saturating_sub(levels))
        };
        let all: Vec<Tensor> = (0..blocks).map(of_block).collect::<candle_core::Result<_>>()?;
        Ok(Tensor::cat(&all, 0)?)
    };
    let steps: Vec<Tensor> = (0..levels - 1).map(step).collect::<Result<_>>()?;
    Ok(Tensor::stack(&steps, 0)?)
}

/// What is compared of a call.
struct Seen {
    start: usize,
    purpose: Purpose,
    input: Tensor,
    timesteps: Vec<f64>,
    flow: Tensor,
    /// Latent frame after the last one that was written.
    end: u64,
    /// Tokens in the cache.
    held: usize,
}

impl Seen {
    fn of(call: &deepforcing::rollout::rolling::Call<'_>) -> Self {
        Self {
            start: call.start,
            purpose: call.purpose,
            input: call.input.clone(),
            timesteps: call.timesteps.to_vec(),
            flow: call.flow.clone(),
            end: call.cache.end().unwrap_or(0),
            held: call.cache.layers()[0].slots().len(),
        }
    }
}

/// Compares every call with what the case stores, with zeros behind shorter windows.
fn compare_calls(case: &Case, calls: &[Seen], estimates: &[Tensor], longest: usize) -> Result<()> {
    let of = |purpose: Purpose| calls.iter().filter(move |call| call.purpose == purpose);
    let padded = |tensor: &Tensor| -> Result<Tensor> {
        Ok(tensor.pad_with_zeros(0, 0, longest.saturating_sub(tensor.dim(0)?))?)
    };
    let stack = |all: Vec<Tensor>| -> Result<Tensor> { Ok(Tensor::stack(&all, 0)?) };
    let estimates = estimates.iter().map(padded).collect::<Result<_>>()?;
    case.close("window_x0", &stack(estimates)?, TOLERANCE);
    if case.has("window_input") {
        let inputs = of(Purpose::Denoise)
            .map(|call| padded(&call.input))
            .collect::<Result<_>>()?;
        case.close("window_input", &stack(inputs)?, TOLERANCE);
    }
    let timesteps = of(Purpose::Denoise).map(|call| {
        let timesteps = Tensor::new(call.timesteps.as_slice(), &Device::Cpu)?;
        padded(&timesteps.to_dtype(DType::F32)?)
    });
    case.close("window_timestep", &stack(timesteps.collect::<Result<_>>()?)?, 1e-7);
    let flows = of(Purpose::Update).map(|call| call.flow.clone()).collect();
    case.close("update_flow", &stack(flows)?, TOLERANCE);
    Ok(())
}

fn compare_trace(case: &Case, calls: &[Seen]) -> Result<()> {
    let per_frame: u64 = number(&case.meta["model"], "tokens_per_frame")?;
    let stated = case.meta["call_trace"]["rows"].as_array().context("no call trace")?;
    let found: Vec<Value> = calls
        .iter()
        .map(|call| {
            let is_update = call.purpose == Purpose::Update;
            let start = call.start as u64 * per_frame;
            serde_json::json!([start, call.timesteps.len(), is_update, call.end * per_frame, call.held])
        })
        .collect();
    let differs = stated.iter().zip(&found).position(|(a, b)| a != b);
    case.check(
        format!(
            "{} calls, expected {}; first difference at {differs:?}",
            found.len(),
            stated.len()
        ),
        found == *stated,
    );
    Ok(())
}

/// The reference keeps the keys of the sink as made, all others rotated.
fn compare_cache(case: &Case, cache: &KvCache) -> Result<()> {
    let frames = |key: &str| number::<usize>(&case.meta["cache"], key);
    let per_frame = cache.shape().tokens_per_frame();
    let (sink, held) = (
        frames("sink_frames")? * per_frame,
        frames("capacity_frames")? * per_frame,
    );
    for (layer, tokens) in cache.layers().iter().enumerate() {
        let (rotated, values) = tokens.view()?;
        if !case.has(&format!("final_k.{layer}")) {
            continue;
        }
        case.check(
            format!("layer {layer} holds {} tokens, expected {held}", values.dim(0)?),
            values.dim(0)? == held,
        );
        let keys = Tensor::cat(
            &[
                tokens.raw_keys()?.narrow(0, 0, sink)?,
                rotated.narrow(0, sink, held - sink)?,
            ],
            0,
        )?;
        case.close(&format!("final_k.{layer}"), &keys.unsqueeze(0)?, TOLERANCE);
        case.close(&format!("final_v.{layer}"), &values.copy()?.unsqueeze(0)?, TOLERANCE);
    }
    Ok(())
}
