//! What the hub or a preset states of a file's content, and whether it is so.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::file_hash::{hexadecimal, is_lower_hex, is_sha256};

/// A hash that a content must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stated {
    /// Of large files.
    Sha256(String),
    /// Of small ones: git's SHA-1 of `blob`, the length, a zero byte and the content.
    Git(String),
}

impl Stated {
    /// The hash that an etag is, if it is one.
    pub(super) fn of_etag(etag: &str) -> Option<Self> {
        match etag {
            etag if is_sha256(etag) => Some(Self::Sha256(etag.into())),
            etag if is_lower_hex(etag, 40) => Some(Self::Git(etag.into())),
            _ => None,
        }
    }

    /// What messages call it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::Git(_) => "git hash",
        }
    }

    pub(super) fn hash(&self) -> &str {
        match self {
            Self::Sha256(hash) | Self::Git(hash) => hash,
        }
    }

    /// Begins to hash a content of `bytes` bytes.
    pub(super) fn hasher(&self, bytes: u64) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Self::Git(_) => {
                let mut hash = Sha1::new();
                hash.update(format!("blob {bytes}\0"));
                Hasher::Git(hash)
            }
        }
    }
}

/// The hash of what came so far.
pub(super) enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
        }
    }

    /// In hexadecimal.
    pub(super) fn finish(self) -> String {
        match self {
            Self::Sha256(hash) => hexadecimal(&hash.finalize()),
            Self::Git(hash) => hexadecimal(&hash.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_sha256sum() {
        // `printf abc | git hash-object --stdin`, `printf abc | sha256sum`.
        let git = "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f";
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for etag in [git, sha256] {
            let stated = Stated::of_etag(etag).unwrap();
            let mut hash = stated.hasher(3);
            hash.update(b"a");
            hash.update(b"bc");
            assert_eq!((hash.finish().as_str(), stated.hash()), (etag, etag));
        }
        for etag in ["abc", "", &git.to_uppercase(), &git[..39]] {
            assert_eq!(Stated::of_etag(etag), None);
        }
    }
}
