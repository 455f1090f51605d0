//! `deepforcing models` against the server.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::hub::server::{COMMIT, REPO, Server, noise, sha256};

const PROGRAM: &str = env!("CARGO_BIN_EXE_deepforcing");

/// A server with the files of a model, a preset that names them, and an environment of its own.
struct Desk {
    server: Server,
    folder: TempDir,
    transformer: Vec<u8>,
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            server: Server::start(),
            folder: tempfile::tempdir().unwrap(),
            transformer: noise(700_000),
        };
        desk.server.large("model.pt", &desk.transformer);
        desk.server.large("vae.pth", &noise(50_000));
        desk.server.large("tiny.pth", &noise(1_000));
        desk.server.large("text.pth", &noise(60_000));
        desk.server.small("tokenizer.json", b"{\"words\": 1}");
        desk.preset("model.toml", "model.pt");
        desk
    }

    /// Writes a preset whose transformer is `file`; the size of the tokenizer is known beforehand.
    fn preset(&self, name: &str, file: &str) {
        let source = |role: &str, file: &str, more: &str| {
            format!("[sources.{role}]\nrepo = \"{REPO}\"\nfile = \"{file}\"\n{more}\n")
        };
        let known = format!("bytes = 12\nsha256 = \"{}\"\n", sha256(b"{\"words\": 1}"));
        let toml = format!(
            "description = \"A test\"\n[files]\ntransformer = [\"model.pt\"]\nvae = []\ntiny-decoder = []\n\
             text-encoder = []\ntokenizer = []\n[video]\nwidth = 64\nheight = 64\nfps = 16\n{}{}{}{}{}",
            source("transformer", file, ""),
            source("vae", "vae.pth", ""),
            source("tiny-decoder", "tiny.pth", ""),
            source("text-encoder", "text.pth", ""),
            source("tokenizer", "tokenizer.json", &known),
        );
        fs::write(self.folder.path().join(name), toml).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("HF_ENDPOINT", self.server.endpoint())
            .current_dir(self.folder.path())
            .arg("models")
            .args(words)
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn done(&self, words: &[&str]) -> (String, String) {
        checked(&mut self.command(words), 0)
    }

    /// What is said on stderr by a command that fails.
    #[track_caller]
    fn refused(&self, words: &[&str], code: i32) -> String {
        checked(&mut self.command(words), code).1
    }

    fn repo(&self) -> PathBuf {
        self.folder.path().join(".cache/huggingface/hub/models--org--model")
    }

    fn snapshot(&self) -> PathBuf {
        self.repo().join("snapshots").join(COMMIT)
    }
}

/// Runs a command and gives what it said on stdout and stderr.
#[track_caller]
fn checked(command: &mut Command, code: i32) -> (String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(code), "{stdout}{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    (stdout, stderr)
}

#[test]
fn a_pull_says_how_much_it_needs_and_prints_where_the_files_are() {
    let desk = Desk::new();
    let (stdout, stderr) = desk.done(&["pull", "model.toml"]);
    assert!(stderr.contains("needs 810.0 kB from the hub"), "{stderr}");
    assert!(stderr.contains("org/model/model.pt (700.0 kB)"), "{stderr}");
    assert!(stderr.contains("model.pt: downloaded and verified"), "{stderr}");
    let expected = |role: &str, file: &str| format!("{role}\t{}\n", desk.snapshot().join(file).display());
    let lines = [
        ("transformer", "model.pt"),
        ("vae", "vae.pth"),
        ("text-encoder", "text.pth"),
        ("tokenizer", "tokenizer.json"),
    ];
    assert_eq!(stdout, lines.map(|(role, file)| expected(role, file)).concat());
    assert_eq!(fs::read(desk.snapshot().join("model.pt")).unwrap(), desk.transformer);

    // What is there is not asked for again.
    let asked = desk.server.requests().len();
    let (again, stderr) = desk.done(&["pull", "model.toml"]);
    assert_eq!((again, stderr.as_str()), (stdout.clone(), ""));
    assert_eq!(desk.done(&["path", "model.toml"]).0, stdout);
    assert_eq!(desk.server.requests().len(), asked);
}

