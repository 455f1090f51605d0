//! What goes to stderr: progress, notes, warnings, errors. Results go to stdout through [`print_result`].

use std::{
    borrow::Cow,
    cell::Cell,
    io::{self, ErrorKind, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{ArgAction, Args};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::{
    Failure, hints,
    live::{Pace, VideoWork},
    terminal::{self, ColorChoice, Role},
};
use crate::{
    Error,
    files::said::{printable_lines, without_passwords},
    hub::human_bytes,
    render::pipeline::Update,
    video::{Encoder, EncoderInfo, VideoSummary},
};

/// Time between progress lines when stderr is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Time between redraws of the live line.
const TICK: Duration = Duration::from_millis(250);
/// Characters of a line in a terminal that does not tell.
const UNKNOWN_WIDTH: usize = 80;
/// Characters of the bar and the space after it.
const BAR: usize = 13;

/// Flags of every command that say how much is printed.
#[derive(Args, Clone, Copy, Default)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputFlags {
    /// Print nothing but errors and the result
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more: times of every stage, log messages; -vv for details
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Whether messages are coloured
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_possible_values = true,
        hide_short_help = true
    )]
    color: ColorChoice,
}

/// How much is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Quiet,
    Normal,
    /// `-v`.
    Verbose,
    /// `-vv`.
    Debug,
}

/// The live line on screen, if there is one. Whoever writes to stderr hides it meanwhile.
static LIVE: Mutex<Option<ProgressBar>> = Mutex::new(None);
/// How often something else than the live line was written.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

fn live() -> MutexGuard<'static, Option<ProgressBar>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `write` while the live line is hidden.
pub(super) fn beside_live_line<T>(write: impl FnOnce() -> T) -> T {
    WRITTEN.fetch_add(1, Ordering::Relaxed);
    let bar = live().clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// A number that is another one after anything was written to stderr.
pub(super) fn written() -> u64 {
    WRITTEN.load(Ordering::Relaxed)
}

/// Writes a line to stderr, as text that a terminal shows and does not obey.
pub(super) fn say(text: &str) {
    write_line(&harmless(text));
}

/// A reader that has gone away (`2>&1 | head`) must not cost the video.
fn write_line(line: &str) {
    beside_live_line(|| {
        let _ = writeln!(io::stderr(), "{line}");
    });
}

/// Text that may hold what strangers wrote (names, recipes, answers of servers), as it may be printed.
fn harmless(text: &str) -> String {
    printable_lines(&without_passwords(text)).into_owned()
}

/// Whether a failure of stdout means that nobody reads it any more: a pipe or a terminal that was closed.
fn nobody_reads(error: &io::Error) -> bool {
    error.kind() == ErrorKind::BrokenPipe || is_closed_terminal(error)
}

/// A terminal that was closed gives the error of a broken disk, and no longer says that it is a terminal.
#[cfg(unix)]
fn is_closed_terminal(error: &io::Error) -> bool {
    use std::{
        fs::File,
        os::{fd::AsFd, unix::fs::FileTypeExt},
    };

    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let metadata = stdout.and_then(|stdout| stdout.metadata());
    let input_output = rustix::io::Errno::IO.raw_os_error();
    error.raw_os_error() == Some(input_output) && metadata.is_ok_and(|metadata| metadata.file_type().is_char_device())
}

#[cfg(not(unix))]
fn is_closed_terminal(_error: &io::Error) -> bool {
    false
}

/// Writes a result to stdout; a reader that has had enough (`| head`) is no failure.
///
/// # Errors
/// When stdout cannot be written, for example because the disk behind it is full.
pub(super) fn print_result(bytes: &[u8]) -> Result<(), Failure> {
    // Programs get every byte as it is.
    let shown = match str::from_utf8(bytes) {
        Ok(text) if io::IsTerminal::is_terminal(&io::stdout()) => Cow::Owned(harmless(text).into_bytes()),
        _ => Cow::Borrowed(bytes),
    };
    let bytes = shown.as_ref();
    let written = beside_live_line(|| {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush())
    });
    match written {
        Err(error) if !nobody_reads(&error) => Err(Failure::Failed(anyhow::anyhow!("cannot write to stdout: {error}"))),
        _ => Ok(()),
    }
}

/// Says what is going on, as much of it as was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Printer {
    level: Level,
    /// Whether stderr can show a live line.
    terminal: bool,
    colours: bool,
}

