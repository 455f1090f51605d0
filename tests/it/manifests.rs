//! The tensors that the code asks for at the published sizes, compared both ways with the published checkpoints.

use std::{collections::BTreeMap, path::Path};

use deepforcing::{
    checkpoint::TensorSpec,
    text::{Umt5, Umt5Config},
    transformer::{CausalWan, TransformerConfig},
    vae::{TaeConfig, WanVaeConfig},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Manifest {
    tensors: Vec<Entry>,
}

/// The lists of Matrix-Game 2.0 have names as keys.
#[derive(Deserialize)]
struct NamedManifest {
    num_tensors: usize,
    num_parameters: usize,
    tensors: Shapes,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    shape: Vec<usize>,
}

type Shapes = BTreeMap<String, Vec<usize>>;

fn published(file: &str) -> Shapes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/manifests")
        .join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let manifest: Manifest = serde_json::from_str(&text).unwrap();
    let count = manifest.tensors.len();
    let shapes: Shapes = manifest.tensors.into_iter().map(|t| (t.name, t.shape)).collect();
    assert_eq!(shapes.len(), count, "{file} names a tensor twice");
    shapes
}

/// Fails with every name that only one side has and every shape that differs; returns the number of tensors.
fn assert_same(asked: Vec<TensorSpec>, published: &Shapes) -> usize {
    let asked: Shapes = asked.into_iter().map(|spec| (spec.name, spec.shape)).collect();
    let differences: Vec<String> = asked
        .iter()
        .filter_map(|(name, shape)| match published.get(name) {
            None => Some(format!("{name} {shape:?} is asked for, but not published")),
            Some(found) if found != shape => Some(format!("{name}: asked for as {shape:?}, published as {found:?}")),
            Some(_) => None,
        })
        .chain(
            published
                .keys()
                .filter(|name| !asked.contains_key(*name))
                .map(|name| format!("{name} is published, but not asked for")),
        )
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    asked.len()
}

fn wan_1_3b() -> Vec<TensorSpec> {
    CausalWan::expected_tensors(TransformerConfig::wan_1_3b()).unwrap()
}

#[test]
fn the_transformer_asks_for_all_of_wan_1_3b() {
    let published = published("wan2.1_t2v_1.3b_diffusion_pytorch_model.json");
    assert_eq!(assert_same(wan_1_3b(), &published), 825);
}

/// Self Forcing's file puts the wrapper's prefix `model.` before every name; nothing else differs.
#[test]
fn the_transformer_asks_for_all_of_self_forcing() {
    let stripped: Shapes = published("self_forcing_dmd_generator.json")
        .into_iter()
        .map(|(name, shape)| (name.strip_prefix("model.").expect("the prefix").to_string(), shape))
        .collect();
    assert_eq!(assert_same(wan_1_3b(), &stripped), 825);
}

/// Each of the three models, under the wrapper's prefix `model.`: names, shapes, and the number of parameters.
#[test]
fn the_transformer_asks_for_all_of_matrix_game_2() {
    for (mode, keys, mouse) in [("universal", 4, true), ("gta_drive", 2, true), ("templerun", 7, false)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden/manifests")
            .join(format!("matrix_game_2_{mode}.json"));
        let manifest: NamedManifest = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let stripped: Shapes = manifest
            .tensors
            .into_iter()
            .map(|(name, shape)| (name.strip_prefix("model.").expect("the prefix").to_string(), shape))
            .collect();
        let asked = CausalWan::expected_tensors(TransformerConfig::matrix_game_2(keys, mouse)).unwrap();
        let parameters: usize = asked.iter().map(|spec| spec.shape.iter().product::<usize>()).sum();
        assert_eq!(assert_same(asked, &stripped), manifest.num_tensors, "{mode}");
        assert_eq!(parameters, manifest.num_parameters, "{mode}");
    }
}

#[test]
fn the_vae_asks_for_all_of_wan_vae() {
    let asked = WanVaeConfig::wan21().expected_tensors().unwrap();
    assert_eq!(assert_same(asked, &published("wan2.1_vae.json")), 194);
}

#[test]
fn the_text_encoder_asks_for_all_of_umt5_xxl() {
    let asked = Umt5::expected_tensors(&Umt5Config::xxl()).unwrap();
    assert_eq!(assert_same(asked, &published("umt5_xxl_enc_bf16.json")), 242);
}

/// The tiny autoencoder's file holds an encoder as well (`encoder.*`), which nothing uses: the one allowed difference.
#[test]
fn the_tiny_decoder_asks_for_the_decoder_of_taew() {
    let (encoder, decoder): (Shapes, Shapes) = published("taew2_1.json")
        .into_iter()
        .partition(|(name, _)| name.starts_with("encoder."));
    let asked = TaeConfig::taew21().expected_tensors().unwrap();
    assert_eq!(assert_same(asked, &decoder), 64);
    assert_eq!(encoder.len(), 64);
}
