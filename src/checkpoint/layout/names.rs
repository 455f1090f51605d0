//! What the tools call the tensors of each network, as tables: a new naming is a table and its row in `Network`.
//!
//! A row is a name's beginning in the file and in the model. `#` stands for a number. In the decoder of the VAE, Diffusers
//! counts the layers of each block where the model counts through: `@unit` and `@sampler` stand for such a number.

use std::fmt;

/// What the tensors of a file are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Naming {
    /// The names of the published Wan files, which the networks here have.
    Original,
    /// `WanTransformer3DModel`.
    DiffusersTransformer,
    /// `AutoencoderKLWan`.
    DiffusersVae,
    /// `UMT5EncoderModel`.
    HuggingFace,
    /// GGUF files of text encoders.
    LlamaCpp,
}

/// The names of a tool beside those of the model.
struct Table {
    /// Tensors that only files with these names have; one is enough.
    telling: &'static [&'static str],
    rows: &'static [Row],
    /// Residual units, whose layers are called by [`INSIDE_UNITS`].
    units: &'static [Row],
    /// What a file may hold beside the network, and is not read.
    beside: &'static [&'static str],
}

/// Beginning of a name in the file, and in the model.
type Row = (&'static str, &'static str);

const ORIGINAL: Table = Table {
    telling: &[],
    rows: &[],
    units: &[],
    beside: &[],
};

const DIFFUSERS_TRANSFORMER: Table = Table {
    telling: &[
        "condition_embedder.time_proj.weight",
        "scale_shift_table",
        "blocks.0.attn1.to_q.weight",
    ],
    rows: &[
        ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
        ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
        ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
        ("condition_embedder.time_proj", "time_projection.1"),
        ("scale_shift_table", "head.modulation"),
        ("proj_out", "head.head"),
        ("blocks.#.scale_shift_table", "blocks.#.modulation"),
        ("blocks.#.attn1.to_q", "blocks.#.self_attn.q"),
        ("blocks.#.attn1.to_k", "blocks.#.self_attn.k"),
        ("blocks.#.attn1.to_v", "blocks.#.self_attn.v"),
        ("blocks.#.attn1.to_out.0", "blocks.#.self_attn.o"),
        ("blocks.#.attn1.norm_q", "blocks.#.self_attn.norm_q"),
        ("blocks.#.attn1.norm_k", "blocks.#.self_attn.norm_k"),
        ("blocks.#.attn2.to_q", "blocks.#.cross_attn.q"),
        ("blocks.#.attn2.to_k", "blocks.#.cross_attn.k"),
        ("blocks.#.attn2.to_v", "blocks.#.cross_attn.v"),
        ("blocks.#.attn2.to_out.0", "blocks.#.cross_attn.o"),
        ("blocks.#.attn2.norm_q", "blocks.#.cross_attn.norm_q"),
        ("blocks.#.attn2.norm_k", "blocks.#.cross_attn.norm_k"),
        // Counted differently: it is the norm before cross-attention, the only one with weights.
        ("blocks.#.norm2", "blocks.#.norm3"),
        ("blocks.#.ffn.net.0.proj", "blocks.#.ffn.0"),
        ("blocks.#.ffn.net.2", "blocks.#.ffn.2"),
    ],
    units: &[],
    beside: &[],
};

const DIFFUSERS_VAE: Table = Table {
    telling: &["decoder.conv_in.weight"],
    rows: &[
        ("quant_conv", "conv1"),
        ("post_quant_conv", "conv2"),
        ("encoder.conv_in", "encoder.conv1"),
        ("encoder.norm_out", "encoder.head.0"),
        ("encoder.conv_out", "encoder.head.2"),
        ("encoder.mid_block.attentions.0", "encoder.middle.1"),
        ("encoder.down_blocks.#.resample", "encoder.downsamples.#.resample"),
        ("encoder.down_blocks.#.time_conv", "encoder.downsamples.#.time_conv"),
        ("decoder.conv_in", "decoder.conv1"),
        ("decoder.norm_out", "decoder.head.0"),
        ("decoder.conv_out", "decoder.head.2"),
        ("decoder.mid_block.attentions.0", "decoder.middle.1"),
        ("decoder.up_blocks.#.upsamplers.0", "decoder.upsamples.@sampler"),
    ],
    units: &[
        ("encoder.mid_block.resnets.0", "encoder.middle.0"),
        ("encoder.mid_block.resnets.1", "encoder.middle.2"),
        ("encoder.down_blocks.#", "encoder.downsamples.#"),
        ("decoder.mid_block.resnets.0", "decoder.middle.0"),
        ("decoder.mid_block.resnets.1", "decoder.middle.2"),
        ("decoder.up_blocks.#.resnets.#", "decoder.upsamples.@unit"),
    ],
    beside: &[],
};

