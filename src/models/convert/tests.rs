//! Tests of conversions: layouts, formats, LoRAs, metadata, and what is refused.

use std::fs;

use candle_core::Tensor;
use tempfile::TempDir;

use super::*;
use crate::{
    checkpoint::gguf::build::{Gguf, Meta},
    transformer::ContextKind,
};

type Tensors = HashMap<String, Tensor>;

fn config() -> TransformerConfig {
    TransformerConfig {
        dim: 32,
        heads: 1,
        ffn_dim: 64,
        layers: 2,
        freq_dim: 16,
        context: ContextKind::Text,
        context_dim: 32,
        context_len: 8,
        in_channels: 16,
        out_channels: 16,
        actions: None,
        eps: 1e-6,
    }
}

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
}

/// A transformer of two blocks.
fn transformer() -> Tensors {
    let specs = CausalWan::expected_tensors(config()).unwrap();
    specs.into_iter().map(|spec| (spec.name, random(&spec.shape))).collect()
}

/// A folder with the transformer in `model.safetensors`.
fn folder(tensors: &Tensors) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    candle_core::safetensors::save(tensors, &path).unwrap();
    (folder, path)
}

fn conversion(input: &Path, name: &str) -> Conversion {
    Conversion {
        input: input.into(),
        output: input.with_file_name(name),
        network: None,
        state_dict: None,
        dtype: None,
        layout: FileLayout::Wan,
        loras: Vec::new(),
        overwrite: false,
    }
}

fn run(conversion: &Conversion) -> Result<u64> {
    let prepared = conversion.prepare()?;
    let mut done = 0;
    let bytes = prepared.run(&FileHashes::new(None), &|| false, &mut |bytes| done = bytes)?;
    assert_eq!(done, prepared.bytes());
    assert_eq!(fs::metadata(&conversion.output).unwrap().len(), bytes);
    Ok(bytes)
}

fn read(path: &Path) -> Tensors {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
    tensor.to_vec1().unwrap()
}

#[test]
fn every_layout_holds_the_same_values_and_is_read_back() {
    let model = transformer();
    let (_folder, path) = folder(&model);
    let mut last = path;
    for (layout, name) in [
        (FileLayout::Diffusers, "blocks.1.attn2.to_out.0.weight"),
        (FileLayout::Comfy, "model.diffusion_model.blocks.1.cross_attn.o.weight"),
        (FileLayout::Wan, "blocks.1.cross_attn.o.weight"),
    ] {
        let made = Conversion {
            layout,
            ..conversion(&last, &format!("{layout}.safetensors"))
        };
        run(&made).unwrap();
        let tensors = read(&made.output);
        assert_eq!(tensors.len(), model.len());
        assert_eq!(
            values(&tensors[name]),
            values(&model["blocks.1.cross_attn.o.weight"]),
            "{layout}"
        );
        last = made.output;
    }
    let back = read(&last);
    for (name, tensor) in &model {
        assert_eq!(
            (back[name].dims(), values(&back[name])),
            (tensor.dims(), values(tensor)),
            "{name}"
        );
    }
}

#[test]
fn metadata_stays_and_says_what_the_file_is_made_of() {
    let (_folder, path) = folder(&transformer());
    let first = conversion(&path, "first.safetensors");
    run(&first).unwrap();
    let second = conversion(&first.output, "second.safetensors");
    run(&second).unwrap();
    let file = Checkpoint::open(&second.output).unwrap();
    assert_eq!(file.note("format"), Some("pt"));
    let origin: serde_json::Value = serde_json::from_str(file.note(ORIGIN).unwrap()).unwrap();
    let hash = hub::file_hash::sha256(&first.output).unwrap();
    assert_eq!(
        (&origin["file"], &origin["sha256"]),
        (&json!("first.safetensors"), &json!(hash))
    );
    assert!(origin.get("loras").is_none());
}

#[test]
fn numbers_are_rounded_once_to_the_format_that_is_asked_for() {
    let mut model = transformer();
    let half = model["head.modulation"].to_dtype(DType::F16).unwrap();
    model.insert("head.modulation".into(), half);
    let (_folder, path) = folder(&model);
    run(&conversion(&path, "kept.safetensors")).unwrap();
    let kept = read(&path.with_file_name("kept.safetensors"));
    assert_eq!(kept["head.modulation"].dtype(), DType::F16);
    assert_eq!(kept["head.head.weight"].dtype(), DType::F32);
    let bf16 = Conversion {
        dtype: Some(DType::BF16),
        ..conversion(&path, "bf16.safetensors")
    };
    run(&bf16).unwrap();
    for (name, tensor) in read(&bf16.output) {
        let want = model[&name]
            .to_dtype(DType::F32)
            .unwrap()
            .to_dtype(DType::BF16)
            .unwrap();
        assert_eq!(
            (tensor.dtype(), values(&tensor)),
            (DType::BF16, values(&want)),
            "{name}"
        );
    }
}

