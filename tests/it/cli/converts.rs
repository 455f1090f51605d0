//! Models in GGUF files, and one file made of another.

use std::{fs, path::Path};

use crate::cli::{
    model::{TEXT_ENCODER, TOKENIZER, TRANSFORMER, Tensors, save_safetensors, text_encoder, transformer},
    program::Desk,
};

/// What llama.cpp calls the tensors of a text encoder.
const LLAMA: &[(&str, &str)] = &[
    ("token_embedding.", "token_embd."),
    ("blocks.", "enc.blk."),
    ("pos_embedding.embedding.", "attn_rel_b."),
    ("attn.", "attn_"),
    ("norm1.", "attn_norm."),
    ("norm2.", "ffn_norm."),
    ("ffn.gate.0.", "ffn_gate."),
    ("ffn.fc1.", "ffn_up."),
    ("ffn.fc2.", "ffn_down."),
];

fn llama(name: &str) -> String {
    match name {
        "norm.weight" => "enc.output_norm.weight".into(),
        name => LLAMA
            .iter()
            .fold(name.into(), |name: String, (ours, theirs)| name.replace(ours, theirs)),
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A pair of metadata: a text, or a list of elements of a type.
fn pair(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(key)[..], &kind.to_le_bytes(), value].concat()
}

fn list(key: &str, kind: u32, elements: Vec<Vec<u8>>) -> Vec<u8> {
    let head = [&kind.to_le_bytes()[..], &(elements.len() as u64).to_le_bytes()].concat();
    pair(key, 9, &[head, elements.concat()].concat())
}

/// The tokenizer of the model: letters behind the marks.
fn vocabulary() -> Vec<Vec<u8>> {
    let letters = ('a'..='z').map(|letter| letter.to_string());
    let pieces: Vec<String> = ["<pad>", "</s>", "<unk>", "▁"]
        .map(String::from)
        .into_iter()
        .chain(letters)
        .collect();
    let of = |f: fn(usize) -> Vec<u8>| (0..pieces.len()).map(f).collect::<Vec<_>>();
    vec![
        pair("general.architecture", 8, &text("t5encoder")),
        pair("tokenizer.ggml.model", 8, &text("t5")),
        list(
            "tokenizer.ggml.tokens",
            8,
            pieces.iter().map(|piece| text(piece)).collect(),
        ),
        list(
            "tokenizer.ggml.scores",
            6,
            of(|id| [0f32; 3][..].get(id).unwrap_or(&-1.).to_le_bytes().to_vec()),
        ),
        list(
            "tokenizer.ggml.token_type",
            5,
            of(|id| [3i32, 3, 2][..].get(id).unwrap_or(&1).to_le_bytes().to_vec()),
        ),
        pair("tokenizer.ggml.remove_extra_whitespaces", 7, &[0]),
    ]
}

/// Saves a model in f32.
fn save_gguf(path: &Path, metadata: &[Vec<u8>], tensors: &Tensors) {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((metadata.len() as u64).to_le_bytes());
    file.extend(metadata.concat());
    let mut data = Vec::new();
    for (name, (shape, values)) in tensors {
        file.extend([text(name), (shape.len() as u32).to_le_bytes().to_vec()].concat());
        shape
            .iter()
            .rev()
            .for_each(|size| file.extend((*size as u64).to_le_bytes()));
        file.extend([&0u32.to_le_bytes()[..], &(data.len() as u64).to_le_bytes()].concat());
        values.iter().for_each(|value| data.extend(value.to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0u8);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    fs::write(path, [file, data].concat()).unwrap();
}

#[test]
fn a_model_in_gguf_files_makes_the_same_video_without_a_tokenizer() {
    let desk = Desk::new();
    let wanted = desk.pixels(&[]);
    let (encoder, network) = (desk.video("umt5.gguf"), desk.video("wan.gguf"));
    let named = text_encoder().into_iter().map(|(name, tensor)| (llama(&name), tensor));
    save_gguf(&encoder, &vocabulary(), &named.collect());
    save_gguf(
        &network,
        &[pair("general.architecture", 8, &text("wan"))],
        &transformer(),
    );
    desk.model.remove(TEXT_ENCODER);
    desk.model.remove(TOKENIZER);
    fs::copy(desk.model.path("config.json"), desk.video("config.json")).unwrap();
    let (encoder, network) = (encoder.display().to_string(), network.display().to_string());
    let got = desk.pixels(&["--text-encoder", &encoder, "--transformer", &network]);
    assert!(got == wanted, "the pictures differ");
    // A language model in its place.
    save_gguf(
        Path::new(&network),
        &[pair("general.architecture", 8, &text("llama"))],
        &transformer(),
    );
    let words = ["--text-encoder", encoder.as_str(), "--transformer", &network];
    desk.refused(1, &words, &["wan.gguf", "`llama`", "a language model"]);
}

#[test]
fn a_converted_model_makes_the_same_video() {
    let desk = Desk::new();
    let wanted = desk.pixels(&[]);
    let input = desk.model.path(TRANSFORMER).display().to_string();
    let output = desk.run(&["convert", &input, "new.safetensors", "--layout", "diffusers"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.contains("a Wan diffusion model"),
        "{said}"
    );
    assert_eq!(output.stdout, b"new.safetensors\n");
    assert_eq!(desk.names(), ["new.safetensors"]);
    fs::rename(desk.video("new.safetensors"), desk.model.path(TRANSFORMER)).unwrap();
    assert!(desk.pixels(&[]) == wanted, "the pictures differ");

    let refused = |code: i32, words: &[&str], part: &str| {
        let output = desk.run(&[&["convert"][..], words].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(part), "{said}");
    };
    save_safetensors(&desk.video("there.safetensors"), &transformer());
    refused(2, &[&input, "there.safetensors"], "--overwrite");
    refused(2, &["there.safetensors", "there.safetensors", "--overwrite"], "is read");
    refused(2, &[&input, "new.pt"], "ends in .safetensors");
    refused(
        2,
        &[&input, "new.safetensors", "--dtype", "q8_0"],
        "expected f32, bf16 or f16",
    );
    refused(1, &["none.safetensors", "new.safetensors"], "none.safetensors");
    assert_eq!(desk.names(), ["there.safetensors"]);
}
