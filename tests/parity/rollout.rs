//! Kind `rollout`: whole videos through the chunk loop, with the cache's events.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use deepforcing::{
    cache::{Event, KvCache, OnEvent, Placement, Plan, Policy, Scorer, Selection, Slot},
    rollout::sampler::SamplerSettings,
    rollout::{ChunkLoop, Progress, PromptChange, RecordedNoise, Rollout, RolloutSettings},
};

use super::{
    Case, number, tolerance,
    transformer::{compare_cache, load_model},
};

/// Selections, positions and keys must agree closer than latents at the end of a rollout.
const EVENT_TOLERANCE: f64 = 1e-5;

pub fn run(case: &Case) -> Result<()> {
    let (model, tolerance) = (load_model(case)?, tolerance(case, 1e-4));
    let pipeline = &case.meta["pipeline"];
    let (height, width): (usize, usize) = serde_json::from_value(case.meta["latent_hw"].clone())?;
    let (frames, chunk): (usize, usize) = (
        number(pipeline, "generated_frames")?,
        number(pipeline, "frames_per_chunk")?,
    );
    let given = match case.has("initial_latent") {
        true => Some(case.input("initial_latent")?),
        false => None,
    };
    let total = frames + given.as_ref().map_or(0, |g| g.dims()[0]);
    let alone = pipeline["independent_first_frame"].as_bool().unwrap_or(false);
    let policy = policy(case, chunk, alone, total)?;
    let settings = RolloutSettings {
        frames,
        chunk,
        first_frame_alone: alone,
        height,
        width,
        sampler: sampler(pipeline)?,
        policy,
        seed: 0,
        first_position: 0,
        fill_last: true,
    };
    let context = |name: &str| -> Result<_> { Ok(Arc::new(model.prompt_context(&case.input(name)?)?)) };
    let mut prompts = vec![PromptChange {
        frame: 0,
        context: context("prompt_embeds")?,
    }];
    if let Some(frame) = pipeline["switch_frame"].as_u64() {
        prompts.push(PromptChange {
            frame: frame as usize,
            context: context("prompt_embeds_2")?,
        });
    }
    let noise = RecordedNoise {
        initial: case.input("noise")?,
        renoise: case.has("renoise").then(|| case.input("renoise")).transpose()?,
    };
    let mut rollout = Rollout::new(model, settings, prompts, given, Box::new(noise))?;
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = events.clone();
    let observer = OnEvent(move |event: Event<'_>| {
        if let Ok(mut log) = log.lock() {
            log.push(Seen::of(&event));
        }
    });
    rollout.cache_mut().set_observer(Some(Box::new(observer)));

    let (mut latents, mut estimates) = (Vec::new(), Vec::new());
    loop {
        let mut steps: Vec<Tensor> = Vec::new();
        let mut listen = |progress: Progress<'_>| {
            if let Progress::Step { x0, .. } = progress {
                steps.push(x0.clone());
            }
        };
        let Some(chunk) = rollout.next_chunk(&mut listen)? else {
            break;
        };
        if !steps.is_empty() {
            estimates.push(Tensor::stack(&steps, 0)?);
        }
        latents.push(chunk.latents);
    }
    case.close("expected.latents", &Tensor::cat(&latents, 0)?, tolerance);
    compare_estimates(case, &Tensor::cat(&estimates, 1)?, chunk, tolerance)?;
    compare_cache(case, "expected.final_kv", rollout.cache(), tolerance)?;
    let events = events.lock().map_err(|_| anyhow::anyhow!("a probe panicked"))?;
    compare_events(case, &events, rollout.cache(), &policy)
}

fn sampler(pipeline: &serde_json::Value) -> Result<SamplerSettings> {
    Ok(SamplerSettings {
        steps: serde_json::from_value(pipeline["denoising_steps_raw"].clone())?,
        first_chunk_steps: None,
        shift: number(pipeline, "timestep_shift")?,
        warp: pipeline["warp"].as_bool().unwrap_or(true),
        context_noise: number(pipeline, "context_noise")?,
    })
}

