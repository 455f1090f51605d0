//! A list of videos rendered into one folder: what `batch` and `sweep` have in common.
//!
//! | file | what it holds |
//! |---|---|
//! | `work` | what is to be made, and what is there already |
//! | `run` | rendering it |
//! | `show` | the plan of a dry run |

mod run;
mod show;
mod work;

use std::path::PathBuf;

use clap::Args;

pub(super) use run::run;
pub(super) use show::show;
pub(super) use work::List;

use super::{printer::Printer, trace::flags::TracesFlags};
use crate::{
    Error,
    batch::{BatchError, Item, Shard},
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
}
