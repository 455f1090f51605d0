//! What files of weights are: which networks, in which layout, whether they can be run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    Causality, DecoderKind, ModelFiles, OwnFiles, Role,
    causal::{judge, refuse_base},
    preset::Preset,
    published::FileNames,
    search,
};
use crate::{
    Result,
    checkpoint::{Checkpoint, Description, KeyMap, Network, OpenOptions, networks_in, shards_of},
    device::Compute,
    hub::file_hash::FileHashes,
    transformer::WanConfigFile,
    vae::WanVaeConfig,
};

/// A file of weights.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InspectedFile {
    pub path: PathBuf,
    pub bytes: u64,
    pub networks: Vec<InspectedNetwork>,
    /// What a file without any network looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looks_like: Option<&'static str>,
    /// Why it cannot be read at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// A network in a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InspectedNetwork {
    /// Which file of a model it would be: `transformer`.
    pub role: &'static str,
    #[serde(flatten)]
    pub description: Option<Description>,
    /// Sizes that its tensors tell.
    pub sizes: BTreeMap<&'static str, String>,
    /// Of a transformer: `causal`, `base` or `unknown`, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causal: Option<(&'static str, String)>,
    /// Presets that fit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<String>,
    /// Why it cannot be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Every tensor, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<InspectedTensor>,
}

/// A tensor of a network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InspectedTensor {
    /// In the file.
    pub name: String,
    /// In the network.
    pub model_name: String,
    #[serde(rename = "type")]
    pub dtype: &'static str,
    pub shape: Vec<usize>,
}

/// Looks at a file, or at all model files in a folder and the folders in it. `list`: whether every tensor is told.
///
/// # Errors
/// When the folder cannot be read, or the file is none of a model.
pub fn inspect(path: &Path, list: bool, own_cache: Option<&Path>) -> Result<Vec<InspectedFile>> {
    if !path.is_dir() {
        let found = networks_in(path)?;
        return Ok(vec![file(path, &found, list, own_cache)]);
    }
    let files = search::files_of(path, true)?;
    let inspected = files.iter().map(|path| match networks_in(path) {
        Ok(found) => file(path, &found, list, own_cache),
        Err(error) => InspectedFile {
            path: path.clone(),
            bytes: bytes(path),
            networks: Vec::new(),
            looks_like: None,
            refusal: Some(error.to_string()),
        },
    });
    Ok(inspected.collect())
}

/// Whether a path is for [`inspect`]: a folder or a file of weights, and not latents of this program.
pub fn is_weights(path: &Path) -> bool {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    let by_name = [".pt", ".pth", ".bin", ".ckpt", ".gguf", ".safetensors.index.json"];
    if path.is_dir() || by_name.iter().any(|ending| name.ends_with(ending)) {
        return true;
    }
    let verbatim = OpenOptions {
        key_map: KeyMap::Verbatim,
        ..OpenOptions::default()
    };
    // What cannot be opened is told as latents.
    let file = name
        .ends_with(".safetensors")
        .then(|| Checkpoint::open_with(path, &verbatim));
    file.is_some_and(|file| file.is_ok_and(|file| file.shape("latents").is_none()))
}

/// Bytes of a file, with those of the parts that it names if it is an index.
fn bytes(path: &Path) -> u64 {
    let parts = shards_of(path);
    let files = std::iter::once(path).chain(parts.iter().map(PathBuf::as_path));
    let sizes = files
        .filter_map(|file| std::fs::metadata(file).ok())
        .map(|metadata| metadata.len());
    sizes.fold(0, u64::saturating_add)
}

fn file(path: &Path, found: &[(Network, String)], list: bool, own_cache: Option<&Path>) -> InspectedFile {
    let mut networks: Vec<Network> = found.iter().map(|(network, _)| *network).collect();
    networks.dedup();
    let looks_like = || {
        let verbatim = OpenOptions {
            key_map: KeyMap::Verbatim,
            ..OpenOptions::default()
        };
        Checkpoint::open_with(path, &verbatim).ok()?.looks_like()
    };
    InspectedFile {
        path: path.into(),
        bytes: bytes(path),
        looks_like: if networks.is_empty() { looks_like() } else { None },
        networks: networks
            .into_iter()
            .map(|network| inspected(path, network, list, own_cache))
            .collect(),
        refusal: None,
    }
}

