//! Kind `causvid`: rollouts with another shift and with steps that are timesteps, also from given latents.

use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::Tensor;
use deepforcing::{
    cache::Policy,
    rollout::sampler::{SamplerSettings, Schedule},
    rollout::{ChunkLoop, Progress, PromptChange, Rollout, RolloutSettings},
};
use serde_json::Value;

use super::{
    Case,
    causal_forcing::{DrawnNoise, compare_estimates},
    number,
    transformer::load_model,
};

/// Of whole tensors, as for rollouts of the other systems.
const TOLERANCE: f64 = 1e-4;

pub fn run(case: &Case) -> Result<()> {
    let model = load_model(case)?;
    let unbatched = |name: &str| -> Result<Tensor> { Ok(case.input(name)?.squeeze(0)?) };
    let given = case
        .has("start_latents")
        .then(|| unbatched("start_latents"))
        .transpose()?;
    let given_frames = given.as_ref().map_or(Ok(0), |given| given.dim(0))?;
    let (chunk, noise) = (number::<usize>(&case.meta, "frames_per_block")?, unbatched("noise")?);
    let (total, _, height, width) = noise.dims4()?;
    // The noise of given frames is skipped.
    let initial = noise.narrow(0, given_frames, total - given_frames)?;
    let sampler = sampler(&case.meta["schedule"])?;
    compare_schedule(case, &sampler)?;
    let settings = RolloutSettings {
        frames: total - given_frames,
        chunk,
        first_frame_alone: false,
        height,
        width,
        sampler,
        policy: Policy::whole(total),
        seed: 0,
        first_position: 0,
        fill_last: true,
    };
    let prompts = vec![PromptChange {
        frame: 0,
        context: Arc::new(model.prompt_context(&unbatched("prompt_embeds")?)?),
    }];
    let noise = DrawnNoise::new(initial, case.input("renoise")?);
    let mut rollout = Rollout::new(model, settings, prompts, given, Box::new(noise))?;
    let (mut latents, mut estimates, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let mut steps = 0;
        let mut listen = |progress: Progress<'_>| {
            if let Progress::Step { x0, .. } = progress {
                estimates.push(x0.clone());
                steps += 1;
            }
        };
        let Some(done) = rollout.next_chunk(&mut listen)? else {
            break;
        };
        spans.push((done.plan, steps));
        latents.push(done.latents);
    }
    case.close("latents", &Tensor::cat(&latents, 0)?.unsqueeze(0)?, TOLERANCE);
    compare_estimates(case, &estimates)?;
    compare_trace(case, &spans)?;
    for (layer, tokens) in rollout.cache().layers().iter().enumerate() {
        let (keys, values) = tokens.view()?;
        for (name, found) in [("k", keys), ("v", values)] {
            let stored = format!("final_{name}.{layer}");
            if case.has(&stored) {
                // The reference's cache is longer than these videos; its end stays empty.
                let expected = unbatched(&stored)?.narrow(0, 0, found.dim(0)?)?;
                case.close_to(&stored, &found, &expected, TOLERANCE);
            }
        }
    }
    Ok(())
}

/// The last step of the file is 0 and means the end.
fn sampler(schedule: &Value) -> Result<SamplerSettings> {
    let mut steps: Vec<u32> = number(schedule, "denoising_step_list")?;
    anyhow::ensure!(steps.pop() == Some(0), "the last step is not 0");
    Ok(SamplerSettings {
        steps,
        first_chunk_steps: None,
        shift: number(schedule, "timestep_shift")?,
        warp: number(schedule, "warp")?,
        context_noise: number(schedule, "context_timestep")?,
    })
}

/// What the network is told, and the share of noise that goes with it.
fn compare_schedule(case: &Case, sampler: &SamplerSettings) -> Result<()> {
    let stated = |key: &str| number::<Vec<f32>>(&case.meta["schedule"], key);
    let schedule = Schedule::new(sampler.shift);
    let steps = schedule.denoising_steps(&sampler.steps, sampler.warp);
    let told: Vec<f32> = steps.iter().map(|step| step.timestep).collect();
    let sigmas: Vec<f32> = steps.iter().map(|step| step.sigma).collect();
    let nearest: Vec<f32> = told
        .iter()
        .map(|timestep| schedule.timesteps()[schedule.index_of(*timestep)])
        .collect();
    for (key, found) in [
        ("timesteps_fed_to_model", told),
        ("sigma_used", sigmas),
        ("nearest_table_timestep", nearest),
    ] {
        case.check(format!("{key}: {found:?}"), found == stated(key)?);
    }
    Ok(())
}

/// The calls of each chunk: its steps, then the pass into the cache.
fn compare_trace(case: &Case, chunks: &[(deepforcing::rollout::ChunkPlan, usize)]) -> Result<()> {
    let per_frame: usize = number(&case.meta["model"], "tokens_per_frame")?;
    let told: Vec<f64> = number(&case.meta["schedule"], "timesteps_fed_to_model")?;
    let rows: Vec<[f64; 3]> =
        serde_json::from_value(case.meta["call_trace"]["rows"].clone()).context("`call_trace`")?;
    let mut found = Vec::new();
    for (plan, steps) in chunks {
        let (start, end) = (plan.start * per_frame, (plan.start + plan.frames) * per_frame);
        let timesteps = told.iter().take(*steps).chain([&0.0]);
        found.extend(timesteps.map(|timestep| [start as f64, end as f64, *timestep]));
    }
    case.check(format!("calls {found:?}, expected {rows:?}"), found == rows);
    Ok(())
}
