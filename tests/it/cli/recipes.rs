//! Recipes inside videos: read, and followed again.

use std::fs;

use serde_json::Value;

use crate::cli::{
    model::{TRANSFORMER, save_safetensors, transformer},
    program::Desk,
};

fn json(output: std::process::Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A `rerun` of `file` into raw pictures.
fn again(desk: &Desk, file: &str, more: &[&str]) -> Vec<u8> {
    let folder = desk.model.folder().display().to_string();
    let words = [&["rerun", file, "-o", "-", "--format", "rgb", "--model", &folder], more].concat();
    let output = desk.run(&words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_video_tells_how_it_was_made() {
    let desk = Desk::new();
    let seed = u64::MAX.to_string();
    desk.render(
        "out.mp4",
        &["--seed", &seed, "--switch", "3f: green hills", "--sink", "9"],
    );
    let recipe = json(desk.run(&["inspect", "out.mp4", "--json"]));
    assert_eq!(recipe["seed"], Value::from(u64::MAX));
    assert_eq!(recipe["prompts"][0]["text"], "a red ball");
    assert_eq!(recipe["prompts"][1]["text"], "green hills");
    assert_eq!(recipe["prompts"][1]["latent-frame"], 3);
    assert_eq!(recipe["cache"]["sink"], 9);
    assert_eq!(recipe["video"]["pictures"], 24);
    let files = recipe["model"]["files"].as_array().unwrap();
    let hash = files.iter().find(|file| file["name"] == TRANSFORMER).unwrap()["sha256"]
        .as_str()
        .unwrap();
    let found = deepforcing::hub::file_hash::sha256(&desk.model.path(TRANSFORMER)).unwrap();
    assert_eq!(hash, found);
    let text = desk.run(&["inspect", "out.mp4"]);
    let text = String::from_utf8(text.stdout).unwrap();
    for part in ["a red ball", "green hills", &seed, "deep-forcing", "24"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn a_video_tells_no_more_than_it_may() {
    let desk = Desk::new();
    fs::create_dir(desk.video("holiday")).unwrap();
    let picture = image::RgbImage::from_pixel(50, 40, image::Rgb([200, 60, 40]));
    picture.save(desk.video("holiday/red.png")).unwrap();
    let from = ["--image", "holiday/red.png", "--save-latents", "out.safetensors"];
    let words = [&from[..], &["--private", "--sidecar", "--trace", "out.jsonl"]].concat();
    desk.render("out.mp4", &words);
    let recipe = json(desk.run(&["inspect", "out.mp4", "--json"]));
    assert_eq!(recipe["start"]["name"], "red.png");
    for file in ["out.mp4", "out.json", "out.safetensors", "out.jsonl"] {
        let bytes = fs::read(desk.video(file)).unwrap();
        assert!(!bytes.windows(8).any(|part| part == b"holiday/"), "{file}");
    }
    desk.render("told.mp4", &["--image", "holiday/red.png"]);
    assert_eq!(
        json(desk.run(&["inspect", "told.mp4", "--json"]))["start"]["name"],
        "holiday/red.png"
    );

    for name in ["bare.mp4", "bare.webm", "bare.gif"] {
        desk.render(name, &["--no-recipe"]);
        let bytes = fs::read(desk.video(name)).unwrap();
        assert!(!bytes.windows(10).any(|part| part == b"a red ball"), "{name}");
        let output = desk.run(&["inspect", name]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("--no-recipe"), "{said}");
    }
    desk.refused(2, &["--no-recipe", "--sidecar"], &["--sidecar"]);
}

#[test]
fn the_encoder_is_recorded_and_taken_again() {
    let desk = Desk::new();
    let folder = desk.model.folder().display().to_string();
    let encoder = |file: &str| json(desk.run(&["inspect", file, "--json"]))["encoding"]["encoder"].clone();
    desk.render("out.mp4", &["--encoder", "mpeg4", "--sidecar"]);
    assert_eq!(encoder("out.mp4"), "mpeg4");
    assert_eq!(encoder("out.json"), "mpeg4");
    for (name, same) in [("again.mp4", true), ("again.webm", false)] {
        let output = desk.run(&["rerun", "out.mp4", "-o", name, "--model", &folder]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(encoder(name) == "mpeg4", same, "{name}");
    }
    // Without a choice the one that was found is recorded; forms without an encoder have none.
    desk.render("auto.mp4", &[]);
    assert!(encoder("auto.mp4").is_string());
    desk.render("out.gif", &["--encoder", "mpeg4"]);
    assert!(encoder("out.gif").is_null());
}

#[test]
fn a_rerun_gives_the_same_pictures_bit_for_bit() {
    let desk = Desk::new();
    let small = [
        "--window",
        "6",
        "--sink",
        "2",
        "--budget",
        "6",
        "--recent",
        "3",
        "--seconds",
        "3",
    ];
    let flags = [&small[..], &["--seed", "5", "--switch", "9f: green hills"]].concat();
    let pixels = desk.pixels(&flags);
    for name in ["out.mp4", "out.webm", "out.gif"] {
        desk.command(name, &[&flags[..], &["--sidecar", "--overwrite"]].concat())
            .assert()
            .success();
        assert!(pixels == again(&desk, name, &[]), "{name}");
    }
    assert!(pixels == again(&desk, "out.json", &[]));
}

#[test]
fn a_rerun_with_other_model_files_is_refused() {
    let desk = Desk::new();
    desk.render("out.mp4", &[]);
    let mut other = transformer();
    other.values_mut().next().unwrap().1[0] += 1.0;
    save_safetensors(&desk.model.path(TRANSFORMER), &other);
    let folder = desk.model.folder().display().to_string();
    let output = desk.run(&["rerun", "out.mp4", "-o", "again.mp4", "--model", &folder]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("--allow-changed") && stderr.contains("transformer"),
        "{stderr}"
    );
    assert_eq!(desk.names(), ["out.mp4"]);
    assert!(!again(&desk, "out.mp4", &["--allow-changed"]).is_empty());
}

#[test]
fn a_rerun_needs_to_know_the_model() {
    let desk = Desk::new();
    desk.render("out.mp4", &[]);
    let output = desk.run(&["rerun", "out.mp4", "-o", "again.mp4"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && stderr.contains("--model DIR"), "{stderr}");
    // The bundled model is found anywhere.
    let words = ["generate", "a red ball", "--model", "toy", "--seconds", "0.5", "-o"];
    assert!(desk.run(&[&words[..], &["toy.mp4"]].concat()).status.success());
    let rgb = desk.run(&[&words[..], &["-", "--format", "rgb"]].concat()).stdout;
    let output = desk.run(&["rerun", "toy.mp4", "-o", "-", "--format", "rgb"]);
    assert!(output.status.success() && rgb == output.stdout);
}

#[test]
fn saved_latents_decode_to_the_same_pictures() {
    let desk = Desk::new();
    desk.render("out.mp4", &["--save-latents", "out.safetensors", "--seconds", "2"]);
    let pixels = desk.pixels(&["--seconds", "2"]);
    let folder = desk.model.folder().display().to_string();
    let words = [
        "decode",
        "out.safetensors",
        "--model",
        &folder,
        "-o",
        "-",
        "--format",
        "rgb",
    ];
    let output = desk.run(&words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(pixels == output.stdout);
    assert_eq!(
        json(desk.run(&["inspect", "out.safetensors", "--json"]))["video"]["pictures"],
        32
    );
    assert!(pixels == again(&desk, "out.safetensors", &[]));
}

#[test]
fn videos_of_other_programs_have_no_recipe() {
    let desk = Desk::new();
    fs::write(desk.video("text.mp4"), "no video").unwrap();
    for (file, says) in [("text.mp4", "text.mp4"), ("none.mp4", "none.mp4")] {
        let output = desk.run(&["inspect", file]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
}
