//! Kinds of Matrix-Game 2.0: the action module alone, a pass, whole videos, and the image that a world begins with.

use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::Tensor;
use deepforcing::{
    cache::{FrameWindow, KvCache, Pass, Policy, Write},
    checkpoint::{Checkpoint, Weights},
    rollout::{
        ActionRows, ChunkLoop, EncodedImage, ImageLatents, Progress, PromptChange, RecordedImage, RecordedNoise,
        Rollout, RolloutSettings, Script, World,
        sampler::{self, SamplerSettings, Schedule},
        world::frame_actions,
    },
    transformer::{
        CausalWan, FrameConditions, Observer, PromptContext, TransformerConfig, WanConfigFile,
        action::{ActionConfig, ActionInputs, ActionModule},
        image::{
            ClipConfig, ClipVision,
            picture::{Extent, centre, cut_out, planes, resize},
        },
    },
    vae::WanEncoder,
};
use serde_json::Value;

use super::{Case, number};

/// Of whole tensors: what a case allows of a single number is more.
fn tolerance(case: &Case) -> f64 {
    case.meta["tolerance"]["atol"].as_f64().unwrap_or(1e-4)
}

fn weights(case: &Case) -> Result<Weights> {
    let file = case.meta["weights"].as_str().context("meta.json names no weights")?;
    let checkpoint = Checkpoint::open(&case.file(file))?;
    Ok(Weights::from_checkpoint(
        checkpoint,
        case.compute.dtype,
        &case.compute.device,
    ))
}

/// `[1, channels, frames, height, width]` as the loop has it, `[frames, channels, height, width]`.
fn by_frame(stored: &Tensor) -> Result<Tensor> {
    Ok(stored.squeeze(0)?.transpose(0, 1)?.contiguous()?)
}

/// The other way round.
fn by_channel(found: &Tensor) -> Result<Tensor> {
    Ok(found.transpose(0, 1)?.contiguous()?.unsqueeze(0)?)
}

/// The rows of a case, one per picture.
fn rows(case: &Case) -> Result<ActionRows> {
    let read = |name: &str| -> Result<Vec<Vec<f32>>> { Ok(case.input(name)?.squeeze(0)?.to_vec2()?) };
    let mouse = if case.has("mouse_cond") {
        Some(read("mouse_cond")?.into_iter().map(|row| [row[0], row[1]]).collect())
    } else {
        None
    };
    Ok(ActionRows::new(read("keyboard_cond")?, mouse)?)
}

/// A window of frames as the reference keeps it: mouse `[places, frames, heads, 64]`, keyboard `[1, frames, heads, 64]`.
fn as_stored(held: &Tensor, heads: usize) -> Result<Tensor> {
    let (frames, items, dim) = held.dims3()?;
    let held = held.reshape((frames, items / heads, heads, dim))?;
    Ok(held.transpose(0, 1)?.contiguous()?)
}

/// Compares the caches of a module with those that end in `suffix`.
fn compare_windows(case: &Case, config: &ActionConfig, windows: &[FrameWindow], suffix: &str) -> Result<()> {
    let names = ["mouse", "keyboard"];
    let names = &names[usize::from(!config.mouse)..];
    for (name, window) in names.iter().zip(windows) {
        let (keys, values) = window.view()?;
        for (what, found) in [("k", keys), ("v", values)] {
            let stored = format!("final_{name}_{what}{suffix}");
            if case.has(&stored) {
                case.close(&stored, &as_stored(&found, config.heads)?, tolerance(case));
            }
        }
    }
    Ok(())
}

/// What the sizes of a module are, next to what the case says of them.
fn check_config(case: &Case, config: &ActionConfig) -> Result<()> {
    let stated = &case.meta["action_config"];
    let keys: usize = number(stated, "keyboard_dim_in")?;
    let (heads, key_dim): (usize, usize) = (number(stated, "heads_num")?, number(stated, "hidden_size")?);
    let mouse: bool = number(stated, "enable_mouse")?;
    case.check(
        format!("{config:?} read from the tensors"),
        (config.keys, config.heads, config.key_dim, config.mouse) == (keys, heads, key_dim, mouse),
    );
    case.check(
        format!("modules in blocks {:?}", config.blocks),
        config.blocks == number::<Vec<usize>>(stated, "blocks")?,
    );
    Ok(())
}

