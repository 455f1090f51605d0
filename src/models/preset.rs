//! Presets: which files a model consists of, its sampler, cache and picture size. One TOML file each in `configs/`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    cache::CacheSettings,
    hub::Source,
    models::role::{DecoderKind, Needs, Role},
    rollout::{RolloutDefaults, sampler::SamplerSettings},
};

/// Everything that distinguishes one model or method from another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Preset {
    /// One line for people.
    pub description: String,
    pub files: FileNames,
    /// Where the files are published; none for models that are in folders only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Sources>,
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
    /// State dict to take from a transformer file that holds several, for instance `generator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_dict: Option<String>,
}

/// Where a model's files are published, by role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sources {
    pub transformer: Source,
    /// `config.json`; without it the transformer is of the published sizes.
    pub config: Option<Source>,
    pub vae: Option<Source>,
    pub tiny_decoder: Option<Source>,
    pub text_encoder: Source,
    pub tokenizer: Source,
}

impl Sources {
    /// The source of a role.
    pub fn of(&self, role: Role) -> Option<&Source> {
        match role {
            Role::Transformer => Some(&self.transformer),
            Role::Config => self.config.as_ref(),
            Role::Vae => self.vae.as_ref(),
            Role::TinyDecoder => self.tiny_decoder.as_ref(),
            Role::TextEncoder => Some(&self.text_encoder),
            Role::Tokenizer => Some(&self.tokenizer),
        }
    }

    /// Every file of the model.
    pub fn all(&self) -> Vec<(Role, &Source)> {
        let roles = [
            Role::Transformer,
            Role::Config,
            Role::Vae,
            Role::TinyDecoder,
            Role::TextEncoder,
            Role::Tokenizer,
        ];
        roles
            .into_iter()
            .filter_map(|role| Some((role, self.of(role)?)))
            .collect()
    }

    /// The files that a run needs.
    ///
    /// # Errors
    /// When the decoder or encoder that it needs is not published with this model.
    pub fn needed(&self, needs: Needs) -> Result<Vec<(Role, &Source)>> {
        let mut unneeded = Vec::new();
        if needs.decoder == DecoderKind::Wan {
            unneeded.push(Role::TinyDecoder);
        } else if !needs.encoder {
            unneeded.push(Role::Vae);
        }
        let files: Vec<_> = self
            .all()
            .into_iter()
            .filter(|(role, _)| !unneeded.contains(role))
            .collect();
        let vae = needs.encoder || needs.decoder == DecoderKind::Wan;
        let tae = needs.decoder == DecoderKind::Tae;
        for (needed, role) in [(vae, Role::Vae), (tae, Role::TinyDecoder)] {
            if needed && !files.iter().any(|(known, _)| *known == role) {
                return Err(Error::NoSource { role: role.name() });
            }
        }
        Ok(files)
    }
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

/// Presets that are part of the program.
const EMBEDDED: &[(&str, &str)] = &[
    ("deep-forcing", include_str!("../../configs/deep-forcing.toml")),
    ("self-forcing", include_str!("../../configs/self-forcing.toml")),
    ("causal-forcing", include_str!("../../configs/causal-forcing.toml")),
    (
        "causal-forcing-deep",
        include_str!("../../configs/causal-forcing-deep.toml"),
    ),
    (
        "causal-forcing-frame",
        include_str!("../../configs/causal-forcing-frame.toml"),
    ),
    (
        "causal-forcing-frame-2step",
        include_str!("../../configs/causal-forcing-frame-2step.toml"),
    ),
    (
        "causal-forcing-frame-1step",
        include_str!("../../configs/causal-forcing-frame-1step.toml"),
    ),
    ("toy", include_str!("../../configs/toy.toml")),
];

impl Preset {
    /// Name of the preset that is taken when none is asked for.
    pub const DEFAULT: &'static str = "deep-forcing";
    /// Name of the preset of the model that is part of the program.
    pub const BUNDLED: &'static str = "toy";

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
        let preset: Self = toml::from_str(&text).map_err(|error| Error::config(path, error))?;
        for (_, source) in preset.sources.iter().flat_map(Sources::all) {
            source.check().map_err(|error| Error::config(path, error))?;
        }
        Ok(preset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache::PolicyName, rollout::request::PictureSize};

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