/// The layers of a residual unit of the VAE.
const INSIDE_UNITS: &[Row] = &[
    ("norm1", "residual.0"),
    ("conv1", "residual.2"),
    ("norm2", "residual.3"),
    ("conv2", "residual.6"),
    ("conv_shortcut", "shortcut"),
];

const HUGGING_FACE: Table = Table {
    telling: &[
        "shared.weight",
        "encoder.embed_tokens.weight",
        "encoder.block.0.layer.0.SelfAttention.q.weight",
    ],
    rows: &[
        ("shared", "token_embedding"),
        ("encoder.embed_tokens", "token_embedding"),
        ("encoder.final_layer_norm", "norm"),
        ("encoder.block.#.layer.0.layer_norm", "blocks.#.norm1"),
        (
            "encoder.block.#.layer.0.SelfAttention.relative_attention_bias",
            "blocks.#.pos_embedding.embedding",
        ),
        ("encoder.block.#.layer.0.SelfAttention", "blocks.#.attn"),
        ("encoder.block.#.layer.1.layer_norm", "blocks.#.norm2"),
        ("encoder.block.#.layer.1.DenseReluDense.wi_0", "blocks.#.ffn.gate.0"),
        ("encoder.block.#.layer.1.DenseReluDense.wi_1", "blocks.#.ffn.fc1"),
        ("encoder.block.#.layer.1.DenseReluDense.wo", "blocks.#.ffn.fc2"),
    ],
    units: &[],
    // The other half of a whole T5.
    beside: &["decoder.", "lm_head."],
};

const LLAMA_CPP: Table = Table {
    telling: &["token_embd.weight", "enc.blk.0.attn_q.weight"],
    rows: &[
        ("token_embd", "token_embedding"),
        ("enc.output_norm", "norm"),
        ("enc.blk.#.attn_norm", "blocks.#.norm1"),
        ("enc.blk.#.attn_q", "blocks.#.attn.q"),
        ("enc.blk.#.attn_k", "blocks.#.attn.k"),
        ("enc.blk.#.attn_v", "blocks.#.attn.v"),
        ("enc.blk.#.attn_o", "blocks.#.attn.o"),
        ("enc.blk.#.attn_rel_b", "blocks.#.pos_embedding.embedding"),
        ("enc.blk.#.ffn_norm", "blocks.#.norm2"),
        ("enc.blk.#.ffn_gate", "blocks.#.ffn.gate.0"),
        ("enc.blk.#.ffn_up", "blocks.#.ffn.fc1"),
        ("enc.blk.#.ffn_down", "blocks.#.ffn.fc2"),
    ],
    units: &[],
    beside: &["dec.", "output."],
};

impl Naming {
    fn table(self) -> Table {
        match self {
            Self::Original => ORIGINAL,
            Self::DiffusersTransformer => DIFFUSERS_TRANSFORMER,
            Self::DiffusersVae => DIFFUSERS_VAE,
            Self::HuggingFace => HUGGING_FACE,
            Self::LlamaCpp => LLAMA_CPP,
        }
    }

    /// A short name: `diffusers`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Original => "wan",
            Self::DiffusersTransformer | Self::DiffusersVae => "diffusers",
            Self::HuggingFace => "hugging-face",
            Self::LlamaCpp => "llama.cpp",
        }
    }

    /// Whether a tensor that only files with these names have is there.
    pub(super) fn is_told_by(self, has: impl Fn(&str) -> bool) -> bool {
        self.table().telling.iter().any(|name| has(name))
    }

    /// Whether a tensor of a file belongs to what is beside the network.
    pub(super) fn is_beside(self, name: &str) -> bool {
        self.table().beside.iter().any(|start| name.starts_with(start))
    }

    /// The model's name of a tensor of the file; `None` where the tool has no such tensor.
    pub(super) fn to_model(self, name: &str, stride: Stride) -> Option<String> {
        self.translate(name, stride, |row| *row)
    }

    /// The tool's name of a tensor of the model, for messages.
    pub(super) fn to_file(self, name: &str, stride: Stride) -> Option<String> {
        self.translate(name, stride, |(file, model)| (model, file))
    }

    /// The tool's name of a tensor or module of the model, in a file that is to be written.
    pub(crate) fn written(self, name: &str) -> Option<String> {
        self.to_file(name, Stride::of(std::iter::empty()))
    }

    fn translate(self, name: &str, stride: Stride, turn: fn(&Row) -> Row) -> Option<String> {
        let table = self.table();
        if table.rows.is_empty() {
            return Some(name.into());
        }
        let row = |row: &Row| {
            let (from, to) = turn(row);
            let (numbers, rest) = matched(from, name, stride)?;
            Some(join(&written(to, &numbers, stride)?, rest))
        };
        let unit = |row: &Row| {
            let (from, to) = turn(row);
            let (numbers, rest) = matched(from, name, stride)?;
            let inside = INSIDE_UNITS.iter().find_map(|row| {
                let (from, to) = turn(row);
                Some(join(to, matched(from, rest, stride)?.1))
            });
            Some(join(&written(to, &numbers, stride)?, &inside?))
        };
        let units = || table.units.iter().find_map(unit);
        // A tensor whose name is the same in both.
        let same = || {
            SAME.iter()
                .any(|start| name.starts_with(start))
                .then(|| name.to_string())
        };
        table.rows.iter().find_map(row).or_else(units).or_else(same)
    }
}

