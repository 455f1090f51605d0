//! SHA-256 of files, computed once per file.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files;

/// Bytes read at once.
const BLOCK: usize = 1 << 20;
/// Most bytes of a remembered hash.
const LONGEST_NOTE: u64 = 1 << 20;

/// SHA-256 of a file in hexadecimal, by reading all of it.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = files::open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK];
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(hexadecimal(&hash.finalize())),
            Ok(count) => hash.update(&block[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The hash by which the hub's cache names a file, if it is in such a cache and large enough to be named so.
pub fn blob_name(path: &Path) -> Option<String> {
    let blob = fs::canonicalize(path).ok()?;
    let name = blob.file_name()?.to_str()?.to_string();
    let in_blobs = blob.parent()?.file_name()? == "blobs";
    (in_blobs && is_sha256(&name)).then_some(name)
}

/// Hashes of files, remembered by path, size and time of change.
#[derive(Debug, Clone)]
pub struct FileHashes {
    /// Where they are remembered; without it each file is read every time.
    memory: Option<PathBuf>,
}

/// A remembered hash.
#[derive(Serialize, Deserialize, PartialEq)]
struct Remembered {
    path: PathBuf,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u128,
    sha256: String,
}

impl FileHashes {
    /// Hashes remembered below `cache` (see [`crate::models::cache_dir::cache_dir`]). A folder that cannot be written costs
    /// time only.
    pub fn new(cache: Option<&Path>) -> Self {
        Self {
            memory: cache.map(|cache| cache.join("hashes")),
        }
    }

    /// SHA-256 of a file: from the name of its blob in the hub's cache, from memory, or by reading it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sha256(&self, path: &Path) -> io::Result<String> {
        if let Some(hash) = blob_name(path) {
            return Ok(hash);
        }
        let path = fs::canonicalize(path)?;
        let metadata = fs::metadata(&path)?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut entry = Remembered {
            bytes: metadata.len(),
            modified: modified.as_nanos(),
            sha256: String::new(),
            path,
        };
        let note = self.note_of(&entry.path);
        if let Some(hash) = note.as_deref().and_then(|note| recall(note, &entry)) {
            return Ok(hash);
        }
        entry.sha256 = sha256(&entry.path)?;
        if let Some(note) = note {
            remember(&note, &entry);
        }
        Ok(entry.sha256)
    }

    fn note_of(&self, path: &Path) -> Option<PathBuf> {
        let name = hexadecimal(&Sha256::digest(path.as_os_str().as_encoded_bytes()));
        Some(self.memory.as_ref()?.join(format!("{name}.json")))
    }
}

fn recall(note: &Path, entry: &Remembered) -> Option<String> {
    let known: Remembered = serde_json::from_slice(&files::read(note, LONGEST_NOTE).ok()?).ok()?;
    let same = (&known.path, known.bytes, known.modified) == (&entry.path, entry.bytes, entry.modified);
    (same && is_sha256(&known.sha256)).then_some(known.sha256)
}

/// A note that cannot be written is no harm.
fn remember(note: &Path, entry: &Remembered) {
    let write = || -> io::Result<()> {
        let folder = note.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder)?;
        // Renamed into place: another process may read it at this moment.
        let draft = note.with_extension(format!("{}.draft", std::process::id()));
        files::write(&draft, &serde_json::to_vec(entry)?)?;
        fs::rename(&draft, note)
    };
    if let Err(error) = write() {
        tracing::debug!("cannot remember the hash of `{}`: {error}", entry.path.display());
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text is a SHA-256 as the hub writes it.
pub(crate) fn is_sha256(text: &str) -> bool {
    is_lower_hex(text, 64)
}

/// Whether a text is a number of so many digits in lower-case hexadecimal.
pub(crate) fn is_lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn notes(cache: &Path) -> Vec<PathBuf> {
        let notes = fs::read_dir(cache.join("hashes")).into_iter().flatten();
        notes.map(|note| note.unwrap().path()).collect()
    }

    #[test]
    fn a_hash_is_remembered_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (file, cache) = (folder.path().join("file"), folder.path().join("cache"));
        fs::write(&file, "abc").unwrap();
        let hashes = FileHashes::new(Some(&cache));
        assert_eq!(hashes.sha256(&file).unwrap(), ABC);

        // A note that was changed by hand shows that it is the one that counts.
        let [note] = notes(&cache).try_into().unwrap();
        let other = ABC.replace('b', "c");
        fs::write(&note, fs::read_to_string(&note).unwrap().replace(ABC, &other)).unwrap();
        assert_eq!(hashes.sha256(&file).unwrap(), other);

        fs::write(&file, "abcd").unwrap();
        assert_eq!(hashes.sha256(&file).unwrap(), sha256(&file).unwrap());

        fs::write(&note, "no JSON").unwrap();
        assert_eq!(hashes.sha256(&file).unwrap(), sha256(&file).unwrap());
    }

    #[test]
    fn a_cache_that_cannot_be_written_costs_time_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "abc").unwrap();
        // A file where a folder should be.
        assert_eq!(FileHashes::new(Some(&file)).sha256(&file).unwrap(), ABC);
        assert_eq!(FileHashes::new(None).sha256(&file).unwrap(), ABC);
    }

    #[test]
    #[cfg(unix)]
    fn a_blob_of_the_hub_is_named_by_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let (blobs, link) = (folder.path().join("blobs"), folder.path().join("model.pt"));
        fs::create_dir(&blobs).unwrap();
        fs::write(blobs.join(ABC), "something else").unwrap();
        std::os::unix::fs::symlink(blobs.join(ABC), &link).unwrap();
        assert_eq!(blob_name(&link).as_deref(), Some(ABC));
        assert_eq!(FileHashes::new(None).sha256(&link).unwrap(), ABC);
        assert_ne!(sha256(&link).unwrap(), ABC);
        fs::write(folder.path().join(ABC), "not in a cache").unwrap();
        assert_eq!(blob_name(&folder.path().join(ABC)), None);
    }
}
