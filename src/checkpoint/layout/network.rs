//! The networks whose weights people have as files, and where in a file each of them is.

use std::fmt;

use super::names::Naming;

/// A network that a file can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Network {
    Transformer,
    TextEncoder,
    Vae,
    TinyDecoder,
}

/// What there is to know about the files of a network.
struct Facts {
    /// As in a sentence, and as `looks_like` says it.
    words: &'static str,
    /// As refusals say what was expected.
    kind: &'static str,
    /// A tensor that every file of it has, under the names of all tools: what stands before it in a file is the prefix.
    anchors: &'static [&'static str],
    /// Names other than the model's own, the first that a file has the telling tensor of.
    namings: &'static [Naming],
}

impl Network {
    /// Every network.
    pub const ALL: [Self; 4] = [Self::Transformer, Self::TextEncoder, Self::Vae, Self::TinyDecoder];

    fn facts(self) -> Facts {
        match self {
            Self::Transformer => Facts {
                words: "a Wan diffusion model",
                kind: "a Wan transformer",
                anchors: &["patch_embedding.weight"],
                namings: &[Naming::DiffusersTransformer],
            },
            Self::TextEncoder => Facts {
                words: "a UMT5 text encoder",
                kind: "a UMT5 encoder",
                anchors: &[
                    "token_embedding.weight",
                    "shared.weight",
                    "encoder.embed_tokens.weight",
                    "token_embd.weight",
                ],
                namings: &[Naming::HuggingFace, Naming::LlamaCpp],
            },
            Self::Vae => Facts {
                words: "a Wan VAE",
                kind: "a video autoencoder",
                anchors: &["decoder.conv1.weight", "decoder.conv_in.weight"],
                namings: &[Naming::DiffusersVae],
            },
            Self::TinyDecoder => Facts {
                words: "a tiny autoencoder (TAEHV)",
                kind: "a video autoencoder",
                anchors: &["decoder.1.weight"],
                namings: &[],
            },
        }
    }

    /// As in a sentence: `a Wan VAE`.
    pub fn words(self) -> &'static str {
        self.facts().words
    }

    /// As refusals say what was expected: `a video autoencoder`.
    pub(super) fn kind(self) -> &'static str {
        self.facts().kind
    }

    /// Names of a tensor that every file of it has.
    pub(super) fn anchors(self) -> &'static [&'static str] {
        self.facts().anchors
    }

    /// Namings that its files can have beside its own.
    pub(super) fn namings(self) -> &'static [Naming] {
        self.facts().namings
    }

    /// Whether a tensor of this name in a file belongs to another network: what tools put before the names of each where
    /// several are in a file.
    pub(super) fn is_of_another(self, name: &str) -> bool {
        let owner = OWN_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
        owner.is_some_and(|(_, owners)| !owners.contains(&self))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// Prefixes that mean a network wherever they stand: those of checkpoints with several networks.
const OWN_PREFIXES: &[(&str, &[Network])] = &[
    ("model.diffusion_model.", &[Network::Transformer]),
    ("text_encoders.", &[Network::TextEncoder]),
    ("cond_stage_model.", &[Network::TextEncoder]),
    ("conditioner.", &[Network::TextEncoder]),
    ("vae.", &[Network::Vae, Network::TinyDecoder]),
    ("first_stage_model.", &[Network::Vae, Network::TinyDecoder]),
    // A CLIP vision encoder, which has a patch embedding as well.
    ("visual.", &[]),
];