pub fn run_action(case: &Case) -> Result<()> {
    let stated = &case.meta["action_config"];
    let (heads, width): (usize, usize) = (number(stated, "heads_num")?, number(stated, "keyboard_hidden_dim")?);
    let config = ActionConfig {
        blocks: vec![0],
        keys: number(stated, "keyboard_dim_in")?,
        mouse: number(stated, "enable_mouse")?,
        key_dim: number(stated, "hidden_size")?,
        heads,
        head_dim: width / heads,
    };
    let compute = &case.compute;
    let module = ActionModule::new(&config, number(stated, "img_hidden_size")?, &weights(case)?)?;
    let (window, grid): (usize, Vec<usize>) = (number(&case.meta, "local_attn_size")?, number(&case.meta, "grid")?);
    let (frames, places) = (grid[0], grid[1] * grid[2]);
    let window = |items| FrameWindow::new(window, items, config.head_dim, compute.dtype, &compute.device);
    let mut windows = config
        .items(places)
        .into_iter()
        .map(window)
        .collect::<Result<Vec<_>, _>>()?;
    let (x, rows, mut out) = (case.input("x")?, rows(case)?, Vec::new());
    for chunk in 0..x.dim(0)? {
        let start = chunk * frames;
        let actions = frame_actions(&rows, start, frames)?;
        let place = (compute.dtype, &compute.device);
        let inputs = ActionInputs::new(&config, &actions, start as u64, frames, place)?;
        let pass = Pass {
            start: start as u64,
            frames,
            write: Write::Append,
            position: start as i64,
            clean: false,
        };
        let x = x.get(chunk)?.squeeze(0)?.to_dtype(compute.dtype)?;
        out.push(module.forward(&x, &inputs, pass, &mut windows)?.unsqueeze(0)?);
    }
    case.close("out", &Tensor::stack(&out, 0)?, tolerance(case));
    compare_windows(case, &config, &windows, "")
}

/// The network of a case, checked against what `meta.json` says of it.
fn load_model(case: &Case) -> Result<Arc<CausalWan>> {
    let (weights, stated) = (weights(case)?, &case.meta["model"]);
    // One case leaves the sizes to the one whose weights it shares.
    let heads = stated["num_heads"].as_u64().map_or(2, |heads| heads as usize);
    let file = WanConfigFile {
        num_heads: Some(heads),
        ..WanConfigFile::default()
    };
    let config = TransformerConfig::from_weights(&weights, &file)?;
    for (found, name) in [
        (config.in_channels, "in_dim"),
        (config.out_channels, "out_channels"),
        (config.context_dim, "clip_dim"),
        (config.layers, "num_layers"),
    ] {
        if !stated.is_null() {
            let expected = number::<usize>(stated, name)?;
            case.check(format!("{name} read from shapes is {found}"), found == expected);
        }
    }
    check_config(case, config.actions.as_ref().context("the network reads no actions")?)?;
    Ok(Arc::new(CausalWan::new(config, weights)?))
}

/// What a whole video is made under.
fn image_context(case: &Case, model: &CausalWan) -> Result<PromptContext> {
    Ok(model.prompt_context(&case.input("visual_context")?.squeeze(0)?)?)
}

