//! The measurement itself.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    BenchError, Machine, Networks, ceiling,
    clock::{Clock, milliseconds},
    flops::Flops,
    loops,
    machine::{memory_now, peak_memory},
    report::{
        BenchReport, CacheWrites, ChunkTimes, ColdStart, FORMAT, Memory, ModelFacts, SideBySide, Steady, VideoFacts,
    },
    world::{still, world},
};
use crate::{
    Result,
    cache::{CacheObserver, CacheSettings, Interest, Moment, Pass},
    device::{Compute, Selection},
    render::pipeline::{self, Update},
    rollout::request::PictureSize,
    rollout::sampler::SamplerSettings,
    rollout::{CancelToken, ChunkLoop, Progress, PromptChange, Rollout, RolloutSettings, Script, SeededNoise},
    vae::{DecodeStream, SPATIAL_FACTOR, frames_to_rgb8, pictures_of_latents},
    video::{Form, VideoSettings, VideoWriter},
};

/// Chunks whose writes into the cache are measured one by one, after those whose stages are: one with an event and one
/// without in the steady state of Deep Forcing.
const WATCHED: usize = 2;

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchSettings {
    /// For the report.
    pub preset: String,
    pub random_weights: bool,
    pub vae: String,
    pub size: PictureSize,
    pub fps: u32,
    /// Latent frames of a chunk.
    pub chunk: usize,
    pub sampler: SamplerSettings,
    pub cache: CacheSettings,
    /// Latent frames that the action modules of a world remember.
    pub action_window: usize,
    /// Chunks to measure.
    pub chunks: usize,
    pub seed: u64,
    /// Whether pictures are encoded as H.264 (the file goes nowhere).
    pub encode: bool,
    /// Whether the stages are run side by side, too.
    pub side_by_side: bool,
    /// Whether what other loops do is measured, too.
    pub loops: bool,
}

/// Measures. `make` loads or makes the networks; `started` is when the command began; `tell` hears which part begins.
///
/// # Errors
/// On settings that cannot be, and on a device failure.
pub fn run(
    settings: &BenchSettings,
    selection: &Selection,
    started: Instant,
    make: impl FnOnce(&Compute) -> Result<Networks>,
    cancel: &CancelToken,
    mut tell: impl FnMut(&str),
) -> Result<BenchReport> {
    if settings.chunks < 2 {
        let chunks = settings.chunks;
        return Err(BenchError::TooFewChunks { chunks }.into());
    }
    let begun = Instant::now();
    let compute = selection.open()?;
    let opened = begun.elapsed();
    tell("loading the model");
    let mut clock = Clock::start(&compute)?;
    let networks = make(&compute)?;
    let loaded = clock.lap()?;
    let before_first = started.elapsed();
    tell("measuring matrix products");
    let ceiling = ceiling::measure(&compute)?;

    tell("measuring stage by stage");
    let mut stages = Stages::new(settings, &networks, &compute)?;
    let mut chunks = Vec::with_capacity(settings.chunks);
    for _ in 0..settings.chunks {
        if cancel.is_cancelled() {
            return Err(crate::Error::Cancelled);
        }
        chunks.push(stages.chunk()?);
    }
    let cache_writes = stages.watched(cancel)?;
    let cache_bytes = stages.rollout.cache().bytes() as u64;
    let prepare = stages.prepared;
    let encoder = stages.encoder();
    drop(stages);

    let steady_from = steady_from(&chunks);
    let side_by_side = match networks.decoder.as_ref().filter(|_| settings.side_by_side) {
        Some(decoder) => {
            tell("measuring all stages side by side");
            Some(all_together(
                settings,
                &networks,
                &compute,
                decoder.stream(),
                steady_from,
                encoder,
                cancel,
            )?)
        }
        None => None,
    };
    let loops = match settings.loops {
        true => Some(loops::measure(settings, &networks, &compute, cancel, &mut tell)?),
        false => None,
    };
    let first = chunks.first().map_or(0.0, ChunkTimes::all);
    let config = networks.model.config();
    Ok(BenchReport {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        features: features(),
        machine: Machine::this(selection),
        device: selection.kind().into(),
        dtype: selection.dtype_name().into(),
        model: ModelFacts {
            preset: settings.preset.clone(),
            random_weights: settings.random_weights,
            dim: config.dim,
            heads: config.heads,
            layers: config.layers,
            ffn_dim: config.ffn_dim,
            vae: settings.vae.clone(),
        },
        video: VideoFacts {
            width: settings.size.width,
            height: settings.size.height,
            chunk: settings.chunk,
            steps: settings.sampler.steps.clone(),
            tokens_per_frame: tokens_per_frame(settings),
        },
        cache: settings.cache,
        cold_start: ColdStart {
            device_seconds: opened.as_secs_f64(),
            load_seconds: loaded.as_secs_f64(),
            prepare_seconds: prepare.as_secs_f64(),
            first_picture_seconds: (before_first + prepare).as_secs_f64() + first / 1e3,
        },
        steady: steady(&chunks[steady_from..], ceiling.tflops),
        memory: memory(&chunks, steady_from, &compute, cache_bytes),
        ceiling,
        chunks,
        steady_from,
        cache_writes,
        side_by_side,
        loops,
    })
}

