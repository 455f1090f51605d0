//! Which tensors of a file make up the model, and what they are called there.
//!
//! Published layouts differ in two ways: in the state dict to take ([`choose_state_dict`]) and in how tensors are named
//! ([`KeyMap`]). Everything behind this module sees the original Wan names only. A new layout (Diffusers names, LoRA
//! names) is a new [`KeyMap`] variant.

/// State dicts of a training or inference file, best first; without any of them the file itself is the state dict.
pub(super) const STATE_DICTS: [&str; 6] = [
    "generator_ema",
    "generator",
    "model",
    // Of training frameworks.
    "state_dict",
    "model_state_dict",
    "module",
];

/// What wrappers of training put into names, at any depth: sharding (FSDP), `torch.compile`, activation checkpointing.
pub(super) const MARKERS: [&str; 3] = ["_fsdp_wrapped_module.", "_orig_mod.", "_checkpoint_wrapped_module."];

/// What stands in front of all names, each once at most and in this order: data parallelism, the diffusion wrapper of Self
/// Forcing (and ComfyUI's checkpoints), ComfyUI's diffusion models.
const PREFIXES: [&str; 3] = ["module.", "model.", "diffusion_model."];

/// How names in the file become names of the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyMap {
    /// Self Forcing and Wan files: markers of wrappers are deleted everywhere, prefixes of wrappers at the front.
    #[default]
    Wan,
    /// Names as they are.
    Verbatim,
}

impl KeyMap {
    /// Name of the model for a name in the file.
    pub fn apply(self, name: &str) -> String {
        match self {
            Self::Verbatim => name.into(),
            Self::Wan => {
                let bare = MARKERS
                    .iter()
                    .fold(name.to_owned(), |name, marker| name.replace(marker, ""));
                let strip = |name, prefix: &&str| str::strip_prefix(name, prefix).unwrap_or(name);
                PREFIXES.iter().fold(bare.as_str(), strip).into()
            }
        }
    }
}

/// Chooses among the dicts of a file: the one that the user named, else the best of [`STATE_DICTS`] that holds tensors,
/// else none (the file itself is the state dict).
///
/// `dicts` are the names of the dicts with their number of tensors.
///
/// # Errors
/// When the user named one that is not there; the error is what to tell.
pub(super) fn choose_state_dict<'a>(
    dicts: &[(&'a str, usize)],
    wanted: Option<&str>,
) -> Result<Option<&'a str>, String> {
    let find = |key: &str| {
        dicts
            .iter()
            .find(|(name, tensors)| *name == key && *tensors > 0)
            .map(|(name, _)| *name)
    };
    match wanted {
        Some(key) => find(key)
            .map(Some)
            .ok_or_else(|| format!("it has no state dict `{key}`")),
        None => Ok(STATE_DICTS.iter().find_map(|key| find(key))),
    }
}

/// What files of LoRAs look like.
pub(crate) const LORA: &str = "a LoRA";

/// What files of models with an image at their input look like.
const IMAGE_TO_VIDEO: &str = "a Wan image-to-video (I2V) model, which has further layers for the image";

/// Models whose files people mix up.
const LAYOUTS: &[(&str, &[&str])] = &[
    (LORA, &["lora_A", "lora_B"]),
    (LORA, &["lora_down", "lora_up"]),
    (IMAGE_TO_VIDEO, &["img_emb.", "blocks.0."]),
    (IMAGE_TO_VIDEO, &["condition_embedder.image_embedder."]),
    (IMAGE_TO_VIDEO, &[".attn2.add_k_proj."]),
    ("a Wan VACE model, which has further blocks", &["vace_blocks."]),
    (
        "a Wan diffusion model with Diffusers names",
        &["attn1.to_q", "condition_embedder"],
    ),
    (
        "a Wan diffusion model",
        &["blocks.0.self_attn.q.weight", "head.modulation"],
    ),
    ("a Wan VAE", &["decoder.conv1.weight", "decoder.middle.0"]),
    (
        "a Wan VAE with Diffusers names",
        &["decoder.conv_in.weight", "decoder.mid_block"],
    ),
    (
        "a UMT5 text encoder",
        &["token_embedding.weight", "blocks.0.attn.q.weight"],
    ),
    (
        "a T5 text encoder with Hugging Face names",
        &["shared.weight", "encoder.block.0"],
    ),
    (
        "a tiny autoencoder (TAEHV)",
        &["decoder.1.weight", "decoder.3.conv.0.weight"],
    ),
    ("a CLIP vision encoder", &["visual."]),
];

/// What a file with these tensors looks like, for messages.
pub(super) fn guess_layout<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<&'static str> {
    LAYOUTS
        .iter()
        .find(|(_, marks)| marks.iter().all(|mark| names.clone().any(|name| name.contains(mark))))
        .map(|(layout, _)| *layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapper_names_are_stripped() {
        for (stored, bare) in [
            ("model.head.head.weight", "head.head.weight"),
            (
                "model._fsdp_wrapped_module.blocks.1._fsdp_wrapped_module.norm3.bias",
                "blocks.1.norm3.bias",
            ),
            ("_fsdp_wrapped_module.model.head.modulation", "head.modulation"),
            ("model.model.x", "model.x"),
            ("_orig_mod.blocks.0.norm3.bias", "blocks.0.norm3.bias"),
            ("blocks.1._orig_mod.ffn.0.weight", "blocks.1.ffn.0.weight"),
            (
                "model._orig_mod.blocks.1._checkpoint_wrapped_module._fsdp_wrapped_module.norm3.bias",
                "blocks.1.norm3.bias",
            ),
            ("module.blocks.0.norm3.bias", "blocks.0.norm3.bias"),
            ("module._orig_mod.model.head.modulation", "head.modulation"),
            ("model.diffusion_model.head.modulation", "head.modulation"),
            ("diffusion_model.head.modulation", "head.modulation"),
            ("decoder.module.x", "decoder.module.x"),
            ("conv1.weight", "conv1.weight"),
            ("submodel.weight", "submodel.weight"),
        ] {
            assert_eq!(KeyMap::Wan.apply(stored), bare);
            assert_eq!(KeyMap::Verbatim.apply(stored), stored);
        }
    }

    #[test]
    fn the_averaged_generator_is_preferred() {
        let all = [("critic", 9), ("model", 9), ("generator", 9), ("generator_ema", 9)];
        assert_eq!(choose_state_dict(&all, None), Ok(Some("generator_ema")));
        assert_eq!(choose_state_dict(&all[..3], None), Ok(Some("generator")));
        assert_eq!(choose_state_dict(&all[..2], None), Ok(Some("model")));
        assert_eq!(choose_state_dict(&all[..1], None), Ok(None));
        assert_eq!(
            choose_state_dict(&[("callbacks", 1), ("state_dict", 9)], None),
            Ok(Some("state_dict"))
        );
        assert_eq!(choose_state_dict(&all, Some("critic")), Ok(Some("critic")));
        assert!(choose_state_dict(&all, Some("ema")).unwrap_err().contains("`ema`"));
        assert_eq!(
            choose_state_dict(&[("generator_ema", 0), ("generator", 1)], None),
            Ok(Some("generator"))
        );
    }

    #[test]
    fn files_are_recognised_by_their_names() {
        let names = ["token_embedding.weight", "blocks.0.attn.q.weight"];
        assert_eq!(guess_layout(names.into_iter()), Some("a UMT5 text encoder"));
        assert_eq!(guess_layout(["x"].into_iter()), None);
    }
}
