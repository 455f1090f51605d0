//! A report on a folder of videos: what was measured, set side by side.
//!
//! [`write()`] reads the manifest of a batch or sweep and writes beside it
//!
//! | file | what it holds |
//! |---|---|
//! | `report.html` | everything below and the videos playing in step, in one page that fetches nothing |
//! | `results.csv` | one line per video |
//! | `results.json` | everything, values of every second and recipes included |
//! | `table.md` | means and spread per setting |
//! | `plots/` | curves over time and a summary, as SVG and PNG |
//!
//! | module | what it holds |
//! |---|---|
//! | `lines` | the manifest, read with forgiveness |
//! | `study` | settings, prompts, seeds and their videos |
//! | `axes` | which rows are of one model, and which differ in one number |
//! | `columns`, `summary` | values of a table and their directions; means, spread, curves |
//! | `sheets` | contact sheets, and measures of videos without any |
//! | `repeat` | commands that make videos again |
//! | `files`, `plots` | CSV, JSON, Markdown; SVG and PNG |
//! | `page`, `page_data` | the page, and what its scripts read |
//! | `page.html`, `style/`, `script/` | its frame, looks and behaviour |

mod axes;
mod colours;
mod columns;
mod error;
mod files;
mod lines;
mod page;
mod page_data;
mod plots;
mod repeat;
mod sheets;
mod study;
mod summary;

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

pub use error::ReportError;

use crate::{
    Result,
    files::{check_inside, create},
    rollout::CancelToken,
};
use study::Study;

/// How a report is written.
pub struct Options<'a> {
    /// Whether to look at the videos: contact sheets, and measures of those that have none.
    pub look_at_videos: bool,
    /// Told after each video that was looked at: how many, of how many. From several threads.
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
    pub cancel: CancelToken,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            look_at_videos: true,
            progress: &|_, _| {},
            cancel: CancelToken::default(),
        }
    }
}

/// What was written.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Written {
    /// The page.
    pub page: PathBuf,
    /// All files, the page among them.
    pub files: Vec<PathBuf>,
    /// Settings, prompts or seeds that are compared.
    pub rows: usize,
    /// Videos that are finished.
    pub videos: usize,
    /// Videos that there will be, if that is known.
    pub expected: Option<usize>,
    /// What is not as it should be, as the report says it too.
    pub notes: Vec<String>,
}

/// Writes a report on the videos of `folder` into it, replacing an older one. Works while the videos are still being
/// made, and says how many of how many there are.
///
/// # Errors
/// [`ReportError`]: no folder, nothing finished in it, files that cannot be read or written;
/// [`crate::Error::Cancelled`].
pub fn write(folder: &Path, options: &Options) -> Result<Written> {
    let mut study = Study::read(folder)?;
    let sheets = match options.look_at_videos {
        true => Some(sheets::look(&mut study, options)?),
        false => None,
    };
    sheets::note_overlap(&mut study);
    let table = summary::table(&study);
    let curves = summary::curves(&study);
    let mut output = Output::new(folder);
    let plots = plots::plots(&study, &table, &curves)?;
    let painter = plots::Painter::new();
    for plot in &plots {
        output.put(&format!("plots/{}.svg", plot.name), plot.svg.as_bytes())?;
        output.put(&format!("plots/{}.png", plot.name), &painter.png(plot)?)?;
    }
    let csv = files::csv(&study).map_err(|error| output.unwritten("results.csv", &error))?;
    output.put("results.csv", &csv)?;
    let everything = files::Everything {
        study: &study,
        table: &table,
    };
    output.put_with("results.json", |file| Ok(serde_json::to_writer(file, &everything)?))?;
    output.put("table.md", files::markdown(&study, &table).as_bytes())?;
    let page = page::page(&study, &table, &curves, &sheets);
    output.put("report.html", page.as_bytes())?;
    Ok(Written {
        page: folder.join("report.html"),
        files: output.files,
        rows: study.rows.len(),
        videos: study.videos.len(),
        expected: study.expected,
        notes: study.notes,
    })
}

/// The files of a report.
struct Output<'a> {
    folder: &'a Path,
    files: Vec<PathBuf>,
}

impl<'a> Output<'a> {
    fn new(folder: &'a Path) -> Self {
        let files = Vec::new();
        Self { folder, files }
    }

    /// Writes a file under its name only when it is complete.
    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), ReportError> {
        self.put_with(name, |file| file.write_all(bytes))
    }

    /// The same for what is written piece by piece.
    fn put_with(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), ReportError> {
        let path = self.folder.join(name);
        let partial = path.with_extension("partial");
        // A folder of others may hold links; nothing is written where they lead.
        let inside = check_inside(self.folder, Path::new(name));
        let made = inside.and_then(|()| path.parent().map_or(Ok(()), fs::create_dir_all));
        let written = made
            .and_then(|()| {
                let mut file = BufWriter::new(create(&partial)?);
                write(&mut file)?;
                file.flush()
            })
            .and_then(|()| fs::rename(&partial, &path));
        match written {
            Ok(()) => {
                self.files.push(path);
                Ok(())
            }
            Err(error) => {
                fs::remove_file(&partial).ok();
                Err(self.unwritten(name, &error))
            }
        }
    }

    fn unwritten(&self, name: &str, error: &dyn std::error::Error) -> ReportError {
        ReportError::Write {
            path: self.folder.join(name),
            reason: error.to_string(),
        }
    }
}