/// What every tool calls alike.
const SAME: &[&str] = &["patch_embedding."];

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Original => "the original Wan names",
            Self::DiffusersTransformer | Self::DiffusersVae => "the names of diffusers",
            Self::HuggingFace => "the names of Hugging Face's transformers",
            Self::LlamaCpp => "the names of llama.cpp",
        })
    }
}

/// Layers of a block of the VAE's decoder: its residual units and, behind them, the one that makes the picture larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stride(usize);

impl Stride {
    /// That of a file with these names; 4 where they do not tell.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let units = names.filter_map(|name| {
            let rest = name.strip_prefix("decoder.up_blocks.0.resnets.")?;
            rest.split('.').next()?.parse::<usize>().ok()
        });
        // More units than any model has are another model's.
        Self(units.max().filter(|most| *most < 64).map_or(4, |most| most + 2))
    }

    /// The number of a unit of a block in the model.
    fn unit(self, block: usize, unit: usize) -> Option<usize> {
        let within = unit < self.0 - 1;
        within.then_some(())?;
        block.checked_mul(self.0)?.checked_add(unit)
    }
}

/// The numbers for the marks of `pattern`, and what of the name is left, if it begins so.
fn matched<'a>(pattern: &str, name: &'a str, stride: Stride) -> Option<(Vec<usize>, &'a str)> {
    let (mut numbers, mut rest) = (Vec::new(), Some(name));
    for mark in pattern.split('.') {
        let (segment, behind) = match rest?.split_once('.') {
            Some((segment, behind)) => (segment, Some(behind)),
            None => (rest?, None),
        };
        rest = behind;
        match mark {
            "#" => numbers.push(number(segment)?),
            "@unit" => {
                let at = number(segment)?;
                numbers.extend([at / stride.0, at % stride.0]);
                stride.unit(0, at % stride.0)?;
            }
            "@sampler" => {
                let at = number(segment)?;
                (at % stride.0 == stride.0 - 1).then_some(())?;
                numbers.push(at / stride.0);
            }
            mark => (mark == segment).then_some(())?,
        }
    }
    Some((numbers, rest.unwrap_or_default()))
}

/// A number as files write it: without zeros before it, and not larger than any model counts.
fn number(segment: &str) -> Option<usize> {
    let value: usize = segment.parse().ok()?;
    (value < 1 << 20 && value.to_string() == segment).then_some(value)
}

/// A pattern with numbers for its marks.
fn written(pattern: &str, numbers: &[usize], stride: Stride) -> Option<String> {
    let mut numbers = numbers.iter().copied();
    let segments = pattern.split('.').map(|mark| match mark {
        "#" => Some(numbers.next()?.to_string()),
        "@unit" => Some(stride.unit(numbers.next()?, numbers.next()?)?.to_string()),
        "@sampler" => Some((numbers.next()? * stride.0 + stride.0 - 1).to_string()),
        mark => Some(mark.into()),
    });
    Some(segments.collect::<Option<Vec<String>>>()?.join("."))
}

