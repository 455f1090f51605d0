//! Downloads of model files, said beforehand and shown while they run.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::printer::{Level, Printer, say};
use crate::{
    Result,
    files::said::printable,
    hub::{Hub, HubError, MissingFile, PullEvent, Source, Transfer, human_bytes},
    rollout::CancelToken,
};

/// Time between progress lines when stderr is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Downloads those of `sources`, files of `model`, that are not in the cache.
///
/// # Errors
/// As [`Hub::pull_missing`].
pub(super) fn pull_missing(
    hub: &Hub,
    model: &str,
    sources: &[Source],
    printer: &Printer,
    cancel: &CancelToken,
) -> Result<()> {
    let mut downloads = Downloads::new(printer);
    let mut listen = |transfer: Transfer<'_>| downloads.see(model, transfer);
    Ok(hub.pull_missing(sources, &mut listen, &|| cancel.is_cancelled())?)
}

/// Says how much is downloaded, and shows how far it is.
pub(super) struct Downloads<'a> {
    printer: &'a Printer,
    /// Whether progress is shown.
    shows: bool,
    /// The file in work.
    file: Option<PullProgress>,
}

impl<'a> Downloads<'a> {
    pub(super) fn new(printer: &'a Printer) -> Self {
        Self {
            printer,
            shows: false,
            file: None,
        }
    }

    pub(super) fn see(&mut self, model: &str, transfer: Transfer<'_>) {
        match transfer {
            Transfer::Planned { files, no_progress } => {
                // Even when quiet: nobody should wonder where so many bytes come from.
                say(&format!("note: {}", announcement(model, files)));
                self.shows = self.printer.level() > Level::Quiet && !no_progress;
            }
            Transfer::Begun(source) => self.file = Some(PullProgress::new(source, self.shows)),
            Transfer::News(event) => {
                if let Some(file) = &mut self.file {
                    file.event(&event);
                }
            }
            Transfer::Done(source) => {
                let how = match self.file.as_ref().is_some_and(|file| file.verified) {
                    true => "downloaded and verified",
                    false => "downloaded (the hub states no hash)",
                };
                self.close();
                if self.shows {
                    say(&format!("{}: {how}", source.label()));
                }
            }
            Transfer::Failed { error, .. } => {
                self.close();
                if let HubError::Cancelled = error {
                    say("stopped; the next download goes on from here");
                }
            }
        }
    }

    fn close(&mut self) {
        if let Some(file) = self.file.take() {
            file.close();
        }
    }
}

/// `model X needs 17.55 GB: repo/file (5.68 GB), …`
fn announcement(model: &str, missing: &[MissingFile]) -> String {
    let left: u64 = missing.iter().map(|file| file.bytes - file.have).sum();
    let file = |file: &MissingFile| {
        let size = human_bytes(file.bytes);
        match file.have {
            0 => format!("{} ({size})", file.source.label()),
            have => format!("{} ({size}, {} of it is there)", file.source.label(), human_bytes(have)),
        }
    };
    let files: Vec<_> = missing.iter().map(file).collect();
    format!(
        "the model `{model}` needs {} from the hub: {}",
        human_bytes(left),
        files.join(", ")
    )
}

/// Progress of one file: a bar on a terminal, else a line now and then.
struct PullProgress {
    name: String,
    shows: bool,
    bar: Option<ProgressBar>,
    bytes: u64,
    /// Whether the content was compared with a stated hash.
    verified: bool,
    /// Where and when this transfer began.
    began: (u64, Instant),
    spoke: Instant,
}

impl PullProgress {
    fn new(source: &Source, shows: bool) -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let bar = (shows && terminal).then(|| ProgressBar::new(0).with_style(style()));
        let name = source.label();
        if let Some(bar) = &bar {
            bar.set_message(printable(&name).into_owned());
        }
        Self {
            name,
            shows,
            bar,
            bytes: 0,
            verified: false,
            began: (0, Instant::now()),
            spoke: Instant::now(),
        }
    }

    fn event(&mut self, event: &PullEvent<'_>) {
        match event {
            PullEvent::Start { bytes, have, .. } => {
                self.bytes = *bytes;
                self.began = (*have, Instant::now());
                match &self.bar {
                    Some(bar) => {
                        bar.set_length(*bytes);
                        bar.set_position(*have);
                    }
                    None if self.shows && *have > 0 => {
                        say(&format!("{}: going on at {}", self.name, human_bytes(*have)));
                    }
                    None => {}
                }
            }
            PullEvent::Progress { bytes } => match &self.bar {
                Some(bar) => bar.set_position(*bytes),
                None => self.line(*bytes),
            },
            PullEvent::Waiting { why, time } => {
                let time = time.map_or(String::new(), |time| format!(" ({:.0} s)", time.as_secs_f64().ceil()));
                self.say(&format!("{}: {why}{time}", self.name));
            }
            PullEvent::Done { verified, .. } => self.verified = *verified,
        }
    }

    /// A line, if the last one was long enough ago.
    fn line(&mut self, bytes: u64) {
        if !self.shows || self.spoke.elapsed() < LINE_INTERVAL {
            return;
        }
        self.spoke = Instant::now();
        let (from, since) = self.began;
        let rate = bytes.saturating_sub(from) as f64 / since.elapsed().as_secs_f64().max(1e-3);
        let left = self.bytes.saturating_sub(bytes) as f64 / rate.max(1.0);
        say(&format!(
            "{}: {} of {}, {}/s, {left:.0} s left",
            self.name,
            human_bytes(bytes),
            human_bytes(self.bytes),
            human_bytes(rate as u64)
        ));
    }

    /// A line that does not tear the bar.
    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None if self.shows => say(text),
            None => {}
        }
    }

    fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    let template = "{bar:24} {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left  {msg}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_counts_what_is_left() {
        let file = |name: &str, bytes, have| MissingFile {
            source: Source {
                repo: "org/name".into(),
                file: name.into(),
                revision: "main".into(),
                bytes: None,
                sha256: None,
            },
            bytes,
            have,
        };
        let text = announcement("x", &[file("a", 5_000_000_000, 1_000_000_000), file("b", 250, 0)]);
        assert_eq!(
            text,
            "the model `x` needs 4.00 GB from the hub: org/name/a (5.00 GB, 1.00 GB of it is there), org/name/b (250 bytes)"
        );
    }
}
