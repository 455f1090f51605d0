//! Settings in layers: flag > environment > config file > preset > built-in default. Every value knows its origin.
//!
//! | file | what it holds |
//! |---|---|
//! | `cache` | the cache's parameters as settings |
//! | `settings` | the table of settings: [`Layer`] and [`Settings`] come out of it |
//! | `value` | what a setting of each type accepts |
//! | `environment` | [`Environment`]: `DEEPFORCING_SEED` and the like |
//! | `file` | `config.toml`: where it is, what it says and in which line |
//! | `edit` | changes of `config.toml` |
//! | `check` | whether settings can be used together; where they come from, for messages |
//!
//! ```no_run
//! use deepforcing::{config::{Environment, Layer, Layers}, models::preset::Preset};
//!
//! let flags = Layer { seed: Some(7), ..Layer::default() };
//! let layers = Layers::load(flags, &Environment::of_process())?;
//! let name = layers.preset().unwrap_or(Preset::DEFAULT.into());
//! let settings = layers.resolve(&name, &Preset::load(&name)?);
//! assert_eq!(settings.seed.value, 7);
//! println!("the size comes from {}", settings.size.origin);
//! # Ok::<(), deepforcing::Error>(())
//! ```

mod cache;
mod check;
mod edit;
mod environment;
mod file;
mod settings;
mod value;

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::Serialize;

pub use cache::SettedCache;
pub use environment::{Environment, OTHER_VARIABLES, variable};
pub use file::ConfigFile;
pub use settings::{Entry, Key, Layer, Settings};
pub use value::{Loras, PreviewMode};

use crate::{
    device::{DeviceChoice, DtypeChoice},
    models::preset::Preset,
    models::{DecoderKind, GivenPaths},
    rollout::request::PictureSize,
};

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The config file could not be read.
    #[error("cannot read the config file `{}`{}: {source}", path.display(), by_variable(*.named))]
    Read {
        path: PathBuf,
        /// Whether `DEEPFORCING_CONFIG` names it.
        named: bool,
        source: std::io::Error,
    },
    /// The config file is not TOML.
    #[error("`{}:{line}` is not TOML: {reason}", path.display())]
    Syntax { path: PathBuf, line: usize, reason: String },
    /// The config file has a key that means nothing.
    #[error("`{}:{line}`: unknown setting `{key}`{hint}", path.display())]
    UnknownKey {
        path: PathBuf,
        line: usize,
        key: String,
        hint: String,
    },
    /// A value that the setting does not accept.
    #[error("{place} is `{value}`: {reason}")]
    Value {
        /// Where it comes from, as the beginning of a sentence.
        place: String,
        value: String,
        /// What was expected.
        reason: String,
    },
    /// A name that is no setting's.
    #[error("there is no setting `{name}`{hint}")]
    NoSetting { name: String, hint: String },
    /// A config file that is not to be replaced.
    #[error("the config file `{}` exists already: change it with `deepforcing config set KEY VALUE`", path.display())]
    Exists { path: PathBuf },
    /// The config file could not be written.
    #[error("cannot write the config file `{}`: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    /// A variable that is not text.
    #[error("{name} is not valid UTF-8: write its value as UTF-8 text")]
    NotUtf8 { name: String },
}

impl ConfigError {
    /// Whether the fault lies in a setting, not in the disk.
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            Self::Read { named: false, .. } | Self::Exists { .. } | Self::Write { .. }
        )
    }
}