/// Optional parts of this build.
fn features() -> Vec<String> {
    let all = [
        ("ffmpeg", cfg!(feature = "ffmpeg")),
        ("bundled-model", cfg!(feature = "bundled-model")),
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
    ];
    all.into_iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| name.into())
        .collect()
}

pub(super) fn tokens_per_frame(settings: &BenchSettings) -> usize {
    let step = crate::rollout::request::SIZE_STEP;
    settings.size.height / step * (settings.size.width / step)
}

/// The settings of a rollout of so many latent frames.
pub(super) fn rollout_settings(settings: &BenchSettings, frames: usize) -> Result<RolloutSettings> {
    Ok(RolloutSettings {
        frames,
        chunk: settings.chunk,
        first_frame_alone: false,
        height: settings.size.height / SPATIAL_FACTOR,
        width: settings.size.width / SPATIAL_FACTOR,
        sampler: settings.sampler.clone(),
        policy: settings.cache.resolve(settings.chunk, frames)?,
        seed: settings.seed,
        first_position: 0,
        fill_last: true,
    })
}

/// A rollout of the settings, longer by the chunks that are watched.
fn rollout(settings: &BenchSettings, networks: &Networks, chunks: usize) -> Result<Rollout> {
    let frames = chunks * settings.chunk;
    let world = world(settings, &networks.model)?;
    let settings = rollout_settings(settings, frames)?;
    let context = Arc::new(networks.model.prompt_context(&networks.embedding)?);
    let prompts = vec![PromptChange { frame: 0, context }];
    let noise = Box::new(SeededNoise::new(settings.seed));
    let script = Script::new(frames, prompts)?.with_actions(still(networks.model.config(), frames)?);
    let rollout = Rollout::directed(networks.model.clone(), settings, Box::new(script), None, noise)?;
    match world {
        Some(world) => rollout.of_world(world),
        None => Ok(rollout),
    }
}

/// A video whose file goes nowhere.
fn writer(settings: &BenchSettings, compute: &Compute) -> Result<VideoWriter> {
    let video = VideoSettings {
        fps: settings.fps,
        gpu: compute.gpu(),
        ..VideoSettings::new(settings.size.width as u32, settings.size.height as u32)
    };
    Ok(VideoWriter::stream(std::io::sink(), Form::Mp4, video)?)
}

/// The stages of a video, run one after the other.
struct Stages<'a> {
    settings: &'a BenchSettings,
    networks: &'a Networks,
    compute: &'a Compute,
    rollout: Rollout,
    stream: Option<DecodeStream>,
    writer: Option<VideoWriter>,
    /// Tokens in the cache.
    held: usize,
    prepared: Duration,
}

impl<'a> Stages<'a> {
    fn new(settings: &'a BenchSettings, networks: &'a Networks, compute: &'a Compute) -> Result<Self> {
        let mut clock = Clock::start(compute)?;
        let rollout = rollout(settings, networks, settings.chunks + WATCHED)?;
        let prepared = clock.lap()?;
        let stream = networks.decoder.as_ref().map(|decoder| decoder.stream());
        let writer = match settings.encode && stream.is_some() {
            true => Some(writer(settings, compute)?),
            false => None,
        };
        Ok(Self {
            settings,
            networks,
            compute,
            rollout,
            stream,
            writer,
            held: 0,
            prepared,
        })
    }

