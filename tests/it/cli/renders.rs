//! Prompts that become videos.

use std::{collections::HashSet, fs, path::Path};

use ffmpeg_next as ffmpeg;

use crate::cli::{
    model::{CONFIG, TEXT_ENCODER, TINY_DECODER, TOKENIZER, TRANSFORMER, VAE},
    program::{Desk, decoded},
};

/// A window so small that every chunk after the second one makes room in the cache.
const SMALL_CACHE: [&str; 8] = ["--window", "6", "--sink", "2", "--budget", "6", "--recent", "3"];

/// What the container says: width, height, frames per second, frames, seconds, title.
fn probe(path: &Path) -> (u32, u32, f64, i64, f64, String) {
    let input = ffmpeg::format::input(path).unwrap();
    let stream = input.streams().best(ffmpeg::media::Type::Video).unwrap();
    let decoder = ffmpeg::codec::context::Context::from_parameters(stream.parameters()).unwrap();
    let decoder = decoder.decoder().video().unwrap();
    (
        decoder.width(),
        decoder.height(),
        f64::from(stream.avg_frame_rate()),
        stream.frames(),
        f64::from(stream.time_base()) * stream.duration() as f64,
        input.metadata().get("title").unwrap_or_default().into(),
    )
}

#[test]
fn a_prompt_becomes_an_mp4_of_the_size_and_length_asked_for() {
    let desk = Desk::new();
    let clip = desk.render("ball.mp4", &[]);
    assert_eq!(
        probe(&desk.video("ball.mp4")),
        (32, 32, 16.0, 24, 1.5, "a red ball".into())
    );
    assert_eq!((clip.width, clip.height, clip.frames.len()), (32, 32, 24));
    assert_eq!(desk.names(), ["ball.mp4"]);

    // Sides of different length; a length that is not in whole chunks, nor in whole latent frames.
    desk.render("wide.mp4", &["--size", "48x16", "--seconds", "0.7"]);
    let (width, height, _, frames, seconds, _) = probe(&desk.video("wide.mp4"));
    assert_eq!((width, height, frames, seconds), (48, 16, 11, 11.0 / 16.0));
}

#[test]
fn a_seed_gives_one_video() {
    let desk = Desk::new();
    let clip = |name: &str, seed: &str| desk.render(name, &["--seed", seed]).frames;
    let first = clip("1.mp4", "7");
    assert!(first == clip("2.mp4", "7"), "the same seed gives another video");
    assert!(first != clip("3.mp4", "8"), "another seed gives the same video");
    let other = desk.render("4.mp4", &["--prompt-given", "green hills", "--seed", "7"]);
    assert!(first != other.frames, "another prompt gives the same video");
}

#[test]
fn every_policy_renders() {
    let desk = Desk::new();
    let mut videos = HashSet::new();
    for policy in ["global", "fifo", "sink", "sink-rerope", "deep-sink", "deep-forcing"] {
        let flags = [&SMALL_CACHE[..], &["--policy", policy, "--seconds", "3"]].concat();
        let clip = desk.render(&format!("{policy}.mp4"), &flags);
        assert_eq!(clip.frames.len(), 48, "{policy}");
        videos.insert(clip.frames);
    }
    // The policies are not one policy under six names.
    assert!(videos.len() >= 5, "only {} different videos", videos.len());
}

#[test]
fn every_cache_option_renders() {
    let desk = Desk::new();
    let cases = [
        ["--positions", "official", "--reuse-limit", "0"],
        ["--positions", "paper", "--reuse-limit", "1"],
        ["--scorer", "both", "--positions", "paper"],
        ["--scorer", "past", "--positions", "official"],
        ["--scorer", "denoising", "--positions", "official"],
        ["--scorer", "random", "--positions", "official"],
    ];
    for (at, case) in cases.iter().enumerate() {
        let flags = [&SMALL_CACHE[..], case, &["--seconds", "3", "--vae", "tae"]].concat();
        assert_eq!(desk.render(&format!("{at}.mp4"), &flags).frames.len(), 48, "{case:?}");
    }
}

#[test]
fn the_tiny_decoder_needs_no_wan_vae() {
    let desk = Desk::new();
    let wan = desk.render("wan.mp4", &[]);
    desk.model.remove(VAE);
    let tiny = desk.render("tiny.mp4", &["--vae", "tae"]);
    assert_eq!((tiny.width, tiny.height, tiny.frames.len()), (32, 32, 24));
    assert!(wan.frames != tiny.frames);
}

#[test]
fn a_training_file_gives_its_averaged_weights() {
    let desk = Desk::new();
    let plain = desk.render("plain.mp4", &[]);
    desk.model.nest_transformer();
    assert!(
        plain.frames == desk.render("nested.mp4", &[]).frames,
        "the same weights give another video"
    );
}

