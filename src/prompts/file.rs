//! Prompt files as text: encodings, lines, limits.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use super::{LineProblem, PromptError, Scene, jsonl, table};
use crate::text::check_prompt;

/// Longest line in bytes: 10,000 words fit, a file without line ends does not.
const LONGEST_LINE: usize = 256 << 10;
/// Most videos of one file: beyond that it is endless input.
pub(super) const MOST_SCENES: usize = 100_000;

/// Kind of a prompt file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One prompt per line.
    Text,
    /// One JSON object per line.
    JsonLines,
    /// A table whose first line names the columns.
    Table,
    /// [`Format::JsonLines`] when the first line with content begins with `{`, else [`Format::Text`].
    Detect,
}

impl Format {
    /// By the extension of a file name; [`Format::Detect`] for a name without one.
    ///
    /// # Errors
    /// [`PromptError::Extension`].
    pub fn of_path(path: &Path) -> Result<Self, PromptError> {
        let Some(extension) = path.extension() else {
            return Ok(Self::Detect);
        };
        match extension.to_string_lossy().to_ascii_lowercase().as_str() {
            "txt" => Ok(Self::Text),
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "csv" => Ok(Self::Table),
            _ => Err(PromptError::Extension {
                path: path.into(),
                extension: extension.to_string_lossy().into_owned(),
            }),
        }
    }
}

/// The videos of a prompt file, and what of the file is none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PromptList {
    pub scenes: Vec<Scene>,
    /// Lines that begin with `#`.
    pub comments: usize,
}

impl PromptList {
    /// What the user should be told: nobody is to miss a prompt that begins with `#`.
    pub fn note(&self) -> Option<String> {
        let what = match self.comments {
            0 => return None,
            1 => "1 line that begins with # is left out as a comment".into(),
            lines => format!("{lines} lines that begin with # are left out as comments"),
        };
        Some(format!(
            "{what}; a prompt that begins with # is written in a .jsonl file, or in quotes in a .csv file"
        ))
    }
}

/// Reads a prompt file; see [the module](super) for what it may hold.
///
/// # Errors
/// The first thing that is wrong with the file, with its line.
pub fn read_prompts(path: &Path) -> Result<PromptList, PromptError> {
    let unreadable = |error: io::Error| PromptError::Unreadable {
        path: path.into(),
        reason: error.to_string(),
    };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(PromptError::Folder { path: path.into() });
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let origin = format!("prompt file `{}`", path.display());
    read_prompts_from(file, &origin, Format::of_path(path)?, folder)
}

/// Reads prompts from a stream (standard input). Messages call it `origin`; images are relative to `folder`.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_prompts_from(
    input: impl Read,
    origin: &str,
    format: Format,
    folder: &Path,
) -> Result<PromptList, PromptError> {
    let mut found = Found::new(origin);
    if format == Format::Table {
        let table = table::rows(input, &table::PROMPTS).map_err(|error| match error {
            table::TableError::Io(error) => found.unreadable(&error),
            table::TableError::Problem { line, problem } => at_line(origin, line, problem),
        })?;
        found.comments = table.comments;
        for (line, row) in table.rows {
            found.add(line, table::scene(&row, folder))?;
        }
        return found.list();
    }
    let mut lines = Lines::new(input);
    let mut format = format;
    loop {
        let next = lines.next().map_err(|error| match error {
            LineError::Io(error) => found.unreadable(&error),
            LineError::Problem { line, problem } => at_line(origin, line, problem),
        })?;
        let Some((line, text)) = next else { break };
        if text.is_empty() {
            continue;
        }
        if text.starts_with('#') {
            found.comments += 1;
            continue;
        }
        if format == Format::Detect {
            format = match text.starts_with('{') {
                true => Format::JsonLines,
                false => Format::Text,
            };
        }
        let scene = match format {
            Format::JsonLines => jsonl::scene(text, folder),
            Format::Text | Format::Table | Format::Detect => plain(text),
        };
        found.add(line, scene)?;
    }
    found.list()
}

/// The videos of a file so far.
struct Found<'a> {
    origin: &'a str,
    scenes: Vec<Scene>,
    comments: usize,
    /// Lines of the ids.
    ids: HashMap<String, usize>,
}

impl<'a> Found<'a> {
    fn new(origin: &'a str) -> Self {
        Self {
            origin,
            scenes: Vec::new(),
            comments: 0,
            ids: HashMap::new(),
        }
    }

    fn unreadable(&self, error: &io::Error) -> PromptError {
        PromptError::Read {
            origin: self.origin.into(),
            reason: error.to_string(),
        }
    }