pub fn run_forward(case: &Case) -> Result<()> {
    let model = load_model(case)?;
    let tokens = model.context_tokens(&case.input("visual_context")?.squeeze(0)?)?;
    case.close("img_context", &tokens.unsqueeze(0)?, tolerance(case));
    let noisy = by_frame(&case.input("noisy")?)?;
    let (frames, _, height, width) = noisy.dims4()?;
    let timesteps: Vec<f32> = case.input("timestep")?.flatten_all()?.to_vec1()?;
    let time: Vec<f64> = timesteps.iter().map(|t| f64::from(*t)).collect();
    let context = image_context(case, &model)?.of_frames(FrameConditions {
        latents: Some(by_frame(&case.input("cond_concat")?)?),
        actions: Some(frame_actions(&rows(case)?, 0, frames)?),
    });
    let shape = model.cache_shape(height, width, frames);
    let mut cache = KvCache::new(Policy::last(6), shape, 0, model.dtype(), model.device())?;
    model.add_action_windows(&mut cache, 6)?;
    let mut seen = |name: &str, value: &Tensor| {
        let stored = name.replacen("block.", "block_out.", 1);
        if case.has(&stored) {
            match value.unsqueeze(0) {
                Ok(value) => case.close(&stored, &value, tolerance(case)),
                Err(error) => case.fail(error.to_string()),
            }
        }
    };
    let mut observer = Observer::new(&mut seen);
    let time = model.time_embedding(&time)?;
    let flow = model.forward(&noisy, &time, &context, 0, &mut cache, &mut observer)?;
    case.close("flow", &by_channel(&flow)?, tolerance(case));
    let schedule = Schedule::new(5.0);
    let sigmas: Vec<f32> = timesteps.iter().map(|t| schedule.sigma_of(*t)).collect();
    let x0 = sampler::flow_to_x0(&noisy, &flow, &sigmas)?;
    case.close("x0", &by_channel(&x0)?, tolerance(case));
    Ok(())
}

fn sampler_of(schedule: &Value) -> Result<SamplerSettings> {
    Ok(SamplerSettings {
        steps: number(schedule, "denoising_step_list")?,
        first_chunk_steps: None,
        shift: number(schedule, "timestep_shift")?,
        warp: true,
        context_noise: number(schedule, "context_noise")?,
    })
}

/// Numbers of a cache after a call: where its frames end, and how many are held.
fn counters(cache: &KvCache, config: &ActionConfig) -> [f64; 6] {
    let end = cache.end().unwrap_or(0) as usize;
    let tokens = cache.layers()[0].slots().len();
    let windows = cache.frame_windows(config.blocks[0]);
    let held = |window: Option<&FrameWindow>| window.and_then(|w| w.view().ok()).map_or(0, |(keys, _)| keys.dims()[0]);
    let mouse = if config.mouse { windows.first() } else { None };
    let ends = |held: usize| if held > 0 { end as f64 } else { 0.0 };
    let (keyboard, mouse) = (held(windows.last()), held(mouse));
    [
        (end * cache.shape().tokens_per_frame()) as f64,
        tokens as f64,
        ends(keyboard),
        keyboard as f64,
        ends(mouse),
        mouse as f64,
    ]
}

