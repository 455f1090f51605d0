//! Making a list, video by video.

use std::{
    collections::{HashSet, VecDeque},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Entry, Item, List, Planned, State, desk::Desk};
use crate::{
    Error, Result,
    device::Compute,
    memory::Sizes,
    metrics,
    models::ModelFiles,
    prompts::PromptSpan,
    recipe::{Recipe, VideoRecord},
    render::{
        Event, InWork, Job, Outcome,
        engine::Engine,
        jobs::{check_heads, read_start},
        render,
        run::tell_truncated,
        session::Session,
        speed::Speeds,
        state::{Resume, StateOptions},
    },
    rollout::CancelToken,
    trace::TraceOptions,
    video::{Target, VideoError, VideoSummary},
};

/// Prompts whose embeddings are held at once, at most 8 MB each for Wan models (a usual prompt takes 2).
const HELD: usize = 32;
/// The same where several models may have one text encoder, so that it reads each of them once.
const HELD_FOR_SEVERAL: usize = 256;

/// What came of the videos so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub made: usize,
    /// Those that were there before.
    pub there: usize,
    /// Those that cannot be made.
    pub failed: usize,
    /// Time in which videos were made.
    pub rendering: Duration,
    /// Time since the first video was begun.
    pub took: Duration,
}

/// A run that makes what is not there yet of a list.
pub struct Run<'a> {
    desk: Desk<'a>,
    /// Of each session.
    files: Vec<ModelFiles>,
    /// For each session, the first one with the same weights.
    loads: Vec<usize>,
    compute: Compute,
    /// Loaded at the first video, with the number of its session.
    engine: Option<(usize, Engine)>,
    todo: VecDeque<(&'a Item, Recipe)>,
    count: usize,
    /// Pictures of all videos that are to be made.
    pictures: usize,
    speeds: Speeds,
    tally: Tally,
    begun: Instant,
}

/// A video that is made, has its name and is in the manifest.
pub struct Made {
    pub entry: Entry,
    pub path: PathBuf,
}

