//! Tests of LoRA files: every source of alpha, sums, and what is refused.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use candle_core::{DType, Device, Tensor};
use tempfile::TempDir;

use super::{super::Weights, *};

mod products;

type Tensors = HashMap<String, Tensor>;

/// Sizes of a model of two blocks.
const MODEL: &[(&str, &[usize])] = &[
    ("patch_embedding.weight", &[6, 4, 1, 2, 2]),
    ("blocks.0.self_attn.q.weight", &[6, 6]),
    ("blocks.0.self_attn.q.bias", &[6]),
    ("blocks.0.norm3.weight", &[6]),
    ("blocks.0.modulation", &[1, 6, 6]),
    ("head.modulation", &[1, 2, 6]),
    ("blocks.0.ffn.0.weight", &[8, 6]),
    ("blocks.1.ffn.2.weight", &[6, 8]),
];

fn model() -> Vec<TensorSpec> {
    let spec = |(name, shape): &(&str, &[usize])| TensorSpec {
        name: name.to_string(),
        shape: shape.to_vec(),
    };
    MODEL.iter().map(spec).collect()
}

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
}

fn weights() -> Tensors {
    MODEL
        .iter()
        .map(|(name, shape)| (name.to_string(), random(shape)))
        .collect()
}

/// A pair of rank 2 in peft's spelling.
fn pair(module: &str, outputs: usize, inputs: usize) -> Tensors {
    HashMap::from([
        (format!("{module}.lora_A.weight"), random(&[2, inputs])),
        (format!("{module}.lora_B.weight"), random(&[outputs, 2])),
    ])
}

const QUERY: &str = "base_model.model.blocks.0.self_attn.q";

/// Writes a file into a folder of its own.
fn file(tensors: &Tensors) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lora.safetensors");
    candle_core::safetensors::save(tensors, &path).unwrap();
    (folder, path)
}

/// `weight + scale·B·A`, in f64.
fn merged(weight: &Tensor, lora: &Tensors, module: &str, scale: f64) -> Tensor {
    let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap();
    let factor = |part: &str| wide(&lora[&format!("{module}.{part}.weight")]);
    let product = factor("lora_B").matmul(&factor("lora_A")).unwrap();
    (wide(weight) + (product * scale).unwrap()).unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap();
    let difference = (wide(a) - wide(b)).unwrap().abs().unwrap();
    difference.max_all().unwrap().to_scalar().unwrap()
}

fn read(path: &std::path::Path, weights: &Tensors, strength: f64, alpha: Option<f64>) -> Weights {
    let mut merge = LoraMerge::default();
    merge
        .add(&Lora::open(path).unwrap(), &model(), strength, alpha)
        .unwrap();
    Weights::from_tensors(weights.clone(), DType::F32, &Device::Cpu).changed(Arc::new(merge))
}