pub fn run_rollout(case: &Case) -> Result<()> {
    let model = load_model(case)?;
    let config = model.config().actions.clone().context("the network reads no actions")?;
    let initial = by_frame(&case.input("noise")?)?;
    let (frames, _, height, width) = initial.dims4()?;
    let chunk = case.meta["frames_per_chunk"].as_u64().unwrap_or(3) as usize;
    let window: usize = number(&case.meta, "local_attn_size")?;
    let policy = Policy {
        sink: number(&case.meta, "sink_size")?,
        ..Policy::last(window)
    };
    let sampler = sampler_of(&case.meta["schedule"])?;
    let steps = Schedule::new(sampler.shift).denoising_steps(&sampler.steps, sampler.warp);
    let told: Vec<f64> = steps.iter().map(|step| f64::from(step.timestep)).collect();
    let warped: Vec<f64> = number(&case.meta["schedule"], "warped_timesteps")?;
    case.check(format!("timesteps {told:?}"), told == warped);
    let settings = RolloutSettings {
        frames,
        chunk,
        first_frame_alone: false,
        height,
        width,
        sampler,
        policy,
        seed: 0,
        first_position: 0,
        fill_last: true,
    };
    let context = Arc::new(image_context(case, &model)?);
    let noise = RecordedNoise {
        initial,
        renoise: Some(renoise(&case.input("renoise")?)?),
    };
    let (image, actions) = (by_frame(&case.input("cond_concat")?)?, rows(case)?);
    let prompts = vec![PromptChange {
        frame: 0,
        context: context.clone(),
    }];
    let script = Script::new(frames, prompts)?.with_actions(actions.clone());
    let world = World {
        image: Box::new(RecordedImage(image.clone())),
        action_window: window,
    };
    let clean = model.time_embedding(&[settings.sampler.context_noise])?;
    let rollout = Rollout::directed(model.clone(), settings, Box::new(script), None, Box::new(noise))?;
    let mut rollout = rollout.of_world(world)?;
    let (mut latents, mut estimates, mut flows, mut calls) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    loop {
        let start = latents.len() * chunk;
        let mut steps: Vec<Tensor> = Vec::new();
        let mut listen = |progress: Progress<'_>| {
            if let Progress::Step { x0, .. } = progress {
                steps.push(x0.clone());
            }
        };
        let Some(done) = rollout.next_chunk(&mut listen)? else {
            break;
        };
        for time in told.iter().take(steps.len()).chain([&0.0]) {
            let tokens = (start * rollout.cache().shape().tokens_per_frame()) as f64;
            let counted = counters(rollout.cache(), &config);
            calls.push([&[tokens, *time][..], &counted].concat());
        }
        estimates.push(Tensor::stack(&steps, 0)?.transpose(1, 2)?.contiguous()?);
        rollout.write_back(&mut |_| ())?;
        // The same pass once more writes the same and gives the flow that the reference stores.
        let again = context.of_frames(FrameConditions {
            latents: Some(image.narrow(0, start, chunk)?.contiguous()?),
            actions: Some(frame_actions(&actions, start, chunk)?),
        });
        let (cache, silent) = (rollout.cache_mut(), &mut Observer::silent());
        let flow = model.forward(&done.latents, &clean, &again, start as u64, cache, silent)?;
        flows.push(flow.transpose(0, 1)?.contiguous()?);
        latents.push(done.latents);
    }
    case.close("latents", &by_channel(&Tensor::cat(&latents, 0)?)?, tolerance(case));
    for (name, found) in [("x0_steps", &estimates), ("flow_context_pass", &flows)] {
        if case.has(name) {
            case.close(name, &Tensor::stack(found, 0)?, tolerance(case));
        }
    }
    compare_tokens(case, rollout.cache())?;
    for block in &config.blocks {
        compare_windows(
            case,
            &config,
            rollout.cache().frame_windows(*block),
            &format!(".{block}"),
        )?;
    }
    compare_calls(case, &calls)
}

/// `[chunk, step, channels, frames, height, width]` as [`RecordedNoise`] has it, `[step, frames, channels, …]`.
fn renoise(stored: &Tensor) -> Result<Tensor> {
    let chunks = (0..stored.dim(0)?).map(|chunk| stored.get(chunk)?.transpose(1, 2)?.contiguous());
    Ok(Tensor::cat(&chunks.collect::<candle_core::Result<Vec<_>>>()?, 1)?)
}

fn compare_tokens(case: &Case, cache: &KvCache) -> Result<()> {
    for (layer, tokens) in cache.layers().iter().enumerate() {
        let (keys, values) = tokens.view()?;
        for (what, found) in [("k", keys), ("v", values)] {
            let stored = format!("final_{what}.{layer}");
            if case.has(&stored) {
                case.close(&stored, &found.unsqueeze(0)?, tolerance(case));
            }
        }
    }
    Ok(())
}

/// Compares the calls and what the caches counted after each; the reference rounds timesteps to four places.
fn compare_calls(case: &Case, found: &[Vec<f64>]) -> Result<()> {
    let Some(stated) = case.meta.get("call_trace") else {
        return Ok(());
    };
    let rows: Vec<Vec<f64>> = number(stated, "rows")?;
    case.check(
        format!("{} calls, expected {}", found.len(), rows.len()),
        found.len() == rows.len(),
    );
    for (i, (found, expected)) in found.iter().zip(&rows).enumerate() {
        let same = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3);
        case.check(format!("call {i}: {found:?}, expected {expected:?}"), same);
    }
    Ok(())
}

