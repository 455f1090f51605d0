//! From saved latents to a video, a few latent frames at a time.

use std::time::Instant;

use crate::{
    Result,
    device::Compute,
    models::ModelFiles,
    recipe::Recipe,
    render::{
        Event, InWork, metadata,
        pipeline::{Pictures, Update},
        session::Session,
    },
    rollout::CancelToken,
    vae::{LATENT_CHANNELS, SPATIAL_FACTOR, frames_to_rgb8, pictures_of_latents},
    video::latents::LatentReader,
    video::{Target, VideoSettings, VideoSummary, VideoWriter},
};

/// Latent frames that are decoded at a time.
const CHUNK: usize = 3;

/// Latents to decode and where the video goes.
pub struct Decoding {
    pub latents: LatentReader,
    pub target: Target,
    /// What made the latents, where that is known: it tells how many pictures belong to the video, which carries it.
    pub recipe: Option<Recipe>,
    /// Pictures per second; by default those of the recipe, or else of the settings.
    pub fps: Option<u32>,
}

impl Decoding {
    /// Makes the video with the decoder of `files`: its summary, if it has a picture, and whether it is complete.
    /// `cancel` ends it early, with what is there as a proper file.
    ///
    /// # Errors
    /// When the decoder or the latents cannot be read, on a device failure, or when the video cannot be written.
    pub fn run(
        self,
        session: &Session,
        files: &ModelFiles,
        cancel: &CancelToken,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<(VideoSummary, bool)>> {
        self.latents.check_channels(LATENT_CHANNELS)?;
        observe(Event::Stage("loading the decoder"));
        let compute = session.compute(observe)?;
        let mut stream = files.load_decoder(&compute)?.stream();
        let [frames, ..] = self.latents.shape();
        let settings = self.settings(session, &compute);
        let whole = pictures_of_latents(frames);
        let recipe = self.recipe.as_ref();
        let pictures = recipe.map_or(whole, |recipe| recipe.video.pictures.min(whole));
        observe(Event::Video(InWork {
            number: (1, 1),
            pictures,
            done: 0,
            all: pictures,
            fps: settings.fps,
            width: settings.width as usize,
            height: settings.height as usize,
        }));
        let mut video = VideoWriter::create_described(&self.target, settings, |encoder| {
            let described = self.recipe.map(|mut recipe| {
                recipe.model.decoder = session.outline().decoder;
                recipe.encoding.container = self.target.form().to_string();
                recipe.encoding.written_by(encoder);
                metadata(Some(recipe.clone()))
            });
            described.unwrap_or_default()
        })?;
        observe(Event::Begun {
            encoder: video.info(),
            chunks: frames.div_ceil(CHUNK),
        });
        for (chunk, start) in (0..frames).step_by(CHUNK).enumerate() {
            if cancel.is_cancelled() {
                break;
            }
            let begun = Instant::now();
            let latents = self.latents.read(start..frames.min(start + CHUNK), &compute.device)?;
            let mut frames = frames_to_rgb8(&stream.push(&latents)?)?;
            frames.truncate(pictures - video.frames() as usize);
            let batch = Pictures {
                chunk,
                frames,
                took: begun.elapsed(),
            };
            let begun = Instant::now();
            batch.frames.iter().try_for_each(|frame| video.push(frame))?;
            video.flush()?;
            observe(Event::Update(&Update::Pictures(batch)));
            observe(Event::Encoded(begun.elapsed()));
        }
        let complete = video.frames() as usize == pictures;
        let summary = video.finish_partial()?;
        if let Some(summary) = &summary {
            observe(Event::Finished { summary, complete });
        }
        Ok(summary.map(|summary| (summary, complete)))
    }
    fn settings(&self, session: &Session, compute: &Compute) -> VideoSettings {
        let ([_, _, height, width], settings) = (self.latents.shape(), &session.settings);
        let fps = self.fps.or(self.recipe.as_ref().map(|recipe| recipe.video.fps));
        VideoSettings {
            fps: fps.unwrap_or(settings.fps.value),
            crf: settings.crf.value,
            preset: settings.encoder_preset.value,
            encoder: settings.encoder.value,
            gpu: compute.gpu(),
            ..VideoSettings::new((width * SPATIAL_FACTOR) as u32, (height * SPATIAL_FACTOR) as u32)
        }
    }
}
