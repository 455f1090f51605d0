//! Rendering with a live line: what `generate` and `rerun` have in common.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    Failure,
    live::VideoWork,
    preview::Preview,
    printer::{Printer, Progress, beside_live_line, print_result, say},
};
use crate::{
    Error,
    config::PreviewMode,
    device::Compute,
    models::ModelFiles,
    render::engine::Engine,
    render::pipeline::Update,
    render::{Event, Job, Outcome, RenderError, render},
    rollout::CancelToken,
    rollout::start::StartPictures,
    video::VideoError,
};

/// A video to make, before the model is loaded.
pub(super) struct Work {
    pub job: Job,
    /// Pictures that it begins with.
    pub start: Option<StartPictures>,
    /// JSON file for the recipe.
    pub sidecar: Option<PathBuf>,
}

/// What is shown while videos are made.
pub(super) struct Show {
    pub preview: PreviewMode,
    /// Results as JSON.
    pub json: bool,
    /// When the command began.
    pub started: Instant,
}

/// Makes the videos one after the other with one load of the model. The first error ends the run; what is finished by
/// then stays.
pub(super) fn render_all(
    files: &ModelFiles,
    compute: &Compute,
    mut works: Vec<Work>,
    show: &Show,
    cancel: &CancelToken,
    printer: &Printer,
) -> Result<(), Failure> {
    printer.stage("loading the model");
    let mut engine = Engine::load(files, compute)?;
    printer.stage("reading the prompts");
    let texts = works.iter().flat_map(|work| work.job.recipe.prompts.iter());
    let texts: Vec<String> = texts.map(|prompt| prompt.text.clone()).collect();
    engine.read_prompts(texts.iter().map(String::as_str))?;
    tell_truncated(&engine, &texts, printer);
    let mut preview = Preview::open(show.preview, printer);
    let count = works.len();
    for (index, work) in works.iter_mut().enumerate() {
        if cancel.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        if let Some(start) = &work.start {
            printer.stage("encoding the start");
            work.job.given = Some(start.encode(engine.encoder()?, &compute.device)?);
        }
        let work_shown = VideoWork {
            video: (index + 1, count),
            chunks: 0,
            pictures: work.job.recipe.video.pictures,
            fps: work.job.recipe.video.fps,
        };
        match film(
            &mut engine,
            &work.job,
            work_shown,
            preview.as_mut(),
            show,
            cancel,
            printer,
        ) {
            Ok(outcome) => finished(work, &outcome, &engine, show, printer)?,
            Err(error) => return failed(error, printer),
        }
    }
    Ok(())
}

pub(super) fn tell_truncated(engine: &Engine, texts: &[String], printer: &Printer) {
    let mut told: Vec<&str> = Vec::new();
    for text in texts {
        let Some(embedding) = engine.embedding(text).filter(|embedding| embedding.truncated) else {
            continue;
        };
        if told.contains(&text.as_str()) {
            continue;
        }
        told.push(text);
        printer.note(&format!(
            "the prompt has {} tokens; the model reads the first {}",
            embedding.total_tokens, embedding.tokens
        ));
    }
}

pub(super) fn film(
    engine: &mut Engine,
    job: &Job,
    work: VideoWork,
    mut preview: Option<&mut Preview>,
    show: &Show,
    cancel: &CancelToken,
    printer: &Printer,
) -> Result<Outcome, RenderError> {
    let mut progress: Option<Progress> = None;
    let video = &job.recipe.video;
    let outcome = render(engine, job, cancel, |event| match event {
        Event::Begun { encoder, chunks } => {
            printer.encoder(encoder);
            progress = Some(printer.progress(VideoWork { chunks, ..work }, show.started));
        }
        Event::Update(update) => {
            if let Some(progress) = &progress {
                progress.update(update);
            }
            if let (Update::Pictures(pictures), Some(preview)) = (update, preview.as_mut())
                && let Some(last) = pictures.frames.last()
            {
                preview.show(last, video.width, video.height);
            }
        }
        Event::Encoded(took) => {
            if let Some(progress) = &progress {
                progress.encoded(took);
            }
        }
    });
    if let Some(progress) = &progress {
        progress.close();
    }
    outcome
}

