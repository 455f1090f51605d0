//! Sizes of a Wan transformer, read from the shapes of its tensors.

use std::path::Path;

use serde::Deserialize;

use super::action::ActionConfig;
use crate::{Error, Result, cache::CacheShape, checkpoint::Weights, files};

/// What the cross-attention of a network attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextKind {
    /// The embedding of a prompt.
    Text,
    /// The tokens of the image that a world begins with (docs/algorithms/matrix_game_2.md section 2).
    Image,
}

/// Tokens of an image that the published vision tower gives: 16×16 patches of 14×14 pixels and the class token.
const IMAGE_TOKENS: usize = 257;

/// Sizes of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerConfig {
    pub dim: usize,
    pub heads: usize,
    pub ffn_dim: usize,
    pub layers: usize,
    /// Size of the sinusoidal time embedding.
    pub freq_dim: usize,
    /// What cross-attention attends to.
    pub context: ContextKind,
    /// Width of what the context's encoder gives.
    pub context_dim: usize,
    /// Rows of the context: those of a prompt embedding with its padding, or the tokens of an image.
    pub context_len: usize,
    /// Channels of what is denoised, and of what stands beside it.
    pub in_channels: usize,
    pub out_channels: usize,
    /// The modules that read keyboard and mouse, if there are any.
    pub actions: Option<ActionConfig>,
    /// Of all norms.
    pub eps: f64,
}

/// Pixels of a latent frame that make one token, on each side.
pub const PATCH: usize = 2;

/// Most rows of a prompt embedding that are taken for meant.
const LONGEST_PROMPT: usize = 1 << 16;

/// What `config.json` beside a checkpoint adds to the shapes of its tensors. Other keys are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct WanConfigFile {
    pub num_heads: Option<usize>,
    pub text_len: Option<usize>,
    pub eps: Option<f64>,
    /// Heads of the vision tower beside the network.
    pub num_image_heads: Option<usize>,
    /// Sizes that the shapes of the tensors tell as well: a file that says otherwise is that of another model.
    pub dim: Option<usize>,
    pub ffn_dim: Option<usize>,
    pub num_layers: Option<usize>,
    pub in_dim: Option<usize>,
    pub out_dim: Option<usize>,
    pub freq_dim: Option<usize>,
    pub text_dim: Option<usize>,
    /// The same as diffusers names them.
    pub num_attention_heads: Option<usize>,
    pub attention_head_dim: Option<usize>,
    pub in_channels: Option<usize>,
    pub out_channels: Option<usize>,
    pub patch_size: Option<serde_json::Value>,
    /// What kind of model it is: `t2v`, `i2v`.
    pub model_type: Option<String>,
    /// Class of the reference implementation or of diffusers that the weights are of.
    #[serde(rename = "_class_name")]
    pub class_name: Option<String>,
    /// Preset that suits the model, for folders made for this program.
    pub deepforcing_preset: Option<String>,
}

impl WanConfigFile {
    /// Reads `config.json`; a folder without one gives the defaults.
    ///
    /// # Errors
    /// When the file is there and is not such JSON, or a number in it is absurd.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match files::read_text(path, files::LONGEST_TEXT) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::config(path, error)),
        };
        let file: Self = serde_json::from_str(&text).map_err(|error| Error::config(path, error))?;
        if let Some(rows) = file.text_len.filter(|rows| !(1..=LONGEST_PROMPT).contains(rows)) {
            let reason = format!("`text_len` is {rows}, expected 1 to {LONGEST_PROMPT} (Wan models have 512)");
            return Err(Error::config(path, reason));
        }
        if let Some(eps) = file.eps.filter(|eps| !(*eps > 0.0 && *eps < 1.0)) {
            let reason = format!("`eps` is {eps}, expected a small number above 0 (Wan models have 1e-6)");
            return Err(Error::config(path, reason));
        }
        Ok(file)
    }
}

impl WanConfigFile {
    /// Attention heads, by whichever name the file has.
    fn heads(&self) -> Option<usize> {
        self.num_heads.or(self.num_attention_heads)
    }

    /// Whether the class is that of a causal model; `None` where it says nothing of that.
    pub fn says_causal(&self) -> Option<bool> {
        let class = self.class_name.as_deref()?;
        let base = ["WanModel", "WanTransformer3DModel"].contains(&class);
        (class.contains("Causal") || base).then_some(!base)
    }
}

/// Widths of published Wan transformers and their attention heads, which tensors do not tell.
const PUBLISHED_HEADS: &[(usize, usize)] = &[(1536, 12), (3072, 24), (5120, 40)];

impl TransformerConfig {
    /// Sizes of a cache for latents of `height`×`width` and chunks of `chunk` latent frames.
    pub fn cache_shape(&self, height: usize, width: usize, chunk: usize) -> CacheShape {
        CacheShape {
            layers: self.layers,
            heads: self.heads,
            head_dim: self.head_dim(),
            rows: height / PATCH,
            columns: width / PATCH,
            chunk,
        }
    }

    /// Wan2.1-T2V-1.3B.
    pub fn wan_1_3b() -> Self {
        Self {
            dim: 1536,
            heads: 12,
            ffn_dim: 8960,
            layers: 30,
            freq_dim: 256,
            context: ContextKind::Text,
            context_dim: 4096,
            context_len: 512,
            in_channels: 16,
            out_channels: 16,
            actions: None,
            eps: 1e-6,
        }
    }

    /// Matrix-Game 2.0 with `keys` keys, with a mouse or without (docs/algorithms/matrix_game_2.md section 1).
    pub fn matrix_game_2(keys: usize, mouse: bool) -> Self {
        Self {
            context: ContextKind::Image,
            context_dim: 1280,
            context_len: IMAGE_TOKENS,
            in_channels: 36,
            actions: Some(ActionConfig::matrix_game_2(keys, mouse)),
            ..Self::wan_1_3b()
        }
    }

