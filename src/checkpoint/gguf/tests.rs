//! GGUF files: shapes, metadata, and what is refused.

use candle_core::{DType, Device};
use proptest::prelude::*;

use super::{
    build::{Gguf, Meta},
    *,
};
use crate::checkpoint::{Checkpoint, KeyMap, OpenOptions};

fn try_open(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    let options = OpenOptions {
        key_map: KeyMap::Verbatim,
        ..OpenOptions::default()
    };
    Checkpoint::open_with(&path, &options)
}

fn open(file: &Gguf) -> Checkpoint {
    open_bytes(&file.bytes())
}

fn open_bytes(bytes: &[u8]) -> Checkpoint {
    try_open(bytes).unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    let said = try_open(bytes)
        .err()
        .map_or("accepted".into(), |error| error.to_string());
    assert!(said.contains("model.gguf"), "{said}");
    said
}

fn values(file: &Checkpoint, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name, DType::F32, &Device::Cpu).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Q8_0 blocks with the scale 0.5 and the codes 0, 1, 2…
fn q8_0(blocks: usize) -> Vec<u8> {
    let block = |n: usize| {
        let codes = (0..32).map(move |i| ((n * 32 + i) % 100) as u8);
        half::f16::from_f32(0.5).to_le_bytes().into_iter().chain(codes)
    };
    (0..blocks).flat_map(block).collect()
}

fn small() -> Gguf {
    Gguf::default()
        .with("general.architecture", Meta::Text("wan".into()))
        .floats("a", &[2, 3])
        .tensor("b", &[3, 64], 8, q8_0(6))
}

#[test]
fn shapes_are_those_of_torch_and_metadata_is_kept() {
    let file = small()
        .with("general.file_type", Meta::U32(7))
        .with("list", Meta::I32s(vec![1]));
    let file = open(&file);
    assert_eq!(
        (file.shape("a"), file.shape("b")),
        (Some(vec![2, 3]), Some(vec![3, 64]))
    );
    assert_eq!(
        (file.stored_dtype("a"), file.stored_dtype("b")),
        (Some("f32"), Some("Q8_0"))
    );
    assert_eq!(values(&file, "a"), [0., 1., 2., 3., 4., 5.]);
    assert_eq!(file.note("general.architecture"), Some("wan"));
    assert_eq!((file.note("general.file_type"), file.note("list")), (Some("7"), None));
    let b = values(&file, "b");
    assert_eq!((b.len(), b[0], b[33], b[191]), (192, 0.0, 16.5, 45.5));
}

#[test]
fn rows_and_other_formats_hold_the_same_values() {
    // Rows of 16 values begin inside of blocks once the shape is restored.
    let file = open(
        &Gguf::default()
            .with("comfy.gguf.orig_shape.w", Meta::I32s(vec![8, 16]))
            .tensor("w", &[2, 64], 8, q8_0(4)),
    );
    assert_eq!(file.shape("w"), Some(vec![8, 16]));
    let all = values(&file, "w");
    let rows = file.rows("w", &[5, 0, 5], DType::F32, &Device::Cpu).unwrap();
    let rows = rows.to_vec2::<f32>().unwrap();
    assert_eq!((&rows[0][..], &rows[1][..]), (&all[80..96], &all[..16]));
    assert_eq!(rows[0], rows[2]);
    assert!(file.rows("w", &[8], DType::F32, &Device::Cpu).is_err());
    for dtype in [DType::BF16, DType::F16, DType::F64] {
        let tensor = file.tensor("w", dtype, &Device::Cpu).unwrap();
        assert_eq!(tensor.dtype(), dtype);
        let tensor = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
        assert_eq!(tensor.to_vec1::<f32>().unwrap(), all, "{dtype:?}");
    }
}

#[test]
fn large_tensors_are_decoded_in_pieces_that_fit_together() {
    let blocks = 3 * 2048 + 5;
    let file = open(&Gguf::default().tensor("w", &[blocks as u64 * 32], 8, q8_0(blocks)));
    let got = values(&file, "w");
    assert!(
        got.iter()
            .enumerate()
            .all(|(i, value)| *value == (i % 100) as f32 * 0.5)
    );
}

