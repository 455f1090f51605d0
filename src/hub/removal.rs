//! Taking files out of the cache, without harm to what else uses them.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{HubError, Source, layout::RepoFolder};

/// What a removal takes away.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Links in snapshots.
    links: BTreeSet<PathBuf>,
    /// Content that nothing else links to, and partial downloads.
    blobs: BTreeSet<PathBuf>,
    /// Folders of repositories concerned.
    repos: BTreeSet<PathBuf>,
    /// Bytes that become free.
    pub bytes: u64,
}

impl Removal {
    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.blobs.is_empty()
    }

    /// The files that vanish.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.links.iter().map(PathBuf::as_path)
    }

    /// Plans the removal of `sources`, of which those in `keep` stay.
    pub(super) fn plan(cache: &Path, sources: &[Source], keep: &[Source]) -> Self {
        let mut plan = Self::default();
        let kept: BTreeSet<PathBuf> = keep.iter().flat_map(|source| targets(cache, source)).collect();
        for source in sources {
            let repo = RepoFolder::new(cache, source);
            plan.repos.insert(repo.path());
            let links = links(cache, source);
            let linked = links
                .into_iter()
                .filter(|link| !target(link).is_some_and(|blob| kept.contains(&blob)));
            plan.links.extend(linked);
        }
        for repo in plan.repos.clone() {
            plan.add_blobs(&repo, sources, &kept);
        }
        plan.bytes = plan
            .blobs
            .iter()
            .filter_map(|blob| fs::metadata(blob).ok())
            .map(|blob| blob.len())
            .sum();
        plan
    }

    /// Adds the blobs of a repository to which only the links that go lead.
    fn add_blobs(&mut self, repo: &Path, sources: &[Source], kept: &BTreeSet<PathBuf>) {
        let mut all = Vec::new();
        files_below(&repo.join("snapshots"), &mut all);
        let staying: BTreeSet<PathBuf> = all
            .iter()
            .filter(|link| !self.links.contains(*link))
            .filter_map(|link| target(link))
            .collect();
        let going = self
            .links
            .iter()
            .filter(|link| link.starts_with(repo))
            .filter_map(|link| target(link));
        let going: Vec<PathBuf> = going
            .filter(|blob| !staying.contains(blob) && !kept.contains(blob))
            .collect();
        self.blobs.extend(going);
        // What broken downloads left belongs to nobody once no file of the repository stays; of known files at once.
        let last = staying.is_empty();
        let named = |name: &str| {
            sources
                .iter()
                .any(|source| source.sha256.as_deref().is_some_and(|hash| name.starts_with(hash)))
        };
        for entry in fs::read_dir(repo.join("blobs")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".incomplete") && (last || named(&name)) {
                self.blobs.insert(entry.path());
            }
        }
    }

    /// Does it.
    pub(super) fn carry_out(&self) -> Result<(), HubError> {
        for path in self.links.iter().chain(&self.blobs) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(HubError::NotWritable {
                        path: path.clone(),
                        reason: error.to_string(),
                    });
                }
                _ => {}
            }
        }
        for repo in &self.repos {
            let snapshots = repo.join("snapshots");
            remove_empty_folders(&snapshots);
            if !snapshots.exists() {
                // Only notes of which commit a branch was are left.
                let _ = fs::remove_dir_all(repo.join("refs"));
                let _ = fs::remove_dir_all(repo.join(".no_exist"));
                let _ = fs::remove_dir(repo.join("blobs"));
                let _ = fs::remove_dir(repo);
            }
        }
        Ok(())
    }
}

/// Links to a file in all snapshots: a revision that moved leaves older ones.
fn links(cache: &Path, source: &Source) -> Vec<PathBuf> {
    let repo = RepoFolder::new(cache, source);
    let commits = fs::read_dir(repo.snapshots()).into_iter().flatten().flatten();
    let links = commits.map(|commit| commit.path().join(&source.file));
    links.filter(|link| fs::symlink_metadata(link).is_ok()).collect()
}

fn targets(cache: &Path, source: &Source) -> Vec<PathBuf> {
    links(cache, source).iter().filter_map(|link| target(link)).collect()
}

/// The blob that a link leads to; a file without links is its own.
fn target(link: &Path) -> Option<PathBuf> {
    fs::canonicalize(link).ok()
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path(), found),
            _ => found.push(entry.path()),
        }
    }
}

/// Removes folders in which there is nothing; `remove_dir` refuses others.
fn remove_empty_folders(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty_folders(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}
