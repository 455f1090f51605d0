//! The finished videos of a folder: one line of JSON each, appended and synced, so that a kill at any moment costs at
//! most the video in work.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BatchError, Shard, compact};
use crate::{files, metrics::Report};

/// A finished video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Name in the folder.
    pub file: String,
    /// As [`super::Key::hash`].
    pub key: String,
    /// SHA-256 of the file.
    pub sha256: String,
    pub bytes: u64,
    pub pictures: u64,
    /// Number of the prompt in its file, from 0.
    pub index: usize,
    /// Number of the sample, from 0.
    pub sample: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub seed: u64,
    /// The first prompt, in full.
    pub prompt: String,
    pub times: EntryTimes,
    /// Number of the point of a sweep, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<usize>,
    /// What was measured of the pictures while they were made; metrics are written by their keys alone, numbers with
    /// seven digits.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "compact::metrics"
    )]
    pub metrics: Option<Report>,
    /// Whether they were measured later, of the pictures as they are encoded in the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metrics_of_file: bool,
    /// As [`super::Key::recipe`].
    pub recipe: Value,
}

/// Seconds that the stages took; they overlap.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct EntryTimes {
    pub denoise: f64,
    pub decode: f64,
    pub encode: f64,
    pub total: f64,
}

/// Numbers of prompt, sample and point.
pub type Numbers = (usize, u32, Option<usize>);

/// What is known of an entry while others are rendered: recipes of 100,000 videos would fill memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub key: String,
    pub bytes: u64,
    pub measured: bool,
    /// [`Entry::index`], [`Entry::sample`], [`Entry::point`].
    pub numbers: Numbers,
    /// Where its line is.
    source: usize,
    start: u64,
    length: usize,
}

/// The manifests of a folder: all are read, one is written.
#[derive(Debug)]
pub struct Manifest {
    path: PathBuf,
    own: Option<File>,
    sources: Vec<PathBuf>,
    known: HashMap<String, Known>,
}

impl Manifest {
    /// Reads the manifests of `folder`. A last line that a crash has cut short is ignored.
    ///
    /// # Errors
    /// On a line that is no entry, or a file that cannot be read.
    pub fn read(folder: &Path, shard: Shard) -> Result<Self, BatchError> {
        let mut manifest = Self {
            path: folder.join(format!("manifest{}.jsonl", shard.suffix())),
            own: None,
            sources: Vec::new(),
            known: HashMap::new(),
        };
        for path in manifests(folder)? {
            let file = files::open(&path).map_err(|error| unreadable(&path, &error))?;
            manifest.take(&path, BufReader::new(file))?;
        }
        Ok(manifest)
    }

    fn take(&mut self, path: &Path, mut lines: impl BufRead) -> Result<(), BatchError> {
        let source = self.sources.len();
        self.sources.push(path.into());
        let (mut start, mut line) = (0, Vec::new());
        for number in 0.. {
            let at = start;
            line.clear();
            let read = lines.read_until(b'\n', &mut line);
            if read.map_err(|error| unreadable(path, &error))? == 0 {
                break;
            }
            start += line.len() as u64;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let damaged = |reason| BatchError::Line {
                path: path.into(),
                line: number + 1,
                reason,
            };
            let entry: Entry = match serde_json::from_slice(&line) {
                Ok(entry) => entry,
                Err(_) if !line.ends_with(b"\n") => break,
                Err(error) => return Err(damaged(error.to_string())),
            };
            if !files::is_inside(&entry.file) {
                return Err(damaged(format!("`{}` is not a file of the folder", entry.file)));
            }
            let known = Known {
                key: entry.key,
                bytes: entry.bytes,
                measured: entry.metrics.is_some(),
                numbers: (entry.index, entry.sample, entry.point),
                source,
                start: at,
                length: line.len(),
            };
            self.known.insert(entry.file, known);
        }
        Ok(())
    }