#[test]
fn joined_dimensions_are_taken_apart_by_the_bias() {
    let file = open(
        &Gguf::default()
            .floats("p.weight", &[6, 1, 2, 2])
            .floats("p.bias", &[2])
            .floats("q.weight", &[2, 1, 2, 2])
            .floats("q.bias", &[2]),
    );
    assert_eq!(file.shape("p.weight"), Some(vec![2, 3, 1, 2, 2]));
    assert_eq!(file.shape("q.weight"), Some(vec![2, 1, 2, 2]));
}

#[test]
fn types_that_are_not_read_spoil_their_tensor_only() {
    let file = small().tensor("c", &[32, 32], 16, vec![]).tensor("d", &[7], 99, vec![]);
    let file = open(&file);
    values(&file, "b");
    for (name, part) in [("c", "IQ2_XXS"), ("d", "the unknown type 99")] {
        let said = file.tensor(name, DType::F32, &Device::Cpu).unwrap_err().to_string();
        assert!(said.contains(part) && said.contains(&format!("`{name}`")), "{said}");
    }
}

#[test]
fn values_that_are_not_finite_are_refused() {
    let mut blocks = q8_0(2);
    blocks[34..36].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
    let file = open(&Gguf::default().tensor("w", &[64], 8, blocks));
    let said = file.tensor("w", DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(said.contains("`w`") && said.contains("not finite"), "{said}");
}

#[test]
fn other_versions_parts_and_models_are_refused_by_name() {
    let architecture = |name: &str| {
        Gguf::default()
            .with("general.architecture", Meta::Text(name.into()))
            .floats("a", &[1])
    };
    let version = |version: u32| Gguf { version, ..small() };
    let split = small().with("split.no", Meta::U16(0)).with("split.count", Meta::U16(2));
    let cases: &[(Gguf, &[&str])] = &[
        (version(1), &["version 1", "convert"]),
        (version(3u32.swap_bytes()), &["big-endian"]),
        (version(4), &["version 4"]),
        (version(0), &["version is 0"]),
        (split, &["part 1 of 2", "--merge"]),
        (architecture("llama"), &["`llama`", "language model"]),
        (architecture("flux"), &["FLUX"]),
        (architecture("hyvid"), &["HunyuanVideo"]),
        (architecture("what"), &["`what`", "another model"]),
        (Gguf::default(), &["no tensors"]),
    ];
    for (file, parts) in cases {
        let said = refusal(&file.bytes());
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?}: {said}");
    }
    for name in ["wan", "pig", "cow", "t5", "t5encoder"] {
        open(&architecture(name));
    }
}

