//! What the program says to bad input, word for word. `cargo insta review` shows changes.

use std::fs;

use crate::cli::{
    foreign::{png_of_size, wav},
    program::Desk,
};

/// Exit code and everything that a run says, without what differs from run to run.
fn said(desk: &Desk, words: &[&str]) -> String {
    said_with(desk, words, &[])
}

/// The same with other variables; those that are empty are taken away.
fn said_with(desk: &Desk, words: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = crate::cli::program::program();
    command.current_dir(desk.video("")).args(words);
    for (name, value) in variables {
        match *value {
            "" => command.env_remove(name),
            value => command.env(name, value),
        };
    }
    let output = command.output().unwrap();
    assert!(
        output.stdout.is_empty(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{words:?}: {stderr}");
    let model = desk.model.folder().display().to_string();
    let here = desk.video("").display().to_string();
    let stderr = stderr.replace(&model, "MODEL").replace(&here, "");
    let code = output.status.code().unwrap();
    format!(
        "$ deepforcing {}\n{stderr}exit code {code}\n",
        words.join(" ").replace(&model, "MODEL")
    )
}

/// `generate` with a model that works.
fn generate(desk: &Desk, words: &[&str]) -> String {
    let model = desk.model.folder().display().to_string();
    said(
        desk,
        &[&["generate"], words, &["--model", &model, "--size", "32x32"]].concat(),
    )
}

macro_rules! snapshot {
    ($name:literal, $said:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($name, $said);
        })
    };
}

#[test]
fn names_that_are_unknown() {
    let desk = Desk::new();
    fs::write(desk.video("keys.jsonl"), "{\"prompt\": \"a\", \"secnods\": 3}\n").unwrap();
    let all = [
        generate(&desk, &["a", "--secnods", "3"]),
        generate(&desk, &["a", "--preset", "deepforcing"]),
        said(&desk, &["generate", "a", "--model", "deepforcing"]),
        generate(&desk, &["a", "--policy", "deepsink"]),
        generate(&desk, &["--prompt-file", "keys.jsonl"]),
        generate(&desk, &["a", "-o", "out.avi"]),
        generate(&desk, &["a", "--format", "mov"]),
    ];
    snapshot!("unknown_names", all.join("\n"));
}

#[test]
fn prompt_files() {
    let desk = Desk::new();
    let mut all = Vec::new();
    for (name, bytes) in [
        ("nul.txt", &b"a red ball\nblue\0sea\n"[..]),
        ("latin1.txt", b"a red ball\ncaf\xe9\n"),
        ("empty.txt", b"\n# nothing\n"),
        ("kind.yaml", b"a,b\n"),
        ("json.jsonl", b"{\"prompt\": \"a\"\n"),
        ("number.jsonl", b"{\"prompt\": \"a\", \"seed\": \"seven\"}\n"),
        (
            "twice.jsonl",
            b"{\"id\": \"x\", \"prompt\": \"a\"}\n{\"id\": \"x\", \"prompt\": \"b\"}\n",
        ),
        ("switches.jsonl", b"{\"prompts\": [\"a\", \"b\"], \"switch\": [1, 2]}\n"),
        ("none.jsonl", b"{\"prompts\": []}\n"),
    ] {
        fs::write(desk.video(name), bytes).unwrap();
        all.push(generate(&desk, &["--prompt-file", name]));
    }
    all.push(generate(&desk, &["--prompt-file", "missing.txt"]));
    fs::create_dir(desk.video("folder.txt")).unwrap();
    all.push(generate(&desk, &["--prompt-file", "folder.txt"]));
    snapshot!("prompt_files", all.join("\n"));
}

#[test]
fn switches() {
    let desk = Desk::new();
    let all: Vec<_> = [
        &["a", "--switch", "a storm"][..],
        &["a", "--switch", "12: a storm"],
        &["a", "--switch", "12s:"],
        &["a", "--switch", "3s: b", "--switch", "2s: c"],
        &["a", "--switch", "3s: b", "--switch", "3s: c"],
        &["a", "--switch", "3s: b", "--switch", "3.1s: c"],
        &["a", "--switch", "60s: b"],
        &["a", "--switch", "0s: b"],
        &["a", "b", "--switch", "2s: c"],
    ]
    .iter()
    .map(|words| generate(&desk, words))
    .collect();
    snapshot!("switches", all.join("\n"));
}

