//! Kind `weights_layout`: the same weights under the names and prefixes of every tool.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use deepforcing::{
    checkpoint::{Checkpoint, CheckpointError, Network, Weights, weights_in},
    text::{Sequence, Umt5, Umt5Config},
    transformer::{CausalWan, TransformerConfig, WanConfigFile},
    vae::{Decoder, DecoderState, LATENT_MEAN, LATENT_STD, WanDecoder, WanEncoder, WanVaeConfig},
};
use serde_json::Value;

use super::Case;

/// What the refusal of a file must say, by a part of the file's name.
const SAYS: &[(&str, &[&str])] = &[
    ("i2v", &["image-to-video"]),
    ("both_prefixes", &["head.modulation", "two models"]),
    (
        "diffusers_missing",
        &["blocks.0.self_attn.q.weight", "blocks.0.attn1.to_q.weight"],
    ),
    ("t5_v1_1", &["T5 v1.1", "relative"]),
    ("two_tables", &["shared.weight", "encoder.embed_tokens.weight"]),
    ("wan22_vae", &["Wan 2.2", "48"]),
    ("super", &["super"]),
];

pub fn run(case: &Case) -> Result<()> {
    let network = match case.meta["model"].as_str() {
        Some("wan_dit") => Network::Transformer,
        Some("umt5") => Network::TextEncoder,
        Some("wan_vae") => Network::Vae,
        Some("taehv") => Network::TinyDecoder,
        other => anyhow::bail!("unknown model {other:?}"),
    };
    let files = case.meta["files"].as_object().context("meta.json has no `files`")?;
    let mut folders = Vec::new();
    for (file, info) in files {
        let path = case.file(file);
        if info["error"].is_string() {
            refused(case, network, file, &path);
            continue;
        }
        if let Some((folder, name)) = file.split_once('/') {
            // Parts of a set, which is read as a whole.
            if !folders.contains(&folder) {
                folders.push(folder);
            }
            if !name.ends_with(".index.json") {
                continue;
            }
        }
        compare(case, network, file, info)?;
    }
    for folder in folders {
        let found = weights_in(&case.file(folder))?;
        compare(case, network, &found.to_string_lossy(), &Value::Null)?;
    }
    if files.contains_key("all_in_one.safetensors") {
        let path = case.file("all_in_one.safetensors");
        let text = Checkpoint::open_network(&path, Network::TextEncoder, None)?;
        same(
            case,
            "the text encoder of all_in_one",
            &text,
            &case.file("expected_aio_umt5.safetensors"),
            None,
        )?;
    }
    check_stored_names(case, network)?;
    match network {
        Network::TextEncoder => encode(case),
        Network::Vae => decode(case),
        Network::Transformer | Network::TinyDecoder => Ok(()),
    }
}

/// Compares what a file is read as with the values that are expected of it.
fn compare(case: &Case, network: Network, file: &str, info: &Value) -> Result<()> {
    let path = case.file(file);
    let checkpoint = whole(&path, network).with_context(|| file.to_string())?;
    let want = match info["expected"].as_str() {
        Some(text) if text.contains("itself") => file.into(),
        Some(text) => text.to_string(),
        None => "expected_f32.safetensors".into(),
    };
    same(
        case,
        file,
        &checkpoint,
        &case.file(&want),
        info["expected_subset"].as_str(),
    )?;
    if info["expected_subset"].is_string() {
        let weights = Weights::from_checkpoint(checkpoint, DType::F32, &Device::Cpu);
        case.check(
            format!("{file}: an encoder was made of nothing"),
            WanEncoder::new(&weights).is_err(),
        );
    }
    Ok(())
}

/// Compares all tensors bit by bit; `subset` names the beginnings of those that are there: `decoder.*, conv2.*`.
pub fn same(case: &Case, what: &str, got: &Checkpoint, want: &Path, subset: Option<&str>) -> Result<()> {
    let mut want: HashMap<String, Tensor> = candle_core::safetensors::load(want, &Device::Cpu)?;
    if let Some(subset) = subset {
        let starts: Vec<_> = subset.split(", ").map(|start| start.trim_end_matches('*')).collect();
        want.retain(|name, _| starts.iter().any(|start| name.starts_with(start)));
    }
    let mut names: Vec<_> = want.keys().cloned().collect();
    names.sort();
    case.check(format!("{what}: the names differ"), got.names() == names);
    for (name, want) in &want {
        let got = got.tensor(name, DType::F32, &Device::Cpu)?;
        let equal = got.dims() == want.dims() && bits(&got)? == bits(want)?;
        case.check(format!("{what}: {name} differs"), equal);
    }
    Ok(())
}

/// The values as bits of f32, which holds those of all stored formats exactly.
pub fn bits(tensor: &Tensor) -> Result<Vec<u32>> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().map(f32::to_bits).collect())
}

