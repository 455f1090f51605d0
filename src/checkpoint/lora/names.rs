//! What the tensors of LoRA files are called, and which tensor of the model each belongs to.
//!
//! Every tool has its own spelling of the same two matrices per linear layer. All of it is in the tables below: a new
//! spelling is a row.

use std::collections::HashMap;

use super::super::TensorSpec;

/// What a tensor is for its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// `A`, `[rank, in]`.
    Down,
    /// `B`, `[out, rank]`.
    Up,
    /// A number: the product is scaled by it, divided by the rank.
    Alpha,
}

/// Endings of the parts; the first that fits is taken.
const PARTS: &[(&str, Part)] = &[
    (".lora_down.weight", Part::Down),
    (".lora_up.weight", Part::Up),
    (".lora.down.weight", Part::Down),
    (".lora.up.weight", Part::Up),
    ("_lora.down.weight", Part::Down),
    ("_lora.up.weight", Part::Up),
    (".lora_A.weight", Part::Down),
    (".lora_B.weight", Part::Up),
    (".lora_A", Part::Down),
    (".lora_B", Part::Up),
    (".alpha", Part::Alpha),
];

/// What stands before and behind the name of an adapter: `.lora_A.default.weight`.
const NAMED_ADAPTERS: &[(&str, &str, Part)] = &[(".lora_A.", ".weight", Part::Down), (".lora_B.", ".weight", Part::Up)];

/// Changes that are no pair of matrices, by a piece of their names that nothing else has.
const OTHER_KINDS: &[(&str, &str)] = &[
    (".diff", "a full difference"),
    (".lora_magnitude_vector", "DoRA"),
    (".dora_scale", "DoRA"),
    (".lokr_", "LoKr"),
    (".hada_", "LoHa"),
    (".lora_mid.", "a LoRA with a middle matrix (Tucker)"),
    (".reshape_weight", "a change of the input channels"),
    (".w_norm", "a change of norms"),
    (".b_norm", "a change of norms"),
];

/// What tools put before the names of modules; taken away one after the other until the rest is known.
const PREFIXES: &[&str] = &[
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "pipe.dit.",
    "unet.",
    "model.",
    "_fsdp_wrapped_module.",
];

/// The same for names in which every dot is an underscore. Such a name cannot be taken apart (`self_attn_q`), so that the
/// names of all modules are written that way and looked up.
const UNDERSCORED: &[&str] = &["lora_unet__", "lora_unet_", "lycoris_"];

/// Parts of the text encoder, which stays as it is.
const TEXT_ENCODER: &[&str] = &["lora_te", "text_encoder"];

/// Modules that only other networks have, and what these are.
const FOREIGN: &[(&str, &str)] = &[
    ("k_img", IMAGE_TO_VIDEO),
    ("v_img", IMAGE_TO_VIDEO),
    ("img_emb", IMAGE_TO_VIDEO),
    ("add_k_proj", IMAGE_TO_VIDEO),
    ("vace_blocks", "a VACE model"),
    ("double_blocks", "another network (HunyuanVideo or FLUX)"),
    ("single_blocks", "another network (HunyuanVideo or FLUX)"),
    ("joint_blocks", "another network (Stable Diffusion 3)"),
    (
        "transformer_blocks",
        "another network (Stable Diffusion, FLUX, LTX or CogVideoX)",
    ),
    ("lora_unet_down_blocks", "another network (Stable Diffusion)"),
];

const IMAGE_TO_VIDEO: &str = "an image-to-video model, which has further layers";

/// Modules of a block with the names that Diffusers gives them.
const DIFFUSERS: &[(&str, &str)] = &[
    ("self_attn.q", "attn1.to_q"),
    ("self_attn.k", "attn1.to_k"),
    ("self_attn.v", "attn1.to_v"),
    ("self_attn.o", "attn1.to_out.0"),
    ("cross_attn.q", "attn2.to_q"),
    ("cross_attn.k", "attn2.to_k"),
    ("cross_attn.v", "attn2.to_v"),
    ("cross_attn.o", "attn2.to_out.0"),
    ("ffn.0", "ffn.net.0.proj"),
    ("ffn.2", "ffn.net.2"),
];

/// Module and part of a tensor's name.
pub(super) fn split(name: &str) -> Option<(&str, Part)> {
    let plain = PARTS
        .iter()
        .find_map(|(ending, part)| Some((name.strip_suffix(ending)?, *part)));
    plain.or_else(|| {
        NAMED_ADAPTERS.iter().find_map(|(before, behind, part)| {
            let (module, adapter) = name.strip_suffix(behind)?.rsplit_once(before)?;
            (!adapter.is_empty() && !adapter.contains('.')).then_some((module, *part))
        })
    })
}

/// What kind of change a tensor without a part is of, if it is one.
pub(super) fn other_kind(name: &str) -> Option<&'static str> {
    let known = OTHER_KINDS.iter().find(|(mark, _)| name.contains(mark));
    known.map(|(_, kind)| *kind)
}

/// What a tensor is made for that the model does not have.
pub(super) fn foreign(name: &str) -> Option<&'static str> {
    let known = FOREIGN.iter().find(|(mark, _)| name.contains(mark));
    known.map(|(_, network)| *network)
}

