//! The repository's pages and sources, as text.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Folders below the root that hold nothing of the repository's own.
const FOREIGN: [&str; 5] = ["target", "out", ".git", "data", "runs"];

/// The folder of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Text of a file, its path relative to the root.
pub fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below `folder` with one of the extensions, relative to the root, sorted.
pub fn files(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&root().join(folder), extensions, &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries.map(|entry| entry.unwrap()) {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type().unwrap().is_dir() {
            if !FOREIGN.contains(&&*name) {
                collect(&path, extensions, found);
            }
        } else if extensions.iter().any(|extension| name.ends_with(extension)) {
            found.push(path.strip_prefix(root()).unwrap().to_path_buf());
        }
    }
}

/// The pages that users read: README, CONTRIBUTING and all of `docs`.
pub fn guides() -> Vec<PathBuf> {
    let mut pages = vec!["README.md".into(), "CONTRIBUTING.md".into()];
    pages.extend(files("docs", &[".md"]));
    pages
}

/// A page cut into lines of prose and lines of code blocks.
pub struct Page {
    pub prose: Vec<String>,
    pub code: Vec<String>,
}

impl Page {
    pub fn read(path: &Path) -> Self {
        let (mut prose, mut code, mut inside) = (Vec::new(), Vec::new(), false);
        for line in read(path).lines() {
            if line.trim_start().starts_with("```") {
                inside = !inside;
            } else if inside {
                code.push(line.to_string());
            } else {
                prose.push(line.to_string());
            }
        }
        assert!(!inside, "{}: a code block is not closed", path.display());
        Self { prose, code }
    }

    /// What stands between backticks in the prose; a span may go over a line's end.
    pub fn spans(&self) -> Vec<String> {
        let prose = self.prose.join("\n");
        let parts = prose.split('`').skip(1).step_by(2);
        parts
            .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }
}
