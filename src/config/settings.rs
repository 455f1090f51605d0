//! The table of settings. A new setting is one line here.

use std::sync::LazyLock;

use serde::Serialize;

use super::{
    Origin, Setted, Source,
    cache::{self, SettedCache},
    value::{Loras, Notation, PreviewMode, Value},
};
use crate::{
    cache::{CacheChanges, CacheSettings, Parameter, PolicyName, RecacheSink},
    device::{DeviceChoice, DeviceError, DtypeChoice, Selection},
    memory::ByteSize,
    models::DecoderKind,
    rollout::request::PictureSize,
    rollout::sampler::SamplerSettings,
    rollout::{OnSwitch, SwitchRule},
    video::{self, EncoderChoice},
};

/// The name of a setting, as it stands in the config file: `seed`, `cache.sink`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub name: &'static str,
    /// What it means, in a few words.
    pub about: &'static str,
    /// Least and greatest value, for whole numbers.
    pub range: (u64, u64),
}

impl Key {
    /// The flag that sets it: the last part of the name.
    pub fn flag(&self) -> String {
        let last = self.name.rsplit('.').next().unwrap_or(self.name);
        format!("--{last}")
    }
}

/// A setting as people and programs see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    pub key: &'static str,
    /// Absent when nothing sets it and no default stands in for it.
    pub value: Option<serde_json::Value>,
    /// The value as it would be written in the environment.
    #[serde(skip)]
    pub text: Option<String>,
    pub origin: Origin,
}