/// The policy that a case states. Built directly: cases that show quirks of the release break the rules on purpose.
fn policy(case: &Case, chunk: usize, first_frame_alone: bool, total: usize) -> Result<Policy> {
    let stated = &case.meta["cache"];
    let name = stated["policy"].as_str().context("the case names no policy")?;
    let frames = |key: &str| number::<usize>(stated, key);
    let quirk = case.meta.get("quirk").is_some();
    let literal = stated["first_delta_constant"].as_i64();
    let paper = name.starts_with("paper") || stated["positions"] == "paper";
    let window = stated["window_frames"].as_i64().context("no window_frames")?;
    if window < 0 {
        return Ok(Policy::whole(total.max(chunk)));
    }
    let (window, sink) = (window as usize, frames("sink_frames")?);
    // A case without budget and recent compresses nothing, whatever its name says.
    let compresses = stated["budget_frames"].is_u64() && stated["recent_frames"].is_u64();
    let kept = Policy {
        sink,
        ..Policy::last(window)
    };
    let placed = |policy: Policy, first_shift: Option<i64>| -> Result<Policy> {
        let placement = match (paper, quirk, first_shift) {
            (true, ..) => Placement::Consecutive,
            (false, true, Some(first_shift)) => Placement::Official {
                shift: first_shift - first_sink_place(&policy, chunk, first_frame_alone)?,
            },
            _ => Placement::Official { shift: 0 },
        };
        Ok(Policy { placement, ..policy })
    };
    if compresses {
        let budget = frames("budget_frames")?;
        let selection = Some(Selection {
            budget,
            recent: frames("recent_frames")?,
            reuse_limit: stated["topc_max_reuse"].as_u64().unwrap_or(0) as u32,
            scorer: Scorer::Both,
        });
        let literal = literal.map(|literal| literal - budget as i64);
        return placed(Policy { selection, ..kept }, literal);
    }
    match name {
        _ if name.contains("deep sink") || name.contains("deep-sink") || paper => placed(kept, Some(0)),
        _ if name.starts_with("fifo") => Ok(kept),
        _ => bail!("no policy goes by `{name}`"),
    }
}

/// Where the first event of a video places the sink. The release moves the sink by a constant there, wherever it comes
/// to lie, and later by how far its place moved: so it stays off by the same.
fn first_sink_place(policy: &Policy, chunk: usize, first_frame_alone: bool) -> Result<i64> {
    let (mut held, mut frames) = (0, if first_frame_alone { 1 } else { chunk });
    // Until the first event all frames are held: the next chunk starts after them.
    loop {
        if let Some(plan) = Plan::make(policy, held, frames, 1)? {
            let tail = plan.select.min(plan.candidates.len()) + plan.total - plan.candidates.end;
            return Ok(held as i64 - (tail + policy.sink) as i64);
        }
        held += frames;
        frames = chunk;
    }
}

/// Clean estimates `[step, generated frame, C, H, W]`, whole or in the excerpts that a case stores.
fn compare_estimates(case: &Case, estimates: &Tensor, chunk: usize, tolerance: f64) -> Result<()> {
    let excerpts = [
        ("expected.x0", estimates.clone()),
        ("expected.x0_first_step", estimates.get(0)?),
        ("expected.x0_head", {
            let frames = (2 * chunk).min(estimates.dim(1)?);
            estimates.narrow(1, 0, frames)?
        }),
    ];
    for (name, tensor) in excerpts {
        if case.has(name) {
            case.close(name, &tensor.contiguous()?, tolerance);
        }
    }
    Ok(())
}

/// What is compared of an event.
struct Seen {
    layer: usize,
    start: u64,
    total: usize,
    scores: Option<Vec<f32>>,
    kept: Vec<i64>,
    keys: Option<Tensor>,
    slots: Vec<Slot>,
    sink: usize,
}

impl Seen {
    fn of(event: &Event<'_>) -> Self {
        Self {
            layer: event.layer,
            start: event.pass.start,
            total: event.total,
            scores: event.scores.map(<[f32]>::to_vec),
            kept: event.kept.iter().map(|i| *i as i64).collect(),
            keys: event.cache.view().and_then(|(keys, _)| Ok(keys.copy()?)).ok(),
            slots: event.cache.slots().to_vec(),
            sink: event.plan.sink,
        }
    }
}

