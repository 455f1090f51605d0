//! The lines of a manifest, read with forgiveness: what a crash or a hand left is told of, not refused.

use std::{
    collections::HashMap,
    fs,
    io::{self, BufRead, BufReader},
    path::Path,
};

use serde::Deserialize;
use serde_json::Value;

use super::ReportError;
use crate::{
    batch::{EntryTimes, manifests},
    files,
    metrics::Report,
};

/// Notes of one kind that are given one by one.
const NOTED: usize = 5;

/// What a report needs of a [`crate::batch::Entry`].
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Line {
    pub file: String,
    pub seed: u64,
    pub prompt: String,
    #[serde(default)]
    pub sha256: Option<String>,
    #[serde(default)]
    pub bytes: Option<u64>,
    #[serde(default)]
    pub pictures: Option<u64>,
    #[serde(default)]
    pub index: usize,
    #[serde(default)]
    pub sample: u32,
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub point: Option<usize>,
    #[serde(default)]
    pub times: Option<EntryTimes>,
    /// Measures as they stand, until [`Line::settle`].
    #[serde(default)]
    metrics: Option<Value>,
    /// As it stands, until [`Line::settle`].
    #[serde(default)]
    recipe: Value,
    /// The recipe as text, which takes a tenth of the memory: there may be 100,000.
    #[serde(skip)]
    recipe_text: String,
    /// The measures, if the line has any that this version understands.
    #[serde(skip)]
    pub measures: Option<Report>,
    /// Pictures per second, as the recipe says.
    #[serde(skip)]
    pub fps: Option<f64>,
    /// Width and height in pixels, as the recipe says.
    #[serde(skip)]
    pub size: Option<(u64, u64)>,
}

impl Line {
    /// The recipe; null without one.
    pub fn recipe(&self) -> Value {
        serde_json::from_str(&self.recipe_text).unwrap_or_default()
    }

    /// Reads what is needed of measures and recipe.
    fn settle(&mut self) {
        let metrics = self.metrics.take();
        self.measures = metrics.and_then(|metrics| serde_json::from_value(metrics).ok());
        let recipe = std::mem::take(&mut self.recipe);
        self.recipe_text = recipe.to_string();
        let number = |path: &str| recipe.pointer(path).and_then(Value::as_u64);
        self.size = number("/video/width").zip(number("/video/height"));
        let fps = recipe.pointer("/video/fps").and_then(Value::as_f64);
        self.fps = fps.filter(|fps| crate::metrics::FRAME_RATES.contains(fps));
    }

    /// What is wrong with the name of the file, which must lie in the folder.
    fn fault(&self) -> Option<String> {
        (!files::is_inside(&self.file)).then(|| format!("`{}` is not a file of the folder", self.file))
    }
}

/// All lines of a folder's manifests.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// One per file: the last.
    pub lines: Vec<Line>,
    /// What could not be used, for people.
    pub notes: Vec<String>,
}

/// Reads the manifests of `folder`.
///
/// # Errors
/// When there is no folder or manifest, none can be read, or none of the lines can be used.
pub(super) fn read(folder: &Path) -> Result<Lines, ReportError> {
    match fs::metadata(folder) {
        Err(_) => return Err(ReportError::NoFolder { path: folder.into() }),
        Ok(found) if !found.is_dir() => return Err(ReportError::NotAFolder { path: folder.into() }),
        Ok(_) => {}
    }
    let unreadable = |path: &Path, reason: String| ReportError::Unreadable {
        path: path.into(),
        reason,
    };
    let paths = manifests(folder).map_err(|error| unreadable(folder, error.to_string()))?;
    if paths.is_empty() {
        return Err(ReportError::NoManifest { path: folder.into() });
    }
    let mut reading = Reading::default();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let taken = files::open(&path).and_then(|file| reading.take(&name, BufReader::new(file)));
        taken.map_err(|error| unreadable(&path, error.to_string()))?;
    }
    reading.finish(folder)
}

/// Lines so far.
#[derive(Default)]
struct Reading {
    lines: Vec<Line>,
    by_file: HashMap<String, usize>,
    bad: Vec<(String, usize, String)>,
    cut_short: Vec<String>,
}

