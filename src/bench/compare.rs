//! Two results side by side.

use std::path::Path;

use super::{BenchError, BenchReport, FORMAT};

/// Reads a result of `deepforcing bench --json`.
///
/// # Errors
/// When it cannot be read or is of a later form.
pub fn read(path: &Path) -> Result<BenchReport, BenchError> {
    let not = |reason: String| BenchError::NotAReport {
        path: path.display().to_string(),
        reason,
    };
    let text = crate::files::read_text(path, crate::files::LONGEST_TEXT).map_err(|error| not(error.to_string()))?;
    let report: BenchReport = serde_json::from_str(&text).map_err(|error| not(error.to_string()))?;
    match report.format {
        FORMAT => Ok(report),
        other => Err(not(format!("it has format {other}, this program reads {FORMAT}"))),
    }
}

/// A table of both, with what makes them hard to compare above it.
pub fn compare(before: &BenchReport, now: &BenchReport) -> String {
    let mut text = String::new();
    for (name, then, now) in differences(before, now) {
        text.push_str(&format!("{name} was {then}, is {now}\n"));
    }
    text.push_str(&format!("{:<34}{:>12}{:>12}{:>9}\n", "", "before", "now", "ratio"));
    for (name, then, now) in numbers(before, now) {
        let (Some(then), Some(now)) = (then, now) else { continue };
        let ratio = if then == 0.0 {
            "–".into()
        } else {
            format!("{:.3}", now / then)
        };
        text.push_str(&format!("{name:<34}{then:>12.2}{now:>12.2}{ratio:>9}\n"));
    }
    text
}

/// Facts that differ.
fn differences(before: &BenchReport, now: &BenchReport) -> Vec<(&'static str, String, String)> {
    let size = |report: &BenchReport| format!("{}x{}", report.video.width, report.video.height);
    let model = |report: &BenchReport| format!("{:?}", report.model);
    let cache = |report: &BenchReport| format!("{} with window {}", report.cache.policy, report.cache.window);
    let facts: [(_, String, String); 7] = [
        (
            "machine",
            before.machine.processor.clone(),
            now.machine.processor.clone(),
        ),
        (
            "GPU",
            format!("{:?}", before.machine.gpu),
            format!("{:?}", now.machine.gpu),
        ),
        (
            "device",
            format!("{} {}", before.device, before.dtype),
            format!("{} {}", now.device, now.dtype),
        ),
        (
            "threads",
            before.machine.threads.to_string(),
            now.machine.threads.to_string(),
        ),
        ("size", size(before), size(now)),
        ("model", model(before), model(now)),
        ("cache", cache(before), cache(now)),
    ];
    facts.into_iter().filter(|(_, before, now)| before != now).collect()
}

type Number = (&'static str, Option<f64>, Option<f64>);
/// A number of a result, if it has it.
type Of = fn(&BenchReport) -> Option<f64>;

fn numbers(before: &BenchReport, now: &BenchReport) -> Vec<Number> {
    let all: [(&'static str, Of); 12] = [
        ("first picture, s", |r| Some(r.cold_start.first_picture_seconds)),
        ("steady denoising of a chunk, ms", |r| Some(r.steady.denoise)),
        ("steady decoding of a chunk, ms", |r| Some(r.steady.decode)),
        ("steady transfer of a chunk, ms", |r| Some(r.steady.transfer)),
        ("steady encoding of a chunk, ms", |r| Some(r.steady.encode)),
        ("cache write with an event, ms", |r| r.cache_writes.with_event),
        ("cache write without, ms", |r| r.cache_writes.without_event),
        ("transformer, TFLOP/s", |r| Some(r.steady.tflops)),
        ("ceiling, TFLOP/s", |r| Some(r.ceiling.tflops)),
        ("pictures/s, one after the other", |r| Some(r.steady.fps)),
        ("pictures/s, side by side", |r| Some(r.side_by_side.as_ref()?.fps)),
        ("peak memory, MB", |r| {
            Some(r.memory.device_peak.or(r.memory.host_peak)? as f64 / 1e6)
        }),
    ];
    all.into_iter().map(|(name, of)| (name, of(before), of(now))).collect()
}