fn finished(work: &Work, outcome: &Outcome, engine: &Engine, show: &Show, printer: &Printer) -> Result<(), Failure> {
    let Some(summary) = &outcome.summary else {
        printer.note("stopped before the first picture; nothing was written");
        return Err(Failure::Interrupted);
    };
    printer.finished(summary, outcome.complete);
    let mut recipe = work.job.recipe.clone();
    recipe.encoding.written_by(&summary.encoder);
    if !outcome.complete {
        recipe.stopped_after(summary.frames as usize);
    }
    if let Some(path) = &work.sidecar {
        let text = recipe.to_json_pretty() + "\n";
        fs::write(path, text).map_err(|error| Error::CannotWrite {
            path: path.clone(),
            reason: error.to_string(),
        })?;
    }
    if !work.job.target.is_stdout() {
        let text = match show.json {
            true => format!("{}\n", as_json(work, outcome, engine)),
            false => format!("{}\n", summary.path.display()),
        };
        print_result(text.as_bytes())?;
    }
    match outcome.complete {
        true => Ok(()),
        false => Err(Failure::Interrupted),
    }
}

/// The result of one video for programs; times in seconds.
fn as_json(work: &Work, outcome: &Outcome, engine: &Engine) -> serde_json::Value {
    let (times, recipe) = (&outcome.times, &work.job.recipe);
    let summary = outcome.summary.as_ref();
    let rate = summary.map(|s| s.frames as f64 / times.total.as_secs_f64().max(1e-9));
    json!({
        "path": summary.map(|s| s.path.display().to_string()),
        "frames": summary.map(|s| s.frames),
        "seconds": summary.map(|s| s.duration.as_secs_f64()),
        "bytes": summary.map(|s| s.bytes),
        "encoder": summary.map(|s| s.encoder.name),
        "complete": outcome.complete,
        "seed": recipe.seed,
        "latents": work.job.save_latents,
        "thumbnail": work.job.thumbnail,
        "recipe": work.sidecar,
        "trace": work.job.trace.as_ref().map(|trace| &trace.path),
        "times": {
            "load": engine.loading().as_secs_f64(),
            "first_pictures": times.first_pictures.map(|t| t.as_secs_f64()),
            "denoise": times.denoise.as_secs_f64(),
            "decode": times.decode.as_secs_f64(),
            "encode": times.encode.as_secs_f64(),
            "total": times.total.as_secs_f64(),
        },
        "frames_per_second": rate,
    })
}

/// Says what is kept of a video that failed. A reader of standard output that has had enough is no failure.
fn failed(error: RenderError, printer: &Printer) -> Result<(), Failure> {
    if matches!(*error.error, Error::Video(VideoError::ReaderGone { .. })) {
        return Ok(());
    }
    if let Some(kept) = &error.kept {
        printer.note(&kept.to_string());
    }
    if let Some(path) = &error.kept_latents {
        printer.note(&format!("the latents so far are kept in `{}`", path.display()));
    }
    Err((*error.error).into())
}

/// Time in which a second Ctrl-C is taken for a stuttering key.
const STUTTER: Duration = Duration::from_millis(150);

/// The first Ctrl-C ends the video after the chunk in work (or the download, which can be gone on with), the second one
/// the program at once (the partial file stays playable).
pub(super) fn interrupt_on_ctrl_c(cancel: &CancelToken) {
    let cancel = cancel.clone();
    let mut first: Option<Instant> = None;
    let handler = move || match first {
        None => {
            first = Some(Instant::now());
            cancel.after_chunk();
            say("finishing what is in work; press Ctrl-C again to quit at once");
        }
        Some(first) if first.elapsed() < STUTTER => {}
        // The live line is taken off the screen first.
        Some(_) => beside_live_line(|| std::process::exit(130)),
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C will not close the video properly: {error}");
    }
}