    fn encoder(&self) -> Option<String> {
        self.writer.as_ref().map(|writer| writer.info().name.to_string())
    }

    /// The next chunk with the time of each stage.
    fn chunk(&mut self) -> Result<ChunkTimes> {
        let mut clock = Clock::start(self.compute)?;
        let (mut steps, mut cache_pass, mut failed) = (Vec::new(), 0.0, None);
        let mut progress = |progress: Progress<'_>| match clock.lap() {
            Ok(took) => match progress {
                Progress::Step { .. } => steps.push(milliseconds(took)),
                Progress::Cached { .. } => cache_pass = milliseconds(took),
                Progress::Switched { .. } => {}
            },
            Err(error) => failed = Some(error),
        };
        let chunk = self.rollout.next_chunk(&mut progress)?;
        self.rollout.write_back(&mut progress)?;
        if let Some(error) = failed {
            return Err(error);
        }
        let Some(chunk) = chunk else {
            return Err(crate::Error::Cancelled);
        };
        clock.lap()?;
        let (mut decode, mut transfer, mut encode) = (0.0, 0.0, 0.0);
        // Without a decoder, those that there would be.
        let end = chunk.plan.start + chunk.plan.frames;
        let pictures = pictures_of_latents(end) - pictures_of_latents(chunk.plan.start);
        if let Some(stream) = &mut self.stream {
            let decoded = stream.push(&chunk.latents)?;
            decode = milliseconds(clock.lap()?);
            let frames = frames_to_rgb8(&decoded)?;
            transfer = milliseconds(clock.lap()?);
            if let Some(writer) = &mut self.writer {
                frames.iter().try_for_each(|frame| writer.push(frame))?;
                writer.flush()?;
                encode = milliseconds(clock.lap()?);
            }
        }
        let before = self.held;
        self.held = self
            .rollout
            .cache()
            .layers()
            .first()
            .map_or(0, |layer| layer.slots().len());
        let queries = chunk.plan.frames * tokens_per_frame(self.settings);
        let config = self.networks.model.config();
        let forward = Flops::forward(config, queries, self.held).total();
        let pass = Flops::cache_pass(config, queries, self.held).total();
        let tflop = (steps.len() as f64 * forward + pass) / 1e12;
        let seconds = (steps.iter().sum::<f64>() + cache_pass) / 1e3;
        Ok(ChunkTimes {
            chunk: chunk.index,
            event: self.held < before + queries,
            attended: self.held as f64 / tokens_per_frame(self.settings) as f64,
            cache_pass,
            decode,
            transfer,
            encode,
            pictures,
            tflop,
            tflops: tflop / seconds.max(1e-9),
            device_bytes: self.compute.memory().map(|memory| memory.used),
            host_bytes: memory_now(),
            steps,
        })
    }

    /// Further chunks, of which the writes into the cache are measured.
    fn watched(&mut self, cancel: &CancelToken) -> Result<CacheWrites> {
        let mut writes = CacheWrites::default();
        for _ in 0..WATCHED {
            if cancel.is_cancelled() {
                return Err(crate::Error::Cancelled);
            }
            let times = Arc::new(Mutex::new(WriteTimes::default()));
            let (seen, compute) = (times.clone(), self.compute.clone());
            let stopwatch = Stopwatch { times: seen, compute };
            self.rollout.cache_mut().set_observer(Some(Box::new(stopwatch)));
            let chunk = self.chunk()?;
            self.rollout.cache_mut().set_observer(None);
            let times = times.lock().unwrap_or_else(PoisonError::into_inner);
            let first = Some(milliseconds(times.first));
            match chunk.event {
                true => writes.with_event = first,
                false => writes.without_event = first,
            }
            writes.again = Some(milliseconds(times.later) / chunk.steps.len().max(1) as f64);
        }
        Ok(writes)
    }
}

/// Measures the writing of each layer.
struct Stopwatch {
    times: Arc<Mutex<WriteTimes>>,
    compute: Compute,
}

impl CacheObserver for Stopwatch {
    fn interest(&self) -> Interest {
        Interest::default()
    }

