//! From what is asked for to videos: the model, the jobs, and each video from its recipe, with rollout, decoding and
//! encoding side by side.
//!
//! | file | what it holds |
//! |---|---|
//! | [`session`] | which model, with which settings, on which device |
//! | [`jobs`] | recipes, names of files and starts of what is asked for |
//! | [`run`] | several videos with one load of the model |
//! | [`engine`] | the loaded model |
//! | [`pipeline`] | denoising and decoding side by side |
//! | [`decode`] | saved latents to a video |
//! | [`state`] | what is kept beside a video in the making, so that it can be continued |
//! | `world` | what a world needs in place of prompts |
//!
//! The caller hears of everything through [`Event`]s; nothing is printed here.
//!
//! ```no_run
//! use deepforcing::{
//!     config::{Environment, Layer, Layers},
//!     models::Locator,
//!     prompts::Scene,
//!     render::{Event, jobs::{Request, works}, run::Run, session::Session},
//!     rollout::CancelToken,
//! };
//!
//! let (cancel, mut observe) = (CancelToken::default(), |event: Event<'_>| {
//!     if let Event::Note(text) = event {
//!         eprintln!("{text}");
//!     }
//! });
//! let layers = Layers::load(Layer::default(), &Environment::of_process())?;
//! let session = Session::locate(&Locator::of_process(), &layers, false, &cancel, &mut observe)?;
//! let request = Request { scenes: vec![Scene::of_prompt("a quiet harbour")], ..Request::default() };
//! let works = works(&request, &session, &mut observe)?;
//! let (files, compute) = (session.files(&cancel, &mut observe)?, session.compute(&mut observe)?);
//! let mut run = Run::load(&files, &compute, works, &mut observe)?;
//! while let Some(made) = run.next(&cancel, &mut observe)? {
//!     println!("{}", made.work.job.target);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod decode;
pub mod engine;
mod event;
pub mod jobs;
pub mod pipeline;
pub mod run;
pub mod session;
pub mod speed;
pub mod state;
mod state_file;
mod state_slots;
pub(crate) mod world;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use candle_core::Tensor;

use crate::{
    Error, Result,
    device::Compute,
    metrics::{self, Measuring, Report},
    recipe::{Disclosure, Recipe},
    render::engine::Engine,
    render::pipeline::{Pictures, Update},
    render::state::{Opened, State, StateOptions, earlier_chunks},
    rollout::{CancelToken, ChunkLoop, LatentChunk, start::Given},
    trace::{TraceOptions, Tracing},
    vae::LATENT_CHANNELS,
    video::latents::LatentWriter,
    video::{Kept, Metadata, Target, VideoSettings, VideoSummary, VideoWriter, save_picture},
};

pub use event::{Event, InWork};

/// A video to make and where it goes.
pub struct Job {
    pub recipe: Recipe,
    pub target: Target,
    /// What the video begins with, as [`Engine::given`] gives it.
    pub given: Option<Given>,
    /// What the written files tell of the recipe.
    pub disclosure: Disclosure,
    /// Safetensors file for the latents.
    pub save_latents: Option<PathBuf>,
    /// PNG or JPEG file for the picture in the middle of the video.
    pub thumbnail: Option<PathBuf>,
    /// Measure the pictures on the way, with these options.
    pub metrics: Option<metrics::Options>,
    /// What is recorded of the cache.
    pub trace: Option<TraceOptions>,
    /// What is kept beside the video so that it can be continued, and whether it is.
    pub state: Option<StateOptions>,
    /// Whether existing files may be replaced.
    pub overwrite: bool,
}

impl Job {
    /// What may be told of the recipe in `file`, which needs one.
    fn told(&self, file: &'static str) -> Result<Recipe> {
        self.disclosure.of(&self.recipe).ok_or(Error::NothingToTell { file })
    }
}

/// A made video.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The finished file; `None` when the run was stopped before the first picture.
    pub summary: Option<VideoSummary>,
    /// Whether all that was asked for was made; false after a cancellation.
    pub complete: bool,
    pub times: Times,
    /// What was measured of the pictures, if [`Job::metrics`] asked for it.
    pub metrics: Option<Report>,
}

/// How long the stages of a video took. They overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Times {
    /// From the start of the rollout to the first pictures.
    pub first_pictures: Option<Duration>,
    /// Denoising, cache passes included.
    pub denoise: Duration,
    pub decode: Duration,
    pub encode: Duration,
    /// The whole video.
    pub total: Duration,
    /// Whether an earlier run made a part of it, so that these are the times of the rest.
    pub resumed: bool,
}

/// A video that could not be finished.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct RenderError {
    /// What went wrong.
    pub error: Box<Error>,
    /// What is on disk nevertheless.
    pub kept: Option<Kept>,
    /// Latents that are on disk nevertheless.
    pub kept_latents: Option<PathBuf>,
}

impl<E: Into<Error>> From<E> for RenderError {
    fn from(error: E) -> Self {
        Self {
            error: Box::new(error.into()),
            kept: None,
            kept_latents: None,
        }
    }
}

