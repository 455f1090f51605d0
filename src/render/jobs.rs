//! From what is asked for to jobs: recipe, names of files, start. Nothing slow happens here, and everything that can be
//! refused before the model is loaded is refused.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use crate::{
    Error, Result,
    cache::{CacheSettings, PolicyError},
    config::Settings,
    models::ModelFiles,
    prompts::{Resolved, Scene, check_recaches, output_names, resolve_switches},
    recipe::{Disclosure, Encoding, Recipe, StartRecord, VideoRecord},
    render::{
        Event, Job,
        session::Session,
        state::{Resume, StateError, StateOptions, StatePaths},
        world::{self, Steered},
    },
    rollout::request::VideoLength,
    rollout::sampler::SamplerSettings,
    rollout::start::{StartFile, StartPictures},
    rollout::{LoopKind, RollingError, chunk_plans},
    trace::{TraceOptions, attention::chosen_heads, check_output},
    vae::pictures_of_latents,
    video::{EncoderChoice, Form, Target, VideoError, VideoSettings, check_picture, find_encoder},
};

/// Name of a single video when none is given.
const DEFAULT_OUTPUT: &str = "video.mp4";
/// Names of several videos when none is given.
const DEFAULT_OUTPUTS: &str = "video-{id}.mp4";

/// Videos that are asked for, and the files they go to.
///
/// With several scenes, each path is a folder or a name with `{id}`, `{index}` or `{seed}`.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// What the videos show.
    pub scenes: Vec<Scene>,
    /// What videos begin with whose scene has no image.
    pub start: Option<StartFile>,
    /// The video; `-` is standard output. By default `video.mp4`, of several videos `video-{id}.mp4`, with a number if
    /// that is there.
    pub output: Option<PathBuf>,
    /// Form of the video where the name does not tell.
    pub form: Option<Form>,
    /// Safetensors file for the latents.
    pub save_latents: Option<PathBuf>,
    /// PNG or JPEG file for the picture in the middle.
    pub thumbnail: Option<PathBuf>,
    /// What the files tell of how they were made.
    pub disclosure: Disclosure,
    /// Whether the recipe is written beside the video, as `NAME.json`.
    pub sidecar: bool,
    /// What is recorded of the cache; its path stands for those of all videos.
    pub trace: Option<TraceOptions>,
    /// Whether files that exist may be replaced.
    pub overwrite: bool,
    /// Whether the video of an earlier run is continued.
    pub resume: bool,
    /// Whether a state is kept beside the video, so that it can be continued.
    pub keeps_state: bool,
    /// Whether results are written to standard output, so that no video can go there.
    pub results_on_stdout: bool,
    /// Whether only the plan is wanted: videos that exist and folders that do not are no fault then.
    pub dry_run: bool,
}

impl Request {
    /// Whether a video begins with pictures, which the encoder turns into latents.
    pub fn needs_encoder(&self) -> bool {
        self.start.is_some() || self.scenes.iter().any(|scene| scene.image.is_some())
    }

    /// Seconds of the longest video whose length is not that of the settings.
    pub fn longest(&self) -> Option<f64> {
        self.scenes.iter().filter_map(|scene| scene.seconds).reduce(f64::max)
    }
}

/// A video to make, before the model is loaded.
pub struct Work {
    pub job: Job,
    /// Pictures that it begins with.
    pub start: Option<StartPictures>,
    /// JSON file for the recipe.
    pub sidecar: Option<PathBuf>,
}

