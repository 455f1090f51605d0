//! One file from the hub into a blob: resumed, hashed while it comes in, put in place only when it is right.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use ureq::{
    Body,
    http::{Response, StatusCode},
};

use super::{
    HubError, PullEvent, Source, Watch,
    layout::{RepoFolder, not_writable},
    remote::{Failed, Remote, RemoteFile},
    stated::{Hasher, Stated},
};

/// Bytes that are read, hashed and written at once.
const BLOCK: usize = 1 << 18;
/// Bytes a second below which a server counts as one that does not want to send.
const LEAST_RATE: f64 = 100.0;

/// The download of one blob.
pub(super) struct Download<'a> {
    pub(super) remote: &'a Remote<'a>,
    pub(super) repo: &'a RepoFolder,
    pub(super) source: &'a Source,
    pub(super) file: &'a RemoteFile,
    /// What its content must be, where that is known.
    pub(super) expected: Option<Stated>,
}

/// Why a transfer stopped.
enum Stopped {
    /// The connection; the next attempt may do better.
    Connection(Failed),
    /// The server, which sends next to nothing.
    TooSlow(Failed),
    /// Disk or user.
    Here(HubError),
}

impl From<HubError> for Stopped {
    fn from(error: HubError) -> Self {
        Self::Here(error)
    }
}

/// How much comes in how much time.
struct Pace {
    /// Time over which it is measured.
    span: Duration,
    since: Instant,
    /// Bytes that were there at that time.
    before: u64,
}

impl Pace {
    fn new(span: Duration, before: u64) -> Self {
        Self {
            span,
            since: Instant::now(),
            before,
        }
    }

    /// Whether next to nothing came in the last span.
    fn is_too_slow(&mut self, bytes: u64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since);
        if passed < self.span {
            return false;
        }
        let least = (passed.as_secs_f64() * LEAST_RATE) as u64;
        let came = bytes.saturating_sub(self.before);
        (self.since, self.before) = (now, bytes);
        came < least
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "less than {LEAST_RATE} bytes a second came for {} s",
            self.span.as_secs()
        )
    }
}

/// The partial file, and the hash of what is in it.
struct Partial<'a> {
    path: &'a Path,
    file: File,
    /// None where there is nothing to compare it with.
    hash: Option<Hasher>,
    bytes: u64,
}

