//! The terminal: progress and notes on stderr.

use std::{
    cell::Cell,
    io::Write,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    pipeline::Update,
    video::{EncoderInfo, VideoSummary},
};

/// Time between progress lines when stderr is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Writes a line to stderr. A reader that has gone away (`2>&1 | head`) must not cost the video.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Says what is going on, unless it is told to be quiet.
pub(super) struct Printer {
    quiet: bool,
    terminal: bool,
}

impl Printer {
    pub(super) fn new(quiet: bool) -> Self {
        Self {
            quiet,
            terminal: std::io::IsTerminal::is_terminal(&std::io::stderr()),
        }
    }

    /// Something the user should know.
    pub(super) fn note(&self, text: &str) {
        say(&format!("note: {text}"));
    }

    /// A step that takes a while begins.
    pub(super) fn stage(&self, text: &str) {
        if !self.quiet {
            say(&format!("{text} …"));
        }
    }

    /// Says when the encoder is not the first choice.
    pub(super) fn encoder(&self, info: &EncoderInfo) {
        if !info.rejected.is_empty() {
            self.note(&format!("encoding with {info}"));
        }
    }

    pub(super) fn finished(&self, summary: &VideoSummary, complete: bool) {
        if !self.quiet {
            say(&format!(
                "{}{} pictures, {:.2} s, {:.1} MB",
                if complete { "" } else { "stopped: " },
                summary.frames,
                summary.duration.as_secs_f64(),
                summary.bytes as f64 / 1e6
            ));
        }
    }

    /// Progress of a video of `chunks` chunks and `pictures` pictures; `started` is when the command began.
    pub(super) fn progress(&self, chunks: usize, pictures: usize, fps: u32, started: Instant) -> Progress {
        let bar = match self.quiet || !self.terminal {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(pictures as u64).with_style(style()),
        };
        bar.enable_steady_tick(Duration::from_millis(250));
        Progress {
            bar,
            lines: !self.quiet && !self.terminal,
            chunks,
            pictures,
            fps,
            started,
            rendering: Instant::now(),
            done: Cell::new(0),
            spoke: Cell::new(Instant::now()),
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:24} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The live line of one video.
pub(super) struct Progress {
    bar: ProgressBar,
    lines: bool,
    chunks: usize,
    pictures: usize,
    fps: u32,
    started: Instant,
    rendering: Instant,
    done: Cell<usize>,
    spoke: Cell<Instant>,
}

impl Progress {
    pub(super) fn update(&self, update: &Update) {
        match update {
            Update::Step { chunk, step, steps } => {
                self.bar.set_message(format!(
                    "chunk {}/{}, step {}/{steps}, {}",
                    chunk + 1,
                    self.chunks,
                    step + 1,
                    self.rate()
                ));
            }
            Update::Latents(_) => {}
            Update::Pictures(pictures) => {
                if self.done.get() == 0 && self.lines {
                    say(&format!(
                        "first picture after {:.1} s",
                        self.started.elapsed().as_secs_f64()
                    ));
                }
                self.done.set(self.done.get() + pictures.frames.len());
                self.bar.set_position(self.done.get() as u64);
                if self.lines && self.spoke.get().elapsed() >= LINE_INTERVAL {
                    self.spoke.set(Instant::now());
                    say(&format!(
                        "chunk {}/{}, {}",
                        pictures.chunk + 1,
                        self.chunks,
                        self.rate()
                    ));
                }
            }
        }
    }

    /// Seconds done of all, pictures per second, time left.
    fn rate(&self) -> String {
        let (done, fps) = (self.done.get(), self.fps.max(1) as f64);
        let speed = done as f64 / self.rendering.elapsed().as_secs_f64().max(1e-3);
        let left = match done {
            0 => String::new(),
            _ => {
                let seconds = (self.pictures - done.min(self.pictures)) as f64 / speed;
                format!(", {} left", indicatif::HumanDuration(Duration::from_secs_f64(seconds)))
            }
        };
        format!(
            "{:.1}/{:.1} s, {speed:.1} pictures/s{left}",
            done as f64 / fps,
            self.pictures as f64 / fps
        )
    }

    pub(super) fn close(&self) {
        self.bar.finish_and_clear();
    }
}
