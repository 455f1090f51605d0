//! Presets of other systems: their loops and caches from the outside.

use std::{fs, path::Path, process::Stdio, time::Instant};

use crate::cli::program::{Desk, decoded, process};

/// A rolling window of five chunks; the video has seven.
const ROLLING: [&str; 4] = ["--preset", "rolling-forcing", "--seconds", "5"];

/// Makes a video of the toy world at a small size.
fn toy(desk: &Desk, preset: &str, seconds: &str) -> usize {
    let name = format!("{preset}.y4m");
    let words = [
        "generate",
        "a red ball",
        "--model",
        "toy",
        "--size",
        "48x48",
        "--preset",
        preset,
        "--seconds",
        seconds,
        "-o",
        &name,
    ];
    let output = desk.run(&words);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{preset}: {stderr}");
    decoded(&desk.video(&name)).frames.len()
}

#[test]
fn the_toy_goes_through_every_loop() {
    let desk = Desk::new();
    for preset in ["rolling-forcing", "causal-forcing-long"] {
        assert_eq!(toy(&desk, preset, "5"), 80, "{preset}");
    }
    let frame_wise = [
        "causal-forcing-frame-deep",
        "causal-forcing-frame-2step-deep",
        "causal-forcing-frame-1step-deep",
    ];
    for preset in frame_wise {
        // 25 latent frames: room is made with chunks of one.
        assert_eq!(toy(&desk, preset, "6"), 96, "{preset}");
    }
    for preset in ["causvid", "causvid-warp4"] {
        assert_eq!(toy(&desk, preset, "1"), 16, "{preset}");
    }
}

#[test]
fn a_rolling_window_makes_a_video_that_its_recipe_makes_again() {
    let desk = Desk::new();
    let pixels = desk.pixels(&ROLLING);
    assert_eq!(pixels.len(), 80 * 32 * 32 * 3);
    let in_chunks = ["--seconds", "5", "--steps", "1000,800,600,400,200"];
    assert!(pixels != desk.pixels(&in_chunks), "the loop makes no difference");
    desk.render("out.mp4", &[&ROLLING[..], &["--sidecar"]].concat());
    let recipe = fs::read_to_string(desk.video("out.json")).unwrap();
    assert!(recipe.contains("\"loop\": \"rolling\""), "{recipe}");
    let folder = desk.model.folder().display().to_string();
    let again = desk.run(&["rerun", "out.mp4", "--model", &folder, "-o", "-", "--format", "rgb"]);
    let stderr = String::from_utf8(again.stderr).unwrap();
    assert!(again.stdout == pixels, "{stderr}");
    // Recipes of the other loop are as they were.
    desk.render("chunks.mp4", &["--sidecar"]);
    let recipe = fs::read_to_string(desk.video("chunks.json")).unwrap();
    assert!(!recipe.contains("\"loop\""), "{recipe}");
}

fn killed_with_state(desk: &Desk, name: &str, more: &[&str], state: &Path) {
    let mut child = process(&desk.words(name, more))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !state.exists() && child.try_wait().unwrap().is_none() {
        assert!(start.elapsed().as_secs() < 60);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().ok();
    child.wait().unwrap();
    assert!(state.exists(), "the run ended before it was killed");
}

#[test]
fn a_rolling_window_that_was_killed_goes_on() {
    let desk = Desk::new();
    let long = ["--preset", "rolling-forcing", "--seconds", "30"];
    let whole = desk.render("whole.y4m", &long);
    let state = desk.video(".out.y4m.state");
    killed_with_state(&desk, "out.y4m", &long, &state);
    let bytes = fs::read(&state).unwrap();
    let tensor = b"\"window\":{\"dtype\":\"F32\",\"shape\":[";
    let is_there = bytes.windows(tensor.len()).any(|part| part == tensor);
    assert!(is_there, "the noisy latents are not in the state");
    let output = desk
        .command("out.y4m", &[&long[..], &["--resume"]].concat())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.contains("going on after"), "{stderr}");
    let resumed = decoded(&desk.video("out.y4m"));
    assert!(resumed.frames == whole.frames);
}

#[test]
fn what_a_rolling_window_cannot_make_is_refused_before_loading() {
    let desk = Desk::new();
    image::RgbImage::from_pixel(32, 32, image::Rgb([200, 20, 20]))
        .save(desk.video("red.png"))
        .unwrap();
    // Whatever is loaded later is not there.
    desk.model.write(crate::cli::model::TRANSFORMER, b"damaged");
    let refused = |more: &[&str], says: &[&str]| desk.refused(2, &[&ROLLING[..], more].concat(), says);
    refused(
        &["--switch", "3s: green hills"],
        &["the prompt cannot change in a rolling window", "another loop"],
    );
    refused(&["--image", "red.png"], &["cannot begin with an image", "another loop"]);
    refused(&["--trace", "out.jsonl"], &["rolling window", "--trace"]);
    for policy in ["fifo", "deep-forcing", "global", "sink"] {
        refused(&["--policy", policy], &[&format!("policy `{policy}`"), "`sink-rerope`"]);
    }
    refused(
        &["--window", "17"],
        &["window 17", "sink 3", "5 denoising steps × chunk 3", "raise the window"],
    );
    desk.refused(
        2,
        &["--preset", "rolling-forcing"],
        &["3 chunks", "rolling window of 5", "15 latent frames (57 pictures)"],
    );
    desk.refused(
        2,
        &["--preset", "causal-forcing-long"],
        &["3 chunks", "rolling window of 4", "12 latent frames (45 pictures)"],
    );
}