impl Download<'_> {
    /// Downloads the blob; an earlier attempt is resumed.
    pub(super) fn run(&self, watch: &mut Watch<'_>) -> Result<(), HubError> {
        let path = self.repo.partial(&self.file.etag);
        let resumed = fs::metadata(&path).is_ok_and(|partial| partial.len() > 0);
        match self.attempt(&path, watch) {
            // The fault may be in what an earlier attempt left.
            Err(HubError::WrongHash { .. } | HubError::WrongSize { .. }) if resumed => self.attempt(&path, watch),
            result => result,
        }
    }

    fn attempt(&self, path: &Path, watch: &mut Watch<'_>) -> Result<(), HubError> {
        let mut partial = self.open_partial(path, watch)?;
        watch.tell(PullEvent::Start {
            source: self.source,
            bytes: self.file.bytes,
            have: partial.bytes,
        });
        self.fill(&mut partial, watch)?;
        let synced = partial.file.sync_all();
        synced.map_err(|error| not_writable(path, &error))?;
        if let Err(error) = self.check(&mut partial) {
            // A file that is wrong is of no use to the next attempt either.
            drop(fs::remove_file(path));
            return Err(error);
        }
        let blob = self.repo.blob(&self.file.etag);
        fs::rename(path, &blob).map_err(|error| not_writable(&blob, &error))
    }

    /// Opens what an earlier attempt left, and hashes it.
    fn open_partial<'p>(&self, path: &'p Path, watch: &mut Watch<'_>) -> Result<Partial<'p>, HubError> {
        let mut options = OpenOptions::new();
        let opened = options.create(true).truncate(false).read(true).append(true).open(path);
        let file = opened.map_err(|error| not_writable(path, &error))?;
        let mut partial = Partial {
            path,
            file,
            hash: self.hasher(),
            bytes: 0,
        };
        let there = fs::metadata(path).map_or(0, |metadata| metadata.len());
        if there > self.file.bytes {
            partial.restart(self.hasher())?;
            return Ok(partial);
        }
        let mut block = vec![0; BLOCK];
        while partial.bytes < there {
            watch.check()?;
            let read = partial.file.read(&mut block);
            let count = read.map_err(|error| HubError::Unreadable {
                path: path.into(),
                reason: error.to_string(),
            })?;
            if count == 0 {
                break;
            }
            if let Some(hash) = &mut partial.hash {
                hash.update(&block[..count]);
            }
            partial.bytes += count as u64;
        }
        Ok(partial)
    }

    /// Fills the partial file, over as many connections as it takes.
    fn fill(&self, partial: &mut Partial<'_>, watch: &mut Watch<'_>) -> Result<(), HubError> {
        // The commit, as the branch may move meanwhile.
        let at_commit = Source {
            revision: self.file.commit.clone(),
            ..self.source.clone()
        };
        let path = self.repo.at(&at_commit).url_path(&self.source.file);
        let mut failures = 0;
        while partial.bytes < self.file.bytes {
            watch.check()?;
            let before = partial.bytes;
            let failed = match self.transfer(&path, partial, watch) {
                Ok(()) => continue,
                Err(Stopped::Here(error)) => return Err(error),
                // A server that sends a byte now and then gets no new patience for it.
                Err(Stopped::TooSlow(failed)) => (failed, false),
                Err(Stopped::Connection(failed)) => (failed, partial.bytes > before),
            };
            let (failed, went_on) = failed;
            if went_on {
                failures = 0;
            }
            self.remote.wait_after(failed, &mut failures, watch)?;
        }
        Ok(())
    }

    /// One connection.
    fn transfer(&self, path: &str, partial: &mut Partial<'_>, watch: &mut Watch<'_>) -> Result<(), Stopped> {
        let response = self.remote.open(path, self.source, partial.bytes);
        let response = response.map_err(Stopped::Connection)?;
        if partial.bytes > 0 && !continues(&response, partial.bytes) {
            // The server sends all of it again.
            partial.restart(self.hasher())?;
        }
        let mut body = response.into_body().into_reader();
        let mut block = vec![0; BLOCK];
        let mut pace = Pace::new(self.remote.patience(), partial.bytes);
        loop {
            watch.check()?;
            if pace.is_too_slow(partial.bytes, Instant::now()) {
                return Err(Stopped::TooSlow(self.broken(partial, pace.to_string())));
            }
            let count = match body.read(&mut block) {
                Ok(0) if partial.bytes < self.file.bytes => {
                    return Err(Stopped::Connection(
                        self.broken(partial, "the connection was closed".into()),
                    ));
                }
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stopped::Connection(self.broken(partial, error.to_string()))),
            };
            if partial.bytes + count as u64 > self.file.bytes {
                drop(fs::remove_file(partial.path));
                return Err(self.wrong_size(partial.bytes + count as u64).into());
            }
            partial.append(&block[..count])?;
            watch.tell(PullEvent::Progress { bytes: partial.bytes });
        }
    }

    fn broken(&self, partial: &Partial<'_>, reason: String) -> Failed {
        Failed::Passing(HubError::Broken {
            file: self.source.label(),
            received: partial.bytes,
            bytes: self.file.bytes,
            reason,
        })
    }

    fn hasher(&self) -> Option<Hasher> {
        self.expected.as_ref().map(|stated| stated.hasher(self.file.bytes))
    }

    fn check(&self, partial: &mut Partial<'_>) -> Result<(), HubError> {
        if partial.bytes != self.file.bytes {
            return Err(self.wrong_size(partial.bytes));
        }
        let (Some(stated), Some(hash)) = (&self.expected, partial.hash.take()) else {
            return Ok(());
        };
        let found = hash.finish();
        match found == stated.hash() {
            true => Ok(()),
            false => Err(HubError::WrongHash {
                file: self.source.label(),
                kind: stated.kind(),
                found,
                expected: stated.hash().into(),
                advice: "the download is damaged and was deleted; run the command again, and if it happens again, check \
                         the connection and HF_ENDPOINT",
            }),
        }
    }

    fn wrong_size(&self, found: u64) -> HubError {
        HubError::WrongSize {
            file: self.source.label(),
            found,
            expected: self.file.bytes,
            advice: "the download is damaged and was deleted; run the command again",
        }
    }
}

impl Partial<'_> {
    fn append(&mut self, block: &[u8]) -> Result<(), HubError> {
        let written = self.file.write_all(block);
        written.map_err(|error| not_writable(self.path, &error))?;
        if let Some(hash) = &mut self.hash {
            hash.update(block);
        }
        self.bytes += block.len() as u64;
        Ok(())
    }

    fn restart(&mut self, hash: Option<Hasher>) -> Result<(), HubError> {
        let emptied = self.file.set_len(0);
        emptied.map_err(|error| not_writable(self.path, &error))?;
        self.hash = hash;
        self.bytes = 0;
        Ok(())
    }
}

/// Whether an answer goes on at byte `from`.
fn continues(response: &Response<Body>, from: u64) -> bool {
    let range = response.headers().get("content-range");
    let start = range
        .and_then(|range| range.to_str().ok())
        .and_then(|range| range.trim().strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    response.status() == StatusCode::PARTIAL_CONTENT && start == Some(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_drips_is_too_slow() {
        let mut pace = Pace::new(Duration::from_secs(10), 0);
        let at = |seconds| pace.since + Duration::from_secs(seconds);
        let [early, first, second, third] = [9, 10, 21, 40].map(at);
        assert!(!pace.is_too_slow(1, early));
        assert!(!pace.is_too_slow(1_000, first));
        assert!(!pace.is_too_slow(1_000_000, second));
        assert!(pace.is_too_slow(1_000_019, third));
        assert!(pace.to_string().contains("100 bytes a second"), "{pace}");
    }
}
