//! What the tensors of LoRA files are called, and which tensor of the model each belongs to.
//!
//! Every tool has its own spelling of the same two matrices per linear layer. All of it is in the tables below: a new
//! spelling is a row.

use std::collections::HashMap;

use super::super::{Naming, TensorSpec, key_map::MARKERS};

/// What a tensor is for its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// `A`, `[rank, in]`.
    Down,
    /// `B`, `[out, rank]`.
    Up,
    /// A number: the product is scaled by it, divided by the rank.
    Alpha,
    /// Lengths of the rows of the sum (DoRA), `[out]`.
    Magnitude,
    /// What is added to the weight itself, or to a parameter that has no module.
    Diff,
    /// What is added to the bias.
    DiffBias,
    /// What is added to the modulation of a block or the head.
    DiffModulation,
    /// The factors of a Kronecker product (LoKr), each whole or as a product of two.
    Kron(Side, Piece),
    /// The factors of a product element by element (LoHa), each a product of two.
    Hadamard(Side, Piece),
}

/// First or second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    First,
    Second,
}

/// A factor, or one of the two matrices whose product it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Piece {
    Whole,
    A,
    B,
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
    (".lora_magnitude_vector.weight", Part::Magnitude),
    (".lora_magnitude_vector", Part::Magnitude),
    (".diff", Part::Diff),
    (".diff_b", Part::DiffBias),
    (".diff_m", Part::DiffModulation),
    (".lokr_w1", Part::Kron(Side::First, Piece::Whole)),
    (".lokr_w1_a", Part::Kron(Side::First, Piece::A)),
    (".lokr_w1_b", Part::Kron(Side::First, Piece::B)),
    (".lokr_w2", Part::Kron(Side::Second, Piece::Whole)),
    (".lokr_w2_a", Part::Kron(Side::Second, Piece::A)),
    (".lokr_w2_b", Part::Kron(Side::Second, Piece::B)),
    (".hada_w1_a", Part::Hadamard(Side::First, Piece::A)),
    (".hada_w1_b", Part::Hadamard(Side::First, Piece::B)),
    (".hada_w2_a", Part::Hadamard(Side::Second, Piece::A)),
    (".hada_w2_b", Part::Hadamard(Side::Second, Piece::B)),
];

/// What stands before and behind the name of an adapter: `.lora_A.default.weight`.
const NAMED_ADAPTERS: &[(&str, &str, Part)] = &[
    (".lora_A.", ".weight", Part::Down),
    (".lora_B.", ".weight", Part::Up),
    (".lora_magnitude_vector.", ".weight", Part::Magnitude),
    (".lora_magnitude_vector.", "", Part::Magnitude),
];