fn by_variable(named: bool) -> &'static str {
    if named { " that DEEPFORCING_CONFIG names" } else { "" }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Origin {
    /// The command line.
    Flag { name: String },
    /// An environment variable.
    Environment { name: String },
    /// The config file.
    File { path: PathBuf, line: usize },
    /// A preset, by name or path.
    Preset {
        name: String,
        /// The preset that it has the value from, where it does not say it itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        base: Option<String>,
    },
    /// Nothing sets it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag { name } => write!(f, "flag {name}"),
            Self::Environment { name } => write!(f, "variable {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Preset { name, base: None } => write!(f, "preset {name}"),
            Self::Preset { name, base: Some(base) } => write!(f, "preset {name}, from its base {base}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setted<T> {
    pub value: T,
    pub origin: Origin,
}

/// Where the values of one layer come from.
#[derive(Debug, Clone)]
enum Source {
    Flags,
    Environment,
    File {
        path: PathBuf,
        lines: BTreeMap<&'static str, usize>,
    },
    Preset {
        name: String,
        /// Where the preset has a setting from, by the setting's name; see [`Preset::base_of`].
        bases: BTreeMap<&'static str, String>,
        /// See [`Preset::sized_by`].
        sized_by: Option<String>,
    },
}

impl Source {
    fn origin(&self, key: &Key) -> Origin {
        match self {
            Self::Flags => Origin::Flag { name: key.flag() },
            Self::Environment => Origin::Environment {
                name: variable(key.name),
            },
            Self::File { path, lines } => Origin::File {
                path: path.clone(),
                line: lines.get(key.name).copied().unwrap_or(1),
            },
            Self::Preset { name, bases, sized_by } => Origin::Preset {
                name: sized_by
                    .as_ref()
                    .filter(|_| matches!(key.name, "size" | "fps"))
                    .unwrap_or(name)
                    .clone(),
                base: bases.get(key.name).cloned(),
            },
        }
    }
}

/// What command line, environment and config file say, strongest first.
#[derive(Debug, Clone)]
pub struct Layers {
    layers: Vec<(Layer, Source)>,
    /// Where the config file is or would be; absent without a home directory.
    pub file: Option<ConfigFile>,
    /// What the user should be told: variables that look like settings and are none.
    pub warnings: Vec<String>,
}

impl Layers {
    /// Reads environment and config file, under what was given on the command line.
    ///
    /// # Errors
    /// The first value that cannot be used; the message says where it stands and what was expected.
    pub fn load(flags: Layer, environment: &Environment) -> Result<Self, ConfigError> {
        let (variables, warnings) = environment.layer()?;
        let mut layers = vec![(flags, Source::Flags), (variables, Source::Environment)];
        let file = ConfigFile::locate(environment)?;
        if let Some(file) = &file
            && let Some((layer, lines)) = file.read()?
        {
            let path = file.path.clone();
            layers.push((layer, Source::File { path, lines }));
        }
        Ok(Self { layers, file, warnings })
    }

    /// The same with `layer` over all others, as if it had been typed.
    #[must_use]
    pub fn with(&self, layer: Layer) -> Self {
        let mut layers = self.clone();
        layers.layers.insert(0, (layer, Source::Flags));
        layers
    }

    /// The same with `layer`, which `path` holds, under the command line and over all else.
    #[must_use]
    pub fn under_flags(mut self, layer: Layer, path: PathBuf) -> Self {
        let lines = BTreeMap::new();
        self.layers.insert(1, (layer, Source::File { path, lines }));
        self
    }

    /// Files asked for in place of the model's: no preset names them.
    pub fn own_files(&self) -> GivenPaths {
        let path = |get: fn(&Layer) -> Option<&String>| self.first(|layer| get(layer).map(PathBuf::from));
        GivenPaths {
            transformer: path(|layer| layer.transformer.as_ref()),
            vae: path(|layer| layer.vae_file.as_ref()),
            text_encoder: path(|layer| layer.text_encoder.as_ref()),
            tokenizer: path(|layer| layer.tokenizer.as_ref()),
        }
    }

    /// The model asked for: a name, a file, a folder or a repository.
    pub fn model(&self) -> Option<String> {
        self.first(|layer| layer.model.clone())
    }

    /// The preset asked for: a name or a TOML file.
    pub fn preset(&self) -> Option<String> {
        self.first(|layer| layer.preset.clone())
    }

    /// The decoder: no preset chooses it.
    pub fn vae(&self) -> DecoderKind {
        self.first(|layer| layer.vae).unwrap_or_default()
    }

    /// The number of threads, if one is set: no preset does.
    pub fn threads(&self) -> Option<usize> {
        self.first(|layer| layer.threads)
    }

    /// Device and number format asked for: no preset chooses them.
    pub fn device(&self) -> (DeviceChoice, DtypeChoice) {
        let device = self.first(|layer| layer.device).unwrap_or_default();
        (device, self.first(|layer| layer.dtype).unwrap_or_default())
    }

    fn first<T>(&self, get: impl Fn(&Layer) -> Option<T>) -> Option<T> {
        self.layers.iter().find_map(|(layer, _)| get(layer))
    }

    /// Every setting with its origin; what no layer sets is the preset's, or else the built-in default.
    pub fn resolve(&self, preset_name: &str, preset: &Preset) -> Settings {
        let name = preset_name.to_owned();
        let mut layers = self.layers.clone();
        let bases = Key::all()
            .iter()
            .filter_map(|key| Some((key.name, base_of(preset, key.name)?.to_owned())))
            .collect();
        let sized_by = preset.sized_by().map(str::to_owned);
        layers.push((Layer::of_preset(preset), Source::Preset { name, bases, sized_by }));
        let mut settings = Settings::resolve(&layers);
        settings.preset.value.get_or_insert_with(|| preset_name.into());
        settings
    }
}

/// The base that a preset has a setting from; `None` where the preset says it itself.
fn base_of<'a>(preset: &'a Preset, setting: &str) -> Option<&'a str> {
    match setting {
        // One setting out of two values: it is the preset's own if one of them is.
        "size" => preset.base_of("video.width").and(preset.base_of("video.height")),
        "fps" => preset.base_of("video.fps"),
        place => preset.base_of(place),
    }
}

impl Layer {
    /// Settings by name, with their values as text.
    ///
    /// # Errors
    /// The first value that its setting does not accept; unknown names are ignored.
    pub fn of_values(values: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut layer = Self::default();
        for (name, text) in values {
            let Some(key) = Key::find(name) else { continue };
            layer.set(key, text).map_err(|reason| ConfigError::Value {
                place: key.flag(),
                value: text.clone(),
                reason,
            })?;
        }
        Ok(layer)
    }

    /// The settings that a preset holds.
    pub fn of_preset(preset: &Preset) -> Self {
        let (video, cache, sampler) = (preset.video, preset.cache, &preset.sampler);
        Self {
            size: Some(PictureSize {
                width: video.width,
                height: video.height,
            }),
            fps: Some(video.fps),
            cache: cache.into(),
            sampler_steps: Some(sampler.steps.clone()),
            sampler_shift: Some(sampler.shift),
            on_switch: Some(preset.on_switch),
            recache_sink: preset.recache_sink,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests;
