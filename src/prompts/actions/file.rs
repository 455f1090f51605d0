//! Trajectories in files.

use std::{fs::File, io, path::Path};

use serde::Deserialize;
use serde_json::Value;

use super::{Action, ActionError, ActionPlan, ActionProblem, Controls, grammar};
use crate::{
    files,
    prompts::{
        LineProblem,
        file::{LineError, Lines},
        table::{self, Schema, TableError},
    },
};

/// Largest file of text in bytes.
const LARGEST_TEXT: u64 = 16 << 20;

/// The columns of a table of actions.
static COLUMNS: Schema = Schema {
    keys: &["action", "frames", "keyboard", "mouse"],
    value: |key, cell, _| match key {
        "frames" => table::number(cell.strip_suffix(".0").unwrap_or(cell)),
        "keyboard" | "mouse" => table::list(cell),
        _ => None,
    },
};

/// Kind of a file of actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As on the command line.
    Text,
    /// One JSON object per line.
    JsonLines,
    /// A table whose first line names the columns.
    Table,
}

impl Form {
    /// By the ending of a name; `None` for a name that is none of a file of actions.
    pub fn of_name(name: &str) -> Option<Self> {
        let extension = Path::new(name.trim()).extension()?;
        match extension.to_string_lossy().to_ascii_lowercase().as_str() {
            "txt" => Some(Self::Text),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "csv" => Some(Self::Table),
            _ => None,
        }
    }
}

/// Reads a file; see [the module](super) for what it may hold.
pub(super) fn read(path: &Path, controls: Controls) -> Result<ActionPlan, ActionError> {
    let unreadable = |error: io::Error| ActionError::Unreadable {
        path: path.into(),
        reason: error.to_string(),
    };
    let of_line = |line, problem| ActionError::File {
        path: path.into(),
        line,
        problem,
    };
    let form = Form::of_name(&path.to_string_lossy()).unwrap_or(Form::Text);
    if form == Form::Text {
        let text = files::read_text(path, LARGEST_TEXT).map_err(unreadable)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .collect();
        let plan = grammar::plan(&lines.join("\n"), controls);
        return plan.map_err(|(place, problem)| {
            let reason = match place.strip_prefix(", ") {
                Some(place) => format!("{place}: {problem}"),
                None => problem.to_string(),
            };
            of_line(0, ActionProblem::Unread { reason })
        });
    }
    let file = files::open(path).map_err(unreadable)?;
    rows(file, form, controls).map_err(|error| match error {
        RowError::Io(error) => unreadable(error),
        RowError::Line { line, problem } => of_line(line, problem),
    })
}

/// Why rows cannot be read.
enum RowError {
    Io(io::Error),
    Line { line: usize, problem: ActionProblem },
}

/// The rows of a file that is no text.
fn rows(file: File, form: Form, controls: Controls) -> Result<ActionPlan, RowError> {
    let mut plan = ActionPlan::default();
    let mut add = |line: usize, text: &str| {
        let added = row(text, controls).and_then(|(action, pictures)| plan.trajectory.push(action, pictures));
        added.map_err(|problem| RowError::Line { line, problem })
    };
    match form {
        Form::Table => {
            let table = table::rows(file, &COLUMNS).map_err(|error| match error {
                TableError::Io(error) => RowError::Io(error),
                TableError::Problem { line, problem } => RowError::Line {
                    line,
                    problem: unread(problem),
                },
            })?;
            for (line, text) in &table.rows {
                add(*line, text)?;
            }
        }
        Form::JsonLines | Form::Text => {
            let mut lines = Lines::new(file);
            loop {
                let next = lines.next().map_err(|error| match error {
                    LineError::Io(error) => RowError::Io(error),
                    LineError::Problem { line, problem } => RowError::Line {
                        line,
                        problem: unread(problem),
                    },
                })?;
                let Some((line, text)) = next else { break };
                if !text.is_empty() && !text.starts_with('#') {
                    add(line, text)?;
                }
            }
        }
    }
    if plan.trajectory.pictures() == 0 {
        let problem = ActionProblem::Empty;
        return Err(RowError::Line { line: 0, problem });
    }
    Ok(plan)
}

/// What is wrong with a line before it is known to be an action.
fn unread(problem: LineProblem) -> ActionProblem {
    let reason = match problem {
        LineProblem::Nul { byte, offset } => {
            format!("byte {byte} is NUL (offset {offset} in the file); a file of actions is plain text")
        }
        LineProblem::TooLong { limit } => format!("the line or file has more than {limit} bytes"),
        other => other.to_string(),
    };
    ActionProblem::Unread { reason }
}

/// An object of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    action: Option<String>,
    frames: Option<Value>,
    keyboard: Option<Vec<f64>>,
    mouse: Option<[f32; 2]>,
}

/// An object as an action, and for how many pictures.
fn row(text: &str, controls: Controls) -> Result<(Action, usize), ActionProblem> {
    let row: Row = serde_json::from_str(text).map_err(|error| {
        let words = error.to_string();
        let words = words.split(" at line 1 column ").next().unwrap_or(&words);
        let example = "{\"frames\": 12, \"action\": \"w\"}";
        ActionProblem::Unread {
            reason: format!("{words}; expected, for example, {example}"),
        }
    })?;
    let pictures = match &row.frames {
        None => 1,
        Some(Value::String(text)) => grammar::pictures(text)?,
        Some(value) => grammar::pictures(&value.to_string())?,
    };
    let action = match (&row.action, &row.keyboard) {
        (Some(_), Some(_)) => return Err(ActionProblem::Both { other: "keyboard" }),
        (Some(_), None) if row.mouse.is_some() => return Err(ActionProblem::Both { other: "mouse" }),
        (Some(text), None) => grammar::action(text, controls)?,
        (None, Some(columns)) => pressed(columns, row.mouse.unwrap_or_default(), controls)?,
        (None, None) => return Err(ActionProblem::NoAction),
    };
    Ok((action, pictures))
}

/// A row of numbers as an action.
fn pressed(columns: &[f64], mouse: [f32; 2], controls: Controls) -> Result<Action, ActionProblem> {
    let names = controls.scheme().columns;
    if columns.len() != names.len() {
        return Err(ActionProblem::Columns {
            found: columns.len(),
            expected: names.len(),
            controls,
            names: names.join(", "),
        });
    }
    let mut keys = 0;
    for (column, value) in columns.iter().enumerate() {
        match value {
            0.0 => {}
            1.0 => keys |= 1 << column,
            value => return Err(ActionProblem::NotPressed { column, value: *value }),
        }
    }
    let action = Action { keys, mouse };
    controls.check(action)?;
    Ok(action)
}
