//! A folder in which the commands of the pages can run: the files that they name are there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use tempfile::{TempDir, tempdir};

use crate::docs::pages::root;

/// Variables of whoever runs the tests that the program needs to start at all.
const KEPT: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "TMPDIR"];

/// The program in `folder`, which is its home too: no network, no model but the toy.
pub fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deepforcing"));
    let kept = KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    command
        .env_clear()
        .envs(kept)
        .env("HOME", folder)
        .env("HF_HUB_OFFLINE", "1")
        .env("DEEPFORCING_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"))
        .env("HF_HUB_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/no-models"))
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

/// Runs the program; its words and what it printed are in the message when it fails.
pub fn must(folder: &Path, words: &[&str]) -> Output {
    let output = program(folder).args(words).output().unwrap();
    assert!(
        output.status.success(),
        "deepforcing {words:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A video of one chunk, 9 frames denoised in one step, with its trace, latents and recipe, and a batch: made once, copied for each command.
fn made() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let folder = tempdir().unwrap();
        let prompt = "a red ball bouncing over green hills on a sunny day";
        let words = "--model toy --seconds 0.5625 --steps 1000 --seed 7 -o ball.mp4 --trace ball.jsonl \
                     --save-latents ball.safetensors --thumbnail cube.png --sidecar";
        let mut all = vec!["generate", prompt];
        all.extend(words.split(' '));
        must(folder.path(), &all);
        fs::write(folder.path().join("prompts.txt"), format!("{prompt}\n")).unwrap();
        let words = "batch prompts.txt -o made --model toy --seconds 0.5625 --steps 1000";
        must(folder.path(), &words.split(' ').collect::<Vec<_>>());
        folder
    });
    made.path()
}

/// A desk for one command. `finished` is whether the folder `out` is a finished batch, or none has been made yet.
pub fn desk(finished: bool) -> TempDir {
    let (desk, made) = (tempdir().unwrap(), made());
    let copy = |from: PathBuf, to: &str| {
        fs::copy(&from, desk.path().join(to)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    };
    for (from, names) in [
        ("ball.mp4", &["ball.mp4", "storm.mp4"][..]),
        ("ball.jsonl", &["ball.jsonl", "storm.jsonl"]),
        ("ball.json", &["storm.json"]),
        (
            "ball.safetensors",
            &["ball.safetensors", "heart.safetensors", "latents.safetensors"],
        ),
        ("cube.png", &["cube.png"]),
        ("prompts.txt", &["prompts.txt", "vbench.txt"]),
    ] {
        names.iter().for_each(|to| copy(made.join(from), to));
    }
    copy(root().join("configs/prompts/shots.jsonl"), "shots.jsonl");
    copy(root().join("configs/sweeps/paper-sink.toml"), "my-sweep.toml");
    let link = |from: PathBuf, to: &str| std::os::unix::fs::symlink(from, desk.path().join(to)).unwrap();
    link(root().join("configs"), "configs");
    fs::create_dir(desk.path().join("models")).unwrap();
    link(root().join("weights/toy"), "models/wan");
    fs::create_dir(desk.path().join("out")).unwrap();
    if finished {
        for entry in fs::read_dir(made.join("made")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                copy(entry.path(), &format!("out/{}", entry.file_name().to_string_lossy()));
            }
        }
    } else {
        fs::write(
            desk.path().join("out/failed.jsonl"),
            "{\"prompt\": \"a red ball\", \"id\": \"00002\"}\n",
        )
        .unwrap();
    }
    desk
}
