//! Requests that cannot be met.

use std::fs;

use crate::cli::{
    model::{CONFIG, TRANSFORMER},
    program::Desk,
};

#[test]
fn prompts_without_words() {
    let desk = Desk::new();
    for prompt in ["", "   ", "\t\n", "\u{a0}", "&nbsp;"] {
        desk.refused(
            2,
            &["--prompt-given", prompt],
            &["prompt", "empty", "describe the video"],
        );
    }
}

#[test]
fn sizes() {
    let desk = Desk::new();
    let cases = [
        ("100x480", "multiples of 16"),
        ("832x481", "832x480"),
        ("8x8", "16x16"),
        ("0x0", "multiples of 16"),
        ("32x0", "32x16"),
        ("1000000x32", "4096"),
        ("18446744073709551615x16", "4096"),
        ("99999999999999999999x16", "WIDTHxHEIGHT"),
        ("-32x32", "WIDTHxHEIGHT"),
        ("32", "WIDTHxHEIGHT"),
        ("32*32", "WIDTHxHEIGHT"),
        ("x", "WIDTHxHEIGHT"),
        ("", "WIDTHxHEIGHT"),
    ];
    for (size, says) in cases {
        desk.refused(2, &[&format!("--size={size}")], &[says]);
    }
}

#[test]
fn lengths() {
    let desk = Desk::new();
    for seconds in ["0", "-3", "NaN", "inf", "1e300", "90000"] {
        desk.refused(2, &["--seconds", seconds], &["seconds", "above 0"]);
    }
    desk.refused(2, &["--seconds", "0.01"], &["less than one picture", "0.063"]);
    desk.refused(2, &["--seconds", "long"], &["long", "--seconds"]);
}

#[test]
fn encoders() {
    let desk = Desk::new();
    desk.refused(2, &["--encoder", "h265"], &["h265", "--encoder", "h264_nvenc"]);
    desk.refused(
        2,
        &["--encoder", "libvpx-vp9"],
        &["libvpx-vp9", "libx264", "for an mp4"],
    );
    // NVENC takes no pictures as small as these, wherever it is.
    desk.refused(1, &["--encoder", "h264_nvenc"], &["h264_nvenc", "--encoder auto"]);
}

#[test]
fn outputs() {
    let desk = Desk::new();
    fs::write(desk.video("file"), "x").unwrap();
    desk.refused(1, &["--output", "file/out.mp4"], &["file", "is not a folder"]);
    desk.refused(2, &["--output", "out.avi"], &["out.avi", ".mp4"]);
    desk.refused(2, &["--output", "out"], &[".mp4"]);
    desk.refused(2, &["--output", "out.png"], &["out.png", "%05d"]);
    desk.refused(2, &["--output", ""], &["--output", "value is required"]);
    // Nobody can create files there, not even root.
    #[cfg(target_os = "linux")]
    desk.refused(1, &["--output", "/proc/out.mp4"], &["cannot create a file", "/proc"]);
}

#[test]
fn names_that_are_none() {
    let desk = Desk::new();
    desk.refused(
        2,
        &["--policy", "deepforcing"],
        &["deepforcing", "deep-forcing", "fifo"],
    );
    desk.refused(2, &["--positions", "released"], &["released", "official", "paper"]);
    desk.refused(2, &["--scorer", "best"], &["best", "both", "random"]);
    desk.refused(2, &["--vae", "sd"], &["sd", "wan", "tae"]);
    desk.refused(
        2,
        &["--preset", "turbo"],
        &["turbo", "deep-forcing", "self-forcing", ".toml"],
    );
    desk.refused(1, &["--preset", "none.toml"], &["none.toml"]);
    desk.refused(2, &["--colour", "red"], &["--colour"]);
    desk.refused(2, &["--seed", "-2"], &["-2"]);
    desk.refused(2, &["--window", "many"], &["many", "--window"]);
}

