//! Kind `policy`: whole videos under policies that other projects published, with what each layer attends to.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use deepforcing::{
    cache::{
        CacheObserver, CacheSettings, HeadProfile, Interest, KvCache, LayerCache, Made, Moment, Pass, PatchChoice,
        Policy, Share, Sight, Slot,
        knobs::{Draw, LastChunk, Pooling},
        rope::{Rope, TokenPosition},
    },
    kernels,
    rollout::{
        ChunkLoop, OnSwitch, Progress, PromptChange, RecordedNoise, Rollout, RolloutSettings, Script,
        sampler::{SamplerSettings, Schedule},
    },
    transformer::CausalWan,
};
use serde::Deserialize;
use serde_json::Value;

use super::{Case, number, tolerance, transformer::load_model};

/// Keys and values of one pass.
const TOKENS: f64 = 1e-5;
/// Frames of a chunk of all published forms.
const CHUNKS_SEEN: usize = 4;

pub fn run(case: &Case) -> Result<()> {
    let (model, tolerance) = (load_model(case)?, tolerance(case, 1e-4));
    let setup = Setup::of(case)?;
    let (script, switched) = setup.script(case, &model)?;
    let noise = RecordedNoise {
        initial: case.input("noise")?,
        renoise: Some(case.input("renoise")?),
    };
    let settings = setup.settings.clone();
    let mut rollout = Rollout::directed(model.clone(), settings, Box::new(script), None, Box::new(noise))?;
    if case.has("epsilon") {
        let draws = case
            .input("epsilon")?
            .to_dtype(candle_core::DType::F64)?
            .to_vec2::<f64>()?;
        rollout.cache_mut().set_head_draws(&draws)?;
    }
    if case.has("sampled_rows") {
        let rows = case
            .input("sampled_rows")?
            .to_dtype(candle_core::DType::U32)?
            .to_vec2::<u32>()?;
        rollout.cache_mut().set_head_rows(rows);
    }
    let layers = rollout.cache().layers().len();
    let log = Arc::new(Mutex::new(Log::default()));
    let observer = Watching {
        log: log.clone(),
        layers,
    };
    rollout.cache_mut().set_observer(Some(Box::new(observer)));

    let steps = setup.settings.sampler.steps.len();
    let times = setup.timesteps();
    let (mut latents, mut estimates) = (Vec::new(), Vec::new());
    let mut attended = Attended::new(case)?;
    let mut choices = Vec::new();
    while latents.len() * setup.settings.chunk < setup.settings.frames {
        let chunk = latents.len();
        lock(&log).chunk = chunk;
        let done = rollout.next_chunk(&mut |progress| {
            if let Progress::Step { step, x0, .. } = progress {
                lock(&log).label(times[step]);
                if step == 0 {
                    estimates.push(x0.clone());
                }
            }
        })?;
        let done = done.context("the video ended early")?;
        for seen in std::mem::take(&mut lock(&log).seen) {
            attended.compare(case, &format!("{chunk}.0"), &seen)?;
        }
        attended.compare_heads(
            case,
            &format!("{chunk}.0"),
            rollout.cache(),
            done.plan.start,
            done.plan.frames,
        )?;
        rollout.write_back(&mut |_| ())?;
        attended.compare_heads(
            case,
            &format!("{chunk}.{steps}"),
            rollout.cache(),
            done.plan.start,
            done.plan.frames,
        )?;
        for (layer, cache) in rollout.cache().layers().iter().enumerate() {
            attended.compare(
                case,
                &format!("{chunk}.{steps}"),
                &Seen::of(layer, done.plan.start, done.plan.frames, cache)?,
            )?;
        }
        choices.extend(rollout.cache().patch_choice()?);
        latents.push(done.latents);
    }
    compare_heads(case, rollout.cache(), &choices)?;
    case.close("expected.latents", &Tensor::cat(&latents, 0)?, tolerance);
    case.close("expected.x0_first_step", &Tensor::cat(&estimates, 0)?, tolerance);
    attended.finish(case);
    case.check(format!("{switched} switches"), switched == setup.switches.len());
    if case.has("calls") {
        compare_calls(case, &lock(&log).calls, &setup);
    }
    Ok(())
}

/// A change of the prompt as a case states it.
#[derive(Debug, Clone, Deserialize)]
struct Switch {
    frame: usize,
    prompt: String,
    scene_cut: bool,
}

/// What a case states of the rollout.
struct Setup {
    settings: RolloutSettings,
    switches: Vec<Switch>,
    /// Chunks that are made in the model's own way.
    native: usize,
}