#[test]
fn outputs() {
    let desk = Desk::new();
    fs::write(desk.video("there.mp4"), "x").unwrap();
    fs::write(
        desk.video("ids.jsonl"),
        "{\"id\": \"a/b\", \"prompt\": \"a\"}\n{\"id\": \"a?b\", \"prompt\": \"b\"}\n",
    )
    .unwrap();
    let all = [
        generate(&desk, &["a", "b", "-o", "one.mp4"]),
        generate(&desk, &["a", "--thumbnail", "x.png", "--save-latents", "x.png"]),
        generate(&desk, &["a", "-o", "there.mp4"]),
        generate(&desk, &["a", "-o", "there.mp4/out.mp4"]),
        generate(&desk, &["a", "-o", "-", "--json"]),
        generate(&desk, &["a", "-o", "-", "--sidecar"]),
        generate(&desk, &["a", "-o", "-", "--format", "gif"]),
        generate(&desk, &["a", "-o", "frames.png"]),
        generate(&desk, &["a", "b", "-o", "{name}.mp4"]),
        generate(&desk, &["--prompt-file", "ids.jsonl", "-o", "{id}.mp4"]),
    ];
    snapshot!("outputs", all.join("\n"));
}

#[test]
fn starts() {
    let desk = Desk::new();
    fs::write(desk.video("text.png"), "no image").unwrap();
    fs::write(desk.video("text.mp4"), "no video").unwrap();
    fs::write(desk.video("empty.png"), "").unwrap();
    desk.render("short.mp4", &["--seconds", "0.0625"]);
    fs::write(desk.video("no-pixels.png"), png_of_size(0, 0)).unwrap();
    fs::write(desk.video("huge.png"), png_of_size(100_000, 100_000)).unwrap();
    fs::write(desk.video("sound.wav"), wav()).unwrap();
    let all: Vec<_> = [
        ["--image", "text.png"],
        ["--image", "empty.png"],
        ["--image", "missing.png"],
        ["--image", "no-pixels.png"],
        ["--image", "huge.png"],
        ["--extend", "sound.wav"],
        ["--extend", "text.mp4"],
        ["--extend", "short.mp4"],
        ["--extend", "."],
    ]
    .iter()
    .map(|words| generate(&desk, &[&["a"], &words[..]].concat()))
    .collect();
    snapshot!("starts", all.join("\n"));
}

#[test]
fn settings() {
    let desk = Desk::new();
    let all = [
        generate(&desk, &["a", "--seconds", "-1"]),
        generate(&desk, &["a", "--steps", "1000,1000"]),
        generate(&desk, &["a", "--steps", "0"]),
        generate(&desk, &["a", "--shift", "-5"]),
        generate(&desk, &["a", "--crf", "99"]),
        generate(&desk, &["a", "--fps", "0"]),
        generate(&desk, &["a", "--threads", "0"]),
        generate(&desk, &["a", "--sink", "13"]),
        generate(&desk, &[""]),
        said(&desk, &["generate"]),
        said(&desk, &["rerun", "missing.mp4", "-o", "out.mp4"]),
        said(&desk, &["decode", "missing.safetensors", "-o", "out.mp4"]),
    ];
    snapshot!("settings", all.join("\n"));
}

#[test]
fn config_files_and_variables() {
    let desk = Desk::new();
    let model = desk.model.folder().display().to_string();
    let generate = ["generate", "a", "--model", &model];
    let mut all = Vec::new();
    for text in [
        "secnods = 3\n",
        "seed = 7\n[cache]\nsinks = 9\n",
        "seed = \"seven\"\n",
        "seed = \n",
    ] {
        fs::write(desk.video("config.toml"), text).unwrap();
        all.push(said_with(&desk, &generate, &[("DEEPFORCING_CONFIG", "config.toml")]));
    }
    all.push(said_with(&desk, &generate, &[("DEEPFORCING_CONFIG", "missing.toml")]));
    all.push(said_with(&desk, &generate, &[("DEEPFORCING_SEED", "seven")]));
    all.push(said_with(
        &desk,
        &generate,
        &[("DEEPFORCING_POLICY", "fifo"), ("DEEPFORCING_CACHE_SINK", "99")],
    ));
    snapshot!("config", all.join("\n"));
}

#[test]
fn a_machine_without_a_home() {
    let desk = Desk::new();
    // No HOME is among the variables of these tests.
    let no_cache = [("HF_HUB_CACHE", ""), ("DEEPFORCING_CACHE", "")];
    let all = [
        said_with(&desk, &["generate", "a", "--model", "deep-forcing"], &no_cache),
        said_with(&desk, &["models", "pull", "deep-forcing"], &no_cache),
        said(&desk, &["generate", "a", "--model", "deep-forcing"]),
    ];
    snapshot!("no_home", all.join("\n"));
}