impl<'a> Run<'a> {
    /// Takes the folder and settles which of `items` are to be made. `begin` is called when nothing stands in the way,
    /// before anything is written.
    ///
    /// # Errors
    /// When another process works in the folder, model files cannot be had, what is there may not be replaced, or a file
    /// of the folder cannot be read or written.
    pub fn open(
        list: &'a List<'a>,
        items: &'a [Item],
        begin: impl FnOnce() -> Result<()>,
        cancel: &CancelToken,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Self> {
        let mut desk = Desk::open(list)?;
        let sessions = list.all_sessions();
        let (mut files, mut records) = (Vec::new(), Vec::new());
        for session in sessions {
            let found = session.files(cancel, observe)?;
            check_heads(list.trace.as_ref(), &found)?;
            records.push(Some(session.record(&found)?));
            files.push(found);
        }
        let (planned, conflicts) = list.plan(items, &desk.manifest, &records, observe)?;
        conflicts.refuse(list)?;
        begin()?;
        desk.manifest.open()?;
        let compute = list.session.compute(observe)?;
        let sizes = files.iter().map(Sizes::of).collect::<Result<Vec<_>>>()?;
        let mut run = Self {
            desk,
            files,
            loads: loads(sessions),
            compute,
            engine: None,
            todo: VecDeque::new(),
            count: 0,
            pictures: 0,
            speeds: list.session.speeds(),
            tally: Tally::default(),
            begun: Instant::now(),
        };
        run.sort(planned, &sizes, cancel, observe)?;
        run.count = run.todo.len();
        run.pictures = run.todo.iter().map(|(_, recipe)| recipe.video.pictures).sum();
        run.begun = Instant::now();
        Ok(run)
    }

    /// What came of the videos so far.
    pub fn tally(&self) -> Tally {
        Tally {
            took: self.begun.elapsed(),
            ..self.tally
        }
    }

    /// The file that lists what cannot be made.
    pub fn failures(&self) -> &Path {
        self.desk.failures.path()
    }

    /// Makes the next video that can be made; `None` when all are settled. What cannot be made is noted and left out.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when the run is to stop; else what every further video would fail at, too.
    pub fn next(&mut self, cancel: &CancelToken, observe: &mut dyn FnMut(Event<'_>)) -> Result<Option<Made>> {
        while let Some((item, recipe)) = self.todo.front() {
            let (item, recipe) = (*item, recipe.clone());
            let (number, mut engine) = self.take_engine(item, observe)?;
            let made = self.make(&mut engine, item, &recipe, cancel, observe);
            self.engine = Some((number, engine));
            let made = made?;
            self.todo.pop_front();
            if let Some((outcome, summary)) = made {
                self.tally.rendering += outcome.times.total;
                self.speeds.note(&recipe, &outcome.times);
                let (entry, path) = self.desk.finish(item, &recipe, outcome, &summary)?;
                self.tally.made += 1;
                observe(Event::Finished {
                    summary: &summary,
                    complete: true,
                });
                return Ok(Some(Made { entry, path }));
            }
        }
        Ok(None)
    }

    /// The model of an item; loaded, in place of another one, unless it is there.
    fn take_engine(&mut self, item: &Item, observe: &mut dyn FnMut(Event<'_>)) -> Result<(usize, Engine)> {
        let number = self.desk.list.session_number(item);
        let load = self.loads.get(number).copied().unwrap_or_default();
        let other = match self.engine.take() {
            Some((loaded, engine)) if loaded == load => return Ok((load, engine)),
            other => other,
        };
        let several = self.loads.iter().any(|load| *load > 0);
        let model = &self.desk.list.session_of(load).located.model;
        observe(Event::Stage(&match several {
            true => format!("loading the model {model}"),
            false => "loading the model".into(),
        }));
        // The one before leaves first: there may not be room for two.
        let embeddings = other.map(|(_, engine)| engine.into_embeddings());
        let mut engine = Engine::load(&self.files[load], &self.compute)?;
        if let Some(embeddings) = embeddings {
            engine.adopt(embeddings);
        }
        Ok((load, engine))
    }

    /// Settles what needs no rendering and keeps the rest.
    fn sort(
        &mut self,
        planned: Vec<Planned<'a>>,
        sizes: &[Sizes],
        cancel: &CancelToken,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let mut fits: HashSet<(VideoRecordKey, usize, Option<usize>)> = HashSet::new();
        for Planned { item, state } in planned {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            match state {
                // What is in the way was refused before.
                State::InTheWay => {}
                State::Kept => {
                    self.tally.there += 1;
                    self.desk.failures.remove(item)?;
                }
                State::Done(recipe) => {
                    self.tally.there += 1;
                    self.desk.refresh(item, &recipe, observe)?;
                    self.desk.failures.remove(item)?;
                }
                State::Unlisted(recipe) => {
                    self.tally.there += 1;
                    self.desk.adopt(item, &recipe, observe)?;
                }
                State::Bad(error) => self.fail(item, &error, observe)?,
                State::Todo(recipe) => {
                    let shape = (of_video(&recipe.video), recipe.prompts.len(), item.point);
                    if self.desk.list.checks_memory && !fits.contains(&shape) {
                        let number = self.desk.list.session_number(item);
                        let session = self.desk.list.session_of(number);
                        let plan = session.memory(&sizes[number], &recipe, Some(&self.compute));
                        if let Err(error) = plan.and_then(|plan| Ok(plan.check()?)) {
                            self.fail(item, &error, observe)?;
                            continue;
                        }
                        fits.insert(shape);
                    }
                    self.todo.push_back((item, *recipe));
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, item: &Item, error: &Error, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        self.tally.failed += 1;
        self.desk.fail(item, error, observe)
    }

    /// Makes the first video of the list in the folder of what is in work; `None` when it cannot be made.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when it was stopped before its end; else what every further video would fail at, too.
    fn make(
        &mut self,
        engine: &mut Engine,
        item: &Item,
        recipe: &Recipe,
        cancel: &CancelToken,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<(Outcome, VideoSummary)>> {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let unread = |prompt: &PromptSpan| engine.embedding(&prompt.text).is_none();
        if recipe.prompts.iter().any(unread) {
            let prompts = self.todo.iter().flat_map(|(_, recipe)| &recipe.prompts);
            let held = match self.loads.iter().any(|load| *load > 0) {
                true => HELD_FOR_SEVERAL,
                false => HELD,
            };
            read_group(engine, prompts, held.max(recipe.prompts.len()), observe)?;
        }
        match self.render(engine, item, recipe, cancel, observe) {
            Ok(outcome) => match outcome.summary.clone().filter(|_| outcome.complete) {
                Some(summary) => Ok(Some((outcome, summary))),
                None => {
                    self.desk.folder.discard();
                    Err(Error::Cancelled)
                }
            },
            Err(error) if stops_all(&error) => Err(error),
            Err(error) => {
                self.desk.folder.discard();
                self.desk.state_in_work(item).remove();
                self.fail(item, &error, observe)?;
                Ok(None)
            }
        }
    }

    fn render(
        &self,
        engine: &mut Engine,
        item: &Item,
        recipe: &Recipe,
        cancel: &CancelToken,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Outcome> {
        let (list, folder) = (self.desk.list, &self.desk.folder);
        let given = match list.start(list.scene(item)) {
            Some(file) => {
                let session = list.session_of(list.session_number(item));
                let pictures = read_start(&file, session, observe)?;
                Some(engine.given(&pictures)?)
            }
            None => None,
        };
        let path = folder.in_work(list.form.as_str());
        let state = list.keeps_state.then(|| StateOptions {
            paths: self.desk.state_in_work(item),
            // A trace holds all of a video.
            resume: if list.trace.is_some() {
                Resume::Never
            } else {
                Resume::IfThere
            },
        });
        let job = Job {
            recipe: recipe.clone(),
            target: Target::parse(&path, Some(list.form))?,
            given,
            disclosure: list.disclosure,
            save_latents: None,
            thumbnail: None,
            metrics: list.measures.then(|| metrics::Options::of(recipe)).transpose()?,
            trace: list.trace.as_ref().map(|options| TraceOptions {
                path: self.desk.trace_in_work(),
                video: Some(list.path(item)),
                ..options.clone()
            }),
            state,
            overwrite: true,
        };
        let number = self.count - self.todo.len() + 1;
        let left: usize = self.todo.iter().map(|(_, recipe)| recipe.video.pictures).sum();
        let run = (self.pictures - left, self.pictures);
        observe(Event::Video(InWork::of(&recipe.video, (number, self.count), run)));
        render(engine, &job, cancel, &mut *observe).map_err(|error| *error.error)
    }
}

/// What of a video decides how much memory it needs: its shape, its prompts, its point of a sweep.
pub(crate) type VideoRecordKey = (usize, usize, usize);

/// What of a video's shape decides how much memory it needs.
pub(crate) fn of_video(video: &VideoRecord) -> VideoRecordKey {
    (video.width, video.height, video.latent_frames)
}

/// For each session, the number of the first one with the same weights: what is loaded for one serves all of them.
pub(crate) fn loads(sessions: &[Session]) -> Vec<usize> {
    let first = |session: &Session| sessions.iter().position(|other| other.same_weights(session));
    let numbered = sessions.iter().enumerate();
    numbered
        .map(|(number, session)| first(session).unwrap_or(number))
        .collect()
}

/// Embeds the next prompts, `held` at most, and forgets the others.
fn read_group<'a>(
    engine: &mut Engine,
    prompts: impl Iterator<Item = &'a PromptSpan>,
    held: usize,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let mut group: Vec<&str> = Vec::new();
    for prompt in prompts.take(held * 1000) {
        if !group.contains(&prompt.text.as_str()) {
            if group.len() >= held {
                break;
            }
            group.push(&prompt.text);
        }
    }
    observe(Event::Stage("reading the prompts"));
    engine.keep_prompts(|prompt| group.contains(&prompt));
    engine.read_prompts(group.iter().copied())?;
    tell_truncated(engine, group, observe);
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
                    | VideoError::NoFfmpeg { .. }
                    | VideoError::Program { .. }
                    | VideoError::NoEncoder { .. }
                    | VideoError::Setting { .. }
                    | VideoError::Size { .. }
            )
    )
}