impl Setup {
    fn of(case: &Case) -> Result<Self> {
        let pipeline = &case.meta["pipeline"];
        let (height, width): (usize, usize) = serde_json::from_value(case.meta["latent_hw"].clone())?;
        let (frames, chunk) = (
            number(pipeline, "generated_frames")?,
            number(pipeline, "frames_per_chunk")?,
        );
        let policy = policy(case, chunk, frames)?;
        Ok(Self {
            native: policy.context.map_or(0, |context| context.native),
            settings: RolloutSettings {
                frames,
                chunk,
                first_frame_alone: false,
                height,
                width,
                sampler: SamplerSettings {
                    steps: number(pipeline, "denoising_steps_raw")?,
                    first_chunk_steps: None,
                    shift: number(pipeline, "timestep_shift")?,
                    warp: number(pipeline, "warp")?,
                    context_noise: number(pipeline, "context_noise")?,
                },
                policy,
                seed: 0,
                first_position: 0,
                fill_last: true,
            },
            switches: number(pipeline, "prompt_switches")?,
        })
    }

    /// The prompts, and how many switches there are among them.
    fn script(&self, case: &Case, model: &CausalWan) -> Result<(Script, usize)> {
        let change = |frame: usize, name: &str| -> Result<PromptChange> {
            let context = Arc::new(model.prompt_context(&case.input(name)?)?);
            Ok(PromptChange { frame, context })
        };
        let mut changes = vec![change(0, "prompt_embeds")?];
        let mut rules = Vec::new();
        for switch in &self.switches {
            changes.push(change(switch.frame, &switch.prompt)?);
            rules.push(match (self.settings.policy.flush, switch.scene_cut) {
                (_, true) => OnSwitch::Cut,
                (Some(_), false) => OnSwitch::Flush,
                (None, false) => OnSwitch::Keep,
            });
        }
        let count = rules.len();
        Ok((Script::new(self.settings.frames, changes)?.on_switch(rules), count))
    }

    fn timesteps(&self) -> Vec<f64> {
        let sampler = &self.settings.sampler;
        let steps = Schedule::new(sampler.shift).denoising_steps(&sampler.steps, sampler.warp);
        steps.iter().map(|step| f64::from(step.timestep)).collect()
    }
}

/// The policy that a case states, as users would write it.
fn policy(case: &Case, chunk: usize, frames: usize) -> Result<Policy> {
    let (stated, method) = (&case.meta["policy"], case.meta["method"].as_str().unwrap_or_default());
    let share = |key: &str| -> Result<Share> {
        let value: f64 = number(stated, key)?;
        Share::new(value).with_context(|| format!("{key} {value}"))
    };
    let has = |key: &str| stated[key].as_bool().unwrap_or(false);
    let mut settings = CacheSettings {
        policy: method.replace('_', "-").parse().map_err(anyhow::Error::msg)?,
        ..CacheSettings::default()
    };
    if stated.get("window").is_some() {
        settings.window = number(stated, "window")?;
    }
    if stated.get("sink").is_some() {
        settings.sink = number(stated, "sink")?;
    }
    match method {
        "infinity_rope" => settings.cut_position = number(stated, "cut_position")?,
        "id_forcing" => {
            settings.native_chunks = number(stated, "native")?;
            settings.last_chunk = match has("reencode") {
                true => LastChunk::ReEncoded,
                false => LastChunk::SelfCached,
            };
        }
        "lol" => {
            settings.rope_jitter = share("sigma")?;
            settings.jitter_draw = match has("per_layer") {
                true => Draw::PerLayer,
                false => Draw::Shared,
            };
        }
        "memrope" => {
            (settings.alpha_long, settings.alpha_short) = (share("alpha_long")?, share("alpha_short")?);
            settings.pooling = match has("per_position") {
                true => Pooling::Cell,
                false => Pooling::All,
            };
        }
        "ema_sink" => settings.alpha = share("alpha")?,
        "rolling_sink" => {}
        "dummy_forcing" => {
            let all = number::<usize>(&case.meta["model"], "num_heads")?
                * number::<usize>(&case.meta["model"], "num_layers")?;
            let dummies: usize = number(stated, "dummies")?;
            settings.dummies = Share::new(dummies as f64 / all as f64).context("more dummies than heads")?;
            settings.local = number::<usize>(stated, "local")? * chunk;
            settings.split = number(stated, "classify_chunk")?;
        }
        "forcing_kv" => {
            let fixed: Vec<Vec<usize>> = number(stated, "static_heads")?;
            let heads = number(&case.meta["model"], "num_heads")?;
            settings.heads = HeadProfile::of(&fixed, heads).map_err(anyhow::Error::msg)?;
            settings.static_frames = number(stated, "static")?;
            settings.recent = number(stated, "recent")?;
            settings.changed = number(stated, "dynamic")?;
            settings.patches = number(stated, "patches")?;
            settings.split = number(stated, "switch_chunk")?;
        }
        other => bail!("no policy goes by `{other}`"),
    }
    Ok(settings.resolve(chunk, frames)?)
}

