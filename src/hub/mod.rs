//! Model files from the Hugging Face hub, in the cache that all its tools share.
//!
//! [`HubSettings`] reads the variables that those tools honour, [`Hub`] finds, pulls, verifies and removes files. The
//! layout of the cache is that of the `hf-hub` crate and of `huggingface_hub`; the transfer is our own, because it must
//! resume, verify, wait when the hub asks to, and tell refusals apart.
//!
//! Nothing here prints: a pull tells its progress as [`PullEvent`]s, several pulls as [`Transfer`]s.

mod download;
mod error;
pub mod file_hash;
mod headers;
mod layout;
mod remote;
mod removal;
mod settings;
mod source;
mod space;
mod stated;
mod transfer;
mod trust;
mod watch;

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

pub use error::{HubError, human_bytes};
pub use remote::RemoteFile;
pub use removal::Removal;
pub use settings::{HubSettings, Origin, Setting, Token};
pub use source::Source;
pub(crate) use space::free_bytes;
pub use transfer::Transfer;
pub use watch::{PullEvent, Waiting};

use download::Download;
use layout::RepoFolder;
use remote::Remote;
use stated::Stated;
use watch::Watch;

/// Failures in a row, without a byte in between, before a download gives up.
const RETRIES: u32 = 5;

/// The cache on this machine and the hub behind it.
#[derive(Debug, Clone)]
pub struct Hub {
    settings: HubSettings,
    cache: PathBuf,
    retries: u32,
}

/// A file that is not in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingFile {
    pub source: Source,
    /// Its size.
    pub bytes: u64,
    /// Bytes that an earlier attempt left.
    pub have: u64,
}

/// What a file was compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// Its SHA-256 is the one that the preset or the hub states.
    Hash(String),
    /// Its size is right; nobody states a hash.
    Size { sha256: String },
    /// Neither size nor hash is known.
    Unknown { sha256: String },
}

impl Hub {
    /// A hub with these settings. Connects to nothing.
    ///
    /// # Errors
    /// When no variable tells where the cache is.
    pub fn new(settings: HubSettings) -> Result<Self, HubError> {
        Ok(Self {
            cache: settings.cache_folder()?.into(),
            settings,
            retries: RETRIES,
        })
    }

    /// Gives up after this many failures in a row.
    pub fn with_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The settings.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// The cache folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The file in the cache, if it is there whole. Asks nobody.
    pub fn find(&self, source: &Source) -> Option<PathBuf> {
        source.check().ok()?;
        RepoFolder::new(&self.cache, source).find(source)
    }

    /// Asks the hub about a file.
    ///
    /// # Errors
    /// When connections are not wanted, the hub cannot be reached, or it refuses.
    pub fn describe(&self, source: &Source, cancelled: &dyn Fn() -> bool) -> Result<RemoteFile, HubError> {
        let mut silent = |_: PullEvent<'_>| {};
        self.describe_watched(source, &mut Watch::new(&mut silent, cancelled))
    }

    /// Those of `sources` that are not in the cache, with what is left to download. The hub is asked for sizes that are
    /// not known.
    ///
    /// # Errors
    /// As [`Hub::describe`].
    pub fn missing(&self, sources: &[Source], cancelled: &dyn Fn() -> bool) -> Result<Vec<MissingFile>, HubError> {
        let absent: Vec<_> = sources.iter().filter(|source| self.find(source).is_none()).collect();
        if let (Some(source), true) = (absent.first(), self.settings.offline.value) {
            return Err(HubError::Offline { file: source.label() });
        }
        let sized = absent.into_iter().map(|source| {
            let (bytes, etag) = match (source.bytes, &source.sha256) {
                (Some(bytes), Some(hash)) => (bytes, hash.clone()),
                _ => {
                    let remote = self.describe(source, cancelled)?;
                    (remote.bytes, remote.etag)
                }
            };
            let partial = RepoFolder::new(&self.cache, source).partial(&etag);
            Ok(MissingFile {
                source: source.clone(),
                bytes,
                have: fs::metadata(partial).map_or(0, |partial| partial.len()).min(bytes),
            })
        });
        sized.collect()
    }