fn inspected(path: &Path, network: Network, list: bool, own_cache: Option<&Path>) -> InspectedNetwork {
    let role = search::role_of(network);
    let mut seen = InspectedNetwork {
        role: role.name(),
        description: None,
        sizes: BTreeMap::new(),
        causal: None,
        presets: Vec::new(),
        refusal: None,
        list: Vec::new(),
    };
    match Checkpoint::open_network(path, network, None) {
        Ok(checkpoint) => {
            seen.description = checkpoint.describe();
            if list {
                seen.list = tensors(&checkpoint);
            }
            let hashes = FileHashes::new(own_cache);
            seen.refusal = seen
                .run(path, role, &checkpoint, &hashes)
                .err()
                .map(|error| error.to_string());
        }
        Err(error) => seen.refusal = Some(error.to_string()),
    }
    seen
}

fn tensors(checkpoint: &Checkpoint) -> Vec<InspectedTensor> {
    let tensor = |spec: crate::checkpoint::TensorSpec| InspectedTensor {
        name: checkpoint.stored_name(&spec.name),
        dtype: checkpoint.stored_dtype(&spec.name).unwrap_or_default(),
        model_name: spec.name,
        shape: spec.shape,
    };
    checkpoint.specs().into_iter().map(tensor).collect()
}

impl InspectedNetwork {
    /// Opens the network as a run would.
    fn run(&mut self, path: &Path, role: Role, checkpoint: &Checkpoint, hashes: &FileHashes) -> Result<()> {
        let decoder = match role {
            Role::TinyDecoder => DecoderKind::Tae,
            _ => DecoderKind::Wan,
        };
        let mut own = OwnFiles::default();
        own.add(role, path.into());
        let mut paths = BTreeMap::new();
        own.over(&mut paths);
        let files = ModelFiles::of_paths(paths, &FileNames::default(), decoder);
        let cpu = Compute::cpu();
        match role {
            Role::Transformer => {
                // Before anything can fail: what it is counts even where it cannot be run.
                let config = files.read_config()?;
                self.judge(path, checkpoint, &config);
                refuse_base(path, hashes)?;
                let (_, _, sizes) = files.open_transformer(&cpu)?;
                self.tell("width", sizes.dim);
                self.tell("heads", sizes.heads);
                self.tell("blocks", sizes.layers);
                self.tell("feed-forward width", sizes.ffn_dim);
                self.tell("prompt width", sizes.context_dim);
                self.find_presets(&config, sizes == crate::transformer::TransformerConfig::wan_1_3b());
            }
            Role::TextEncoder => {
                let (_, weights) = files.open_text_encoder(&cpu)?;
                let sizes = crate::text::Umt5Config::infer(&weights)?;
                self.tell("width", sizes.dim);
                self.tell("heads", sizes.heads);
                self.tell("blocks", sizes.layers);
                self.tell("vocabulary", sizes.vocab);
            }
            _ => {
                let (_, weights) = files.open_decoder(&cpu)?;
                if role == Role::Vae {
                    let sizes = WanVaeConfig::from_decoder(&weights)?;
                    self.tell("width", sizes.dim);
                    let encoder = checkpoint.names().iter().any(|name| name.starts_with("encoder."));
                    self.sizes.insert("encoder", if encoder { "yes" } else { "no" }.into());
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, name: &'static str, value: usize) {
        self.sizes.insert(name, value.to_string());
    }

    fn judge(&mut self, path: &Path, checkpoint: &Checkpoint, config: &WanConfigFile) {
        self.causal = Some(match judge(path, checkpoint.state_dict(), config) {
            Causality::Causal { reason } => ("causal", reason),
            Causality::Base { reason } => ("base", reason),
            Causality::Unknown => (
                "unknown",
                "causal and base models have the same tensors, and nothing else in the file tells".into(),
            ),
        });
    }

    /// The preset that the configuration names, else all of the same sizes.
    fn find_presets(&mut self, config: &WanConfigFile, is_published: bool) {
        self.presets = match &config.deepforcing_preset {
            Some(name) => vec![name.clone()],
            None if is_published => {
                let names = Preset::names().into_iter().filter(|name| *name != Preset::BUNDLED);
                names.map(str::to_string).collect()
            }
            None => Vec::new(),
        };
    }
}