/// What a layer attends to, copied.
struct Seen {
    layer: usize,
    slots: Vec<Slot>,
    raw: Tensor,
    rotated: Tensor,
    values: Tensor,
    /// First position of the queries, and latent frames of them.
    queries: (i64, usize),
}

impl Seen {
    fn of(layer: usize, start: usize, frames: usize, cache: &LayerCache) -> candle_core::Result<Self> {
        let copied = || -> deepforcing::Result<Self> {
            let (rotated, values) = cache.view()?;
            Ok(Self {
                layer,
                slots: cache.slots().to_vec(),
                raw: cache.raw_keys()?.copy()?,
                rotated: rotated.copy()?,
                values: values.copy()?,
                queries: (start as i64, frames),
            })
        };
        copied().map_err(candle_core::Error::wrap)
    }
}

#[derive(Default)]
struct Log {
    chunk: usize,
    seen: Vec<Seen>,
    /// Calls of a layer in the pass in work.
    of_pass: usize,
    calls: Vec<Call>,
}

impl Log {
    /// Says at which timestep the last call was.
    fn label(&mut self, timestep: f64) {
        if let Some(call) = self.calls.last_mut() {
            call.timestep = timestep;
        }
    }
}

/// A call of the network.
struct Call {
    chunk: usize,
    position: i64,
    timestep: f64,
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Watching {
    log: Arc<Mutex<Log>>,
    layers: usize,
}

impl CacheObserver for Watching {
    fn interest(&self) -> Interest {
        Interest {
            events: false,
            sights: true,
        }
    }

    fn sight(&mut self, sight: Sight<'_>) -> deepforcing::Result<()> {
        let (start, frames) = (sight.pass.position as usize, sight.pass.frames);
        let seen = Seen::of(sight.layer, start, frames, sight.cache)?;
        lock(&self.log).seen.push(seen);
        Ok(())
    }

    fn moment(&mut self, moment: Moment, pass: Pass) {
        let mut log = lock(&self.log);
        if moment == Moment::After {
            return;
        }
        if log.of_pass == 0 {
            let chunk = log.chunk;
            log.calls.push(Call {
                chunk,
                position: pass.position,
                timestep: 0.0,
            });
        }
        log.of_pass = (log.of_pass + 1) % self.layers;
    }
}

/// What the case states of the frames that are attended to, by chunk, pass and layer.
struct Attended {
    stated: Vec<(String, Frames)>,
    compared: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Frames {
    source_frames: Vec<i64>,
    positions: Vec<i64>,
    query_positions: Vec<i64>,
}

impl Attended {
    fn new(case: &Case) -> Result<Self> {
        let stated = match case.meta["attended"].as_object() {
            Some(stated) => {
                let read = stated.iter().map(|(key, value): (&String, &Value)| -> Result<_> {
                    Ok((key.clone(), serde_json::from_value(value.clone())?))
                });
                read.collect::<Result<_>>()?
            }
            None => Vec::new(),
        };
        Ok(Self {
            stated,
            compared: Vec::new(),
        })
    }

    /// Compares what a layer attends to in a pass, `C.S`.
    fn compare(&mut self, case: &Case, pass: &str, seen: &Seen) -> Result<()> {
        // The frames of all layers are those of the first one, where only that is stated.
        let own = format!("{pass}.{}", seen.layer);
        let first = format!("{pass}.0");
        let found = self.stated.iter().find(|(key, _)| *key == own);
        let stated = found.or_else(|| self.stated.iter().find(|(key, _)| *key == first));
        let mut shift = 0;
        if let Some((key, stated)) = stated.cloned() {
            let found = frames(&seen.slots, seen.queries, case)?;
            // Only differences of positions matter.
            shift = stated.query_positions[0] - found.query_positions[0];
            let moved = |positions: &[i64]| positions.iter().map(|position| position + shift).collect();
            let found = Frames {
                positions: moved(&found.positions),
                query_positions: moved(&found.query_positions),
                ..found
            };
            case.check(
                format!("{key}: layer {} attends to {found:?}, expected {stated:?}", seen.layer),
                found == stated,
            );
            self.compared.push(key);
        }
        let name = |what: &str| format!("attn.{pass}.{}.{what}", seen.layer);
        if case.has(&name("k")) {
            case.close(&name("k"), &shifted(seen, shift)?, TOKENS);
            case.close(&name("v"), &seen.values, TOKENS);
        }
        Ok(())
    }

