//! A list of videos rendered into one folder: what `batch` and `sweep` have in common.

mod show;

use std::path::PathBuf;

use clap::Args;

pub(super) use show::show;

use super::{
    Failure,
    flags::RunFlags,
    printer::{Printer, print_result},
    render::Screen,
    trace::flags::TracesFlags,
};
use crate::{
    Error,
    batch::{BatchError, Existing, Item, List, PointSettings, Run, Shard},
    prompts::Scene,
    render::{Event, session::Session},
    rollout::CancelToken,
    video::Form,
};

/// Which part of a list is rendered, and where.
#[derive(Args)]
pub(super) struct FolderFlags {
    /// The folder for the videos; made if needed
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Form of the videos: mp4, webm, gif, y4m or rgb
    #[arg(long, value_name = "NAME", default_value = "mp4")]
    pub format: Form,
    /// Only the first N prompts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Only part I of N parts of the list, from 0 [default: what Slurm or Kubernetes say, else all]
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Take files that exist for finished, whatever they hold
    #[arg(long, conflicts_with = "overwrite")]
    pub skip_existing: bool,
    /// Render again what was made with other settings, and replace files that are in no manifest
    #[arg(long)]
    pub overwrite: bool,
    /// Do not measure the videos; else what `deepforcing metrics` measures goes into the manifest
    #[arg(long)]
    pub no_metrics: bool,
    #[command(flatten)]
    pub trace: TracesFlags,
}

impl FolderFlags {
    /// Refuses forms that are no single file.
    ///
    /// # Errors
    /// [`BatchError::Form`].
    pub fn check_form(&self) -> Result<(), BatchError> {
        match self.format {
            Form::Png => Err(BatchError::Form),
            _ => Ok(()),
        }
    }

    /// The part of the list that this process renders.
    ///
    /// # Errors
    /// When a cluster's variables say no part.
    pub fn part(&self, printer: &Printer) -> Result<Shard, Error> {
        if let Some(shard) = self.shard {
            return Ok(shard);
        }
        match Shard::from_variables(|name| std::env::var(name).ok())? {
            Some((shard, variable)) => {
                printer.note(&format!("{variable} is set: rendering part {shard} of the list"));
                Ok(shard)
            }
            None => Ok(Shard::ALL),
        }
    }

    /// Leaves the items of a part.
    pub fn take_part(&self, items: &mut Vec<Item>, shard: Shard) {
        let mut number = 0..;
        items.retain(|_| number.next().is_some_and(|number| shard.holds(number)));
    }

    /// The list of `scenes` with what was typed; `sessions` are the models of points.
    pub fn list<'a>(
        &'a self,
        session: &'a Session,
        sessions: &'a [Session],
        scenes: &'a [Scene],
        points: &'a [PointSettings],
        shard: Shard,
        running: &RunFlags,
    ) -> List<'a> {
        List {
            session,
            sessions,
            scenes,
            points,
            folder: &self.output,
            shard,
            form: self.format,
            existing: match (self.skip_existing, self.overwrite) {
                (true, _) => Existing::Keep,
                (_, true) => Existing::Replace,
                (false, false) => Existing::Refuse,
            },
            disclosure: running.disclosure(),
            measures: !self.no_metrics,
            trace: self.trace.options(),
            checks_memory: !running.no_memory_check,
            keeps_state: !running.no_state,
        }
    }
}

/// Makes all `items` that are not there yet, and prints one line for each. `begin` is called when nothing stands in the
/// way, before anything is written.
pub(super) fn run(
    list: &List,
    items: &[Item],
    json: bool,
    begin: impl FnOnce() -> Result<(), Error>,
    cancel: &CancelToken,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut screen = Screen::new(printer);
    let mut observe = |event: Event<'_>| screen.see(event);
    let mut run = Run::open(list, items, begin, cancel, &mut observe)?;
    let result = print_all(&mut run, json, cancel, &mut observe);
    screen.close();
    tell(&run, matches!(result, Err(Failure::Interrupted)), printer);
    result?;
    match run.tally().failed {
        0 => Ok(()),
        _ => Err(Failure::Partly),
    }
}

fn print_all(
    run: &mut Run,
    json: bool,
    cancel: &CancelToken,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<(), Failure> {
    while let Some(made) = run.next(cancel, observe)? {
        let line = match json {
            true => serde_json::to_string(&made.entry).unwrap_or_default(),
            false => made.path.display().to_string(),
        };
        print_result(format!("{line}\n").as_bytes())?;
    }
    Ok(())
}

/// Says what came of a run.
fn tell(run: &Run, interrupted: bool, printer: &Printer) {
    let tally = run.tally();
    let mut parts = vec![format!("{} rendered", tally.made)];
    if tally.there > 0 {
        parts.push(format!("{} were there already", tally.there));
    }
    if tally.failed > 0 {
        let failures = run.failures().display();
        parts.push(format!("{} could not be made (see `{failures}`)", tally.failed));
    }
    printer.note(&format!(
        "{}; {:.1} s, of which {:.1} s rendering",
        parts.join(", "),
        tally.took.as_secs_f64(),
        tally.rendering.as_secs_f64()
    ));
    if interrupted {
        printer.note("stopped; the same command goes on where it was");
    }
}
