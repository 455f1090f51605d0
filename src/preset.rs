//! Presets: which files a model consists of, its sampler, cache and picture size. One TOML file each in `configs/`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, cache::CacheSettings, sampler::SamplerSettings};

/// Everything that distinguishes one model or method from another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Preset {
    /// One line for people.
    pub description: String,
    pub files: FileNames,
    pub video: VideoDefaults,
    #[serde(default)]
    pub rollout: RolloutDefaults,
    #[serde(default)]
    pub sampler: SamplerSettings,
    #[serde(default)]
    pub cache: CacheSettings,
}

/// Published names of a model's files, relative to its folder; the first that exists is taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileNames {
    pub transformer: Vec<String>,
    pub vae: Vec<String>,
    pub tiny_decoder: Vec<String>,
    pub text_encoder: Vec<String>,
    pub tokenizer: Vec<String>,
}

/// Picture size and rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VideoDefaults {
    /// Pixels, multiples of 16.
    pub width: usize,
    pub height: usize,
    /// Pictures per second.
    pub fps: u32,
}

/// How a video is cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RolloutDefaults {
    /// Latent frames of a chunk: 3 for chunk-wise models, 1 for frame-wise ones.
    pub chunk: usize,
    /// Whether the first latent frame is a chunk of its own.
    pub first_frame_alone: bool,
}

impl Default for RolloutDefaults {
    fn default() -> Self {
        Self {
            chunk: 3,
            first_frame_alone: false,
        }
    }
}

/// Presets that are part of the program.
const EMBEDDED: &[(&str, &str)] = &[
    ("deep-forcing", include_str!("../configs/deep-forcing.toml")),
    ("self-forcing", include_str!("../configs/self-forcing.toml")),
    ("toy", include_str!("../configs/toy.toml")),
];

impl Preset {
    /// Name of the preset that is taken when none is asked for.
    pub const DEFAULT: &'static str = "deep-forcing";

    /// Names of the embedded presets.
    pub fn names() -> Vec<&'static str> {
        EMBEDDED.iter().map(|(name, _)| *name).collect()
    }

    /// An embedded preset by name, or a TOML file by path.
    ///
    /// # Errors
    /// When it is neither, or the file is not a preset.
    pub fn load(name_or_file: &str) -> Result<Self> {
        let path = Path::new(name_or_file);
        let text = match EMBEDDED.iter().find(|(name, _)| *name == name_or_file) {
            Some((_, text)) => text.to_string(),
            None if path.extension().is_some_and(|e| e == "toml") => {
                std::fs::read_to_string(path).map_err(|error| Error::config(path, error))?
            }
            None => {
                return Err(Error::UnknownPreset {
                    name: name_or_file.into(),
                    known: Self::names().join(", "),
                });
            }
        };
        toml::from_str(&text).map_err(|error| Error::config(path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::PictureSize;

    #[test]
    fn the_embedded_presets_are_legal() {
        for name in Preset::names() {
            let preset = Preset::load(name).unwrap();
            preset.sampler.validate().unwrap();
            preset.cache.resolve(preset.rollout.chunk, 240).unwrap();
            let size = PictureSize {
                width: preset.video.width,
                height: preset.video.height,
            };
            assert_eq!(size.checked(), Ok(size), "{name}");
        }
    }

    #[test]
    fn an_unknown_preset_names_the_known_ones() {
        let error = Preset::load("deepforcing").unwrap_err().to_string();
        assert!(error.contains("deep-forcing"), "{error}");
    }
}