/// Whether a module is of the text encoder.
pub(super) fn of_text_encoder(module: &str) -> bool {
    TEXT_ENCODER.iter().any(|prefix| module.starts_with(prefix))
}

/// Number of the block that a module is in.
pub(super) fn block(module: &str) -> Option<usize> {
    let marks = ["blocks.", "blocks_"];
    let rest = marks.iter().find_map(|mark| Some(module.split_once(mark)?.1))?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The modules of a model, by every name that files know them under.
pub(super) struct Modules {
    /// Dotted and underscored names, without prefixes.
    names: HashMap<String, String>,
    shapes: HashMap<String, Vec<usize>>,
    /// Blocks of the model.
    pub(super) blocks: usize,
}

impl Modules {
    /// Those of a model with these tensors, under their original Wan names.
    pub(super) fn of(model: &[TensorSpec]) -> Self {
        let mut modules = Self {
            names: HashMap::new(),
            shapes: HashMap::new(),
            blocks: 0,
        };
        for spec in model {
            let Some(module) = spec.name.strip_suffix(".weight").filter(|_| spec.shape.len() > 1) else {
                continue;
            };
            modules.blocks = modules.blocks.max(block(module).map_or(0, |block| block + 1));
            modules.shapes.insert(module.into(), spec.shape.clone());
            let diffusers = DIFFUSERS
                .iter()
                .find_map(|(own, theirs)| Some(format!("{}{theirs}", module.strip_suffix(own)?)));
            for name in diffusers.into_iter().chain([module.to_string()]) {
                modules.names.insert(name.replace('.', "_"), module.into());
                modules.names.insert(name, module.into());
            }
        }
        modules
    }

    /// The model's name of a module in a file.
    pub(super) fn find(&self, module: &str) -> Option<&str> {
        let underscored = UNDERSCORED.iter().find_map(|prefix| module.strip_prefix(prefix));
        if let Some(rest) = underscored {
            return self.names.get(rest).map(String::as_str);
        }
        let mut rest = module;
        loop {
            if let Some(known) = self.names.get(rest) {
                return Some(known);
            }
            rest = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix))?;
        }
    }

    /// Shape of a module's weight.
    pub(super) fn shape(&self, module: &str) -> &[usize] {
        self.shapes.get(module).map_or(&[], Vec::as_slice)
    }

    /// Number of the matrices in blocks.
    pub(super) fn matrices(&self) -> usize {
        self.shapes.keys().filter(|module| block(module).is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Modules {
        let names = [
            "blocks.0.self_attn.q.weight",
            "blocks.0.self_attn.norm_q.weight",
            "blocks.1.cross_attn.o.weight",
            "blocks.1.ffn.0.weight",
            "head.head.weight",
        ];
        let spec = |name: &&str| TensorSpec {
            name: name.to_string(),
            shape: if name.contains("norm") { vec![8] } else { vec![8, 8] },
        };
        Modules::of(&names.iter().map(spec).collect::<Vec<_>>())
    }

    #[test]
    fn every_spelling_of_a_part_is_known() {
        for (name, module, part) in [
            ("m.lora_A.weight", "m", Part::Down),
            ("m.lora_B.default.weight", "m", Part::Up),
            ("m.lora_A", "m", Part::Down),
            ("lora_unet_m.lora_up.weight", "lora_unet_m", Part::Up),
            ("m_lora.down.weight", "m", Part::Down),
            ("m.lora.up.weight", "m", Part::Up),
            ("m.alpha", "m", Part::Alpha),
        ] {
            assert_eq!(split(name), Some((module, part)), "{name}");
        }
        for other in ["m.weight", "m.diff", "m.lora_A.a.b.weight", "lora_A"] {
            assert_eq!(split(other), None, "{other}");
        }
    }

    #[test]
    fn a_module_is_found_under_the_names_of_all_tools() {
        let modules = modules();
        for (name, module) in [
            ("base_model.model.blocks.0.self_attn.q", "blocks.0.self_attn.q"),
            ("base_model.model.model.blocks.1.ffn.0", "blocks.1.ffn.0"),
            ("diffusion_model.blocks.1.cross_attn.o", "blocks.1.cross_attn.o"),
            ("blocks.0.self_attn.q", "blocks.0.self_attn.q"),
            ("transformer.blocks.0.attn1.to_q", "blocks.0.self_attn.q"),
            ("transformer.blocks.1.attn2.to_out.0", "blocks.1.cross_attn.o"),
            ("lora_unet_blocks_0_self_attn_q", "blocks.0.self_attn.q"),
            ("lora_unet__blocks_1_ffn_0", "blocks.1.ffn.0"),
            ("lycoris_blocks_1_ffn_net_0_proj", "blocks.1.ffn.0"),
            ("model.head.head", "head.head"),
        ] {
            assert_eq!(modules.find(name), Some(module), "{name}");
        }
        for other in [
            "blocks.2.self_attn.q",
            "blocks.0.self_attn.norm_q",
            "self_attn.q",
            "model.",
        ] {
            assert_eq!(modules.find(other), None, "{other}");
        }
        assert_eq!((modules.blocks, modules.matrices()), (2, 3));
        assert_eq!(block("lora_unet_blocks_39_ffn_0"), Some(39));
        assert_eq!(block("head.head"), None);
    }
}