#[test]
fn loras_are_merged_and_noted() {
    let model = transformer();
    let (folder, path) = folder(&model);
    let lora = folder.path().join("ink.safetensors");
    let factors = Tensors::from([
        ("blocks.0.ffn.0.lora_A.weight".into(), random(&[2, 32])),
        ("blocks.0.ffn.0.lora_B.weight".into(), random(&[64, 2])),
    ]);
    candle_core::safetensors::save(&factors, &lora).unwrap();
    let made = Conversion {
        loras: vec![LoraChoice {
            path: lora.clone(),
            strength: 0.5,
        }],
        ..conversion(&path, "inked.safetensors")
    };
    run(&made).unwrap();
    let got = read(&made.output);
    let name = "blocks.0.ffn.0.weight";
    let product = factors["blocks.0.ffn.0.lora_B.weight"]
        .matmul(&factors["blocks.0.ffn.0.lora_A.weight"])
        .unwrap();
    let want = (&model[name] + (product * 0.5).unwrap()).unwrap();
    let far = (&got[name] - want).unwrap().abs().unwrap().max_all().unwrap();
    assert!(far.to_scalar::<f32>().unwrap() < 1e-5);
    assert_eq!(values(&got["head.head.weight"]), values(&model["head.head.weight"]));
    let file = Checkpoint::open(&made.output).unwrap();
    let origin: serde_json::Value = serde_json::from_str(file.note(ORIGIN).unwrap()).unwrap();
    let noted = json!({"file": "ink.safetensors", "sha256": hub::file_hash::sha256(&lora).unwrap(), "strength": 0.5});
    assert_eq!(origin["loras"], json!([noted]));
}

#[test]
fn blocks_of_a_gguf_file_become_bf16() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut file = Gguf::default()
        .with("general.architecture", Meta::Text("wan".into()))
        .with("general.name", Meta::Text("tiny".into()))
        .with("general.file_type", Meta::U32(7));
    for spec in CausalWan::expected_tensors(config()).unwrap() {
        let shape: Vec<u64> = spec.shape.iter().map(|size| *size as u64).collect();
        let values: usize = spec.shape.iter().product();
        file = if spec.name == "blocks.0.ffn.0.weight" {
            let block = [&half::f16::from_f32(0.25).to_le_bytes()[..], &[3; 32]].concat();
            file.tensor(&spec.name, &shape, 8, block.repeat(values / 32))
        } else {
            file.floats(&spec.name, &shape)
        };
    }
    fs::write(&path, file.bytes()).unwrap();
    let made = conversion(&path, "model.safetensors");
    let said = made.prepare().unwrap().found();
    assert!(
        said.contains("a Wan diffusion model") && said.contains("1 Q8_0"),
        "{said}"
    );
    run(&made).unwrap();
    let got = read(&made.output);
    let matrix = &got["blocks.0.ffn.0.weight"];
    assert_eq!((matrix.dtype(), matrix.dims()), (DType::BF16, &[64, 32][..]));
    assert!(values(matrix).iter().all(|value| *value == 0.75));
    assert_eq!(got["head.head.weight"].dtype(), DType::F32);
    let file = Checkpoint::open(&made.output).unwrap();
    assert_eq!(
        (file.note("general.name"), file.note("general.file_type")),
        (Some("tiny"), None)
    );
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let model = transformer();
    let (folder, path) = folder(&model);
    let refusal = |conversion: &Conversion| {
        let error = conversion.prepare().err().unwrap();
        (error.is_usage(), error.to_string())
    };
    let check = |conversion: &Conversion, usage: bool, part: &str| {
        let (is_usage, said) = refusal(conversion);
        assert!(said.contains(part) && is_usage == usage, "{part}: {said}");
    };
    check(&conversion(&path, "a.pt"), true, "ends in .safetensors");
    let same = Conversion {
        overwrite: true,
        ..conversion(&path, "model.safetensors")
    };
    check(&same, true, "is read, so it cannot be written to");
    fs::write(folder.path().join("there.safetensors"), "x").unwrap();
    check(&conversion(&path, "there.safetensors"), true, "--overwrite");
    check(
        &conversion(Path::new("none.safetensors"), "a.safetensors"),
        false,
        "none.safetensors",
    );
    // A LoRA, half a model, and another model.
    let lora = folder.path().join("lora.safetensors");
    let pair = Tensors::from([
        ("blocks.0.ffn.0.lora_A.weight".into(), random(&[2, 32])),
        ("blocks.0.ffn.0.lora_B.weight".into(), random(&[64, 2])),
    ]);
    candle_core::safetensors::save(&pair, &lora).unwrap();
    check(&conversion(&lora, "a.safetensors"), false, "looks like a LoRA");
    let mut half = model.clone();
    half.remove("head.head.bias");
    let path_of_half = folder.path().join("half.safetensors");
    candle_core::safetensors::save(&half, &path_of_half).unwrap();
    check(&conversion(&path_of_half, "a.safetensors"), false, "`head.head.bias`");
    let wrong = Conversion {
        network: Some(Network::Vae),
        ..conversion(&path, "a.safetensors")
    };
    check(&wrong, false, "model.safetensors");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
}

#[test]
fn what_is_stopped_leaves_nothing() {
    let (folder, path) = folder(&transformer());
    let made = conversion(&path, "a.safetensors");
    let prepared = made.prepare().unwrap();
    let begun = std::cell::Cell::new(0);
    let cancelled = || begun.get() > 3;
    let said = prepared.run(&FileHashes::new(None), &cancelled, &mut |_| begun.set(begun.get() + 1));
    assert!(matches!(said, Err(Error::Cancelled)));
    assert_eq!((begun.get(), fs::read_dir(folder.path()).unwrap().count()), (4, 1));
    // A value that the format cannot hold.
    let mut model = transformer();
    model.insert("head.head.bias".into(), (random(&[64]) * 1e30).unwrap());
    candle_core::safetensors::save(&model, &path).unwrap();
    let small = Conversion {
        dtype: Some(DType::F16),
        ..conversion(&path, "b.safetensors")
    };
    let said = run(&small).unwrap_err().to_string();
    assert!(said.contains("too large for f16"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn names_of_flags_are_those_of_roles() {
    for network in Network::ALL {
        assert_eq!(network_named(name_of(network)), Ok(network));
    }
    assert!(network_named("vea").unwrap_err().contains("vae"));
    assert_eq!("comfy".parse(), Ok(FileLayout::Comfy));
    assert!("flux".parse::<FileLayout>().is_err());
}