    fn moment(&mut self, moment: Moment, pass: Pass) {
        // A failing device fails the pass itself.
        let _ = self.compute.synchronize();
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        match moment {
            Moment::Before => times.begun = Some(Instant::now()),
            Moment::After => times.add(pass.is_first()),
        }
    }
}

/// Time that writing all layers took.
#[derive(Default)]
struct WriteTimes {
    begun: Option<Instant>,
    first: Duration,
    later: Duration,
}

impl WriteTimes {
    fn add(&mut self, first: bool) {
        let took = self.begun.take().map_or(Duration::ZERO, |begun| begun.elapsed());
        match first {
            true => self.first += took,
            false => self.later += took,
        }
    }
}

/// The first chunk after the first that made room; without any, the second half.
fn steady_from(chunks: &[ChunkTimes]) -> usize {
    let event = chunks.iter().position(|chunk| chunk.event);
    let from = event.map_or(chunks.len() / 2, |event| event + 1);
    from.min(chunks.len() - 1)
}

fn steady(chunks: &[ChunkTimes], ceiling: f64) -> Steady {
    let count = chunks.len().max(1) as f64;
    let mean = |of: &dyn Fn(&ChunkTimes) -> f64| chunks.iter().map(of).sum::<f64>() / count;
    let denoise = mean(&ChunkTimes::denoise);
    let pictures = mean(&|chunk| chunk.pictures as f64);
    let tflops = mean(&|chunk| chunk.tflop) / (denoise / 1e3).max(1e-9);
    let per_second = |pictures: f64, time: f64| pictures / (time / 1e3).max(1e-9);
    Steady {
        chunks: chunks.len(),
        denoise,
        decode: mean(&|chunk| chunk.decode),
        transfer: mean(&|chunk| chunk.transfer),
        encode: mean(&|chunk| chunk.encode),
        tflops,
        of_ceiling: tflops / ceiling,
        fps: per_second(pictures, mean(&ChunkTimes::all)),
        denoise_fps: per_second(pictures, denoise),
    }
}

fn memory(chunks: &[ChunkTimes], from: usize, compute: &Compute, cache: u64) -> Memory {
    let growth = |of: &dyn Fn(&ChunkTimes) -> Option<u64>| {
        let (first, last) = (chunks.get(from).and_then(of)?, chunks.last().and_then(of)?);
        Some(last as i64 - first as i64)
    };
    let device = compute.memory();
    Memory {
        host_peak: peak_memory(),
        device_peak: device.map(|memory| memory.used_high),
        device_reserved_peak: device.map(|memory| memory.reserved_high),
        device_growth: growth(&|chunk| chunk.device_bytes),
        host_growth: growth(&|chunk| chunk.host_bytes),
        cache,
    }
}

/// The same video as `generate` makes it.
fn all_together(
    settings: &BenchSettings,
    networks: &Networks,
    compute: &Compute,
    stream: DecodeStream,
    steady_from: usize,
    encoder: Option<String>,
    cancel: &CancelToken,
) -> Result<SideBySide> {
    let rollout = rollout(settings, networks, settings.chunks)?;
    let mut writer = match &encoder {
        Some(_) => Some(writer(settings, compute)?),
        None => None,
    };
    let begun = Instant::now();
    let (mut steady_begun, mut steady_pictures) = (None, 0);
    let run = pipeline::Run::new(Box::new(rollout), stream, None);
    let rendered = pipeline::run(run, cancel, |update| {
        let Update::Pictures(batch) = update else { return Ok(()) };
        if let Some(writer) = &mut writer {
            batch.frames.iter().try_for_each(|frame| writer.push(frame))?;
            writer.flush()?;
        }
        match batch.chunk + 1 >= steady_from.max(1) {
            true if steady_begun.is_none() => steady_begun = Some(Instant::now()),
            true => steady_pictures += batch.frames.len(),
            false => {}
        }
        Ok(())
    })?;
    if cancel.is_cancelled() {
        return Err(crate::Error::Cancelled);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let steady_seconds = steady_begun.map_or(seconds, |begun| begun.elapsed().as_secs_f64());
    Ok(SideBySide {
        fps: steady_pictures as f64 / steady_seconds.max(1e-9),
        pictures: rendered.pictures,
        seconds,
        encoder,
    })
}
