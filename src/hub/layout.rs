//! The cache layout that all tools of the hub share, so that a file is on the disk once.
//!
//! ```text
//! models--org--name/blobs/<etag>                    content
//! models--org--name/blobs/<etag>.incomplete         what a broken download left
//! models--org--name/snapshots/<commit>/<file>       link to its blob
//! models--org--name/refs/<revision>                 commit
//! .locks/models--org--name/<etag>.lock              one download at a time
//! ```
//!
//! Blobs of large files are named by their SHA-256, those of small ones by their git hash.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::{HubError, Source};

/// Ending of a partial download; `huggingface_hub` goes on with it as well.
const INCOMPLETE: &str = ".incomplete";

/// The part of the cache that holds one repository.
pub(super) struct RepoFolder {
    cache: PathBuf,
    repo: Repo,
    layout: CacheRepo,
}

impl RepoFolder {
    pub(super) fn new(cache: &Path, source: &Source) -> Self {
        let repo = Repo::with_revision(source.repo.clone(), RepoType::Model, source.revision.clone());
        Self {
            cache: cache.into(),
            layout: Cache::new(cache.into()).repo(repo.clone()),
            repo,
        }
    }

    /// The same repository at another revision.
    pub(super) fn at(&self, source: &Source) -> Self {
        Self::new(&self.cache, source)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.cache.join(self.repo.folder_name())
    }

    /// Path of a file in an address: `<repo>/resolve/<revision>/<file>`.
    pub(super) fn url_path(&self, file: &str) -> String {
        format!(
            "{}/resolve/{}/{}",
            self.repo.url(),
            self.repo.url_revision(),
            escape(file)
        )
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.layout.blob_path(etag)
    }

    pub(super) fn partial(&self, etag: &str) -> PathBuf {
        self.layout.blob_path(&format!("{etag}{INCOMPLETE}"))
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.path().join("snapshots")
    }

    pub(super) fn snapshot_file(&self, commit: &str, file: &str) -> PathBuf {
        self.layout.pointer_path(commit).join(file)
    }

    /// The file of a source: at its revision, else anywhere in the repository with the content that it should have.
    pub(super) fn find(&self, source: &Source) -> Option<PathBuf> {
        let right_size = |path: &PathBuf| match fs::metadata(path) {
            Ok(metadata) => metadata.is_file() && source.bytes.is_none_or(|bytes| bytes == metadata.len()),
            Err(_) => false,
        };
        let at_revision = match source.is_pinned() {
            true => Some(self.snapshot_file(&source.revision, &source.file)),
            false => self.layout.get(&source.file),
        };
        let same_content = || {
            let hash = source.sha256.as_deref()?;
            let blob = fs::canonicalize(self.blob(hash)).ok()?;
            let commits = fs::read_dir(self.snapshots()).ok()?.flatten();
            // A link in a snapshot rather than the blob itself: the name of the file tells its format.
            let mut links = commits.map(|commit| commit.path().join(&source.file));
            links.find(|link| fs::canonicalize(link).is_ok_and(|target| target == blob))
        };
        at_revision
            .filter(right_size)
            .or_else(|| same_content().filter(right_size))
    }

    /// Puts a finished blob where tools look for it, and notes which commit the revision is.
    pub(super) fn link(&self, etag: &str, commit: &str, source: &Source) -> Result<PathBuf, HubError> {
        let link = self.snapshot_file(commit, &source.file);
        let place = || -> io::Result<()> {
            if let Some(folder) = link.parent() {
                fs::create_dir_all(folder)?;
            }
            let up = source.file.split('/').count() + 1;
            let target = PathBuf::from("../".repeat(up)).join("blobs").join(etag);
            if fs::read_link(&link).is_ok_and(|known| known == target) {
                return Ok(());
            }
            // Another link of that name is out of date or broken; a file is a copy on a disk without links.
            match fs::remove_file(&link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => symlink_or_move(&target, &self.blob(etag), &link),
            }
        };
        place().map_err(|error| not_writable(&link, &error))?;
        if !source.is_pinned() {
            let noted = self.layout.create_ref(commit);
            noted.map_err(|error| not_writable(&self.path().join("refs"), &error))?;
        }
        Ok(link)
    }

