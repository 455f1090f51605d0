//! Running the program in a home of its own.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use assert_cmd::Command;
use tempfile::{TempDir, tempdir};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_deepforcing");
/// The model that comes with the sources.
pub const TOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/toy");

/// A home folder, variables, and what the program said.
pub struct Desk {
    home: TempDir,
    variables: Vec<(OsString, OsString)>,
}

/// What a run said and how it ended.
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Desk {
    pub fn new() -> Self {
        let home = tempdir().unwrap();
        let mut variables: Vec<(OsString, OsString)> = Vec::new();
        // Nothing of the machine's own settings reaches the program.
        for name in ["PATH", "LD_LIBRARY_PATH", "TMPDIR"] {
            variables.extend(std::env::var_os(name).map(|value| (name.into(), value)));
        }
        variables.push(("HOME".into(), home.path().into()));
        Self { home, variables }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes the config file where it is looked for.
    pub fn config(self, text: &str) -> Self {
        self.write(".config/deepforcing/config.toml", text);
        self
    }

    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    pub fn variables(&self) -> &[(OsString, OsString)] {
        &self.variables
    }

    pub fn run(&self, words: &[&str]) -> Said {
        let mut command = Command::new(PROGRAM);
        command.env_clear().envs(self.variables.iter().cloned());
        let output = command.current_dir(self.home()).args(words).output().unwrap();
        let said = Said {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!said.stderr.contains("panicked"), "{words:?}: {}", said.stderr);
        said
    }

    /// Runs what must succeed and gives what it printed.
    #[track_caller]
    pub fn stdout(&self, words: &[&str]) -> String {
        let said = self.run(words);
        assert_eq!(said.code, Some(0), "{words:?}: {}", said.stderr);
        said.stdout
    }

    #[track_caller]
    pub fn json(&self, words: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.stdout(words)).unwrap()
    }

    /// Runs what must be refused, saying all of `says` in one error.
    #[track_caller]
    pub fn refused(&self, words: &[&str], code: i32, says: &[&str]) {
        let said = self.run(words);
        assert_eq!(said.code, Some(code), "{words:?}: {}", said.stderr);
        assert_eq!(said.stderr.matches("error: ").count(), 1, "{}", said.stderr);
        assert!(said.stdout.is_empty(), "{}", said.stdout);
        for part in says {
            assert!(
                said.stderr.contains(part),
                "{words:?}: `{part}` is not in: {}",
                said.stderr
            );
        }
    }
}
