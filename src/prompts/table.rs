//! Prompt files of the kind `.csv`: the columns are the keys of a `.jsonl` file.

use std::{io::Read, path::Path};

use serde_json::{Map, Value};

use super::{LineProblem, jsonl};

/// Largest table: 100,000 prompts of a thousand letters.
const LARGEST: u64 = 100 << 20;

/// Why a table cannot be read.
pub(super) enum TableError {
    Io(std::io::Error),
    Problem { line: usize, problem: LineProblem },
}

/// Reads all rows as lines of JSON with the number of the line where each begins.
pub(super) fn rows(input: impl Read) -> Result<Vec<(usize, String)>, TableError> {
    let mut bytes = Vec::new();
    input
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(TableError::Io)?;
    let text = checked(&bytes)?;
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|error| broken(&error))?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| broken(&error))?;
        let line = record.position().map_or(0, |position| position.line() as usize);
        if record.iter().all(str::is_empty) {
            continue;
        }
        let object = record_object(&headers, &record).map_err(|problem| TableError::Problem { line, problem })?;
        rows.push((line, object));
    }
    Ok(rows)
}

/// A row as a JSON object. Lists are written as JSON; an empty cell is as if the column were not there.
fn record_object(headers: &csv::StringRecord, record: &csv::StringRecord) -> Result<String, LineProblem> {
    let mut object = Map::new();
    for (key, cell) in headers.iter().zip(record) {
        let value = match key {
            _ if cell.is_empty() => Value::Null,
            "prompts" | "switch" | "switch_frame_indices" => match serde_json::from_str(cell) {
                Ok(list @ Value::Array(_)) => list,
                _ => Value::from(cell),
            },
            "seed" | "seconds" => match serde_json::from_str(cell) {
                Ok(number @ Value::Number(_)) => number,
                _ => Value::from(cell),
            },
            _ => Value::from(cell),
        };
        if object.insert(key.into(), value).is_some() {
            return Err(LineProblem::RepeatedColumn { column: key.into() });
        }
    }
    Ok(Value::from(object).to_string())
}

/// The text without a byte order mark.
fn checked(bytes: &[u8]) -> Result<&str, TableError> {
    let line_of = |at: usize| bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
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
    let column = |at: usize| {
        at - bytes[..at]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1)
            + 1
    };
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

fn broken(error: &csv::Error) -> TableError {
    let line = error.position().map_or(1, |position| position.line() as usize);
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells where the first line has {expected_len} columns; a cell with commas stands in quotes")
        }
        _ => error.to_string(),
    };
    TableError::Problem {
        line,
        problem: LineProblem::Table { reason },
    }
}

/// A row of [`rows`] as a scene.
pub(super) fn scene(row: &str, folder: &Path) -> Result<super::Scene, LineProblem> {
    jsonl::scene(row, folder)
}
