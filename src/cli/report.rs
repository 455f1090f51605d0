//! `deepforcing report`: a folder of videos set side by side.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;

use super::{
    Failure,
    printer::{Printer, print_result},
};
use crate::{
    report::{self, Options, Written},
    rollout::CancelToken,
};

/// Time between two lines about how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  deepforcing report out
  deepforcing report out --no-pictures
  deepforcing report out --json | jq -r .page

Writes into DIR, replacing an older report:
  report.html   tables, curves over time, contact sheets, the videos playing in
                step; needs no network, and the videos stay beside it
  results.csv   one line per video
  results.json  everything, with the values of every second and the recipes
  table.md      means and spread
  plots/        curves and a summary, as SVG and PNG

Works while the videos are still being made, too. Videos that were not measured
while they were made are measured from their files. Lines of the manifest that
cannot be used and files that are missing or damaged are named, and the rest is
shown.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Report {
    /// The output folder of a sweep or a batch
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Do not look at the videos: no contact sheets, and only what was measured before
    #[arg(long)]
    no_pictures: bool,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

impl Report {
    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        let written = write(&self.folder, !self.no_pictures, &CancelToken::default(), printer)?;
        let text = match self.json {
            true => serde_json::to_string(&written).map_err(|error| Failure::Failed(error.into()))?,
            false => {
                printer.note(&summary(&written));
                written.page.display().to_string()
            }
        };
        print_result(format!("{text}\n").as_bytes())
    }
}

/// Writes the report on `folder` and passes its notes on.
pub(super) fn write(
    folder: &Path,
    look_at_videos: bool,
    cancel: &CancelToken,
    printer: &Printer,
) -> Result<Written, crate::Error> {
    let looked = Looked::new(printer);
    let options = Options {
        look_at_videos,
        progress: &|done, total| looked.tell(done, total),
        cancel: cancel.clone(),
    };
    let written = report::write(folder, &options)?;
    written.notes.iter().for_each(|note| printer.warning(note));
    Ok(written)
}

/// What was written, in a line that the path of the page follows.
pub(super) fn summary(written: &Written) -> String {
    let videos = match written.expected {
        Some(expected) if expected != written.videos => format!("{} of {expected} videos", written.videos),
        _ => format!("{} video{}", written.videos, if written.videos == 1 { "" } else { "s" }),
    };
    let rows = if written.rows == 1 { "row" } else { "rows" };
    format!("{videos} in {} {rows}; open this page in a browser:", written.rows)
}

/// Says now and then how many videos were looked at.
struct Looked<'a> {
    printer: &'a Printer,
    told: Mutex<Instant>,
    most: AtomicUsize,
}

impl<'a> Looked<'a> {
    fn new(printer: &'a Printer) -> Self {
        Self {
            printer,
            told: Mutex::new(Instant::now()),
            most: AtomicUsize::new(0),
        }
    }

    fn tell(&self, done: usize, total: usize) {
        let most = self.most.fetch_max(done, Ordering::Relaxed).max(done);
        if let Ok(mut told) = self.told.lock()
            && told.elapsed() > TOLD_EVERY
        {
            *told = Instant::now();
            self.printer.stage(&format!("looked at {most} of {total} videos"));
        }
    }
}
