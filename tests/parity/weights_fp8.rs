//! Kind `weights_fp8`: weights of 8 bits, with scales in every spelling and without.

use std::collections::HashMap;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use deepforcing::checkpoint::{Checkpoint, KeyMap, Network, OpenOptions};

use super::{
    Case,
    weights_layout::{bits, says},
};

/// What the refusal of a file must say, by a part of the file's name.
const SAYS: &[(&str, &[&str])] = &[
    ("nan_code", &["blocks.0.ffn.0.weight", "not finite", " 1 value"]),
    ("scale_missing", &["blocks.1.ffn.2.weight", "no scale"]),
    ("scale_shape", &["[7]", "blocks.1.ffn.2.scale_weight"]),
    ("scale_inf", &["scale", "not finite"]),
    ("nvfp4", &["nvfp4", "blocks.0.ffn.0"]),
    ("convrot", &["convrot", "blocks.0.ffn.0"]),
    ("int8_no_scale", &["i8", "no scale"]),
];

pub fn run(case: &Case) -> Result<()> {
    let files = case.meta["files"].as_object().context("meta.json has no `files`")?;
    let expected: Vec<String> = serde_json::from_value(case.meta["expected"].clone())?;
    let mut values = HashMap::new();
    for file in &expected {
        values.extend(candle_core::safetensors::load(case.file(file), &Device::Cpu)?);
    }
    for (file, info) in files {
        let network = match info["model"].as_str() {
            Some("umt5") => Network::TextEncoder,
            _ => Network::Transformer,
        };
        let path = case.file(file);
        if info["error"].is_string() {
            says(case, file, read_all(&path, network), SAYS);
            continue;
        }
        let group = info["expected_group"].as_str().context("a file has no group")?;
        let checkpoint = Checkpoint::open_network(&path, network, None).with_context(|| file.clone())?;
        let prefix = format!("{group}:");
        let mut names: Vec<String> = values
            .keys()
            .filter_map(|name| name.strip_prefix(&prefix).map(str::to_string))
            .collect();
        names.sort();
        case.check(format!("{file}: the names differ"), checkpoint.names() == names);
        for name in names {
            let want = &values[&format!("{prefix}{name}")];
            let got = checkpoint.tensor(&name, DType::F32, &Device::Cpu)?;
            let equal = got.dims() == want.dims() && (bits(&got)? == bits(want)?);
            case.check(format!("{file}: {name} differs"), equal);
            check_other_ways(case, file, &checkpoint, &name, want)?;
        }
    }
    tables(case)
}

/// Rows alone, and rounding to 16 bits, agree with the whole in f32.
fn check_other_ways(case: &Case, file: &str, checkpoint: &Checkpoint, name: &str, want: &Tensor) -> Result<()> {
    let rounded = checkpoint.tensor(name, DType::BF16, &Device::Cpu)?;
    case.check(
        format!("{file}: {name} differs in bf16"),
        bits(&rounded)? == bits(&want.to_dtype(DType::BF16)?)?,
    );
    if let Ok((rows, _)) = want.dims2() {
        let index = [rows as u32 - 1, 0];
        let got = checkpoint.rows(name, &index, DType::F32, &Device::Cpu)?;
        let want = want.index_select(&Tensor::new(&index, &Device::Cpu)?, 0)?;
        case.check(format!("{file}: rows of {name} differ"), bits(&got)? == bits(&want)?);
    }
    Ok(())
}

fn read_all(path: &std::path::Path, network: Network) -> Result<()> {
    let checkpoint = Checkpoint::open_network(path, network, None)?;
    for name in checkpoint.names() {
        checkpoint.tensor(&name, DType::F32, &Device::Cpu)?;
    }
    Ok(())
}

/// The value of every code of the formats that are read, from a file that is written for it.
fn tables(case: &Case) -> Result<()> {
    let tables = candle_core::safetensors::load(case.file("tables.safetensors"), &Device::Cpu)?;
    let folder = tempfile::tempdir()?;
    for (format, dtype) in [("f8_e4m3", "F8_E4M3"), ("f8_e5m2", "F8_E5M2")] {
        let table = |kind: &str| tables.get(&format!("{format}.{kind}")).context("a table is missing");
        let want: Vec<f32> = table("f32")?.to_vec1()?;
        let nan: Vec<u8> = table("nan")?.to_vec1()?;
        for code in 0..=255u8 {
            let path = folder.path().join("code.safetensors");
            let header = format!("{{\"x\":{{\"dtype\":\"{dtype}\",\"shape\":[1],\"data_offsets\":[0,1]}}}}");
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.push(code);
            std::fs::write(&path, bytes)?;
            let options = OpenOptions {
                key_map: KeyMap::Verbatim,
                ..OpenOptions::default()
            };
            let read = Checkpoint::open_with(&path, &options)?.tensor("x", DType::F32, &Device::Cpu);
            let at = usize::from(code);
            let right = match read {
                Ok(value) => nan[at] == 0 && bits(&value)? == [want[at].to_bits()],
                // Infinities are refused as well.
                Err(_) => nan[at] == 1 || !want[at].is_finite(),
            };
            case.check(format!("{format}: code {code:#04x}"), right);
        }
    }
    Ok(())
}
