//! How long a video will take on this machine, from those that were made here before.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::Times;
use crate::recipe::Recipe;

/// File in the program's cache folder.
const FILE: &str = "speeds.json";
/// Pixels of a token's side.
const TOKEN: usize = 16;
/// A video that takes less time tells nothing.
const LEAST: Duration = Duration::from_millis(200);

/// What is known of the speed of models on this machine.
#[derive(Debug, Clone, Default)]
pub struct Speeds {
    folder: Option<PathBuf>,
    /// By device, number format, preset and decoder.
    known: BTreeMap<String, Speed>,
}

/// The speed of one model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Speed {
    /// Seconds of denoising for a token in a pass of the transformer.
    pass: f64,
    /// Seconds of decoding and encoding for a pixel.
    pixel: f64,
    /// Time of the whole video in place of the sum of its stages, which overlap.
    share: f64,
}

/// How much there is to do for a video.
struct Work {
    /// Tokens, as often as they go through the transformer.
    passes: f64,
    pixels: f64,
}

impl Work {
    fn of(recipe: &Recipe) -> Self {
        let (video, sampler) = (&recipe.video, &recipe.sampler);
        let given = recipe.start.as_ref().map_or(0, |start| start.latent_frames);
        let tokens = (video.width / TOKEN) * (video.height / TOKEN);
        // Each step, and the pass that writes the finished frames into the cache.
        let passes = sampler.steps.len() + 1;
        Self {
            passes: (video.latent_frames.saturating_sub(given) * tokens * passes) as f64,
            pixels: (video.width * video.height * video.pictures) as f64,
        }
    }
}

impl Speeds {
    /// Reads what is known, from the program's cache folder; without one, or a file in it, nothing is.
    pub fn read(folder: Option<&Path>) -> Self {
        let text = folder.and_then(|folder| fs::read_to_string(folder.join(FILE)).ok());
        let known = text.and_then(|text| serde_json::from_str(&text).ok());
        Self {
            folder: folder.map(Path::to_owned),
            known: known.unwrap_or_default(),
        }
    }

    /// About how many seconds a video will take, loading left out; `None` when none was made like it.
    pub fn estimate(&self, recipe: &Recipe) -> Option<f64> {
        let speed = self.known.get(&key(recipe))?;
        let work = Work::of(recipe);
        let seconds = (speed.pass * work.passes + speed.pixel * work.pixels) * speed.share;
        seconds.is_finite().then_some(seconds)
    }

    /// Notes how long a complete video took, for later ones. That it cannot be written costs nobody anything.
    pub fn note(&mut self, recipe: &Recipe, times: &Times) {
        let work = Work::of(recipe);
        let (denoise, rest) = (times.denoise.as_secs_f64(), (times.decode + times.encode).as_secs_f64());
        if times.resumed || times.total < LEAST || work.passes == 0.0 || work.pixels == 0.0 || denoise + rest <= 0.0 {
            return;
        }
        let speed = Speed {
            pass: denoise / work.passes,
            pixel: rest / work.pixels,
            share: times.total.as_secs_f64() / (denoise + rest),
        };
        self.known.insert(key(recipe), speed);
        if let Err(error) = self.write() {
            tracing::debug!("the speed of this machine cannot be kept: {error}");
        }
    }

    fn write(&self) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        fs::create_dir_all(folder)?;
        let path = folder.join(FILE);
        let draft = path.with_extension(format!("{}.draft", std::process::id()));
        fs::write(&draft, serde_json::to_vec(&self.known)?)?;
        fs::rename(&draft, path)
    }
}

fn key(recipe: &Recipe) -> String {
    let decoder = recipe.model.decoder.name();
    format!("{} {} {} {decoder}", recipe.device, recipe.dtype, recipe.model.preset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::DecoderKind;
    use crate::recipe::{ModelRecord, VideoRecord};

    fn recipe(preset: &str, latent_frames: usize) -> Recipe {
        let model = ModelRecord {
            model: None,
            preset: preset.into(),
            decoder: DecoderKind::Wan,
            files: Vec::new(),
        };
        let mut recipe = Recipe::new(model);
        recipe.video = VideoRecord {
            width: 96,
            height: 96,
            fps: 16,
            pictures: latent_frames * 4 - 3,
            latent_frames,
        };
        recipe
    }

    #[test]
    fn twice_the_video_takes_twice_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        let mut speeds = Speeds::read(Some(&own));
        let short = recipe("toy", 21);
        assert_eq!(speeds.estimate(&short), None);
        let times = Times {
            denoise: Duration::from_secs(8),
            decode: Duration::from_secs(3),
            encode: Duration::from_secs(1),
            total: Duration::from_secs(9),
            ..Times::default()
        };
        speeds.note(&short, &times);
        let known = Speeds::read(Some(&own));
        assert!((known.estimate(&short).unwrap() - 9.0).abs() < 1e-9);
        let long = known.estimate(&recipe("toy", 42)).unwrap();
        assert!((17.9..18.2).contains(&long), "{long}");
        let mut fewer = short.clone();
        fewer.sampler.steps = vec![1000];
        assert!(known.estimate(&fewer).unwrap() < 6.0);
        assert_eq!(known.estimate(&recipe("deep-forcing", 21)), None);
    }

    #[test]
    fn nothing_is_learnt_from_nothing() {
        let mut speeds = Speeds::read(None);
        speeds.note(&recipe("toy", 21), &Times::default());
        assert_eq!(speeds.estimate(&recipe("toy", 21)), None);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Speeds::read(Some(folder.path())).estimate(&recipe("toy", 21)), None);
    }
}
