//! Settings from environment variables.

use std::{collections::BTreeMap, ffi::OsString};

use super::{ConfigError, Key, Layer};
use crate::text::nearest::nearest;

/// How variables of this program begin.
const PREFIX: &str = "DEEPFORCING_";

/// Variables of this program that are no settings, with what they do.
pub const OTHER_VARIABLES: &[(&str, &str)] = &[
    ("DEEPFORCING_CONFIG", "config file to read instead of the usual one"),
    (
        "DEEPFORCING_CACHE",
        "folder for derived files: the unpacked toy model, hashes of model files",
    ),
    (
        "DEEPFORCING_LOG",
        "what is logged to stderr, for example `deepforcing=debug`",
    ),
    (
        "DEEPFORCING_FFMPEG",
        "program ffmpeg that encodes and reads videos, in place of FFmpeg's libraries",
    ),
    ("DEEPFORCING_GOLDEN", "folder of reference cases of the tests"),
    ("DEEPFORCING_TEST_DEVICE", "device of the tests against reference cases"),
    ("DEEPFORCING_TEST_DTYPE", "number format of these tests"),
];

/// The variable of a setting: `cache.reuse-limit` is `DEEPFORCING_CACHE_REUSE_LIMIT`.
pub fn variable(key: &str) -> String {
    let upper = key.to_ascii_uppercase().replace(['.', '-'], "_");
    format!("{PREFIX}{upper}")
}

/// Environment variables, of the process or of a test.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// A variable; one that is empty counts as absent.
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.0.get(&OsString::from(name)).filter(|value| !value.is_empty())
    }

    /// A variable as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        let text = self.get(name).map(|value| {
            let not_utf8 = || ConfigError::NotUtf8 { name: name.into() };
            value.to_str().ok_or_else(not_utf8)
        });
        text.transpose()
    }

    /// The settings among the variables, and warnings about those that look like settings and are none.
    ///
    /// # Errors
    /// The first value that its setting does not accept.
    pub(super) fn layer(&self) -> Result<(Layer, Vec<String>), ConfigError> {
        let mut layer = Layer::default();
        for key in Key::all() {
            let name = variable(key.name);
            let Some(text) = self.text(&name)? else { continue };
            layer.set(key, text).map_err(|reason| ConfigError::Value {
                place: name,
                value: text.into(),
                reason,
            })?;
        }
        Ok((layer, self.unknown()))
    }

    fn unknown(&self) -> Vec<String> {
        let settings: Vec<String> = Key::all().iter().map(|key| variable(key.name)).collect();
        let others = OTHER_VARIABLES.iter().map(|(name, _)| *name);
        let known: Vec<&str> = settings.iter().map(String::as_str).chain(others).collect();
        let names = self.0.keys().map(|name| name.to_string_lossy());
        names
            .filter(|name| name.starts_with(PREFIX) && !known.contains(&name.as_ref()))
            .map(|name| {
                // Compared without what all have in common, which would make everything near.
                let word = name.trim_start_matches(PREFIX);
                let mut words = known.iter().map(|known| known.trim_start_matches(PREFIX));
                // `POLICY` for `CACHE_POLICY`: the section was forgotten.
                let near =
                    nearest(word, words.clone()).or_else(|| words.find(|known| known.ends_with(&format!("_{word}"))));
                let hint = near.map(|near| format!("; did you mean `{PREFIX}{near}`?"));
                format!("the variable `{name}` means nothing here{}", hint.unwrap_or_default())
            })
            .collect()
    }
}