    /// Makes the cache folder, and checks that `bytes` more fit on its disk.
    ///
    /// # Errors
    /// When it cannot be made, or they do not fit.
    pub fn check_space(&self, bytes: u64) -> Result<(), HubError> {
        fs::create_dir_all(&self.cache).map_err(|error| layout::not_writable(&self.cache, &error))?;
        match space::free_bytes(&self.cache) {
            Some(free) if free < bytes => Err(HubError::NoSpace {
                needed: bytes,
                free,
                folder: self.cache.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Downloads a file into the cache unless it is there; an interrupted download is resumed. Its size and the hash
    /// that the hub or the preset states (SHA-256 of large files, git's of small ones) are verified before it is put in
    /// place. What has no stated hash is taken as it comes, and [`PullEvent::Done`] says so.
    ///
    /// `cancelled` is asked often; what is downloaded until then is kept.
    ///
    /// # Errors
    /// Many: see [`HubError`].
    pub fn pull(
        &self,
        source: &Source,
        listen: &mut dyn FnMut(PullEvent<'_>),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<PathBuf, HubError> {
        source.check()?;
        if let Some(path) = self.find(source) {
            return Ok(path);
        }
        let mut watch = Watch::new(listen, cancelled);
        let remote = self.describe_watched(source, &mut watch)?;
        let expected = expected_hash(source, &remote)?;
        let repo = RepoFolder::new(&self.cache, source);
        repo.create()?;
        let mut first = true;
        let lock = repo.lock(&remote.etag, || {
            watch.tick(&Waiting::OtherProcess, std::mem::take(&mut first))
        })?;
        let blob = repo.blob(&remote.etag);
        let verified = expected.is_some();
        if !is_there(&blob, &remote, expected.as_ref()) {
            let have = fs::metadata(repo.partial(&remote.etag)).map_or(0, |partial| partial.len());
            self.check_space(remote.bytes.saturating_sub(have))?;
            let download = Download {
                remote: &Remote::new(&self.settings, self.retries)?,
                repo: &repo,
                source,
                file: &remote,
                expected,
            };
            download.run(&mut watch)?;
        }
        let path = repo.link(&remote.etag, &remote.commit, source)?;
        drop(lock);
        watch.tell(PullEvent::Done {
            source,
            path: &path,
            verified,
        });
        Ok(path)
    }

    /// Reads a cached file and compares it with what the preset or the hub states of it.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or is damaged.
    pub fn verify(&self, source: &Source) -> Result<Verified, HubError> {
        source.check()?;
        let unreadable = |path: &Path, error: std::io::Error| HubError::Unreadable {
            path: path.into(),
            reason: error.to_string(),
        };
        // A file of the wrong size must be seen as such, not as missing.
        let any_size = Source {
            bytes: None,
            ..source.clone()
        };
        let path = self
            .find(&any_size)
            .ok_or_else(|| HubError::NotCached { file: source.label() })?;
        let found = fs::metadata(&path).map_err(|error| unreadable(&path, error))?.len();
        const ADVICE: &str = "the file is damaged: remove it with `deepforcing models remove` and pull it again";
        if let Some(expected) = source.bytes.filter(|bytes| *bytes != found) {
            return Err(HubError::WrongSize {
                file: source.label(),
                found,
                expected,
                advice: ADVICE,
            });
        }
        let sha256 = crate::hub::file_hash::sha256(&path).map_err(|error| unreadable(&path, error))?;
        let stated = source
            .sha256
            .clone()
            .or_else(|| crate::hub::file_hash::blob_name(&path));
        match stated {
            Some(expected) if expected != sha256 => Err(HubError::WrongHash {
                file: source.label(),
                kind: "SHA-256",
                found: sha256,
                expected,
                advice: ADVICE,
            }),
            Some(_) => Ok(Verified::Hash(sha256)),
            None if source.bytes.is_some() => Ok(Verified::Size { sha256 }),
            None => Ok(Verified::Unknown { sha256 }),
        }
    }

    /// What removing `sources` would take away. Content that `keep` or another snapshot of its repository uses stays.
    pub fn plan_removal(&self, sources: &[Source], keep: &[Source]) -> Removal {
        Removal::plan(&self.cache, sources, keep)
    }

    /// Carries out a planned removal.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(&self, removal: &Removal) -> Result<(), HubError> {
        removal.carry_out()
    }

    fn describe_watched(&self, source: &Source, watch: &mut Watch<'_>) -> Result<RemoteFile, HubError> {
        source.check()?;
        if self.settings.offline.value {
            return Err(HubError::Offline { file: source.label() });
        }
        let path = RepoFolder::new(&self.cache, source).url_path(&source.file);
        Remote::new(&self.settings, self.retries.min(2))?.describe(&path, source, watch)
    }
}

/// Whether a blob is there with all that is stated of it.
fn is_there(blob: &Path, remote: &RemoteFile, expected: Option<&Stated>) -> bool {
    let Ok(mut file) = File::open(blob) else { return false };
    let right_size = file
        .metadata()
        .is_ok_and(|found| found.is_file() && found.len() == remote.bytes);
    let Some(stated) = expected.filter(|_| right_size) else {
        return right_size;
    };
    let (mut hash, mut block) = (stated.hasher(remote.bytes), vec![0; 1 << 20]);
    loop {
        match file.read(&mut block) {
            Ok(0) => return hash.finish() == stated.hash(),
            Ok(count) => hash.update(&block[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// The hash that a download must have. What the hub states must be what the preset states, before anything is loaded.
fn expected_hash(source: &Source, remote: &RemoteFile) -> Result<Option<Stated>, HubError> {
    const ADVICE: &str = "the hub has another file than the preset names, and nothing was downloaded; check HF_ENDPOINT, \
                          or correct the preset";
    if let Some(expected) = source.bytes.filter(|bytes| *bytes != remote.bytes) {
        return Err(HubError::WrongSize {
            file: source.label(),
            found: remote.bytes,
            expected,
            advice: ADVICE,
        });
    }
    match (&source.sha256, Stated::of_etag(&remote.etag)) {
        (Some(expected), Some(Stated::Sha256(found))) if *expected != found => Err(HubError::WrongHash {
            file: source.label(),
            kind: "SHA-256",
            found,
            expected: expected.clone(),
            advice: ADVICE,
        }),
        (Some(expected), _) => Ok(Some(Stated::Sha256(expected.clone()))),
        (None, stated) => Ok(stated),
    }
}
