//! Environment variables that are honoured.

use super::{Report, Section};
use crate::{
    config::{Environment, Key, OTHER_VARIABLES, variable},
    files::said::redact,
};

/// Variables of other tools that this program honours too.
const SHARED: &[&str] = &[
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "HF_HUB_DISABLE_PROGRESS_BARS",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "RAYON_NUM_THREADS",
    "RUST_LOG",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "https_proxy",
    "http_proxy",
    "all_proxy",
    "no_proxy",
];
/// Those that hold addresses, which may hold passwords.
const ADDRESSES: &[&str] = &[
    "HF_ENDPOINT",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "https_proxy",
    "http_proxy",
    "all_proxy",
];
/// Settings' variables are shown only when set: there are many.
const NAMED: &[&str] = &[
    "DEEPFORCING_CONFIG",
    "DEEPFORCING_CACHE",
    "DEEPFORCING_LOG",
    "DEEPFORCING_FFMPEG",
];

pub(super) fn examine(environment: &Environment, report: &mut Report) {
    let mut section = Section::new("variables");
    for key in Key::all() {
        let name = variable(key.name);
        if let Some(value) = environment.get(&name) {
            section.row(name.as_str(), shown(&name, &value.to_string_lossy()));
        }
    }
    let own = OTHER_VARIABLES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| NAMED.contains(name));
    for name in own.chain(SHARED.iter().copied()) {
        let value = environment.get(name);
        // The other way to write those above.
        if value.is_none() && name.starts_with(char::is_lowercase) {
            continue;
        }
        section.row(name, value.map(|value| shown(name, &value.to_string_lossy())));
    }
    report.sections.push(section);
}

/// A value without what must stay secret.
fn shown(name: &str, value: &str) -> String {
    if name == "HF_TOKEN" {
        return "set (not shown)".into();
    }
    match ADDRESSES.contains(&name) || value.contains("://") {
        true => redact(value).into_owned(),
        false => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        assert!(!shown("HF_TOKEN", "hf_secret").contains("secret"));
        assert_eq!(
            shown("HTTPS_PROXY", "http://me:sec/ret@host:80/x"),
            "http://…@host:80/x"
        );
        assert_eq!(shown("HTTP_PROXY", "me:secret@host:3128"), "…@host:3128");
        assert_eq!(shown("HF_ENDPOINT", "http://host/secret?x"), "http://host/…");
        assert_eq!(shown("RUST_LOG", "a@b"), "a@b");
        assert_eq!(shown("HF_ENDPOINT", "https://host/path"), "https://host/path");
    }
}
