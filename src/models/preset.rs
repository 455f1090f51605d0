//! Presets: which files a model consists of, its sampler, cache and picture size. One TOML file each in `configs/`.
//!
//! A preset may name another one as its `base` and say only what is different; see `inherit`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    cache::{CacheSettings, RecacheSink},
    prompts::actions::Controls,
    rollout::sampler::SamplerSettings,
    rollout::{RolloutDefaults, SwitchRule},
};

use super::inherit;
pub use super::published::{FileNames, Sources};

/// Everything that distinguishes one model or method from another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Preset {
    /// One line for people.
    pub description: String,
    /// What becomes of the cache where a prompt takes over.
    #[serde(default)]
    pub on_switch: SwitchRule,
    /// What the sink becomes where the cache is encoded again, unless it is what the policy wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recache_sink: Option<RecacheSink>,
    /// How its worlds are steered; absent for models that make videos from prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controls: Option<Controls>,
    /// What the files are called in a folder.
    #[serde(default)]
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
    /// The base that a value is from, by the value's place: `cache.sink`. What is not there is the preset's own.
    #[serde(skip)]
    pub(super) inherited: BTreeMap<String, String>,
    /// The preset of the weights, where picture size and rate are that one's.
    #[serde(skip)]
    pub(super) sized_by: Option<String>,
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
    (
        "causal-forcing-frame-deep",
        include_str!("../../configs/causal-forcing-frame-deep.toml"),
    ),
    (
        "causal-forcing-frame-2step-deep",
        include_str!("../../configs/causal-forcing-frame-2step-deep.toml"),
    ),
    (
        "causal-forcing-frame-1step-deep",
        include_str!("../../configs/causal-forcing-frame-1step-deep.toml"),
    ),
    (
        "causal-forcing-long",
        include_str!("../../configs/causal-forcing-long.toml"),
    ),
    ("rolling-forcing", include_str!("../../configs/rolling-forcing.toml")),
    ("causvid", include_str!("../../configs/causvid.toml")),
    ("causvid-warp4", include_str!("../../configs/causvid-warp4.toml")),
    ("longlive", include_str!("../../configs/longlive.toml")),
    (
        "longlive-infinity",
        include_str!("../../configs/longlive-infinity.toml"),
    ),
    ("matrix-game-2", include_str!("../../configs/matrix-game-2.toml")),
    (
        "matrix-game-2-gta",
        include_str!("../../configs/matrix-game-2-gta.toml"),
    ),
    (
        "matrix-game-2-temple",
        include_str!("../../configs/matrix-game-2-temple.toml"),
    ),
    (
        "matrix-game-2-deep",
        include_str!("../../configs/matrix-game-2-deep.toml"),
    ),
    (
        "matrix-game-2-gta-deep",
        include_str!("../../configs/matrix-game-2-gta-deep.toml"),
    ),
    (
        "matrix-game-2-temple-deep",
        include_str!("../../configs/matrix-game-2-temple-deep.toml"),
    ),
    ("infinity-rope", include_str!("../../configs/infinity-rope.toml")),
    ("flashdreams", include_str!("../../configs/flashdreams.toml")),
    ("toy", include_str!("../../configs/toy.toml")),
];

/// What presets have in common and is no model by itself.
const FAMILIES: &[(&str, &str)] = &[("wan2.1-1.3b", include_str!("../../configs/wan2.1-1.3b.toml"))];

impl Preset {
    /// Name of the preset that is taken when none is asked for.
    pub const DEFAULT: &'static str = "deep-forcing";
    /// Name of the preset of the model that is part of the program.
    pub const BUNDLED: &'static str = "toy";

    /// Names of the embedded presets.
    pub fn names() -> Vec<&'static str> {
        EMBEDDED.iter().map(|(name, _)| *name).collect()
    }

    /// Names that a preset can have as its base, beside the path of a file: those of the embedded presets and of what
    /// they have in common.
    pub fn bases() -> Vec<&'static str> {
        EMBEDDED.iter().chain(FAMILIES).map(|(name, _)| *name).collect()
    }

    /// The text of an embedded preset.
    pub(super) fn embedded(name: &str) -> Option<&'static str> {
        EMBEDDED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// The text of an embedded preset, or of what some have in common.
    pub(super) fn embedded_base(name: &str) -> Option<&'static str> {
        let mut all = EMBEDDED.iter().chain(FAMILIES);
        all.find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// An embedded preset by name, or a TOML file by path, with what its bases say beneath what it says itself.
    ///
    /// # Errors
    /// When it is neither, or the file or one of its bases is not a preset.
    pub fn load(name_or_file: &str) -> Result<Self> {
        inherit::load(name_or_file, false)
    }

    /// A TOML file in a model's folder, which may be somebody else's: its bases are embedded or beside it.
    ///
    /// # Errors
    /// As [`Preset::load`], and when a base is a file elsewhere.
    pub(super) fn load_of_folder(file: &str) -> Result<Self> {
        inherit::load(file, true)
    }

    /// The base that the value at a place such as `cache.sink` is from; `None` when the preset says it itself, or when
    /// nothing does.
    pub fn base_of(&self, place: &str) -> Option<&str> {
        self.inherited.get(place).map(String::as_str)
    }

    /// The preset that picture size and rate are from, where it is that of the weights and not this one.
    pub fn sized_by(&self) -> Option<&str> {
        self.sized_by.as_deref()
    }

    /// These settings, under the name or file `name`, for the weights of the preset `owner`: its files, and the picture
    /// size and rate that they are trained at. A file of the user that gives a size itself is meant so.
    pub(super) fn for_weights(self, name: &str, owner: &str, weights: Self) -> Self {
        let is_file = Self::embedded(name).is_none();
        let mut preset = Self {
            files: weights.files,
            sources: weights.sources,
            // What the network reads is no setting; one that is said all the same is held against its tensors.
            controls: self.controls.or(weights.controls),
            ..self
        };
        if is_file && SIZE.iter().any(|place| preset.base_of(place).is_none()) {
            return preset;
        }
        preset.video = weights.video;
        preset.sized_by = Some(owner.into());
        for place in SIZE {
            match weights.inherited.get(place) {
                Some(base) => preset.inherited.insert(place.into(), base.clone()),
                None => preset.inherited.remove(place),
            };
        }
        preset
    }
}

/// Places of picture size and rate.
const SIZE: [&str; 3] = ["video.width", "video.height", "video.fps"];

#[cfg(test)]
mod tests;
