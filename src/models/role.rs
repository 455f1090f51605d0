//! What the files of a model are for, and which of them a run needs.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::text::nearest;

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

    /// The file that holds it.
    pub fn role(self) -> Role {
        match self {
            Self::Wan => Role::Vae,
            Self::Tae => Role::TinyDecoder,
        }
    }
}

/// What a run asks of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    pub decoder: DecoderKind,
    /// Whether the video starts from an image or a clip, which the encoder of the Wan VAE turns into latents.
    pub encoder: bool,
    /// Whether the model reads an image in place of prompts. Those who know its files set it.
    pub image: bool,
}

/// When a run uses a kind of file.
#[derive(Clone, Copy)]
enum Demand {
    /// No run can do without.
    Always,
    /// It is used where it is there.
    WhereThere,
    /// Models that read prompts cannot do without; those that read an image in place of them have none.
    WithPrompts,
    /// The presets that name it cannot do without; others have none.
    WhereNamed,
    /// These runs cannot do without; others leave it alone.
    When(fn(Needs) -> bool),
}

/// What there is to know about a kind of file.
struct Kind {
    /// As in presets, recipes and the output of commands.
    name: &'static str,
    /// As in a sentence.
    words: &'static str,
    demand: Demand,
    /// Names that it is looked for under, relative to a model's folder, where a preset gives no others.
    published: &'static [&'static str],
}

/// Makes [`Role`] from one table.
macro_rules! roles {
    ($($(#[$doc:meta])* $role:ident {
        name: $name:literal, words: $words:literal, demand: $demand:expr, published: $published:expr,
    })+) => {
        /// What a file is for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Role { $($(#[$doc])* $role,)+ }

        impl Role {
            /// Every kind of file, in the order in which files are listed.
            pub const ALL: &'static [Self] = &[$(Self::$role),+];

            fn kind(self) -> Kind {
                match self {
                    $(Self::$role => Kind { name: $name, words: $words, demand: $demand, published: &$published },)+
                }
            }
        }
    };
}

// The table of kinds of files. A new kind is one entry here, and the code that reads it.
roles! {
    Transformer {
        name: "transformer",
        words: "the transformer",
        demand: Demand::Always,
        published: ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json"],
    }
    /// `config.json`; without it the transformer is of the published sizes.
    Config {
        name: "config",
        words: "the config of the transformer",
        demand: Demand::WhereThere,
        published: ["config.json"],
    }
    /// The Wan VAE: a decoder, and the encoder that starts from pictures need.
    Vae {
        name: "vae",
        words: "the VAE",
        demand: Demand::When(|needs| needs.encoder || needs.image || needs.decoder == DecoderKind::Wan),
        published: ["Wan2.1_VAE.pth", "Wan2.1_VAE.safetensors"],
    }
    TinyDecoder {
        name: "tiny-decoder",
        words: "the tiny decoder",
        demand: Demand::When(|needs| needs.decoder == DecoderKind::Tae),
        published: ["taew2_1.pth", "taew2_1.safetensors"],
    }
    TextEncoder {
        name: "text-encoder",
        words: "the text encoder",
        demand: Demand::WithPrompts,
        published: ["models_t5_umt5-xxl-enc-bf16.pth", "models_t5_umt5-xxl-enc-bf16.safetensors"],
    }
    Tokenizer {
        name: "tokenizer",
        words: "the tokenizer",
        demand: Demand::WithPrompts,
        published: ["google/umt5-xxl/tokenizer.json", "tokenizer.json"],
    }
    /// The vision tower of CLIP, which reads the image that a world begins with. A model that has it reads no prompts.
    ImageEncoder {
        name: "image-encoder",
        words: "the image encoder",
        demand: Demand::WhereNamed,
        published: [],
    }
    /// A LoRA that belongs to the model: it is merged into the transformer.
    Lora {
        name: "lora",
        words: "the LoRA",
        demand: Demand::WhereNamed,
        published: [],
    }
}

