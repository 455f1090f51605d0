//! Kind `longlive`: whole videos with a short window, also with positions that go with the window, and with prompts
//! that change while the cache is encoded again.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use deepforcing::{
    cache::{KvCache, Placement, Policy, RecacheSink},
    rollout::{
        ChunkLoop, OnSwitch, Progress, PromptChange, RecordedNoise, Rollout, RolloutSettings, Script,
        sampler::{SamplerSettings, Schedule},
    },
    transformer::{CausalWan, Observer, PromptContext},
};

use super::{Case, number, transformer::load_model};

/// Of whole tensors, as for rollouts of the other systems.
const TOLERANCE: f64 = 1e-4;
/// Keys of one pass are closer than latents at the end of a video; positions show in them.
const POSITIONS: f64 = 1e-5;

pub fn run(case: &Case) -> Result<()> {
    let model = load_model(case)?;
    let initial = case.input("noise")?.squeeze(0)?;
    let (frames, _, height, width) = initial.dims4()?;
    let chunk: usize = number(&case.meta, "frames_per_chunk")?;
    let attention = Attention::of(case, frames)?;
    let settings = RolloutSettings {
        frames,
        chunk,
        first_frame_alone: false,
        height,
        width,
        sampler: sampler(case)?,
        policy: attention.policy,
        seed: 0,
        first_position: 0,
        fill_last: true,
    };
    let noise = RecordedNoise {
        initial,
        renoise: Some(by_step(&case.input("renoise")?)?),
    };
    let prompts = Prompts::of(case, &model, chunk)?;
    let script = Script::new(frames, prompts.changes())?.on_switch(vec![prompts.on_switch; prompts.contexts.len() - 1]);
    let mut rollout = Rollout::directed(model.clone(), settings.clone(), Box::new(script), None, Box::new(noise))?;

    let (mut latents, mut estimates, mut flows) = (Vec::new(), Vec::new(), Vec::new());
    let (mut trace, mut switched) = (Vec::new(), Vec::new());
    let per_frame = (height / 2) * (width / 2);
    let clean = model.time_embedding(&[settings.sampler.context_noise])?;
    let times = Schedule::new(settings.sampler.shift)
        .denoising_steps(&settings.sampler.steps, settings.sampler.warp)
        .iter()
        .map(|step| f64::from(step.timestep))
        .collect::<Vec<_>>();
    loop {
        let start = latents.len() * chunk;
        let mut steps: Vec<Tensor> = Vec::new();
        let Some(done) = rollout.next_chunk(&mut |progress| match progress {
            Progress::Step { step, x0, .. } => {
                trace.push(Call::new(start, chunk, times[step]));
                steps.push(x0.clone());
            }
            Progress::Switched { cache, .. } => {
                trace.push(Call::recached(cache, &attention, start));
                switched.push((start, Kept::of(cache)));
            }
            Progress::Cached { .. } => {}
        })?
        else {
            break;
        };
        for call in trace.iter_mut().filter(|call| call.end.is_none()) {
            call.end = Some([start + chunk, tokens(rollout.cache()) / per_frame]);
        }
        estimates.push(Tensor::stack(&steps, 0)?);
        rollout.write_back(&mut |_| ())?;
        // The same pass once more writes the same and gives the flow that the reference stores.
        let (prompt, cache) = (prompts.at(start), rollout.cache_mut());
        let silent = &mut Observer::silent();
        flows.push(model.forward(&done.latents, &clean, prompt, start as u64, cache, silent)?);
        trace.push(Call {
            end: Some([start + chunk, tokens(rollout.cache()) / per_frame]),
            ..Call::new(start, chunk, settings.sampler.context_noise)
        });
        latents.push(done.latents);
    }
    case.close("latents", &Tensor::cat(&latents, 0)?.unsqueeze(0)?, TOLERANCE);
    for (name, found) in [("x0_steps", &estimates), ("flow_context_pass", &flows)] {
        if case.has(name) {
            case.close(name, &Tensor::stack(found, 0)?, TOLERANCE);
        }
    }
    compare_caches(case, &attention, &switched, rollout.cache())?;
    compare_trace(case, &trace, per_frame)
}