    /// Waits for the only right to download a blob; `waiting` is called while another process has it.
    pub(super) fn lock(
        &self,
        etag: &str,
        mut waiting: impl FnMut() -> Result<(), HubError>,
    ) -> Result<DownloadLock, HubError> {
        let folder = self.cache.join(".locks").join(self.repo.folder_name());
        let path = folder.join(format!("{etag}.lock"));
        let open = || {
            fs::create_dir_all(&folder)?;
            File::options().create(true).truncate(false).write(true).open(&path)
        };
        let file = open().map_err(|error| not_writable(&path, &error))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(DownloadLock { _file: file }),
                Err(TryLockError::WouldBlock) => waiting()?,
                // Some network disks have no locks. The content is verified in any case.
                Err(TryLockError::Error(_)) => return Ok(DownloadLock { _file: file }),
            }
        }
    }

    /// Creates the folder for blobs.
    pub(super) fn create(&self) -> Result<(), HubError> {
        let blobs = self.path().join("blobs");
        fs::create_dir_all(&blobs).map_err(|error| not_writable(&blobs, &error))
    }
}

/// Held during a download; the file stays, as other processes may wait on it.
pub(super) struct DownloadLock {
    _file: File,
}

pub(super) fn not_writable(path: &Path, error: &io::Error) -> HubError {
    let folder = || path.parent().unwrap_or(path).to_path_buf();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => HubError::DiskFull { folder: folder() },
        _ => HubError::NotWritable {
            path: path.into(),
            reason: error.to_string(),
        },
    }
}

#[cfg(unix)]
fn symlink_or_move(target: &Path, _blob: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Links need a privilege on Windows; without it the file itself goes into the snapshot, as in `huggingface_hub`.
#[cfg(not(unix))]
fn symlink_or_move(target: &Path, blob: &Path, link: &Path) -> io::Result<()> {
    #[cfg(windows)]
    if std::os::windows::fs::symlink_file(target, link).is_ok() {
        return Ok(());
    }
    let _ = target;
    fs::rename(blob, link)
}

/// Percent-encodes what may not stand in the path of an address.
fn escape(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b);
    let encode = |b: u8| match plain(b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    };
    path.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "37ec512624d61f7aa208f7ea8140a131f93afc9a";
    const OTHER: &str = "0000000000000000000000000000000000000001";
    const HASH: &str = "96b6b242ca1c2f24e9d02cd6596066fab6d310e2d7538f33ae267cb18d957e8f";

    fn source(revision: &str) -> Source {
        Source {
            repo: "org/name".into(),
            file: "a/b.txt".into(),
            revision: revision.into(),
            bytes: Some(3),
            sha256: Some(HASH.into()),
        }
    }

    fn placed(cache: &Path, revision: &str, commit: &str, content: &str) -> RepoFolder {
        let source = source(revision);
        let repo = RepoFolder::new(cache, &source);
        repo.create().unwrap();
        fs::write(repo.blob(HASH), content).unwrap();
        let link = repo.link(HASH, commit, &source).unwrap();
        assert_eq!(fs::read_to_string(link).unwrap(), content);
        repo
    }

    #[test]
    fn a_placed_file_is_found_at_its_revision_only() {
        let cache = tempfile::tempdir().unwrap();
        let repo = placed(cache.path(), "main", COMMIT, "abc");
        let expected = cache
            .path()
            .join("models--org--name/snapshots")
            .join(COMMIT)
            .join("a/b.txt");
        assert_eq!(repo.find(&source("main")), Some(expected.clone()));
        assert_eq!(repo.find(&source(COMMIT)), Some(expected));
        let unknown = Source {
            sha256: None,
            ..source(OTHER)
        };
        assert_eq!(repo.find(&unknown), None);
    }

    #[test]
    fn the_same_content_at_another_revision_will_do() {
        let cache = tempfile::tempdir().unwrap();
        let repo = placed(cache.path(), "main", OTHER, "abc");
        assert!(repo.find(&source(COMMIT)).is_some());
    }

    #[test]
    fn a_file_of_the_wrong_size_or_without_its_blob_is_not_found() {
        let cache = tempfile::tempdir().unwrap();
        let repo = placed(cache.path(), "main", COMMIT, "abcd");
        assert_eq!(repo.find(&source("main")), None);
        fs::remove_file(repo.blob(HASH)).unwrap();
        assert_eq!(repo.find(&source("main")), None);
    }

    #[test]
    fn paths_are_escaped() {
        assert_eq!(escape("a b/ü.pth"), "a%20b/%C3%BC.pth");
    }
}