#[test]
fn alpha_is_that_of_the_tensor_the_description_the_caller_or_the_rank() {
    let (weights, lora) = (weights(), pair(QUERY, 6, 6));
    let name = "blocks.0.self_attn.q.weight";
    let scale = |path: &std::path::Path, alpha: Option<f64>| {
        let got = read(path, &weights, 0.5, alpha).get([6, 6], name).unwrap();
        let fits = |scale: &f64| distance(&got, &merged(&weights[name], &lora, QUERY, 0.5 * scale)) < 1e-5;
        [0.0, 1.0, 2.0, 4.0, 8.0].into_iter().find(fits)
    };
    let (folder, path) = file(&lora);
    assert_eq!((scale(&path, None), scale(&path, Some(8.0))), (Some(1.0), Some(4.0)));
    std::fs::write(folder.path().join("adapter_config.json"), r#"{"lora_alpha": 16}"#).unwrap();
    assert_eq!(scale(&path, Some(2.0)), Some(8.0));
    // Whole numbers are as good as others.
    for alpha in [
        Tensor::new(4i64, &Device::Cpu).unwrap(),
        Tensor::new(&[4f32], &Device::Cpu).unwrap(),
        Tensor::new(4f32, &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap(),
    ] {
        let mut with_alpha = lora.clone();
        with_alpha.insert(format!("{QUERY}.alpha"), alpha);
        candle_core::safetensors::save(&with_alpha, &path).unwrap();
        assert_eq!(scale(&path, Some(16.0)), Some(2.0));
    }
    let mut none = lora.clone();
    none.insert(format!("{QUERY}.alpha"), Tensor::new(0f32, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&none, &path).unwrap();
    assert_eq!(scale(&path, None), Some(0.0));
}

#[test]
fn only_what_is_named_changes_and_the_model_in_memory_does_not() {
    let (weights, lora) = (weights(), pair(QUERY, 6, 6));
    let before = weights["blocks.0.self_attn.q.weight"].copy().unwrap();
    let (_folder, path) = file(&lora);
    let changed = read(&path, &weights, 1.0, None);
    let query = changed.get([6, 6], "blocks.0.self_attn.q.weight").unwrap();
    assert!(distance(&query, &before) > 0.01);
    assert_eq!(distance(&weights["blocks.0.self_attn.q.weight"], &before), 0.0);
    for (name, shape) in [("blocks.0.ffn.0.weight", [8, 6]), ("blocks.1.ffn.2.weight", [6, 8])] {
        assert_eq!(distance(&changed.get(shape, name).unwrap(), &weights[name]), 0.0);
    }
    let rows = changed.rows([6, 6], "blocks.0.self_attn.q.weight", &[5, 0]).unwrap();
    let of_query = query
        .index_select(&Tensor::new(&[5u32, 0], &Device::Cpu).unwrap(), 0)
        .unwrap();
    assert_eq!(distance(&rows, &of_query), 0.0);
}

#[test]
fn several_add_up_and_are_rounded_once() {
    let (weights, name) = (weights(), "blocks.0.self_attn.q.weight");
    let (first, second) = (pair(QUERY, 6, 6), pair("diffusion_model.blocks.0.self_attn.q", 6, 6));
    let ((_one, first_path), (_two, second_path)) = (file(&first), file(&second));
    let mut merge = LoraMerge::default();
    let said = merge
        .add(&Lora::open(&first_path).unwrap(), &model(), 0.7, None)
        .unwrap();
    assert_eq!((said.matrices, said.of, said.largest), (1, 3, 0.7));
    merge
        .add(&Lora::open(&second_path).unwrap(), &model(), -0.25, None)
        .unwrap();
    let got = Weights::from_tensors(weights.clone(), DType::BF16, &Device::Cpu).changed(Arc::new(merge));
    let got = got.get([6, 6], name).unwrap();
    let sum = merged(&weights[name], &first, QUERY, 0.7);
    let sum = merged(&sum, &second, "diffusion_model.blocks.0.self_attn.q", -0.25);
    let rounded = sum.to_dtype(DType::F32).unwrap().to_dtype(DType::BF16).unwrap();
    // A sum on the edge of two numbers of bf16 may fall to either side.
    let differing = got
        .ne(&rounded)
        .unwrap()
        .to_dtype(DType::F32)
        .unwrap()
        .sum_all()
        .unwrap();
    assert!(differing.to_scalar::<f32>().unwrap() <= 1.0);
}

#[test]
fn factors_of_convolutions_are_matrices() {
    let weights = weights();
    let module = "diffusion_model.patch_embedding";
    let lora = HashMap::from([
        (format!("{module}.lora_A.weight"), random(&[2, 4, 1, 2, 2])),
        (format!("{module}.lora_B.weight"), random(&[6, 2, 1, 1, 1])),
    ]);
    let (_folder, path) = file(&lora);
    let got = read(&path, &weights, 1.0, None)
        .get([6, 4, 1, 2, 2], "patch_embedding.weight")
        .unwrap();
    let flat = |tensor: &Tensor| tensor.flatten_from(1).unwrap();
    let matrices: Tensors = lora.iter().map(|(name, tensor)| (name.clone(), flat(tensor))).collect();
    let want = merged(&flat(&weights["patch_embedding.weight"]), &matrices, module, 1.0);
    assert!(distance(&flat(&got), &want) < 1e-5);
}

/// The message with which tensors are refused as a LoRA for the model.
fn refusal(tensors: &Tensors) -> String {
    let (_folder, path) = file(tensors);
    let added = Lora::open(&path).and_then(|lora| LoraMerge::default().add(&lora, &model(), 1.0, None));
    let message = added.map_or_else(|error| error.to_string(), |merged| format!("accepted: {merged}"));
    assert!(message.contains("lora.safetensors"), "{message}");
    message
}

#[test]
fn what_does_not_fit_is_named_with_its_layer() {
    let with = |more: Tensors| pair(QUERY, 6, 6).into_iter().chain(more).collect::<Tensors>();
    let one = |name: &str, shape: &[usize]| HashMap::from([(name.to_string(), random(shape))]);
    let different_ranks = [
        one("blocks.0.ffn.0.lora_A.weight", &[2, 6]),
        one("blocks.0.ffn.0.lora_B.weight", &[8, 3]),
    ];
    let cases: &[(Tensors, &[&str])] = &[
        (
            with(pair("blocks.0.ffn.0", 8, 7)),
            &["blocks.0.ffn.0", "[8, 7]", "[8, 6]"],
        ),
        (pair(QUERY, 5120, 5120), &["[5120, 5120]", "14B"]),
        (
            with(pair("blocks.7.ffn.0", 8, 6)),
            &["blocks.7.ffn.0", "2 blocks (0 to 1)"],
        ),
        (
            with(different_ranks.into_iter().flatten().collect()),
            &["blocks.0.ffn.0", "rank 2", "rank 3"],
        ),
        (
            with(one("blocks.0.ffn.0.lora_A.weight", &[2, 6])),
            &["blocks.0.ffn.0", "has A", "no B"],
        ),
        (
            with(one("blocks.0.ffn.0.alpha", &[1])),
            &["blocks.0.ffn.0", "an alpha and no pair"],
        ),
        (
            with(pair("blocks.0.norm9", 6, 6)),
            &["1 of its 2 layers", "blocks.0.norm9"],
        ),
        (pair("some.other.layer", 6, 6), &["changes nothing", "some.other.layer"]),
        (
            pair("text_encoder.layers.0.q", 6, 6),
            &["changes nothing", "text encoder"],
        ),
        (pair("blocks.0.cross_attn.k_img", 6, 6), &["image-to-video", "k_img"]),
        (
            pair("transformer.single_blocks.0.q", 6, 6),
            &["another network", "FLUX"],
        ),
        (pair("vace_blocks.0.self_attn.q", 6, 6), &["VACE"]),
        (
            with(pair("blocks.0.self_attn.q", 6, 6)),
            &["are both the layer `blocks.0.self_attn.q`"],
        ),
        (
            with(one(&format!("{QUERY}.diff"), &[6, 5])),
            &["blocks.0.self_attn.q", "[6, 5]", "[6, 6]"],
        ),
        (
            with(one("blocks.0.ffn.0.diff_b", &[8])),
            &["1 of its 2 layers", "blocks.0.ffn.0"],
        ),
        (with(one("blocks.0.ffn.0.diff", &[5120, 6])), &["[5120, 6]", "14B"]),
        (
            with(one("lycoris_blocks_0_ffn_0.lokr_w1", &[2, 2])),
            &["lycoris_blocks_0_ffn_0", "one factor of a LoKr", "no other"],
        ),
        (
            with(one("blocks.0.ffn.0.hada_w1_a", &[8, 2])),
            &["one factor of a LoHa"],
        ),
        (with(one("blocks.0.ffn.0.lokr_t2", &[2, 2, 1, 1])), &["LoKr", "Tucker"]),
        (with(one("blocks.0.ffn.0.dora_scale", &[8, 1])), &["DoRA", "dora_scale"]),
        (
            with(one("blocks.0.ffn.0.lora_magnitude_vector", &[8])),
            &["a magnitude", "no pair of matrices"],
        ),
        (
            [
                one("head.diff_m", &[1, 2, 6]),
                one("diffusion_model.head.modulation.diff", &[1, 2, 6]),
            ]
            .into_iter()
            .flatten()
            .collect(),
            &["are both the layer `head.modulation`"],
        ),
        (pair("blocks.0.norm3", 6, 1), &["blocks.0.norm3", "[6, 1]", "[6]"]),
        (with(one("mood", &[2])), &["1 of its tensors", "`mood`"]),
        (weights(), &["is not a LoRA", "none of its 8 tensors"]),
        (
            HashMap::from([
                ("blocks.0.self_attn.q.weight".into(), random(&[6, 6])),
                ("head.modulation".into(), random(&[1, 2, 6])),
            ]),
            &["is not a LoRA", "whole model (a Wan diffusion model)", "--model"],
        ),
    ];
    for (tensors, parts) in cases {
        let message = refusal(tensors);
        assert!(
            parts.iter().all(|part| message.contains(part)),
            "{parts:?} are not in: {message}"
        );
    }
}

#[test]
fn layers_of_the_text_encoder_are_passed_over_beside_others() {
    let both = pair(QUERY, 6, 6)
        .into_iter()
        .chain(pair("lora_te1_layers_0_q", 4, 4))
        .collect();
    let message = refusal(&both);
    assert!(
        message.starts_with("accepted") && message.contains("1 layers of the text encoder"),
        "{message}"
    );
}

#[test]
fn values_that_are_not_finite_are_refused() {
    let mut lora = pair(QUERY, 6, 6);
    lora.insert(format!("{QUERY}.alpha"), Tensor::new(f32::NAN, &Device::Cpu).unwrap());
    assert!(refusal(&lora).contains("expected a finite number"));
    let mut lora = pair(QUERY, 6, 6);
    let bad = (random(&[6, 2]) * f64::INFINITY).unwrap();
    lora.insert(format!("{QUERY}.lora_B.weight"), bad);
    let (_folder, path) = file(&lora);
    let error = read(&path, &weights(), 1.0, None)
        .get([6, 6], "blocks.0.self_attn.q.weight")
        .unwrap_err();
    assert!(matches!(error, CheckpointError::NotFinite { .. }), "{error}");
}

/// How long merging takes beside reading: `cargo test --lib merging_time -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn merging_time() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base.safetensors");
    let shapes = |block: usize| {
        let square = ["self_attn", "cross_attn"]
            .into_iter()
            .flat_map(|attention| ["q", "k", "v", "o"].map(|part| format!("{attention}.{part}")));
        let square = square.map(|name| (name, 1536usize, 1536usize));
        let ffn = [("ffn.0".to_string(), 8960, 1536), ("ffn.2".to_string(), 1536, 8960)];
        square
            .chain(ffn)
            .map(move |(name, out, inp)| (format!("blocks.{block}.{name}"), out, inp))
            .collect::<Vec<_>>()
    };
    let layers: Vec<_> = (0..3).flat_map(shapes).collect();
    for dtype in [DType::BF16, DType::F32] {
        let tensors: Tensors = layers
            .iter()
            .map(|(name, out, inp)| (format!("{name}.weight"), random(&[*out, *inp]).to_dtype(dtype).unwrap()))
            .collect();
        candle_core::safetensors::save(&tensors, &base).unwrap();
        drop(tensors);
        let checkpoint = Checkpoint::open(&base).unwrap();
        let specs = checkpoint.specs();
        for rank in [0, 16, 32, 64, 256] {
            let lora = folder.path().join("lora.safetensors");
            let weights = Weights::from_checkpoint(checkpoint.clone(), DType::F32, &Device::Cpu);
            let weights = if rank == 0 {
                weights
            } else {
                let pairs: Tensors = layers
                    .iter()
                    .flat_map(|(name, out, inp)| {
                        [
                            (
                                format!("{name}.lora_A.weight"),
                                random(&[rank, *inp]).to_dtype(DType::BF16).unwrap(),
                            ),
                            (
                                format!("{name}.lora_B.weight"),
                                random(&[*out, rank]).to_dtype(DType::BF16).unwrap(),
                            ),
                        ]
                    })
                    .collect();
                candle_core::safetensors::save(&pairs, &lora).unwrap();
                let mut merge = LoraMerge::default();
                merge.add(&Lora::open(&lora).unwrap(), &specs, 1.0, None).unwrap();
                weights.changed(Arc::new(merge))
            };
            let best = (0..5)
                .map(|_| {
                    let begun = std::time::Instant::now();
                    let held: Vec<_> = specs
                        .iter()
                        .map(|spec| weights.get(spec.shape.clone(), &spec.name).unwrap())
                        .collect();
                    let took = begun.elapsed();
                    drop(held);
                    took
                })
                .min()
                .unwrap();
            println!("{dtype:?} rank {rank}: {best:?}");
        }
    }
}
