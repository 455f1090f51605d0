//! What can go wrong between the hub and the cache, and what to do about it.

use std::{path::PathBuf, time::Duration};

/// Bytes as people say them.
pub fn human_bytes(bytes: u64) -> String {
    let value = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.2} GB", value / 1e9),
    }
}

/// An error of the hub or of its cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// No variable tells where the cache is.
    #[error(
        "there is no place for model files: HOME is not set, nor are HF_HUB_CACHE, HF_HOME and XDG_CACHE_HOME; set HF_HOME to \
         a folder that can be written"
    )]
    NoHome,
    /// A variable of the environment holds something that is no value of it.
    #[error("{name} is `{value}`, expected {expected}; correct or unset it")]
    Variable {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    /// A token that no server would take.
    #[error("the Hugging Face token from {origin} holds characters that no token has; replace it")]
    Token { origin: String },
    /// A part of a source that is wrong.
    #[error("`{value}` cannot be the `{part}` of a model file, expected {expected}")]
    Source {
        part: &'static str,
        value: String,
        expected: &'static str,
    },
    /// The user wants no connections.
    #[error("`{file}` is not in the cache, and HF_HUB_OFFLINE is set; unset it to download the file")]
    Offline { file: String },
    /// No connection to the hub.
    #[error("cannot reach {endpoint}: {reason}; check the connection, or set HF_ENDPOINT to a mirror")]
    Unreachable { endpoint: String, reason: String },
    /// No connection through a proxy.
    #[error(
        "cannot reach {endpoint} through the proxy {proxy} (from {variable}): {reason}; check the proxy, unset {variable}, \
         or name the host in NO_PROXY"
    )]
    ProxyUnreachable {
        endpoint: String,
        proxy: String,
        variable: &'static str,
        reason: String,
    },
    /// A certificate of an authority that is not believed, or that is not valid.
    #[error("the certificate of {endpoint} is not trusted: {reason}; {advice}")]
    Untrusted {
        endpoint: String,
        reason: String,
        advice: String,
    },
    /// A file of certificates that cannot be used.
    #[error("cannot use the certificates of `{}` (from {origin}): {reason}; correct or unset the variable", path.display())]
    Certificates {
        path: PathBuf,
        origin: String,
        reason: String,
    },
    /// 401: a repository that does not exist or is private looks the same.
    #[error("the hub says that `{repo}` does not exist, or that it is private; {advice}")]
    Unauthorized { repo: String, advice: String },
    /// The token itself was refused.
    #[error("the hub refuses the token from {origin}: it is wrong or has expired; get a new one or unset it")]
    TokenRefused { origin: String },
    /// A repository whose terms must be accepted first.
    #[error("`{repo}` asks for agreement to its terms: agree at {page}, {advice}")]
    Gated { repo: String, page: String, advice: String },
    #[error("there is no repository `{repo}` on {endpoint}")]
    NoRepo { repo: String, endpoint: String },
    #[error("the repository `{repo}` has no revision `{revision}`")]
    NoRevision { repo: String, revision: String },
    #[error("the repository `{repo}` has no file `{file}` at revision `{revision}`")]
    NoFile {
        repo: String,
        revision: String,
        file: String,
    },
    /// 429 for longer than we wait.
    #[error(
        "{host} asks to wait for {} s before the next request (too many requests); try again later{}", wait.as_secs(),
        if *token { "" } else { ", or set HF_TOKEN: requests with a token have higher limits" }
    )]
    RateLimited { host: String, wait: Duration, token: bool },
    /// Any other answer that is no success.
    #[error("{host} answered {status} for `{file}`; {}", if *status >= 500 { "try again later" } else { "check HF_ENDPOINT" })]
    Status { host: String, status: u16, file: String },
    /// An answer without what the hub always says.
    #[error(
        "the answer of {host} for `{file}` {fault}: it does not behave like the Hugging Face hub; check HF_ENDPOINT"
    )]
    NotTheHub { host: String, file: String, fault: String },
    /// A transfer that breaks again and again.
    #[error(
        "the download of `{file}` broke off at {} of {}: {reason}; run the command again, it goes on from there",
        human_bytes(*received), human_bytes(*bytes)
    )]
    Broken {
        file: String,
        received: u64,
        bytes: u64,
        reason: String,
    },
    /// A file of another size than it should have.
    #[error("`{file}` has {found} bytes, expected {expected}; {advice}")]
    WrongSize {
        file: String,
        found: u64,
        expected: u64,
        advice: &'static str,
    },
    /// A file of other content than it should have.
    #[error("`{file}` has {kind} {found}, expected {expected}; {advice}")]
    WrongHash {
        file: String,
        /// `SHA-256` or `git hash`.
        kind: &'static str,
        found: String,
        expected: String,
        advice: &'static str,
    },
    /// Not enough space, known before the download.
    #[error(
        "the download needs {}, and the disk of `{}` has {} free; free some, or set HF_HOME to a folder on another disk",
        human_bytes(*needed), folder.display(), human_bytes(*free)
    )]
    NoSpace { needed: u64, free: u64, folder: PathBuf },
    /// The disk filled up.
    #[error(
        "the disk of `{}` is full; free some space and run the command again (it goes on from where it stopped), or set \
         HF_HOME to a folder on another disk",
        folder.display()
    )]
    DiskFull { folder: PathBuf },
    /// A cache that cannot be written.
    #[error("cannot write to the cache folder `{}`: {reason}; set HF_HOME to a folder that can be written", path.display())]
    NotWritable { path: PathBuf, reason: String },
    #[error("cannot read `{}`: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// A file that is not there.
    #[error("`{file}` is not in the cache")]
    NotCached { file: String },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl HubError {
    /// Whether the cause is that nobody answers, or that nobody may be asked.
    pub fn is_offline(&self) -> bool {
        matches!(
            self,
            Self::Offline { .. } | Self::Unreachable { .. } | Self::ProxyUnreachable { .. }
        )
    }
}
