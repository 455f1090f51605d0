//! From a folder of published model files to the networks of a run.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::{DType, Device};

use crate::{
    Error, Result,
    checkpoint::{Checkpoint, Weights},
    preset::{FileNames, Preset},
    text::{TextError, TextPipeline, Umt5, Umt5Config},
    transformer::{CausalWan, TransformerConfig, WanConfigFile},
    vae::{Decoder, LATENT_CHANNELS, VaeError, WanEncoder},
};

/// Which decoder turns latents into pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecoderKind {
    /// The Wan 2.1 VAE.
    #[default]
    Wan,
    /// TAEW2.1: much faster, a little less sharp.
    Tae,
}

/// The files of a model, found in its folder.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    pub transformer: PathBuf,
    /// `config.json` beside the transformer; may be absent.
    pub config: PathBuf,
    pub decoder: PathBuf,
    /// The Wan VAE, whose encoder image and clip starts need; absent when only the tiny decoder is there.
    pub vae: Option<PathBuf>,
    pub text_encoder: PathBuf,
    pub tokenizer: PathBuf,
}

impl ModelFiles {
    /// Looks for the files of a preset in `folder`.
    ///
    /// # Errors
    /// When the folder or a file is missing; the message says under which names it was looked for.
    pub fn find(folder: &Path, names: &FileNames, decoder: DecoderKind) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::ModelFolder { path: folder.into() });
        }
        let find = |role: &'static str, names: &[String]| {
            let found = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
            found.ok_or_else(|| Error::ModelFile {
                role,
                folder: folder.into(),
                names: names.join("`, `"),
            })
        };
        let transformer = find("the transformer", &names.transformer)?;
        let vae = find("the VAE", &names.vae);
        let decoder = match (decoder, &vae) {
            (DecoderKind::Tae, _) => find("the tiny decoder", &names.tiny_decoder)?,
            (DecoderKind::Wan, Ok(vae)) => vae.clone(),
            (DecoderKind::Wan, Err(_)) => find("the VAE", &names.vae)?,
        };
        Ok(Self {
            config: folder.join("config.json"),
            transformer,
            decoder,
            vae: vae.ok(),
            text_encoder: find("the text encoder", &names.text_encoder)?,
            tokenizer: find("the tokenizer", &names.tokenizer)?,
        })
    }

    /// Sizes that the tensors of the transformer do not tell.
    ///
    /// # Errors
    /// When `config.json` is there and cannot be read.
    pub fn read_config(&self) -> Result<WanConfigFile> {
        WanConfigFile::read(&self.config)
    }

    /// Opens tokenizer and text encoder; weights are read while prompts are embedded.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn open_text(&self, text_len: usize, device: &Device) -> Result<TextPipeline> {
        let (checkpoint, weights) = open(&self.text_encoder, device)?;
        let config = Umt5Config::infer(&weights).map_err(|error| hinted(error, &checkpoint))?;
        checkpoint.require(&Umt5::expected_tensors(&config)?, &[])?;
        TextPipeline::open(&self.tokenizer, weights, text_len)
    }

    /// Loads the transformer.
    ///
    /// # Errors
    /// When the file does not hold exactly the tensors of a Wan transformer; all that is wrong is listed.
    pub fn load_transformer(&self, device: &Device) -> Result<Arc<CausalWan>> {
        let (checkpoint, weights) = open(&self.transformer, device)?;
        let config = TransformerConfig::from_weights(&weights, &self.read_config()?)
            .map_err(|error| hinted(error, &checkpoint))?;
        let (takes, gives) = (config.in_channels, config.out_channels);
        if (takes, gives) != (LATENT_CHANNELS, LATENT_CHANNELS) {
            let reason = format!(
                "it takes {takes} latent channels and gives {gives}; a text-to-video model has {LATENT_CHANNELS} of both"
            );
            return Err(Error::not_a_transformer(weights.origin(), reason));
        }
        checkpoint.require(&CausalWan::expected_tensors(config.clone())?, &[])?;
        Ok(Arc::new(CausalWan::new(config, weights)?))
    }

    /// Checks that the prompt embeddings of `text` are of the width that `model` takes.
    ///
    /// # Errors
    /// When they are not: the files come from different models.
    pub fn check_prompt_width(&self, text: &TextPipeline, model: &CausalWan) -> Result<()> {
        let (gives, takes) = (text.encoder().config().dim, model.config().text_dim);
        if gives == takes {
            return Ok(());
        }
        Err(Error::PromptWidth {
            text_encoder: self.text_encoder.clone(),
            gives,
            transformer: self.transformer.clone(),
            takes,
        })
    }

    /// Loads the decoder.
    ///
    /// # Errors
    /// When the file does not hold exactly the tensors of a decoder of the Wan 2.1 latent space; encoder tensors may be
    /// there or not.
    pub fn load_decoder(&self, device: &Device) -> Result<Arc<Decoder>> {
        let (checkpoint, weights) = open(&self.decoder, device)?;
        let expected = Decoder::expected_tensors(&weights).map_err(|error| hinted(error, &checkpoint))?;
        checkpoint.require(&expected, &["encoder.", "conv1."])?;
        Ok(Arc::new(Decoder::new(&weights)?))
    }

    /// Loads the encoder, for videos that start from an image or a clip.
    ///
    /// # Errors
    /// When the folder has no Wan VAE, or its file does not hold one.
    pub fn load_encoder(&self, device: &Device) -> Result<WanEncoder> {
        let vae = self.vae.as_ref().ok_or(Error::NoVaeEncoder)?;
        let (checkpoint, weights) = open(vae, device)?;
        WanEncoder::new(&weights).map_err(|error| hinted(error, &checkpoint))
    }
}

fn open(path: &Path, device: &Device) -> Result<(Checkpoint, Weights)> {
    let checkpoint = Checkpoint::open(path)?;
    let weights = Weights::from_checkpoint(checkpoint.clone(), DType::F32, device);
    Ok((checkpoint, weights))
}

/// Adds to the refusal of a file of another network what it looks like.
fn hinted(mut error: Error, checkpoint: &Checkpoint) -> Error {
    let (wanted, reason) = match &mut error {
        Error::NotATransformer { reason, .. } => ("a Wan diffusion model", reason),
        Error::Text(TextError::NotUmt5 { reason, .. }) => ("a UMT5 text encoder", reason),
        Error::Vae(VaeError::Unsupported { reason, .. }) => ("a Wan VAE", reason),
        _ => return error,
    };
    if let Some(other) = checkpoint.looks_like().filter(|other| *other != wanted) {
        reason.push_str(&format!("; it looks like {other}"));
    }
    error
}

/// The preset for a folder when none is asked for: the one its `config.json` names, or the default.
///
/// # Errors
/// When `config.json` cannot be read or names an unknown preset.
pub fn preset_of_folder(folder: &Path) -> Result<(String, Preset)> {
    let config = WanConfigFile::read(&folder.join("config.json"))?;
    let name = config.deepforcing_preset.unwrap_or_else(|| Preset::DEFAULT.into());
    Ok((name.clone(), Preset::load(&name)?))
}
