//! Weights as people have them: in the folders of other tools, as single files, and what they are said to be.

use std::{fs, path::PathBuf};

use crate::cli::{
    model::{CONFIG, TRANSFORMER, Tensors, save_safetensors, text_encoder, tokenizer, transformer, vae},
    program::Desk,
};

/// The model of a desk once more, in the `models/` of ComfyUI.
fn comfy(desk: &Desk) -> PathBuf {
    let models = desk.video("models");
    for folder in ["diffusion_models", "vae", "text_encoders"] {
        fs::create_dir_all(models.join(folder)).unwrap();
    }
    let prefixed: Tensors = transformer()
        .into_iter()
        .map(|(name, tensor)| (format!("model.diffusion_model.{name}"), tensor))
        .collect();
    save_safetensors(&models.join("diffusion_models/x.safetensors"), &prefixed);
    fs::copy(desk.model.path(CONFIG), models.join("diffusion_models/config.json")).unwrap();
    save_safetensors(&models.join("vae/y.safetensors"), &vae());
    save_safetensors(&models.join("text_encoders/z.safetensors"), &text_encoder());
    fs::write(models.join("text_encoders/tokenizer.json"), tokenizer()).unwrap();
    models
}

#[test]
fn files_of_other_tools_make_the_same_pictures() {
    let desk = Desk::new();
    let plain = desk.pixels(&[]);
    let models = comfy(&desk);
    let file = models.join("diffusion_models/x.safetensors");
    for model in [&models, &file] {
        let pixels = desk.pixels(&["--model-dir", model.to_str().unwrap()]);
        assert!(pixels == plain, "{}", model.display());
    }
    // In the place of a file that is none.
    desk.model.write(TRANSFORMER, b"");
    assert!(desk.pixels(&["--transformer", file.to_str().unwrap()]) == plain);

    fs::copy(&file, models.join("diffusion_models/w.safetensors")).unwrap();
    let models = models.to_str().unwrap();
    desk.refused(
        1,
        &["--model-dir", models],
        &["x.safetensors", "w.safetensors", "--transformer FILE"],
    );
    desk.refused(
        1,
        &["--transformer", "nowhere.safetensors"],
        &["nowhere.safetensors", "--transformer"],
    );
    desk.refused(
        1,
        &["--vae", "tae", "--vae-file", &format!("{models}/vae/y.safetensors")],
        &["--vae wan"],
    );
}

#[test]
fn a_base_model_is_named_as_such() {
    let desk = Desk::new();
    let config = r#"{"num_heads": 2, "text_len": 16, "_class_name": "WanTransformer3DModel"}"#;
    desk.model.write(CONFIG, config.as_bytes());
    let output = desk.command("-", &["--format", "rgb", "--dry-run"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.contains("base model") && said.contains("not causal"),
        "{said}"
    );
}

#[test]
fn weights_are_described() {
    let desk = Desk::new();
    let models = comfy(&desk);
    let described = |words: &[&str]| {
        let output = desk.run(&[&["inspect"], words].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = described(&[models.to_str().unwrap()]);
    for part in [
        "transformer",
        "`model.diffusion_model.`",
        "text-encoder",
        "vae",
        "f32",
        "causal",
        "cannot be told",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    let file = models.join("diffusion_models/x.safetensors");
    let text = described(&[file.to_str().unwrap(), "--tensors"]);
    assert!(
        text.contains("model.diffusion_model.head.modulation = head.modulation  f32 [1, 2, 48]"),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&described(&[models.to_str().unwrap(), "--json"])).unwrap();
    assert_eq!(json["files"].as_array().unwrap().len(), 3);
    assert_eq!(json["files"][0]["networks"][0]["layout"], "wan");
}
