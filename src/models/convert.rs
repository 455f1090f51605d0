//! One clean file of a network: read in any layout and format, written as `.safetensors` (docs/algorithms/gguf.md section 5).

mod error;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    thread,
};

use candle_core::{DType, Device};
use serde_json::json;

use crate::{
    Error, Result,
    checkpoint::{
        Change, Checkpoint, KeyMap, Naming, Network, OpenOptions, TensorSpec, Weights,
        lora::{Lora, LoraChoice, LoraMerge},
        networks_in,
        write::{Planned, SafetensorsWriter},
    },
    hub::{self, file_hash::FileHashes},
    models::role::Role,
    text::{Umt5, Umt5Config},
    transformer::{CausalWan, TransformerConfig, WanConfigFile},
    vae::Decoder,
};

pub use error::ConvertError;

/// Key of the metadata that says what a file was made of.
const ORIGIN: &str = "deepforcing.source";
/// What stands for the hash in the header until it is known.
const UNKNOWN_HASH: &str = "-------------- the SHA-256 of the input is to be here ----------";
/// Metadata about how the values were stored, or about the tokenizer beside them, which is not true of the new file.
const OF_THE_FORMAT: &[&str] = &[
    "_quantization_metadata",
    "general.alignment",
    "general.file_type",
    "general.quantization_version",
    "tokenizer.",
    "split.",
];

/// What the tensors are to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileLayout {
    /// As in the published Wan files.
    #[default]
    Wan,
    /// As diffusers and Hugging Face's transformers name them.
    Diffusers,
    /// As in the files of ComfyUI.
    Comfy,
}

impl FileLayout {
    const ALL: [Self; 3] = [Self::Wan, Self::Diffusers, Self::Comfy];

    fn name(self) -> &'static str {
        match self {
            Self::Wan => "wan",
            Self::Diffusers => "diffusers",
            Self::Comfy => "comfy",
        }
    }

    /// What stands before names, and the names, of a network.
    fn naming(self, network: Network) -> (&'static str, Naming) {
        match (self, network) {
            (Self::Diffusers, Network::Transformer) => ("", Naming::DiffusersTransformer),
            (Self::Diffusers, Network::Vae) => ("", Naming::DiffusersVae),
            (Self::Diffusers | Self::Comfy, Network::TextEncoder) => ("", Naming::HuggingFace),
            (Self::Comfy, Network::Transformer) => ("model.diffusion_model.", Naming::Original),
            // The tiny decoder has the same names everywhere, the VAE in ComfyUI the published ones.
            _ => ("", Naming::Original),
        }
    }
}

impl FromStr for FileLayout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|layout| layout.name() == text);
        found.ok_or_else(|| "expected wan, diffusers or comfy".into())
    }
}

impl fmt::Display for FileLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is to be made of which file.
#[derive(Debug, Clone)]
pub struct Conversion {
    pub input: PathBuf,
    pub output: PathBuf,
    /// The network to take where the file has several.
    pub network: Option<Network>,
    /// The state dict to take where the file has several.
    pub state_dict: Option<String>,
    /// f32, bf16 or f16; without it tensors stay as they are, those of 8 bits and less become bf16.
    pub dtype: Option<DType>,
    pub layout: FileLayout,
    /// Merged into a transformer.
    pub loras: Vec<LoraChoice>,
    pub overwrite: bool,
}

/// A conversion whose files were read as far as their headers go, and found good.
pub struct Prepared<'a> {
    conversion: &'a Conversion,
    checkpoint: Checkpoint,
    network: Network,
    merge: Option<Arc<LoraMerge>>,
    /// Name in the model of each tensor, and how it is written, in the order of the new file.
    tensors: Vec<(String, Planned)>,
}