#[test]
fn cache_rules_are_named() {
    let desk = Desk::new();
    let most = usize::MAX.to_string();
    let cases: [(&[&str], &str); 10] = [
        (&["--recent", "2"], "recent 2 < chunk 3"),
        (&["--sink", "13"], "sink 13 + recent 4 > budget 16"),
        (&["--recent", &most], "> budget 16"),
        (&["--budget", "22"], "budget 22 > window 21"),
        (&["--sink", "19"], "sink 19 + chunk 3 > window 21"),
        (&["--sink", &most], "+ chunk 3 > window 21"),
        (&["--policy", "sink", "--sink", "19"], "sink 19 + chunk 3 > window 21"),
        (&["--window", "2"], "window 2 < chunk 3"),
        (&["--policy", "fifo", "--window", "0"], "window 0 < chunk 3"),
        (&["--window", &most], "is absurd"),
    ];
    for (flags, says) in cases {
        desk.refused(2, flags, &[says]);
    }
}

#[test]
fn a_cache_that_no_memory_holds() {
    let desk = Desk::new();
    let flags = ["--policy", "global", "--seconds", "86400", "--size", "4096x4096"];
    desk.refused(1, &flags, &["cache", "memory", "global"]);
}

#[test]
fn presets_and_configs_that_are_none() {
    let desk = Desk::new();
    let toy = include_str!("../../../configs/toy.toml");
    let cases = [
        ("broken", "[files", 1, "bad.toml"),
        (
            "chunk",
            &toy.replace("chunk = 3", "chunk = 0"),
            2,
            "at least 1 latent frame",
        ),
        ("key", &toy.replace("chunk = 3", "chnk = 3"), 1, "chnk"),
        ("steps", &toy.replace("[1000, 750, 500, 250]", "[]"), 2, "step"),
        ("fps", &toy.replace("fps = 16", "fps = 0"), 2, "0 pictures per second"),
        ("fps", &toy.replace("fps = 16", "fps = 1000"), 2, "fps"),
    ];
    for (_, text, code, says) in cases {
        fs::write(desk.video("bad.toml"), text).unwrap();
        desk.refused(code, &["--preset", "bad.toml"], &[says]);
    }

    let cases = [
        ("{\"num_heads\": ", 1, "config.json"),
        ("[]", 1, "config.json"),
        ("{\"num_heads\": \"two\"}", 1, "config.json"),
        (
            "{\"num_heads\": 5, \"text_len\": 16}",
            1,
            "5 heads do not divide dim 48",
        ),
        ("{\"num_heads\": 0, \"text_len\": 16}", 1, "num_heads"),
        ("{\"text_len\": 16}", 1, "num_heads"),
        ("{\"num_heads\": 2, \"text_len\": 0}", 1, "text_len"),
        ("{\"num_heads\": 2, \"text_len\": 1e30}", 1, "floating point"),
        ("{\"num_heads\": 2, \"text_len\": 4000000000000}", 1, "text_len"),
        ("{\"num_heads\": 2, \"text_len\": 16, \"eps\": -1}", 1, "eps"),
        ("{\"deepforcing_preset\": \"turbo\"}", 2, "turbo"),
    ];
    for (text, code, says) in cases {
        desk.model.write(CONFIG, text.as_bytes());
        desk.refused(code, &[], &[says]);
    }
    assert!(desk.model.path(TRANSFORMER).exists());
}

#[test]
fn a_command_without_a_prompt() {
    for (words, says) in [
        (&["generate", "--model-dir", "."][..], "PROMPT"),
        (&["render"][..], "render"),
        (&[][..], "Usage"),
    ] {
        let assert = crate::cli::program::program().args(words).assert().code(2);
        assert.stderr(predicates::str::contains(says));
    }
}

#[test]
fn more_memory_than_there_is() {
    let desk = Desk::new();
    desk.refused(
        1,
        &["--size", "4096x4096", "--seconds", "60"],
        &["memory", "--size", "available"],
    );
}
