//! The cache's parameters as settings; [`Parameter::ALL`] says which there are.

use serde_json::json;

use super::{
    Layer, Origin, Source,
    settings::{Entry, Key, range},
    value::{Notation, unknown_word},
};
use crate::cache::{CacheChanges, CacheSettings, Parameter, parameters::Kind};

/// The cache's parameters with their values and origins.
#[derive(Debug, Clone, PartialEq)]
pub struct SettedCache {
    pub value: CacheSettings,
    /// What flags, variables and config file give, not a preset.
    pub given: CacheChanges,
    /// In the order of [`Parameter::ALL`].
    origins: Vec<Origin>,
}

impl SettedCache {
    pub(super) fn resolve(layers: &[(Layer, Source)]) -> Self {
        let mut resolved = Self {
            value: CacheSettings::default(),
            given: CacheChanges::default(),
            origins: vec![Origin::Default; Parameter::ALL.len()],
        };
        let chosen = layers.iter().find_map(|(layer, _)| layer.cache.policy);
        // The strongest comes last.
        for (layer, source) in layers.iter().rev() {
            resolved.value = layer.cache.over(&resolved.value);
            if !matches!(source, Source::Preset { .. }) {
                resolved.given = layer.cache.or(&resolved.given);
            }
            for (parameter, origin) in Parameter::ALL.iter().zip(&mut resolved.origins) {
                if layer.cache.gives(parameter) {
                    *origin = source.origin(&key(parameter));
                }
            }
            // The sizes of a preset are meant for its own policy.
            if let (Source::Preset { .. }, Some(policy)) =
                (source, chosen.filter(|policy| *policy != resolved.value.policy))
            {
                let released = policy.released();
                resolved.value = released.over(&resolved.value);
                for (parameter, origin) in Parameter::ALL.iter().zip(&mut resolved.origins) {
                    if released.gives(parameter) {
                        *origin = Origin::Default;
                    }
                }
            }
        }
        resolved
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let values = json!(self.value);
        let entry = move |(parameter, origin): (&'static Parameter, &Origin)| Entry {
            key: parameter.key,
            value: values.get(parameter.name).cloned(),
            text: Some(parameter.text(&self.value)),
            origin: origin.clone(),
        };
        Parameter::ALL.iter().zip(&self.origins).map(entry)
    }
}

fn key(parameter: &Parameter) -> Key {
    Key {
        name: parameter.key,
        about: parameter.about,
        range: range(&[]),
    }
}

pub(super) fn keys() -> impl Iterator<Item = Key> {
    Parameter::ALL.iter().map(key)
}

/// Sets a parameter from text.
///
/// # Errors
/// What was expected instead of the text.
pub(super) fn read(changes: &mut CacheChanges, parameter: &Parameter, text: &str) -> Result<(), String> {
    let read = changes.read(parameter, text);
    read.map_err(|reason| hinted(parameter, text, reason))
}

/// A value as it is written everywhere.
///
/// # Errors
/// What was expected instead of the text.
pub(super) fn normal(parameter: &Parameter, text: &str) -> Result<String, String> {
    parameter.normal(text).map_err(|reason| hinted(parameter, text, reason))
}

/// What was expected, with the nearest name.
fn hinted(parameter: &Parameter, text: &str, reason: String) -> String {
    match parameter.kind {
        Kind::Word { names, .. } => unknown_word(text, names),
        Kind::Number { .. } | Kind::Share | Kind::File | Kind::Text { .. } => reason,
    }
}

/// How a parameter is written in TOML.
pub(super) fn notation(parameter: &Parameter) -> Notation {
    match parameter.kind {
        Kind::Word { .. } | Kind::File | Kind::Text { .. } => Notation::Text,
        Kind::Number { .. } | Kind::Share => Notation::Number,
    }
}