impl Conversion {
    /// Reads the headers and checks everything that can be checked before the work.
    ///
    /// # Errors
    /// When the input is no whole network that is known, a LoRA does not fit, or the output cannot be written.
    pub fn prepare(&self) -> Result<Prepared<'_>> {
        self.check_output()?;
        let (network, checkpoint) = self.open()?;
        let specs = whole(network, &checkpoint)?;
        let merge = self.open_loras(network, &specs)?;
        let (prefix, naming) = self.layout.naming(network);
        let mut tensors: Vec<(String, Planned)> = specs
            .into_iter()
            .map(|TensorSpec { name, shape }| {
                let dtype = self.dtype.unwrap_or_else(|| kept(checkpoint.stored_dtype(&name)));
                let own = naming.written(&name).unwrap_or_else(|| name.clone());
                let name_in_file = format!("{prefix}{own}");
                let planned = Planned {
                    name: name_in_file,
                    shape,
                    dtype,
                };
                (name, planned)
            })
            .collect();
        // Wide values first, so that all begin at multiples of their width.
        tensors.sort_by(|(_, a), (_, b)| {
            let width = |planned: &Planned| std::cmp::Reverse(planned.dtype.size_in_bytes());
            (width(a), &a.name).cmp(&(width(b), &b.name))
        });
        let prepared = Prepared {
            conversion: self,
            checkpoint,
            network,
            merge,
            tensors,
        };
        prepared.check_space()?;
        Ok(prepared)
    }

    fn check_output(&self) -> Result<(), ConvertError> {
        let path = || self.output.clone();
        if self
            .output
            .extension()
            .is_none_or(|ending| !ending.eq_ignore_ascii_case("safetensors"))
        {
            return Err(ConvertError::Ending { path: path() });
        }
        let Ok(there) = self.output.canonicalize() else {
            return Ok(());
        };
        let inputs = self.loras.iter().map(|lora| &lora.path).chain([&self.input]);
        if inputs
            .filter_map(|input| input.canonicalize().ok())
            .any(|input| input == there)
        {
            return Err(ConvertError::SameFile { path: path() });
        }
        if !self.overwrite || there.is_dir() {
            return Err(ConvertError::Exists { path: path() });
        }
        Ok(())
    }

    /// The network in the input: the one that was asked for, or the only one.
    fn open(&self) -> Result<(Network, Checkpoint)> {
        let found: BTreeSet<Network> = networks_in(&self.input)?
            .into_iter()
            .map(|(network, _)| network)
            .collect();
        let network = match (self.network, found.iter().collect::<Vec<_>>().as_slice()) {
            (Some(network), _) => network,
            (None, [network]) => **network,
            (None, []) => return Err(self.no_network()?.into()),
            (None, several) => {
                let path = self.input.clone();
                let networks = several.iter().map(|network| name_of(**network)).collect();
                return Err(ConvertError::Several { path, networks }.into());
            }
        };
        let checkpoint = Checkpoint::open_network(&self.input, network, self.state_dict.as_deref())?;
        Ok((network, checkpoint))
    }

    fn no_network(&self) -> Result<ConvertError> {
        let file = Checkpoint::open_with(
            &self.input,
            &OpenOptions {
                key_map: KeyMap::Verbatim,
                ..OpenOptions::default()
            },
        )?;
        Ok(ConvertError::NoNetwork {
            path: self.input.clone(),
            looks_like: file.looks_like(),
        })
    }

    fn open_loras(&self, network: Network, specs: &[TensorSpec]) -> Result<Option<Arc<LoraMerge>>> {
        if self.loras.is_empty() {
            return Ok(None);
        }
        if network != Network::Transformer {
            let path = self.input.clone();
            return Err(ConvertError::LoraOfOther { path, network }.into());
        }
        let mut merge = LoraMerge::default();
        for lora in &self.loras {
            let merged = merge.add(&Lora::open(&lora.path)?, specs, lora.strength, None)?;
            tracing::info!("{merged}");
        }
        Ok(Some(Arc::new(merge)))
    }
}

/// The networks by the names of their files' roles.
const NAMES: &[(Network, Role)] = &[
    (Network::Transformer, Role::Transformer),
    (Network::TextEncoder, Role::TextEncoder),
    (Network::Vae, Role::Vae),
    (Network::TinyDecoder, Role::TinyDecoder),
];

fn name_of(network: Network) -> &'static str {
    let known = NAMES.iter().find(|(known, _)| *known == network);
    known.map_or("", |(_, role)| role.name())
}

/// The network of a name: `text-encoder`.
///
/// # Errors
/// The names that there are.
pub fn network_named(name: &str) -> Result<Network, String> {
    let known = NAMES.iter().find(|(_, role)| role.name() == name);
    known.map(|(network, _)| *network).ok_or_else(|| {
        let names: Vec<_> = NAMES.iter().map(|(_, role)| role.name()).collect();
        format!("expected {}", names.join(", "))
    })
}

/// All tensors of a network, once its names and shapes are found to be those of one of its sizes.
fn whole(network: Network, checkpoint: &Checkpoint) -> Result<Vec<TensorSpec>> {
    let weights = Weights::from_checkpoint(checkpoint.clone(), DType::F32, &Device::Cpu);
    let (expected, optional): (_, &[&str]) = match network {
        Network::Transformer => {
            // How many heads there are changes no tensor.
            let one = WanConfigFile {
                num_heads: Some(1),
                ..WanConfigFile::default()
            };
            let config = TransformerConfig::from_weights(&weights, &one)?;
            (CausalWan::expected_tensors(config)?, &[])
        }
        Network::TextEncoder => (Umt5::expected_tensors(&Umt5Config::infer(&weights)?)?, &[]),
        Network::Vae | Network::TinyDecoder => (Decoder::expected_tensors(&weights)?, &["encoder.", "conv1."]),
    };
    checkpoint.require(&expected, optional)?;
    Ok(checkpoint.specs())
}

/// The number format in which a tensor is kept that is stored in another one.
fn kept(stored: Option<&str>) -> DType {
    match stored {
        Some("f32" | "f64") => DType::F32,
        Some("f16") => DType::F16,
        _ => DType::BF16,
    }
}

