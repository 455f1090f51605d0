//! What a setting of each type accepts, and how it is written.

use std::{fmt, str::FromStr};

use serde_json::json;

use super::Key;
use crate::{
    cache::RecacheSink,
    checkpoint::lora::LoraChoice,
    device::{DeviceChoice, DtypeChoice},
    memory::ByteSize,
    models::DecoderKind,
    rollout::SwitchRule,
    rollout::request::PictureSize,
    rollout::sampler::SamplerSettings,
    text::nearest::nearest,
    video::{self, EncoderChoice},
};

/// How a value is written in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// `"text"`.
    Text,
    /// `7` or `0.5`.
    Number,
    /// `[1000, 750]`, or `"1000,750"`.
    List,
    /// `["text", "text"]`, or `"text,text"`.
    Texts,
    /// `true`, `false` or `"text"`.
    Choice,
}

impl Notation {
    /// What to write, for a message.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Text => "text in quotes",
            Self::Number => "a number without quotes",
            Self::List => "a list of whole numbers, for example [1000, 750, 500, 250]",
            Self::Texts => "text in quotes, or a list of it, for example [\"a\", \"b\"]",
            Self::Choice => "true, false or text in quotes",
        }
    }
}

/// A type of settings.
pub trait Value: Sized {
    const NOTATION: Notation;

    /// The value that the text means.
    ///
    /// # Errors
    /// What was expected.
    fn from_text(text: &str, key: &Key) -> Result<Self, String>;

    fn to_text(&self) -> String;

    fn to_json(&self) -> serde_json::Value;
}

/// LoRAs that are merged into a model, each with its strength.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loras(pub Vec<LoraChoice>);

impl Value for Loras {
    const NOTATION: Notation = Notation::Texts;

    /// Files are joined by commas; one whose name has a comma is given with the flag.
    fn from_text(text: &str, _: &Key) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let loras = text.split(',').map(|lora| lora.trim().parse());
        loras.collect::<Result<_, _>>().map(Self)
    }

    fn to_text(&self) -> String {
        let loras: Vec<_> = self.0.iter().map(LoraChoice::to_string).collect();
        loras.join(",")
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self.0.iter().map(LoraChoice::to_string).collect::<Vec<_>>())
    }
}

/// When `--preview` shows pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PreviewMode {
    #[default]
    Off,
    /// In terminals that show images.
    Auto,
    /// As coloured half blocks, in any terminal with colours.
    Blocks,
}

impl PreviewMode {
    /// Names accepted on a command line.
    pub const NAMES: &'static [&'static str] = &["auto", "blocks", "off"];
}

impl FromStr for PreviewMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" | "true" | "1" => Ok(Self::Auto),
            "blocks" => Ok(Self::Blocks),
            "off" | "false" | "0" => Ok(Self::Off),
            _ => Err(unknown_word(text, Self::NAMES)),
        }
    }
}

impl fmt::Display for PreviewMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Blocks => "blocks",
            Self::Off => "off",
        })
    }
}

pub(super) fn unknown_word(text: &str, known: &[&str]) -> String {
    let hint = nearest(text, known.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
    format!("expected one of {}{}", known.join(", "), hint.unwrap_or_default())
}

impl Value for String {
    const NOTATION: Notation = Notation::Text;

    fn from_text(text: &str, _: &Key) -> Result<Self, String> {
        match text.trim() {
            "" => Err("expected a name or a path".into()),
            _ => Ok(text.into()),
        }
    }

    fn to_text(&self) -> String {
        self.clone()
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self)
    }
}