/// A file with exactly the tensors of a network of its sizes.
fn whole(path: &Path, network: Network) -> Result<Checkpoint> {
    let checkpoint = Checkpoint::open_network(path, network, None)?;
    let weights = Weights::from_checkpoint(checkpoint.clone(), DType::F32, &Device::Cpu);
    let all_in_one = path.ends_with("all_in_one.safetensors");
    match network {
        Network::Transformer => {
            let file = WanConfigFile {
                num_heads: Some(2),
                ..WanConfigFile::default()
            };
            let config = TransformerConfig::from_weights(&weights, &file)?;
            checkpoint.require(&CausalWan::expected_tensors(config)?, &[])?;
        }
        Network::TextEncoder if !all_in_one => {
            checkpoint.require(&Umt5::expected_tensors(&Umt5Config::infer(&weights)?)?, &[])?;
        }
        Network::Vae | Network::TinyDecoder if !all_in_one => {
            checkpoint.require(&Decoder::expected_tensors(&weights)?, &["encoder.", "conv1."])?;
        }
        _ => {}
    }
    Ok(checkpoint)
}

/// A file that must be refused, when it is opened or when its tensors are read.
fn refused(case: &Case, network: Network, file: &str, path: &Path) {
    let read = || -> Result<()> {
        let checkpoint = whole(path, network)?;
        for name in checkpoint.names() {
            checkpoint.tensor(&name, DType::F32, &Device::Cpu)?;
        }
        Ok(())
    };
    says(case, file, read(), SAYS);
}

/// Checks that a file was refused, and that the message says what is wrong.
pub fn says(case: &Case, file: &str, read: Result<()>, table: &[(&str, &[&str])]) {
    let Err(error) = read else {
        return case.check(format!("{file} was accepted"), false);
    };
    let error = format!("{error:#}");
    case.check(
        format!("{file}: no path in: {error}"),
        error.contains(file.rsplit('/').next().unwrap_or(file)),
    );
    let parts = table
        .iter()
        .find(|(part, _)| file.contains(part))
        .map_or(&[][..], |(_, says)| says);
    for part in parts {
        case.check(format!("{file}: `{part}` is not in: {error}"), error.contains(part));
    }
}

/// The file's own names, which messages tell, are those of the tool.
fn check_stored_names(case: &Case, network: Network) -> Result<()> {
    let (key, file) = match network {
        Network::TextEncoder => ("hf_name_of", "hf_encoder.safetensors"),
        _ => ("diffusers_name_of", "diffusers.safetensors"),
    };
    let Some(names) = case.meta[key].as_object() else {
        return Ok(());
    };
    let checkpoint = Checkpoint::open_network(&case.file(file), network, None)?;
    for (name, stored) in names {
        let got = checkpoint.stored_name(name);
        case.check(format!("{name} is called {got}"), stored.as_str() == Some(&got));
    }
    // A tensor that is not there is told by the name that it would have.
    let absent = Checkpoint::open_network(&case.file(file), network, None)?.require(
        &[deepforcing::checkpoint::TensorSpec {
            name: "blocks.77.absent".into(),
            shape: vec![1],
        }],
        &[],
    );
    case.check(
        "an absent tensor was found",
        matches!(absent, Err(CheckpointError::Mismatch(_))),
    );
    Ok(())
}

/// The encoder over the files in Hugging Face's names gives what theirs gives.
fn encode(case: &Case) -> Result<()> {
    let ids = case.integers("ids")?;
    let mask = case.integers("mask")?;
    let text_len = case.meta["config"]["text_len"].as_u64().context("text_len")? as usize;
    let checkpoint = Checkpoint::open_network(&case.file("hf_encoder.safetensors"), Network::TextEncoder, None)?;
    let encoder = Umt5::new(Weights::from_checkpoint(checkpoint, DType::F32, &Device::Cpu))?;
    let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
    let rows = ids.chunks(text_len).zip(mask.chunks(text_len));
    let sequences: Vec<_> = rows
        .map(|(ids, mask)| Sequence {
            ids,
            keys: mask.iter().sum::<i64>() as usize,
        })
        .collect();
    let out = encoder.encode_with(&sequences, text_len, None)?;
    case.close("out_f32", &Tensor::stack(&out, 0)?, 1e-4);
    Ok(())
}

/// The decoder over the file in diffusers' names gives what theirs gives of the VAE's own latents.
fn decode(case: &Case) -> Result<()> {
    let z = case.input("z")?.squeeze(0)?.transpose(0, 1)?.contiguous()?;
    let constant = |values: &[f32]| Tensor::new(values, &Device::Cpu)?.reshape((1, values.len(), 1, 1));
    let z = z
        .broadcast_sub(&constant(&LATENT_MEAN)?)?
        .broadcast_div(&constant(&LATENT_STD)?)?;
    for file in [
        "diffusers.safetensors",
        "diffusers_decoder_only.safetensors",
        "original.pth",
    ] {
        let checkpoint = Checkpoint::open_network(&case.file(file), Network::Vae, None)?;
        let weights = Weights::from_checkpoint(checkpoint, DType::F32, &Device::Cpu);
        WanVaeConfig::from_decoder(&weights)?;
        let pictures = WanDecoder::new(&weights)?.decode(&mut DecoderState::new(), &z)?;
        let pictures = pictures.transpose(0, 1)?.contiguous()?.unsqueeze(0)?;
        case.close("decoded", &pictures, 1e-4);
    }
    Ok(())
}