pub fn run_clip(case: &Case) -> Result<()> {
    let (weights, stated) = (weights(case)?, &case.meta["config"]);
    let config = ClipConfig::from_weights(&weights, Some(number(stated, "num_heads")?))?;
    for (found, name) in [
        (config.pixels(), "image_size"),
        (config.patch, "patch_size"),
        (config.dim, "dim"),
        (config.layers, "num_layers"),
    ] {
        let expected = number::<usize>(stated, name)?;
        case.check(format!("{name} read from shapes is {found}"), found == expected);
    }
    let file = case.meta["weights"].as_str().context("meta.json names no weights")?;
    Checkpoint::open(&case.file(file))?.require(&config.expected_tensors()?, &[])?;
    let picture = case.input("video")?.squeeze(0)?.squeeze(1)?;
    let tower = ClipVision::new(config.clone(), &weights)?;
    let prepared = tower.prepare(&picture)?;
    case.close("preprocessed", &prepared.unsqueeze(0)?, tolerance(case));
    case.close(
        "visual_context",
        &tower.encode(&prepared)?.unsqueeze(0)?,
        tolerance(case),
    );
    let whole = ClipConfig {
        used: config.layers,
        ..config
    };
    let all = ClipVision::new(whole, &weights)?.encode(&prepared)?;
    case.close("all_layers", &all.unsqueeze(0)?, tolerance(case));
    Ok(())
}

pub fn run_condition(case: &Case) -> Result<()> {
    let encoder = Arc::new(WanEncoder::new(&weights(case)?)?);
    let picture = case.input("image")?.squeeze(0)?.transpose(0, 1)?.contiguous()?;
    let frames: usize = number(&case.meta, "num_latent_frames")?;
    let mut image = EncodedImage::new(encoder, picture);
    // In the order of a rollout, then all at once.
    let mut parts = Vec::new();
    for first in (0..frames).step_by(3) {
        parts.push(image.frames(first, 3.min(frames - first))?);
    }
    let parts = Tensor::cat(&parts, 0)?;
    let all = image.frames(0, frames)?;
    let distance: f32 = (&parts - &all)?.abs()?.max_all()?.to_scalar()?;
    case.check("latents that were asked for twice", distance == 0.0);
    case.close("cond_concat", &by_channel(&all)?, tolerance(case));
    let latents = all.narrow(1, 4, all.dim(1)? - 4)?;
    case.close("img_cond", &by_channel(&latents.contiguous()?)?, tolerance(case));
    Ok(())
}

pub fn run_preprocess(case: &Case) -> Result<()> {
    let (height, width): (usize, usize) = number(&case.meta, "target")?;
    let target = Extent { width, height };
    for name in case.names() {
        let Some(name) = name.strip_suffix(".image_u8") else {
            continue;
        };
        let image = case.input(&format!("{name}.image_u8"))?;
        let (height, width, _) = image.dims3()?;
        let rgb: Vec<u8> = image.flatten_all()?.to_vec1()?;
        let cut = centre(Extent { width, height }, target);
        let part = cut_out(&rgb, width, cut);
        let stored = format!("{name}.crop_u8");
        let expected = case.input(&stored)?;
        let size = [cut.extent.height, cut.extent.width, 3];
        case.check(format!("{stored}: {size:?}"), expected.dims() == size);
        case.exact(&stored, &part.iter().map(|value| i64::from(*value)).collect::<Vec<_>>());
        // To the bit, though the case allows a level more or less.
        let found = planes(&resize(&part, cut.extent, target));
        let stored = format!("{name}.tensor");
        let expected: Vec<f32> = case.input(&stored)?.flatten_all()?.to_vec1()?;
        let worst = found
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        case.check(
            format!("{stored}: off by {worst}"),
            found.len() == expected.len() && worst < 1e-6,
        );
    }
    Ok(())
}
