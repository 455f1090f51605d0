//! `deepforcing rerun`: the same video again, from the recipe that it carries.

use std::{path::PathBuf, time::Instant};

use clap::Args;

use super::{
    Failure,
    flags::{DeviceFlags, OutputFlags, OwnFileFlags, PreviewFlag},
    printer::Printer,
    recipes::{model_of, recipe_of},
    render::{Screen, Show, interrupt_on_ctrl_c, render_all},
    threads::use_threads,
    trace::flags::TraceFlags,
};
use crate::{
    Error, Result,
    checkpoint::lora::LoraChoice,
    config::{Environment, Layer, Layers, Loras},
    models::Locator,
    recipe::{Disclosure, Recipe, RecipeError},
    render::{
        Event, Job,
        jobs::{Work, check_heads},
        session::Session,
    },
    rollout::CancelToken,
    rollout::request::PictureSize,
    rollout::start::{StartFile, StartPictures},
    video::{EncoderChoice, Form, VideoSettings, find_encoder},
};

const EXAMPLES: &str = "\
Examples:
  deepforcing rerun storm.mp4 -o again.mp4
  deepforcing rerun storm.mp4 -o frames/ --format png
  deepforcing rerun storm.mp4 --trace storm.jsonl -o again.mp4
  deepforcing rerun storm.json --model models/wan -o again.mp4

On the same device with the same model files, the pictures are the same bit for
bit.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Rerun {
    /// A video of this program, its .json sidecar, or saved latents
    file: PathBuf,
    #[command(flatten)]
    output: OutputFlags,
    /// The model, where the recipe's cannot be found by itself: a name, a file, a folder or a repository
    #[arg(long, alias = "model-dir", value_name = "NAME|DIR")]
    model: Option<String>,
    #[command(flatten)]
    own: OwnFileFlags,
    /// The image or clip that the video began with, if it is elsewhere now
    #[arg(long, value_name = "FILE")]
    start: Option<PathBuf>,
    /// The LoRAs of the recipe, in its order, if they are not beside the file; their strengths are the recipe's
    #[arg(long, value_name = "FILE")]
    lora: Vec<PathBuf>,
    /// Go on although model files or the start differ from the recipe's
    #[arg(long)]
    allow_changed: bool,
    #[command(flatten)]
    trace: TraceFlags,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    preview: PreviewFlag,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Go on even if the memory needed is estimated to be more than there is
    #[arg(long)]
    no_memory_check: bool,
}

