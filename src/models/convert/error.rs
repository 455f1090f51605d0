//! What can be wrong with a conversion.

use std::path::PathBuf;

use crate::{
    checkpoint::{LORA, Network},
    hub::human_bytes,
};

/// Why a file cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The name of the new file.
    #[error("`{}` would be a safetensors file: give it a name that ends in .safetensors", path.display())]
    Ending { path: PathBuf },
    /// Something has the name of the new file.
    #[error("`{}` exists already: choose another name, or replace it with --overwrite", path.display())]
    Exists { path: PathBuf },
    /// The new file would be written over what it is made of.
    #[error("`{}` is read, so it cannot be written to; choose another name", path.display())]
    SameFile { path: PathBuf },
    /// No network is found in the file.
    #[error(
        "`{}` holds no network that is known (a Wan transformer, UMT5 text encoder, Wan VAE or tiny decoder){}",
        path.display(),
        match looks_like {
            Some(LORA) => "; it looks like a LoRA: give the model that it changes, and this file with --lora".into(),
            Some(what) => format!("; it looks like {what}"),
            None => String::new(),
        }
    )]
    NoNetwork {
        path: PathBuf,
        looks_like: Option<&'static str>,
    },
    /// Several networks are found in the file.
    #[error("`{}` holds several networks ({}): choose one with --network", path.display(), networks.join(", "))]
    Several { path: PathBuf, networks: Vec<&'static str> },
    /// A LoRA for something else than the transformer.
    #[error("--lora changes a transformer, and `{}` is {network}; leave it out", path.display())]
    LoraOfOther { path: PathBuf, network: Network },
    /// The disk is too full.
    #[error(
        "`{}` will have {}, and its disk has {} left; free some, or choose another place",
        path.display(), human_bytes(*needs), human_bytes(*free)
    )]
    Space { path: PathBuf, needs: u64, free: u64 },
    /// A file cannot be written.
    #[error("cannot write `{}`: {reason}", path.display())]
    Write { path: PathBuf, reason: String },
    /// A file cannot be read for its hash.
    #[error("cannot read `{}`: {reason}", path.display())]
    Hash { path: PathBuf, reason: String },
}

impl ConvertError {
    /// Whether the fault lies in what was asked for.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Ending { .. } | Self::Exists { .. } | Self::SameFile { .. } | Self::LoraOfOther { .. }
        )
    }
}
