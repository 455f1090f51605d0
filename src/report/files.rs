//! The results as files for other programs: `results.csv`, `results.json`, `table.md`.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

use super::{
    page_data::Each,
    repeat,
    study::{RowsAre, Study, Video},
    summary::{Cell, Filled},
};
use crate::{files::said::cell, metrics::METRICS};

/// One line per video, with every value of every metric.
pub(super) fn csv(study: &Study) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let settings: BTreeSet<_> = study.rows.iter().flat_map(|row| row.settings.keys()).collect();
    let fixed = [
        "setting",
        "prompt_id",
        "prompt",
        "seed",
        "file",
        "state",
        "sha256",
        "bytes",
        "pictures",
        "seconds",
    ];
    let times = ["denoise_seconds", "decode_seconds", "encode_seconds", "render_seconds"];
    let mut head: Vec<String> = fixed.iter().chain(&times).map(|name| name.to_string()).collect();
    head.extend(settings.iter().map(|key| cell(key)));
    for metric in METRICS {
        let parts = ["", "_first_5s", "_last_5s", "_last_against_first"];
        head.extend(parts.map(|part| format!("{}{part}", metric.key)));
    }
    writer.write_record(&head)?;
    for video in &study.videos {
        let mut cells = plain_cells(study, video);
        let row = &study.rows[video.row];
        cells.extend(
            settings
                .iter()
                .map(|key| row.settings.get(*key).map(|value| cell(value)).unwrap_or_default()),
        );
        for metric in METRICS {
            let measured = video.metrics.as_ref().and_then(|report| report.metric(metric.key));
            let values = measured.map_or([None; 4], |m| [m.whole, m.first, m.last, m.change]);
            cells.extend(values.map(number));
        }
        writer.write_record(&cells)?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

fn plain_cells(study: &Study, video: &Video) -> Vec<String> {
    let line = &video.line;
    let prompt = &study.prompts[video.prompt];
    let times = line
        .times
        .map(|times| [times.denoise, times.decode, times.encode, times.total]);
    let mut cells = vec![
        cell(&study.rows[video.row].name),
        cell(&prompt.id),
        cell(&prompt.text),
        line.seed.to_string(),
        cell(&line.file),
        video.state.as_str().into(),
        line.sha256.as_deref().map(cell).unwrap_or_default(),
        line.bytes.map(|bytes| bytes.to_string()).unwrap_or_default(),
        line.pictures.map(|pictures| pictures.to_string()).unwrap_or_default(),
        number(video.seconds()),
    ];
    cells.extend(times.map_or([None; 4], |times| times.map(Some)).map(number));
    cells
}

fn number(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Everything: settings, means and spread, videos with their measures of every second and their recipes.
pub(super) struct Everything<'a> {
    pub study: &'a Study,
    pub table: &'a [Filled],
}

impl Serialize for Everything<'_> {
    /// Rows and videos, which may be many, become JSON one after the other.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (study, table) = (self.study, self.table);
        let columns: Vec<_> = table.iter().map(column_json).collect();
        let rows = Each(move || (0..study.rows.len()).map(move |row| row_json(study, table, row)));
        let videos = Each(move || study.videos.iter().map(move |video| video_json(study, video)));
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("columns", &columns)?;
        map.serialize_entry("deepforcing", env!("CARGO_PKG_VERSION"))?;
        map.serialize_entry("format", &1)?;
        map.serialize_entry("metrics", &METRICS)?;
        map.serialize_entry("notes", &study.notes)?;
        map.serialize_entry("rows", &rows)?;
        map.serialize_entry("spread", SPREAD)?;
        map.serialize_entry("sweep", &study.plan)?;
        map.serialize_entry("title", &study.title)?;
        map.serialize_entry("videos", &videos)?;
        map.serialize_entry("videos_expected", &study.expected)?;
        map.serialize_entry("videos_finished", &study.videos.len())?;
        map.end()
    }
}

/// What the numbers of a row are.
const SPREAD: &str =
    "std is the sample standard deviation (n - 1) over the videos of a row; min and max are theirs too";

fn row_json(study: &Study, table: &[Filled], number: usize) -> Value {
    let row = &study.rows[number];
    let means = table.iter().filter_map(|filled| {
        let cell = filled.cells[number];
        let mut value = serde_json::to_value(cell.stat?).ok()?;
        value["best"] = cell.best.into();
        Some((filled.column.key.to_owned(), value))
    });
    json!({
        "name": row.name,
        "label": row.label,
        "settings": row.settings,
        "skipped": row.skipped,
        "videos": study.of_row(number).count(),
        "expected": row.expected,
        "columns": serde_json::Map::from_iter(means),
    })
}

fn column_json(filled: &Filled) -> Value {
    let column = filled.column;
    json!({
        "key": column.key,
        "title": column.title,
        "unit": column.unit,
        "metric": column.metric().map(|metric| metric.key),
        "direction": column.better.describe(),
    })
}

