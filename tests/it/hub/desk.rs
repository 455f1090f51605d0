//! A server, a cache, and the library between them.

use std::{ffi::OsString, fs, path::PathBuf};

use deepforcing::hub::{Hub, HubError, HubSettings, Source};
use tempfile::TempDir;

use crate::hub::server::{REPO, Server, noise, sha256};

pub const LARGE: &str = "folder/model.pt";
pub const SMALL: &str = "config.json";

/// A server with a large and a small file, and a cache.
pub struct Desk {
    pub server: Server,
    pub cache: TempDir,
    pub content: Vec<u8>,
}

impl Desk {
    pub fn new() -> Self {
        let (server, content) = (Server::start(), noise(1_000_000));
        server.large(LARGE, &content);
        server.small(SMALL, b"{}");
        Self {
            server,
            cache: tempfile::tempdir().unwrap(),
            content,
        }
    }

    pub fn hub_with(&self, more: &[(&str, &str)]) -> Hub {
        let settings = HubSettings::from_env(|name| {
            let set = more
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value));
            set.or_else(|| match name {
                "HF_ENDPOINT" => Some(self.server.endpoint().into()),
                "HF_HUB_CACHE" => Some(self.cache.path().into()),
                "HF_HUB_DOWNLOAD_TIMEOUT" => Some("5".into()),
                _ => None,
            })
        });
        Hub::new(settings.unwrap()).unwrap().with_retries(2)
    }

    pub fn hub(&self) -> Hub {
        self.hub_with(&[])
    }

    pub fn pull(&self, source: &Source) -> Result<PathBuf, HubError> {
        pull(&self.hub(), source)
    }

    pub fn repo(&self) -> PathBuf {
        self.cache.path().join("models--org--model")
    }

    pub fn partial(&self) -> PathBuf {
        self.repo()
            .join("blobs")
            .join(format!("{}.incomplete", sha256(&self.content)))
    }

    pub fn blobs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.repo().join("blobs")).into_iter().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub fn source(file: &str) -> Source {
    Source {
        repo: REPO.into(),
        file: file.into(),
        revision: "main".into(),
        bytes: None,
        sha256: None,
    }
}

pub fn pull(hub: &Hub, source: &Source) -> Result<PathBuf, HubError> {
    hub.pull(source, &mut |_| {}, &|| false)
}
