//! Files of the kind `.csv`: the columns are the keys of a `.jsonl` file.

use std::{borrow::Cow, io::Read, path::Path};

use serde_json::{Map, Value};

use super::{LineProblem, jsonl};

/// Largest table: 100,000 prompts of a thousand letters.
const LARGEST: u64 = 100 << 20;

/// What the columns of a table may be.
pub(super) struct Schema {
    /// Their names.
    pub keys: &'static [&'static str],
    /// What a cell of a column holds; `None` when it is text. The number is the sign that parts the columns.
    pub value: fn(key: &str, cell: &str, separator: u8) -> Option<Value>,
}

/// The columns of a prompt file. Lists are written as JSON.
pub(super) const PROMPTS: Schema = Schema {
    keys: &jsonl::KEYS,
    value: |key, cell, separator| match key {
        "prompts" | "switch" | "switch_frame_indices" | "on_switch" => list(cell),
        // A column of whole numbers with gaps comes out as 7.0 of many programs.
        "seed" => number(cell.strip_suffix(".0").unwrap_or(cell)),
        "seconds" if separator != b',' => number(&cell.replace(',', ".")),
        "seconds" => number(cell),
        _ => None,
    },
};

/// A cell that is a number.
pub(super) fn number(cell: &str) -> Option<Value> {
    match serde_json::from_str(cell) {
        Ok(number @ Value::Number(_)) => Some(number),
        _ => None,
    }
}

/// A cell that is a list.
pub(super) fn list(cell: &str) -> Option<Value> {
    match serde_json::from_str(cell) {
        Ok(list @ Value::Array(_)) => Some(list),
        _ => None,
    }
}

/// Why a table cannot be read.
pub(super) enum TableError {
    Io(std::io::Error),
    Problem { line: usize, problem: LineProblem },
}

/// The rows of a table.
pub(super) struct Table {
    /// Rows as lines of JSON, each with the number of the line where it begins.
    pub rows: Vec<(usize, String)>,
    /// Lines that begin with `#`.
    pub comments: usize,
}

/// Reads all rows.
pub(super) fn rows(input: impl Read, schema: &'static Schema) -> Result<Table, TableError> {
    let mut bytes = Vec::new();
    input
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(TableError::Io)?;
    let text = with_line_feeds(checked(&bytes)?);
    let (separator, skipped) = separator(&text, schema);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .comment(Some(b'#'))
        .flexible(true)
        .delimiter(separator)
        .trim(csv::Trim::All)
        .from_reader(text[skipped..].as_bytes());
    let before = usize::from(skipped > 0);
    let mut columns: Option<Columns> = None;
    let (mut rows, mut comments, mut record) = (Vec::new(), 0, csv::StringRecord::new());
    loop {
        let (start, line) = (reader.position().byte() as usize, reader.position().line() as usize);
        let more = reader
            .read_record(&mut record)
            .map_err(|error| broken(&error, before))?;
        let gap = Gap::at(&text[(start + skipped).min(text.len())..]);
        comments += gap.comments;
        if !more {
            return Ok(Table { rows, comments });
        }
        if record.iter().all(str::is_empty) {
            continue;
        }
        let line = line + before + gap.lines;
        let at_line = |problem| TableError::Problem { line, problem };
        match &columns {
            None => columns = Some(Columns::new(&record, separator, schema).map_err(at_line)?),
            Some(columns) => rows.push((line, columns.object(&record).map_err(at_line)?)),
        }
    }
}

/// What stands before a record.
#[derive(Default)]
struct Gap {
    lines: usize,
    /// Those of the lines that begin with `#`.
    comments: usize,
}

impl Gap {
    fn at(text: &str) -> Self {
        let mut gap = Self::default();
        let mut rest = text;
        loop {
            let next = rest.trim_start_matches(['\n', '\r']);
            gap.lines += rest[..rest.len() - next.len()].matches('\n').count();
            if !next.starts_with('#') {
                return gap;
            }
            gap.comments += 1;
            rest = next.find('\n').map_or("", |end| &next[end..]);
        }
    }
}

/// A text in which lines end with carriage returns alone, as old systems and some spreadsheets write it, with line feeds.
fn with_line_feeds(text: &str) -> Cow<'_, str> {
    match text.contains('\n') {
        true => text.into(),
        false => text.replace('\r', "\n").into(),
    }
}