impl Role {
    /// As in presets, recipes and the output of commands: `text-encoder`.
    pub fn name(self) -> &'static str {
        self.kind().name
    }

    /// As in a sentence: `the text encoder`.
    pub fn words(self) -> &'static str {
        self.kind().words
    }

    /// Names that the file is looked for under where a preset gives no others; none for what a preset must name.
    pub fn published_names(self) -> &'static [&'static str] {
        self.kind().published
    }

    /// The role with this [name](Role::name).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.name() == name)
    }

    /// Whether a run with these needs reads the file if it is there.
    pub fn is_used(self, needs: Needs) -> bool {
        match self.kind().demand {
            Demand::Always | Demand::WhereThere | Demand::WhereNamed => true,
            Demand::WithPrompts => !needs.image,
            Demand::When(needed) => needed(needs),
        }
    }

    /// Whether a run with these needs cannot do without the file.
    pub fn is_required(self, needs: Needs) -> bool {
        self.is_used(needs) && !self.is_optional() && !self.is_named_by_presets()
    }

    /// Whether every run can do without the file, and uses it where it is there.
    pub fn is_optional(self) -> bool {
        matches!(self.kind().demand, Demand::WhereThere)
    }

    /// Whether only models whose preset names the file have it; their runs cannot do without.
    pub fn is_named_by_presets(self) -> bool {
        matches!(self.kind().demand, Demand::WhereNamed)
    }

    /// Whether no run can do without the file, of a model that reads an `image` in place of prompts, or prompts.
    pub fn is_in_every_model(self, image: bool) -> bool {
        match self.kind().demand {
            Demand::Always => true,
            Demand::WithPrompts => !image,
            Demand::WhereThere | Demand::WhereNamed | Demand::When(_) => false,
        }
    }

    /// Reads a name; `others` are words that could have stood in its place.
    pub(super) fn read<E: de::Error>(name: &str, others: &[&'static str]) -> Result<Self, E> {
        Self::named(name).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|role| role.name()).collect();
            let hint = nearest::hint(name, known.into_iter().chain(others.iter().copied()));
            E::custom(format!("unknown kind of file `{name}`{hint}"))
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(deserializer)?, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_file_has_a_name_of_its_own_and_is_looked_for() {
        for role in Role::ALL {
            assert_eq!(Role::named(role.name()), Some(*role));
            assert_eq!(role.published_names().is_empty(), role.is_named_by_presets(), "{role}");
            let written = serde_json::to_string(role).unwrap();
            assert_eq!(serde_json::from_str::<Role>(&written).unwrap(), *role);
        }
        let error = serde_json::from_str::<Role>("\"tokenzier\"").unwrap_err().to_string();
        assert!(error.contains("did you mean `tokenizer`?"), "{error}");
    }

    #[test]
    fn a_run_reads_what_it_needs_and_the_config_where_it_is_there() {
        let needs = |decoder: DecoderKind, encoder: bool| Needs {
            decoder,
            encoder,
            image: false,
        };
        let world = Needs {
            image: true,
            ..needs(DecoderKind::Tae, false)
        };
        for (needs, vae, tiny) in [
            (needs(DecoderKind::Wan, false), true, false),
            (needs(DecoderKind::Wan, true), true, false),
            (needs(DecoderKind::Tae, false), false, true),
            (needs(DecoderKind::Tae, true), true, true),
            (world, true, true),
        ] {
            for role in Role::ALL {
                let (used, required) = match role {
                    Role::Vae => (vae, vae),
                    Role::TinyDecoder => (tiny, tiny),
                    Role::Config | Role::Lora | Role::ImageEncoder => (true, false),
                    Role::TextEncoder | Role::Tokenizer => (!needs.image, !needs.image),
                    _ => (true, true),
                };
                assert_eq!(
                    (role.is_used(needs), role.is_required(needs)),
                    (used, required),
                    "{role}"
                );
            }
            assert!(needs.decoder.role().is_required(needs));
        }
    }
}
