//! Rendering a list, item by item.

use std::{
    collections::HashSet,
    path::Path,
    time::{Duration, Instant},
};

use super::work::{List, Planned, State};
use crate::{
    Error,
    batch::{Entry, EntryTimes, Failures, Item, Key, Manifest, OutputFolder, Shard},
    cli::{
        Failure,
        generate::jobs::read_start,
        live::VideoWork,
        model_files,
        printer::{Printer, print_result},
        render::{Show, film, tell_truncated},
    },
    config::PreviewMode,
    device::Compute,
    hub::file_hash::sha256,
    memory::Sizes,
    metrics::{self, Report},
    models::ModelFiles,
    prompts::PromptSpan,
    recipe::{Recipe, VideoRecord},
    render::engine::Engine,
    render::{Job, Outcome},
    rollout::CancelToken,
    video::{Target, VideoError},
};

/// Prompts whose embeddings are held at once, at most 8 MB each for Wan models.
const HELD: usize = 32;
/// Extension of the trace of the video in work.
const TRACE_IN_WORK: &str = "jsonl";

/// What came of the items so far.
#[derive(Default)]
struct Tally {
    made: usize,
    there: usize,
    failed: usize,
    rendering: Duration,
}

/// The folder and its files.
struct Desk<'a> {
    list: &'a List<'a>,
    folder: OutputFolder,
    manifest: Manifest,
    failures: Failures,
    tally: Tally,
    printer: &'a Printer,
}

/// Makes all `items` that are not there yet. `begin` is called when nothing stands in the way, before the first is made.
pub(in crate::cli) fn run(
    list: &List,
    items: &[Item],
    shard: Shard,
    begin: impl FnOnce() -> Result<(), Error>,
    cancel: &CancelToken,
    printer: &Printer,
) -> Result<(), Failure> {
    model_files::use_threads(list.model.settings.threads.value);
    let output = &list.folder.output;
    let folder = OutputFolder::take(output, shard).map_err(Error::from)?;
    let files = list.model.files(cancel, printer)?;
    list.folder.trace.check_heads(&files)?;
    let record = list.model.record(&files)?;
    let mut manifest = Manifest::read(output, shard).map_err(Error::from)?;
    let failures = Failures::read(output, shard).map_err(Error::from)?;
    let (planned, conflicts) = list.plan(items, &manifest, Some(&record), printer)?;
    conflicts.refuse(list)?;
    begin()?;
    manifest.open().map_err(Error::from)?;
    let mut desk = Desk {
        list,
        folder,
        manifest,
        failures,
        tally: Tally::default(),
        printer,
    };
    let compute = list.model.compute(printer)?;
    let sizes = Sizes::of(&files)?;
    let todo = desk.sort(planned, &sizes, &compute, cancel)?;
    let begun = Instant::now();
    let result = desk.make(&files, &compute, todo, cancel);
    desk.tell(begun.elapsed(), matches!(result, Err(Failure::Interrupted)));
    result?;
    match desk.tally.failed {
        0 => Ok(()),
        _ => Err(Failure::Partly),
    }
}

