//! From scenes and settings to jobs: recipe, files to write, start. Nothing slow happens here, and everything that can
//! be refused before the model is loaded is refused.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::Generate;
use crate::{
    Error, Result,
    cli::{model_files::Model, printer::Printer, render::Work},
    prompts::{Scene, output_names, resolve_switches},
    recipe::{Encoding, Recipe, StartRecord, VideoRecord},
    render::Job,
    rollout::chunk_plans,
    rollout::request::VideoLength,
    rollout::start::{StartFile, StartPictures},
    trace::check_output,
    vae::pictures_of_latents,
    video::{EncoderChoice, Form, Target, VideoSettings, check_picture, find_encoder},
};

/// Name of a single video when none is given.
const DEFAULT_OUTPUT: &str = "video.mp4";
/// Names of several videos when none is given.
const DEFAULT_OUTPUTS: &str = "video-{id}.mp4";

/// The jobs of all scenes.
pub(super) fn works(flags: &Generate, scenes: &[Scene], model: &Model, printer: &Printer) -> Result<Vec<Work>> {
    let names = Names::new(flags, scenes, model.settings.seed.value)?;
    let mut works = Vec::with_capacity(scenes.len());
    for (index, scene) in scenes.iter().enumerate() {
        works.push(work(flags, scene, index, &names, model, printer)?);
    }
    check_distinct(&works)?;
    Ok(works)
}

