//! `deepforcing batch`: a file of prompts to a folder of videos.

use std::path::PathBuf;

use clap::Args;

use super::{
    Failure,
    cache_flags::CacheFlags,
    flags::{EncodingFlags, LoraFlags, MemoryFlags, ModelFlags, RunFlags, SwitchFlags},
    folder::{self, FolderFlags},
    printer::Printer,
    prompt_list, prompts,
    render::{Screen, interrupt_on_ctrl_c},
    threads::use_threads,
    video_flags::VideoFlags,
};
use crate::{
    Error,
    batch::{Item, Manifest, Naming, Shard, items},
    config::{Environment, Layer, Layers},
    models::Locator,
    prompts::Scene,
    render::{Event, session::Session},
    rollout::CancelToken,
};

const EXAMPLES: &str = "\
Examples:
  deepforcing batch prompts.txt -o out --model toy
  deepforcing batch vbench.txt -o out --samples 5 --naming vbench
  deepforcing batch shots.jsonl -o out --shard 0/4
  deepforcing batch out/failed.jsonl -o out

FILE: .txt with one prompt per line, .jsonl with one video per line (keys prompt
or prompts, switch, seed, seconds, id, image), or .csv with these as columns; -
reads standard input. Lines that begin with # are comments. A seed of -1 is
drawn.

The folder's manifest.jsonl has one line per finished video and is the state of
the run: stop it at any moment, run the same command again, and it goes on where
it was. What cannot be made is skipped and listed in failed.jsonl, which is a
prompt file itself; running the same command again tries it again too.

Several processes share a folder when each has a part of the list: --shard I/N,
counted from 0. In a Slurm job array and an indexed job of Kubernetes (which
sets JOB_COMPLETIONS itself) the part is known.

Exit codes: 0 all is made, 1 failed, 2 wrong usage, 3 some videos could not be
made, 130 interrupted.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Batch {
    /// Prompts: .txt, .jsonl or .csv, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    folder: FolderFlags,
    /// Videos per prompt, with seeds that follow each other
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    samples: u32,
    /// Names of the files: index is the id or number of the prompt (00003.mp4, with several samples 00003-0.mp4),
    /// vbench is PROMPT-SAMPLE.mp4
    #[arg(long, value_name = "index|vbench", default_value = "index")]
    naming: Naming,
    #[command(flatten)]
    video: VideoFlags,
    #[command(flatten)]
    switch: SwitchFlags,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    lora: LoraFlags,
    #[command(flatten)]
    memory: MemoryFlags,
    #[command(flatten)]
    cache: CacheFlags,
    #[command(flatten)]
    encoding: EncodingFlags,
    #[command(flatten)]
    running: RunFlags,
}

impl Batch {
    fn layer(&self) -> Layer {
        let layer = self.lora.over(self.memory.over(self.model.layer()));
        self.encoding
            .over(self.cache.over(self.switch.over(self.video.over(layer))))
    }

    /// A seed that was drawn by an earlier run of the same command stays: its video need not be made again.
    fn keep_drawn_seeds(&self, items: &mut [Item], scenes: &[Scene], shard: Shard) -> Result<(), Error> {
        let drawn = |item: &Item| {
            let scene = &scenes[item.scene];
            scene.seed_drawn || (scene.seed.is_none() && self.video.seed_drawn())
        };
        if self.folder.overwrite || !items.iter().any(drawn) {
            return Ok(());
        }
        let manifest = Manifest::read(&self.folder.output, shard)?;
        for item in items.iter_mut() {
            if drawn(item)
                && let Some(entry) = manifest.entry(&item.file(self.folder.format.as_str()))?
            {
                item.seed = entry.seed;
            }
        }
        Ok(())
    }

    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        // Everything that can be refused is refused before anything slow.
        self.folder.check_form().map_err(Error::from)?;
        let shard = self.folder.part(printer)?;
        let scenes = prompt_list::read(&self.file, printer)?;
        let layers = Layers::load(self.layer(), &Environment::of_process()).map_err(Error::from)?;
        layers.warnings.iter().for_each(|warning| printer.warning(warning));
        let layers = prompt_list::with_settings(layers, &scenes, &self.file, printer)?;
        let layers = self.video.complete(layers, printer)?;
        let cancel = CancelToken::default();
        let encoder = scenes.iter().any(|scene| scene.image.is_some());
        let longest = scenes.iter().filter_map(|scene| scene.seconds).reduce(f64::max);
        let mut screen = Screen::new(printer);
        let mut observe = |event: Event<'_>| screen.see(event);
        let session = Session::fitted(
            &Locator::of_process(),
            layers,
            encoder,
            longest,
            self.running.dry_run,
            &cancel,
            &mut observe,
        )?;
        session.refuse_fallback()?;
        prompts::tell_toy(&scenes, &session, printer);
        let seed = session.settings.seed.value;
        let extension = self.folder.format.as_str();
        let found = items(&scenes, self.samples, self.naming, extension, seed).map_err(Error::from)?;
        if let Some(note) = found.note(&scenes) {
            printer.note(&note);
        }
        let mut items = found.items;
        self.keep_drawn_seeds(&mut items, &scenes, shard)?;
        if let Some(limit) = self.folder.limit {
            items.retain(|item| item.scene < limit as usize);
        }
        self.folder.take_part(&mut items, shard);
        let list = self.folder.list(&session, &[], &scenes, &[], shard, &self.running);
        list.check_settings(&mut observe)?;
        if self.running.dry_run {
            return folder::show(&list, &items, self.running.json, printer);
        }
        interrupt_on_ctrl_c(&cancel);
        use_threads(session.settings.threads.value);
        folder::run(&list, &items, self.running.json, || Ok(()), &cancel, printer)
    }
}
