//! From published model files, in a folder or in the cache of the hub, to the networks of a run.
//!
//! | file | what it holds |
//! |---|---|
//! | `role` | the table of kinds of files; everything else goes by [`Role`] |
//! | `preset`, `inherit`, `published` | presets and their bases; names and sources of files |
//! | `recognise` | which model a checkpoint holds, told from its tensors, and whether the preset is its own |
//! | `location` | which model is meant, and where its files are |
//! | `own`, `search` | files in place of a model's; a model's files in a folder, by what they hold |
//! | `inspection` | what files of weights are, for people who ask |
//! | `configs`, `causal` | `config.json` against tensors; whether a model is a causal one |
//! | `convert` | one file of a network made of another |
//! | `bundled`, `cache_dir` | the model that is part of the program, and the folder it is unpacked to |

pub mod bundled;
pub mod cache_dir;
mod causal;
mod configs;
pub mod convert;
mod inherit;
mod inspection;
mod location;
mod own;
pub mod preset;
mod published;
mod recognise;
pub(crate) mod role;
mod search;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Error, Result,
    checkpoint::{
        Checkpoint, LORA, Network, TensorSpec, Weights,
        lora::{Lora, LoraChoice, LoraMerge},
    },
    device::Compute,
    files,
    hub::Source,
    models::preset::{FileNames, Preset, Sources},
    prompts::actions::Controls,
    text::{TextError, TextPipeline, Umt5, Umt5Config},
    transformer::{
        CausalWan, TransformerConfig, WanConfigFile,
        image::{ClipConfig, ClipVision, clip},
    },
    vae::{Decoder, VaeError, WanEncoder, WanVaeConfig},
};

pub use causal::Causality;
pub use inspection::{InspectedFile, InspectedNetwork, InspectedTensor, inspect, is_weights};
pub use location::{Found, Located, Locator, ModelChoice, ModelLocation, preset_of_choice};
pub use own::{GivenPaths, OwnFiles};
pub(crate) use recognise::columns_of;
use recognise::{check_channels, check_controls, world_of_folder};
pub use role::{DecoderKind, Needs, Role};

/// What the names of tiny decoders have in them that were trained on latents which are not normalised. Nothing in the
/// files tells.
const RAW_LATENTS: &str = "lighttae";

/// A file of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFile {
    pub role: Role,
    pub path: PathBuf,
    /// Where it is published, if it came from there.
    pub source: Option<Source>,
    /// How strongly a LoRA works that was added to the model.
    pub strength: Option<f64>,
    /// The alpha that the preset gives the model's own LoRA.
    pub alpha: Option<f64>,
}

/// The files of a model, found in a folder or in the cache of the hub.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// Those that are there, a run of `decoder` needing them or not.
    paths: BTreeMap<Role, PathBuf>,
    /// Which decoder turns latents into pictures.
    decoder: DecoderKind,
    /// State dict to take from the transformer's file, where it has several.
    state_dict: Option<String>,
    /// Alpha of the model's own LoRA, where its file does not say.
    lora_alpha: Option<f64>,
    /// How the preset says that a world is steered; none of models that read prompts.
    controls: Option<Controls>,
    /// LoRAs that are merged into the transformer beside its own.
    loras: Vec<LoraChoice>,
    /// Where the files are published, if they came from there.
    sources: Option<Sources>,
}

impl ModelFiles {
    /// Looks for the files of a preset in `folder`.
    ///
    /// # Errors
    /// When the folder or a file is missing; the message says under which names it was looked for.
    pub fn find(folder: &Path, names: &FileNames, decoder: DecoderKind) -> Result<Self> {
        Self::find_with(folder, names, decoder, &OwnFiles::default())
    }

