//! `deepforcing decode`: saved latents to a video.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;

use super::{
    Failure,
    flags::{EncodingFlags, ModelFlags, OutputFlags},
    printer::{Printer, print_result},
    recipes::model_of,
    render::{Screen, interrupt_on_ctrl_c},
    threads::use_threads,
};
use crate::{
    Error, Result,
    config::{Environment, Layers},
    models::Locator,
    recipe::Recipe,
    render::{Event, decode::Decoding, session::Session},
    rollout::CancelToken,
    video::VideoSummary,
    video::latents::LatentReader,
};

const EXAMPLES: &str = "\
Examples:
  deepforcing generate \"a red ball\" --model toy \\
    --save-latents ball.safetensors -o ball.mp4
  deepforcing decode ball.safetensors -o ball.webm
  deepforcing decode ball.safetensors --vae tae --model models/wan -o fast.mp4

The file holds one tensor `latents`, [frames, 16, height/8, width/8], normalised
as the transformer makes them.";

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
        let mut screen = Screen::new(printer).since(Instant::now());
        let latents = LatentReader::open(&self.file)?;
        let target = self.output.target()?;
        let recipe = match latents.recipe() {
            Some(text) => Some(Recipe::from_json(text).map_err(|error| error.of_file(&self.file))?),
            None => None,
        };
        let cancel = CancelToken::default();
        let session = self.locate(recipe.as_ref(), &cancel, &mut screen)?;
        interrupt_on_ctrl_c(&cancel);
        use_threads(session.settings.threads.value);
        let mut observe = |event: Event<'_>| screen.see(event);
        let files = session.files(&cancel, &mut observe)?;
        let decoding = Decoding {
            latents,
            target,
            recipe,
            fps: self.encoding.fps,
        };
        decoding.run(&session, &files, &cancel, &mut observe)
    }

    /// The model asked for, or the one that made the latents.
    fn locate(&self, recipe: Option<&Recipe>, cancel: &CancelToken, screen: &mut Screen) -> Result<Session> {
        let mut layer = self.encoding.over(self.model.layer());
        if let (Some(recipe), None) = (recipe, &layer.model) {
            layer.model = model_of(recipe, &self.file)?;
        }
        if layer.model.is_none() && recipe.is_some_and(|recipe| recipe.model.model.is_none()) {
            return Err(Error::ModelNotNamed);
        }
        let layers = Layers::load(layer, &Environment::of_process())?;
        Session::locate(&Locator::of_process(), &layers, false, cancel, &mut |event| {
            screen.see(event)
        })
    }
}