/// Changes that are not made, by a piece of their names that nothing else has.
const OTHER_KINDS: &[(&str, &str)] = &[
    (
        ".dora_scale",
        "DoRA with a `dora_scale`, whose rows or columns different tools take for one another",
    ),
    (".lokr_t2", "LoKr with a middle tensor (Tucker)"),
    (".hada_t1", "LoHa with a middle tensor (Tucker)"),
    (".hada_t2", "LoHa with a middle tensor (Tucker)"),
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

/// The modules of a model, by every name that files know them under. A parameter without a module is one of its own.
pub(super) struct Modules {
    /// Dotted and underscored names, without prefixes.
    names: HashMap<String, String>,
    /// Of all tensors.
    shapes: HashMap<String, Vec<usize>>,
    /// Blocks of the model.
    pub(super) blocks: usize,
}

/// Last pieces of the names of tensors that belong to the module before them.
const OF_MODULES: &[&str] = &[".weight", ".bias", ".modulation"];

impl Modules {
    /// Those of a model with these tensors, under their original Wan names.
    pub(super) fn of(model: &[TensorSpec]) -> Self {
        let mut modules = Self {
            names: HashMap::new(),
            shapes: HashMap::new(),
            blocks: 0,
        };
        for spec in model {
            modules.blocks = modules.blocks.max(block(&spec.name).map_or(0, |block| block + 1));
            modules.shapes.insert(spec.name.clone(), spec.shape.clone());
            let ending = OF_MODULES.iter().find_map(|ending| spec.name.strip_suffix(ending));
            let is_parameter = !spec.name.ends_with(".weight") && !spec.name.ends_with(".bias");
            let parameter = is_parameter.then_some(spec.name.as_str());
            ending
                .into_iter()
                .chain(parameter)
                .for_each(|module| modules.insert(module));
        }
        modules
    }

    fn insert(&mut self, module: &str) {
        let diffusers = Naming::DiffusersTransformer.written(module);
        for name in diffusers.into_iter().chain([module.to_string()]) {
            self.names.insert(name.replace('.', "_"), module.into());
            self.names.insert(name, module.into());
        }
    }

    /// The model's name of a module in a file.
    pub(super) fn find(&self, module: &str) -> Option<&str> {
        let bare = MARKERS
            .iter()
            .fold(module.to_owned(), |name, marker| name.replace(marker, ""));
        // What old versions of Diffusers put between an attention and its layers.
        let bare = bare.replace(".processor.", ".");
        let underscored = UNDERSCORED.iter().find_map(|prefix| bare.strip_prefix(prefix));
        if let Some(rest) = underscored {
            return self.names.get(rest).map(String::as_str);
        }
        let mut rest = bare.as_str();
        loop {
            if let Some(known) = self.names.get(rest) {
                return Some(known);
            }
            rest = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix))?;
        }
    }

    /// Name and shape of the tensor that a part of a module changes, if the model has it.
    pub(super) fn target(&self, module: &str, part: Part) -> Option<(String, &[usize])> {
        let name = match part {
            // A parameter without a module, such as the modulation.
            Part::Diff if self.shapes.contains_key(module) => module.into(),
            Part::DiffBias => format!("{module}.bias"),
            Part::DiffModulation => format!("{module}.modulation"),
            _ => format!("{module}.weight"),
        };
        let shape = self.shapes.get(&name)?;
        Some((name, shape))
    }

    /// Number of the matrices in blocks.
    pub(super) fn matrices(&self) -> usize {
        let is_matrix = |(name, shape): &(&String, &Vec<usize>)| {
            name.ends_with(".weight") && shape.len() > 1 && block(name).is_some()
        };
        self.shapes.iter().filter(is_matrix).count()
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
            "head.modulation",
            "blocks.1.modulation",
            "blocks.1.norm3.bias",
            "text_embedding.2.weight",
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
            ("m.diff", "m", Part::Diff),
            ("m.diff_b", "m", Part::DiffBias),
            ("m.lora_magnitude_vector", "m", Part::Magnitude),
            ("m.lora_magnitude_vector.default.weight", "m", Part::Magnitude),
            ("m.lokr_w2_b", "m", Part::Kron(Side::Second, Piece::B)),
        ] {
            assert_eq!(split(name), Some((module, part)), "{name}");
        }
        for other in ["m.weight", "m.dora_scale", "m.lora_A.a.b.weight", "lora_A", "m.hada_w1"] {
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
            ("transformer.proj_out", "head.head"),
            ("diffusion_model.blocks.1", "blocks.1"),
            ("diffusion_model.blocks.1.modulation", "blocks.1.modulation"),
            ("transformer.blocks.1.scale_shift_table", "blocks.1.modulation"),
            ("scale_shift_table", "head.modulation"),
            ("blocks.1.norm2", "blocks.1.norm3"),
            ("transformer.blocks.0.attn1.processor.to_q", "blocks.0.self_attn.q"),
            ("model._orig_mod.blocks.1._fsdp_wrapped_module.ffn.0", "blocks.1.ffn.0"),
            ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ] {
            assert_eq!(modules.find(name), Some(module), "{name}");
        }
        for other in [
            "blocks.2.self_attn.q",
            "blocks.0.cross_attn.norm_q",
            "self_attn.q",
            "model.",
        ] {
            assert_eq!(modules.find(other), None, "{other}");
        }
        assert_eq!((modules.blocks, modules.matrices()), (2, 3));
        let target = |module: &str, part: Part| modules.target(module, part).map(|(name, _)| name);
        for (module, part, tensor) in [
            ("blocks.1", Part::DiffModulation, "blocks.1.modulation"),
            ("blocks.1.modulation", Part::Diff, "blocks.1.modulation"),
            ("head", Part::DiffModulation, "head.modulation"),
            ("blocks.1.norm3", Part::DiffBias, "blocks.1.norm3.bias"),
            ("head.head", Part::Diff, "head.head.weight"),
        ] {
            assert_eq!(target(module, part).as_deref(), Some(tensor));
        }
        assert_eq!(target("blocks.1", Part::Down), None);
        assert_eq!(block("lora_unet_blocks_39_ffn_0"), Some(39));
        assert_eq!(block("head.head"), None);
    }
}