    /// Channels that stand beside the noisy latents: mask and latents of the image that a world begins with.
    pub fn beside_channels(&self) -> usize {
        self.in_channels.saturating_sub(self.out_channels)
    }

    /// Channels of one head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// Reads all sizes from tensor shapes; `file` gives what shapes cannot tell. Without it heads have 128 channels and
    /// prompts 512 rows, as in all published Wan2.1 models.
    ///
    /// # Errors
    /// When a tensor that tells a size is missing or has the wrong rank, or the number of heads does not divide `dim`.
    pub fn from_weights(weights: &Weights, file: &WanConfigFile) -> Result<Self> {
        let dims = |name: &str, rank: usize| -> Result<Vec<usize>> {
            match weights.shape(name) {
                Some(shape) if shape.len() == rank => Ok(shape),
                Some(shape) => Err(Error::not_a_transformer(
                    weights.origin(),
                    format!("tensor `{name}` has shape {shape:?}, expected {rank} axes"),
                )),
                None => Err(Error::not_a_transformer(
                    weights.origin(),
                    format!("it has no tensor `{name}`"),
                )),
            }
        };
        let patch = dims("patch_embedding.weight", 5)?;
        let (dim, in_channels) = (patch[0], patch[1]);
        let heads = file.heads().unwrap_or(dim / 128);
        if heads == 0 || !dim.is_multiple_of(2 * heads) {
            return Err(Error::not_a_transformer(
                weights.origin(),
                format!(
                    "{heads} heads do not divide dim {dim}; name the number of heads as `num_heads` in config.json"
                ),
            ));
        }
        // A network that reads both reads an image beside the prompt: it is none of these.
        let reads_text = weights.contains("text_embedding.0.weight");
        let (context, context_dim, context_len) = if !reads_text && weights.contains("img_emb.proj.1.weight") {
            (ContextKind::Image, dims("img_emb.proj.1.weight", 2)?[1], IMAGE_TOKENS)
        } else {
            let rows = file.text_len.unwrap_or(512);
            (ContextKind::Text, dims("text_embedding.0.weight", 2)?[1], rows)
        };
        let mut layers = 0;
        while weights.contains(&format!("blocks.{layers}.modulation")) {
            layers += 1;
        }
        let config = Self {
            dim,
            heads,
            ffn_dim: dims("blocks.0.ffn.0.weight", 2)?[0],
            layers,
            freq_dim: dims("time_embedding.0.weight", 2)?[1],
            context,
            context_dim,
            context_len,
            in_channels,
            out_channels: dims("head.head.weight", 2)?[0] / (PATCH * PATCH),
            actions: ActionConfig::from_weights(weights, dim, layers)?,
            eps: file.eps.unwrap_or(1e-6),
        };
        config.check_against(file, weights)?;
        Ok(config)
    }

    /// Refuses the `config.json` of another model.
    fn check_against(&self, file: &WanConfigFile, weights: &Weights) -> Result<()> {
        let head_dim = file.attention_head_dim;
        let published = PUBLISHED_HEADS
            .iter()
            .find(|(dim, _)| *dim == self.dim)
            .map(|(_, heads)| *heads);
        let sizes = [
            ("dim", file.dim, self.dim),
            ("ffn_dim", file.ffn_dim, self.ffn_dim),
            ("num_layers", file.num_layers, self.layers),
            ("in_dim", file.in_dim, self.in_channels),
            ("out_dim", file.out_dim, self.out_channels),
            ("freq_dim", file.freq_dim, self.freq_dim),
            (
                "text_dim",
                file.text_dim.filter(|_| self.context == ContextKind::Text),
                self.context_dim,
            ),
            ("in_channels", file.in_channels, self.in_channels),
            ("out_channels", file.out_channels, self.out_channels),
            ("num_attention_heads", file.num_attention_heads, self.heads),
            (
                "num_attention_heads × attention_head_dim",
                head_dim.map(|dim| dim.saturating_mul(self.heads)),
                self.dim,
            ),
            ("num_heads", file.heads(), published.unwrap_or(self.heads)),
        ];
        let other = sizes
            .into_iter()
            .find(|(_, told, found)| told.is_some_and(|told| told != *found));
        if let Some((name, Some(told), found)) = other {
            return Err(Error::OtherConfig {
                origin: weights.origin(),
                name,
                told,
                found,
            });
        }
        let text_to_video = self.context == ContextKind::Text && self.in_channels == self.out_channels;
        let kind = file
            .model_type
            .as_deref()
            .filter(|kind| text_to_video && *kind != "t2v");
        let class = file
            .class_name
            .as_deref()
            .filter(|class| !class.contains("Wan") || class.contains("VACE"));
        let patch = file
            .patch_size
            .as_ref()
            .filter(|patch| **patch != serde_json::json!([1, PATCH, PATCH]));
        let words = [
            ("model_type", kind.map(str::to_string), "t2v, a text-to-video model"),
            ("_class_name", class.map(str::to_string), "a Wan transformer"),
            ("patch_size", patch.map(|patch| patch.to_string()), "[1, 2, 2]"),
        ];
        match words
            .into_iter()
            .find_map(|(name, told, found)| Some((name, told?, found)))
        {
            Some((name, told, found)) => Err(Error::OtherConfigWord {
                config: "config.json".into(),
                origin: weights.origin().into(),
                name,
                told: told.escape_debug().to_string().into(),
                found: found.into(),
            }),
            None => Ok(()),
        }
    }
}
