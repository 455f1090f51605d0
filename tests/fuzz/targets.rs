//! The readers, each as a function of a file.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fs,
    path::Path,
    sync::Arc,
};

use candle_core::{DType, Device, Tensor};
use deepforcing::{
    batch::{Manifest, Shard},
    checkpoint::{
        Checkpoint, KeyMap, Network, OpenOptions, TensorSpec, Weights,
        lora::{Lora, LoraMerge},
    },
    config::{Environment, Layer, Layers},
    models::preset::Preset,
    prompts::read_prompts,
    recipe::Recipe,
    report::{self, Options},
    sweep::SweepPlan,
    text::PromptTokenizer,
    video::{latents::LatentReader, probe, read_frames, read_image, read_last_frames_fitted, read_metadata},
};

use crate::seeds;

pub struct Target {
    pub name: &'static str,
    pub extension: &'static str,
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads the file to its end; the error as it is said.
    pub read: fn(&Path) -> Result<(), String>,
}

fn said<T, E: ToString>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

/// Reads the file under another name in a folder of its own.
fn named(path: &Path, name: &str, read: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    fs::copy(path, folder.path().join(name)).map_err(|error| error.to_string())?;
    let own = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    read(folder.path()).map_err(|error| error.replace(name, &own))
}

fn checkpoint(path: &Path) -> Result<(), String> {
    for network in Network::ALL {
        let Ok(file) = Checkpoint::open_network(path, network, None) else {
            continue;
        };
        file.describe();
        for name in file.names().iter().take(20) {
            file.tensor(name, candle_core::DType::F32, &candle_core::Device::Cpu)
                .ok();
        }
    }
    let checkpoint = Checkpoint::open(path).map_err(|error| error.to_string())?;
    let device = candle_core::Device::Cpu;
    for name in checkpoint.names().iter().take(20) {
        checkpoint.tensor(name, candle_core::DType::F32, &device).ok();
    }
    Ok(())
}

/// A GGUF file: names as they are, tensors of every type, rows, and the tokenizer.
fn gguf(path: &Path) -> Result<(), String> {
    PromptTokenizer::open(path).ok();
    let options = OpenOptions {
        key_map: KeyMap::Verbatim,
        ..OpenOptions::default()
    };
    let checkpoint = Checkpoint::open_with(path, &options).map_err(|error| error.to_string())?;
    for name in checkpoint.names().iter().take(20) {
        checkpoint.tensor(name, DType::BF16, &Device::Cpu).ok();
        checkpoint.rows(name, &[0, 1], DType::F32, &Device::Cpu).ok();
    }
    Ok(())
}

/// A LoRA, merged into the model of the seeds.
fn lora(path: &Path) -> Result<(), String> {
    let model: Vec<_> = seeds::LORA_MODEL
        .iter()
        .map(|(name, shape)| TensorSpec {
            name: (*name).into(),
            shape: shape.to_vec(),
        })
        .collect();
    let opened = Lora::open(path).map_err(|error| error.to_string())?;
    let mut merge = LoraMerge::default();
    let merged = merge
        .add(&opened, &model, 1.0, None)
        .map_err(|error| error.to_string())?;
    assert!(merged.to_string().contains("are changed"));
    let zeros = model.iter().map(|spec| {
        let zeros = Tensor::zeros(spec.shape.clone(), DType::F32, &Device::Cpu);
        Ok((spec.name.clone(), zeros.map_err(|error| error.to_string())?))
    });
    let zeros: HashMap<String, Tensor> = zeros.collect::<Result<_, String>>()?;
    let weights = Weights::from_tensors(zeros, DType::F32, &Device::Cpu).changed(Arc::new(merge));
    for spec in model {
        // A refusal here names the file where it is the LoRA's fault.
        weights.get(spec.shape, &spec.name).ok();
    }
    Ok(())
}

fn latents(path: &Path) -> Result<(), String> {
    let reader = LatentReader::open(path).map_err(|error| error.to_string())?;
    said(reader.read(0..1, &candle_core::Device::Cpu))
}

fn recipe(path: &Path) -> Result<(), String> {
    let text = fs::read(path).unwrap_or_default();
    let recipe = Recipe::from_json(&String::from_utf8_lossy(&text)).map_err(|error| error.of_file(path).to_string())?;
    let again = Recipe::from_json(&recipe.to_json()).map_err(|error| format!("round trip: {error}"))?;
    if again != recipe {
        return Err("the recipe is another one after writing and reading".into());
    }
    recipe.human();
    said(recipe.check_makable().map_err(|error| error.of_file(path)))
}

fn plan(path: &Path) -> Result<(), String> {
    named(path, "sweep.json", |folder| {
        let plan = SweepPlan::read(folder).map_err(|error| error.to_string())?;
        if let Some(plan) = plan {
            let outside = |name: &String| name.contains('/') || name.is_empty() || name == "..";
            if plan.points.iter().any(|point| outside(&point.name)) {
                return Err("a point has a name that leads out of the folder".into());
            }
        }
        Ok(())
    })
}

