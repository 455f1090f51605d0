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

/// All types of blocks, and a text encoder of one table with its tokenizer.
pub fn gguf() -> Vec<Vec<u8>> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let key = |name: &str, kind: u32| [text(name), kind.to_le_bytes().to_vec()].concat();
    let array = |name: &str, kind: u32, count: u64| {
        [key(name, 9), kind.to_le_bytes().to_vec(), count.to_le_bytes().to_vec()].concat()
    };
    let pairs = [
        [key("general.architecture", 8), text("t5encoder")].concat(),
        [key("t5encoder.embedding_length", 4), 8u32.to_le_bytes().to_vec()].concat(),
        [
            array("comfy.gguf.orig_shape.w", 5, 2),
            4i32.to_le_bytes().to_vec(),
            8i32.to_le_bytes().to_vec(),
        ]
        .concat(),
        [key("tokenizer.ggml.model", 8), text("t5")].concat(),
        [
            array("tokenizer.ggml.tokens", 8, 4),
            text("<pad>"),
            text("</s>"),
            text("<unk>"),
            text("▁a"),
        ]
        .concat(),
        [
            array("tokenizer.ggml.scores", 6, 4),
            [0f32, 0., 0., -1.].map(f32::to_le_bytes).concat(),
        ]
        .concat(),
        [
            array("tokenizer.ggml.token_type", 5, 4),
            [3i32, 3, 2, 1].map(i32::to_le_bytes).concat(),
        ]
        .concat(),
    ];
    // A table of 4 tokens, and one block of 32 values.
    let tensors = [("token_embd.weight", [8u64, 4], 0u32, 0u64), ("w", [32, 1], 8, 128)];
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((pairs.len() as u64).to_le_bytes());
    file.extend(pairs.concat());
    for (name, sizes, kind, offset) in tensors {
        file.extend([text(name), 2u32.to_le_bytes().to_vec()].concat());
        file.extend(sizes.map(u64::to_le_bytes).concat());
        file.extend([&kind.to_le_bytes()[..], &offset.to_le_bytes()].concat());
    }
    file.resize(file.len().next_multiple_of(32) + 128 + 34, 0);
    vec![
        file,
        golden("weights_gguf_blocks/blocks.gguf"),
        golden("weights_gguf_blocks/blocks_iq4.gguf"),
    ]
}

/// The tensors of the model that the LoRAs change.
pub const LORA_MODEL: &[(&str, &[usize])] = &[
    ("blocks.0.self_attn.q.weight", &[6, 6]),
    ("blocks.0.self_attn.q.bias", &[6]),
    ("blocks.0.ffn.0.weight", &[8, 6]),
    ("blocks.0.modulation", &[1, 6, 6]),
];

/// LoRAs of every kind.
pub fn lora() -> Vec<Vec<u8>> {
    let of = |tensors: &[(&str, &str, &[usize])], notes: serde_json::Value| {
        let mut header = serde_json::Map::new();
        header.insert("__metadata__".into(), notes);
        let mut at = 0;
        for (name, dtype, shape) in tensors {
            let width = if *dtype == "F32" { 4 } else { 2 };
            let end = at + width * shape.iter().product::<usize>();
            header.insert(
                (*name).into(),
                json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}),
            );
            at = end;
        }
        with_header(&serde_json::Value::Object(header).to_string(), at)
    };
    let none = || json!({"format": "pt"});
    let adapter = json!({"transformer.lora_alpha": 4, "transformer.alpha_pattern": {"ffn.0": 2}}).to_string();
    vec![
        of(
            &[
                ("lora_unet_blocks_0_self_attn_q.alpha", "F32", &[]),
                ("lora_unet_blocks_0_self_attn_q.lora_down.weight", "BF16", &[2, 6]),
                ("lora_unet_blocks_0_self_attn_q.lora_up.weight", "BF16", &[6, 2]),
                ("lora_te_x.lora_down.weight", "BF16", &[2, 6]),
                ("lora_te_x.lora_up.weight", "BF16", &[6, 2]),
            ],
            json!({"ss_network_alpha": "3.0"}),
        ),
        of(
            &[
                ("transformer.blocks.0.attn1.to_q.lora_A.weight", "F32", &[2, 6]),
                ("transformer.blocks.0.attn1.to_q.lora_B.weight", "F32", &[6, 2]),
                ("transformer.blocks.0.attn1.to_q.lora_magnitude_vector", "F32", &[6]),
            ],
            json!({"lora_adapter_metadata": adapter}),
        ),
        of(
            &[
                ("diffusion_model.blocks.0.ffn.0.diff", "BF16", &[8, 6]),
                ("diffusion_model.blocks.0.self_attn.q.diff_b", "BF16", &[6]),
                ("diffusion_model.blocks.0.diff_m", "BF16", &[1, 6, 6]),
            ],
            none(),
        ),
        of(
            &[
                ("lycoris_blocks_0_ffn_0.lokr_w1", "F32", &[4, 2]),
                ("lycoris_blocks_0_ffn_0.lokr_w2_a", "F32", &[2, 1]),
                ("lycoris_blocks_0_ffn_0.lokr_w2_b", "F32", &[1, 3]),
                ("lycoris_blocks_0_self_attn_q.hada_w1_a", "F32", &[6, 1]),
                ("lycoris_blocks_0_self_attn_q.hada_w1_b", "F32", &[1, 6]),
                ("lycoris_blocks_0_self_attn_q.hada_w2_a", "F32", &[6, 1]),
                ("lycoris_blocks_0_self_attn_q.hada_w2_b", "F32", &[1, 6]),
            ],
            none(),
        ),
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
