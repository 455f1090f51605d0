//! `deepforcing generate`: prompts to videos.

mod plan;
mod scenes;

use std::{io::IsTerminal, path::PathBuf, time::Instant};

use clap::Args;

use self::scenes::PromptFlags;
use super::{
    Failure,
    cache_flags::CacheFlags,
    flags::{EncodingFlags, LoraFlags, MemoryFlags, ModelFlags, PreviewFlag, RunFlags, SwitchFlags},
    printer::Printer,
    prompts,
    render::{Screen, Show, interrupt_on_ctrl_c, render_all},
    threads::use_threads,
    trace::flags::TraceFlags,
    video_flags::VideoFlags,
};
use crate::{
    Error,
    config::{Environment, Layer, Layers},
    models::Locator,
    prompts::Scene,
    recipe::Disclosure,
    render::{
        Event,
        jobs::{Request, check_heads, works},
        session::Session,
    },
    rollout::CancelToken,
    rollout::start::StartFile,
    video::Form,
};

const EXAMPLES: &str = "\
Examples:
  deepforcing generate \"a big orange balloon over the sea at sunset\" \\
    --model toy -o balloon.mp4
  deepforcing generate \"a lighthouse in a storm\" --seconds 60 --seed 7 \\
    -o storm.mp4
  deepforcing generate \"a quiet harbour\" --switch '12s: a storm comes' \\
    --seconds 30
  deepforcing generate \"a quiet harbour\" --seconds 30 \\
    --switch '12s recache: a storm comes'
  deepforcing generate --prompt-file shots.jsonl -o 'out/{id}.mp4'
  deepforcing generate \"a red ball\" --model toy -o - | ffplay -
  deepforcing generate \"a red ball\" --model toy --format y4m -o - \\
    | ffmpeg -i - ball.mov
  deepforcing generate \"a lighthouse in a storm\" --seconds 60 --dry-run
  deepforcing generate --image start.png --model matrix-game-2 \\
    --actions 'w*48, w+turn-left*24, none*48' -o walk.mp4
  deepforcing generate \"a red ball\" --model toy --seconds 12 \\
    --trace ball.jsonl -o ball.mp4

Output: .mp4 (H.264), .webm, .gif, .y4m, .rgb, numbered pictures
(frame_%05d.png), or - for standard output. With several videos, a folder (out/)
or a name with {id}, {index} or {seed}.

Starts: --image and --extend scale pictures until they cover the size and cut
off what sticks out, evenly on both sides. An image becomes the first latent
frame; models that work in chunks of several frames get it held for one chunk (9
pictures). Of a clip the end is taken, as much as the cache's window holds, at
the video's rate. --seconds is what is generated after the start.

Worlds (models with controls) read no prompt: they continue --image and are
steered by --actions; without these nothing is done in them.

Cache rules, in latent frames:
  chunk <= recent, sink + recent <= budget <= window, sink + chunk <= window.

Settings not given as flags come from DEEPFORCING_* variables, the config file
and the preset:
see `deepforcing config show`.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Generate {
    #[command(flatten)]
    prompts: PromptFlags,
    #[command(flatten)]
    files: FileFlags,
    #[command(flatten)]
    start: StartFlags,
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
    trace: TraceFlags,
    #[command(flatten)]
    preview: PreviewFlag,
    #[command(flatten)]
    running: RunFlags,
}

/// What is written.
#[derive(Args)]
struct FileFlags {
    /// The video to write; the extension tells the form, - is standard output. Without it, a file that is there stays:
    /// the next video is video-2.mp4 [default: video.mp4]
    #[arg(short, long, value_name = "FILE", value_parser = clap::builder::PathBufValueParser::new())]
    output: Option<PathBuf>,
    /// Form of the video where the name does not tell: mp4, webm, gif, png, y4m or rgb
    #[arg(long, value_name = "NAME")]
    format: Option<Form>,
    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,
    /// Go on with this video where a run that was stopped or killed left it
    #[arg(long, conflicts_with_all = ["overwrite", "no_state"])]
    resume: bool,
    /// Keep the latents, to be decoded again with `deepforcing decode` (.safetensors)
    #[arg(long, value_name = "FILE")]
    save_latents: Option<PathBuf>,
    /// Keep the picture in the middle of the video (.png, .jpg)
    #[arg(long, value_name = "FILE")]
    thumbnail: Option<PathBuf>,
    /// Write the recipe beside the video, as NAME.json
    #[arg(long)]
    sidecar: bool,
    /// Leave recipe and prompt out of the video; it cannot be made again from the file
    #[arg(long, conflicts_with_all = ["sidecar", "save_latents", "private", "trace"])]
    no_recipe: bool,
}