impl Desk<'_> {
    /// Settles what needs no rendering and gives the rest.
    fn sort<'a>(
        &mut self,
        planned: Vec<Planned<'a>>,
        sizes: &Sizes,
        compute: &Compute,
        cancel: &CancelToken,
    ) -> Result<Vec<(&'a Item, Recipe)>, Failure> {
        let mut todo = Vec::new();
        let mut fits: HashSet<(VideoRecordKey, usize, Option<usize>)> = HashSet::new();
        for Planned { item, state } in planned {
            if cancel.is_cancelled() {
                return Err(Failure::Interrupted);
            }
            match state {
                // What is in the way was refused before.
                State::InTheWay => {}
                State::Kept => {
                    self.tally.there += 1;
                    self.failures.remove(item).map_err(Error::from)?;
                }
                State::Done(recipe) => {
                    self.tally.there += 1;
                    self.refresh(item, &recipe)?;
                    self.failures.remove(item).map_err(Error::from)?;
                }
                State::Unlisted(recipe) => {
                    self.tally.there += 1;
                    self.adopt(item, &recipe)?;
                }
                State::Bad(error) => self.failed(item, &error)?,
                State::Todo(recipe) => {
                    let shape = (of_video(&recipe.video), recipe.prompts.len(), item.point);
                    if !self.list.running.no_memory_check && !fits.contains(&shape) {
                        let plan = self.list.model.memory(sizes, &recipe, Some(compute));
                        let checked = plan.and_then(|plan| Ok(plan.check()?));
                        match checked {
                            Ok(()) => drop(fits.insert(shape)),
                            Err(error) => {
                                self.failed(item, &error)?;
                                continue;
                            }
                        }
                    }
                    todo.push((item, *recipe));
                }
            }
        }
        Ok(todo)
    }

    fn make(
        &mut self,
        files: &ModelFiles,
        compute: &Compute,
        todo: Vec<(&Item, Recipe)>,
        cancel: &CancelToken,
    ) -> Result<(), Failure> {
        if todo.is_empty() {
            return Ok(());
        }
        self.printer.stage("loading the model");
        let mut engine = Engine::load(files, compute)?;
        let count = todo.len();
        for index in 0..count {
            let (item, recipe) = &todo[index];
            if cancel.is_cancelled() {
                return Err(Failure::Interrupted);
            }
            if recipe
                .prompts
                .iter()
                .any(|prompt| engine.embedding(&prompt.text).is_none())
            {
                let prompts = todo[index..].iter().flat_map(|(_, recipe)| &recipe.prompts);
                read_group(&mut engine, prompts, recipe.prompts.len(), self.printer)?;
            }
            match self.render(&mut engine, item, recipe, (index + 1, count), cancel) {
                Ok(Some(outcome)) => {
                    self.tally.rendering += outcome.times.total;
                    self.finished(item, recipe, outcome)?;
                }
                Ok(None) => {
                    self.folder.discard();
                    return Err(Failure::Interrupted);
                }
                Err(error) if stops_all(&error) => return Err(error.into()),
                Err(error) => {
                    self.folder.discard();
                    self.failed(item, &error)?;
                }
            }
        }
        Ok(())
    }

    /// The video in the folder of what is in work; `None` when it was stopped before its end.
    fn render(
        &self,
        engine: &mut Engine,
        item: &Item,
        recipe: &Recipe,
        number: (usize, usize),
        cancel: &CancelToken,
    ) -> Result<Option<Outcome>, Error> {
        let list = self.list;
        let given = match list.start(list.scene(item)) {
            Some(file) => {
                let pictures = read_start(&file, list.model, self.printer)?;
                let device = engine.compute().device.clone();
                Some(pictures.encode(engine.encoder()?, &device)?)
            }
            None => None,
        };
        let path = self.folder.in_work(list.folder.format.as_str());
        let job = Job {
            recipe: recipe.clone(),
            target: Target::parse(&path, Some(list.folder.format))?,
            given,
            save_latents: None,
            thumbnail: None,
            metrics: list.measuring().then(|| metrics::Options::of(recipe)).transpose()?,
            trace: {
                let traces = &list.folder.trace;
                traces.options(self.folder.in_work(TRACE_IN_WORK), list.path(item))
            },
            overwrite: true,
        };
        let shown = VideoWork {
            video: number,
            chunks: 0,
            pictures: recipe.video.pictures,
            fps: recipe.video.fps,
        };
        let show = Show {
            preview: PreviewMode::Off,
            json: list.running.json,
            started: Instant::now(),
        };
        let outcome = film(engine, &job, shown, None, &show, cancel, self.printer).map_err(|error| *error.error)?;
        Ok((outcome.complete && outcome.summary.is_some()).then_some(outcome))
    }

    /// Gives the video its name and notes it.
    fn finished(&mut self, item: &Item, recipe: &Recipe, outcome: Outcome) -> Result<(), Failure> {
        let Some(summary) = &outcome.summary else { return Ok(()) };
        let times = EntryTimes {
            denoise: outcome.times.denoise.as_secs_f64(),
            decode: outcome.times.decode.as_secs_f64(),
            encode: outcome.times.encode.as_secs_f64(),
            total: outcome.times.total.as_secs_f64(),
        };
        let entry = Entry {
            metrics: outcome.metrics,
            ..self.entry(item, recipe, &summary.path, times)?
        };
        if self.list.folder.trace.traces {
            let made = self.folder.in_work(TRACE_IN_WORK);
            self.folder
                .finish(&made, &item.file("trace.jsonl"))
                .map_err(Error::from)?;
        }
        let path = self.folder.finish(&summary.path, &entry.file).map_err(Error::from)?;
        self.note(item, &entry)?;
        self.tally.made += 1;
        self.printer.finished(summary, true);
        let line = match self.list.running.json {
            true => serde_json::to_string(&entry).unwrap_or_default(),
            false => path.display().to_string(),
        };
        print_result(format!("{line}\n").as_bytes())
    }

    /// Notes a video that an earlier run finished and had no time to note.
    fn adopt(&mut self, item: &Item, recipe: &Recipe) -> Result<(), Failure> {
        let path = self.list.path(item);
        let entry = self.entry(item, recipe, &path, EntryTimes::default())?;
        let metrics = match self.list.measuring() {
            true => self.measured(&path, recipe),
            false => None,
        };
        let entry = Entry {
            metrics_of_file: metrics.is_some(),
            metrics,
            ..entry
        };
        self.note(item, &entry)
    }

    /// Writes the line of a finished video again if it has no measures because the video was made without, or if prompts
    /// or points have other numbers now.
    fn refresh(&mut self, item: &Item, recipe: &Recipe) -> Result<(), Failure> {
        let file = self.list.file(item);
        let unmeasured = self.list.measuring() && !self.manifest.is_measured(&file);
        let moved = self.manifest.numbers(&file) != Some((item.scene, item.sample, item.point));
        if !unmeasured && !moved {
            return Ok(());
        }
        let Some(mut entry) = self.manifest.entry(&file).map_err(Error::from)? else {
            return Ok(());
        };
        (entry.index, entry.sample, entry.point) = (item.scene, item.sample, item.point);
        if unmeasured {
            entry.metrics = self.measured(&self.list.path(item), recipe);
            entry.metrics_of_file = entry.metrics.is_some();
        }
        match moved || entry.metrics.is_some() {
            true => Ok(self.manifest.append(&entry).map_err(Error::from)?),
            false => Ok(()),
        }
    }

    /// The measures of a finished file. That there are none costs nobody the video.
    fn measured(&self, path: &Path, recipe: &Recipe) -> Option<Report> {
        self.printer.stage(&format!("measuring `{}`", path.display()));
        let options = metrics::Options::of(recipe).map_err(Error::from);
        let report = options.and_then(|options| metrics::measure_file(path, options, |_| f64::from(recipe.video.fps)));
        let warn = |error: &Error| {
            self.printer
                .warning(&format!("a finished video is not measured: {error}"))
        };
        report.inspect_err(warn).ok()
    }

    fn note(&mut self, item: &Item, entry: &Entry) -> Result<(), Failure> {
        self.manifest.append(entry).map_err(Error::from)?;
        Ok(self.failures.remove(item).map_err(Error::from)?)
    }

    fn entry(&self, item: &Item, recipe: &Recipe, path: &Path, times: EntryTimes) -> Result<Entry, Error> {
        let unreadable = |error: std::io::Error| VideoError::Unreadable {
            path: path.into(),
            reason: error.to_string(),
        };
        let (scene, key) = (self.list.scene(item), Key::of(recipe));
        Ok(Entry {
            file: self.list.file(item),
            key: key.hash,
            sha256: sha256(path).map_err(unreadable)?,
            bytes: std::fs::metadata(path).map_err(unreadable)?.len(),
            pictures: recipe.video.pictures as u64,
            index: item.scene,
            sample: item.sample,
            id: scene.id.clone(),
            seed: item.seed,
            prompt: scene.title().into(),
            times,
            point: item.point,
            metrics: None,
            metrics_of_file: false,
            recipe: key.recipe,
        })
    }

    /// Says that a video cannot be made, and goes on.
    fn failed(&mut self, item: &Item, error: &Error) -> Result<(), Failure> {
        let scene = self.list.scene(item);
        let label = self.list.label(item);
        self.printer
            .warning(&format!("{label} cannot be made: {error}; it is skipped"));
        self.tally.failed += 1;
        let reason = error.to_string();
        Ok(self.failures.add(item, scene, &reason).map_err(Error::from)?)
    }

    fn tell(&self, took: Duration, interrupted: bool) {
        let tally = &self.tally;
        let mut parts = vec![format!("{} rendered", tally.made)];
        if tally.there > 0 {
            parts.push(format!("{} were there already", tally.there));
        }
        if tally.failed > 0 {
            parts.push(format!(
                "{} could not be made (see `{}`)",
                tally.failed,
                self.failures.path().display()
            ));
        }
        self.printer.note(&format!(
            "{}; {:.1} s, of which {:.1} s rendering",
            parts.join(", "),
            took.as_secs_f64(),
            tally.rendering.as_secs_f64()
        ));
        if interrupted {
            self.printer.note("stopped; the same command goes on where it was");
        }
    }
}