    /// As [`ModelFiles::find`], with `own` files in the place of those in the folder.
    pub(super) fn find_with(folder: &Path, names: &FileNames, decoder: DecoderKind, own: &OwnFiles) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::ModelFolder { path: folder.into() });
        }
        // Whether a start needs the encoder is not known here: loading it tells when the VAE is not there.
        let needs = Needs {
            decoder,
            encoder: false,
            image: names.names_a(Role::ImageEncoder),
        };
        let mut paths = BTreeMap::new();
        for &role in Role::ALL.iter().filter(|role| !own.replaces(**role)) {
            let names = names.of(role);
            // What is read only where it is there is not passed over for being, say, a folder: reading it tells.
            let is_there = |path: &PathBuf| path.is_file() || (role.is_optional() && path.exists());
            match names.iter().map(|name| folder.join(name)).find(is_there) {
                Some(path) => drop(paths.insert(role, path)),
                None if role.is_required(needs) || (role.is_named_by_presets() && !names.is_empty()) => {
                    return Err(Error::ModelFile {
                        role: role.words(),
                        folder: folder.into(),
                        names: names.join("`, `"),
                    });
                }
                None => {}
            }
        }
        own.over(&mut paths);
        Ok(Self::of_paths(paths, names, decoder))
    }

    /// Files that were found, of a model whose preset says `names`.
    fn of_paths(paths: BTreeMap<Role, PathBuf>, names: &FileNames, decoder: DecoderKind) -> Self {
        Self {
            paths,
            decoder,
            state_dict: names.state_dict.clone(),
            lora_alpha: names.lora_alpha,
            controls: None,
            loras: Vec::new(),
            sources: None,
        }
    }

    /// The same with the controls that the preset of the model says.
    #[must_use]
    pub fn with_controls(self, controls: Option<Controls>) -> Self {
        Self { controls, ..self }
    }

    /// The same with LoRAs that are merged into the transformer beside its own.
    #[must_use]
    pub fn with_loras(self, loras: &[LoraChoice]) -> Self {
        Self {
            loras: loras.to_vec(),
            ..self
        }
    }

    /// Where the file of a kind is, if it is there.
    pub fn path(&self, role: Role) -> Option<&Path> {
        self.paths.get(&role).map(PathBuf::as_path)
    }

    /// Whether the model reads an image in place of prompts.
    pub fn reads_image(&self) -> bool {
        self.path(Role::ImageEncoder).is_some()
    }

    /// Where the file of a kind is.
    ///
    /// # Errors
    /// When it is not there.
    fn required(&self, role: Role) -> Result<&Path> {
        self.path(role).ok_or(Error::NoModelFile { role: role.words() })
    }

    /// The files that a run with these needs reads, each with its role; those of an index are listed one by one.
    pub fn list(&self, needs: Needs) -> Vec<ModelFile> {
        let needs = Needs {
            image: self.reads_image(),
            ..needs
        };
        let mut roles: Vec<Role> = Role::ALL.iter().copied().filter(|role| role.is_used(needs)).collect();
        // Recipes have the decoder in the first place that any decoder has, and the encoder of a start behind it.
        let place = |roles: &[Role], wanted: Role| roles.iter().position(|role| *role == wanted);
        if let (Some(vae), Some(decoder)) = (place(&roles, Role::Vae), place(&roles, needs.decoder.role())) {
            roles.swap(vae, decoder);
        }
        let files = roles.into_iter().filter_map(|role| Some((role, self.path(role)?)));
        let own = files.flat_map(|(role, path)| self.with_shards(role, path));
        let added = self.loras.iter().map(|lora| ModelFile {
            role: Role::Lora,
            path: lora.path.clone(),
            source: None,
            strength: Some(lora.strength),
            alpha: None,
        });
        own.chain(added).collect()
    }

    /// A line for each file of weights that a run with these needs reads: what it was recognised as.
    pub fn recognised(&self, needs: Needs) -> Vec<String> {
        let networks = [
            (Role::Transformer, Network::Transformer, self.state_dict.as_deref()),
            (Role::Vae, Network::Vae, None),
            (Role::TinyDecoder, Network::TinyDecoder, None),
            (Role::TextEncoder, Network::TextEncoder, None),
        ];
        let used = networks.into_iter().filter(|(role, ..)| role.is_used(needs));
        let lines = used.filter_map(|(role, network, prefer)| {
            let path = self.path(role)?;
            // What cannot be opened is told when it is.
            let description = Checkpoint::open_network(path, network, prefer).ok()?.describe()?;
            Some(format!("{role}: `{}`, {description}", path.display()))
        });
        lines.collect()
    }

    fn with_shards(&self, role: Role, path: &Path) -> Vec<ModelFile> {
        let file = |path: PathBuf| ModelFile {
            role,
            path,
            source: self.sources.as_ref().and_then(|sources| sources.of(role).cloned()),
            strength: None,
            alpha: self.lora_alpha.filter(|_| role == Role::Lora),
        };
        let shards = crate::checkpoint::shards_of(path);
        std::iter::once(path.into()).chain(shards).map(file).collect()
    }

    /// Sizes that the tensors of the transformer do not tell.
    ///
    /// # Errors
    /// When `config.json` is there and cannot be read.
    pub fn read_config(&self) -> Result<WanConfigFile> {
        match self.path(Role::Config) {
            Some(path) => WanConfigFile::read(path),
            None => Ok(WanConfigFile::default()),
        }
    }

    /// Opens tokenizer and text encoder; weights are read while prompts are embedded.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn open_text(&self, text_len: usize, compute: &Compute) -> Result<TextPipeline> {
        let (_, weights) = self.open_text_encoder(compute)?;
        TextPipeline::open(self.required(Role::Tokenizer)?, weights, text_len)
    }

    /// The text encoder's file, checked; reads no weights.
    pub(crate) fn open_text_encoder(&self, compute: &Compute) -> Result<(Checkpoint, Weights)> {
        let path = self.required(Role::TextEncoder)?;
        let (checkpoint, weights) = open(path, Network::TextEncoder, &compute.for_text())?;
        let config = Umt5Config::infer(&weights).map_err(|error| hinted(error, &checkpoint))?;
        checkpoint.require(&Umt5::expected_tensors(&config)?, &[])?;
        configs::check_text_encoder(path, &config)?;
        Ok((checkpoint, weights))
    }

    /// Loads the transformer.
    ///
    /// # Errors
    /// When the file does not hold exactly the tensors of a Wan transformer; all that is wrong is listed. Also when a LoRA
    /// does not fit it.
    pub fn load_transformer(&self, compute: &Compute) -> Result<Arc<CausalWan>> {
        let (_, weights, config) = self.open_transformer(compute)?;
        Ok(Arc::new(CausalWan::new(config, weights)?))
    }

    /// Sizes of the transformer; reads no weights.
    ///
    /// # Errors
    /// As [`ModelFiles::load_transformer`].
    pub fn transformer_config(&self) -> Result<TransformerConfig> {
        self.open_transformer(&Compute::cpu()).map(|(_, _, config)| config)
    }

    /// The transformer's file, checked; reads no weights.
    pub(crate) fn open_transformer(&self, compute: &Compute) -> Result<(Checkpoint, Weights, TransformerConfig)> {
        let (checkpoint, weights) = self.open_state_dict(compute)?;
        let config = TransformerConfig::from_weights(&weights, &self.read_config()?)
            .map_err(|error| hinted(error, &checkpoint))?;
        check_channels(&config, &weights)?;
        check_controls(self.controls, &config, &weights)?;
        if let Some(reason) = search::too_large(&checkpoint) {
            return Err(Error::not_a_transformer(weights.origin(), reason));
        }
        let tensors = CausalWan::expected_tensors(config.clone())?;
        checkpoint.require(&tensors, &[])?;
        let weights = match self.open_loras(&tensors)? {
            Some(merge) => weights.changed(Arc::new(merge)),
            None => weights,
        };
        Ok((checkpoint, weights, config))
    }

    /// What the LoRAs change of a transformer with these tensors; none without a LoRA. Reads no factors.
    fn open_loras(&self, tensors: &[TensorSpec]) -> Result<Option<LoraMerge>> {
        let own = self.path(Role::Lora).map(|path| (path, 1.0, self.lora_alpha));
        let added = self.loras.iter().map(|lora| (lora.path.as_path(), lora.strength, None));
        let mut merge = None;
        for (path, strength, alpha) in own.into_iter().chain(added) {
            let merged =
                merge
                    .get_or_insert_with(LoraMerge::default)
                    .add(&Lora::open(path)?, tensors, strength, alpha)?;
            tracing::info!("{merged}");
        }
        Ok(merge)
    }

    fn open_state_dict(&self, compute: &Compute) -> Result<(Checkpoint, Weights)> {
        let path = self.required(Role::Transformer)?;
        let checkpoint = Checkpoint::open_network(path, Network::Transformer, self.state_dict.as_deref())?;
        Ok(with_weights(checkpoint, compute))
    }

    /// Checks that the prompt embeddings of `text` are of the width that `model` takes.
    ///
    /// # Errors
    /// When they are not: the files come from different models.
    pub fn check_prompt_width(&self, text: &TextPipeline, model: &CausalWan) -> Result<()> {
        let (gives, takes) = (text.encoder()?.config().dim, model.config().context_dim);
        if gives == takes {
            return Ok(());
        }
        Err(Error::PromptWidth {
            text_encoder: self.required(Role::TextEncoder)?.into(),
            gives,
            transformer: self.required(Role::Transformer)?.into(),
            takes,
        })
    }

    /// Loads the decoder.
    ///
    /// # Errors
    /// When the file does not hold exactly the tensors of a decoder of the Wan 2.1 latent space; encoder tensors may be
    /// there or not.
    pub fn load_decoder(&self, compute: &Compute) -> Result<Arc<Decoder>> {
        let (checkpoint, weights) = self.open_decoder(compute)?;
        let decoder = Decoder::new(&weights)?;
        let name = checkpoint.path().file_name().unwrap_or_default().to_string_lossy();
        if self.decoder == DecoderKind::Tae && name.to_lowercase().contains(RAW_LATENTS) {
            tracing::warn!(
                "`{name}` is taken for a decoder of latents that are not normalised, as its name has `{RAW_LATENTS}` in it"
            );
            return Ok(Arc::new(decoder.with_raw_latents(weights.device())?));
        }
        Ok(Arc::new(decoder))
    }

    /// The decoder's file, checked; reads no weights.
    pub(crate) fn open_decoder(&self, compute: &Compute) -> Result<(Checkpoint, Weights)> {
        let network = match self.decoder {
            DecoderKind::Wan => Network::Vae,
            DecoderKind::Tae => Network::TinyDecoder,
        };
        let path = self.required(self.decoder.role())?;
        let (checkpoint, weights) = open(path, network, compute)?;
        let expected = Decoder::expected_tensors(&weights).map_err(|error| hinted(error, &checkpoint))?;
        checkpoint.require(&expected, &["encoder.", "conv1."])?;
        if network == Network::Vae {
            configs::check_vae(path, &WanVaeConfig::from_decoder(&weights)?)?;
        }
        Ok((checkpoint, weights))
    }

    /// Loads the vision tower that reads the image a world begins with.
    ///
    /// # Errors
    /// When the model has none, or the file does not hold exactly the tensors of one, with its text tower or without.
    pub fn load_image_encoder(&self, compute: &Compute) -> Result<ClipVision> {
        let (_, weights, config) = self.open_image_encoder(compute)?;
        ClipVision::new(config, &weights)
    }

    /// The file of the vision tower, checked; reads no weights.
    pub(crate) fn open_image_encoder(&self, compute: &Compute) -> Result<(Checkpoint, Weights, ClipConfig)> {
        let (checkpoint, weights) = with_weights(Checkpoint::open(self.required(Role::ImageEncoder)?)?, compute);
        let heads = self.read_config()?.num_image_heads;
        let config = ClipConfig::from_weights(&weights, heads).map_err(|error| hinted(error, &checkpoint))?;
        checkpoint.require(&config.expected_tensors()?, &clip::OTHERS)?;
        Ok((checkpoint, weights, config))
    }

    /// Loads the encoder, for videos that start from an image or a clip.
    ///
    /// # Errors
    /// When the folder has no Wan VAE, or its file does not hold one.
    pub fn load_encoder(&self, compute: &Compute) -> Result<WanEncoder> {
        let vae = self.path(Role::Vae).ok_or(Error::NoVaeEncoder)?;
        let (checkpoint, weights) = open(vae, Network::Vae, compute)?;
        if !checkpoint.names().iter().any(|name| name.starts_with("encoder.")) {
            return Err(Error::DecoderOnly { path: vae.into() });
        }
        WanEncoder::new(&weights).map_err(|error| hinted(error, &checkpoint))
    }
}