/// What a video begins with.
#[derive(Args)]
struct StartFlags {
    /// Begin with this image (PNG, JPEG, GIF)
    #[arg(long, value_name = "FILE", conflicts_with = "extend")]
    image: Option<PathBuf>,
    /// Go on from the end of this clip
    #[arg(long, value_name = "FILE")]
    extend: Option<PathBuf>,
}

/// Whether the toy model stands in for the default one, which cannot be had. Who watches sees it; a script must choose.
fn allow_fallback(session: &Session) -> Result<bool, Error> {
    let watched = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
    match watched {
        true => Ok(session.located.fallback.is_some()),
        false => session.refuse_fallback().map(|()| false),
    }
}

impl Generate {
    fn layer(&self) -> Layer {
        let layer = Layer {
            preview: self.preview.preview,
            ..self.memory.over(self.model.layer())
        };
        let layer = self.lora.over(layer);
        self.encoding
            .over(self.cache.over(self.switch.over(self.video.over(layer))))
    }

    fn request(&self, scenes: Vec<Scene>) -> Request {
        let (files, start) = (&self.files, &self.start);
        let image = start.image.clone().map(StartFile::Image);
        Request {
            scenes,
            start: image.or_else(|| start.extend.clone().map(StartFile::Clip)),
            output: files.output.clone(),
            form: files.format,
            save_latents: files.save_latents.clone(),
            thumbnail: files.thumbnail.clone(),
            disclosure: if files.no_recipe {
                Disclosure::Nothing
            } else {
                self.running.disclosure()
            },
            sidecar: files.sidecar,
            trace: self.trace.options(),
            overwrite: files.overwrite,
            resume: files.resume,
            keeps_state: !self.running.no_state,
            // A plan is all that a dry run prints.
            results_on_stdout: self.running.json && !self.running.dry_run,
            dry_run: self.running.dry_run,
        }
    }

    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        let mut screen = Screen::new(printer).since(Instant::now());
        // Everything that can be refused is refused before anything slow.
        let request = self.request(self.prompts.scenes(printer)?);
        let layers = Layers::load(self.layer(), &Environment::of_process()).map_err(Error::from)?;
        layers.warnings.iter().for_each(|warning| printer.warning(warning));
        let layers = self.prompts.with_settings(layers, &request.scenes, printer)?;
        let layers = self.video.complete(layers, printer)?;
        let cancel = CancelToken::default();
        let mut observe = |event: Event<'_>| screen.see(event);
        let (encoder, longest) = (request.needs_encoder(), request.longest());
        let session = Session::fitted(
            &Locator::of_process(),
            layers,
            encoder,
            longest,
            request.dry_run,
            &cancel,
            &mut observe,
        )?;
        let fallback = allow_fallback(&session)?;
        prompts::tell_toy(&request.scenes, &session, printer);
        let mut works = works(&request, &session, &mut observe)?;
        if self.running.dry_run {
            return plan::show(&works, &session, &self.running, printer);
        }
        interrupt_on_ctrl_c(&cancel);
        use_threads(session.settings.threads.value);
        let files = session.files(&cancel, &mut observe)?;
        check_heads(request.trace.as_ref(), &files)?;
        let compute = session.compute(&mut observe)?;
        if !self.running.no_memory_check {
            session.check_memory(&files, &works, &compute)?;
        }
        let record = session.record(&files)?;
        works
            .iter_mut()
            .for_each(|work| work.job.recipe.set_model(record.clone()));
        let mut show = Show {
            preview: session.settings.preview.value,
            json: self.running.json,
            fallback,
            speeds: session.speeds(),
        };
        render_all(&files, &compute, works, &mut show, &cancel, &mut screen)
    }
}
