//! `deepforcing decode`: saved latents to a video.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;

use super::{
    Failure,
    flags::{EncodingFlags, ModelFlags, OutputFlags},
    live::VideoWork,
    model_files::{self, Model},
    printer::{Printer, print_result},
    render::interrupt_on_ctrl_c,
};
use crate::{
    Error, Result,
    config::{Environment, Layers},
    recipe::Recipe,
    render::pipeline::{Pictures, Update},
    rollout::CancelToken,
    vae::{SPATIAL_FACTOR, frames_to_rgb8, pictures_of_latents},
    video::latents::LatentReader,
    video::{EncoderInfo, Metadata, Target, VideoSettings, VideoSummary, VideoWriter},
};

/// Latent frames that are decoded at a time.
const CHUNK: usize = 3;

const EXAMPLES: &str = "\
Examples:
  deepforcing generate \"a red ball\" --model toy --save-latents ball.safetensors -o ball.mp4
  deepforcing decode ball.safetensors -o ball.webm
  deepforcing decode ball.safetensors --vae tae --model models/wan -o fast.mp4

The file holds one tensor `latents`, [frames, 16, height/8, width/8], normalised as the
transformer makes them.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Decode {
    /// Latents kept by `generate --save-latents`
    #[arg(value_name = "LATENTS")]
    file: PathBuf,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    encoding: EncodingFlags,
}

impl Decode {
    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        let Some((summary, complete)) = self.decode(printer)? else {
            return Err(Failure::Interrupted);
        };
        printer.finished(&summary, complete);
        if summary.path != Path::new("-") {
            print_result(format!("{}\n", summary.path.display()).as_bytes())?;
        }
        match complete {
            true => Ok(()),
            false => Err(Failure::Interrupted),
        }
    }

    /// The video, if it has a picture, and whether it is complete.
    fn decode(&self, printer: &Printer) -> Result<Option<(VideoSummary, bool)>> {
        let started = Instant::now();
        let latents = LatentReader::open(&self.file)?;
        let target = self.output.target()?;
        let recipe = match latents.recipe() {
            Some(text) => Some(Recipe::from_json(text).map_err(|error| error.of_file(&self.file))?),
            None => None,
        };
        let cancel = CancelToken::default();
        let model = self.locate(recipe.as_ref(), &cancel, printer)?;
        interrupt_on_ctrl_c(&cancel);
        model_files::use_threads(model.settings.threads.value);
        let files = model.files(&cancel, printer)?;
        printer.stage("loading the decoder");
        let compute = model.compute(printer)?;
        let mut stream = files.load_decoder(&compute)?.stream();

        let [frames, _, height, width] = latents.shape();
        let whole = pictures_of_latents(frames);
        let pictures = recipe.as_ref().map_or(whole, |recipe| recipe.video.pictures.min(whole));
        let fps = self.encoding.fps.or(recipe.as_ref().map(|recipe| recipe.video.fps));
        let settings = VideoSettings {
            fps: fps.unwrap_or(model.settings.fps.value),
            crf: model.settings.crf.value,
            preset: model.settings.encoder_preset.value,
            encoder: model.settings.encoder.value,
            gpu: compute.gpu(),
            ..VideoSettings::new((width * SPATIAL_FACTOR) as u32, (height * SPATIAL_FACTOR) as u32)
        };
        let work = VideoWork {
            video: (1, 1),
            chunks: frames.div_ceil(CHUNK),
            pictures,
            fps: settings.fps,
        };
        let mut video = VideoWriter::create_described(&target, settings, |encoder| {
            let described = recipe.map(|recipe| self.metadata(recipe, &model, &target, encoder));
            described.unwrap_or_default()
        })?;
        printer.encoder(video.info());
        let progress = printer.progress(work, started);
        for (chunk, start) in (0..frames).step_by(CHUNK).enumerate() {
            if cancel.is_cancelled() {
                break;
            }
            let begun = Instant::now();
            let chunk_latents = latents.read(start..frames.min(start + CHUNK), &compute.device)?;
            let mut frames = frames_to_rgb8(&stream.push(&chunk_latents)?)?;
            frames.truncate(pictures - video.frames() as usize);
            let batch = Pictures {
                chunk,
                frames,
                took: begun.elapsed(),
            };
            let begun = Instant::now();
            batch.frames.iter().try_for_each(|frame| video.push(frame))?;
            video.flush()?;
            progress.update(&Update::Pictures(batch));
            progress.encoded(begun.elapsed());
        }
        progress.close();
        let complete = video.frames() as usize == pictures;
        Ok(video.finish_partial()?.map(|summary| (summary, complete)))
    }

    /// The model asked for, or the one that made the latents.
    fn locate(&self, recipe: Option<&Recipe>, cancel: &CancelToken, printer: &Printer) -> Result<Model> {
        let mut layer = self.encoding.over(self.model.layer());
        if let Some(recipe) = recipe {
            layer.model = layer.model.or_else(|| recipe.model.model.clone());
        }
        if layer.model.is_none() && recipe.is_some_and(|recipe| recipe.model.model.is_none()) {
            return Err(Error::ModelNotNamed);
        }
        let layers = Layers::load(layer, &Environment::of_process())?;
        Model::locate(&layers, false, cancel, printer)
    }

    fn metadata(&self, mut recipe: Recipe, model: &Model, target: &Target, encoder: &EncoderInfo) -> Metadata {
        recipe.model.decoder = model.outline().decoder;
        recipe.encoding.container = target.form().to_string();
        recipe.encoding.written_by(encoder);
        Metadata {
            title: recipe.prompts.first().map(|prompt| prompt.text.clone()),
            comment: Some(recipe.to_json()),
        }
    }
}
