//! The networks to measure: from files, or with random weights made on the device.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc};

use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::{
    Result,
    checkpoint::{TensorSpec, Weights},
    device::Compute,
    models::{DecoderKind, ModelFiles},
    transformer::{CausalWan, TransformerConfig, action::ActionConfig},
    vae::{Decoder, PICTURE_CHANNELS, TaeConfig, WanVaeConfig},
};

/// Random values that all tensors are cut from: a prime, so that rows of a matrix do not repeat.
const POOL: usize = 1_048_573;
/// Rows of a prompt embedding when the model's `config.json` does not tell (Wan 2.1).
const DEFAULT_TEXT_LEN: usize = 512;

/// Sizes of networks with random weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Wan2.1-T2V-1.3B.
    #[default]
    Full,
    /// Small enough to be measured on any machine: dim 256, 4 heads of 64, 8 layers, as in `benches`.
    Mid,
    /// Small enough for a test on any machine: dim 128, 2 heads of 64, 3 layers.
    Tiny,
}

impl Scale {
    /// Names accepted on a command line.
    pub const NAMES: &'static [&'static str] = &["full", "mid", "tiny"];

    /// Pixels of a picture that goes with networks that are not full-size, width and height.
    pub fn picture(self) -> Option<(usize, usize)> {
        match self {
            Self::Full => None,
            Self::Mid => Some((128, 128)),
            Self::Tiny => Some((160, 96)),
        }
    }

    /// Sizes of the transformer.
    pub fn transformer(self) -> TransformerConfig {
        match self {
            Self::Full => TransformerConfig::wan_1_3b(),
            Self::Mid => TransformerConfig {
                dim: 256,
                heads: 4,
                layers: 8,
                ffn_dim: 1024,
                context_dim: 256,
                ..TransformerConfig::wan_1_3b()
            },
            Self::Tiny => TransformerConfig {
                dim: 128,
                heads: 2,
                layers: 3,
                ffn_dim: 256,
                context_dim: 48,
                context_len: 16,
                ..TransformerConfig::wan_1_3b()
            },
        }
    }

    /// Sizes of the transformer of a world of `keys` keys, with a mouse or without.
    pub fn world(self, keys: usize, mouse: bool) -> TransformerConfig {
        let published = TransformerConfig::matrix_game_2(keys, mouse);
        match self {
            Self::Full => published,
            Self::Mid | Self::Tiny => TransformerConfig {
                context: published.context,
                context_len: 10,
                in_channels: published.in_channels,
                actions: Some(ActionConfig {
                    blocks: vec![0, 1],
                    key_dim: 16,
                    heads: 2,
                    ..ActionConfig::matrix_game_2(keys, mouse)
                }),
                ..self.transformer()
            },
        }
    }

    fn wan(self) -> WanVaeConfig {
        match self {
            Self::Full => WanVaeConfig::wan21(),
            Self::Mid => WanVaeConfig {
                dim: 16,
                ..WanVaeConfig::wan21()
            },
            Self::Tiny => WanVaeConfig {
                dim: 8,
                ..WanVaeConfig::wan21()
            },
        }
    }

    fn tae(self) -> TaeConfig {
        match self {
            Self::Full => TaeConfig::taew21(),
            Self::Mid => TaeConfig {
                widths: [64, 32, 16, 16],
                ..TaeConfig::taew21()
            },
            Self::Tiny => TaeConfig {
                widths: [32, 16, 8, 8],
                ..TaeConfig::taew21()
            },
        }
    }
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Self::Full),
            "mid" => Ok(Self::Mid),
            "tiny" => Ok(Self::Tiny),
            _ => Err(format!("expected one of {}", Self::NAMES.join(", "))),
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Mid => "mid",
            Self::Tiny => "tiny",
        })
    }
}

/// Networks on a device, with a prompt.
pub struct Networks {
    pub model: Arc<CausalWan>,
    /// `None` measures latents alone.
    pub decoder: Option<Arc<Decoder>>,
    /// `[rows, context_dim]`, f32, on the device.
    pub embedding: Tensor,
}

impl Networks {
    /// From the files of a model; `decoded`: whether latents become pictures.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn load(files: &ModelFiles, prompt: &str, decoded: bool, compute: &Compute) -> Result<Self> {
        let model = files.load_transformer(compute)?;
        let embedding = if files.reads_image() {
            image_tokens(files, compute)?
        } else {
            prompt_embedding(files, &model, prompt, compute)?
        };
        let decoder = decoded.then(|| files.load_decoder(compute)).transpose()?;
        Ok(Self {
            model,
            decoder,
            embedding,
        })
    }

    /// With random weights, the same on every device.
    ///
    /// # Errors
    /// When the device has no room for them.
    pub fn random(
        config: TransformerConfig,
        scale: Scale,
        decoder: Option<DecoderKind>,
        seed: u64,
        compute: &Compute,
    ) -> Result<Self> {
        let weights = random_weights(CausalWan::expected_tensors(config.clone())?, seed, compute)?;
        let embedding = Pool::new(seed ^ 1, &compute.device)?.cut(&[config.context_len, config.context_dim], 0, 1.0)?;
        let model = Arc::new(CausalWan::new(config, weights)?);
        let decoder = match decoder {
            None => None,
            Some(kind) => {
                let specs = match kind {
                    DecoderKind::Wan => scale.wan().expected_tensors()?,
                    DecoderKind::Tae => scale.tae().expected_tensors()?,
                };
                let specs = specs.into_iter().filter(|spec| !of_encoder(&spec.name)).collect();
                let weights = random_weights(specs, seed, compute)?;
                Some(Arc::new(Decoder::new(&weights)?))
            }
        };
        Ok(Self {
            model,
            decoder,
            embedding,
        })
    }
}

