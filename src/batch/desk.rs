//! The files of a run: videos get their names, and what became of them is noted.

use std::path::{Path, PathBuf};

use super::{Entry, EntryTimes, Failures, Item, Key, List, Manifest, OutputFolder};
use crate::{
    Error, Result,
    hub::file_hash::sha256,
    metrics::{self, Report},
    recipe::Recipe,
    render::{Event, Outcome, state::StatePaths},
    video::{VideoError, VideoSummary},
};

/// Extension of the trace of the video in work.
const TRACE_IN_WORK: &str = "jsonl";

/// The folder and its files.
pub(super) struct Desk<'a> {
    pub list: &'a List<'a>,
    pub folder: OutputFolder,
    pub manifest: Manifest,
    pub failures: Failures,
}

impl<'a> Desk<'a> {
    /// Takes the folder and reads what earlier runs left in it.
    ///
    /// # Errors
    /// When another process works there, or a file cannot be read.
    pub fn open(list: &'a List<'a>) -> Result<Self> {
        let folder = OutputFolder::take(list.folder, list.shard)?;
        let mut failures = Failures::read(list.folder, list.shard)?;
        // The points of a sweep have settings of their own: its failures belong to the same command.
        if list.points.is_empty() {
            failures.keep_settings(list.session.given_settings());
        }
        Ok(Self {
            list,
            folder,
            manifest: Manifest::read(list.folder, list.shard)?,
            failures,
        })
    }

    /// Where the trace of the video in work is written.
    pub fn trace_in_work(&self) -> PathBuf {
        self.folder.in_work(TRACE_IN_WORK)
    }

    /// Where the state of the video in work is kept: outside of the folder that is emptied between runs.
    pub fn state_in_work(&self, item: &Item) -> StatePaths {
        let stem = format!("work{}", self.list.shard.suffix());
        StatePaths::named(self.list.folder, &stem, &self.list.path(item))
    }

    /// Gives the video its name and notes it.
    ///
    /// # Errors
    /// When a file cannot be moved or written.
    pub fn finish(
        &mut self,
        item: &Item,
        recipe: &Recipe,
        outcome: Outcome,
        summary: &VideoSummary,
    ) -> Result<(Entry, PathBuf)> {
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
        if self.list.trace.is_some() {
            self.folder.finish(&self.trace_in_work(), &item.file("trace.jsonl"))?;
        }
        let path = self.folder.finish(&summary.path, &entry.file)?;
        self.note(item, &entry)?;
        Ok((entry, path))
    }

    /// Notes a video that an earlier run finished and had no time to note.
    ///
    /// # Errors
    /// When the file cannot be read, or the manifest cannot be written.
    pub fn adopt(&mut self, item: &Item, recipe: &Recipe, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let path = self.list.path(item);
        let entry = self.entry(item, recipe, &path, EntryTimes::default())?;
        let metrics = self.list.measures.then(|| measured(&path, recipe, observe)).flatten();
        let entry = Entry {
            metrics_of_file: metrics.is_some(),
            metrics,
            ..entry
        };
        self.note(item, &entry)
    }

    /// Writes the line of a finished video again if it has no measures because the video was made without, or if prompts
    /// or points have other numbers now.
    ///
    /// # Errors
    /// When the manifest cannot be read or written.
    pub fn refresh(&mut self, item: &Item, recipe: &Recipe, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let file = self.list.file(item);
        let unmeasured = self.list.measures && !self.manifest.is_measured(&file);
        let moved = self.manifest.numbers(&file) != Some((item.scene, item.sample, item.point));
        if !unmeasured && !moved {
            return Ok(());
        }
        let Some(mut entry) = self.manifest.entry(&file)? else {
            return Ok(());
        };
        (entry.index, entry.sample, entry.point) = (item.scene, item.sample, item.point);
        if unmeasured {
            entry.metrics = measured(&self.list.path(item), recipe, observe);
            entry.metrics_of_file = entry.metrics.is_some();
        }
        if moved || entry.metrics.is_some() {
            self.manifest.append(&entry)?;
        }
        Ok(())
    }

    fn note(&mut self, item: &Item, entry: &Entry) -> Result<()> {
        self.manifest.append(entry)?;
        Ok(self.failures.remove(item)?)
    }

    fn entry(&self, item: &Item, recipe: &Recipe, path: &Path, times: EntryTimes) -> Result<Entry> {
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

    /// Notes that a video cannot be made.
    ///
    /// # Errors
    /// When the file of failures cannot be written.
    pub fn fail(&mut self, item: &Item, error: &Error, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let video = &self.list.label(item);
        observe(Event::Skipped { video, error });
        Ok(self.failures.add(item, self.list.scene(item), &error.to_string())?)
    }
}

/// The measures of a finished file. That there are none costs nobody the video.
fn measured(path: &Path, recipe: &Recipe, observe: &mut dyn FnMut(Event<'_>)) -> Option<Report> {
    observe(Event::Stage(&format!("measuring `{}`", path.display())));
    let options = metrics::Options::of(recipe).map_err(Error::from);
    let report = options.and_then(|options| metrics::measure_file(path, options, |_| f64::from(recipe.video.fps)));
    let mut warn = |error: &Error| observe(Event::Warning(&format!("a finished video is not measured: {error}")));
    report.inspect_err(|error| warn(error)).ok()
}
