//! Sizes of the networks of a run.

use std::path::Path;

use crate::{
    Result,
    checkpoint::{Checkpoint, Network, TensorSpec, Weights},
    device::Compute,
    models::{DecoderKind, ModelFiles, Role},
    text::Umt5Config,
    transformer::{CausalWan, TransformerConfig, image::ClipConfig},
    vae::{TaeConfig, WanVaeConfig, is_tiny},
};

/// Bytes of a number.
const F32: u64 = size_of::<f32>() as u64;
/// Bytes of the tokenizer file of Wan 2.1.
const WAN_TOKENIZER: u64 = 16_837_417;

/// Sizes of a decoder of the latents.
#[derive(Debug, Clone, PartialEq)]
pub enum DecoderSizes {
    Wan(WanVaeConfig),
    Tae(TaeConfig),
}

/// Sizes of what reads the conditions of a video.
#[derive(Debug, Clone, PartialEq)]
pub enum ConditionSizes {
    Prompts {
        text: Umt5Config,
        /// Of the file.
        tokenizer_bytes: u64,
    },
    /// The vision tower and the weights of it that are read.
    Image { tower: ClipConfig, bytes: u64 },
}

/// Sizes of the networks of a run; bytes are those of f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    pub transformer: TransformerConfig,
    pub transformer_bytes: u64,
    pub conditions: ConditionSizes,
    pub decoder: DecoderSizes,
    pub decoder_bytes: u64,
    /// The encoder of the Wan VAE and its weights, if there is one.
    pub encoder: Option<(WanVaeConfig, u64)>,
}

impl Sizes {
    /// Reads the headers of model files.
    ///
    /// # Errors
    /// When a file cannot be read, or does not hold what it should.
    pub fn of(files: &ModelFiles) -> Result<Self> {
        let cpu = Compute::cpu();
        let (transformer, _, config) = files.open_transformer(&cpu)?;
        let (decoder, weights) = files.open_decoder(&cpu)?;
        let decoder_sizes = if is_tiny(&weights) {
            DecoderSizes::Tae(TaeConfig::from_weights(&weights)?)
        } else {
            DecoderSizes::Wan(WanVaeConfig::from_decoder(&weights)?)
        };
        let encoder = match files.path(Role::Vae) {
            Some(vae) => encoder(vae)?,
            None => None,
        };
        Ok(Self {
            transformer_bytes: bytes_of(&transformer.specs(), |_| true),
            transformer: config,
            conditions: ConditionSizes::of(files, &cpu)?,
            decoder: decoder_sizes,
            decoder_bytes: bytes_of(&decoder.specs(), of_decoder),
            encoder,
        })
    }

    /// Those of Matrix-Game 2.0 with `keys` keys, with a mouse or without.
    ///
    /// # Errors
    /// Never in practice: nothing is read.
    pub fn published_world(decoder: DecoderKind, keys: usize, mouse: bool) -> Result<Self> {
        let transformer = TransformerConfig::matrix_game_2(keys, mouse);
        Ok(Self {
            transformer_bytes: bytes_of(&CausalWan::expected_tensors(transformer.clone())?, |_| true),
            transformer,
            conditions: ConditionSizes::of_tower(ClipConfig::vit_h_14())?,
            ..Self::published(decoder)?
        })
    }

    /// Those of Wan2.1-T2V-1.3B, which all published presets have that read prompts.
    ///
    /// # Errors
    /// Never in practice: nothing is read.
    pub fn published(decoder: DecoderKind) -> Result<Self> {
        let (transformer, vae) = (TransformerConfig::wan_1_3b(), WanVaeConfig::wan21());
        let of_vae = vae.expected_tensors()?;
        let mut sizes = Self {
            transformer_bytes: bytes_of(&CausalWan::expected_tensors(transformer.clone())?, |_| true),
            transformer,
            conditions: ConditionSizes::Prompts {
                text: Umt5Config::xxl(),
                tokenizer_bytes: WAN_TOKENIZER,
            },
            decoder_bytes: bytes_of(&of_vae, of_decoder),
            encoder: Some((vae.clone(), bytes_of(&of_vae, of_encoder))),
            decoder: DecoderSizes::Wan(vae),
        };
        if decoder == DecoderKind::Tae {
            sizes = sizes.with_tiny_decoder()?;
        }
        Ok(sizes)
    }

    /// The same with the tiny decoder.
    ///
    /// # Errors
    /// Never in practice: nothing is read.
    pub fn with_tiny_decoder(&self) -> Result<Self> {
        let tae = TaeConfig::taew21();
        Ok(Self {
            decoder_bytes: bytes_of(&tae.expected_tensors()?, of_decoder),
            decoder: DecoderSizes::Tae(tae),
            ..self.clone()
        })
    }
}

impl ConditionSizes {
    fn of(files: &ModelFiles, cpu: &Compute) -> Result<Self> {
        if files.reads_image() {
            let (_, _, tower) = files.open_image_encoder(cpu)?;
            return Self::of_tower(tower);
        }
        let (_, text) = files.open_text_encoder(cpu)?;
        let tokenizer = files
            .path(Role::Tokenizer)
            .and_then(|path| std::fs::metadata(path).ok());
        Ok(Self::Prompts {
            text: Umt5Config::infer(&text)?,
            tokenizer_bytes: tokenizer.map_or(0, |metadata| metadata.len()),
        })
    }

    fn of_tower(tower: ClipConfig) -> Result<Self> {
        let bytes = bytes_of(&tower.used_tensors()?, |_| true);
        Ok(Self::Image { tower, bytes })
    }
}

fn encoder(vae: &Path) -> Result<Option<(WanVaeConfig, u64)>> {
    let checkpoint = Checkpoint::open_network(vae, Network::Vae, None)?;
    let specs = checkpoint.specs();
    // A file with the decoder alone is refused when a start needs the encoder.
    if !specs.iter().any(|spec| of_encoder(&spec.name)) {
        return Ok(None);
    }
    let cpu = Compute::cpu();
    let weights = Weights::from_checkpoint(checkpoint, cpu.dtype, &cpu.device);
    Ok(Some((
        WanVaeConfig::from_encoder(&weights)?,
        bytes_of(&specs, of_encoder),
    )))
}

fn of_decoder(name: &str) -> bool {
    name.starts_with("decoder.") || name.starts_with("conv2.")
}

fn of_encoder(name: &str) -> bool {
    name.starts_with("encoder.") || name.starts_with("conv1.")
}

/// Bytes that the tensors with these names take as f32.
fn bytes_of(specs: &[TensorSpec], wanted: impl Fn(&str) -> bool) -> u64 {
    let specs = specs.iter().filter(|spec| wanted(&spec.name));
    let bytes = specs.map(|spec| spec.shape.iter().fold(F32, |bytes, n| bytes.saturating_mul(*n as u64)));
    bytes.fold(0, u64::saturating_add)
}