    fn add(&mut self, line: usize, scene: Result<Scene, LineProblem>) -> Result<(), PromptError> {
        let origin = self.origin;
        let mut scene = scene.map_err(|problem| at_line(origin, line, problem))?;
        scene.line = Some(line);
        if let Some(id) = &scene.id
            && let Some(first) = self.ids.insert(id.clone(), line)
        {
            return Err(PromptError::DuplicateId {
                origin: origin.into(),
                id: id.clone(),
                first,
                second: line,
            });
        }
        if self.scenes.len() == MOST_SCENES {
            return Err(PromptError::TooMany { origin: origin.into() });
        }
        self.scenes.push(scene);
        Ok(())
    }

    fn list(self) -> Result<PromptList, PromptError> {
        if self.scenes.is_empty() {
            let origin = self.origin.into();
            return Err(PromptError::Empty { origin });
        }
        Ok(PromptList {
            scenes: self.scenes,
            comments: self.comments,
        })
    }
}

fn at_line(origin: &str, line: usize, problem: LineProblem) -> PromptError {
    PromptError::Line {
        origin: origin.into(),
        line,
        problem,
    }
}

/// A line of a `.txt` file.
fn plain(text: &str) -> Result<Scene, LineProblem> {
    check(1, text)?;
    Ok(Scene::of_prompt(text))
}

/// Refuses what no prompt can be; `number` counts from 1.
pub(super) fn check(number: usize, prompt: &str) -> Result<(), LineProblem> {
    if prompt.contains('\0') {
        return Err(LineProblem::NulInPrompt { number });
    }
    check_prompt(prompt).map_err(|_| LineProblem::EmptyPrompt { number })
}

pub(super) enum LineError {
    Io(io::Error),
    Problem { line: usize, problem: LineProblem },
}

/// Lines of a stream with their numbers, trimmed; holds one line at a time. A line ends with a line feed, a carriage
/// return or both, as every system writes one of them.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    buffer: Vec<u8>,
    line: usize,
    /// Bytes before the current line.
    offset: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input: BufReader::new(input),
            buffer: Vec::new(),
            line: 0,
            offset: 0,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<(usize, &str)>, LineError> {
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        // Line end and byte order mark on top of the limit, and one byte to notice what is too long.
        let most = LONGEST_LINE + 6;
        read_line(&mut self.input, most, &mut self.buffer).map_err(LineError::Io)?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let (line, offset) = (self.line, self.offset);
        match text_of(&self.buffer, line == 1, offset) {
            Ok(text) => Ok(Some((line, text))),
            Err(problem) => Err(LineError::Problem { line, problem }),
        }
    }
}

/// Appends the next line with its end, `most` bytes of it at most (one more where the last one begins `\r\n`).
fn read_line(input: &mut impl BufRead, most: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
    while buffer.len() < most {
        let bytes = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let bytes = &bytes[..bytes.len().min(most - buffer.len())];
        let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let taken = end.map_or(bytes.len(), |end| end + 1);
        buffer.extend_from_slice(&bytes[..taken]);
        let carriage_return = bytes[taken - 1] == b'\r';
        input.consume(taken);
        if carriage_return && input.fill_buf()?.first() == Some(&b'\n') {
            buffer.push(b'\n');
            input.consume(1);
        }
        if end.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

/// Checks the bytes of a line and trims it.
fn text_of(bytes: &[u8], first: bool, offset: u64) -> Result<&str, LineProblem> {
    if first && (bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")) {
        return Err(LineProblem::Utf16);
    }
    // What is wrong with the bytes says more than that there are many of them: a binary file has no lines.
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(LineProblem::Nul {
            byte: at + 1,
            offset: offset + at as u64,
        });
    }
    let content = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let content = content.strip_suffix(b"\r").unwrap_or(content);
    let content = match first {
        true => content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content),
        false => content,
    };
    let text = std::str::from_utf8(bytes)
        .map(|_| ())
        .and_then(|()| std::str::from_utf8(content));
    match text {
        // An end inside a character is no fault of the text when it was cut at the limit.
        Err(error) if error.error_len().is_some() || bytes.len() <= LONGEST_LINE => {
            let at = error.valid_up_to();
            Err(LineProblem::NotUtf8 {
                byte: at + 1,
                value: bytes.get(at).copied().unwrap_or_default(),
                offset: offset + at as u64,
            })
        }
        _ if content.len() > LONGEST_LINE => Err(LineProblem::TooLong { limit: LONGEST_LINE }),
        Ok(text) => Ok(text.trim()),
        Err(_) => Err(LineProblem::TooLong { limit: LONGEST_LINE }),
    }
}

#[cfg(test)]
mod tests;
