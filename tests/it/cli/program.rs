//! Running the program and looking at what it leaves.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use assert_cmd::Command;
use deepforcing::video::{Clip, read_frames};
use tempfile::{TempDir, tempdir};

use crate::cli::model::Model;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_deepforcing");

/// Variables of whoever runs the tests that the program needs to start at all.
const KEPT: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "TMPDIR"];

/// What the program is told by its environment: no home, no network, the toy model unpacked below the build's folder.
pub fn environment() -> Vec<(String, OsString)> {
    let kept = KEPT
        .iter()
        .filter_map(|name| Some((name.to_string(), std::env::var_os(name)?)));
    let fixed = [
        ("HF_HUB_OFFLINE", "1"),
        ("DEEPFORCING_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache")),
        ("HF_HUB_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/no-models")),
    ];
    kept.chain(fixed.map(|(name, value)| (name.to_string(), value.into())))
        .collect()
}

/// The program, to be given words.
pub fn program() -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear().envs(environment());
    command
}

/// The program as a process to be watched while it runs.
pub fn process(words: &[String]) -> std::process::Command {
    let mut command = std::process::Command::new(PROGRAM);
    command.env_clear().envs(environment()).args(words);
    command
}

/// A model, a folder for videos, and the command that joins them.
pub struct Desk {
    pub model: Model,
    videos: TempDir,
}

impl Desk {
    pub fn new() -> Self {
        Self::of(Model::new())
    }

    pub fn of(model: Model) -> Self {
        Self {
            model,
            videos: tempdir().unwrap(),
        }
    }

    pub fn video(&self, name: &str) -> PathBuf {
        self.videos.path().join(name)
    }

    /// Files in the folder for videos, hidden ones as well.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.videos.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The words of a `generate` that works, 32×32 and 1.5 s, writing `name`; `more` words come last and win.
    pub fn words(&self, name: &str, more: &[&str]) -> Vec<String> {
        let mut words = vec!["generate".to_string()];
        let given = |flag: &str| more.iter().any(|word| word.split('=').next() == Some(flag));
        // Stands before a prompt among `more`.
        if !given("--prompt-given") {
            words.push("a red ball".into());
        }
        let mut default = |flag: &str, value: String| {
            if !given(flag) {
                words.extend([flag.into(), value]);
            }
        };
        default("--model-dir", self.model.folder().display().to_string());
        default("--size", "32x32".into());
        default("--seconds", "1.5".into());
        let output = match name {
            "-" => name.to_string(),
            name => self.video(name).display().to_string(),
        };
        default("--output", output);
        let more = more.iter().filter(|word| **word != "--prompt-given");
        words.extend(more.map(|word| word.to_string()));
        words
    }

    pub fn command(&self, name: &str, more: &[&str]) -> Command {
        let mut command = program();
        command.current_dir(self.videos.path()).args(self.words(name, more));
        command
    }

    /// Runs the program with `words` alone, in the folder for videos.
    pub fn run(&self, words: &[&str]) -> Output {
        program().current_dir(self.videos.path()).args(words).output().unwrap()
    }

    /// The bytes of all pictures of a `generate`, exactly as they were made.
    pub fn pixels(&self, more: &[&str]) -> Vec<u8> {
        let output = self
            .command("-", &[more, &["--format", "rgb"]].concat())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Renders and gives the decoded video.
    pub fn render(&self, name: &str, more: &[&str]) -> Clip {
        let path = self.video(name);
        let assert = self.command(name, more).assert().success();
        assert.stdout(format!("{}\n", path.display()));
        decoded(&path)
    }

    /// Runs a `generate` that must be refused: with exit code `code`, one error that says all of `says`, nothing on
    /// stdout and no file that was not there before.
    #[track_caller]
    pub fn refused(&self, code: i32, more: &[&str], says: &[&str]) {
        let before = self.names();
        let output = self.command("out.mp4", more).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{more:?}: {stderr}");
        assert_eq!(stderr.matches("error: ").count(), 1, "{more:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{more:?}: {stderr}");
        let message = &stderr[stderr.find("error: ").unwrap()..];
        for part in says {
            assert!(message.contains(part), "{more:?}: `{part}` is not in: {message}");
        }
        assert!(output.stdout.is_empty(), "{more:?}");
        assert_eq!(self.names(), before, "{more:?}");
    }
}

/// All frames of a video file.
pub fn decoded(path: &Path) -> Clip {
    read_frames(path, usize::MAX).unwrap()
}