/// The window as the case states it.
struct Attention {
    policy: Policy,
    /// Whether the reference stores keys un-rotated.
    relative: bool,
}

impl Attention {
    fn of(case: &Case, frames: usize) -> Result<Self> {
        let stated = &case.meta["attention"];
        let relative = stated["relative_rope"].as_bool().unwrap_or(false);
        let window = stated["local_attn_size"].as_i64().context("no local_attn_size")?;
        let policy = match usize::try_from(window) {
            Ok(window) => Policy::last(window),
            Err(_) => Policy::whole(frames),
        };
        let placement = if relative {
            Placement::Consecutive
        } else {
            Placement::Origin
        };
        Ok(Self {
            policy: Policy {
                sink: number(stated, "sink_size")?,
                placement,
                ..policy
            },
            relative,
        })
    }
}

/// The prompts of a case and where each begins.
struct Prompts {
    contexts: Vec<(usize, Arc<PromptContext>)>,
    on_switch: OnSwitch,
}

impl Prompts {
    fn of(case: &Case, model: &CausalWan, chunk: usize) -> Result<Self> {
        let context = |name: &str| -> Result<Arc<PromptContext>> {
            let embedding = case.input(name)?.squeeze(0)?;
            Ok(Arc::new(model.prompt_context(&embedding)?))
        };
        let Some(stated) = case.meta.get("interactive") else {
            return Ok(Self {
                contexts: vec![(0, context("prompt_embeds")?)],
                on_switch: OnSwitch::Keep,
            });
        };
        let names: Vec<String> = number(stated, "prompts")?;
        let asked: Vec<usize> = number(stated, "switch_frame_indices")?;
        let effective: Vec<usize> = number(stated, "effective_switch_frames")?;
        ensure!(
            asked.len() == effective.len() && asked.len() + 1 == names.len(),
            "{} prompts, {} switches, {} of them in effect",
            names.len(),
            asked.len(),
            effective.len()
        );
        // One switch at a boundary at most: the others wait for the next one.
        let mut free = 0;
        for (asked, effective) in asked.iter().zip(&effective) {
            let boundary = asked.next_multiple_of(chunk).max(free);
            case.check(
                format!("a switch at {asked} would take effect at {boundary}, expected {effective}"),
                boundary == *effective,
            );
            free = boundary + chunk;
        }
        let starts = std::iter::once(0).chain(effective);
        let contexts = starts
            .zip(&names)
            .map(|(start, name)| Ok((start, context(&format!("prompt_embeds.{name}"))?)));
        let global = stated["global_sink"].as_bool().context("no global_sink")?;
        let sink = if global { RecacheSink::Keep } else { RecacheSink::Renew };
        Ok(Self {
            contexts: contexts.collect::<Result<_>>()?,
            on_switch: OnSwitch::Recache { sink },
        })
    }

    fn changes(&self) -> Vec<PromptChange> {
        let changes = self.contexts.iter().map(|(frame, context)| PromptChange {
            frame: *frame,
            context: context.clone(),
        });
        changes.collect()
    }

    /// The prompt of the chunk that begins at `start`.
    fn at(&self, start: usize) -> &PromptContext {
        let begun = self.contexts.partition_point(|(frame, _)| *frame <= start);
        &self.contexts[begun.saturating_sub(1)].1
    }
}

fn sampler(case: &Case) -> Result<SamplerSettings> {
    let schedule = &case.meta["schedule"];
    Ok(SamplerSettings {
        steps: number(schedule, "denoising_step_list")?,
        first_chunk_steps: None,
        shift: number(schedule, "timestep_shift")?,
        warp: true,
        context_noise: number(schedule, "context_noise")?,
    })
}

/// `[chunk, step, frames, …]` to `[step, chunk·frames, …]`.
fn by_step(draws: &Tensor) -> Result<Tensor> {
    let draws = draws.transpose(0, 1)?.contiguous()?;
    Ok(draws.flatten(1, 2)?)
}

/// A network call: what went in, and what the cache then held.
struct Call {
    /// First frame.
    start: usize,
    frames: usize,
    timestep: f64,
    /// Frames of the video so far, and frames held.
    end: Option<[usize; 2]>,
}

impl Call {
    fn new(start: usize, frames: usize, timestep: f64) -> Self {
        Self {
            start,
            frames,
            timestep,
            end: None,
        }
    }