#[test]
fn files_are_found_under_their_other_names() {
    let desk = Desk::new();
    let plain = desk.render("plain.mp4", &[]);
    let vae = crate::cli::model::vae();
    crate::cli::model::save_safetensors(&desk.model.path("Wan2.1_VAE.safetensors"), &vae);
    desk.model.remove(VAE);
    let text = crate::cli::model::text_encoder();
    crate::cli::model::save_torch(&desk.model.path("models_t5_umt5-xxl-enc-bf16.pth"), &text);
    desk.model.remove(TEXT_ENCODER);
    fs::rename(desk.model.path(TOKENIZER), desk.model.path("tokenizer.json")).unwrap();
    assert!(plain.frames == desk.render("renamed.mp4", &[]).frames);
    assert!(desk.model.path(TRANSFORMER).exists() && desk.model.path(TINY_DECODER).exists());
}

#[test]
fn presets_come_from_flag_file_and_folder() {
    let desk = Desk::new();
    let toml = include_str!("../../../configs/toy.toml").replace("fps = 16", "fps = 8");
    fs::write(desk.video("mine.toml"), toml).unwrap();
    desk.render("file.mp4", &["--preset", "mine.toml", "--seconds", "1"]);
    let (.., fps, frames, seconds, _) = probe(&desk.video("file.mp4"));
    assert_eq!((fps, frames, seconds), (8.0, 8, 1.0));
    let own = desk.render("own.mp4", &["--preset", "self-forcing"]);
    assert_eq!(own.frames.len(), 24);
    // The preset that the folder names tells the size when no flag does.
    desk.model.write(
        CONFIG,
        br#"{"num_heads": 2, "text_len": 16, "deepforcing_preset": "toy"}"#,
    );
    let path = desk.video("folder.mp4");
    let mut command = crate::cli::program::program();
    command.args(["generate", "a red ball", "--seconds", "0.5", "-q", "--model-dir"]);
    command.arg(desk.model.folder()).arg("-o").arg(&path);
    // Quiet: the path and nothing else.
    command.assert().success().stderr("");
    let (width, height, ..) = probe(&path);
    assert_eq!((width, height), (96, 96));
}

#[test]
fn an_output_is_replaced_only_when_asked() {
    let desk = Desk::new();
    fs::write(desk.video("out.mp4"), "precious").unwrap();
    desk.refused(1, &[], &["out.mp4", "exists", "--overwrite"]);
    // A run that fails keeps what it was to replace.
    desk.refused(
        1,
        &["--overwrite", "--model-dir", "./nowhere"],
        &["nowhere", "does not exist"],
    );
    assert_eq!(fs::read(desk.video("out.mp4")).unwrap(), b"precious");
    assert_eq!(desk.render("out.mp4", &["--overwrite"]).frames.len(), 24);
    assert_eq!(desk.names(), ["out.mp4"]);
}

#[test]
fn a_prompt_that_is_too_long_is_cut_with_a_note() {
    let desk = Desk::new();
    let assert = desk
        .command("out.mp4", &["--prompt-given", &"a red ball ".repeat(9)])
        .assert();
    let note = predicates::str::contains("the model reads the first 16");
    assert.success().stderr(note);
    assert_eq!(decoded(&desk.video("out.mp4")).frames.len(), 24);
    fs::write(desk.video("long.txt"), "a red ball ".repeat(10_000 / 3)).unwrap();
    let words = ["--prompt-given", "--prompt-file", "long.txt", "--overwrite"];
    let note = predicates::str::contains("the model reads the first 16");
    desk.command("out.mp4", &words).assert().success().stderr(note);
}

#[test]
fn a_reader_that_goes_away_costs_no_video() {
    let desk = Desk::new();
    let mut child = crate::cli::program::process(&desk.words("out.mp4", &[]))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().unwrap().success());
    assert_eq!(decoded(&desk.video("out.mp4")).frames.len(), 24);
}

#[test]
fn a_flag_is_stronger_than_a_variable() {
    let desk = Desk::new();
    let seed = |flags: &[&str]| {
        let mut command = desk.command("out.mp4", &[&["--dry-run", "--json"], flags].concat());
        let output = command
            .env("DEEPFORCING_SEED", "5")
            .env("DEEPFORCING_CACHE_SINK", "9")
            .output()
            .unwrap();
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (
            plan["recipe"]["seed"].as_u64(),
            plan["recipe"]["cache"]["sink"].as_u64(),
        )
    };
    assert_eq!(seed(&[]), (Some(5), Some(9)));
    assert_eq!(seed(&["--seed", "7", "--sink", "8"]), (Some(7), Some(8)));
}