impl Reading {
    fn take(&mut self, name: &str, mut lines: impl BufRead) -> io::Result<()> {
        let mut text = Vec::new();
        for number in 0.. {
            text.clear();
            if lines.read_until(b'\n', &mut text)? == 0 {
                break;
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            let line = serde_json::from_slice::<Line>(&text).map_err(|error| error.to_string());
            let line = line.and_then(|line| line.fault().map_or(Ok(line), Err));
            match line {
                Ok(mut line) => {
                    line.settle();
                    self.add(line);
                }
                // What a crash in the middle of writing leaves.
                Err(_) if !text.ends_with(b"\n") => self.cut_short.push(name.into()),
                Err(reason) => self.bad.push((name.into(), number + 1, reason)),
            }
        }
        Ok(())
    }

    fn add(&mut self, line: Line) {
        match self.by_file.get(&line.file) {
            Some(&at) => self.lines[at] = line,
            None => {
                self.by_file.insert(line.file.clone(), self.lines.len());
                self.lines.push(line);
            }
        }
    }

    fn finish(self, folder: &Path) -> Result<Lines, ReportError> {
        if self.lines.is_empty() {
            return Err(match self.bad.into_iter().next() {
                Some((file, line, reason)) => ReportError::NoLine {
                    path: folder.into(),
                    file,
                    line,
                    reason,
                },
                None => ReportError::Empty { path: folder.into() },
            });
        }
        let mut notes: Vec<_> = self.bad.iter().take(NOTED).map(bad_line).collect();
        if self.bad.len() > NOTED {
            let more = self.bad.len() - NOTED;
            notes.push(format!(
                "{more} more lines are left out, as they are no entries of a manifest"
            ));
        }
        let cut = self.cut_short.iter();
        notes.extend(cut.map(|name| format!("the last line of {name} was cut short and is left out")));
        Ok(Lines {
            lines: self.lines,
            notes,
        })
    }
}

fn bad_line((name, number, reason): &(String, usize, String)) -> String {
    format!("{name}, line {number}: not an entry of a manifest ({reason}); the line is left out")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Lines, ReportError> {
        let mut reading = Reading::default();
        reading.take("manifest.jsonl", text.as_bytes()).unwrap();
        reading.finish(Path::new("out"))
    }

    const GOOD: &str = r#"{"file": "a.mp4", "seed": 1, "prompt": "p"}"#;

    #[test]
    fn what_a_hand_or_a_crash_left_is_told_of() {
        let again = r#"{"file": "a.mp4", "seed": 2, "prompt": "p"}"#;
        let outside = r#"{"file": "../a.mp4", "seed": 2, "prompt": "p"}"#;
        let read = take(&format!("{GOOD}\n\nnonsense\n{outside}\n{again}\n{{\"file\"")).unwrap();
        assert_eq!(read.lines.len(), 1);
        assert_eq!(read.lines[0].seed, 2);
        let [nonsense, outside, cut] = &read.notes[..] else {
            panic!("{:?}", read.notes)
        };
        assert!(nonsense.starts_with("manifest.jsonl, line 3: "), "{nonsense}");
        assert!(
            outside.contains("line 4") && outside.contains("`../a.mp4`"),
            "{outside}"
        );
        assert!(cut.contains("cut short"), "{cut}");
    }

    #[test]
    fn many_bad_lines_are_counted() {
        let read = take(&format!("{GOOD}\n{}", "x\n".repeat(9))).unwrap();
        assert_eq!(read.notes.len(), NOTED + 1);
        assert!(read.notes[NOTED].starts_with("4 more lines"), "{}", read.notes[NOTED]);
    }

    #[test]
    fn nothing_to_report_on_is_an_error() {
        assert!(matches!(take("\n"), Err(ReportError::Empty { .. })));
        let said = take("{}\n").unwrap_err().to_string();
        assert!(
            said.contains("1 of `manifest.jsonl`") && said.contains("missing field"),
            "{said}"
        );
    }
}
