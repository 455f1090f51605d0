//! Kinds `weights_gguf` and `weights_gguf_blocks`: models and single types in GGUF files.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    path::Path,
};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use deepforcing::{
    checkpoint::{Checkpoint, KeyMap, Network, OpenOptions, Weights},
    text::{Sequence, Umt5, Umt5Config},
    transformer::{CausalWan, TransformerConfig, WanConfigFile},
};
use serde_json::Value;

use super::{
    Case,
    weights_layout::{bits, says},
};

/// What the refusal of a file must say, by a part of the file's name.
const SAYS: &[(&str, &[&str])] = &[
    ("truncated", &["cut off", "by its header, but has"]),
    ("version1", &["version 1"]),
    ("big_endian", &["big-endian"]),
    ("type_99", &["the unknown type 99", "self_attn.q.weight"]),
    ("type_iq2", &["IQ2_XXS", "self_attn.q.weight"]),
    ("offset", &["beyond the end"]),
    ("misaligned", &["multiple of the alignment"]),
    ("dims", &["overflows"]),
    ("split", &["part 1 of 2", "--merge"]),
    ("i2v", &["image-to-video"]),
    ("llama", &["`llama`", "language model"]),
    ("t5_v1_1", &["T5 v1.1", "relative"]),
];

/// The tensors that are expected, and which of them were compared.
struct Expected {
    tensors: HashMap<String, Tensor>,
    left: RefCell<BTreeSet<String>>,
}

impl Expected {
    fn load(case: &Case, files: &[&str]) -> Result<Self> {
        let mut tensors = HashMap::new();
        for file in files {
            tensors.extend(candle_core::safetensors::load(case.file(file), &Device::Cpu)?);
        }
        Ok(Self {
            left: RefCell::new(tensors.keys().cloned().collect()),
            tensors,
        })
    }

    /// What stands before the names of a file's tensors: nothing in a case of one file.
    fn prefix(&self, file: &str) -> String {
        match self.tensors.keys().any(|name| name.contains(':')) {
            true => format!("{file}:"),
            false => String::new(),
        }
    }

    /// Names of the tensors of a file, sorted.
    fn names(&self, file: &str) -> Vec<String> {
        let prefix = self.prefix(file);
        let names = self
            .tensors
            .keys()
            .filter_map(|name| name.strip_prefix(prefix.as_str()));
        let mut names: Vec<_> = names.map(str::to_string).collect();
        names.sort();
        names
    }

    fn compare(&self, case: &Case, file: &str, name: &str, checkpoint: &Checkpoint) -> Result<()> {
        let key = self.prefix(file) + name;
        self.left.borrow_mut().remove(&key);
        let want = self.tensors.get(&key).with_context(|| format!("no `{key}`"))?;
        let got = checkpoint.tensor(name, DType::F32, &Device::Cpu)?;
        let equal = got.dims() == want.dims() && bits(&got)? == bits(want)?;
        case.check(format!("{key} differs"), equal);
        // Rounded, and row by row, they are the same.
        let rounded = checkpoint.tensor(name, DType::BF16, &Device::Cpu)?;
        let same = bits(&rounded)? == bits(&want.to_dtype(DType::BF16)?)?;
        case.check(format!("{key} differs in bf16"), same);
        if let [count, _] = *want.dims() {
            let rows = [count as u32 - 1, 0, count as u32 / 2];
            let got = checkpoint.rows(name, &rows, DType::F32, &Device::Cpu)?;
            let want = want.index_select(&Tensor::new(&rows, &Device::Cpu)?, 0)?;
            case.check(format!("rows of {key} differ"), bits(&got)? == bits(&want)?);
        }
        Ok(())
    }

    fn finish(&self, case: &Case) {
        for key in self.left.borrow().iter() {
            case.fail(format!("{key}: stored but never compared"));
        }
    }
}

/// Single types, each tensor named after its own.
pub fn run_blocks(case: &Case) -> Result<()> {
    let files = case.meta["files"].as_object().context("meta.json has no `files`")?;
    let expected = Expected::load(case, &["expected.safetensors"])?;
    for file in files.keys() {
        let options = OpenOptions {
            key_map: KeyMap::Verbatim,
            ..OpenOptions::default()
        };
        let checkpoint = Checkpoint::open_with(&case.file(file), &options)?;
        let names = expected.names(file);
        case.check(format!("{file}: the names differ"), checkpoint.names() == names);
        for name in &names {
            let stored = checkpoint.stored_dtype(name).unwrap_or_default();
            case.check(format!("{file}: {name} is {stored}"), stored.eq_ignore_ascii_case(name));
            expected.compare(case, file, name, &checkpoint)?;
        }
    }
    expected.finish(case);
    Ok(())
}