/// Whole numbers in the range of their setting.
macro_rules! whole_numbers {
    ($($type:ty),+) => {$(
        impl Value for $type {
            const NOTATION: Notation = Notation::Number;

            fn from_text(text: &str, key: &Key) -> Result<Self, String> {
                let (least, most) = (key.range.0, key.range.1.min(Self::MAX as u64));
                let number = text.trim().parse::<Self>().ok();
                number
                    .filter(|number| (least..=most).contains(&(*number as u64)))
                    .ok_or_else(|| format!("expected a whole number from {least} to {most}"))
            }

            fn to_text(&self) -> String {
                self.to_string()
            }

            fn to_json(&self) -> serde_json::Value {
                json!(self)
            }
        }
    )+};
}

whole_numbers!(u64, usize, u32, u8);

/// Numbers above 0.
macro_rules! positive_numbers {
    ($($type:ty),+) => {$(
        impl Value for $type {
            const NOTATION: Notation = Notation::Number;

            fn from_text(text: &str, _: &Key) -> Result<Self, String> {
                match text.trim().parse::<Self>() {
                    Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
                    _ => Err("expected a number above 0".into()),
                }
            }

            fn to_text(&self) -> String {
                self.to_string()
            }

            fn to_json(&self) -> serde_json::Value {
                // The shortest decimal form: an f32 widened would show digits that nobody wrote.
                serde_json::from_str(&self.to_string()).unwrap_or_else(|_| json!(self))
            }
        }
    )+};
}

positive_numbers!(f64, f32);

/// Words of a fixed list, in the form that the type itself prints.
macro_rules! words {
    ($($type:ty: $notation:ident, $known:expr;)+) => {$(
        impl Value for $type {
            const NOTATION: Notation = Notation::$notation;

            fn from_text(text: &str, _: &Key) -> Result<Self, String> {
                text.trim().parse::<Self>().map_err(|_| unknown_word(text, $known))
            }

            fn to_text(&self) -> String {
                self.to_string()
            }

            fn to_json(&self) -> serde_json::Value {
                json!(self.to_string())
            }
        }
    )+};
}

words! {
    PreviewMode: Choice, Self::NAMES;
    DeviceChoice: Text, Self::NAMES;
    DtypeChoice: Text, Self::NAMES;
    EncoderChoice: Text, Self::NAMES;
    SwitchRule: Text, Self::NAMES;
    RecacheSink: Text, Self::NAMES;
    video::Preset: Text, &video::Preset::ALL.map(Self::as_str);
}

impl Value for ByteSize {
    const NOTATION: Notation = Notation::Text;

    fn from_text(text: &str, _: &Key) -> Result<Self, String> {
        text.parse()
    }

    fn to_text(&self) -> String {
        self.to_string()
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self.to_string())
    }
}

impl Value for DecoderKind {
    const NOTATION: Notation = Notation::Text;

    fn from_text(text: &str, _: &Key) -> Result<Self, String> {
        Self::of_name(text.trim()).ok_or_else(|| unknown_word(text, &Self::NAMES))
    }

    fn to_text(&self) -> String {
        self.name().into()
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self.to_text())
    }
}

impl Value for PictureSize {
    const NOTATION: Notation = Notation::Text;

    fn from_text(text: &str, _: &Key) -> Result<Self, String> {
        let size = text.trim().parse::<Self>()?;
        size.checked().map_err(|error| error.to_string())
    }

    fn to_text(&self) -> String {
        format!("{}x{}", self.width, self.height)
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self.to_text())
    }
}

impl Value for Vec<u32> {
    const NOTATION: Notation = Notation::List;

    fn from_text(text: &str, _: &Key) -> Result<Self, String> {
        let steps = text.split(',').map(|step| step.trim().parse::<u32>());
        let steps = steps
            .collect::<Result<Self, _>>()
            .map_err(|_| "expected whole numbers joined by commas, for example 1000,750,500,250")?;
        let sampler = SamplerSettings {
            steps,
            ..SamplerSettings::default()
        };
        sampler.validate().map_err(|error| error.to_string())?;
        Ok(sampler.steps)
    }

    fn to_text(&self) -> String {
        let steps: Vec<_> = self.iter().map(u32::to_string).collect();
        steps.join(",")
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self)
    }
}