/// The embedding of a prompt, on the device.
fn prompt_embedding(files: &ModelFiles, model: &CausalWan, prompt: &str, compute: &Compute) -> Result<Tensor> {
    let text_len = files.read_config()?.text_len.unwrap_or(DEFAULT_TEXT_LEN);
    let text = files.open_text(text_len, compute)?;
    files.check_prompt_width(&text, model)?;
    let embedded = text.embed(&[prompt.to_owned()])?;
    let embedding = embedded.into_iter().next().ok_or(crate::Error::NoPrompt)?;
    Ok(embedding.tensor.to_device(&compute.device)?)
}

/// What the vision tower makes of a grey picture, on the device.
fn image_tokens(files: &ModelFiles, compute: &Compute) -> Result<Tensor> {
    let tower = files.load_image_encoder(compute)?;
    let side = tower.config().pixels();
    let grey = Tensor::zeros((PICTURE_CHANNELS, side, side), candle_core::DType::F32, &compute.device)?;
    tower.encode(&tower.prepare(&grey)?)
}

fn of_encoder(name: &str) -> bool {
    name.starts_with("encoder.") || name.starts_with("conv1.")
}

/// Random tensors of these names and shapes on the device, the same for a seed on every device: matrices keep the size
/// of what they are multiplied with, gains are one, biases zero.
///
/// # Errors
/// When the device has no room for them.
pub fn random_weights(specs: Vec<TensorSpec>, seed: u64, compute: &Compute) -> Result<Weights> {
    let pool = Pool::new(seed, &compute.device)?;
    let mut tensors: HashMap<String, Tensor> = HashMap::with_capacity(specs.len());
    for (index, spec) in specs.into_iter().enumerate() {
        let fan_in: usize = spec.shape.iter().skip(1).product();
        let tensor = match () {
            () if spec.name.ends_with("bias") => Tensor::zeros(spec.shape, compute.dtype, &compute.device)?,
            // Vectors, and vectors stored as [n, 1, 1]: gains of norms.
            () if fan_in <= 1 => Tensor::ones(spec.shape, compute.dtype, &compute.device)?,
            () => {
                let spread = 1.0 / (fan_in as f64).sqrt();
                pool.cut(&spec.shape, index * 7919, spread)?.to_dtype(compute.dtype)?
            }
        };
        tensors.insert(spec.name, tensor);
    }
    Ok(Weights::from_tensors(tensors, compute.dtype, &compute.device))
}

/// Normal random numbers on a device, made on the CPU so that they are the same everywhere.
struct Pool(Tensor);

impl Pool {
    fn new(seed: u64, device: &Device) -> Result<Self> {
        let mut generator = ChaCha12Rng::seed_from_u64(seed);
        let values: Vec<f32> = (0..POOL).map(|_| StandardNormal.sample(&mut generator)).collect();
        Ok(Self(Tensor::from_vec(values, POOL, device)?))
    }

    /// A tensor of `spread` times the numbers from `place` on, from the start again at their end.
    fn cut(&self, shape: &[usize], place: usize, spread: f64) -> Result<Tensor> {
        let (count, place) = (shape.iter().product::<usize>(), place % POOL);
        let repeats = (place + count).div_ceil(POOL);
        let scaled = (&self.0 * spread)?;
        let values = match repeats {
            0 | 1 => scaled,
            _ => scaled
                .unsqueeze(0)?
                .broadcast_as((repeats, POOL))?
                .contiguous()?
                .flatten_all()?,
        };
        Ok(values.narrow(0, place, count)?.copy()?.reshape(shape)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_weights_are_the_same_for_a_seed_and_of_unit_gain() {
        let spec = |name: &str, shape: &[usize]| TensorSpec {
            name: name.into(),
            shape: shape.into(),
        };
        let specs = || {
            vec![
                spec("a.weight", &[1100, 1000]),
                spec("b.weight", &[64, 16]),
                spec("n.weight", &[8]),
                spec("g.gamma", &[8, 1, 1, 1]),
                spec("a.bias", &[8]),
            ]
        };
        let values = |weights: &Weights, shape: &[usize], name: &str| -> Vec<f32> {
            weights
                .get(shape, name)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap()
        };
        let (one, two) = (
            random_weights(specs(), 3, &Compute::cpu()).unwrap(),
            random_weights(specs(), 3, &Compute::cpu()).unwrap(),
        );
        let a = values(&one, &[1100, 1000], "a.weight");
        assert_eq!(a, values(&two, &[1100, 1000], "a.weight"));
        // The pool begins again within this matrix.
        assert_eq!(a[0], a[POOL]);
        let variance = a.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / a.len() as f64;
        assert!((variance * 1000.0 - 1.0).abs() < 0.01, "{variance}");
        assert_ne!(values(&one, &[64, 16], "b.weight")[..8], a[..8]);
        assert_eq!(values(&one, &[8], "n.weight"), [1.0; 8]);
        assert_eq!(values(&one, &[8, 1, 1, 1], "g.gamma"), [1.0; 8]);
        assert_eq!(values(&one, &[8], "a.bias"), [0.0; 8]);
    }

    #[test]
    fn networks_of_every_kind_can_be_made() {
        for decoder in [None, Some(DecoderKind::Wan), Some(DecoderKind::Tae)] {
            let config = Scale::Tiny.transformer();
            let networks = Networks::random(config, Scale::Tiny, decoder, 0, &Compute::cpu()).unwrap();
            assert_eq!(networks.decoder.is_some(), decoder.is_some());
            assert_eq!(networks.embedding.dims(), [16, 48]);
        }
    }
}