/// Whole models, and files that must be refused.
pub fn run(case: &Case) -> Result<()> {
    let model = case.meta["model"].as_str().context("meta.json names no model")?;
    let network = match model {
        "umt5" => Network::TextEncoder,
        _ => Network::Transformer,
    };
    let whole = !model.contains("not a whole model");
    let files = case.meta["files"].as_object().context("meta.json has no `files`")?;
    let names: Vec<&str> = case.meta["expected"]
        .as_array()
        .context("meta.json has no `expected`")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let expected = Expected::load(case, &names)?;
    for (file, info) in files {
        let path = case.file(file);
        if info["error"].is_string() {
            says(case, file, read_all(&path, network), SAYS);
            continue;
        }
        let checkpoint = open(&path, network, whole).with_context(|| file.clone())?;
        let names = expected.names(file);
        case.check(format!("{file}: the names differ"), checkpoint.names() == names);
        for name in &names {
            expected.compare(case, file, name, &checkpoint)?;
        }
        if let Some(architecture) = info["arch"].as_str() {
            let noted = checkpoint.note("general.architecture");
            case.check(format!("{file}: architecture {noted:?}"), noted == Some(architecture));
        }
        if network == Network::TextEncoder {
            encoder(case, file, &info["config"], &checkpoint)?;
        }
        if case.has("x") {
            products(case, &checkpoint)?;
        }
    }
    expected.finish(case);
    Ok(())
}

/// A network in a file, with exactly the tensors of one of its sizes if it is whole.
fn open(path: &Path, network: Network, whole: bool) -> Result<Checkpoint> {
    let checkpoint = Checkpoint::open_network(path, network, None)?;
    let weights = Weights::from_checkpoint(checkpoint.clone(), DType::F32, &Device::Cpu);
    let tensors = match network {
        _ if !whole => return Ok(checkpoint),
        Network::TextEncoder => Umt5::expected_tensors(&Umt5Config::infer(&weights)?)?,
        _ => {
            let heads = WanConfigFile {
                num_heads: Some(2),
                ..WanConfigFile::default()
            };
            CausalWan::expected_tensors(TransformerConfig::from_weights(&weights, &heads)?)?
        }
    };
    checkpoint.require(&tensors, &[])?;
    Ok(checkpoint)
}

fn read_all(path: &Path, network: Network) -> Result<()> {
    let checkpoint = open(path, network, true)?;
    for name in checkpoint.names() {
        checkpoint.tensor(&name, DType::F32, &Device::Cpu)?;
    }
    Ok(())
}

/// What an exact product with each matrix gives.
fn products(case: &Case, checkpoint: &Checkpoint) -> Result<()> {
    let x = case.input("x")?;
    for name in case.names() {
        let Some(matrix) = name.strip_prefix("y.") else {
            continue;
        };
        let weight = format!("blocks.0.{matrix}.weight");
        let weight = checkpoint.tensor(&weight, DType::F32, &Device::Cpu)?;
        // Cut matrices take as many columns as they have.
        let x = x.narrow(1, 0, weight.dim(1)?)?;
        case.close(&name, &x.matmul(&weight.t()?)?, 1e-5);
    }
    Ok(())
}

/// The encoder has the sizes of the case, and gives what theirs gives where that is stored.
fn encoder(case: &Case, file: &str, stated: &Value, checkpoint: &Checkpoint) -> Result<()> {
    let encoder = Umt5::new(Weights::from_checkpoint(checkpoint.clone(), DType::F32, &Device::Cpu))?;
    let config = encoder.config();
    for (found, name) in [
        (config.vocab, "vocab_size"),
        (config.dim, "dim"),
        (config.attention_dim, "dim_attn"),
        (config.ffn_dim, "dim_ffn"),
        (config.heads, "num_heads"),
        (config.layers, "num_layers"),
        (config.buckets, "num_buckets"),
    ] {
        case.check(format!("{file}: {name} is {found}"), stated[name] == found);
    }
    let name = format!("out.{file}");
    if !case.has(&name) {
        return Ok(());
    }
    let length = stated["text_len"].as_u64().context("no `text_len`")? as usize;
    let ids: Vec<u32> = case.integers("ids")?.into_iter().map(|id| id as u32).collect();
    let mask = case.integers("mask")?;
    let rows = ids.chunks(length).zip(mask.chunks(length));
    let sequences: Vec<_> = rows
        .map(|(ids, mask)| Sequence {
            ids,
            keys: mask.iter().sum::<i64>() as usize,
        })
        .collect();
    let out = encoder.encode_with(&sequences, length, None)?;
    case.close(&name, &Tensor::stack(&out, 0)?, 1e-4);
    Ok(())
}