#[test]
fn a_pull_takes_the_decoder_that_is_asked_for() {
    let desk = Desk::new();
    let (stdout, _) = desk.done(&["pull", "model.toml", "--vae", "tae"]);
    assert!(stdout.contains("tiny.pth") && !stdout.contains("vae.pth"), "{stdout}");
    assert!(!desk.snapshot().join("vae.pth").exists());
    let (stdout, stderr) = desk.done(&["pull", "model.toml", "--vae", "both"]);
    assert!(stdout.contains("tiny.pth") && stdout.contains("vae.pth"), "{stdout}");
    assert!(stderr.contains("needs 50.0 kB"), "{stderr}");
}

#[test]
fn progress_can_be_switched_off_but_not_the_announcement() {
    for quiet in [(true, false), (false, true)] {
        let desk = Desk::new();
        let mut command = desk.command(&["pull", "model.toml"]);
        if quiet.0 {
            command.arg("--quiet");
        }
        if quiet.1 {
            command.env("HF_HUB_DISABLE_PROGRESS_BARS", "1");
        }
        let (_, stderr) = checked(&mut command, 0);
        assert!(stderr.contains("needs 810.0 kB"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn a_pull_that_fails_says_why_and_the_next_one_goes_on() {
    let desk = Desk::new();
    desk.server.faults().cuts.push_back(300_000);
    let (_, stderr) = desk.done(&["pull", "model.toml"]);
    assert!(
        stderr.contains("broke off at 300.0 kB of 700.0 kB") && stderr.contains("trying again"),
        "{stderr}"
    );

    let desk = Desk::new();
    desk.server.faults().gated = true;
    let stderr = desk.refused(&["pull", "model.toml"], 1);
    assert!(stderr.starts_with("error: `org/model` asks for agreement"), "{stderr}");
    desk.server.faults().gated = false;
    desk.server.faults().damages = true;
    let stderr = desk.refused(&["pull", "model.toml"], 1);
    assert!(
        stderr.contains("has SHA-256") && stderr.contains(&sha256(&desk.transformer)),
        "{stderr}"
    );
}

#[test]
fn a_killed_pull_goes_on() {
    let desk = Desk::new();
    // Content comes, then nothing more: the connection stays open for a while.
    desk.server.faults().slowness = Duration::from_secs(3);
    let mut child = desk
        .command(&["pull", "model.toml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let partial = desk
        .repo()
        .join("blobs")
        .join(format!("{}.incomplete", sha256(&desk.transformer)));
    let began = Instant::now();
    while !partial.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing begins");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    desk.server.faults().slowness = Duration::ZERO;
    fs::write(&partial, &desk.transformer[..123_456]).unwrap();
    let (_, stderr) = desk.done(&["pull", "model.toml"]);
    assert!(
        stderr.contains("model.pt (700.0 kB, 123.5 kB of it is there)"),
        "{stderr}"
    );
    assert!(stderr.contains("going on at 123.5 kB"), "{stderr}");
    assert_eq!(fs::read(desk.snapshot().join("model.pt")).unwrap(), desk.transformer);
}

#[test]
#[cfg(unix)]
fn an_interrupted_pull_ends_with_130() {
    let desk = Desk::new();
    desk.server.faults().slowness = Duration::from_secs(2);
    let child = desk
        .command(&["pull", "model.toml"])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while desk.server.transfers().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("the next download goes on from here"), "{stderr}");
}

#[test]
fn two_processes_download_once() {
    let desk = Desk::new();
    desk.server.faults().slowness = Duration::from_millis(300);
    let start = || {
        desk.command(&["pull", "model.toml"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children = [start(), start()];
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // The three large files, once each.
    assert_eq!(desk.server.transfers().len(), 3);
}

#[test]
fn offline_and_unreachable() {
    let desk = Desk::new();
    let (_, stderr) = checked(desk.command(&["pull", "model.toml"]).env("HF_HUB_OFFLINE", "1"), 1);
    assert!(stderr.contains("HF_HUB_OFFLINE is set"), "{stderr}");
    let (_, stderr) = checked(
        desk.command(&["pull", "model.toml"])
            .env("HF_ENDPOINT", "http://127.0.0.1:1"),
        1,
    );
    assert!(stderr.contains("cannot reach http://127.0.0.1:1"), "{stderr}");
    assert!(desk.server.requests().is_empty());
}

#[test]
fn without_home_there_is_no_cache_but_a_list() {
    let desk = Desk::new();
    let (_, stderr) = checked(desk.command(&["pull", "model.toml"]).env_remove("HOME"), 1);
    assert!(
        stderr.contains("HOME is not set") && stderr.contains("HF_HOME"),
        "{stderr}"
    );
    let (stdout, _) = checked(desk.command(&["list"]).env_remove("HOME"), 0);
    assert!(
        stdout.contains("deep-forcing") && stdout.contains("not there"),
        "{stdout}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_cache_that_cannot_be_written() {
    let desk = Desk::new();
    let (_, stderr) = checked(
        desk.command(&["pull", "model.toml"]).env("HF_HOME", "/sys/deepforcing"),
        1,
    );
    assert!(
        stderr.contains("error: cannot write to the cache folder `/sys/deepforcing"),
        "{stderr}"
    );
}

#[test]
fn the_list_tells_what_is_there() {
    let desk = Desk::new();
    let (stdout, stderr) = desk.done(&["list"]);
    assert_eq!(stderr, "");
    for line in [
        "toy ",
        "deep-forcing ",
        "self-forcing ",
        "causal-forcing ",
        "causal-forcing-frame ",
    ] {
        assert!(stdout.lines().any(|found| found.starts_with(line)), "{line}: {stdout}");
    }
    let (stdout, _) = desk.done(&["list", "--json"]);
    let models: Value = serde_json::from_str(&stdout).unwrap();
    let model = |name: &str| {
        models
            .as_array()
            .unwrap()
            .iter()
            .find(|model| model["name"] == name)
            .unwrap()
    };
    assert_eq!(model("toy")["location"], "bundled");
    assert_eq!(model("deep-forcing")["present"], false);
    let vae = model("deep-forcing")["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|file| file["role"] == "vae")
        .unwrap();
    assert_eq!((&vae["bytes"], &vae["path"]), (&507_609_880u64.into(), &Value::Null));
    assert!(desk.server.requests().is_empty());
}

#[test]
fn verification_finds_damage() {
    let desk = Desk::new();
    let stderr = desk.refused(&["verify", "model.toml"], 1);
    assert!(stderr.contains("4 of 4 files"), "{stderr}");
    desk.done(&["pull", "model.toml"]);
    let (stdout, _) = desk.done(&["verify", "model.toml"]);
    assert_eq!(stdout.matches("ok ").count(), 4, "{stdout}");
    assert!(stdout.contains(&sha256(&desk.transformer)), "{stdout}");

    let mut damaged = desk.transformer.clone();
    damaged[5] ^= 1;
    fs::write(desk.snapshot().join("model.pt"), damaged).unwrap();
    let (stdout, stderr) = checked(&mut desk.command(&["verify", "model.toml"]), 1);
    assert!(stdout.contains("damaged  `org/model/model.pt` has SHA-256"), "{stdout}");
    assert!(stderr.contains("1 of 4 files"), "{stderr}");
    let (stdout, _) = checked(&mut desk.command(&["verify", "model.toml", "--json"]), 1);
    let reports: Value = serde_json::from_str(&stdout).unwrap();
    let states: Vec<_> = reports
        .as_array()
        .unwrap()
        .iter()
        .map(|report| report["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        states.iter().filter(|state| **state == "damaged").count(),
        1,
        "{states:?}"
    );
    // Nothing of the embedded models is there, so nothing is wrong.
    let (stdout, stderr) = desk.done(&["verify"]);
    assert_eq!(
        (stdout.as_str(), stderr.as_str()),
        ("", "no model file is in the cache\n")
    );
}

#[test]
fn a_removal_asks_and_frees() {
    let desk = Desk::new();
    desk.done(&["pull", "model.toml"]);
    let stderr = desk.refused(&["remove", "model.toml"], 1);
    assert!(stderr.contains("--yes"), "{stderr}");
    assert!(desk.snapshot().join("model.pt").exists());
    let (stdout, stderr) = desk.done(&["remove", "model.toml", "--yes"]);
    assert_eq!(stdout, "removed `model.toml`, 810.0 kB free\n");
    assert!(stderr.contains("model.pt"), "{stderr}");
    assert!(!desk.snapshot().exists());
    let (stdout, stderr) = desk.done(&["remove", "model.toml", "--yes"]);
    assert_eq!(stdout, "");
    assert!(stderr.contains("no file of `model.toml` can be removed"), "{stderr}");
}

#[test]
fn unknown_models_are_refused() {
    let desk = Desk::new();
    for command in ["pull", "verify", "path", "remove"] {
        let stderr = desk.refused(&[command, "deepforcing"], 2);
        assert!(
            stderr.contains("`deepforcing`") && stderr.contains("deep-forcing, self-forcing"),
            "{stderr}"
        );
    }
    let stderr = desk.refused(&["path", "deep-forcing"], 1);
    assert!(stderr.contains("deepforcing models pull deep-forcing"), "{stderr}");
    let stderr = desk.refused(&["remove", "toy"], 1);
    assert!(stderr.contains("part of the program"), "{stderr}");
}

#[test]
#[cfg(feature = "bundled-model")]
fn the_bundled_model_is_unpacked_where_it_is_asked_for() {
    let desk = Desk::new();
    let (stdout, _) = desk.done(&["path", "toy"]);
    let own = desk.folder.path().join(".cache/deepforcing/bundled");
    assert!(
        stdout.lines().count() == 5 && stdout.lines().all(|line| line.contains(own.to_str().unwrap())),
        "{stdout}"
    );
    let (stdout, _) = checked(
        desk.command(&["pull", "toy"])
            .env("DEEPFORCING_CACHE", desk.folder.path().join("own")),
        0,
    );
    assert!(stdout.contains("/own/bundled/toy-"), "{stdout}");
    let (stdout, _) = desk.done(&["verify", "toy"]);
    assert!(
        stdout.starts_with("ok ") && stdout.contains("/bundled/toy-"),
        "{stdout}"
    );
}

#[test]
fn variables_that_cannot_be_are_named() {
    let desk = Desk::new();
    for (name, value) in [
        ("HF_ENDPOINT", "huggingface.co"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"),
        ("HF_TOKEN", "a b"),
    ] {
        let (_, stderr) = checked(desk.command(&["pull", "model.toml"]).env(name, value), 1);
        assert!(stderr.contains(name), "{stderr}");
    }
}

/// Puts files into the cache as other tools do, with their sizes and nothing in them.
fn fill(desk: &Desk, model: &str) {
    let (stdout, _) = desk.done(&["list", "--json"]);
    let models: Value = serde_json::from_str(&stdout).unwrap();
    let model = models
        .as_array()
        .unwrap()
        .iter()
        .find(|known| known["name"] == model)
        .unwrap();
    for file in model["files"].as_array().unwrap() {
        let text = |key: &str| file[key].as_str().unwrap();
        let repo = format!(".cache/huggingface/hub/models--{}", text("repo").replace('/', "--"));
        let repo = desk.folder.path().join(repo);
        let commit = if text("revision") == "main" {
            COMMIT
        } else {
            text("revision")
        };
        fs::create_dir_all(repo.join("refs")).unwrap();
        fs::write(repo.join("refs/main"), commit).unwrap();
        let path = repo.join("snapshots").join(commit).join(text("file"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path)
            .unwrap()
            .set_len(file["bytes"].as_u64().unwrap_or(1000))
            .unwrap();
    }
}

#[test]
fn a_removal_leaves_what_other_models_need() {
    let desk = Desk::new();
    fill(&desk, "self-forcing");
    fill(&desk, "causal-forcing");
    let (stdout, _) = desk.done(&["list"]);
    let there = |stdout: &str, name: &str| {
        stdout
            .lines()
            .any(|line| line.split_whitespace().take(2).eq([name, "there"]))
    };
    assert!(
        there(&stdout, "deep-forcing") && there(&stdout, "causal-forcing"),
        "{stdout}"
    );
    assert!(!there(&stdout, "causal-forcing-frame"), "{stdout}");

    let (stdout, stderr) = desk.done(&["remove", "deep-forcing", "--yes"]);
    assert!(
        stderr.contains("self_forcing_dmd.pt") && !stderr.contains("VAE"),
        "{stderr}"
    );
    assert!(stderr.contains("also the model `self-forcing`"), "{stderr}");
    assert!(stdout.contains("1.0 kB free"), "{stdout}");
    let (stdout, _) = desk.done(&["list"]);
    assert!(
        !there(&stdout, "self-forcing") && there(&stdout, "causal-forcing"),
        "{stdout}"
    );
    desk.done(&["path", "causal-forcing-deep"]);

    desk.done(&["remove", "causal-forcing", "--yes"]);
    let hub = desk.folder.path().join(".cache/huggingface/hub");
    assert_eq!(fs::read_dir(hub).unwrap().count(), 0);
}
