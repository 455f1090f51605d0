//! `deepforcing generate`: a prompt to an mp4.

use std::{path::PathBuf, sync::Arc, time::Instant};

use candle_core::Device;
use clap::Args;

use super::{
    Failure,
    live::VideoWork,
    preview::Preview,
    printer::{Printer, print_result, say},
};
use crate::{
    Error, Result,
    cache::{CacheSettings, PolicyName, Positions, Scorer},
    config::PreviewMode,
    models::{DecoderKind, ModelFiles, preset_of_folder},
    pipeline::{self, Rendered, Update},
    preset::Preset,
    request::{PictureSize, VideoLength},
    rollout::{CancelToken, PromptChange, Rollout, RolloutSettings, SeededNoise},
    text::check_prompt,
    vae::SPATIAL_FACTOR,
    video::{Metadata, VideoEncoder, VideoSettings, VideoSummary, check_output},
};

const EXAMPLES: &str = "\
Examples:
  deepforcing generate \"a big orange balloon floating over the sea at sunset\" --model-dir weights/toy --seconds 20 -o balloon.mp4
  deepforcing generate \"a lighthouse in a storm\" --model-dir models/wan --seconds 60 --seed 7 -o storm.mp4
  deepforcing generate \"a lighthouse in a storm\" --model-dir models/wan --policy deep-sink --sink 14 -o storm.mp4

Cache rules, in latent frames: chunk <= recent, sink + recent <= budget <= window, sink + chunk <= window.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Generate {
    /// What the video shows
    prompt: String,
    /// Folder of the model files, under their published names
    #[arg(long, value_name = "DIR")]
    model_dir: PathBuf,
    /// The video to write (.mp4)
    #[arg(short, long, value_name = "FILE", default_value = "video.mp4")]
    output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    overwrite: bool,
    /// Length of the video
    #[arg(long, value_name = "N", default_value_t = 5.0, allow_negative_numbers = true)]
    seconds: f64,
    /// Seed of the noise: the same seed and settings give the same video
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Picture size in pixels, multiples of 16 [default: the preset's]
    #[arg(long, value_name = "WxH")]
    size: Option<PictureSize>,
    /// Preset (deep-forcing, self-forcing, toy) or a .toml file [default: what the model folder names, else deep-forcing]
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Decoder: the Wan VAE, or the tiny TAEW2.1
    #[arg(long, value_name = "wan|tae", default_value = "wan", value_parser = parse_decoder)]
    vae: DecoderKind,
    #[command(flatten)]
    cache: CacheFlags,
    /// Show the newest picture in the terminal: auto (terminals that show images), blocks (coloured characters) or off
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_value = "off", default_missing_value = "auto")]
    preview: PreviewMode,
}

/// Cache settings on the command line; those not given are the preset's.
#[derive(Args)]
#[command(next_help_heading = "Cache (sizes in latent frames; defaults are the preset's)")]
struct CacheFlags {
    /// global, fifo, sink, sink-rerope, deep-sink or deep-forcing
    #[arg(long, value_name = "NAME")]
    policy: Option<PolicyName>,
    /// First frames that always stay
    #[arg(long, value_name = "N")]
    sink: Option<usize>,
    /// Frames attended to, the current chunk included
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Frames left by a compression (deep-forcing)
    #[arg(long, value_name = "N")]
    budget: Option<usize>,
    /// Last frames that always stay; their queries score (deep-forcing)
    #[arg(long, value_name = "N")]
    recent: Option<usize>,
    /// Times that a token may be chosen again, 0 for no limit (deep-forcing)
    #[arg(long, value_name = "N")]
    reuse_limit: Option<u32>,
    /// Temporal positions of moved tokens: official or paper
    #[arg(long, value_name = "RULE")]
    positions: Option<Positions>,
    /// Queries that score: both, past, denoising or random (deep-forcing)
    #[arg(long, value_name = "NAME")]
    scorer: Option<Scorer>,
}

impl CacheFlags {
    fn over(&self, preset: CacheSettings) -> CacheSettings {
        CacheSettings {
            policy: self.policy.unwrap_or(preset.policy),
            window: self.window.unwrap_or(preset.window),
            sink: self.sink.unwrap_or(preset.sink),
            budget: self.budget.unwrap_or(preset.budget),
            recent: self.recent.unwrap_or(preset.recent),
            reuse_limit: self.reuse_limit.unwrap_or(preset.reuse_limit),
            positions: self.positions.unwrap_or(preset.positions),
            scorer: self.scorer.unwrap_or(preset.scorer),
        }
    }
}

fn parse_decoder(text: &str) -> Result<DecoderKind, String> {
    match text {
        "wan" => Ok(DecoderKind::Wan),
        "tae" => Ok(DecoderKind::Tae),
        _ => Err("expected wan or tae".into()),
    }
}

/// What was typed, resolved against preset and model files.
struct Job {
    files: ModelFiles,
    size: PictureSize,
    length: VideoLength,
    fps: u32,
    settings: RolloutSettings,
}

