//! What the files of a model are for, and which of them a run needs.

use serde::{Deserialize, Serialize};

/// Which decoder turns latents into pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecoderKind {
    /// The Wan 2.1 VAE.
    #[default]
    Wan,
    /// TAEW2.1: much faster, a little less sharp.
    Tae,
}

impl DecoderKind {
    /// The names of all decoders.
    pub const NAMES: [&str; 2] = [Self::Wan.name(), Self::Tae.name()];

    /// As flags, settings and recipes name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wan => "wan",
            Self::Tae => "tae",
        }
    }

    /// The decoder of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Wan, Self::Tae].into_iter().find(|kind| kind.name() == name)
    }
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Transformer,
    /// `config.json`.
    Config,
    Vae,
    TinyDecoder,
    TextEncoder,
    Tokenizer,
}

impl Role {
    /// As in presets and recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transformer => "transformer",
            Self::Config => "config",
            Self::Vae => "vae",
            Self::TinyDecoder => "tiny-decoder",
            Self::TextEncoder => "text-encoder",
            Self::Tokenizer => "tokenizer",
        }
    }
}

/// Which of a model's files a run needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    pub decoder: DecoderKind,
    /// Whether the video starts from an image or a clip, which the encoder of the Wan VAE turns into latents.
    pub encoder: bool,
}
