//! `deepforcing batch`: a file of prompts to a folder of videos.
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

use super::{
    Failure,
    flags::{CacheFlags, EncodingFlags, ModelFlags, RunFlags, VideoFlags},
    model_files::Model,
    printer::Printer,
    render::interrupt_on_ctrl_c,
};
use crate::{
    Error,
    batch::{BatchError, Naming, Shard, items},
    config::{Environment, Layer, Layers},
    prompts::{Scene, read_prompts},
    rollout::CancelToken,
    video::Form,
};

const EXAMPLES: &str = "\
Examples:
  deepforcing batch prompts.txt -o out --model toy
  deepforcing batch vbench.txt -o out --samples 5 --naming vbench
  deepforcing batch shots.jsonl -o out --shard 0/4
  deepforcing batch out/failed.jsonl -o out

FILE: .txt with one prompt per line, .jsonl with one video per line (keys prompt or prompts,
switch, seed, seconds, id, image), or .csv with these as columns.

The folder's manifest.jsonl has one line per finished video and is the state of the run: stop it
at any moment, run the same command again, and it goes on where it was. What cannot be made is
skipped and listed in failed.jsonl, which is a prompt file itself; running the same command again
tries it again too.

Several processes share a folder when each has a part of the list: --shard I/N, counted from 0.
In a Slurm job array and an indexed job of Kubernetes (which sets JOB_COMPLETIONS itself) the part
is known.

Exit codes: 0 all is made, 1 failed, 2 wrong usage, 3 some videos could not be made,
130 interrupted.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Batch {
    /// Prompts: .txt, .jsonl or .csv
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder for the videos; made if needed
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Form of the videos: mp4, webm, gif, y4m or rgb
    #[arg(long, value_name = "NAME", default_value = "mp4")]
    format: Form,
    /// Videos per prompt, with seeds that follow each other
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    samples: u32,
    /// Names of the files: index is the id or number of the prompt (00003.mp4, with several samples 00003-0.mp4),
    /// vbench is PROMPT-SAMPLE.mp4
    #[arg(long, value_name = "index|vbench", default_value = "index")]
    naming: Naming,
    /// Only the first N prompts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Only part I of N parts of the list, from 0 [default: what Slurm or Kubernetes say, else all]
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Take files that exist for finished, whatever they hold
    #[arg(long, conflicts_with = "overwrite")]
    skip_existing: bool,
    /// Render again what was made with other settings, and replace files that the batch did not write
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    video: VideoFlags,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    cache: CacheFlags,
    #[command(flatten)]
    encoding: EncodingFlags,
    #[command(flatten)]
    running: RunFlags,
}

impl Batch {
    fn layer(&self) -> Layer {
        let layer = self.model.layer();
        self.encoding.over(self.cache.over(self.video.over(layer)))
    }

    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        // Everything that can be refused is refused before anything slow.
        if self.format == Form::Png {
            return Err(Error::from(BatchError::Form).into());
        }
        let shard = self.part(printer)?;
        let scenes = self.scenes()?;
        let layers = Layers::load(self.layer(), &Environment::of_process()).map_err(Error::from)?;
        layers.warnings.iter().for_each(|warning| printer.warning(warning));
        let cancel = CancelToken::default();
        let encoder = scenes.iter().any(|scene| scene.image.is_some());
        let longest = scenes.iter().filter_map(|scene| scene.seconds).reduce(f64::max);
        let model = Model::fitted(layers, encoder, longest, self.running.dry_run, &cancel, printer)?;
        let seed = model.settings.seed.value;
        let mut items = items(&scenes, self.samples, self.naming, self.format.as_str(), seed).map_err(Error::from)?;
        if let Some(limit) = self.limit {
            items.retain(|item| item.scene < limit as usize);
        }
        let mut number = 0..;
        items.retain(|_| number.next().is_some_and(|number| shard.holds(number)));
        let list = work::List {
            flags: self,
            scenes: &scenes,
            model: &model,
        };
        list.check_settings(printer)?;
        if self.running.dry_run {
            return show::show(&list, &items, shard, printer);
        }
        interrupt_on_ctrl_c(&cancel);
        run::run(&list, &items, shard, &cancel, printer)
    }

    fn part(&self, printer: &Printer) -> Result<Shard, Error> {
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

    fn scenes(&self) -> Result<Vec<Scene>, Error> {
        Ok(read_prompts(&self.file)?)
    }
}
