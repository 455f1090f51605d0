//! Where a model file is published.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::hub::file_hash::{is_lower_hex, is_sha256};

use super::HubError;

/// One file of a repository on the hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    /// `organisation/name`.
    pub repo: String,
    /// Path in the repository.
    pub file: String,
    /// Branch, tag or commit.
    #[serde(default = "main_branch")]
    pub revision: String,
    /// Size, where it is known beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// SHA-256 in hexadecimal, where it is known beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

fn main_branch() -> String {
    "main".into()
}

impl Source {
    /// Checks that the parts can stand in an address and in a path below the cache.
    ///
    /// # Errors
    /// [`HubError::Source`] names the part that is wrong.
    pub fn check(&self) -> Result<(), HubError> {
        let bad = |part: &'static str, value: &str, expected: &'static str| {
            Err(HubError::Source {
                part,
                value: value.into(),
                expected,
            })
        };
        let repo_part = |part: &str| {
            let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(legal) && !part.contains("--")
        };
        if self.repo.split('/').count() > 2 || !self.repo.split('/').all(repo_part) {
            return bad("repo", &self.repo, "`organisation/name`");
        }
        if !is_plain_path(&self.file) {
            return bad("file", &self.file, "a path inside the repository");
        }
        if !is_plain_path(&self.revision) {
            return bad("revision", &self.revision, "a branch, tag or commit");
        }
        match self.sha256.as_deref() {
            Some(hash) if !is_sha256(hash) => bad("sha256", hash, "64 hexadecimal digits in lower case"),
            _ => Ok(()),
        }
    }

    /// Whether the revision is a commit, so that it always means the same files.
    pub(super) fn is_pinned(&self) -> bool {
        is_commit(&self.revision)
    }

    /// Name for messages: `organisation/name/path`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.repo, self.file)
    }
}

/// Relative, without `..`, hidden tricks or control characters.
fn is_plain_path(path: &str) -> bool {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    !path.is_empty()
        && !path.contains(['\\', '\0', ':', '?', '#', '%'])
        && !path.chars().any(char::is_control)
        && !path.ends_with('/')
        && Path::new(path).components().all(plain)
}

pub(super) fn is_commit(text: &str) -> bool {
    is_lower_hex(text, 40)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(repo: &str, file: &str, revision: &str) -> Source {
        Source {
            repo: repo.into(),
            file: file.into(),
            revision: revision.into(),
            bytes: None,
            sha256: None,
        }
    }

    #[test]
    fn ordinary_sources_pass() {
        for (repo, file, revision) in [
            ("Wan-AI/Wan2.1-T2V-1.3B", "google/umt5-xxl/tokenizer.json", "main"),
            ("gpt2", "config.json", "refs/pr/1"),
        ] {
            source(repo, file, revision).check().unwrap();
        }
    }

    #[test]
    fn sources_that_would_leave_the_cache_are_refused() {
        for (repo, file, revision, part) in [
            ("../x", "a", "main", "repo"),
            ("a/b/c", "a", "main", "repo"),
            ("a/..", "a", "main", "repo"),
            ("a--b/c", "a", "main", "repo"),
            ("", "a", "main", "repo"),
            ("a/b", "../a", "main", "file"),
            ("a/b", "/etc/passwd", "main", "file"),
            ("a/b", "", "main", "file"),
            ("a/b", "x?y", "main", "file"),
            ("a/b", "a", "../../x", "revision"),
        ] {
            let error = source(repo, file, revision).check().unwrap_err().to_string();
            assert!(error.contains(part), "{repo} {file} {revision}: {error}");
        }
        let mut source = source("a/b", "c", "main");
        source.sha256 = Some("ABC".into());
        assert!(source.check().unwrap_err().to_string().contains("sha256"));
    }
}