/// Something that is done to a good file.
type Fault = dyn Fn(&mut Gguf);

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let with = |change: &Fault| {
        let mut file = small();
        change(&mut file);
        refusal(&file.bytes())
    };
    let cases: &[(&Fault, &str)] = &[
        (&|file| file.tensors[1].offset = Some(7), "multiple of the alignment"),
        (&|file| file.tensors[1].offset = Some(1 << 40), "beyond the end"),
        (&|file| file.tensors[1].offset = Some(u64::MAX - 31), "beyond the end"),
        (&|file| file.tensors[1].offset = Some(0), "inside of another one"),
        (&|file| file.tensors[1].shape = vec![1 << 40, 1 << 40], "overflows"),
        (&|file| file.tensors[1].shape = vec![1 << 40, 0, 1 << 40], "overflows"),
        (&|file| file.tensors[1].shape = vec![1; 9], "9 dimensions"),
        (&|file| file.tensors[1].shape = vec![6, 33], "no multiple of the 32"),
        (&|file| file.tensors[1].name = "a".into(), "the tensor `a` twice"),
        (
            &|file| file.metadata.push(file.metadata[0].clone()),
            "`general.architecture` twice",
        ),
        (
            &|file| file.metadata.push(("general.alignment".into(), Meta::U32(0))),
            "power of two",
        ),
        (
            &|file| file.metadata.push(("general.alignment".into(), Meta::U32(48))),
            "power of two",
        ),
        (
            &|file| file.metadata.push(("general.alignment".into(), Meta::F32(32.))),
            "no whole number",
        ),
        (&|file| file.metadata[0].1 = Meta::U32(1), "no text"),
        (
            &|file| {
                file.metadata
                    .push(("comfy.gguf.orig_shape.a".into(), Meta::I32s(vec![7])))
            },
            "not as many values",
        ),
        (
            &|file| {
                file.metadata
                    .push(("comfy.gguf.orig_shape.a".into(), Meta::I32s(vec![-2, -3])))
            },
            "no list of sizes",
        ),
    ];
    for (change, part) in cases {
        let said = with(change);
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_file_that_is_cut_off_says_how_long_it_should_be() {
    let bytes = small().bytes();
    // 20 bytes at the end are padding.
    let (end, cut) = (bytes.len() - 20, bytes.len() - 60);
    open_bytes(&bytes[..end]);
    let said = refusal(&bytes[..cut]);
    assert!(
        said.contains(&format!("should have {end} bytes by its header, but has {cut}")),
        "{said}"
    );
    // Anywhere in the header.
    for length in [4, 8, 20, 30, 60, 100] {
        let said = refusal(&bytes[..length]);
        assert!(
            said.contains("cut off") || said.contains("more than the file has room for"),
            "{said}"
        );
    }
}

#[test]
fn sizes_of_a_text_encoder_are_compared() {
    let file = |key: &str, value: Meta| {
        let file = Gguf::default()
            .with("general.architecture", Meta::Text("t5encoder".into()))
            .with("t5encoder.block_count", Meta::U32(2))
            .with("t5encoder.attention.layer_norm_epsilon", Meta::F32(1e-6))
            .floats("token_embd.weight", &[9, 4])
            .floats("enc.blk.0.attn_norm.weight", &[4])
            .floats("enc.blk.1.attn_norm.weight", &[4]);
        refusal_or_none(&file.with(key, value).bytes())
    };
    assert_eq!(file("t5encoder.embedding_length", Meta::U32(4)), None);
    let said = file("t5encoder.embedding_length", Meta::U32(5)).unwrap();
    assert!(
        said.contains("embedding_length` = 5") && said.contains("is 4"),
        "{said}"
    );
    let said = file("t5encoder.attention.layer_norm_rms_epsilon", Meta::F32(1e-5)).unwrap();
    assert!(said.contains("rms_epsilon"), "{said}");
}

fn refusal_or_none(bytes: &[u8]) -> Option<String> {
    try_open(bytes).err().map(|error| error.to_string())
}

#[test]
fn a_vocabulary_is_read_and_checked() {
    let text = |texts: &[&str]| Meta::Texts(texts.iter().map(|text| text.to_string()).collect());
    let file = |scores: Vec<f32>| {
        Gguf::default()
            .with("tokenizer.ggml.model", Meta::Text("t5".into()))
            .with("tokenizer.ggml.tokens", text(&["<pad>", "</s>", "<unk>", "▁a"]))
            .with("tokenizer.ggml.scores", Meta::F32s(scores))
            .with("tokenizer.ggml.token_type", Meta::I32s(vec![3, 3, 2, 1]))
            .with("tokenizer.ggml.precompiled_charsmap", Meta::Bytes(vec![1, 2]))
            .with("tokenizer.ggml.remove_extra_whitespaces", Meta::Bool(false))
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let read = |file: &Gguf| {
        std::fs::write(&path, file.bytes()).unwrap();
        Vocabulary::open(&path)
    };
    let vocabulary = read(&file(vec![0., 0., 0., -1.5])).unwrap().unwrap();
    assert_eq!(
        (vocabulary.unknown, vocabulary.end, &vocabulary.characters[..]),
        (2, 1, &[1, 2][..])
    );
    assert_eq!((vocabulary.adds_space, vocabulary.joins_spaces), (true, false));
    let piece = &vocabulary.pieces[3];
    assert_eq!((piece.text.as_str(), piece.score, piece.is_mark), ("▁a", -1.5, false));
    assert!(vocabulary.pieces[1].is_mark && is_gguf(&path));
    assert_eq!(read(&small()).unwrap(), None);
    let said = |file: Gguf| read(&file).unwrap_err().to_string();
    assert!(said(file(vec![0.])).contains("4 tokens, 1 scores"));
    assert!(said(file(vec![0., 0., 0., f32::NAN])).contains("no number"));
    assert!(said(file(vec![0.; 4]).with("tokenizer.ggml.eos_token_id", Meta::U32(4))).contains("the vocabulary has 4"));
    assert!(said(small().with("tokenizer.ggml.model", Meta::Text("gpt2".into()))).contains("`gpt2`"));
}

proptest! {
    #[test]
    fn any_changed_byte_gives_a_file_or_a_refusal(at in 0usize..400, byte in any::<u8>()) {
        let mut bytes = small().bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(file) = try_open(&bytes) {
            for name in file.names() {
                file.tensor(&name, DType::F32, &Device::Cpu).ok();
            }
        }
    }
}