fn work(
    flags: &Generate,
    scene: &Scene,
    index: usize,
    names: &Names,
    model: &Model,
    printer: &Printer,
) -> Result<Work> {
    let target = Target::parse(&names.videos[index], flags.files.format)?;
    if flags.running.json && target.is_stdout() {
        return Err(Error::StdoutTaken);
    }
    let overwrite = flags.files.overwrite;
    if !flags.running.dry_run {
        target.check(overwrite)?;
    }
    let start = start_pictures(flags, scene, model, printer)?;
    let recipe = recipe(
        scene,
        start.as_ref().map(|(file, pictures)| (file, pictures)),
        target.form(),
        model,
        printer,
    )?;
    let job = Job {
        recipe,
        given: None,
        save_latents: names.latents.as_ref().map(|all| all[index].clone()),
        thumbnail: names.thumbnails.as_ref().map(|all| all[index].clone()),
        metrics: None,
        trace: names.traces.as_ref().map(|all| flags.trace.options(all[index].clone())),
        overwrite,
        target,
    };
    let sidecar = match flags.files.sidecar {
        true => Some(job.target.beside("json").ok_or(Error::SidecarOfStdout)?),
        false => None,
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

/// The resolved description of one video; the model's files are recorded later, when they are there.
pub(in crate::cli) fn recipe(
    scene: &Scene,
    start: Option<(&StartFile, &StartPictures)>,
    form: Form,
    model: &Model,
    printer: &Printer,
) -> Result<Recipe> {
    let (settings, preset) = (&model.settings, &model.located.preset);
    let rollout = preset.rollout;
    let size = settings.size.value.checked()?;
    let fps = settings.fps.value;
    let seconds = scene.seconds.unwrap_or(settings.seconds.value);
    let given = start.map_or(0, |(_, pictures)| pictures.latent_frames);
    let length = VideoLength::after_start(given, seconds, fps, rollout.chunk, rollout.first_frame_alone)?;
    let sampler = settings.sampler(&preset.sampler);
    sampler.validate()?;
    let cache = settings.cache();
    cache.resolve(rollout.chunk, length.latent_frames)?;
    let plans = chunk_plans(
        given,
        length.latent_frames - given,
        rollout.chunk,
        rollout.first_frame_alone,
    )?;
    let resolved = resolve_switches(&scene.segments, &plans, length.pictures, fps)?;
    resolved.moved.iter().for_each(|moved| printer.note(&moved.to_string()));
    if settings.encoder.value != EncoderChoice::Auto {
        // What is missing is said before the model is loaded.
        let video = VideoSettings {
            encoder: settings.encoder.value,
            ..VideoSettings::new(size.width as u32, size.height as u32)
        };
        find_encoder(form, &video)?;
    }
    let start = match start {
        Some((file, pictures)) => Some(StartRecord::of(file, pictures.latent_frames)?),
        None => None,
    };
    Ok(Recipe {
        prompts: resolved.prompts,
        seed: scene.seed.unwrap_or(settings.seed.value),
        sampler,
        cache,
        rollout,
        video: VideoRecord::new(size, fps, length),
        start,
        encoding: Encoding {
            container: form.to_string(),
            crf: settings.crf.value,
            preset: settings.encoder_preset.value,
            encoder: settings.encoder.value.named().map(|encoder| encoder.name().into()),
        },
        device: model.selection.kind().into(),
        dtype: model.selection.dtype_name().into(),
        ..Recipe::new(model.outline())
    })
}

/// The pictures that a scene begins with, scaled to the video.
fn start_pictures(
    flags: &Generate,
    scene: &Scene,
    model: &Model,
    printer: &Printer,
) -> Result<Option<(StartFile, StartPictures)>> {
    let file = match (&scene.image, &flags.start.image, &flags.start.extend) {
        (Some(image), _, _) | (None, Some(image), _) => StartFile::Image(image.clone()),
        (None, None, Some(clip)) => StartFile::Clip(clip.clone()),
        (None, None, None) => return Ok(None),
    };
    let pictures = read_start(&file, model, printer)?;
    Ok(Some((file, pictures)))
}

/// The pictures of a start, scaled to the video.
pub(in crate::cli) fn read_start(file: &StartFile, model: &Model, printer: &Printer) -> Result<StartPictures> {
    let (settings, rollout) = (&model.settings, model.located.preset.rollout);
    let size = settings.size.value.checked()?;
    // A start longer than what the window holds beside the chunk in work would be forgotten at once.
    let most = settings.cache_window.value.saturating_sub(rollout.chunk);
    let pictures = StartPictures::read(file, size, settings.fps.value, rollout, most)?;
    if pictures.held > 1 {
        printer.note(&format!(
            "the model works in chunks of {} latent frames: the image is held for {} pictures",
            rollout.chunk, pictures.held
        ));
    }
    if let StartFile::Clip(_) = file {
        printer.note(&format!(
            "the video begins with the last {} pictures of the clip",
            pictures_of_latents(pictures.latent_frames)
        ));
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
    fn new(flags: &Generate, scenes: &[Scene], seed: u64) -> Result<Self> {
        let files = &flags.files;
        let default = match scenes.len() {
            1 => DEFAULT_OUTPUT,
            _ => DEFAULT_OUTPUTS,
        };
        let extension = files.format.map_or(Form::Mp4.as_str(), Form::as_str);
        let mut output = files.output.clone().unwrap_or_else(|| default.into());
        if let [Scene { id: None, .. }] = scenes
            && is_folder(&output)
            && files.format != Some(Form::Png)
        {
            output = output.join(DEFAULT_OUTPUT).with_extension(extension);
        }
        let each = |path: &Option<PathBuf>, extension| -> Result<_> {
            let Some(path) = path else { return Ok(None) };
            names_of(scenes, path, extension, seed).map(Some)
        };
        Ok(Self {
            videos: match files.format == Some(Form::Png) && scenes.len() == 1 {
                true => vec![output],
                false => names_of(scenes, &output, extension, seed)?,
            },
            latents: each(&files.save_latents, "safetensors")?,
            thumbnails: each(&files.thumbnail, "png")?,
            traces: each(&flags.trace.trace, "jsonl")?,
        })
    }
}

/// A single name is taken as it is: braces and signs may be part of it (`frame_{frame}.png`).
fn names_of(scenes: &[Scene], path: &Path, extension: &str, seed: u64) -> Result<Vec<PathBuf>> {
    let text = path.to_string_lossy();
    let filled = ["{id}", "{index}", "{seed}"].iter().any(|name| text.contains(name));
    match scenes.len() == 1 && !is_folder(path) && !filled {
        true => Ok(vec![path.to_owned()]),
        false => Ok(output_names(scenes, path, extension, seed)?),
    }
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
    match path.exists() && !overwrite {
        true => Err(Error::Video(crate::video::VideoError::Exists { path: path.into() })),
        false => Ok(()),
    }
}