fn manifest(path: &Path) -> Result<(), String> {
    named(path, "manifest.jsonl", |folder| {
        report::write(
            folder,
            &Options {
                look_at_videos: false,
                ..Options::default()
            },
        )
        .ok();
        said(Manifest::read(folder, Shard::ALL))
    })
}

fn config(path: &Path) -> Result<(), String> {
    let environment: Environment = [("DEEPFORCING_CONFIG".into(), OsString::from(path))]
        .into_iter()
        .collect();
    said(Layers::load(Layer::default(), &environment))
}

fn trace(path: &Path) -> Result<(), String> {
    said(deepforcing::trace::Trace::read(path))
}

fn video(path: &Path) -> Result<(), String> {
    probe(path).ok();
    read_metadata(path).ok();
    read_last_frames_fitted(path, 9, 16.0, (32, 32)).ok();
    said(read_frames(path, 9))
}

fn image(path: &Path) -> Result<(), String> {
    read_metadata(path).ok();
    said(read_image(path))
}

fn tokenizer(path: &Path) -> Result<(), String> {
    said(PromptTokenizer::open(path))
}

/// A trace of a video without events.
fn traces() -> Vec<Vec<u8>> {
    let recipe: serde_json::Value = serde_json::from_slice(&seeds::recipe()[0]).unwrap();
    let shape = BTreeMap::from([
        ("layers", 2),
        ("heads", 2),
        ("head-dim", 8),
        ("rows", 2),
        ("columns", 2),
        ("chunk", 3),
        ("window", 21),
        ("sink", 10),
        ("bytes-per-token", 64),
        ("cache-bytes", 4096),
    ]);
    let mut shape = serde_json::to_value(shape).unwrap();
    shape["policy"] = "deep-forcing".into();
    let header = serde_json::json!({
        "kind": "header", "format": 1, "deepforcing": "0.1.0", "recipe": recipe, "video": "a.mp4", "shape": shape,
        "attention-heads": null,
    });
    let held = serde_json::json!({"sink": [], "selected": [], "recent": [], "current": [[0, 4], [1, 4], [2, 4]]});
    let chunk = serde_json::json!({
        "kind": "chunk", "chunk": 0, "start": 0, "frames": 3, "event": false, "bytes": 768, "layers": [held],
    });
    let end = serde_json::json!({"kind": "end", "chunks": 1, "complete": true});
    vec![format!("{header}\n{chunk}\n{end}\n").into_bytes()]
}

pub const TARGETS: &[Target] = &[
    Target {
        name: "safetensors",
        extension: "safetensors",
        seeds: seeds::safetensors,
        read: checkpoint,
    },
    Target {
        name: "torch",
        extension: "pt",
        seeds: seeds::torch,
        read: checkpoint,
    },
    Target {
        name: "gguf",
        extension: "gguf",
        seeds: seeds::gguf,
        read: gguf,
    },
    Target {
        name: "lora",
        extension: "safetensors",
        seeds: seeds::lora,
        read: lora,
    },
    Target {
        name: "tokenizer",
        extension: "json",
        seeds: seeds::tokenizer,
        read: tokenizer,
    },
    Target {
        name: "latents",
        extension: "safetensors",
        seeds: seeds::latents,
        read: latents,
    },
    Target {
        name: "recipe",
        extension: "json",
        seeds: seeds::recipe,
        read: recipe,
    },
    Target {
        name: "plan",
        extension: "json",
        seeds: seeds::plan,
        read: plan,
    },
    Target {
        name: "manifest",
        extension: "jsonl",
        seeds: seeds::manifest,
        read: manifest,
    },
    Target {
        name: "trace",
        extension: "jsonl",
        seeds: traces,
        read: trace,
    },
    Target {
        name: "text-prompts",
        extension: "txt",
        seeds: seeds::text_prompts,
        read: |path| said(read_prompts(path)),
    },
    Target {
        name: "json-prompts",
        extension: "jsonl",
        seeds: seeds::json_prompts,
        read: |path| said(read_prompts(path)),
    },
    Target {
        name: "table-prompts",
        extension: "csv",
        seeds: seeds::table_prompts,
        read: |path| said(read_prompts(path)),
    },
    Target {
        name: "preset",
        extension: "toml",
        seeds: seeds::preset,
        read: |path| said(Preset::load(&path.to_string_lossy())),
    },
    Target {
        name: "config",
        extension: "toml",
        seeds: seeds::config,
        read: config,
    },
    Target {
        name: "video",
        extension: "mp4",
        seeds: seeds::mp4,
        read: video,
    },
    Target {
        name: "y4m",
        extension: "y4m",
        seeds: seeds::y4m,
        read: video,
    },
    Target {
        name: "image",
        extension: "png",
        seeds: seeds::images,
        read: image,
    },
];
