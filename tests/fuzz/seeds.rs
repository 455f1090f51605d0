//! Good files to begin with: small ones of every kind.

use std::fs;

use deepforcing::video::{Form, Metadata, Target, VideoSettings, VideoWriter};
use serde_json::json;

/// A file of the golden cases.
fn golden(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn safetensors() -> Vec<Vec<u8>> {
    let header = json!({
        "__metadata__": {"format": "pt"},
        "a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    });
    vec![
        with_header(&header.to_string(), 32),
        golden("checkpoint_containers/expected_bf16.safetensors"),
    ]
}

fn with_header(header: &str, values: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &vec![0; values]].concat()
}

pub fn torch() -> Vec<Vec<u8>> {
    vec![
        golden("checkpoint_containers/generator_ema_bf16.pt"),
        golden("checkpoint_containers/shared_storage_f32.pt"),
    ]
}

pub fn tokenizer() -> Vec<Vec<u8>> {
    vec![golden("tokenizer/tokenizer_nocharsmap.json")]
}

pub fn latents() -> Vec<Vec<u8>> {
    let header = json!({
        "__metadata__": {"format": "pt", "recipe": recipe_text()},
        "latents": {"dtype": "F32", "shape": [2, 16, 1, 1], "data_offsets": [0, 128]},
    });
    vec![with_header(&header.to_string(), 128)]
}

fn recipe_text() -> String {
    json!({
        "format": 1, "deepforcing": "0.1.0",
        "model": {"model": "toy", "preset": "toy", "decoder": "wan", "files": [
            {"role": "transformer", "name": "a.safetensors", "bytes": 9, "sha256": "ab".repeat(32)},
        ]},
        "prompts": [{"text": "a red ball", "latent-frame": 0, "seconds": 0.0}],
        "seed": 1,
        "sampler": {"steps": [1000, 500], "shift": 5.0, "warp": true, "context-noise": 0.0},
        "cache": {"policy": "deep-forcing", "window": 21, "sink": 10, "budget": 16, "recent": 4},
        "rollout": {"chunk": 3, "first-frame-alone": false},
        "video": {"width": 32, "height": 32, "fps": 16, "pictures": 20, "latent-frames": 6},
        "encoding": {"container": "mp4", "crf": 18, "preset": "veryfast"},
        "device": "cpu", "dtype": "f32",
    })
    .to_string()
}

pub fn recipe() -> Vec<Vec<u8>> {
    vec![recipe_text().into_bytes()]
}

pub fn plan() -> Vec<Vec<u8>> {
    let plan = json!({
        "format": 1, "deepforcing": "0.1.0", "command": ["deepforcing", "sweep"], "preset": null, "model": "toy",
        "seconds": 1.0, "size": "32x32", "fps": 16.0,
        "axes": [{"key": "cache.sink", "values": ["1", "3"]}],
        "points": [{"name": "sink-1", "label": "sink 1", "settings": {"cache.sink": "1"}, "resolved": {}}],
        "prompts": [{"id": "00000", "text": "a red ball"}],
        "seeds": [0, 1],
    });
    vec![plan.to_string().into_bytes()]
}

pub fn manifest() -> Vec<Vec<u8>> {
    let entry = json!({
        "file": "00000-0.mp4", "key": "k", "sha256": "00", "bytes": 9, "pictures": 9, "index": 0, "sample": 0, "seed": 1,
        "prompt": "a red ball", "times": {"denoise": 1.0, "decode": 1.0, "encode": 1.0, "total": 3.0},
        "recipe": {"video": {"width": 32, "height": 32, "fps": 16}},
    });
    vec![format!("{entry}\n{entry}\n").into_bytes()]
}

pub fn text_prompts() -> Vec<Vec<u8>> {
    vec![b"a red ball\n# a comment\n\ngreen hills \xc3\xa9\n".to_vec()]
}

pub fn json_prompts() -> Vec<Vec<u8>> {
    let lines = [
        r#"{"prompt": "a red ball", "seed": 1, "seconds": 2.5, "id": "x"}"#,
        r#"{"prompts": ["a", "b"], "switch": [12], "image": "a.png"}"#,
    ];
    vec![lines.join("\n").into_bytes()]
}

pub fn table_prompts() -> Vec<Vec<u8>> {
    vec![b"prompt,seed,seconds,id\n\"a, \"\"b\"\"\",1,2.5,x\ngreen hills,,,\n".to_vec()]
}

pub fn preset() -> Vec<Vec<u8>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/toy.toml");
    vec![fs::read(path).unwrap()]
}

pub fn config() -> Vec<Vec<u8>> {
    vec![
        b"seed = 7\nsize = \"480x272\"\n[cache]\npolicy = \"deep-sink\"\nsink = 14\n[sampler]\nsteps = [1000, 500]\n"
            .to_vec(),
    ]
}

fn video(form: Form, name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::parse(folder.path().join(name), None).unwrap();
    let settings = VideoSettings {
        metadata: Metadata {
            title: Some("a red ball".into()),
            comment: Some(recipe_text()),
        },
        ..VideoSettings::new(32, 32)
    };
    let mut writer = VideoWriter::create(&target, settings).unwrap();
    for at in 0..4 {
        writer.push(&[at * 60; 32 * 32 * 3]).unwrap();
    }
    writer.finish().unwrap();
    let name = match form {
        Form::Png => "a_0.png",
        _ => name,
    };
    fs::read(folder.path().join(name)).unwrap()
}

pub fn mp4() -> Vec<Vec<u8>> {
    vec![video(Form::Mp4, "a.mp4"), video(Form::Webm, "a.webm")]
}

pub fn images() -> Vec<Vec<u8>> {
    vec![video(Form::Png, "a_%d.png"), video(Form::Gif, "a.gif")]
}

pub fn y4m() -> Vec<Vec<u8>> {
    vec![video(Form::Y4m, "a.y4m")]
}
