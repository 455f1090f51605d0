//! The recipe of a video: everything that determines its pictures, and how it was encoded.
//!
//! A recipe is stored as JSON in the video's metadata, in a sidecar file on request and in saved latents. With the same
//! recipe, model files and device, the pictures are the same bit for bit.
//!
//! The format has a number, [`FORMAT`]. It rises when a key is added that changes the pictures, so that an older program
//! refuses what it could not repeat; unknown keys of a known format are ignored. Inside `sampler` and `cache`, where
//! every key changes the pictures, unknown keys are refused. The seed is a whole number up to 2⁶⁴ − 1, which readers
//! that know only floating point (JavaScript) round.
//!
//! | format | what it has more |
//! |---|---|
//! | 1 | |
//! | 2 | `on-switch` of a prompt: what becomes of the cache where it takes over |
//! | 3 | `actions`: what is done in a world, which has no prompts |
//!
//! A recipe is written in the lowest format that can say it, so that older programs read what they can repeat.

mod disclosure;
mod error;
mod human;
mod model;
mod start;

use serde::{Deserialize, Serialize};

pub use disclosure::Disclosure;
pub use error::RecipeError;
pub(crate) use human::row;
pub use model::{FileRecord, ModelRecord};
pub use start::{StartKind, StartRecord};

use crate::{
    Error, Result,
    cache::{CacheSettings, Policy},
    hub::file_hash::is_sha256,
    models::Role,
    prompts::{PromptSpan, actions::ActionRecord},
    rollout::LoopKind,
    rollout::RolloutDefaults,
    rollout::RolloutSettings,
    rollout::chunk_plans,
    rollout::request::{PictureSize, VideoLength},
    rollout::rolling,
    rollout::sampler::SamplerSettings,
    vae::{SPATIAL_FACTOR, pictures_of_latents},
    video::{Encoder, EncoderChoice, EncoderInfo, Preset as EncoderPreset, VideoSettings},
};

/// The highest number of the format that this program reads. It writes the lowest that says all of a recipe
/// ([`Recipe::needed_format`]), so that older programs read what they can repeat.
pub const FORMAT: u32 = 3;

/// Format of recipes with nothing that came later.
const FIRST_FORMAT: u32 = 1;
/// First format with LoRAs, loops of other kinds and caches that change at a switch.
const SWITCH_FORMAT: u32 = 2;
/// First format with actions.
const ACTION_FORMAT: u32 = 3;

/// The resolved description of one video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recipe {
    /// See [`FORMAT`].
    pub format: u32,
    /// Version of the program that made the video.
    #[serde(rename = "deepforcing")]
    pub version: String,
    pub model: ModelRecord,
    /// In order, the first at latent frame 0; none in a world.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<PromptSpan>,
    /// What is done in a world: one action for each of its pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<ActionRecord>,
    pub seed: u64,
    pub sampler: SamplerSettings,
    pub cache: CacheSettings,
    pub rollout: RolloutDefaults,
    pub video: VideoRecord,
    /// What the video begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartRecord>,
    pub encoding: Encoding,
    /// `cpu`, or the kind of accelerator.
    pub device: String,
    /// Number format of the computation.
    pub dtype: String,
    /// Pictures in the file when the run was stopped before its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pictures_written: Option<usize>,
    /// For people; nothing depends on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Size and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VideoRecord {
    /// Pixels.
    pub width: usize,
    pub height: usize,
    /// Pictures per second.
    pub fps: u32,
    /// Pictures of the whole video, those of its start included.
    pub pictures: usize,
    /// Latent frames of the whole video, those of its start included.
    pub latent_frames: usize,
}

/// How the pictures were encoded; does not change what is generated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Encoding {
    /// `mp4`, `webm`, …
    pub container: String,
    pub crf: u8,
    #[serde(with = "EncoderPresetName")]
    pub preset: EncoderPreset,
    /// FFmpeg's name of the encoder: the one that was asked for, in a file the one that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
}

