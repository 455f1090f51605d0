//! `deepforcing trace`: a page that shows what the cache kept.

pub(super) mod flags;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    Failure,
    printer::{Printer, print_result},
};
use crate::{
    Error, files,
    hub::human_bytes,
    trace::{Numbers, Page, Pictures, Trace, TraceError, check_output},
    video::make_folder_of,
};

/// Bytes of a page from which on browsers take their time.
const LARGE: u64 = 100_000_000;

const EXAMPLES: &str = "\
Examples:
  deepforcing generate \"a lighthouse in a storm\" --seconds 30 \\
    --trace storm.jsonl -o storm.mp4
  deepforcing trace storm.jsonl
  deepforcing trace storm.jsonl -o storm.html --video storm.mp4 \\
    --layer 0,5,10-12
  deepforcing generate \"a red ball\" --trace ball.jsonl --attention 0,3 \\
    --attention 5:1 -o ball.mp4
  deepforcing batch prompts.txt -o out --traces

The page needs no network and no other file. It shows what the cache holds over
time, the selected tokens on the frames that they come from, how often each slot
is selected, age and reuse of the selected tokens, and attention by key frame
where it was recorded. Pictures are taken from the video that the trace names,
if it is beside the trace, or from --video; without one there are grids.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct TracePage {
    /// A trace of `generate --trace`
    file: PathBuf,
    /// The page to write, - is standard output [default: the trace's name with .html]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The video, if it is not where it was written
    #[arg(long, value_name = "FILE")]
    video: Option<PathBuf>,
    /// Layers to draw: all, or numbers and ranges such as 0,3-5 [default: all]
    #[arg(long, value_name = "N,N,…")]
    layer: Option<Numbers>,
    /// Replace the page if it exists
    #[arg(long)]
    overwrite: bool,
}

impl TracePage {
    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        let output = self.output.clone().unwrap_or_else(|| self.file.with_extension("html"));
        let to_stdout = output == Path::new("-");
        if !to_stdout {
            check_output(&output, self.overwrite).map_err(Error::from)?;
        }
        let trace = Trace::read(&self.file).map_err(Error::from)?;
        let layers = self.layer.clone().unwrap_or_default();
        let layers = layers.layers(trace.header.shape.layers).map_err(Error::from)?;
        let mut notes = notes(&trace);
        let pictures = self.pictures(&trace, &layers, &mut notes)?;
        notes.iter().for_each(|note| printer.note(note));
        let page = Page {
            trace: &trace,
            layers: &layers,
            pictures: &pictures,
            notes: &notes,
        };
        if to_stdout {
            let mut bytes = Vec::new();
            page.write(&mut bytes).map_err(|error| Failure::Failed(error.into()))?;
            return print_result(&bytes);
        }
        make_folder_of(&output)?;
        let size = write(&page, &output).map_err(|source| {
            let path = output.clone();
            Error::from(TraceError::Create { path, source })
        })?;
        if size > LARGE {
            printer.note(&format!(
                "the page has {}, which browsers are slow with; --layer draws some of the layers",
                human_bytes(size)
            ));
        }
        print_result(format!("{}\n", output.display()).as_bytes())
    }

    /// Pictures of the frames that the page shows.
    fn pictures(&self, trace: &Trace, layers: &[usize], notes: &mut Vec<String>) -> Result<Pictures, Failure> {
        let frames = shown_frames(trace, layers);
        if let Some(video) = &self.video {
            let pictures = Pictures::read(video, &frames)?;
            notes.extend(misfit(&pictures, trace, &frames));
            return Ok(pictures);
        }
        let Some(named) = &trace.header.video else {
            notes.push("The trace names no video; --video gives one. There are grids in place of pictures.".into());
            return Ok(Pictures::default());
        };
        // A trace may come from anybody: of the places that it names, only its own folder is looked at.
        let name = Path::new(named).file_name().unwrap_or_default();
        let reason = match Pictures::read(&self.file.with_file_name(name), &frames) {
            Ok(pictures) => {
                notes.extend(misfit(&pictures, trace, &frames));
                return Ok(pictures);
            }
            Err(problem) => problem.to_string(),
        };
        notes.push(format!(
            "There are grids in place of pictures: {reason}. --video says where the video is."
        ));
        Ok(Pictures::default())
    }
}

/// What a reader should know of the trace itself.
fn notes(trace: &Trace) -> Vec<String> {
    let mut notes = Vec::new();
    let chunks = trace.chunks.len();
    match (&trace.damage, &trace.end) {
        (Some(damage), _) => notes.push(format!(
            "The trace is damaged at line {} ({}); its first {chunks} chunks are shown.",
            damage.line, damage.reason
        )),
        (None, None) => notes.push(format!(
            "The trace has no end: the run was killed, or is going on. Its first {chunks} chunks are shown."
        )),
        (None, Some(end)) if !end.complete => notes.push(format!("The run was stopped after {chunks} chunks.")),
        (None, Some(_)) => {}
    }
    notes
}

/// Origin frames of selected tokens, and the first frame of each chunk.
fn shown_frames(trace: &Trace, layers: &[usize]) -> BTreeSet<u64> {
    let events = trace.events.iter().filter(|event| layers.contains(&event.layer));
    let selected = events.flat_map(|event| &event.selected).map(|selected| selected.frame);
    selected.chain(trace.chunks.iter().map(|chunk| chunk.start)).collect()
}

/// What does not fit between a video and a trace.
fn misfit(pictures: &Pictures, trace: &Trace, frames: &BTreeSet<u64>) -> Option<String> {
    let shape = &trace.header.shape;
    let (width, height) = pictures.size()?;
    let (columns, rows) = (shape.columns as u64, shape.rows as u64);
    let (across, down) = (u64::from(width) * rows, u64::from(height) * columns);
    if across.abs_diff(down) * 50 > across {
        return Some(format!(
            "The video is {width}x{height}, which has other proportions than the {columns}x{rows} tokens of a frame: is \
             it the video of this trace?"
        ));
    }
    let missing = frames.len() - pictures.len();
    (missing > 0).then(|| format!("The video ends before {missing} of the {} frames shown.", frames.len()))
}

/// Writes the page beside its place and gives it its name when it is whole. Returns its size.
fn write(page: &Page<'_>, output: &Path) -> io::Result<u64> {
    let mut name = std::ffi::OsString::from(".");
    name.push(output.file_name().unwrap_or_default());
    name.push(".partial");
    let partial = output.with_file_name(name);
    let attempt = || {
        let mut file = BufWriter::new(files::create(&partial)?);
        page.write(&mut file)?;
        file.flush()?;
        let size = file.get_ref().metadata()?.len();
        fs::rename(&partial, output)?;
        Ok(size)
    };
    let written = attempt();
    if written.is_err() {
        fs::remove_file(&partial).ok();
    }
    written
}