impl Generate {
    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        // Everything that can be refused is refused before anything slow.
        check_output(&self.output, self.overwrite).map_err(Error::from)?;
        check_prompt(&self.prompt).map_err(Error::from)?;
        let job = self.resolve()?;
        let cancel = CancelToken::default();
        interrupt_on_ctrl_c(&cancel);
        let (summary, rendered) = self.render(&job, &cancel, printer)?;
        match summary {
            Some(summary) => {
                printer.finished(&summary, rendered.complete);
                print_result(format!("{}\n", summary.path.display()).as_bytes())?;
            }
            None => printer.note("stopped before the first picture; nothing was written"),
        }
        if rendered.complete {
            Ok(())
        } else {
            Err(Failure::Interrupted)
        }
    }

    fn resolve(&self) -> Result<Job> {
        let preset = match &self.preset {
            Some(name) => Preset::load(name)?,
            None if self.model_dir.is_dir() => preset_of_folder(&self.model_dir)?.1,
            None => Preset::load(Preset::DEFAULT)?,
        };
        let fps = preset.video.fps;
        let size = self.size.unwrap_or(PictureSize {
            width: preset.video.width,
            height: preset.video.height,
        });
        let size = size.checked()?;
        let chunk = preset.rollout.chunk;
        let length = VideoLength::of_seconds(self.seconds, fps, chunk, preset.rollout.first_frame_alone)?;
        let policy = self.cache.over(preset.cache).resolve(chunk, length.latent_frames)?;
        preset.sampler.validate()?;
        Ok(Job {
            files: ModelFiles::find(&self.model_dir, &preset.files, self.vae)?,
            size,
            length,
            fps,
            settings: RolloutSettings {
                frames: length.latent_frames,
                chunk,
                first_frame_alone: preset.rollout.first_frame_alone,
                height: size.height / SPATIAL_FACTOR,
                width: size.width / SPATIAL_FACTOR,
                sampler: preset.sampler,
                policy,
                seed: self.seed,
                first_position: 0,
                fill_last: false,
            },
        })
    }

    fn render(&self, job: &Job, cancel: &CancelToken, printer: &Printer) -> Result<(Option<VideoSummary>, Rendered)> {
        let device = Device::Cpu;
        let started = Instant::now();
        let text_len = job.files.read_config()?.text_len.unwrap_or(512);
        // The prompt comes last: a large encoder takes minutes, and a file that does not fit is known before.
        printer.stage("loading the model");
        let text = job.files.open_text(text_len, &device)?;
        let model = job.files.load_transformer(&device)?;
        job.files.check_prompt_width(&text, &model)?;
        let stream = job.files.load_decoder(&device)?.stream();
        printer.stage("reading the prompt");
        let embedding = text
            .embed(std::slice::from_ref(&self.prompt))?
            .pop()
            .ok_or(Error::NoPrompt)?;
        if embedding.truncated {
            printer.note(&format!(
                "the prompt has {} tokens; the model reads the first {}",
                embedding.total_tokens, embedding.tokens
            ));
        }
        let context = Arc::new(model.prompt_context(&embedding.tensor)?);
        let prompts = vec![PromptChange { frame: 0, context }];
        let noise = Box::new(SeededNoise::new(self.seed));
        let rollout = Rollout::new(model, job.settings.clone(), prompts, None, noise)?;

        let mut encoder = VideoEncoder::create(&self.output, self.video_settings(job))?;
        printer.encoder(encoder.info());
        let mut preview = Preview::open(self.preview, printer);
        let work = VideoWork {
            video: (1, 1),
            chunks: rollout.plans().len(),
            pictures: job.length.pictures,
            fps: job.fps,
        };
        let progress = printer.progress(work, started);
        let outcome = pipeline::run(rollout, stream, job.length.pictures, cancel, |update| {
            progress.update(&update);
            if let Update::Pictures(pictures) = update {
                let begun = Instant::now();
                for frame in &pictures.frames {
                    encoder.push(frame)?;
                }
                encoder.flush()?;
                progress.encoded(begun.elapsed());
                if let (Some(preview), Some(frame)) = (&mut preview, pictures.frames.last()) {
                    preview.show(frame, job.size.width, job.size.height);
                }
            }
            Ok(())
        });
        progress.close();
        match outcome {
            Ok(rendered) if rendered.complete => Ok((Some(encoder.finish()?), rendered)),
            Ok(rendered) => Ok((encoder.finish_partial()?, rendered)),
            Err(error) => {
                // What is rendered stays, under a name that says that it is not the whole video.
                if encoder.frames() > 0 {
                    printer.hint(&format!(
                        "{} pictures rendered so far are kept in `{}`",
                        encoder.frames(),
                        encoder.partial_path().display()
                    ));
                }
                Err(error)
            }
        }
    }

    fn video_settings(&self, job: &Job) -> VideoSettings {
        VideoSettings {
            fps: job.fps,
            metadata: Metadata {
                title: Some(self.prompt.clone()),
                comment: Some(format!("deepforcing {}, seed {}", env!("CARGO_PKG_VERSION"), self.seed)),
            },
            ..VideoSettings::new(job.size.width as u32, job.size.height as u32)
        }
    }
}

/// The first Ctrl-C ends the video after the chunk in work, the second one at once (the partial file stays playable).
fn interrupt_on_ctrl_c(cancel: &CancelToken) {
    let cancel = cancel.clone();
    let handler = move || {
        if cancel.is_cancelled() {
            std::process::exit(130);
        }
        say("\nfinishing this chunk; press Ctrl-C again to quit at once");
        cancel.after_chunk();
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C will not close the video properly: {error}");
    }
}
