//! Values of metrics as tables, CSV and JSON.

use std::path::Path;

use serde::Serialize;

use super::super::{Failure, config::table};
use crate::{
    files::said::cell,
    metrics::{Change, METRICS, Measured, Metric, Report, Second},
};

/// What stands for a value that there is none of.
const NONE: &str = "–";

/// Metrics that a second has values of.
fn per_second() -> impl Iterator<Item = Metric> {
    METRICS
        .into_iter()
        .filter(|metric| !["colour_drift_slope", "seam_discontinuity"].contains(&metric.key))
}

/// Name, unit, formula and source of every metric.
pub(super) fn formulas() -> String {
    let mut text = String::new();
    for metric in METRICS {
        let last = match metric.change {
            Change::Ratio => "last five seconds over first five",
            Change::Difference => "last five seconds less first five",
            Change::Distance => "distance of the last five seconds from the first five",
            Change::None => "none",
        };
        text.push_str(&format!(
            "{} ({})\n  unit     {}\n  formula  {}\n  change   {last}\n  source   {}\n\n",
            metric.name, metric.key, metric.unit, metric.formula, metric.source
        ));
    }
    text.push_str(
        "Colour, contrast, saturation, motion and repetition are computed on pictures whose sides are divided by the \
         smallest whole number that leaves a shorter side of 256 at most; motion is given in pixels of the video.\n\
         Seconds begin at the first picture. Values that need two pictures are absent where there is one.\n",
    );
    text
}

/// A number with four digits that count.
fn number(value: Option<f64>) -> String {
    let Some(value) = value else { return NONE.into() };
    let digits = match value.abs() {
        size if size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        size if size >= 1.0 => 3,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    // No minus before a zero.
    match text.strip_prefix('-') {
        Some(zero) if zero.bytes().all(|byte| matches!(byte, b'0' | b'.')) => zero.into(),
        _ => text,
    }
}

fn change(measured: &Measured) -> String {
    let value = number(measured.change);
    match (measured.metric.change, measured.change) {
        (Change::Ratio, Some(_)) => format!("×{value}"),
        (Change::Difference, Some(change)) if change > 0.0 => format!("+{value}"),
        _ => value,
    }
}

/// A table for people.
pub(super) fn human(file: &Path, report: &Report, seconds: bool) -> String {
    let mut text = format!(
        "{}: {}x{}, {} pictures, {:.2} s at {} per second\n",
        file.display(),
        report.width,
        report.height,
        report.pictures,
        report.seconds,
        (report.fps * 1000.0).round() / 1000.0
    );
    match seconds {
        true => text.push_str(&seconds_table(report)),
        false => text.push_str(&summary_table(report)),
    }
    let windows = report.windows;
    if windows.overlap > 0.0 {
        text.push_str(&format!(
            "first is {:.2} to {:.2} s, last is {:.2} to {:.2} s: they share {:.2} s, as the video is shorter than 10 s\n",
            windows.first[0], windows.first[1], windows.last[0], windows.last[1], windows.overlap
        ));
    }
    for back in &report.roll_backs {
        let place = if back.sink { ", in the sink" } else { "" };
        let end = back.second + back.seconds;
        text.push_str(&format!(
            "rolls back: second {} to {end} returns to {:.2} s{place}\n",
            back.second, back.to
        ));
    }
    text
}

fn summary_table(report: &Report) -> String {
    let titles = ["", "whole", "first 5 s", "last 5 s", "change", "unit"].map(String::from);
    let rows = report.metrics.iter().map(|measured| {
        [
            measured.metric.name.to_string(),
            number(measured.whole),
            number(measured.first),
            number(measured.last),
            change(measured),
            measured.metric.unit.to_string(),
        ]
    });
    table(&std::iter::once(titles).chain(rows).collect::<Vec<_>>())
}

fn seconds_table(report: &Report) -> String {
    const TITLES: [&str; 12] = [
        "second", "flicker", "drift", "bright", "contrast", "satur.", "sharp", "histogr.", "motion", "sink", "earlier",
        "back",
    ];
    let rows = report.per_second.iter().map(|second| {
        let values = per_second().map(|metric| number(second.value(metric.key)));
        let mut cells = std::iter::once(second.second.to_string()).chain(values);
        std::array::from_fn(|_| cells.next().unwrap_or_default())
    });
    table(
        &std::iter::once(TITLES.map(String::from))
            .chain(rows)
            .collect::<Vec<_>>(),
    )
}

/// Names of the columns.
pub(super) fn csv_header(seconds: bool) -> String {
    if !seconds {
        return "file,metric,unit,whole,first_5s,last_5s,last_against_first,last_against_first_is\n".into();
    }
    let metrics = per_second().map(|metric| metric.key);
    let columns = ["file", "second", "pictures", "lab_l", "lab_a", "lab_b"]
        .into_iter()
        .chain(metrics);
    columns.collect::<Vec<_>>().join(",") + "\n"
}

/// Lines of CSV; a value that there is none of is empty.
pub(super) fn csv(file: &Path, report: &Report, seconds: bool) -> String {
    let file = quoted(&cell(&file.display().to_string()));
    match seconds {
        true => report
            .per_second
            .iter()
            .map(|second| second_line(&file, second))
            .collect(),
        false => report
            .metrics
            .iter()
            .map(|measured| metric_line(&file, measured))
            .collect(),
    }
}

fn metric_line(file: &str, measured: &Measured) -> String {
    let metric = measured.metric;
    let values = [measured.whole, measured.first, measured.last, measured.change]
        .map(exact)
        .join(",");
    let change = match metric.change {
        Change::Ratio => "ratio",
        Change::Difference => "difference",
        Change::Distance => "distance",
        Change::None => "",
    };
    format!("{file},{},{},{values},{change}\n", metric.key, quoted(metric.unit))
}

fn second_line(file: &str, second: &Second) -> String {
    let colour = second.colour.map(|part| exact(Some(part))).join(",");
    let values: Vec<_> = per_second().map(|metric| exact(second.value(metric.key))).collect();
    format!(
        "{file},{},{},{colour},{}\n",
        second.second,
        second.pictures,
        values.join(",")
    )
}

fn exact(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A field of CSV (RFC 4180).
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.into(),
    }
}

/// A line of JSON.
pub(super) fn json(file: &Path, report: &Report) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Line<'a> {
        file: String,
        #[serde(flatten)]
        report: &'a Report,
    }
    let line = Line {
        file: file.display().to_string(),
        report,
    };
    let text = serde_json::to_string(&line).map_err(|error| Failure::Failed(error.into()))?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits_and_no_minus_before_zero() {
        for (value, text) in [
            (Some(12_345.6), "12346"),
            (Some(123.45), "123.5"),
            (Some(12.345), "12.35"),
            (Some(0.98765), "0.9877"),
            (Some(-0.00001), "0.0000"),
            (Some(-2.0), "-2.000"),
            (None, NONE),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn fields_with_separators_are_quoted() {
        assert_eq!(quoted("a b.mp4"), "a b.mp4");
        assert_eq!(quoted("a,\"b\".mp4"), "\"a,\"\"b\"\".mp4\"");
    }
}