impl Printer {
    pub(super) fn new(flags: &OutputFlags) -> Self {
        let level = match (flags.quiet, flags.verbose) {
            (true, _) => Level::Quiet,
            (_, 0) => Level::Normal,
            (_, 1) => Level::Verbose,
            _ => Level::Debug,
        };
        let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
        Self {
            level,
            terminal: terminal::is_live(),
            colours: flags.color.colours(is_terminal, terminal::variable),
        }
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    pub(super) fn colours(&self) -> bool {
        self.colours
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    fn labelled(&self, role: Role, text: &str) {
        write_line(&format!("{} {}", role.label(self.colours), harmless(text)));
    }

    /// Something the user should know.
    pub(super) fn note(&self, text: &str) {
        if self.level > Level::Quiet {
            self.labelled(Role::Note, text);
        }
    }

    /// Something that is probably not meant.
    pub(super) fn warning(&self, text: &str) {
        if self.level > Level::Quiet {
            self.labelled(Role::Warning, text);
        }
    }

    /// What to do after an error. Printed even when quiet, as the error is.
    pub(super) fn hint(&self, text: &str) {
        self.labelled(Role::Hint, text);
    }

    /// An error with its causes and what to do about it.
    pub(super) fn error(&self, error: &(dyn std::error::Error + 'static)) {
        let mut said = error.to_string();
        self.labelled(Role::Error, &said);
        let mut cause = error.source();
        while let Some(error) = cause {
            // The library's messages tell their causes themselves.
            let text = error.to_string();
            if !said.contains(&text) {
                say(&format!("  because: {text}"));
                said.push_str(&text);
            }
            cause = error.source();
        }
        for hint in error.downcast_ref::<Error>().map(hints::of).unwrap_or_default() {
            self.hint(&hint);
        }
    }

    /// A step that takes a while begins.
    pub(super) fn stage(&self, text: &str) {
        if self.level > Level::Quiet {
            say(&format!("{text} …"));
        }
    }

    /// Something for those who want to know more (`-v`).
    pub(super) fn detail(&self, text: &str) {
        if self.level >= Level::Verbose {
            say(text);
        }
    }

    /// Says when the encoder is not the first choice.
    pub(super) fn encoder(&self, info: &EncoderInfo) {
        // x264 in the place of a GPU's encoder is as good.
        let worse = !info.rejected.is_empty() && info.encoder() != Some(Encoder::X264);
        if worse || self.level >= Level::Verbose {
            self.note(&format!("encoding with {info}"));
        }
    }

    /// Says what was made; `with` follows it.
    pub(super) fn finished(&self, summary: &VideoSummary, complete: bool, with: &str) {
        if self.level > Level::Quiet {
            say(&format!(
                "{}{} pictures, {:.2} s, {}{with}",
                if complete { "" } else { "stopped: " },
                summary.frames,
                summary.duration.as_secs_f64(),
                human_bytes(summary.bytes)
            ));
        }
    }

    /// Progress of a video; `started` is when the command began.
    pub(super) fn progress(&self, work: VideoWork, started: Instant) -> Progress {
        let pace = Arc::new(Mutex::new(Pace::new(work, Instant::now())));
        let stages = self.level >= Level::Verbose;
        let shown = self.level > Level::Quiet;
        let bar = (shown && self.terminal).then(|| live_line(work.video.pictures as u64, &pace, stages));
        Progress {
            bar,
            pace,
            stages,
            lines: shown && !self.terminal,
            // Known at once to those who look at the line.
            first: shown && (stages || !self.terminal),
            started,
            spoke: Cell::new(Instant::now()),
        }
    }
}

/// Puts the line on screen. It is redrawn by a thread of its own, so that memory and time stay true during long steps.
fn live_line(pictures: u64, pace: &Arc<Mutex<Pace>>, stages: bool) -> ProgressBar {
    let pace = pace.clone();
    let line = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        let columns = terminal::size().map_or(UNKNOWN_WIDTH, |size| usize::from(size.columns));
        let width = Some(columns.saturating_sub(BAR + 1));
        let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.write_str(&pace.line(Instant::now(), stages, width));
    };
    let style = ProgressStyle::with_template("{bar:12} {line}").unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.with_key("line", line).progress_chars("=> ");
    let bar = ProgressBar::new(pictures).with_style(style);
    *live() = Some(bar.clone());
    bar.enable_steady_tick(TICK);
    bar
}

/// The live line of one video, or the lines that stand in for it.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    pace: Arc<Mutex<Pace>>,
    stages: bool,
    lines: bool,
    first: bool,
    started: Instant,
    spoke: Cell<Instant>,
}

impl Progress {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn update(&self, update: &Update) {
        let (before, after) = {
            let mut pace = self.pace();
            let before = pace.pictures();
            pace.update(update);
            (before, pace.pictures())
        };
        if self.first && before == 0 && after > 0 {
            let seconds = self.started.elapsed().as_secs_f64();
            say(&format!("first picture after {seconds:.1} s"));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(after as u64);
        }
        if self.lines && self.spoke.get().elapsed() >= LINE_INTERVAL {
            self.spoke.set(Instant::now());
            let line = self.pace().line(Instant::now(), self.stages, None);
            say(&line);
        }
    }

    /// The pictures handed over last took this long to encode.
    pub(super) fn encoded(&self, took: Duration) {
        self.pace().encoded(took);
    }

    /// Takes the line off the screen; with `-v`, says how fast each stage was.
    pub(super) fn close(&self) {
        if let Some(bar) = &self.bar {
            *live() = None;
            bar.finish_and_clear();
        }
        if self.stages && self.pace().pictures() > 0 {
            let line = self.pace().line(Instant::now(), true, None);
            say(&line);
        }
    }
}

impl Drop for Progress {
    /// An error must not leave the line behind.
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take().filter(|bar| !bar.is_finished()) {
            *live() = None;
            bar.finish_and_clear();
        }
    }
}

/// Stderr for log messages.
pub(super) struct LogWriter {
    /// Whether they come with the terminal's codes for colours; texts in them are then escaped already.
    pub coloured: bool,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let text = match self.coloured {
            true => without_passwords(&text).into_owned(),
            false => harmless(&text),
        };
        beside_live_line(|| {
            let _ = io::stderr().write_all(text.as_bytes());
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
