//! Whether a transformer is a causal one, as far as files tell: causal and base models have the same tensors.

use std::path::Path;

use super::{ModelFiles, Role};
use crate::{
    Error, Result,
    checkpoint::{Checkpoint, Network},
    hub::file_hash::FileHashes,
    transformer::WanConfigFile,
};

/// What tells of a transformer whether it is causal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Causality {
    Causal {
        reason: String,
    },
    /// It was probably never made causal.
    Base {
        reason: String,
    },
    Unknown,
}

/// A published base model, by its file.
struct BaseFile {
    name: &'static str,
    bytes: u64,
    sha256: &'static str,
}

const BASE_FILES: &[BaseFile] = &[BaseFile {
    name: "Wan2.1-T2V-1.3B",
    bytes: 5_676_070_424,
    sha256: "96b6b242ca1c2f24e9d02cd6596066fab6d310e2d7538f33ae267cb18d957e8f",
}];

/// Beginnings of the names under which ComfyUI and others publish the base model, in small letters.
const BASE_NAMES: &[&str] = &[
    "wan2.1_t2v_1.3b",
    "wan2_1-t2v-1_3b",
    "wan2.1-t2v-1.3b",
    "wan2_1_t2v_1_3b",
];

/// State dicts that only training of causal models writes.
const TRAINED: &[&str] = &["generator_ema", "generator"];

impl ModelFiles {
    /// Whether the transformer is a causal one.
    ///
    /// # Errors
    /// [`Error::BaseModel`] for a published base model; also when a file cannot be read.
    pub fn causality(&self, hashes: &FileHashes) -> Result<Causality> {
        let path = self.required(Role::Transformer)?;
        let from_hub = self
            .sources
            .as_ref()
            .is_some_and(|sources| sources.of(Role::Transformer).is_some());
        if from_hub {
            return Ok(Causality::Unknown);
        }
        refuse_base(path, hashes)?;
        let checkpoint = Checkpoint::open_network(path, Network::Transformer, self.state_dict.as_deref())?;
        Ok(judge(path, checkpoint.state_dict(), &self.read_config()?))
    }
}

/// Refuses the files of published base models.
pub(super) fn refuse_base(path: &Path, hashes: &FileHashes) -> Result<()> {
    let unreadable = |error: std::io::Error| Error::ModelFileUnreadable {
        path: path.into(),
        reason: error.to_string(),
    };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    let Some(base) = BASE_FILES.iter().find(|base| base.bytes == bytes) else {
        return Ok(());
    };
    if hashes.sha256(path).map_err(unreadable)? == base.sha256 {
        return Err(Error::BaseModel {
            path: path.into(),
            name: base.name,
        });
    }
    Ok(())
}

/// Goes by the state dict, the configuration and, last, the name of the file.
pub(super) fn judge(path: &Path, state_dict: Option<&str>, config: &WanConfigFile) -> Causality {
    if let Some(key) = state_dict.filter(|key| TRAINED.contains(key)) {
        let reason = format!("its state dict is called `{key}`, as training of causal models saves it");
        return Causality::Causal { reason };
    }
    if let Some(preset) = &config.deepforcing_preset {
        let reason = format!("config.json names the preset `{}`", preset.escape_debug());
        return Causality::Causal { reason };
    }
    let class = config.class_name.as_deref().unwrap_or_default().escape_debug();
    match config.says_causal() {
        Some(true) => {
            return Causality::Causal {
                reason: format!("config.json names the class {class}"),
            };
        }
        Some(false) => {
            return Causality::Base {
                reason: format!("config.json names the class {class}, that of base models"),
            };
        }
        None => {}
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    if BASE_NAMES.iter().any(|base| name.starts_with(base)) {
        return Causality::Base {
            reason: "its file has the name of a published base model".into(),
        };
    }
    Causality::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_judged_by_the_strongest_sign() {
        let config = |class: Option<&str>, preset: Option<&str>| WanConfigFile {
            class_name: class.map(str::to_string),
            deepforcing_preset: preset.map(str::to_string),
            ..WanConfigFile::default()
        };
        let plain = Path::new("model.safetensors");
        let of = |path: &Path, key: Option<&str>, class, preset| match judge(path, key, &config(class, preset)) {
            Causality::Causal { .. } => "causal",
            Causality::Base { .. } => "base",
            Causality::Unknown => "unknown",
        };
        assert_eq!(of(plain, None, None, None), "unknown");
        assert_eq!(of(plain, Some("state_dict"), None, None), "unknown");
        assert_eq!(of(plain, Some("generator_ema"), Some("WanModel"), None), "causal");
        assert_eq!(of(plain, None, Some("CausalWanTransformer3DModel"), None), "causal");
        assert_eq!(of(plain, None, Some("WanTransformer3DModel"), None), "base");
        assert_eq!(of(plain, None, Some("WanModel"), Some("toy")), "causal");
        assert_eq!(
            of(Path::new("a/wan2.1_t2v_1.3B_bf16.safetensors"), None, None, None),
            "base"
        );
    }
}