/// What parts the columns, and the bytes before the table: spreadsheets write a first line `sep=;`. Without one, it is
/// the sign that makes the most known keys of the first line.
fn separator(text: &str, schema: &Schema) -> (u8, usize) {
    let first = text.lines().next().unwrap_or_default();
    if let Some(sign) = first.trim_end().strip_prefix("sep=")
        && let [sign @ (b',' | b';' | b'\t' | b'|')] = sign.as_bytes()
    {
        return (*sign, text.find('\n').map_or(text.len(), |end| end + 1));
    }
    let mut lines = text.lines().map(str::trim);
    let header = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let header = header.unwrap_or_default();
    let known = |sign: char| {
        let names = header.split(sign).map(|name| name.trim().trim_matches('"'));
        names.filter(|name| key(name, schema).is_some()).count()
    };
    let mut best = (',', known(','));
    for sign in [';', '\t', '|'] {
        let count = known(sign);
        if count > best.1 {
            best = (sign, count);
        }
    }
    (best.0 as u8, 0)
}

/// The key that a column's name stands for; spreadsheets like capitals.
fn key(name: &str, schema: &Schema) -> Option<&'static str> {
    let name = name.trim().to_lowercase();
    schema.keys.iter().copied().find(|key| *key == name)
}

/// What the columns hold; none for those without a name.
struct Columns {
    keys: Vec<Option<&'static str>>,
    separator: u8,
    schema: &'static Schema,
}

impl Columns {
    fn new(header: &csv::StringRecord, separator: u8, schema: &'static Schema) -> Result<Self, LineProblem> {
        let mut keys: Vec<Option<&'static str>> = Vec::new();
        for name in header {
            let known = key(name, schema);
            if known.is_none() && !name.is_empty() {
                return Err(LineProblem::unknown_key(name, schema.keys));
            }
            if let Some(known) = known
                && keys.contains(&Some(known))
            {
                let column = known.into();
                return Err(LineProblem::RepeatedColumn { column });
            }
            keys.push(known);
        }
        Ok(Self {
            keys,
            separator,
            schema,
        })
    }

    /// A row as a JSON object. Lists are written as JSON; an empty cell is as if the column were not there.
    fn object(&self, record: &csv::StringRecord) -> Result<String, LineProblem> {
        let (columns, cells) = (self.keys.len(), record.len());
        let needed = self.keys.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let beyond = record.iter().skip(columns).any(|cell| !cell.is_empty());
        if cells < needed || beyond {
            let signs = match self.separator {
                b',' => "commas",
                b';' => "semicolons",
                b'|' => "bars",
                _ => "tabs",
            };
            let reason = format!(
                "{cells} cells where the first line has {columns} columns; a cell with {signs} stands in quotes"
            );
            return Err(LineProblem::Table { reason });
        }
        let mut object = Map::new();
        for (column, (key, cell)) in self.keys.iter().zip(record).enumerate() {
            match key {
                Some(key) => drop(object.insert((*key).into(), self.value(key, cell))),
                None if cell.is_empty() => {}
                None => return Err(LineProblem::UnnamedColumn { column: column + 1 }),
            }
        }
        Ok(Value::from(object).to_string())
    }

    fn value(&self, key: &str, cell: &str) -> Value {
        if cell.is_empty() {
            return Value::Null;
        }
        let found = (self.schema.value)(key, cell, self.separator);
        found.unwrap_or_else(|| Value::from(cell))
    }
}

/// The text without a byte order mark.
fn checked(bytes: &[u8]) -> Result<&str, TableError> {
    // A carriage return without a line feed ends a line as well.
    let is_end = |at: usize| match bytes[at] {
        b'\n' => true,
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    let line_of = |at: usize| (0..at).filter(|at| is_end(*at)).count() + 1;
    let problem = |at, problem| {
        Err(TableError::Problem {
            line: line_of(at),
            problem,
        })
    };
    if bytes.len() as u64 > LARGEST {
        return problem(
            0,
            LineProblem::TooLong {
                limit: LARGEST as usize,
            },
        );
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return problem(0, LineProblem::Utf16);
    }
    let column = |at: usize| at - (0..at).rev().find(|at| is_end(*at)).map_or(0, |end| end + 1) + 1;
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let (byte, offset) = (column(at), at as u64);
        return problem(at, LineProblem::Nul { byte, offset });
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let at = error.valid_up_to();
            let (byte, value, offset) = (column(at), bytes.get(at).copied().unwrap_or_default(), at as u64);
            problem(at, LineProblem::NotUtf8 { byte, value, offset })
        }
    }
}

/// A record that cannot be read; `before` lines are not the reader's.
fn broken(error: &csv::Error, before: usize) -> TableError {
    TableError::Problem {
        line: error.position().map_or(1, |position| position.line() as usize) + before,
        problem: LineProblem::Table {
            reason: error.to_string(),
        },
    }
}

/// A row of [`rows`] as a scene.
pub(super) fn scene(row: &str, folder: &Path) -> Result<super::Scene, LineProblem> {
    jsonl::scene(row, folder)
}