impl Encoding {
    /// The encoder to take: the one that is named if this program knows it.
    pub fn choice(&self) -> EncoderChoice {
        let named = self.encoder.as_deref().and_then(Encoder::of_name);
        named.map_or(EncoderChoice::Auto, EncoderChoice::Named)
    }

    /// Notes the encoder that writes the file; forms without one have none.
    pub fn written_by(&mut self, info: &EncoderInfo) {
        self.encoder = info.encoder().map(|encoder| encoder.name().into());
    }
}

/// Gives [`EncoderPreset`] the names of x264.
#[derive(Serialize, Deserialize)]
#[serde(remote = "EncoderPreset", rename_all = "lowercase")]
enum EncoderPresetName {
    Ultrafast,
    Superfast,
    Veryfast,
    Faster,
    Fast,
    Medium,
    Slow,
    Slower,
    Veryslow,
}

impl Recipe {
    /// A recipe of this version for a model, with the defaults of every part; size, length and prompts are to be filled
    /// in.
    pub fn new(model: ModelRecord) -> Self {
        let mut recipe = Self {
            format: FIRST_FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            model,
            prompts: Vec::new(),
            actions: None,
            seed: 0,
            sampler: SamplerSettings::default(),
            cache: CacheSettings::default(),
            rollout: RolloutDefaults::default(),
            video: VideoRecord {
                width: 0,
                height: 0,
                fps: 16,
                pictures: 0,
                latent_frames: 0,
            },
            start: None,
            encoding: Encoding {
                container: "mp4".into(),
                crf: 18,
                preset: EncoderPreset::default(),
                encoder: None,
            },
            device: "cpu".into(),
            dtype: "f32".into(),
            pictures_written: None,
            notes: Vec::new(),
        };
        recipe.format = recipe.needed_format();
        recipe
    }

    /// The lowest format that has all that this recipe says: 3 for a world, 2 for a model with a LoRA or a cache that does
    /// not stay as it is where the prompt changes, else 1.
    pub fn needed_format(&self) -> u32 {
        let has_lora = self.model.files.iter().any(|file| file.role == Role::Lora.name());
        let switches = self.prompts.iter().any(|prompt| !prompt.on_switch.keeps());
        let rolling = self.rollout.kind != LoopKind::Chunks;
        if self.actions.is_some() {
            ACTION_FORMAT
        } else if has_lora || switches || rolling {
            SWITCH_FORMAT
        } else {
            FIRST_FORMAT
        }
    }

    /// Takes this model, whose files are known by now.
    pub fn set_model(&mut self, model: ModelRecord) {
        self.model = model;
        self.format = self.needed_format();
    }

    /// Gives it the prompts, and the lowest format that can say all of it.
    #[must_use]
    pub fn with_prompts(mut self, prompts: Vec<PromptSpan>) -> Self {
        self.prompts = prompts;
        self.format = self.needed_format();
        self
    }

