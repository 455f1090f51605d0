//! Kind `causal_forcing`: chunk-wise and frame-wise rollouts with full attention, also with other steps for the first
//! chunk or from an image.

use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor, bail};
use deepforcing::{
    cache::Policy,
    rollout::sampler::SamplerSettings,
    rollout::{ChunkLoop, NoiseSource, Progress, PromptChange, Rollout, RolloutSettings},
};
use serde_json::Value;

use super::{Case, number, transformer::load_model};

/// Of whole tensors, as for rollouts of the other systems.
const TOLERANCE: f64 = 1e-4;
/// Frames that the reference's cache holds.
const CAPACITY: usize = 21;

pub fn run(case: &Case) -> Result<()> {
    let model = load_model(case)?;
    let unbatched = |name: &str| -> Result<Tensor> { Ok(case.input(name)?.squeeze(0)?) };
    let given = case
        .has("initial_latent")
        .then(|| unbatched("initial_latent"))
        .transpose()?;
    let (chunk, initial) = (number(&case.meta, "frames_per_block")?, unbatched("noise")?);
    let (frames, _, height, width) = initial.dims4()?;
    let settings = RolloutSettings {
        frames,
        chunk,
        first_frame_alone: false,
        height,
        width,
        sampler: sampler(&case.meta["schedule"])?,
        policy: Policy::whole(CAPACITY),
        seed: 0,
        first_position: 0,
        fill_last: true,
    };
    let prompts = vec![PromptChange {
        frame: 0,
        context: Arc::new(model.prompt_context(&unbatched("prompt_embeds")?)?),
    }];
    let noise = DrawnNoise::new(initial, case.input("renoise")?);
    let given_chunks = given.iter().cloned();
    let mut latents: Vec<Tensor> = Vec::new();
    let mut estimates = Vec::new();
    let mut rollout = Rollout::new(model, settings, prompts, given.clone(), Box::new(noise))?;
    while let Some(done) = rollout.next_chunk(&mut |progress| {
        if let Progress::Step { x0, .. } = progress {
            estimates.push(x0.clone());
        }
    })? {
        latents.push(done.latents);
    }
    let mut latents = Tensor::cat(&latents, 0)?;
    // Whether given frames come out as a chunk is not what this compares.
    if latents.dim(0)? == frames {
        latents = Tensor::cat(&given_chunks.chain([latents]).collect::<Vec<_>>(), 0)?;
    }
    case.close("latents", &latents.unsqueeze(0)?, TOLERANCE);
    compare_estimates(case, &estimates)?;
    let total = latents.dim(0)?;
    for (layer, tokens) in rollout.cache().layers().iter().enumerate() {
        let (keys, values) = tokens.view()?;
        for (name, found) in [("k", keys), ("v", values)] {
            let stored = format!("final_{name}.{layer}");
            if case.has(&stored) {
                // The reference's cache is longer than a short video; its end stays empty.
                let expected = unbatched(&stored)?;
                let filled = expected.dim(0)? / CAPACITY * total;
                case.close_to(&stored, &found, &expected.narrow(0, 0, filled)?, TOLERANCE);
            }
        }
    }
    Ok(())
}

fn sampler(schedule: &Value) -> Result<SamplerSettings> {
    let steps = |key: &str| {
        serde_json::from_value::<Option<Vec<u32>>>(schedule[key].clone()).with_context(|| format!("`{key}`"))
    };
    Ok(SamplerSettings {
        steps: steps("denoising_step_list")?.context("no denoising steps")?,
        first_chunk_steps: steps("denoising_step_list_first_chunk")?,
        shift: number(schedule, "timestep_shift")?,
        warp: true,
        context_noise: number(schedule, "context_noise")?,
    })
}

/// Clean estimates of all denoising calls; the reference stores those of its passes into the cache as well.
pub(super) fn compare_estimates(case: &Case, found: &[Tensor]) -> Result<()> {
    let calls: Vec<Vec<f64>> = serde_json::from_value(case.meta["call_trace"]["rows"].clone())?;
    let stored = case.input("x0_calls")?;
    let denoising = calls.iter().enumerate().filter(|(_, call)| call[2] > 0.0);
    let expected: Vec<Tensor> = denoising
        .map(|(index, _)| stored.get(index))
        .collect::<Result<_, _>>()?;
    case.check(
        format!("{} denoising calls, expected {}", found.len(), expected.len()),
        found.len() == expected.len(),
    );
    case.close_to(
        "x0_calls",
        &Tensor::stack(found, 0)?,
        &Tensor::stack(&expected, 0)?,
        TOLERANCE,
    );
    Ok(())
}

/// Noise in the order in which the reference drew it.
pub(super) struct DrawnNoise {
    initial: Tensor,
    draws: Tensor,
    drawn: usize,
}

impl DrawnNoise {
    pub(super) fn new(initial: Tensor, draws: Tensor) -> Self {
        Self {
            initial,
            draws,
            drawn: 0,
        }
    }
}

impl NoiseSource for DrawnNoise {
    fn initial(&mut self, first: usize, shape: [usize; 4], _device: &Device) -> candle_core::Result<Tensor> {
        self.initial.narrow(0, first, shape[0])
    }

    fn renoise(&mut self, _step: usize, _first: usize, shape: [usize; 4], _: &Device) -> candle_core::Result<Tensor> {
        let draw = self.draws.get(self.drawn)?;
        self.drawn += 1;
        match draw.dims() == shape {
            true => Ok(draw),
            false => bail!("draw {} has shape {:?}, asked for {shape:?}", self.drawn, draw.dims()),
        }
    }
}