    /// Opens the manifest of this process for [`Manifest::append`]; a line that was cut short is taken out. Only for
    /// the holder of the folder's lock.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(&mut self) -> Result<(), BatchError> {
        let opened = files::open_kept(&self.path, OpenOptions::new().read(true).append(true));
        let mut file = opened.map_err(|error| unwritten(&self.path, &error))?;
        mend(&mut file).map_err(|error| unwritten(&self.path, &error))?;
        self.own = Some(file);
        Ok(())
    }

    /// Notes a finished video, safe on disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, entry: &Entry) -> Result<(), BatchError> {
        let mut line = serde_json::to_vec(entry).unwrap_or_default();
        line.push(b'\n');
        let Some(file) = &mut self.own else {
            return Err(unwritten(&self.path, &io::Error::other("it is not open")));
        };
        // One write: a line is there or not, as far as the system allows.
        let written = file.write_all(&line).and_then(|()| file.sync_data());
        written.map_err(|error| unwritten(&self.path, &error))
    }

    pub(super) fn known(&self, file: &str) -> Option<&Known> {
        self.known.get(file)
    }

    /// The key and size of a finished video.
    pub fn find(&self, file: &str) -> Option<(&str, u64)> {
        self.known(file).map(|known| (known.key.as_str(), known.bytes))
    }

    /// Whether a finished video was measured.
    pub fn is_measured(&self, file: &str) -> bool {
        self.known(file).is_some_and(|known| known.measured)
    }

    /// The numbers that the line of a finished video has.
    pub fn numbers(&self, file: &str) -> Option<Numbers> {
        self.known(file).map(|known| known.numbers)
    }

    /// Whether nothing is finished.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The whole entry of a finished video.
    ///
    /// # Errors
    /// When the manifest cannot be read any more.
    pub fn entry(&self, file: &str) -> Result<Option<Entry>, BatchError> {
        let Some(known) = self.known(file) else { return Ok(None) };
        let path = &self.sources[known.source];
        // This line alone: the manifest of many videos has as many MB.
        let mut line = vec![0; known.length];
        let mut file = files::open(path).map_err(|error| unreadable(path, &error))?;
        let read = file
            .seek(SeekFrom::Start(known.start))
            .and_then(|_| file.read_exact(&mut line));
        read.map_err(|error| unreadable(path, &error))?;
        match serde_json::from_slice(&line) {
            Ok(entry) => Ok(Some(entry)),
            Err(error) => Err(unreadable(path, &error.into())),
        }
    }
}

/// Cuts off an unfinished last line, or ends a finished one that has no line end.
fn mend(file: &mut File) -> io::Result<()> {
    /// Bytes that are looked at at once, from the end on.
    const STEP: u64 = 1 << 16;
    let bytes = file.metadata()?.len();
    let (mut end, mut last) = (bytes, Vec::new());
    while end > 0 {
        let from = end.saturating_sub(STEP);
        let mut piece = vec![0; (end - from) as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut piece)?;
        let line = piece.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        last.splice(..0, piece.drain(line..));
        end = from + line as u64;
        if line > 0 {
            break;
        }
    }
    match last.as_slice() {
        [] => Ok(()),
        last if serde_json::from_slice::<Entry>(last).is_ok() => file.write_all(b"\n"),
        _ => file.set_len(end),
    }
}

/// The manifests in a folder; none without a folder.
pub(crate) fn manifests(folder: &Path) -> Result<Vec<PathBuf>, BatchError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(folder, &error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let name = entry.file_name();
        let is_manifest = name.to_str().is_some_and(|name| {
            let middle = name
                .strip_prefix("manifest")
                .and_then(|rest| rest.strip_suffix(".jsonl"));
            middle.is_some_and(|middle| middle.is_empty() || middle.starts_with('-') && middle.contains("-of-"))
        });
        if is_manifest {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn unreadable(path: &Path, error: &io::Error) -> BatchError {
    BatchError::Unreadable {
        path: path.into(),
        reason: error.to_string(),
    }
}

fn unwritten(path: &Path, error: &io::Error) -> BatchError {
    BatchError::Write {
        path: path.into(),
        reason: error.to_string(),
    }
}
