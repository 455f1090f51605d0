//! LoRAs: merged, recorded, found again, and refused.

use std::fs;

use serde_json::Value;

use crate::cli::{
    model::{TRANSFORMER, Tensors, save_safetensors, transformer},
    program::Desk,
};

/// A pair of rank 2 for the query of the first block, in peft's spelling.
fn lora(outputs: usize, inputs: usize) -> Tensors {
    let values = |count: usize| (0..count).map(|n| ((n * 7 % 11) as f32 - 5.0) * 0.2).collect();
    let module = "base_model.model.blocks.0.self_attn.v";
    Tensors::from([
        (format!("{module}.lora_A.weight"), (vec![2, inputs], values(2 * inputs))),
        (
            format!("{module}.lora_B.weight"),
            (vec![outputs, 2], values(2 * outputs)),
        ),
    ])
}

/// A desk with a LoRA `style.safetensors` beside the videos.
fn desk() -> (Desk, String) {
    let desk = Desk::new();
    let file = desk.video("style.safetensors");
    save_safetensors(&file, &lora(48, 48));
    (desk, file.display().to_string())
}

fn inspect(desk: &Desk, file: &str) -> Value {
    let output = desk.run(&["inspect", file, "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_lora_is_the_same_as_the_model_it_makes() {
    let (desk, file) = desk();
    let plain = desk.pixels(&[]);
    let half = desk.pixels(&["--lora", &format!("{file}:0.5")]);
    assert_ne!(plain, half);
    assert_eq!(plain, desk.pixels(&["--lora", &format!("{file}:0")]));
    let twice = ["--lora", &format!("{file}:0.25"), "--lora", &format!("{file}:0.25")];
    let twice = desk.pixels(&twice);
    assert_ne!(twice, plain);
    // The sum, made by hand.
    desk.model.change_transformer(|tensors| {
        let lora = lora(48, 48);
        let factor = |part: &str| &lora[&format!("base_model.model.blocks.0.self_attn.v.{part}.weight")].1;
        let (down, up) = (factor("lora_A"), factor("lora_B"));
        let (_, weight) = tensors.get_mut("blocks.0.self_attn.v.weight").unwrap();
        for (at, value) in weight.iter_mut().enumerate() {
            let (row, column) = (at / 48, at % 48);
            *value += 0.5 * (0..2).map(|k| up[row * 2 + k] * down[k * 48 + column]).sum::<f32>();
        }
    });
    let by_hand = desk.pixels(&[]);
    let far = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(far(&half, &by_hand) <= 2 && far(&twice, &by_hand) <= 2);
    assert!(far(&plain, &by_hand) > 2);
}

#[test]
fn the_recipe_has_it_and_a_rerun_finds_the_same_file() {
    let (desk, file) = desk();
    let given = format!("{file}:0.5");
    let pixels = desk.pixels(&["--lora", &given]);
    desk.render("out.mp4", &["--lora", &given]);
    let recipe = inspect(&desk, "out.mp4");
    assert_eq!(recipe["format"], 2);
    let files = recipe["model"]["files"].as_array().unwrap();
    let record = files.iter().find(|file| file["role"] == "lora").unwrap();
    assert_eq!(record["strength"], 0.5);
    assert_eq!(record["name"], file.as_str());
    assert_eq!(record["sha256"].as_str().unwrap().len(), 64);
    desk.render("plain.mp4", &[]);
    assert_eq!(inspect(&desk, "plain.mp4")["format"], 1);

    let folder = desk.model.folder().display().to_string();
    let words = ["rerun", "out.mp4", "-o", "-", "--format", "rgb", "--model", &folder];
    let again = |more: &[&str]| desk.run(&[&words[..], more].concat());
    assert_eq!(again(&[]).stdout, pixels);
    // Elsewhere, then another one at its place.
    let moved = desk.video("moved.safetensors");
    fs::rename(&file, &moved).unwrap();
    let missing = String::from_utf8(again(&[]).stderr).unwrap();
    assert!(missing.contains("style.safetensors"), "{missing}");
    let moved = moved.display().to_string();
    assert_eq!(again(&["--lora", &moved]).stdout, pixels);
    let two = again(&["--lora", &moved, "--lora", &moved]);
    assert_eq!(two.status.code(), Some(2));
    let mut other = lora(48, 48);
    other.values_mut().for_each(|(_, values)| values[0] += 1.0);
    save_safetensors(desk.video("style.safetensors").as_path(), &other);
    let changed = again(&[]);
    let said = String::from_utf8(changed.stderr).unwrap();
    assert_eq!(changed.status.code(), Some(1));
    assert!(said.contains("lora") && said.contains("--allow-changed"), "{said}");
}

#[test]
fn a_preset_may_have_a_lora_of_its_own() {
    let (desk, file) = desk();
    let alone = desk.pixels(&["--lora", &format!("{file}:2")]);
    fs::rename(&file, desk.model.path("own.safetensors")).unwrap();
    let preset = desk.video("mine.toml");
    let text = "base = \"deep-forcing\"\n[files]\ntransformer = [\"diffusion_pytorch_model.safetensors\"]\nlora = \
                [\"own.safetensors\"]\nlora-alpha = 4\n";
    fs::write(&preset, text).unwrap();
    let preset = preset.display().to_string();
    // Of rank 2.
    assert_eq!(desk.pixels(&["--preset", &preset]), alone);
    desk.model.remove("own.safetensors");
    desk.refused(1, &["--preset", &preset], &["the LoRA", "missing", "own.safetensors"]);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_loaded() {
    let (desk, file) = desk();
    desk.refused(1, &["--lora", "none.safetensors"], &["LoRA", "none.safetensors"]);
    desk.refused(2, &["--lora", ":0.5"], &["--lora"]);
    desk.refused(2, &["--lora", &format!("{file}:")], &["--lora"]);
    save_safetensors(desk.video("style.safetensors").as_path(), &lora(48, 64));
    desk.refused(1, &["--lora", &file], &["blocks.0.self_attn.v", "[48, 64]", "[48, 48]"]);
    let model = desk.model.path(TRANSFORMER).display().to_string();
    desk.refused(1, &["--lora", &model], &["is not a LoRA", "whole model"]);
    save_safetensors(&desk.model.path(TRANSFORMER), &lora(48, 48));
    desk.refused(1, &[], &["is not a Wan transformer", "looks like a LoRA", "--lora"]);
    save_safetensors(&desk.model.path(TRANSFORMER), &transformer());
}