type VideoRecordKey = (usize, usize, usize);

/// What of a video's shape decides how much memory it needs.
fn of_video(video: &VideoRecord) -> VideoRecordKey {
    (video.width, video.height, video.latent_frames)
}

/// Embeds the next prompts, as many as are held at once (at least `needed`), and forgets the others.
fn read_group<'a>(
    engine: &mut Engine,
    prompts: impl Iterator<Item = &'a PromptSpan>,
    needed: usize,
    printer: &Printer,
) -> Result<(), Error> {
    let mut group: Vec<&str> = Vec::new();
    for prompt in prompts.take(HELD * 1000) {
        if !group.contains(&prompt.text.as_str()) {
            if group.len() >= HELD.max(needed) {
                break;
            }
            group.push(&prompt.text);
        }
    }
    printer.stage("reading the prompts");
    engine.keep_prompts(|prompt| group.contains(&prompt));
    engine.read_prompts(group.iter().copied())?;
    let texts: Vec<String> = group.iter().map(|text| (*text).to_owned()).collect();
    tell_truncated(engine, &texts, printer);
    Ok(())
}

/// Errors that every further video would have.
fn stops_all(error: &Error) -> bool {
    matches!(
        error,
        Error::Cancelled
            | Error::Batch(_)
            | Error::StagePanicked { .. }
            | Error::Video(
                VideoError::Write { .. }
                    | VideoError::Finish { .. }
                    | VideoError::NotWritable { .. }
                    | VideoError::FolderMissing { .. }
                    | VideoError::NoFfmpeg
                    | VideoError::NoEncoder { .. }
                    | VideoError::Setting { .. }
                    | VideoError::Size { .. }
            )
    )
}