/// Makes [`Layer`], [`Settings`] and [`Key::all`] from one table. `required` settings have a default; `optional` ones
/// may stay absent. The cache's parameters, which have a table of their own ([`Parameter::ALL`]), stand where `cache`
/// does: behind `then`.
macro_rules! settings {
    (
        optional { $($(#[$odoc:meta])* $ofield:ident: $otype:ty = $okey:literal $(in $orange:expr)?, $oabout:literal;)+ }
        $(required { $($(#[$doc:meta])* $field:ident: $type:ty = $key:literal $(in $range:expr)?, $about:literal, $default:expr;)+ }
        $(then $cache:ident)?)+
    ) => {
        /// What one source says: nothing, some or all of the settings.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Layer {
            $($(#[$odoc])* pub $ofield: Option<$otype>,)+
            $($($(#[$doc])* pub $field: Option<$type>,)+ $(pub $cache: CacheChanges,)?)+
        }

        /// Every setting with its value and its origin.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            $($(#[$odoc])* pub $ofield: Setted<Option<$otype>>,)+
            $($($(#[$doc])* pub $field: Setted<$type>,)+ $(pub $cache: SettedCache,)?)+
        }

        fn keys() -> Vec<Key> {
            let mut keys = vec![$(Key { name: $okey, about: $oabout, range: range(&[$($orange)?]) },)+];
            $(
                keys.extend([$(Key { name: $key, about: $about, range: range(&[$($range)?]) },)+]);
                $(keys.extend($cache::keys());)?
            )+
            keys
        }

        impl Layer {
            /// Sets a setting from text.
            ///
            /// # Errors
            /// What was expected instead of the text.
            pub(super) fn set(&mut self, key: &Key, text: &str) -> Result<(), String> {
                if let Some(parameter) = key.cache_parameter() {
                    return cache::read(&mut self.cache, parameter, text);
                }
                match key.name {
                    $($okey => self.$ofield = Some(<$otype>::from_text(text, key)?),)+
                    $($($key => self.$field = Some(<$type>::from_text(text, key)?),)+)+
                    _ => {}
                }
                Ok(())
            }

            /// A value as the setting itself writes it.
            ///
            /// # Errors
            /// What was expected instead of the text.
            pub(super) fn normal(key: &Key, text: &str) -> Result<String, String> {
                if let Some(parameter) = key.cache_parameter() {
                    return cache::normal(parameter, text);
                }
                match key.name {
                    $($okey => Ok(<$otype>::from_text(text, key)?.to_text()),)+
                    $($($key => Ok(<$type>::from_text(text, key)?.to_text()),)+)+
                    _ => Ok(text.into()),
                }
            }

            /// How a setting is written in TOML.
            pub(super) fn notation(key: &Key) -> Notation {
                if let Some(parameter) = key.cache_parameter() {
                    return cache::notation(parameter);
                }
                match key.name {
                    $($okey => <$otype>::NOTATION,)+
                    $($($key => <$type>::NOTATION,)+)+
                    _ => Notation::Text,
                }
            }
        }

        impl Settings {
            pub(super) fn resolve(layers: &[(Layer, Source)]) -> Self {
                Self {
                    $($ofield: match first(layers, $okey, |layer| layer.$ofield.clone()) {
                        Some(Setted { value, origin }) => Setted { value: Some(value), origin },
                        None => Setted { value: None, origin: Origin::Default },
                    },)+
                    $(
                        $($field: first(layers, $key, |layer| layer.$field.clone())
                            .unwrap_or_else(|| Setted { value: $default, origin: Origin::Default }),)+
                        $($cache: SettedCache::resolve(layers),)?
                    )+
                }
            }

            /// The settings one by one, for people and programs to read.
            pub fn entries(&self) -> Vec<Entry> {
                let mut entries = vec![
                    $(Entry {
                        key: $okey,
                        value: self.$ofield.value.as_ref().map(Value::to_json),
                        text: self.$ofield.value.as_ref().map(Value::to_text),
                        origin: self.$ofield.origin.clone(),
                    },)+
                ];
                $(
                    entries.extend([
                        $(Entry {
                            key: $key,
                            value: Some(self.$field.value.to_json()),
                            text: Some(self.$field.value.to_text()),
                            origin: self.$field.origin.clone(),
                        },)+
                    ]);
                    $(entries.extend(self.$cache.entries());)?
                )+
                entries
            }
        }
    };
}

pub(super) const fn range(given: &[(u64, u64)]) -> (u64, u64) {
    match given {
        [range, ..] => *range,
        [] => (0, u64::MAX),
    }
}

fn first<T>(layers: &[(Layer, Source)], name: &str, get: impl Fn(&Layer) -> Option<T>) -> Option<Setted<T>> {
    let (value, source) = layers
        .iter()
        .find_map(|(layer, source)| get(layer).map(|value| (value, source)))?;
    let key = Key::find(name)?;
    Some(Setted {
        value,
        origin: source.origin(key),
    })
}

impl Key {
    /// A value as the setting itself writes it: `007` is `7`.
    ///
    /// # Errors
    /// What was expected instead of the text.
    pub fn normal(&self, text: &str) -> Result<String, String> {
        Layer::normal(self, text)
    }

    /// Whether a value is a list itself.
    pub fn is_list(&self) -> bool {
        Layer::notation(self) == Notation::List
    }

    /// Every setting.
    pub fn all() -> &'static [Self] {
        static KEYS: LazyLock<Vec<Key>> = LazyLock::new(keys);
        &KEYS
    }

    /// The setting of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|key| key.name == name)
    }

    /// The parameter of the cache that this is, if it is one.
    pub fn cache_parameter(&self) -> Option<&'static Parameter> {
        Parameter::of_key(self.name)
    }
}

settings! {
    optional {
        /// A preset name, a file, a folder of model files or a repository.
        model: String = "model", "model name, file, folder or repository";
        /// A preset name or a TOML file.
        preset: String = "preset", "preset name or .toml file";
        /// A file of weights in place of the model's transformer.
        transformer: String = "transformer", "file of the transformer, in place of the model's";
        /// The same of the decoder.
        vae_file: String = "vae-file", "file of the decoder, in place of the model's";
        /// The same of the text encoder.
        text_encoder: String = "text-encoder", "file of the text encoder, in place of the model's";
        /// The same of the tokenizer.
        tokenizer: String = "tokenizer", "file of the tokenizer, in place of the model's";
        /// Threads to compute with; absent: one per core.
        threads: usize = "threads" in (1, 4096), "threads to compute with";
        /// Most memory of the GPU that a video may take; absent: what is free.
        max_vram: ByteSize = "max-vram", "most memory of the GPU to use";
        /// What the sink becomes where the cache is encoded again; absent: as the policy wants it.
        recache_sink: RecacheSink = "recache-sink", "what the sink becomes where the cache is encoded again";
    }
    required {
        /// Where networks are computed.
        device: DeviceChoice = "device", "where networks are computed", DeviceChoice::Auto;
        /// Number format of the networks.
        dtype: DtypeChoice = "dtype", "number format of the networks", DtypeChoice::Auto;
        /// Decoder of the latents.
        vae: DecoderKind = "vae", "decoder of the latents", DecoderKind::default();
        /// LoRAs that are merged into the model beside its own.
        lora: Loras = "lora", "LoRAs merged into the model, FILE[:STRENGTH]", Loras::default();
        /// Length of the video.
        seconds: f64 = "seconds", "length of the video", 5.0;
        /// Seed of the noise.
        seed: u64 = "seed", "seed of the noise", 0;
        /// What becomes of the cache where a prompt takes over.
        on_switch: SwitchRule = "on-switch", "what becomes of the cache at a switch", SwitchRule::Keep;
        /// Picture size in pixels.
        size: PictureSize = "size", "picture size in pixels", PictureSize { width: 832, height: 480 };
        /// Pictures per second.
        fps: u32 = "fps" in (1, 240), "pictures per second", 16;
        /// Quality of H.264.
        crf: u8 = "crf" in (0, 51), "quality of H.264, 0 (lossless) to 51", 18;
        /// Speed of the video encoder against file size.
        encoder_preset: video::Preset = "encoder-preset", "speed of the video encoder", video::Preset::default();
        /// Encoder of mp4 and webm.
        encoder: EncoderChoice = "encoder", "video encoder, by FFmpeg's name", EncoderChoice::Auto;
        /// Whether pictures are shown while they are made.
        preview: PreviewMode = "preview", "pictures shown in the terminal", PreviewMode::Off;
    } then cache
    required {
        sampler_steps: Vec<u32> = "sampler.steps", "denoising steps", SamplerSettings::default().steps;
        sampler_shift: f32 = "sampler.shift", "timestep shift", SamplerSettings::default().shift;
    }
}

impl Settings {
    /// The device, as far as this machine has it.
    ///
    /// # Errors
    /// When what is asked for cannot be had.
    pub fn selection(&self) -> Result<Selection, DeviceError> {
        Selection::choose(self.device.value, self.dtype.value)
    }

    /// The cache settings.
    pub fn cache(&self) -> CacheSettings {
        self.cache.value
    }

    /// What becomes of the cache where a prompt takes over for which `rule` was asked for.
    pub fn on_switch(&self, rule: Option<SwitchRule>) -> OnSwitch {
        self.on_switch_under(self.cache().policy, rule)
    }

    /// The same under another policy.
    pub fn on_switch_under(&self, policy: PolicyName, rule: Option<SwitchRule>) -> OnSwitch {
        let sink = self.recache_sink.value;
        let rule = rule.unwrap_or(self.on_switch.value);
        rule.with_sink(sink.unwrap_or_else(|| policy.recache_sink()))
    }

    /// The preset's sampler with steps and shift of these settings.
    pub fn sampler(&self, preset: &SamplerSettings) -> SamplerSettings {
        SamplerSettings {
            steps: self.sampler_steps.value.clone(),
            shift: self.sampler_shift.value,
            ..preset.clone()
        }
    }
}