    /// Compact JSON, in one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// JSON for people, without a line end at the end.
    pub fn to_json_pretty(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Reads JSON of [`Recipe::to_json`] or [`Recipe::to_json_pretty`].
    ///
    /// # Errors
    /// When it is no recipe, one of a later format, or damaged.
    pub fn from_json(text: &str) -> Result<Self, RecipeError> {
        /// What all formats have in common.
        #[derive(Deserialize)]
        struct Head {
            format: u64,
            deepforcing: String,
        }
        let not_a_recipe = |error: serde_json::Error| RecipeError::NotARecipe {
            reason: error.to_string(),
        };
        let head: Head = serde_json::from_str(text).map_err(not_a_recipe)?;
        if head.format > FORMAT.into() {
            return Err(RecipeError::Newer {
                format: head.format,
                version: head.deepforcing,
            });
        }
        let damaged = |reason: String| RecipeError::Damaged { reason };
        let recipe: Self = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        recipe.check().map_err(damaged)?;
        Ok(recipe)
    }

    /// What would make later arithmetic go wrong.
    fn check(&self) -> Result<(), String> {
        /// Far beyond a day of video.
        const MOST: usize = 1 << 32;
        let video = &self.video;
        let positive = [
            ("format", self.format as usize),
            ("video.width", video.width),
            ("video.height", video.height),
            ("video.fps", video.fps as usize),
            ("video.pictures", video.pictures),
            ("video.latent-frames", video.latent_frames),
            ("rollout.chunk", self.rollout.chunk),
        ];
        if let Some((name, value)) = positive.into_iter().find(|(_, value)| !(1..=MOST).contains(value)) {
            return Err(format!("`{name}` is {value}, expected a number from 1 to {MOST}"));
        }
        match &self.actions {
            None if self.prompts.first().is_none_or(|prompt| prompt.latent_frame != 0) => {
                return Err("`prompts` has none at latent frame 0".into());
            }
            None => {}
            Some(actions) => self.check_actions(actions)?,
        }
        if self.format == FIRST_FORMAT && self.prompts.iter().any(|prompt| !prompt.on_switch.keeps()) {
            return Err(format!(
                "`on-switch` of a prompt belongs to format {SWITCH_FORMAT}, and the recipe has format {FIRST_FORMAT}"
            ));
        }
        if !self.prompts.is_sorted_by(|a, b| a.latent_frame < b.latent_frame) {
            return Err("`prompts` are not in order".into());
        }
        if self.given() >= video.latent_frames {
            return Err("`start` is as long as the video".into());
        }
        let most = pictures_of_latents(video.latent_frames);
        if video.pictures > most {
            return Err(format!(
                "{} latent frames give {most} pictures, not {}",
                video.latent_frames, video.pictures
            ));
        }
        let starts = self.start.iter().map(|start| &start.sha256);
        let hashes = self
            .model
            .files
            .iter()
            .filter_map(|file| file.sha256.as_ref())
            .chain(starts);
        let mut hashes = hashes.filter(|hash| !is_sha256(hash));
        match hashes.next() {
            Some(hash) => Err(format!("`{hash}` is no SHA-256")),
            None => Ok(()),
        }
    }

    fn check_actions(&self, actions: &ActionRecord) -> Result<(), String> {
        if self.format < ACTION_FORMAT {
            let format = self.format;
            return Err(format!(
                "`actions` belong to format {ACTION_FORMAT}, and the recipe has format {format}"
            ));
        }
        if !self.prompts.is_empty() {
            return Err("it has `prompts` and `actions`; a world has no prompts".into());
        }
        let (actions, pictures) = (actions.trajectory.pictures(), self.video.pictures);
        if actions != pictures {
            return Err(format!(
                "`actions` are for {actions} pictures, and the video has {pictures}"
            ));
        }
        Ok(())
    }

    /// Checks, before anything is made of it, that the numbers of a recipe go together and lie within what this program
    /// makes.
    ///
    /// # Errors
    /// [`RecipeError::Damaged`] with the first that does not.
    pub fn check_makable(&self) -> Result<(), RecipeError> {
        self.makable().map_err(|reason| RecipeError::Damaged { reason })
    }

    fn makable(&self) -> Result<(), String> {
        /// Latent frames of a cache beyond which its size means nothing.
        const MOST_FRAMES: usize = 1 << 20;
        let (video, cache) = (&self.video, &self.cache);
        let size = PictureSize {
            width: video.width,
            height: video.height,
        };
        let size = size.checked().map_err(|error| error.to_string())?;
        let action_window = self.rollout.action_window.unwrap_or(0);
        let sizes = [
            cache.window,
            cache.sink,
            cache.budget,
            cache.recent,
            self.rollout.chunk,
            action_window,
        ];
        if let Some(frames) = sizes.into_iter().find(|frames| *frames > MOST_FRAMES) {
            return Err(format!("a cache or chunk of {frames} latent frames is none"));
        }
        let RolloutDefaults {
            chunk,
            first_frame_alone,
            kind: _,
            action_window: _,
        } = self.rollout;
        let generated = video.latent_frames - self.given();
        chunk_plans(self.given(), generated, chunk, first_frame_alone).map_err(|error| error.to_string())?;
        self.sampler.validate().map_err(|error| error.to_string())?;
        cache
            .resolve(chunk, video.latent_frames)
            .map_err(|error| error.to_string())?;
        let encoding = VideoSettings {
            fps: video.fps,
            crf: self.encoding.crf,
            ..VideoSettings::new(size.width as u32, size.height as u32)
        };
        encoding.check().map_err(|error| error.to_string())
    }

    /// Latent frames that the video begins with.
    pub(crate) fn given(&self) -> usize {
        self.start.as_ref().map_or(0, |start| start.latent_frames)
    }

    /// Most latent frames that go through the network at once, with a cache of `policy`.
    pub(crate) fn widest_pass(&self, policy: &Policy) -> usize {
        let recached = self.prompts.iter().filter(|prompt| prompt.on_switch.recaches());
        let frames = recached.map(|prompt| prompt.latent_frame.min(policy.window));
        frames.max().unwrap_or(0).max(self.rollout.chunk)
    }

    /// Latent frames that the action modules of a world remember, with a cache of `policy`.
    pub fn action_window(&self, policy: &Policy) -> usize {
        self.rollout.action_window.unwrap_or(policy.window)
    }

    fn check_action_window(&self, policy: &Policy) -> Result<()> {
        let (chunk, tokens) = (self.rollout.chunk, policy.window);
        match self.rollout.action_window {
            Some(window) if window < chunk => Err(Error::FrameWindow { window, frames: chunk }),
            // A cache that keeps the whole video is never too small.
            Some(window) if window > tokens && tokens < self.video.latent_frames => {
                Err(Error::ActionWindow { window, tokens })
            }
            _ => Ok(()),
        }
    }

    /// The settings of the rollout that makes the video.
    ///
    /// # Errors
    /// On cache or sampler settings that break a rule, or when the recipe's loop cannot make the video.
    pub fn rollout_settings(&self) -> Result<RolloutSettings> {
        self.sampler.validate()?;
        let policy = self.cache.resolve(self.rollout.chunk, self.video.latent_frames)?;
        self.check_action_window(&policy)?;
        policy.check_first_frame(self.rollout.first_frame_alone)?;
        policy.check_frame((self.video.height / 16) * (self.video.width / 16))?;
        rolling::Asked {
            rollout: self.rollout,
            sampler: &self.sampler,
            policy: &policy,
            name: self.cache.policy,
            frames: self.video.latent_frames.saturating_sub(self.given()),
            prompts: self.prompts.len(),
            given: self.given(),
        }
        .check()?;
        Ok(RolloutSettings {
            frames: self.video.latent_frames.saturating_sub(self.given()),
            chunk: self.rollout.chunk,
            first_frame_alone: self.rollout.first_frame_alone,
            height: self.video.latent_height(),
            width: self.video.latent_width(),
            sampler: self.sampler.clone(),
            policy,
            seed: self.seed,
            first_position: 0,
            fill_last: false,
        })
    }

    /// Notes that the file holds only the first `pictures` pictures.
    pub fn stopped_after(&mut self, pictures: usize) {
        self.pictures_written = Some(pictures);
    }

    /// Makes it the recipe of the whole video again.
    pub fn complete(&mut self) {
        self.pictures_written = None;
    }

    /// Whether the file holds the whole video.
    pub fn is_complete(&self) -> bool {
        self.pictures_written.is_none()
    }
}

impl VideoRecord {
    /// Pictures of `size`, `fps` in a second.
    pub fn new(size: PictureSize, fps: u32, length: VideoLength) -> Self {
        Self {
            width: size.width,
            height: size.height,
            fps,
            pictures: length.pictures,
            latent_frames: length.latent_frames,
        }
    }

    /// Rows of a latent frame.
    pub fn latent_height(&self) -> usize {
        self.height / SPATIAL_FACTOR
    }

    /// Columns of a latent frame.
    pub fn latent_width(&self) -> usize {
        self.width / SPATIAL_FACTOR
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.pictures as f64 / f64::from(self.fps.max(1))
    }
}

#[cfg(test)]
mod tests;