impl Rerun {
    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        let mut screen = Screen::new(printer).since(Instant::now());
        let mut recipe = recipe_of(&self.file)?;
        recipe
            .check_makable()
            .map_err(|error| Error::from(error.of_file(&self.file)))?;
        let target = self.output.target()?;
        if self.json && target.is_stdout() {
            return Err(Error::StdoutTaken.into());
        }
        let trace = self.trace.checked(self.output.overwrite)?;
        let cancel = CancelToken::default();
        let session = self.locate(&recipe, &cancel, &mut screen)?;
        let start = self.start_pictures(&recipe)?;
        interrupt_on_ctrl_c(&cancel);
        use_threads(session.settings.threads.value);
        let mut observe = |event: Event<'_>| screen.see(event);
        let files = session.files(&cancel, &mut observe)?;
        check_heads(trace.as_ref(), &files)?;
        let record = session.record(&files)?;
        let changed = recipe.model.differences(&record);
        if !changed.is_empty() {
            match self.allow_changed {
                true => changed.iter().for_each(|change| printer.warning(change)),
                false => {
                    return Err(Error::OtherModelFiles {
                        changes: changed.join("; "),
                    }
                    .into());
                }
            }
        }
        let compute = session.compute(&mut observe)?;
        tell_other_device(&recipe, &session, printer);
        recipe.device = session.selection.kind().into();
        recipe.dtype = session.selection.dtype_name().into();
        recipe.set_model(record);
        recipe.complete();
        recipe.encoding.container = target.form().to_string();
        keep_encoder(&mut recipe, target.form(), printer);
        let job = Job {
            recipe,
            target,
            given: None,
            disclosure: Disclosure::Full,
            save_latents: None,
            thumbnail: None,
            metrics: None,
            trace,
            state: None,
            overwrite: self.output.overwrite,
        };
        let works = vec![Work {
            job,
            start,
            sidecar: None,
        }];
        if !self.no_memory_check {
            session.check_memory(&files, &works, &compute)?;
        }
        let mut show = Show {
            preview: session.settings.preview.value,
            json: self.json,
            fallback: false,
            speeds: session.speeds(),
        };
        render_all(&files, &compute, works, &mut show, &cancel, &mut screen)
    }

    fn locate(&self, recipe: &Recipe, cancel: &CancelToken, screen: &mut Screen) -> Result<Session> {
        let name = match &self.model {
            Some(name) => name.clone(),
            None => model_of(recipe, &self.file)?.ok_or(Error::ModelNotNamed)?,
        };
        let layer = self.own.over(Layer {
            model: Some(name),
            vae: Some(recipe.model.decoder),
            preview: self.preview.preview,
            lora: Some(self.loras(recipe)?),
            // What names the LoRA of the model itself.
            preset: recipe.model.has_own_lora().then(|| recipe.model.preset.clone()),
            ..Layer::default()
        });
        let layers = Layers::load(layer, &Environment::of_process())?;
        let mut observe = |event: Event<'_>| screen.see(event);
        Session::locate(
            &Locator::of_process(),
            &layers,
            recipe.start.is_some(),
            cancel,
            &mut observe,
        )
    }

    /// The LoRAs of the recipe, where they are now.
    fn loras(&self, recipe: &Recipe) -> Result<Loras> {
        let recorded: Vec<_> = recipe.model.added_loras().collect();
        if !self.lora.is_empty() && self.lora.len() != recorded.len() {
            return Err(Error::LoraCount {
                given: self.lora.len(),
                recorded: recorded
                    .iter()
                    .map(|(file, _)| file.name.escape_debug().to_string())
                    .collect(),
            });
        }
        let loras = recorded.into_iter().enumerate().map(|(at, (file, strength))| {
            let path = match self.lora.get(at) {
                Some(path) => path.clone(),
                None => file.beside(&self.file).ok_or_else(|| Error::LoraElsewhere {
                    name: PathBuf::from(&file.name),
                    file: self.file.clone(),
                })?,
            };
            Ok(LoraChoice { path, strength })
        });
        loras.collect::<Result<_>>().map(Loras)
    }

    fn start_pictures(&self, recipe: &Recipe) -> Result<Option<StartPictures>> {
        let Some(record) = &recipe.start else { return Ok(None) };
        let file = record.file(self.start.as_deref(), &self.file)?;
        if !self.allow_changed {
            record.check(&file)?;
        }
        let size = PictureSize {
            width: recipe.video.width,
            height: recipe.video.height,
        };
        if let (StartFile::Image(path), Some(_)) = (&file, &recipe.actions) {
            return StartPictures::of_world(path, size).map(Some);
        }
        let most = recipe.cache.window.saturating_sub(recipe.rollout.chunk);
        let pictures = StartPictures::read(&file, size, recipe.video.fps, recipe.rollout, most)?;
        // The image of a world is none of its latent frames.
        if recipe.actions.is_none() && pictures.latent_frames != record.latent_frames {
            return Err(Error::Recipe(RecipeError::StartLength {
                path: file.path().into(),
                found: pictures.latent_frames,
                expected: record.latent_frames,
            }));
        }
        Ok(Some(pictures))
    }
}

/// Keeps the encoder of the recipe where it makes this form; says when it is not to be had here.
fn keep_encoder(recipe: &mut Recipe, form: Form, printer: &Printer) {
    let encoder = recipe
        .encoding
        .choice()
        .named()
        .filter(|encoder| encoder.form() == form);
    recipe.encoding.encoder = encoder.map(|encoder| encoder.name().into());
    let Some(encoder) = encoder else { return };
    let settings = VideoSettings {
        encoder: EncoderChoice::Named(encoder),
        ..VideoSettings::new(recipe.video.width as u32, recipe.video.height as u32)
    };
    if find_encoder(form, &settings).is_err() {
        printer.note(&format!(
            "the video was encoded by {encoder}, which does not work here: its pictures are encoded by another one"
        ));
        recipe.encoding.encoder = None;
    }
}

/// Says when the pictures will be like those of the recipe and not the same.
fn tell_other_device(recipe: &Recipe, session: &Session, printer: &Printer) {
    let (device, dtype) = (session.selection.kind(), session.selection.dtype_name());
    if (recipe.device.as_str(), recipe.dtype.as_str()) != (device, dtype) {
        printer.note(&format!(
            "the video was made on {} in {} and is made again on {device} in {dtype}: its pictures will be similar, not the \
             same bit for bit",
            recipe.device.escape_debug(),
            recipe.dtype.escape_debug()
        ));
    }
}