/// The jobs of all scenes of `request`.
///
/// # Errors
/// The first thing of the first scene that cannot be made or written; and two files with one name.
pub fn works(request: &Request, session: &Session, observe: &mut dyn FnMut(Event<'_>)) -> Result<Vec<Work>> {
    let names = Names::new(request, session.settings.seed.value)?;
    let mut works = Vec::with_capacity(request.scenes.len());
    for (index, scene) in request.scenes.iter().enumerate() {
        works.push(work(request, scene, index, &names, session, observe)?);
    }
    check_distinct(&works)?;
    if request.resume && works.len() > 1 {
        return Err(Error::ResumeOfMany { videos: works.len() });
    }
    Ok(works)
}

/// Refuses layers and heads of a trace that the model does not have, before it is loaded.
///
/// # Errors
/// With the first one that there is not.
pub fn check_heads(trace: Option<&TraceOptions>, files: &ModelFiles) -> Result<()> {
    let Some(trace) = trace.filter(|trace| !trace.attention.is_empty()) else {
        return Ok(());
    };
    let sizes = files.transformer_config()?;
    chosen_heads(&trace.attention, sizes.layers, sizes.heads)?;
    Ok(())
}

fn work(
    request: &Request,
    scene: &Scene,
    index: usize,
    names: &Names,
    session: &Session,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Work> {
    let target = Target::parse(&names.videos[index], request.form)?;
    if request.results_on_stdout && target.is_stdout() {
        return Err(Error::StdoutTaken);
    }
    // What is there under the final names is of the run that is continued.
    let overwrite = request.overwrite || request.resume;
    let state = state(request, &target, observe)?;
    if !request.dry_run {
        target.check(overwrite)?;
    }
    let label = || scene.label(index);
    world::check(scene, &label, start_file(request, scene).as_ref(), &session.located)?;
    let start = start_pictures(request, scene, session, observe)?;
    let recipe = recipe(
        scene,
        start.as_ref().map(|(file, pictures)| (file, pictures)),
        target.form(),
        session,
        observe,
    )?;
    if request.trace.is_some() && recipe.rollout.kind == LoopKind::Rolling {
        return Err(RollingError::Trace.into());
    }
    let attention = request.trace.as_ref().is_some_and(|trace| !trace.attention.is_empty());
    let knobs = recipe.cache.knobs(recipe.rollout.chunk, recipe.video.latent_frames);
    if attention && knobs.heads.is_some() {
        let policy = recipe.cache.policy;
        return Err(PolicyError::AttentionOfParts { policy }.into());
    }
    let job = Job {
        recipe,
        given: None,
        disclosure: request.disclosure,
        save_latents: names.latents.as_ref().map(|all| all[index].clone()),
        thumbnail: names.thumbnails.as_ref().map(|all| all[index].clone()),
        metrics: None,
        trace: names.trace(request, index),
        state,
        overwrite,
        target,
    };
    let sidecar = if request.sidecar {
        Some(job.target.beside("json").ok_or(Error::SidecarOfStdout)?)
    } else {
        None
    };
    let others = [&job.save_latents, &sidecar];
    for path in others.into_iter().flatten() {
        check_free(path, overwrite)?;
    }
    if let Some(trace) = &job.trace {
        check_output(&trace.path, overwrite)?;
    }
    if let Some(path) = &job.thumbnail {
        check_picture(path, overwrite)?;
    }
    let start = start.map(|(_, pictures)| pictures);
    Ok(Work { job, start, sidecar })
}

/// What is kept beside the video at `target` so that it can be continued, and whether it is.
fn state(request: &Request, target: &Target, observe: &mut dyn FnMut(Event<'_>)) -> Result<Option<StateOptions>> {
    let paths = StatePaths::beside(target);
    let there = paths.as_ref().is_some_and(StatePaths::exist);
    if request.resume {
        let paths = paths.ok_or(StateError::Stdout)?;
        if request.trace.is_some() {
            return Err(StateError::Trace.into());
        }
        if !there && !request.dry_run {
            let StatePaths { video, state, .. } = paths;
            return Err(StateError::Nothing { video, state }.into());
        }
        let resume = Resume::Must;
        return Ok(Some(StateOptions { paths, resume }));
    }
    if there && !request.dry_run && !request.overwrite {
        observe(Event::Note(
            "an earlier run of this video was stopped; this one begins it anew (--resume would have gone on with it)",
        ));
    }
    let resume = Resume::Never;
    let kept = paths.filter(|_| request.keeps_state);
    Ok(kept.map(|paths| StateOptions { paths, resume }))
}

/// The resolved description of one video, written in the form `form`; the model's files are recorded later, when they
/// are there. Prompt switches that take effect at another moment than the scene says are told.
///
/// # Errors
/// When a setting or a switch cannot be, no encoder makes the form, or the file of the start cannot be read.
pub fn recipe(
    scene: &Scene,
    start: Option<(&StartFile, &StartPictures)>,
    form: Form,
    session: &Session,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Recipe> {
    described(scene, start, form, session, observe).map_err(|error| session.settings.explained(error))
}

/// The video of `recipe`, which [`recipe`] made, with cache and sampler of a point of a sweep in place of those of the
/// session's settings.
///
/// # Errors
/// When they break a rule, or the loop cannot make it.
pub fn at_point(
    mut recipe: Recipe,
    cache: CacheSettings,
    sampler: SamplerSettings,
    settings: &Settings,
) -> Result<Recipe> {
    let made = move || -> Result<Recipe> {
        (recipe.cache, recipe.sampler) = (cache, sampler);
        let mut prompts = std::mem::take(&mut recipe.prompts);
        for prompt in prompts.iter_mut().skip(1) {
            prompt.on_switch = settings.on_switch_under(cache.policy, Some(prompt.on_switch.rule()));
        }
        let policy = recipe.cache.resolve(recipe.rollout.chunk, recipe.video.latent_frames)?;
        check_recaches(&prompts, &policy)?;
        let recipe = recipe.with_prompts(prompts);
        recipe.rollout_settings()?;
        Ok(recipe)
    };
    made().map_err(|error| settings.explained(error))
}

fn described(
    scene: &Scene,
    start: Option<(&StartFile, &StartPictures)>,
    form: Form,
    session: &Session,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Recipe> {
    let (settings, preset) = (&session.settings, &session.located.preset);
    let rollout = preset.rollout;
    let size = settings.size.value.checked()?;
    let fps = settings.fps.value;
    let steered = Steered::of(scene, &session.located)?;
    let seconds = world::seconds(scene, settings, steered.as_ref());
    // The image of a world is what it continues, and none of its latent frames.
    let given = match (&steered, start) {
        (None, Some((_, pictures))) => pictures.latent_frames,
        _ => 0,
    };
    let length = VideoLength::after_start(given, seconds, fps, rollout.chunk, rollout.first_frame_alone)?;
    let sampler = settings.sampler(&preset.sampler);
    sampler.validate()?;
    let cache = settings.cache();
    let policy = cache.resolve(rollout.chunk, length.latent_frames)?;
    let plans = chunk_plans(
        given,
        length.latent_frames - given,
        rollout.chunk,
        rollout.first_frame_alone,
    )?;
    let actions = match steered {
        Some(steered) => Some(steered.record(length.pictures)?),
        None => None,
    };
    let resolved = match &actions {
        Some(_) => Resolved::default(),
        None => resolve_switches(&scene.segments, &plans, length.pictures, fps)?,
    };
    let mut tell = |text: &str| observe(Event::Note(text));
    resolved.moved.iter().for_each(|moved| tell(&moved.to_string()));
    if settings.encoder.value != EncoderChoice::Auto {
        // What is missing is said before the model is loaded.
        let video = VideoSettings {
            encoder: settings.encoder.value,
            ..VideoSettings::new(size.width as u32, size.height as u32)
        };
        find_encoder(form, &video)?;
    }
    let start = match start {
        Some((file, _)) => Some(StartRecord::of(file, given)?),
        None => None,
    };
    let mut prompts = resolved.prompts;
    for (prompt, segment) in prompts.iter_mut().zip(&scene.segments).skip(1) {
        prompt.on_switch = settings.on_switch(segment.on_switch);
    }
    check_recaches(&prompts, &policy)?;
    let recipe = Recipe {
        seed: scene.seed.unwrap_or(settings.seed.value),
        sampler,
        cache,
        rollout,
        actions,
        video: VideoRecord::new(size, fps, length),
        start,
        encoding: Encoding {
            container: form.to_string(),
            crf: settings.crf.value,
            preset: settings.encoder_preset.value,
            encoder: settings.encoder.value.named().map(|encoder| encoder.name().into()),
        },
        device: session.selection.kind().into(),
        dtype: session.selection.dtype_name().into(),
        ..Recipe::new(session.outline())
    };
    let recipe = recipe.with_prompts(prompts);
    // What the loop cannot make is said before the model is loaded.
    recipe.rollout_settings()?;
    Ok(recipe)
}

/// The file that a scene begins with.
fn start_file(request: &Request, scene: &Scene) -> Option<StartFile> {
    let of_scene = scene.image.clone().map(StartFile::Image);
    of_scene.or_else(|| request.start.clone())
}

/// The pictures that a scene begins with, scaled to the video.
fn start_pictures(
    request: &Request,
    scene: &Scene,
    session: &Session,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Option<(StartFile, StartPictures)>> {
    let Some(file) = start_file(request, scene) else {
        return Ok(None);
    };
    let pictures = read_start(&file, session, observe)?;
    Ok(Some((file, pictures)))
}

/// The pictures of a start, scaled to the video of the session's settings.
///
/// # Errors
/// As [`StartPictures::read`]; also when the picture size cannot be.
pub fn read_start(file: &StartFile, session: &Session, observe: &mut dyn FnMut(Event<'_>)) -> Result<StartPictures> {
    let (settings, rollout) = (&session.settings, session.located.preset.rollout);
    let size = settings.size.value.checked()?;
    if let (StartFile::Image(path), Some(_)) = (file, session.located.preset.controls) {
        return StartPictures::of_world(path, size);
    }
    // A start longer than what the window holds beside the chunk in work would be forgotten at once.
    let most = settings.cache().window.saturating_sub(rollout.chunk);
    let pictures = StartPictures::read(file, size, settings.fps.value, rollout, most)?;
    if pictures.held > 1 {
        observe(Event::Note(&format!(
            "the model works in chunks of {} latent frames: the image is held for {} pictures",
            rollout.chunk, pictures.held
        )));
    }
    if let StartFile::Clip(_) = file {
        observe(Event::Note(&format!(
            "the video begins with the last {} pictures of the clip",
            pictures_of_latents(pictures.latent_frames)
        )));
    }
    Ok(pictures)
}

/// Names of the files of each video.
struct Names {
    videos: Vec<PathBuf>,
    latents: Option<Vec<PathBuf>>,
    thumbnails: Option<Vec<PathBuf>>,
    traces: Option<Vec<PathBuf>>,
}

impl Names {
    fn new(request: &Request, seed: u64) -> Result<Self> {
        let scenes = request.scenes.as_slice();
        let default = match scenes.len() {
            1 => DEFAULT_OUTPUT,
            _ => DEFAULT_OUTPUTS,
        };
        let extension = request.form.map_or(Form::Mp4.as_str(), Form::as_str);
        let chosen = match (&request.output, request.overwrite || request.resume) {
            (None, false) => free_name(scenes, default, extension, seed)?,
            _ => default.into(),
        };
        let mut output = request.output.clone().unwrap_or(chosen);
        if let [Scene { id: None, .. }] = scenes
            && is_folder(&output)
            && request.form != Some(Form::Png)
        {
            output = output.join(DEFAULT_OUTPUT).with_extension(extension);
        }
        let each = |path: Option<&PathBuf>, extension| -> Result<_> {
            let Some(path) = path else { return Ok(None) };
            names_of(scenes, path, extension, seed).map(Some)
        };
        Ok(Self {
            videos: if request.form == Some(Form::Png) && scenes.len() == 1 {
                vec![output]
            } else {
                names_of(scenes, &output, extension, seed)?
            },
            latents: each(request.save_latents.as_ref(), "safetensors")?,
            thumbnails: each(request.thumbnail.as_ref(), "png")?,
            traces: each(request.trace.as_ref().map(|trace| &trace.path), "jsonl")?,
        })
    }

    /// What is recorded of the cache of one video.
    fn trace(&self, request: &Request, index: usize) -> Option<TraceOptions> {
        let (options, paths) = (request.trace.as_ref()?, self.traces.as_ref()?);
        Some(TraceOptions {
            path: paths.get(index)?.clone(),
            ..options.clone()
        })
    }
}

/// The usual name, or the first one with a number under which nothing is there yet: `video.mp4`, `video-2.mp4`.
fn free_name(scenes: &[Scene], default: &str, extension: &str, seed: u64) -> Result<PathBuf> {
    /// More than anybody leaves under names of no meaning.
    const MOST: usize = 10_000;
    let (stem, ending) = default.rsplit_once('.').unwrap_or((default, extension));
    for number in 1..MOST {
        let name = match number {
            1 => PathBuf::from(default),
            number => PathBuf::from(format!("{stem}-{number}.{ending}")),
        };
        let names = names_of(scenes, &name, extension, seed)?;
        if names.iter().all(|name| !name.exists()) {
            return Ok(name);
        }
    }
    Ok(default.into())
}

/// A single name is taken as it is: braces and signs may be part of it (`frame_{frame}.png`).
fn names_of(scenes: &[Scene], path: &Path, extension: &str, seed: u64) -> Result<Vec<PathBuf>> {
    let text = path.to_string_lossy();
    let filled = ["{id}", "{index}", "{seed}"].iter().any(|name| text.contains(name));
    if scenes.len() == 1 && !is_folder(path) && !filled {
        return Ok(vec![path.to_owned()]);
    }
    Ok(output_names(scenes, path, extension, seed)?)
}

fn is_folder(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/") || path.is_dir()
}

/// Refuses two files with one name, whatever they are to hold.
fn check_distinct(works: &[Work]) -> Result<()> {
    let mut known: HashMap<PathBuf, ()> = HashMap::new();
    for work in works {
        let job = &work.job;
        let trace = job.trace.as_ref().map(|trace| &trace.path);
        let others = [&job.save_latents, &job.thumbnail, &work.sidecar];
        let others = others
            .into_iter()
            .flatten()
            .chain(trace)
            .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        for path in std::iter::once(job.target.key()).chain(others) {
            if known.insert(path.clone(), ()).is_some() {
                return Err(Error::SameOutput { path });
            }
        }
    }
    Ok(())
}

fn check_free(path: &Path, overwrite: bool) -> Result<()> {
    if path.exists() && !overwrite {
        return Err(VideoError::Exists { path: path.into() }.into());
    }
    Ok(())
}
