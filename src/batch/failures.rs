//! The videos that could not be made, as a prompt file that can be rendered.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{BatchError, Item, Shard};
use crate::{
    files,
    prompts::{FAILED_VIDEOS, Scene},
};

/// The file `failed.jsonl` of a folder. A video leaves it when it is made; without any, there is no file.
///
/// Of a batch, each line is a video. Of a sweep, each line is a prompt, and its key `videos` names those of its videos
/// that could not be made: the same sweep of this file tries them again and leaves the others.
#[derive(Debug)]
pub struct Failures {
    path: PathBuf,
    /// By the ids of the lines.
    lines: BTreeMap<String, Failure>,
    /// Model and settings of this run, for the lines that it adds.
    settings: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Failure {
    line: Map<String, Value>,
    /// Of a sweep, names of the videos.
    videos: BTreeSet<String>,
}

impl Failures {
    /// Reads what earlier runs left.
    ///
    /// # Errors
    /// On a line without an id, or a file that cannot be read.
    pub fn read(folder: &Path, shard: Shard) -> Result<Self, BatchError> {
        let path = folder.join(format!("failed{}.jsonl", shard.suffix()));
        let text = match files::read_text(&path, u64::MAX - 1) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                let reason = error.to_string();
                return Err(BatchError::Unreadable { path, reason });
            }
        };
        let mut lines = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let (id, failure) = parse(line).map_err(|reason| BatchError::FailedLine {
                path: path.clone(),
                line: number + 1,
                reason,
            })?;
            lines.insert(id, failure);
        }
        let settings = BTreeMap::new();
        Ok(Self { path, lines, settings })
    }

    /// Lets every line that is added keep the model and the settings of the run, so that the file alone makes the same
    /// videos.
    pub fn keep_settings(&mut self, settings: BTreeMap<String, String>) {
        self.settings = settings;
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that a video could not be made. Its name becomes its id and its seed is written out, so that the file
    /// rendered into the same folder makes the same videos; in a sweep, the prompt keeps its id and has no seed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, item: &Item, scene: &Scene, reason: &str) -> Result<(), BatchError> {
        let of_sweep = item.prompt_id();
        let id = of_sweep.unwrap_or(&item.stem).to_owned();
        let scene = Scene {
            id: Some(id.clone()),
            seed: of_sweep.is_none().then_some(item.seed),
            settings: self.settings.clone(),
            ..scene.clone()
        };
        let failure = self.lines.entry(id).or_default();
        if let Value::Object(line) = scene.to_json(Some(reason)) {
            failure.line = line;
        }
        if of_sweep.is_some() {
            failure.videos.insert(item.stem.clone());
        }
        self.write()
    }

    /// Forgets a video that is made.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remove(&mut self, item: &Item) -> Result<(), BatchError> {
        let id = item.prompt_id().unwrap_or(&item.stem);
        let Some(failure) = self.lines.get_mut(id) else {
            return Ok(());
        };
        if item.prompt_id().is_some() && !failure.videos.remove(&item.stem) {
            return Ok(());
        }
        if failure.videos.is_empty() {
            self.lines.remove(id);
        }
        self.write()
    }

    /// Replaces the file at once: a kill leaves the old or the new one.
    fn write(&self) -> Result<(), BatchError> {
        let draft = self.path.with_extension("jsonl.draft");
        let write = || -> io::Result<()> {
            if self.lines.is_empty() {
                return fs::remove_file(&self.path);
            }
            let mut file = files::create(&draft)?;
            for failure in self.lines.values() {
                writeln!(file, "{}", failure.to_line())?;
            }
            file.sync_data()?;
            fs::rename(&draft, &self.path)
        };
        write().map_err(|error| BatchError::Write {
            path: self.path.clone(),
            reason: error.to_string(),
        })
    }
}

impl Failure {
    fn to_line(&self) -> String {
        let mut line = self.line.clone();
        if !self.videos.is_empty() {
            line.insert(FAILED_VIDEOS.into(), self.videos.iter().cloned().collect());
        }
        Value::Object(line).to_string()
    }
}

/// The id of a line, and what failed.
fn parse(line: &str) -> Result<(String, Failure), String> {
    let mut line: Map<String, Value> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let id = line
        .get("id")
        .and_then(Value::as_str)
        .ok_or("it has no `id`")?
        .to_owned();
    let videos = match line.remove(FAILED_VIDEOS) {
        None => BTreeSet::new(),
        Some(videos) => serde_json::from_value(videos).map_err(|error| format!("{FAILED_VIDEOS}: {error}"))?,
    };
    Ok((id, Failure { line, videos }))
}