fn compare_events(case: &Case, seen: &[Seen], cache: &KvCache, policy: &Policy) -> Result<()> {
    let layers = cache.layers().len();
    let stated = case.meta["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    // The release counts an overflow as an event once the sink moves; the first one of Deep Sink alone leaves it at 0.
    let deep_sink = policy.moves_keys() && policy.selection.is_none();
    let still = |event: &&Seen| deep_sink && event.slots[0].position == 0;
    let seen: Vec<&Seen> = seen.iter().filter(|event| !still(event)).collect();
    let starts: Vec<u64> = seen.iter().filter(|e| e.layer == 0).map(|e| e.start).collect();
    if stated.is_empty() {
        // Policies without compression state no events, however often they drop tokens.
        let compresses = policy.selection.is_some();
        case.check(
            format!("compressions at {starts:?}, none expected"),
            !compresses || starts.is_empty(),
        );
        return Ok(());
    }
    let expected: Vec<u64> = stated
        .iter()
        .filter_map(|e| e.get("chunk_start_frame").or(e.get("frame")).and_then(|v| v.as_u64()))
        .collect();
    case.check(
        format!("events at {starts:?}, expected {expected:?}"),
        starts == expected,
    );
    for (number, event) in seen.iter().enumerate() {
        let (index, layer) = (number / layers, event.layer);
        if let Some(stated) = stated.get(index) {
            compare_counts(case, index, event, stated);
        }
        let name = |what: &str| format!("event.{index}.{layer}.{what}");
        let slots = |f: fn(&Slot) -> i64| event.slots.iter().map(f).collect::<Vec<_>>();
        let tracked: Vec<i64> = event
            .slots
            .iter()
            .enumerate()
            .map(|(i, slot)| tracked_frame(policy, event, i, slot))
            .collect();
        for (what, values) in [
            ("keep", event.kept.clone()),
            ("reuse_after", slots(|s| s.reuses as i64)),
            ("position", slots(|s| s.position)),
            ("origin_frame", slots(|s| s.frame as i64)),
            ("row", slots(|s| s.row as i64)),
            ("column", slots(|s| s.column as i64)),
            ("tracked_frame", tracked),
        ] {
            if case.has(&name(what)) {
                case.exact(&name(what), &values);
            }
        }
        if let (Some(keys), true) = (&event.keys, case.has(&name("keys_after"))) {
            case.close(&name("keys_after"), keys, EVENT_TOLERANCE);
        }
        if let (Some(scores), true) = (&event.scores, case.has(&name("scores"))) {
            let scores = Tensor::new(scores.as_slice(), &candle_core::Device::Cpu)?;
            case.close(&name("scores"), &scores, EVENT_TOLERANCE);
        }
    }
    Ok(())
}

/// The frame that the release believes a token to be at: in its quirks the sink is elsewhere.
fn tracked_frame(policy: &Policy, event: &Seen, index: usize, slot: &Slot) -> i64 {
    match policy.placement {
        Placement::Official { shift } if index < event.sink => slot.position - shift,
        _ => slot.position,
    }
}

/// Compares what `meta.json` states of an event in numbers.
fn compare_counts(case: &Case, index: usize, event: &Seen, stated: &serde_json::Value) {
    let check = |what: &str, found: i64| {
        if let Some(expected) = stated[what].as_i64() {
            case.check(
                format!("event {index}: {what} {found}, expected {expected}"),
                found == expected,
            );
        }
    };
    check("tokens_before", event.total as i64);
    check("sink_tokens", event.sink as i64);
    if let Some(kept) = stated["kept_per_layer"].get(event.layer).and_then(|v| v.as_i64()) {
        case.check(
            format!("event {index}: kept {}", event.kept.len()),
            kept == event.kept.len() as i64,
        );
    }
    if let Some(slot) = event.slots.first() {
        check("s_sink", slot.position);
    }
    if let Some(slot) = event.slots.get(event.sink) {
        check("s_top", slot.position);
    }
}
