//! Tests of finding files by what they hold.

use candle_core::{DType, Device, Tensor};
use tempfile::TempDir;

use super::*;
use crate::models::DecoderKind;

const TRANSFORMER: &[(&str, &[usize])] = &[
    ("patch_embedding.weight", &[4, 16, 1, 2, 2]),
    ("head.modulation", &[1, 2, 4]),
];
const VAE: &[(&str, &[usize])] = &[("decoder.conv1.weight", &[4, 16, 3, 3, 3])];
const TEXT: &[(&str, &[usize])] = &[("shared.weight", &[8, 4])];

fn save(root: &Path, name: &str, tensors: &[(&str, &[usize])]) -> PathBuf {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let tensors = tensors
        .iter()
        .map(|(name, shape)| ((*name).to_string(), zeros(shape)))
        .collect();
    candle_core::safetensors::save(&tensors, &path).unwrap();
    path
}

fn look(root: &TempDir) -> Result<OwnFiles> {
    let needs = Needs {
        decoder: DecoderKind::Wan,
        ..Needs::default()
    };
    search(root.path(), &FileNames::default(), needs, &OwnFiles::default())
}

#[test]
fn the_folders_of_comfyui_and_diffusers_are_known() {
    for (transformer, vae, text, tokenizer) in [
        (
            "diffusion_models/wan/a.safetensors",
            "vae/b.safetensors",
            "text_encoders/c.safetensors",
            "text_encoders/tokenizer.json",
        ),
        (
            "transformer/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
            "text_encoder/model.safetensors",
            "tokenizer/tokenizer.json",
        ),
        ("a.safetensors", "b.safetensors", "c.safetensors", "tokenizer.json"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        save(folder, transformer, TRANSFORMER);
        save(folder, vae, VAE);
        save(folder, text, TEXT);
        let tokenizer = folder.join(tokenizer);
        std::fs::create_dir_all(tokenizer.parent().unwrap()).unwrap();
        std::fs::write(&tokenizer, "{}").unwrap();
        let found = look(&root).unwrap();
        for (role, path) in [
            (Role::Transformer, folder.join(transformer)),
            (Role::Vae, folder.join(vae)),
            (Role::TextEncoder, folder.join(text)),
            (Role::Tokenizer, tokenizer),
        ] {
            // A path through `.` is the same.
            let same = found.path(role).unwrap().components().eq(path.components());
            assert!(same, "{role}: {:?}", found.path(role));
        }
        assert_eq!(root_of(&folder.join(transformer)), folder);
    }
}

#[test]
fn of_two_files_of_a_kind_both_are_named_with_the_flag_that_chooses() {
    let root = tempfile::tempdir().unwrap();
    for name in [
        "diffusion_models/first.safetensors",
        "diffusion_models/second.safetensors",
    ] {
        save(root.path(), name, TRANSFORMER);
    }
    let said = look(&root).unwrap_err().to_string();
    for part in ["first.safetensors", "second.safetensors", "--transformer FILE"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn models_of_other_families_are_not_taken() {
    let root = tempfile::tempdir().unwrap();
    let wide: &[(&str, &[usize])] = &[("patch_embedding.weight", &[4, 36, 1, 2, 2])];
    let image: &[(&str, &[usize])] = &[
        ("patch_embedding.weight", &[4, 16, 1, 2, 2]),
        ("img_emb.proj.0.weight", &[4]),
    ];
    save(
        root.path(),
        "diffusion_models/a.safetensors",
        &[("double_blocks.0.img_attn.qkv.weight", &[4, 4])],
    );
    assert_eq!(look(&root).unwrap(), OwnFiles::default());
    save(root.path(), "diffusion_models/b.safetensors", wide);
    let said = look(&root).unwrap_err().to_string();
    assert!(said.contains("b.safetensors") && said.contains("36"), "{said}");
    save(root.path(), "diffusion_models/b.safetensors", image);
    let said = look(&root).unwrap_err().to_string();
    assert!(said.contains("image-to-video"), "{said}");
    // One that can be run is taken from among them.
    let own = save(root.path(), "diffusion_models/c.safetensors", TRANSFORMER);
    assert_eq!(look(&root).unwrap().path(Role::Transformer), Some(own.as_path()));
}

#[test]
fn a_pipeline_of_another_kind_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    for (index, part) in [
        (
            r#"{"_class_name": "WanImageToVideoPipeline"}"#,
            "WanImageToVideoPipeline",
        ),
        (r#"{"_class_name": "FluxPipeline"}"#, "FluxPipeline"),
        (
            r#"{"_class_name": "WanPipeline", "transformer_2": ["diffusers", "WanTransformer3DModel"]}"#,
            "Wan 2.2",
        ),
        (
            r#"{"_class_name": "WanPipeline", "text_encoder": ["transformers", "T5EncoderModel"]}"#,
            "T5EncoderModel",
        ),
    ] {
        std::fs::write(root.path().join("model_index.json"), index).unwrap();
        let said = look(&root).unwrap_err().to_string();
        assert!(said.contains(part) && said.contains("model_index.json"), "{said}");
    }
    let right = r#"{"_class_name": "WanPipeline", "transformer_2": [null, null], "boundary_ratio": null,
        "text_encoder": ["transformers", "UMT5EncoderModel"], "vae": ["diffusers", "AutoencoderKLWan"]}"#;
    std::fs::write(root.path().join("model_index.json"), right).unwrap();
    assert!(look(&root).is_ok());
}
