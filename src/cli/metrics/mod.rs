//! `deepforcing metrics`: measures of videos.

mod output;

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    Failure,
    printer::{Printer, print_result},
};
use crate::{
    Result,
    metrics::{self, Chunks, Options, Report},
};

/// Pictures per second of a video that does not tell.
const DEFAULT_FPS: f64 = 16.0;

const EXAMPLES: &str = "\
Examples:
  deepforcing metrics storm.mp4
  deepforcing metrics --formulas
  deepforcing metrics out/*.mp4 --csv > metrics.csv
  deepforcing metrics storm.mp4 --csv --per-second > seconds.csv
  deepforcing metrics storm.mp4 --json | jq '.metrics[] | {key, whole}'

Metrics, each for the whole video, its first and its last five seconds:
  temporal flickering (VBench's, exact); colour drift and its slope; brightness,
  contrast, saturation, sharpness; luma histogram distance; block-matching
  motion; chunk-seam discontinuity; similarity to the sink and to earlier
  pictures, roll-backs.
  `deepforcing metrics --formulas` prints formula, unit and source of each.

Any video or image that FFmpeg reads. Frames are taken to be evenly spaced. If a
file cannot be read, the others are measured, and the exit code is 1.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Metrics {
    /// Videos to measure
    #[arg(value_name = "FILE", required_unless_present = "formulas")]
    files: Vec<PathBuf>,
    /// Print one line of JSON for each video, with the values of every second
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV: one line for each video and metric
    #[arg(long)]
    csv: bool,
    /// Print the values of every second instead of the summary
    #[arg(long, conflicts_with = "json")]
    per_second: bool,
    /// Print name, formula, unit and source of every metric
    #[arg(long, conflicts_with_all = ["files", "json", "csv", "per_second"])]
    formulas: bool,
    /// Pictures per second [default: what the file says, else 16]
    #[arg(long, value_name = "N", value_parser = frame_rate)]
    fps: Option<f64>,
    /// Pictures of the first chunk, for the number of seams
    #[arg(long, value_name = "N", default_value_t = Chunks::default().first, value_parser = clap::value_parser!(u64).range(1..))]
    first_chunk: u64,
    /// Pictures of every other chunk
    #[arg(long, value_name = "N", default_value_t = Chunks::default().rest, value_parser = clap::value_parser!(u64).range(1..))]
    chunk: u64,
    /// Pictures that count as the sink; 4n - 3 for n latent frames
    #[arg(long, value_name = "N", default_value_t = Options::default().sink_pictures, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    sink_pictures: u64,
}

fn frame_rate(text: &str) -> std::result::Result<f64, String> {
    let fps = text.parse().ok().filter(|fps| metrics::FRAME_RATES.contains(fps));
    fps.ok_or_else(|| "it must be a number between 1 and 1000".into())
}

impl Metrics {
    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        if self.formulas {
            return print_result(output::formulas().as_bytes());
        }
        if self.csv {
            print_result(output::csv_header(self.per_second).as_bytes())?;
        }
        let mut failed = false;
        for (at, file) in self.files.iter().enumerate() {
            match self.measure(file, printer) {
                Ok(report) => print_result(self.text(file, &report, at > 0)?.as_bytes())?,
                Err(error) => {
                    printer.error(&error);
                    failed = true;
                }
            }
        }
        match failed {
            true => Err(Failure::Told),
            false => Ok(()),
        }
    }

    fn text(&self, file: &Path, report: &Report, follows: bool) -> Result<String, Failure> {
        if self.json {
            return output::json(file, report);
        }
        if self.csv {
            return Ok(output::csv(file, report, self.per_second));
        }
        let text = output::human(file, report, self.per_second);
        Ok(if follows { format!("\n{text}") } else { text })
    }

    /// Reads a video and measures it on the way.
    fn measure(&self, file: &Path, printer: &Printer) -> Result<Report> {
        let options = Options {
            chunks: Chunks {
                first: self.first_chunk,
                rest: self.chunk,
            },
            sink_pictures: self.sink_pictures,
        };
        metrics::measure_file(file, options, |found| self.rate(file, found, printer))
    }

    /// Pictures per second to count with.
    fn rate(&self, file: &Path, found: Option<f64>, printer: &Printer) -> f64 {
        match (self.fps, found) {
            (Some(fps), _) => fps,
            (None, Some(fps)) if metrics::FRAME_RATES.contains(&fps) => fps,
            (None, _) => {
                printer.note(&format!(
                    "`{}` does not say how many pictures it has in a second, {DEFAULT_FPS} are assumed; --fps sets another rate",
                    file.display()
                ));
                DEFAULT_FPS
            }
        }
    }
}
