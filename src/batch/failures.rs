//! The videos that could not be made, as a prompt file that can be rendered.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{BatchError, Item, Shard};
use crate::prompts::Scene;

/// The file `failed.jsonl` of a folder. A video leaves it when it is made; without any, there is no file.
#[derive(Debug)]
pub struct Failures {
    path: PathBuf,
    /// Lines by the names of the videos.
    lines: BTreeMap<String, String>,
}

impl Failures {
    /// Reads what earlier runs left.
    ///
    /// # Errors
    /// On a line without an id, or a file that cannot be read.
    pub fn read(folder: &Path, shard: Shard) -> Result<Self, BatchError> {
        let path = folder.join(format!("failed{}.jsonl", shard.suffix()));
        let text = match fs::read_to_string(&path) {
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
            let wrong = |reason: String| BatchError::FailedLine {
                path: path.clone(),
                line: number + 1,
                reason,
            };
            let value: Value = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            let id = value.get("id").and_then(Value::as_str);
            let id = id.ok_or_else(|| wrong("it has no `id`".into()))?;
            lines.insert(id.to_owned(), line.to_owned());
        }
        Ok(Self { path, lines })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that a video could not be made. Its name becomes its id and its seed is written out, so that the file
    /// rendered into the same folder makes the same videos.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, item: &Item, scene: &Scene, reason: &str) -> Result<(), BatchError> {
        let scene = Scene {
            id: Some(item.stem.clone()),
            seed: Some(item.seed),
            ..scene.clone()
        };
        let line = scene.to_json(Some(reason)).to_string();
        self.lines.insert(item.stem.clone(), line);
        self.write()
    }

    /// Forgets a video that is made.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remove(&mut self, item: &Item) -> Result<(), BatchError> {
        match self.lines.remove(&item.stem) {
            Some(_) => self.write(),
            None => Ok(()),
        }
    }

    /// Replaces the file at once: a kill leaves the old or the new one.
    fn write(&self) -> Result<(), BatchError> {
        let draft = self.path.with_extension("jsonl.draft");
        let write = || -> io::Result<()> {
            if self.lines.is_empty() {
                return fs::remove_file(&self.path);
            }
            let mut file = fs::File::create(&draft)?;
            for line in self.lines.values() {
                writeln!(file, "{line}")?;
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
