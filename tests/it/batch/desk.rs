//! A model, a folder, and batches in it.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

use crate::batch::program::{Desk, process};

pub struct Batches {
    pub desk: Desk,
}

impl Batches {
    pub fn new() -> Self {
        Self { desk: Desk::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.desk.video(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// A batch of `file` into the folder `out`, 32×32 and 0.5 s; `more` comes last.
    pub fn command(&self, file: &str, out: &str, more: &[&str]) -> Command {
        self.command_of("batch", file, out, more)
    }

    /// The same of another command.
    pub fn command_of(&self, command: &str, file: &str, out: &str, more: &[&str]) -> Command {
        let model = self.desk.model.folder().display().to_string();
        let mut words = vec![command, file, "-o", out];
        for (flag, value) in [("--model", model.as_str()), ("--size", "32x32"), ("--seconds", "0.5")] {
            if !more.contains(&flag) {
                words.extend([flag, value]);
            }
        }
        let words: Vec<_> = words.iter().chain(more).map(|word| word.to_string()).collect();
        let mut command = process(&words);
        command.current_dir(self.path(""));
        command
    }

    pub fn run(&self, file: &str, out: &str, more: &[&str]) -> Output {
        self.command(file, out, more).output().unwrap()
    }

    pub fn start(&self, file: &str, out: &str, more: &[&str]) -> Child {
        let mut command = self.command(file, out, more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a batch that must end with `code`; gives stdout and stderr.
    #[track_caller]
    pub fn ends(&self, code: i32, file: &str, out: &str, more: &[&str]) -> (String, String) {
        let output = self.run(file, out, more);
        said(&output, code)
    }

    /// The names in a folder, hidden ones that are no lock as well.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.ends_with(".lock")).collect();
        names.sort();
        names
    }

    /// Names and bytes of the videos of a folder.
    pub fn videos(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let names = self.names(folder).into_iter().filter(|name| name.ends_with(".mp4"));
        let read = |name: String| {
            let bytes = fs::read(self.path(folder).join(&name)).unwrap();
            (name, bytes)
        };
        names.map(read).collect()
    }

    /// The whole lines of a file as JSON.
    pub fn lines(&self, file: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(file)).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Stdout and stderr of a program that must have ended with `code`.
#[track_caller]
pub fn said(output: &Output, code: i32) -> (String, String) {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    (stdout, stderr)
}
