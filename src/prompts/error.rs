//! What can be wrong with a prompt file.

use std::path::PathBuf;

use super::{file, moment::MomentError};
use crate::text::nearest;

/// What is wrong with a prompt file. `origin` is its path, or "standard input".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PromptError {
    /// The file is missing or may not be read.
    #[error("cannot read prompt file `{}`: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// The path is a folder.
    #[error("prompt file `{}` is a folder; name a .txt, .jsonl or .csv file in it", path.display())]
    Folder { path: PathBuf },
    /// Reading stopped half-way.
    #[error("cannot read prompts from {origin}: {reason}")]
    Read { origin: String, reason: String },
    /// A kind of file that this program does not read.
    #[error(
        "prompt file `{}` ends in `.{extension}`, expected `.txt` (one prompt per line), `.jsonl` (one JSON object \
         per line) or `.csv`",
        path.display()
    )]
    Extension { path: PathBuf, extension: String },
    /// No line holds a prompt.
    #[error("{origin} holds no prompt; write one per line (empty lines and lines that begin with # are skipped)")]
    Empty { origin: String },
    /// Endless input.
    #[error("{origin} holds more than {} prompts; split it", file::MOST_SCENES)]
    TooMany { origin: String },
    /// A line that cannot be used.
    #[error("{origin}, line {line}: {problem}")]
    Line {
        origin: String,
        line: usize,
        problem: LineProblem,
    },
    /// Two videos with one name.
    #[error("{origin}: the id `{id}` stands in line {first} and again in line {second}; give each video its own")]
    DuplicateId {
        origin: String,
        id: String,
        first: usize,
        second: usize,
    },
}

/// What is wrong with one line of a prompt file. Bytes of a line count from 1, offsets in the file from 0.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LineProblem {
    #[error("byte {byte} is NUL (offset {offset} in the file); a prompt file is plain text")]
    Nul { byte: usize, offset: u64 },
    #[error("byte {byte} (0x{value:02x}, offset {offset} in the file) is not UTF-8; save the file as UTF-8")]
    NotUtf8 { byte: usize, value: u8, offset: u64 },
    #[error("the text is UTF-16; save the file as UTF-8")]
    Utf16,
    #[error("the line has more than {limit} bytes; models read the first 512 tokens of a prompt, about 2,000 letters")]
    TooLong { limit: usize },
    #[error("not a JSON object: {reason}; expected, for example, {{\"prompt\": \"a red balloon\", \"seed\": 7}}")]
    Json { reason: String },
    #[error("unknown key `{key}`{hint}")]
    UnknownKey { key: String, hint: String },
    #[error("the key `{key}` stands there twice")]
    RepeatedKey { key: &'static str },
    #[error("`{key}` is {found}, expected {expected}")]
    Value {
        key: &'static str,
        found: String,
        expected: &'static str,
    },
    #[error("there is no prompt; give `prompt` (a text) or `prompts` (a list of texts)")]
    NoPrompt,
    #[error("`{first}` and `{second}` mean the same; give one of them")]
    Both { first: &'static str, second: &'static str },
    #[error("prompt {number} is empty; write what the video shows")]
    EmptyPrompt { number: usize },
    #[error("prompt {number} holds a NUL character; a prompt is plain text")]
    NulInPrompt { number: usize },
    #[error(
        "`{key}` has {switches} entr{}, but {prompts} prompt{} need{} {}: one for each prompt after the first",
        if *switches == 1 { "y" } else { "ies" },
        if *prompts == 1 { "" } else { "s" },
        if *prompts == 1 { "s" } else { "" },
        prompts - 1
    )]
    SwitchCount {
        key: &'static str,
        switches: usize,
        prompts: usize,
    },
    #[error("not a row of a table: {reason}")]
    Table { reason: String },
    #[error("the column `{column}` is there twice")]
    RepeatedColumn { column: String },
    #[error("column {column} has no name in the first line; name it there, or empty the cell")]
    UnnamedColumn { column: usize },
    #[error("`{key}`: {source}")]
    Moment { key: &'static str, source: MomentError },
}

/// Letters of a wrong value that a message repeats.
const SHOWN: usize = 40;

impl LineProblem {
    /// A key that is none, with the one that was probably meant.
    pub(super) fn unknown_key(key: &str, known: &[&'static str]) -> Self {
        Self::UnknownKey {
            hint: nearest::hint(key, known.iter().copied()),
            key: shown(key),
        }
    }
}

/// The beginning of a value.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}