fn open(path: &Path, network: Network, compute: &Compute) -> Result<(Checkpoint, Weights)> {
    Ok(with_weights(Checkpoint::open_network(path, network, None)?, compute))
}

fn with_weights(checkpoint: Checkpoint, compute: &Compute) -> (Checkpoint, Weights) {
    let weights = Weights::from_checkpoint(checkpoint.clone(), compute.dtype, &compute.device);
    (checkpoint, weights)
}

/// Adds to the refusal of a file of another network what it looks like.
fn hinted(mut error: Error, checkpoint: &Checkpoint) -> Error {
    let (wanted, reason) = match &mut error {
        Error::NotATransformer { reason, .. } => ("a Wan diffusion model", reason),
        Error::Text(TextError::NotUmt5 { reason, .. }) => ("a UMT5 text encoder", reason),
        Error::Vae(VaeError::Unsupported { reason, .. }) => ("a Wan VAE", reason),
        Error::NotClip { reason, .. } => ("a CLIP vision encoder", reason),
        _ => return error,
    };
    if let Some(other) = checkpoint.looks_like().filter(|other| *other != wanted) {
        reason.push_str(&format!("; it looks like {other}"));
        if other == LORA {
            reason.push_str(", which is added to a model: give the model itself, and this file with --lora");
        }
    }
    error
}