    /// Chunk, steps, steps of the first chunk, policy, window, transformer and state dict of a preset.
    type Facts = (
        usize,
        &'static [u32],
        Option<&'static [u32]>,
        PolicyName,
        &'static str,
        Option<&'static str>,
    );

    #[test]
    fn the_causal_forcing_presets_are_as_published() {
        const FOUR: &[u32] = &[1000, 750, 500, 250];
        let (fifo, deep) = (PolicyName::Fifo, PolicyName::DeepForcing);
        let (chunkwise, plain, ema) = ("chunkwise/causal_forcing.pt", Some("generator"), Some("generator_ema"));
        let frame = "framewise/causal_forcing.pt";
        let (two, one) = (
            "causal-forcing++/framewise-2step.pt",
            "causal-forcing++/framewise-1step.pt",
        );
        let expected: [(&str, Facts); 5] = [
            ("causal-forcing", (3, FOUR, None, fifo, chunkwise, plain)),
            ("causal-forcing-deep", (3, FOUR, None, deep, chunkwise, plain)),
            ("causal-forcing-frame", (1, FOUR, None, fifo, frame, ema)),
            (
                "causal-forcing-frame-2step",
                (1, &[1000, 500], Some(FOUR), fifo, two, ema),
            ),
            ("causal-forcing-frame-1step", (1, &[1000], Some(FOUR), fifo, one, ema)),
        ];
        for (name, (chunk, steps, first, policy, file, state_dict)) in expected {
            let preset = Preset::load(name).unwrap();
            assert_eq!(preset.rollout.chunk, chunk, "{name}");
            assert_eq!(preset.sampler.steps, steps, "{name}");
            assert_eq!(preset.sampler.first_chunk_steps.as_deref(), first, "{name}");
            assert_eq!((preset.sampler.shift, preset.sampler.warp), (5.0, true), "{name}");
            assert_eq!((preset.cache.policy, preset.cache.window), (policy, 21), "{name}");
            assert_eq!(preset.files.state_dict.as_deref(), state_dict, "{name}");
            let transformer = preset.sources.unwrap().transformer;
            assert_eq!(
                (transformer.repo.as_str(), transformer.file.as_str()),
                ("zhuhz22/Causal-Forcing", file)
            );
            assert_eq!(preset.files.transformer[0], file);
        }
    }

    #[test]
    fn all_presets_share_the_pinned_files_of_wan() {
        let known = Preset::load(Preset::DEFAULT).unwrap().sources.unwrap();
        for source in [&known.vae, &known.config]
            .into_iter()
            .flatten()
            .chain([&known.text_encoder, &known.tokenizer])
        {
            assert!(source.bytes.is_some() && source.sha256.is_some(), "{source:?}");
            assert_eq!(source.revision, "37ec512624d61f7aa208f7ea8140a131f93afc9a");
        }
        for name in Preset::names() {
            let Some(sources) = Preset::load(name).unwrap().sources else {
                assert_eq!(name, Preset::BUNDLED);
                continue;
            };
            let transformer = known.transformer.clone();
            assert_eq!(Sources { transformer, ..sources }, known, "{name}");
        }
    }

    #[test]
    fn a_source_that_would_leave_the_cache_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        let text = include_str!("../../configs/self-forcing.toml").replace("taew2_1.pth\"\n", "../../evil\"\n");
        std::fs::write(&path, text).unwrap();
        let error = Preset::load(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("../../evil") && error.contains("mine.toml"), "{error}");
    }
}