fn join(start: &str, rest: &str) -> String {
    if rest.is_empty() {
        start.into()
    } else {
        format!("{start}.{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways, for every naming: file, model.
    const PAIRS: &[(Naming, &str, &str)] = &[
        (
            Naming::DiffusersTransformer,
            "patch_embedding.weight",
            "patch_embedding.weight",
        ),
        (Naming::DiffusersTransformer, "scale_shift_table", "head.modulation"),
        (
            Naming::DiffusersTransformer,
            "blocks.12.scale_shift_table",
            "blocks.12.modulation",
        ),
        (
            Naming::DiffusersTransformer,
            "blocks.0.attn2.to_out.0.bias",
            "blocks.0.cross_attn.o.bias",
        ),
        (
            Naming::DiffusersTransformer,
            "blocks.3.norm2.bias",
            "blocks.3.norm3.bias",
        ),
        (
            Naming::DiffusersTransformer,
            "blocks.3.ffn.net.0.proj.weight",
            "blocks.3.ffn.0.weight",
        ),
        (Naming::DiffusersVae, "quant_conv.bias", "conv1.bias"),
        (Naming::DiffusersVae, "decoder.norm_out.gamma", "decoder.head.0.gamma"),
        (
            Naming::DiffusersVae,
            "decoder.mid_block.resnets.1.conv2.bias",
            "decoder.middle.2.residual.6.bias",
        ),
        (
            Naming::DiffusersVae,
            "decoder.mid_block.attentions.0.to_qkv.bias",
            "decoder.middle.1.to_qkv.bias",
        ),
        (
            Naming::DiffusersVae,
            "encoder.down_blocks.5.time_conv.bias",
            "encoder.downsamples.5.time_conv.bias",
        ),
        (
            Naming::DiffusersVae,
            "encoder.down_blocks.3.conv_shortcut.bias",
            "encoder.downsamples.3.shortcut.bias",
        ),
        (
            Naming::DiffusersVae,
            "encoder.down_blocks.10.norm2.gamma",
            "encoder.downsamples.10.residual.3.gamma",
        ),
        (
            Naming::DiffusersVae,
            "decoder.up_blocks.1.resnets.0.conv_shortcut.bias",
            "decoder.upsamples.4.shortcut.bias",
        ),
        (
            Naming::DiffusersVae,
            "decoder.up_blocks.3.resnets.2.conv1.bias",
            "decoder.upsamples.14.residual.2.bias",
        ),
        (
            Naming::DiffusersVae,
            "decoder.up_blocks.2.upsamplers.0.resample.1.bias",
            "decoder.upsamples.11.resample.1.bias",
        ),
        (Naming::HuggingFace, "shared.weight", "token_embedding.weight"),
        (Naming::HuggingFace, "encoder.final_layer_norm.weight", "norm.weight"),
        (
            Naming::HuggingFace,
            "encoder.block.23.layer.0.SelfAttention.o.weight",
            "blocks.23.attn.o.weight",
        ),
        (
            Naming::HuggingFace,
            "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
            "blocks.1.pos_embedding.embedding.weight",
        ),
        (
            Naming::HuggingFace,
            "encoder.block.1.layer.1.DenseReluDense.wi_0.weight",
            "blocks.1.ffn.gate.0.weight",
        ),
        (
            Naming::LlamaCpp,
            "enc.blk.7.attn_rel_b.weight",
            "blocks.7.pos_embedding.embedding.weight",
        ),
        (Naming::LlamaCpp, "enc.blk.7.ffn_up.weight", "blocks.7.ffn.fc1.weight"),
    ];

    #[test]
    fn names_are_translated_both_ways() {
        let stride = Stride::of(std::iter::empty());
        for (naming, file, model) in PAIRS {
            assert_eq!(naming.to_model(file, stride).as_deref(), Some(*model), "{file}");
            assert_eq!(naming.to_file(model, stride).as_deref(), Some(*file), "{model}");
        }
        assert_eq!(Naming::Original.to_model("a.b", stride).as_deref(), Some("a.b"));
    }

    #[test]
    fn what_a_tool_does_not_have_is_not_translated() {
        let stride = Stride::of(std::iter::empty());
        for (naming, name) in [
            (Naming::DiffusersTransformer, "blocks.0.attn1.add_k_proj.weight"),
            (Naming::DiffusersTransformer, "blocks.x.attn1.to_q.weight"),
            (Naming::DiffusersTransformer, "blocks.01.attn1.to_q.weight"),
            (
                Naming::DiffusersTransformer,
                "blocks.99999999999999999999.attn1.to_q.weight",
            ),
            (Naming::DiffusersVae, "decoder.up_blocks.0.resnets.3.conv1.bias"),
            (Naming::DiffusersVae, "decoder.up_blocks.0.resnets.0.conv9.bias"),
            (Naming::HuggingFace, "encoder.block.0.layer.1.DenseReluDense.wi.weight"),
        ] {
            assert_eq!(naming.to_model(name, stride), None, "{name}");
        }
    }

    #[test]
    fn blocks_of_the_decoder_may_have_any_number_of_units() {
        let names = [
            "decoder.up_blocks.0.resnets.0.conv1.bias",
            "decoder.up_blocks.0.resnets.1.conv1.bias",
        ];
        let stride = Stride::of(names.into_iter());
        let model = Naming::DiffusersVae.to_model("decoder.up_blocks.1.resnets.1.conv1.bias", stride);
        assert_eq!(model.as_deref(), Some("decoder.upsamples.4.residual.2.bias"));
    }
}
