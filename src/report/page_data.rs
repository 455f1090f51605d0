//! What the scripts of the page read: rows, videos, curves, contact sheets.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

use super::{
    axes::Against,
    colours::css,
    sheets::Sheets,
    study::{RowsAre, State, Study, Video},
    summary::{Curves, Filled, IMPORTANT, Stat},
};

/// Rows that are shown at first; more videos at once stutter.
const SHOWN: usize = 8;

/// Contact sheets, if there are any.
pub(super) type LoadedSheets = Option<Sheets>;

/// All but the pictures.
pub(super) fn data<'a>(study: &'a Study, table: &[Filled], curves: &'a [Curves], sheets: &LoadedSheets) -> Data<'a> {
    let rows = study.rows.iter().enumerate().map(|(number, row)| {
        json!({
            "label": row.label,
            "colour": css(study.colour(number)),
            "shown": number < SHOWN && row.skipped.is_none(),
            "skipped": row.skipped.is_some(),
        })
    });
    // In a batch, rows are prompts or seeds, and there is nothing to choose.
    let prompts: Vec<_> = match study.rows_are {
        RowsAre::Settings => study
            .prompts
            .iter()
            .map(|prompt| json!({ "id": prompt.id, "text": prompt.text }))
            .collect(),
        RowsAre::Prompts | RowsAre::Seeds => vec![json!({ "id": "", "text": "" })],
    };
    let seeds = match study.rows_are {
        RowsAre::Seeds => vec![String::new()],
        RowsAre::Settings | RowsAre::Prompts => study.seeds.clone(),
    };
    Data {
        study,
        curves,
        prompts: prompts.into(),
        rows: rows.collect(),
        seeds: seeds.into(),
        against: study.against().map_or(Value::Null, |against| one_axis(against, table)),
        sheet: sheets.as_ref().map_or(Value::Null, |sheets| {
            let pictures = sheets
                .strips
                .iter()
                .map(|strip| strip.as_ref().map_or(0, |strip| strip.pictures));
            json!({
                "every": sheets.every,
                "width": sheets.width,
                "height": sheets.height,
                "pictures": pictures.collect::<Vec<_>>(),
            })
        }),
    }
}

/// What [`data`] gives; curves and videos, which are many, become JSON one after the other.
pub(super) struct Data<'a> {
    study: &'a Study,
    curves: &'a [Curves],
    rows: Value,
    prompts: Value,
    seeds: Value,
    against: Value,
    sheet: Value,
}

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (study, curves) = (self.study, self.curves);
        let videos = Each(move || study.videos.iter().map(move |video| one(study, video)));
        let mut map = serializer.serialize_map(Some(7))?;
        map.serialize_entry("against", &self.against)?;
        map.serialize_entry("curves", &Each(move || curves.iter().map(one_curve)))?;
        map.serialize_entry("prompts", &self.prompts)?;
        map.serialize_entry("rows", &self.rows)?;
        map.serialize_entry("seeds", &self.seeds)?;
        map.serialize_entry("sheet", &self.sheet)?;
        map.serialize_entry("videos", &videos)?;
        map.end()
    }
}

/// A list whose items are made when they are written.
pub(super) struct Each<F>(pub F);

impl<I: Iterator<Item: Serialize>, F: Fn() -> I> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

fn one(study: &Study, video: &Video) -> Value {
    let settings = study.rows_are == RowsAre::Settings;
    let size = video.size();
    json!({
        "row": video.row,
        "prompt": if settings { video.prompt } else { 0 },
        "seed": if study.rows_are == RowsAre::Seeds { 0 } else { video.seed },
        "title": study.prompts[video.prompt].text,
        "file": video.line.file,
        "src": link(&video.line.file),
        "state": match video.state {
            State::Missing | State::Damaged => video.state.as_str(),
            State::There | State::Changed if plays(&video.line.file) => "there",
            State::There | State::Changed => "unplayable",
        },
        "seconds": video.seconds(),
        "fps": video.line.fps.or_else(|| video.metrics.as_ref().map(|report| report.fps)),
        "width": size.map(|(width, _)| width),
        "height": size.map(|(_, height)| height),
    })
}

/// Whether browsers play a file of this form.
fn plays(file: &str) -> bool {
    let form = file.rsplit('.').next().unwrap_or_default();
    ["mp4", "webm"].iter().any(|known| form.eq_ignore_ascii_case(known))
}

/// A path in the folder as a relative link.
fn link(path: &str) -> String {
    let mut link = String::from("./");
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => link.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => link.push(byte.into()),
            byte => link += &format!("%{byte:02X}"),
        }
    }
    link
}

/// The columns of the table against the number that rows differ in.
fn one_axis(against: &Against, table: &[Filled]) -> Value {
    let lines = against
        .lines
        .iter()
        .map(|line| json!({ "label": line.label, "points": line.points }));
    let panels = table.iter().map(|filled| {
        let cells = filled.cells.iter().map(|cell| {
            let stat = cell.stat?;
            Some(json!([rounded(stat.mean), stat.std.map(rounded)]))
        });
        json!({
            "key": filled.column.key,
            "title": filled.column.title,
            "sign": filled.column.better.sign(),
            "unit": filled.column.unit,
            "cells": cells.collect::<Vec<_>>(),
        })
    });
    json!({
        "name": against.name,
        "about": against.about,
        "lines": lines.collect::<Vec<_>>(),
        "panels": panels.collect::<Vec<_>>(),
    })
}

fn one_curve(curves: &Curves) -> Value {
    let rows = curves.rows.iter().map(|row| {
        let of = |value: fn(&Stat) -> Option<f64>| -> Vec<Value> {
            let values = row.iter().map(|stat| stat.as_ref().and_then(value));
            values.map(|value| value.map_or(Value::Null, rounded)).collect()
        };
        json!({ "mean": of(|stat| Some(stat.mean)), "std": of(|stat| stat.std) })
    });
    let list = |video: &Vec<Option<f64>>| -> Vec<Value> {
        let values = video.iter().map(|value| value.map_or(Value::Null, rounded));
        values.collect()
    };
    json!({
        "videos": curves.videos.iter().map(list).collect::<Vec<_>>(),
        "key": curves.metric.key,
        "name": curves.metric.name,
        "unit": curves.unit(),
        "important": IMPORTANT.contains(&curves.metric.key),
        "rows": rows.collect::<Vec<_>>(),
    })
}

/// Five digits that count: what a drawing can show, in little space.
fn rounded(value: f64) -> Value {
    let text = format!("{value:.4e}");
    text.parse::<f64>().map_or(Value::Null, Value::from)
}

/// The pictures of the contact sheets, as data URIs.
pub(super) fn strips(sheets: &LoadedSheets) -> Value {
    let strips = sheets.iter().flat_map(|sheets| &sheets.strips);
    let uris = strips.map(|strip| {
        let strip = strip.as_ref()?;
        Some(format!("data:image/jpeg;base64,{}", STANDARD.encode(&strip.jpeg)))
    });
    json!(uris.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_hold_any_name() {
        assert_eq!(link("sink-10/00000-0.mp4"), "./sink-10/00000-0.mp4");
        assert_eq!(link("a #1?é%.mp4"), "./a%20%231%3F%C3%A9%25.mp4");
        assert_eq!(link("javascript:x"), "./javascript%3Ax");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(rounded(0.123_456_78).to_string(), "0.12346");
        assert_eq!(rounded(12_345.6).to_string(), "12346.0");
    }
}