    /// Compares what each head attends to, where that is stated; positions are those of the video.
    fn compare_heads(
        &mut self,
        case: &Case,
        pass: &str,
        cache: &KvCache,
        start: usize,
        frames_of: usize,
    ) -> Result<()> {
        let shape = *cache.shape();
        for (layer, head) in (0..shape.layers).flat_map(|layer| (0..shape.heads).map(move |head| (layer, head))) {
            let key = format!("{pass}.{layer}.{head}");
            let Some((_, stated)) = self.stated.iter().find(|(known, _)| *known == key) else {
                continue;
            };
            let slots = cache
                .head_slots(layer, head)
                .with_context(|| format!("{key}: heads see alike"))?;
            let found = frames(&slots, (start as i64, frames_of), case)?;
            case.check(
                format!("{key} attends to {found:?}, expected {stated:?}"),
                found == *stated,
            );
            self.compared.push(key);
        }
        Ok(())
    }

    fn finish(self, case: &Case) {
        for (key, _) in self.stated {
            let compared = self.compared.contains(&key);
            case.check(format!("attended {key} was not compared"), compared);
        }
    }
}

/// Source and position of each frame, in slot order.
fn frames(slots: &[Slot], queries: (i64, usize), case: &Case) -> Result<Frames> {
    let per_frame: usize = number(&case.meta, "tokens_per_frame")?;
    let mut found = Frames {
        source_frames: Vec::new(),
        positions: Vec::new(),
        query_positions: (queries.0..).take(queries.1).collect(),
    };
    for tokens in slots.chunks(per_frame) {
        let source = |slot: &Slot| match slot.made {
            Made::Memory(number) => -1 - i64::from(number),
            Made::Frame | Made::Copy | Made::Average => slot.frame as i64,
        };
        let alike = |slot: &Slot| (source(slot), slot.position) == (source(&tokens[0]), tokens[0].position);
        if tokens.len() != per_frame || !tokens.iter().all(alike) {
            bail!("the slots are not whole frames");
        }
        found.source_frames.push(source(&tokens[0]));
        found.positions.push(tokens[0].position);
    }
    Ok(found)
}

/// The keys, rotated `shift` frames later than the cache has them.
fn shifted(seen: &Seen, shift: i64) -> Result<Tensor> {
    if shift == 0 {
        return Ok(seen.rotated.clone());
    }
    let positions = seen.slots.iter().map(|slot| TokenPosition {
        time: slot.position + shift,
        row: slot.row,
        column: slot.column,
    });
    let angles = Rope::new(seen.raw.dim(2)?).angles(positions, seen.raw.device())?;
    Ok(kernels::rotate(&seen.raw, &angles.cos, &angles.sin)?)
}

/// Classes that were found, and patches that were chosen after each chunk.
fn compare_heads(case: &Case, cache: &KvCache, choices: &[PatchChoice]) -> Result<()> {
    let device = candle_core::Device::Cpu;
    if case.has("head_class") {
        let classes = cache.head_classes().context("no classes were found")?;
        case.exact(
            "head_class",
            &classes.iter().flatten().map(|class| *class as i64).collect::<Vec<_>>(),
        );
        let shares: Vec<f32> = cache
            .head_shares()
            .iter()
            .flatten()
            .flatten()
            .map(|share| *share as f32)
            .collect();
        let shape = (classes.len(), classes[0].len(), 3);
        case.close("shares", &Tensor::from_vec(shares, shape, &device)?, TOKENS);
    }
    if case.has("patches_kept") {
        let kept = choices
            .iter()
            .flat_map(|choice| choice.kept.iter().map(|patch| *patch as i64));
        case.exact("patches_kept", &kept.collect::<Vec<_>>());
        let scores: Vec<f32> = choices.iter().flat_map(|choice| choice.scores.clone()).collect();
        let shape = (choices.len(), scores.len() / choices.len().max(1));
        case.close("patch_scores", &Tensor::from_vec(scores, shape, &device)?, TOKENS);
    }
    Ok(())
}

/// All network calls: position in the window, and timestep.
fn compare_calls(case: &Case, calls: &[Call], setup: &Setup) {
    let chunk = setup.settings.chunk;
    let relative = |call: &Call| {
        let begins = if call.chunk < setup.native {
            0
        } else {
            (call.chunk + 1).saturating_sub(CHUNKS_SEEN) * chunk
        };
        call.position - begins as i64
    };
    let found: Vec<i64> = calls
        .iter()
        .flat_map(|call| [relative(call), call.timestep.round() as i64])
        .collect();
    case.exact("calls", &found);
}
