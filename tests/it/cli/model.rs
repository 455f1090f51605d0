//! A model folder of the published layout, tiny and random.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor};
use deepforcing::{
    checkpoint::TensorSpec,
    text::{Umt5, Umt5Config},
    transformer::{CausalWan, ContextKind, TransformerConfig, action::ActionConfig, image::ClipConfig},
    vae::{TaeConfig, WanVaeConfig},
};
use tempfile::{TempDir, tempdir};

use crate::cli::build::{archive, dict, tensor, write_zip};

pub const TRANSFORMER: &str = "diffusion_pytorch_model.safetensors";
pub const CONTAINER: &str = "checkpoints/self_forcing_dmd.pt";
pub const VAE: &str = "Wan2.1_VAE.pth";
pub const TINY_DECODER: &str = "taew2_1.safetensors";
pub const TEXT_ENCODER: &str = "models_t5_umt5-xxl-enc-bf16.safetensors";
pub const TOKENIZER: &str = "google/umt5-xxl/tokenizer.json";
pub const CONFIG: &str = "config.json";
pub const IMAGE_ENCODER: &str = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth";

/// Tensors by name: shape and values.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A model folder, removed when dropped.
pub struct Model {
    folder: TempDir,
}

impl Model {
    /// All files that `generate` needs, and the tiny decoder.
    pub fn new() -> Self {
        let model = Self {
            folder: tempdir().unwrap(),
        };
        model.write(CONFIG, br#"{"num_heads": 2, "text_len": 16, "model_type": "t2v"}"#);
        save_safetensors(&model.path(TRANSFORMER), &transformer());
        save_torch(&model.path(VAE), &vae());
        save_safetensors(&model.path(TINY_DECODER), &tiny_decoder());
        save_safetensors(&model.path(TEXT_ENCODER), &text_encoder());
        model.write(TOKENIZER, tokenizer().as_bytes());
        model
    }

    /// The files of a world of `keys` keys, with a mouse or without: the transformer as it is published, under the name
    /// `file` and with the prefix of its wrapper. It names no preset and has no text encoder.
    pub fn world(file: &str, keys: usize, mouse: bool) -> Self {
        let model = Self {
            folder: tempdir().unwrap(),
        };
        model.write(CONFIG, br#"{"num_heads": 2, "num_image_heads": 2}"#);
        let wrapped = world_transformer(keys, mouse).into_iter();
        let wrapped = wrapped.map(|(name, values)| (format!("model.{name}"), values));
        save_safetensors(&model.path(file), &wrapped.collect());
        save_torch(&model.path(VAE), &vae());
        save_safetensors(&model.path(TINY_DECODER), &tiny_decoder());
        save_torch(&model.path(IMAGE_ENCODER), &image_encoder());
        model
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        let path = self.folder().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Puts the file `from` in the place of `to`, under a name that fits its format.
    pub fn replace(&self, to: &str, from: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
    }

    /// Rewrites the transformer.
    pub fn change_transformer(&self, change: impl FnOnce(&mut Tensors)) {
        let mut tensors = transformer();
        change(&mut tensors);
        save_safetensors(&self.path(TRANSFORMER), &tensors);
    }

    /// The transformer as Self Forcing publishes it: nested in a training file, under wrapper names, beside other
    /// weights that must not be taken.
    pub fn nest_transformer(&self) {
        self.remove(TRANSFORMER);
        let wrapped = |tensors: Tensors| -> Tensors {
            let rename = |(name, values)| (format!("model._fsdp_wrapped_module.{name}"), values);
            tensors.into_iter().map(rename).collect()
        };
        let mut worse = transformer();
        for (_, values) in worse.values_mut() {
            values.fill(f32::NAN);
        }
        let mut storages = Vec::new();
        let worse = state_dict(&wrapped(worse), &mut storages);
        let averaged = state_dict(&wrapped(transformer()), &mut storages);
        let body = dict(&[("generator", worse), ("generator_ema", averaged)]);
        write_archive(&self.path(CONTAINER), &body, &storages);
    }
}

/// Numbers that look random and are the same everywhere: gains of norms around 1, the rest scaled by its inputs.
fn random(specs: Vec<TensorSpec>) -> Tensors {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let fill = |spec: TensorSpec| {
        let inputs = spec.shape.iter().skip(1).product::<usize>().max(1) as f32;
        let is_gain = spec.shape.len() == 1 && !spec.name.ends_with("bias") || spec.name.ends_with("gamma");
        let value = |noise: f32| match is_gain {
            true => 1.0 + noise * 0.1,
            false => noise * (3.0 / inputs).sqrt(),
        };
        let values = (0..spec.shape.iter().product()).map(|_| value(next())).collect();
        (spec.name, (spec.shape, values))
    };
    specs.into_iter().map(fill).collect()
}

pub fn transformer() -> Tensors {
    transformer_of(16, 32)
}

/// With this many latent channels at the input, for prompt embeddings of width `text_dim`.
pub fn transformer_of(in_channels: usize, text_dim: usize) -> Tensors {
    let config = TransformerConfig {
        dim: 48,
        heads: 2,
        ffn_dim: 96,
        layers: 2,
        freq_dim: 32,
        context_dim: text_dim,
        context_len: 16,
        in_channels,
        out_channels: 16,
        ..TransformerConfig::wan_1_3b()
    };
    random(CausalWan::expected_tensors(config).unwrap())
}

/// A world whose images have tokens of width 24.
fn world_transformer(keys: usize, mouse: bool) -> Tensors {
    let config = TransformerConfig {
        dim: 48,
        heads: 2,
        ffn_dim: 96,
        layers: 2,
        freq_dim: 32,
        context: ContextKind::Image,
        context_dim: 24,
        in_channels: 36,
        actions: Some(ActionConfig {
            blocks: vec![0],
            keys,
            mouse,
            key_dim: 8,
            heads: 2,
            head_dim: 8,
        }),
        ..TransformerConfig::wan_1_3b()
    };
    random(CausalWan::expected_tensors(config).unwrap())
}

/// A vision tower, with a tensor of the text tower beside it.
fn image_encoder() -> Tensors {
    let config = ClipConfig {
        dim: 24,
        heads: 2,
        layers: 3,
        used: 2,
        patch: 4,
        side: 3,
        mlp_dim: 48,
        out_dim: Some(8),
    };
    let mut tensors = random(config.expected_tensors().unwrap());
    tensors.insert("textual.token_embedding.weight".into(), (vec![2, 2], vec![0.5; 4]));
    tensors.insert("log_scale".into(), (vec![1], vec![1.0]));
    tensors
}

pub fn vae() -> Tensors {
    let config = WanVaeConfig {
        dim: 4,
        dim_mult: vec![1, 2, 2, 2],
        num_res_blocks: 1,
        temporal_downsample: vec![false, true, true],
    };
    random(config.expected_tensors().unwrap())
}

fn tiny_decoder() -> Tensors {
    let config = TaeConfig {
        widths: [8, 8, 8, 8],
        ..TaeConfig::taew21()
    };
    random(config.expected_tensors().unwrap())
}

pub fn text_encoder() -> Tensors {
    let config = Umt5Config {
        vocab: 32,
        dim: 32,
        attention_dim: 32,
        ffn_dim: 48,
        heads: 2,
        layers: 2,
        buckets: 8,
        max_distance: 128,
    };
    random(Umt5::expected_tensors(&config).unwrap())
}

/// Letters, each a token, behind the special tokens at their places in the real file.
pub fn tokenizer() -> String {
    let special = |id: usize, content: &str| {
        format!(
            r#"{{"id": {id}, "content": "{content}", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}}"#
        )
    };
    let letters: String = ('a'..='z').map(|letter| format!(r#", ["{letter}", -1.0]"#)).collect();
    format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [{}, {}], "normalizer": null,
        "pre_tokenizer": {{"type": "Metaspace", "replacement": "▁", "add_prefix_space": true}}, "decoder": null,
        "post_processor": {{"type": "TemplateProcessing",
            "single": [{{"Sequence": {{"id": "A", "type_id": 0}}}}, {{"SpecialToken": {{"id": "</s>", "type_id": 0}}}}],
            "pair": [{{"Sequence": {{"id": "A", "type_id": 0}}}}, {{"Sequence": {{"id": "B", "type_id": 0}}}}],
            "special_tokens": {{"</s>": {{"id": "</s>", "ids": [1], "tokens": ["</s>"]}}}}}},
        "model": {{"type": "Unigram", "unk_id": 2, "vocab":
            [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁", -1.0]{letters}]}}}}"#,
        special(0, "<pad>"),
        special(1, "</s>")
    )
}

pub fn save_safetensors(path: &Path, tensors: &Tensors) {
    let tensor = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| {
        let tensor = Tensor::from_slice(values, shape.as_slice(), &Device::Cpu).unwrap();
        (name.clone(), tensor)
    };
    candle_core::safetensors::save(&tensors.iter().map(tensor).collect(), path).unwrap();
}

/// As `torch.save` writes a state dict.
pub fn save_torch(path: &Path, tensors: &Tensors) {
    let mut storages = Vec::new();
    let body = state_dict(tensors, &mut storages);
    write_archive(path, &body, &storages);
}

/// The pickle of a state dict; its values become further `storages`.
fn state_dict(tensors: &Tensors, storages: &mut Vec<Vec<u8>>) -> Vec<u8> {
    let entries: Vec<_> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            let shape: Vec<i64> = shape.iter().map(|n| *n as i64).collect();
            let strides: Vec<i64> = (0..shape.len())
                .map(|axis| shape[axis + 1..].iter().product())
                .collect();
            let key = storages.len().to_string();
            storages.push(crate::cli::build::floats(values));
            let pickled = tensor("FloatStorage", &key, values.len() as i64, 0, &shape, &strides);
            (name.as_str(), pickled)
        })
        .collect();
    dict(&entries)
}

fn write_archive(path: &Path, body: &[u8], storages: &[Vec<u8>]) {
    let keys: Vec<_> = (0..storages.len()).map(|key| key.to_string()).collect();
    let storages: Vec<_> = keys.iter().map(String::as_str).zip(storages.iter().cloned()).collect();
    write_zip(path, &archive(body, &storages));
}