    /// The pass of a re-cache before the chunk that begins at `start`. The reference computes the window's first frames
    /// also where a sink that is kept stands in their place; what comes of them is used nowhere.
    fn recached(cache: &KvCache, attention: &Attention, start: usize) -> Self {
        let frames = attention.policy.window.min(start);
        Self {
            end: Some([start, tokens(cache) / cache.shape().tokens_per_frame()]),
            ..Self::new(start - frames, frames, 0.0)
        }
    }
}

fn compare_trace(case: &Case, found: &[Call], per_frame: usize) -> Result<()> {
    let rows: Vec<[f64; 5]> = number(&case.meta["call_trace"], "rows")?;
    let counts = format!("{} network calls, expected {}", found.len(), rows.len());
    case.check(counts, found.len() == rows.len());
    for (index, (call, row)) in found.iter().zip(&rows).enumerate() {
        let [global, local] = call.end.unwrap_or_default();
        let found = [
            (call.start * per_frame) as f64,
            call.frames as f64,
            call.timestep,
            (global * per_frame) as f64,
            (local * per_frame) as f64,
        ];
        case.check(
            format!("call {index} is {found:?}, expected {row:?}"),
            found.iter().zip(row).all(|(found, row)| (found - row).abs() < 1e-3),
        );
    }
    Ok(())
}

/// Copies of a cache's tensors, layer by layer.
struct Kept {
    layers: Vec<[Tensor; 3]>,
    /// Temporal positions of the slots of the first layer.
    positions: Vec<i64>,
}

impl Kept {
    fn of(cache: &KvCache) -> Result<Self> {
        let layers = cache.layers().iter().map(|layer| {
            let (rotated, values) = layer.view()?;
            Ok([layer.raw_keys()?.copy()?, rotated.copy()?, values.copy()?])
        });
        let slots = cache.layers().first().map(|layer| layer.slots()).unwrap_or_default();
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            positions: slots.iter().map(|slot| slot.position).collect(),
        })
    }
}

/// The caches after each change of the prompt, and at the end.
fn compare_caches(
    case: &Case,
    attention: &Attention,
    switched: &[(usize, Result<Kept>)],
    last: &KvCache,
) -> Result<()> {
    for (start, kept) in switched {
        let kept = kept.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        compare_kept(case, attention, &format!("recache{start}"), kept, POSITIONS)?;
    }
    compare_kept(case, attention, "final", &Kept::of(last)?, TOLERANCE)
}

fn compare_kept(case: &Case, attention: &Attention, name: &str, kept: &Kept, tolerance: f64) -> Result<()> {
    let tolerance = if case.inexact() { TOLERANCE } else { tolerance };
    for (layer, [raw, rotated, values]) in kept.layers.iter().enumerate() {
        let keys = if attention.relative { raw } else { rotated };
        for (letter, found) in [("k", keys), ("v", values)] {
            let stored = format!("{name}_{letter}.{layer}");
            if !case.has(&stored) {
                continue;
            }
            // Rows that were not written yet are zero.
            let expected = case.input(&stored)?.squeeze(0)?;
            let filled = found.dim(0)?;
            case.close_to(&stored, found, &expected.narrow(0, 0, filled)?, tolerance);
            let rest = expected.narrow(0, filled, expected.dim(0)? - filled)?;
            let zero = rest.dim(0)? == 0 || rest.abs()?.max_all()?.to_scalar::<f32>()? == 0.0;
            case.check(format!("{stored}: the reference holds more than {filled} tokens"), zero);
        }
    }
    if attention.relative {
        // Slots at consecutive positions, up to where the window begins.
        let first = kept.positions.first().copied().unwrap_or_default();
        let per_frame = kept.positions.iter().filter(|position| **position == first).count();
        let consecutive = (0..).zip(&kept.positions);
        let right = consecutive
            .clone()
            .all(|(i, at)| *at == first + i as i64 / per_frame.max(1) as i64);
        case.check(format!("{name}: positions {:?}", kept.positions), right);
    }
    Ok(())
}

fn tokens(cache: &KvCache) -> usize {
    cache.layers().first().map_or(0, |layer| layer.slots().len())
}