impl Prepared<'_> {
    /// What was found, in a sentence.
    pub fn found(&self) -> String {
        let mut formats: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, _) in &self.tensors {
            *formats
                .entry(self.checkpoint.stored_dtype(name).unwrap_or("?"))
                .or_default() += 1;
        }
        let formats: Vec<_> = formats
            .iter()
            .map(|(format, count)| format!("{count} {format}"))
            .collect();
        let naming = self
            .checkpoint
            .layout()
            .map_or(Naming::Original, |layout| layout.naming);
        format!(
            "`{}` is {} with {naming}: {} tensors ({})",
            self.conversion.input.display(),
            self.network,
            self.tensors.len(),
            formats.join(", ")
        )
    }

    /// Bytes of all values of the new file.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|(_, planned)| planned.bytes()).sum()
    }

    fn check_space(&self) -> Result<(), ConvertError> {
        let path = &self.conversion.output;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let needs = self.bytes();
        match hub::free_bytes(folder.unwrap_or(Path::new("."))) {
            Some(free) if free < needs => Err(ConvertError::Space {
                path: path.clone(),
                needs,
                free,
            }),
            _ => Ok(()),
        }
    }

    /// Writes the new file; `progress` is told how many bytes of values are written. `hashes` are of files that were read
    /// before.
    ///
    /// # Errors
    /// When a file cannot be read or written, values are not finite or too large for the number format, or
    /// [`Error::Cancelled`].
    pub fn run(&self, hashes: &FileHashes, cancelled: &dyn Fn() -> bool, progress: &mut dyn FnMut(u64)) -> Result<u64> {
        // The input is read once: its hash is computed beside the conversion, which reads the same pages.
        thread::scope(|scope| {
            let input = self.conversion.input.as_path();
            let hash = scope.spawn(move || hashes.sha256(input));
            let mut writer = self.write(hashes, cancelled, progress)?;
            let hash = hash
                .join()
                .unwrap_or_else(|_| Err(std::io::Error::other("the thread ended")));
            let hash = hash.map_err(|error| self.unhashed(input, &error))?;
            writer
                .replace_in_header(UNKNOWN_HASH, &hash)
                .map_err(|error| self.unwritten(&error))?;
            let bytes = writer.finish().map_err(|error| self.unwritten(&error))?;
            Ok(bytes)
        })
    }

    fn write(
        &self,
        hashes: &FileHashes,
        cancelled: &dyn Fn() -> bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<SafetensorsWriter> {
        let planned: Vec<Planned> = self.tensors.iter().map(|(_, planned)| planned.clone()).collect();
        let notes = self.notes(hashes)?;
        let created = SafetensorsWriter::create(&self.conversion.output, &planned, &notes);
        let mut writer = created.map_err(|error| self.unwritten(&error))?;
        let weights = Weights::from_checkpoint(self.checkpoint.clone(), DType::F32, &Device::Cpu);
        let changed = self.merge.clone().map(|merge| (weights.changed(merge.clone()), merge));
        let mut done = 0;
        for (name, planned) in &self.tensors {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let tensor = match &changed {
                Some((weights, merge)) if merge.touches(name) => {
                    weights.get(planned.shape.clone(), name)?.to_dtype(planned.dtype)?
                }
                _ => self.checkpoint.tensor(name, planned.dtype, &Device::Cpu)?,
            };
            writer.write(&tensor).map_err(|error| self.unwritten(&error))?;
            done += planned.bytes();
            progress(done);
        }
        Ok(writer)
    }

    /// The metadata of the new file: that of the input, and what it is made of.
    fn notes(&self, hashes: &FileHashes) -> Result<BTreeMap<String, String>> {
        let kept = |key: &&String| !OF_THE_FORMAT.iter().any(|start| key.starts_with(start));
        let own: &HashMap<String, String> = self.checkpoint.notes();
        let mut notes: BTreeMap<String, String> = own
            .iter()
            .filter(|(key, _)| kept(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut loras = Vec::new();
        for lora in &self.conversion.loras {
            let hash = hashes
                .sha256(&lora.path)
                .map_err(|error| self.unhashed(&lora.path, &error))?;
            loras.push(json!({"file": name(&lora.path), "sha256": hash, "strength": lora.strength}));
        }
        let mut origin = json!({"file": name(&self.conversion.input), "sha256": UNKNOWN_HASH});
        if !loras.is_empty() {
            origin["loras"] = loras.into();
        }
        notes.insert(ORIGIN.into(), origin.to_string());
        notes.entry("format".into()).or_insert_with(|| "pt".into());
        Ok(notes)
    }

    fn unwritten(&self, error: &std::io::Error) -> Error {
        let path = self.conversion.output.clone();
        let reason = error.to_string();
        ConvertError::Write { path, reason }.into()
    }

    fn unhashed(&self, path: &Path, error: &std::io::Error) -> Error {
        let (path, reason) = (path.to_path_buf(), error.to_string());
        ConvertError::Hash { path, reason }.into()
    }
}

#[cfg(test)]
mod tests;
