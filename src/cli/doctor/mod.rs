//! `deepforcing doctor`: what is there, what is missing, and what to do about it.
//!
//! | file | what it holds |
//! |---|---|
//! | `devices` | CPU and GPUs, and what a GPU would need |
//! | `machine` | processor, threads, memory |
//! | `encoders` | FFmpeg and its encoders |
//! | `places` | config file and cache folders |
//! | `models` | models that are there, and whether they are whole |
//! | `variables` | environment variables that are honoured |

mod devices;
mod encoders;
mod machine;
mod models;
mod places;
mod variables;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    Failure,
    config::table,
    printer::{Printer, print_result},
};
use crate::config::Environment;

const EXAMPLES: &str = "\
Examples:
  deepforcing doctor
  deepforcing doctor --json

Exit code 0 when `deepforcing generate` can work, 1 when something in its way
was found.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One line of the report.
struct Row {
    name: String,
    value: Value,
}

/// Lines that belong together.
struct Section {
    name: &'static str,
    rows: Vec<Row>,
}

impl Section {
    fn new(name: &'static str) -> Self {
        Self { name, rows: Vec::new() }
    }

    fn row(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.rows.push(Row {
            name: name.into(),
            value: value.into(),
        });
    }
}

/// Something that is not as it should be.
struct Problem {
    what: String,
    todo: String,
    /// Whether `generate` cannot work because of it.
    fatal: bool,
}

/// All that was found.
#[derive(Default)]
struct Report {
    sections: Vec<Section>,
    problems: Vec<Problem>,
}

impl Report {
    fn problem(&mut self, fatal: bool, what: impl Into<String>, todo: impl Into<String>) {
        self.problems.push(Problem {
            what: what.into(),
            todo: todo.into(),
            fatal,
        });
    }

    fn can_generate(&self) -> bool {
        !self.problems.iter().any(|problem| problem.fatal)
    }
}

impl Doctor {
    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        let report = examine(&Environment::of_process());
        let text = match self.json {
            true => format!("{:#}\n", as_json(&report)),
            false => as_text(&report),
        };
        print_result(text.as_bytes())?;
        if report.can_generate() {
            return Ok(());
        }
        if !self.json {
            printer.note("`deepforcing generate` cannot work before this is put right");
        }
        Err(Failure::Told)
    }
}

fn examine(environment: &Environment) -> Report {
    let mut report = Report::default();
    report.sections.push(program());
    devices::examine(environment, &mut report);
    machine::examine(environment, &mut report);
    encoders::examine(&mut report);
    places::examine(environment, &mut report);
    variables::examine(environment, &mut report);
    report
}

fn program() -> Section {
    let mut section = Section::new("program");
    section.row("version", env!("CARGO_PKG_VERSION"));
    let parts = [
        ("ffmpeg", cfg!(feature = "ffmpeg")),
        ("bundled-model", cfg!(feature = "bundled-model")),
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
    ];
    let built = parts.iter().filter(|(_, there)| *there).map(|(name, _)| *name);
    section.row("built with", built.collect::<Vec<_>>());
    let own = std::env::current_exe().ok();
    section.row("file", own.as_ref().map(|own| own.display().to_string()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = installations(std::env::split_paths(&path));
    let others = installed
        .iter()
        .filter(|other| own.as_ref().is_none_or(|own| !same_file(own, other)));
    section.row(
        "others in the PATH",
        others.map(|other| other.display().to_string()).collect::<Vec<_>>(),
    );
    section
}

/// This program in some folders, each file once.
fn installations(folders: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let name = format!("deepforcing{}", std::env::consts::EXE_SUFFIX);
    let mut found: Vec<PathBuf> = Vec::new();
    for file in folders.map(|folder| folder.join(&name)).filter(|file| file.is_file()) {
        if !found.iter().any(|other| same_file(other, &file)) {
            found.push(file);
        }
    }
    found
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A value for people.
fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "–".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn as_text(report: &Report) -> String {
    let mut text = String::new();
    for section in &report.sections {
        text.push_str(section.name);
        text.push('\n');
        let rows: Vec<_> = section
            .rows
            .iter()
            .map(|row| [format!("  {}", row.name), text_of(&row.value)])
            .collect();
        text.push_str(&table(&rows));
        text.push('\n');
    }
    if report.problems.is_empty() {
        text.push_str("No problems found\n");
        return text;
    }
    text.push_str("problems\n");
    for problem in &report.problems {
        let kind = if problem.fatal { "error" } else { "warning" };
        text.push_str(&format!("  {kind}: {}\n    {}\n", problem.what, problem.todo));
    }
    text
}

fn as_json(report: &Report) -> Value {
    let mut object = Map::new();
    object.insert("ok".into(), report.can_generate().into());
    for section in &report.sections {
        let rows = section.rows.iter().map(|row| (row.name.clone(), row.value.clone()));
        object.insert(section.name.into(), Value::Object(rows.collect()));
    }
    let problems = report
        .problems
        .iter()
        .map(|problem| json!({ "what": problem.what, "todo": problem.todo, "fatal": problem.fatal }));
    object.insert("problems".into(), problems.collect());
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_installations_are_both_named() {
        let root = tempfile::tempdir().unwrap();
        let folders = ["a", "b", "empty"].map(|name| root.path().join(name));
        for folder in &folders {
            std::fs::create_dir(folder).unwrap();
        }
        let files = [0, 1].map(|at| folders[at].join(format!("deepforcing{}", std::env::consts::EXE_SUFFIX)));
        files.iter().for_each(|file| std::fs::write(file, "").unwrap());
        // One folder may be in the PATH twice.
        let found = installations(folders.iter().cloned().chain([folders[0].clone()]));
        assert_eq!(found, files);
    }

    #[test]
    fn only_fatal_problems_stop_generate() {
        let mut report = Report::default();
        assert!(report.can_generate() && as_text(&report).contains("No problems"));
        report.problem(false, "the cache cannot be written", "change its owner");
        assert!(report.can_generate());
        report.problem(true, "no encoder", "install FFmpeg");
        assert!(!report.can_generate());
        let text = as_text(&report);
        assert!(text.contains("warning: the cache") && text.contains("error: no encoder\n    install FFmpeg"));
        let json = as_json(&report);
        assert_eq!(
            (&json["ok"], &json["problems"][1]["fatal"]),
            (&json!(false), &json!(true))
        );
    }
}