/// The preset for a folder when none is asked for: the one its `config.json` names, that of the world whose checkpoint is
/// there, or the default.
///
/// # Errors
/// When `config.json` cannot be read or names an unknown preset.
pub fn preset_of_folder(folder: &Path) -> Result<(String, Preset)> {
    match own_preset(folder, &folder.join(configs::CONFIG))? {
        Some(own) => Ok(own),
        None => Ok((Preset::DEFAULT.into(), Preset::load(Preset::DEFAULT)?)),
    }
}

/// The preset that the configuration of a transformer names, which may be a file in `folder`, if it names one.
///
/// # Errors
/// As [`preset_of_folder`].
fn own_preset(folder: &Path, config: &Path) -> Result<Option<(String, Preset)>> {
    let config = WanConfigFile::read(config)?;
    let known = match config.deepforcing_preset {
        Some(name) => Some(name),
        None => world_of_folder(folder)?.map(str::to_owned),
    };
    let Some(name) = known else {
        return Ok(None);
    };
    // The folder may be somebody else's, who may name a file in it, but no other.
    if files::is_single_name(&name) && name.ends_with(".toml") {
        let path = folder.join(&name).to_string_lossy().into_owned();
        let preset = Preset::load_of_folder(&path)?;
        return Ok(Some((path, preset)));
    }
    if !Preset::names().contains(&name.as_str()) {
        let known = Preset::names().join(", ");
        return Err(Error::UnknownPreset { name, known });
    }
    let preset = Preset::load(&name)?;
    Ok(Some((name, preset)))
}

#[cfg(test)]
mod tests;
