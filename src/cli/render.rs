//! Rendering with a live line: what commands that make videos have in common.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    Failure,
    live::VideoWork,
    preview::Preview,
    printer::{Printer, Progress, beside_live_line, print_result, say},
    pulling::Downloads,
};
use crate::{
    Error,
    config::PreviewMode,
    device::Compute,
    models::ModelFiles,
    render::{
        Event, InWork, RenderError,
        jobs::Work,
        pipeline::Update,
        run::{Made, Run},
        speed::Speeds,
    },
    rollout::CancelToken,
    video::{VideoError, stop_reading},
};

/// What is on screen while a run goes on: it prints what the run tells.
pub(super) struct Screen<'a> {
    printer: &'a Printer,
    /// When the time to the first picture is counted from, if not from the beginning of each video.
    started: Option<Instant>,
    preview: Option<Preview>,
    /// The video in work, and when it was begun.
    video: Option<(InWork, Instant)>,
    /// When the first video of the run was begun.
    begun: Option<Instant>,
    /// Whether the toy model stands in for the default one, which cannot be had.
    fallback: bool,
    progress: Option<Progress>,
    downloads: Downloads<'a>,
}

impl<'a> Screen<'a> {
    pub(super) fn new(printer: &'a Printer) -> Self {
        Self {
            printer,
            started: None,
            preview: None,
            video: None,
            begun: None,
            fallback: false,
            progress: None,
            downloads: Downloads::new(printer),
        }
    }

    /// Counts the time to the first picture from `started`, when the command began.
    pub(super) fn since(mut self, started: Instant) -> Self {
        self.started = Some(started);
        self
    }

    /// Prints what a run tells.
    pub(super) fn see(&mut self, event: Event<'_>) {
        match event {
            Event::Begun { encoder, chunks } => {
                self.printer.encoder(encoder);
                self.progress = self.video.map(|(video, begun)| {
                    let started = self.started.unwrap_or(begun);
                    let begun = self.begun.unwrap_or(begun);
                    self.printer.progress(VideoWork { video, chunks, begun }, started)
                });
            }
            Event::Update(update) => self.update(update),
            Event::Encoded(took) => {
                if let Some(progress) = &self.progress {
                    progress.encoded(took);
                }
            }
            other => {
                self.close();
                self.tell(other);
            }
        }
    }

    fn update(&mut self, update: &Update) {
        if let Some(progress) = &self.progress {
            progress.update(update);
        }
        if let (Update::Pictures(pictures), Some(preview), Some((video, _))) = (update, &mut self.preview, self.video)
            && let Some(last) = pictures.frames.last()
        {
            preview.show(last, video.width, video.height);
        }
    }

    /// What is told beside a video.
    fn tell(&mut self, event: Event<'_>) {
        let printer = self.printer;
        match event {
            Event::Stage(text) => printer.stage(text),
            Event::Note(text) => printer.note(text),
            Event::Warning(text) => printer.warning(text),
            Event::Detail(text) => printer.detail(text),
            Event::Download { model, transfer } => self.downloads.see(model, transfer),
            Event::Video(video) => {
                let now = Instant::now();
                self.begun.get_or_insert(now);
                self.video = Some((video, now));
            }
            Event::Finished { summary, complete } => {
                let with = if self.fallback { " with the toy model" } else { "" };
                printer.finished(summary, complete, with);
            }
            Event::Skipped { video, error } => {
                printer.warning(&format!("{video} cannot be made: {error}; it is skipped"));
            }
            Event::Begun { .. } | Event::Update(_) | Event::Encoded(_) => {}
        }
    }

    /// Takes the live line off the screen.
    pub(super) fn close(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.close();
        }
    }
}

/// Makes the videos one after the other with one load of the model. The first error ends the run; what is finished by
/// then stays.
pub(super) fn render_all(
    files: &ModelFiles,
    compute: &Compute,
    works: Vec<Work>,
    show: &mut Show,
    cancel: &CancelToken,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let mut run = Run::load(files, compute, works, &mut |event| screen.see(event))?;
    screen.fallback = show.fallback;
    screen.preview = Preview::open(show.preview, screen.printer);
    loop {
        let made = run.next(cancel, &mut |event| screen.see(event));
        screen.close();
        match made {
            Ok(Some(made)) => {
                if made.outcome.complete {
                    show.speeds.note(&made.work.job.recipe, &made.outcome.times);
                }
                finished(&made, &run, show, screen.printer)?;
            }
            Ok(None) => return Ok(()),
            Err(error) => return failed(error, screen.printer),
        }
    }
}

/// What is shown while videos are made, and how results are printed.
pub(super) struct Show {
    pub preview: PreviewMode,
    /// Results as JSON.
    pub json: bool,
    /// Whether the toy model stands in for the default one, which cannot be had.
    pub fallback: bool,
    /// Gets the times of what is made.
    pub speeds: Speeds,
}

fn finished(made: &Made, run: &Run, show: &Show, printer: &Printer) -> Result<(), Failure> {
    let Some(summary) = &made.outcome.summary else {
        printer.note("stopped before the first picture; nothing was written");
        return Err(Failure::Interrupted);
    };
    if !made.work.job.target.is_stdout() {
        let text = match show.json {
            true => format!("{}\n", as_json(made, run, show.fallback)),
            false => format!("{}\n", summary.path.display()),
        };
        print_result(text.as_bytes())?;
    }
    if made.outcome.complete {
        return Ok(());
    }
    if made.work.job.state.is_some() {
        printer.note("stopped; the same command with --resume goes on from here");
    }
    Err(Failure::Interrupted)
}

/// The result of one video for programs; times in seconds.
fn as_json(Made { work, outcome }: &Made, run: &Run, fallback: bool) -> serde_json::Value {
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
        "fallback": fallback,
        "latents": work.job.save_latents,
        "thumbnail": work.job.thumbnail,
        "recipe": work.sidecar,
        "trace": work.job.trace.as_ref().map(|trace| &trace.path),
        "times": {
            "load": run.loading().as_secs_f64(),
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

/// The first Ctrl-C ends the video after the chunk in work (or the download, which can be resumed), the second one
/// the program at once (the partial file stays playable).
pub(super) fn interrupt_on_ctrl_c(cancel: &CancelToken) {
    let cancel = cancel.clone();
    let mut first: Option<Instant> = None;
    let handler = move || match first {
        None => {
            first = Some(Instant::now());
            cancel.after_chunk();
            stop_reading();
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