fn video_json(study: &Study, video: &Video) -> Value {
    let line = &video.line;
    let prompt = &study.prompts[video.prompt];
    json!({
        "row": study.rows[video.row].name,
        "prompt_id": prompt.id,
        "prompt": prompt.text,
        "seed": line.seed,
        "sample": line.sample,
        "file": line.file,
        "state": video.state.as_str(),
        "sha256": line.sha256,
        "bytes": line.bytes,
        "pictures": line.pictures,
        "times": line.times,
        "measured_for_report": video.measured_now,
        "metrics": video.metrics,
        "recipe": line.recipe(),
        "rerun": repeat::rerun(video),
        "generate": repeat::generate(video, study.plan.as_ref()),
    })
}

/// What a cell of the table says: mean, and spread if there is one.
pub(super) fn cell_text(filled: &Filled, cell: Cell) -> String {
    match cell.stat {
        None => "–".into(),
        Some(stat) => match stat.std {
            Some(std) => format!("{} ± {}", filled.text(stat.mean), filled.text(std)),
            None => filled.text(stat.mean),
        },
    }
}

/// What the rows of a table are.
pub(super) fn rows_title(study: &Study) -> &'static str {
    match study.rows_are {
        RowsAre::Settings => "setting",
        RowsAre::Prompts => "prompt",
        RowsAre::Seeds => "seed",
    }
}

/// How many of how many videos a row has.
pub(super) fn count_text(study: &Study, row: usize) -> String {
    let count = study.of_row(row).count();
    match study.rows[row].expected {
        Some(expected) if expected != count => format!("{count} of {expected}"),
        _ => count.to_string(),
    }
}

/// The table of means for a text in Markdown.
pub(super) fn markdown(study: &Study, table: &[Filled]) -> String {
    let mut text = format!("# {}\n\n{}\n\n", one_line(&study.title), one_line(&scope(study)));
    let head = |filled: &Filled| format!("{} {}", filled.column.title, filled.column.better.sign());
    let heads: Vec<_> = table.iter().map(|filled| head(filled).trim().to_owned()).collect();
    text += &format!("| {} | videos | {} |\n", rows_title(study), heads.join(" | "));
    text += &format!("|---|---:|{}\n", "---:|".repeat(heads.len()));
    for number in study.groups().iter().flat_map(|group| &group.rows) {
        let (number, row) = (*number, &study.rows[*number]);
        let cells = table.iter().map(|filled| {
            let cell = filled.cells[number];
            let words = cell_text(filled, cell);
            if cell.best { format!("**{words}**") } else { words }
        });
        let cells: Vec<_> = match &row.skipped {
            Some(_) => table.iter().map(|_| "–".to_owned()).collect(),
            None => cells.collect(),
        };
        let label = one_line(&row.label);
        text += &format!("| {label} | {} | {} |\n", count_text(study, number), cells.join(" | "));
    }
    text += "\n";
    text += "Mean ± sample standard deviation over the videos of a row. ";
    if study.compares() {
        text += "Bold: the best mean of a column with a direction (↑ higher, ↓ lower, → nearer to the number). ";
    }
    text += "Units:\n\n";
    for filled in table {
        let (title, unit) = (filled.column.title, filled.column.unit);
        text += &format!("- {title}: {unit}; {}\n", filled.column.better.describe());
    }
    for row in &study.rows {
        if let Some(reason) = &row.skipped {
            text += &format!("\nNot rendered: {}: {}\n", one_line(&row.label), one_line(reason));
        }
    }
    for note in &study.notes {
        text += &format!("\nNote: {}\n", one_line(note));
    }
    text
}

/// How much is compared, in a sentence.
pub(super) fn scope(study: &Study) -> String {
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let videos = match study.expected {
        Some(expected) if expected != study.videos.len() => {
            format!("{} of {expected} videos", study.videos.len())
        }
        _ => plural(study.videos.len(), "video"),
    };
    let seeds = match study.rows_are {
        RowsAre::Prompts => plural(study.seeds.len(), "sample"),
        _ => plural(study.seeds.len(), "seed"),
    };
    let prompts = plural(study.prompts.len(), "prompt");
    let rows = study.rows.iter().filter(|row| row.skipped.is_none()).count();
    match study.rows_are {
        RowsAre::Settings => format!("{} × {prompts} × {seeds}: {videos}", plural(rows, "setting")),
        RowsAre::Prompts | RowsAre::Seeds => format!("{prompts} × {seeds}: {videos}"),
    }
}

/// Text that cannot end a line or a cell of a table.
fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut safe = String::with_capacity(spaced.len());
    for c in spaced.chars() {
        if matches!(c, '|' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '\\' | '#') {
            safe.push('\\');
        }
        safe.push(c);
    }
    safe
}