/// Makes the video of `job`; `cancel` ends it early, with what is there as a proper file.
///
/// # Errors
/// On wrong settings, a device failure or a file that cannot be written; says what is kept.
pub fn render(
    engine: &mut Engine,
    job: &Job,
    cancel: &CancelToken,
    mut observe: impl FnMut(Event<'_>),
) -> Result<Outcome, RenderError> {
    let started = Instant::now();
    let recipe = &job.recipe;
    let mut rollout = rollout(engine, job)?;
    let resumed = open_state(job, rollout.as_mut(), engine.compute())?;
    let mut keep = Keeper::open(job, engine.compute())?;
    let measuring = measuring(job)?;
    let trace = match &job.trace {
        Some(options) => {
            let made = (!job.target.is_stdout()).then(|| job.target.path());
            let video = options.video.clone().or(made);
            let (video, cache) = (video.as_deref(), rollout.cache_mut());
            let told = job.told("trace")?;
            Some(Tracing::start(options, &told, video, job.overwrite, cache)?)
        }
        None => None,
    };
    observe(Event::Begun {
        encoder: keep.video.info(),
        chunks: rollout.chunks().unwrap_or(0),
    });
    let (state, run) = match resumed {
        Some((state, continued)) => {
            if let Some(frames) = continued.frames {
                let of = recipe.video.latent_frames;
                observe(Event::Note(&format!("going on after {frames} of {of} latent frames")));
            }
            (Some(state), continued)
        }
        None => (None, Continued::default()),
    };
    let mut times = Times {
        resumed: run.frames.is_some(),
        ..Times::default()
    };
    let run = pipeline::Run {
        before: run.before,
        keeping: run.keeping,
        ..pipeline::Run::new(rollout, engine.decoder(), Some(recipe.video.pictures))
    };
    let outcome = pipeline::run(run, cancel, |update| {
        if let Some(reason) = state.as_ref().and_then(State::trouble) {
            observe(Event::Warning(&format!(
                "the state of the video is not kept any more: {reason}; the video goes on, but cannot be resumed after this"
            )));
        }
        observe(Event::Update(&update));
        match update {
            Update::Step { .. } => {}
            Update::Latents(done) => {
                times.denoise += done.took;
                keep.latents(&done.latents)?;
            }
            Update::Pictures(pictures) => {
                times.first_pictures.get_or_insert_with(|| started.elapsed());
                times.decode += pictures.took;
                let begun = Instant::now();
                keep.pictures(&pictures)?;
                let took = begun.elapsed();
                times.encode += took;
                observe(Event::Encoded(took));
                if let Some(measuring) = &measuring {
                    measuring.push(pictures.frames);
                }
            }
        }
        Ok(())
    });
    match outcome {
        Ok(rendered) => {
            let summary = keep.finish(job, rendered.complete)?;
            // A video that was stopped before its first picture has no measures.
            let measuring = measuring.filter(|_| summary.is_some());
            let metrics = measuring.map(Measuring::finish).transpose()?;
            trace.map_or(Ok(()), |trace| trace.finish(rendered.complete))?;
            // Not earlier: until now the video would be lost with the process.
            if let Some(state) = state {
                state.finish(!rendered.complete);
            }
            times.total = started.elapsed();
            Ok(Outcome {
                summary,
                complete: rendered.complete,
                times,
                metrics,
            })
        }
        Err(error) => {
            let failed = keep.failed(error);
            if let Some(state) = state {
                // What cannot be shown is not worth going on from.
                state.finish(failed.kept.is_some());
            }
            Err(failed)
        }
    }
}

/// The rollout of the job's video, at its beginning.
fn rollout(engine: &mut Engine, job: &Job) -> Result<Box<dyn ChunkLoop>> {
    let (recipe, given) = (&job.recipe, job.given.clone());
    let settings = recipe.rollout_settings()?;
    let Some(actions) = &recipe.actions else {
        return engine.rollout(recipe.rollout.kind, settings, &recipe.prompts, given);
    };
    let rows = actions.rows(recipe.video.latent_frames)?;
    let window = recipe.action_window(&settings.policy);
    engine.world(settings, given, rows, window)
}

/// What a run goes on from, and who keeps its state.
#[derive(Default)]
struct Continued {
    /// Latent frames made before.
    frames: Option<usize>,
    before: pipeline::Before<'static>,
    keeping: Option<Box<dyn pipeline::Keeping>>,
}

/// Opens the state of the job's video and takes `rollout` to where it was left.
fn open_state(job: &Job, rollout: &mut dyn ChunkLoop, compute: &Compute) -> Result<Option<(State, Continued)>> {
    let Some(options) = &job.state else { return Ok(None) };
    let Opened {
        state,
        keeping,
        earlier,
    } = State::open(options, &job.recipe, LATENT_CHANNELS)?;
    let mut continued = Continued {
        keeping: Some(keeping),
        ..Continued::default()
    };
    if let Some(earlier) = earlier {
        rollout.restore(&earlier.snapshot)?;
        let frames = earlier.snapshot.frame;
        let device = compute.device.clone();
        let chunks = earlier.latents.chunks(earlier_chunks(&job.recipe, frames)?)?;
        let on_device = move |chunk: Result<LatentChunk>| {
            let chunk = chunk?;
            let latents = chunk.latents.to_device(&device)?;
            Ok(LatentChunk { latents, ..chunk })
        };
        continued.frames = Some(frames);
        continued.before = pipeline::Before(Box::new(chunks.map(on_device)));
    }
    Ok(Some((state, continued)))
}

fn measuring(job: &Job) -> Result<Option<Measuring>> {
    let Some(options) = job.metrics else { return Ok(None) };
    let video = &job.recipe.video;
    let measuring = Measuring::start(video.width, video.height, video.fps.into(), options)?;
    Ok(Some(measuring))
}

/// The files that a video is written to.
struct Keeper {
    video: VideoWriter,
    recipe: Recipe,
    disclosure: Disclosure,
    latents: Option<LatentWriter>,
    thumbnail: Thumbnail,
}

impl Keeper {
    fn open(job: &Job, compute: &Compute) -> Result<Self> {
        let video = &job.recipe.video;
        let latents = match &job.save_latents {
            Some(path) => Some(LatentWriter::create(
                path,
                video.latent_height(),
                video.latent_width(),
                LATENT_CHANNELS,
                &job.told("latents")?.to_json(),
            )?),
            None => None,
        };
        let mut recipe = job.recipe.clone();
        let video = VideoWriter::create_described(&job.target, settings(job, compute), |encoder| {
            recipe.encoding.written_by(encoder);
            metadata(job.disclosure.of(&recipe))
        })?;
        Ok(Self {
            video,
            recipe,
            disclosure: job.disclosure,
            latents,
            thumbnail: Thumbnail::of(job),
        })
    }

    fn latents(&mut self, latents: &Tensor) -> Result<()> {
        match &mut self.latents {
            Some(writer) => Ok(writer.push(latents)?),
            None => Ok(()),
        }
    }

    fn pictures(&mut self, pictures: &Pictures) -> Result<()> {
        for frame in &pictures.frames {
            self.thumbnail.see(frame);
            self.video.push(frame)?;
        }
        Ok(self.video.flush()?)
    }

    /// The video comes first: a fault of what is kept besides must not cost it.
    fn finish(mut self, job: &Job, complete: bool) -> Result<Option<VideoSummary>, RenderError> {
        if self.video.frames() == 0 {
            return Ok(None);
        }
        let mut recipe = self.recipe.clone();
        if !complete {
            recipe.stopped_after(self.video.frames() as usize);
            self.video.set_metadata(metadata(self.disclosure.of(&recipe)));
        }
        let summary = self.video.finish_partial()?;
        if let Some(mut latents) = self.latents.take() {
            let path = latents.partial_path().to_owned();
            let finished = match complete {
                true => Ok(()),
                false => match self.disclosure.of(&recipe) {
                    Some(told) => latents.set_recipe(&told.to_json()),
                    None => Ok(()),
                },
            };
            finished.and_then(|()| latents.finish()).map_err(|error| RenderError {
                error: Box::new(error.into()),
                kept: None,
                kept_latents: Some(path),
            })?;
        }
        self.thumbnail.save(job)?;
        Ok(summary)
    }

    fn failed(self, error: Error) -> RenderError {
        RenderError {
            error: Box::new(error),
            kept: self.video.kept(),
            kept_latents: self.latents.as_ref().map(|writer| writer.partial_path().to_owned()),
        }
    }
}

/// The picture in the middle, or the last one of a video that was stopped before.
struct Thumbnail {
    wanted: bool,
    middle: usize,
    seen: usize,
    picture: Vec<u8>,
}

impl Thumbnail {
    fn of(job: &Job) -> Self {
        Self {
            wanted: job.thumbnail.is_some(),
            middle: job.recipe.video.pictures / 2,
            seen: 0,
            picture: Vec::new(),
        }
    }

    fn see(&mut self, frame: &[u8]) {
        if self.wanted && self.seen <= self.middle {
            self.picture.clear();
            self.picture.extend_from_slice(frame);
        }
        self.seen += 1;
    }

    fn save(&self, job: &Job) -> Result<()> {
        let Some(path) = &job.thumbnail else { return Ok(()) };
        let video = &job.recipe.video;
        let (width, height) = (video.width as u32, video.height as u32);
        Ok(save_picture(path, width, height, &self.picture, job.overwrite)?)
    }
}

fn settings(job: &Job, compute: &Compute) -> VideoSettings {
    let (video, encoding) = (&job.recipe.video, &job.recipe.encoding);
    VideoSettings {
        fps: video.fps,
        crf: encoding.crf,
        preset: encoding.preset,
        encoder: encoding.choice(),
        gpu: compute.gpu(),
        ..VideoSettings::new(video.width as u32, video.height as u32)
    }
}

/// What is told of the recipe as players and `deepforcing inspect` find it.
fn metadata(told: Option<Recipe>) -> Metadata {
    let Some(recipe) = told else { return Metadata::default() };
    Metadata {
        title: recipe.prompts.first().map(|prompt| prompt.text.clone()),
        comment: Some(recipe.to_json()),
    }
}
