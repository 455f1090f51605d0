//! The config file: where it is and what it says.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Environment, Key, Layer, value::Notation};
use crate::{files, text::nearest::nearest};

/// Where a config file is or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    pub path: PathBuf,
    /// Whether `DEEPFORCING_CONFIG` names it: then it must be there.
    pub named: bool,
}

/// The line in which each setting stands.
type Lines = BTreeMap<&'static str, usize>;

impl ConfigFile {
    /// `DEEPFORCING_CONFIG`, or `deepforcing/config.toml` in `XDG_CONFIG_HOME` or `~/.config`; `None` without a home.
    ///
    /// # Errors
    /// When `DEEPFORCING_CONFIG` is not UTF-8.
    pub fn locate(environment: &Environment) -> Result<Option<Self>, ConfigError> {
        if let Some(path) = environment.text("DEEPFORCING_CONFIG")? {
            let path = PathBuf::from(path);
            return Ok(Some(Self { path, named: true }));
        }
        let folder = |name: &str| environment.get(name).map(PathBuf::from);
        // The XDG rules say that a relative path there is to be ignored.
        let xdg = folder("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let config = xdg
            .or_else(|| folder("HOME").map(|home| home.join(".config")))
            .or_else(|| etcetera::choose_base_strategy().ok().map(|base| base.config_dir()));
        Ok(config.map(|config| Self {
            path: config.join("deepforcing").join("config.toml"),
            named: false,
        }))
    }

    /// What the file says; `None` when it is not there and nobody named it.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown key or a value that its setting does not accept.
    pub(super) fn read(&self) -> Result<Option<(Layer, Lines)>, ConfigError> {
        let absent = |error: &std::io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        match files::read_settings(&self.path) {
            Ok(text) => parse(&self.path, &text).map(Some),
            Err(error) if absent(&error) && !self.named => Ok(None),
            Err(source) => Err(ConfigError::Read {
                path: self.path.clone(),
                named: self.named,
                source,
            }),
        }
    }
}

/// The settings of a TOML text, and their lines.
pub(super) fn parse(path: &Path, text: &str) -> Result<(Layer, Lines), ConfigError> {
    // A byte order mark, as Windows editors write it, is no setting.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line_of = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.into(),
        line: line_of(error.span().map_or(0, |span| span.start)),
        reason: error.message().into(),
    })?;
    let (mut layer, mut lines) = (Layer::default(), Lines::new());
    for (name, at, value) in flat(table.get_ref()) {
        let line = line_of(at);
        let Some(key) = Key::find(&name) else {
            return Err(unknown(path, line, name));
        };
        let written = written(value);
        let set = match Layer::notation(key).text_of(value) {
            Some(text) => layer.set(key, &text),
            None => Err(format!("expected {}", Layer::notation(key).expected())),
        };
        set.map_err(|reason| ConfigError::Value {
            place: format!("`{}` in `{}:{line}`", key.name, path.display()),
            value: written,
            reason,
        })?;
        lines.insert(key.name, line);
    }
    Ok((layer, lines))
}

/// Keys with the names of their tables before them, where they stand, and values; tables that are no group of settings
/// come out as they are.
fn flat<'a>(table: &'a DeTable<'a>) -> Vec<(String, usize, &'a DeValue<'a>)> {
    let mut entries = Vec::new();
    for (key, value) in table {
        let name = key.get_ref().to_string();
        let group = format!("{name}.");
        let is_group = Key::all().iter().any(|key| key.name.starts_with(&group));
        match value.get_ref() {
            DeValue::Table(inner) if is_group => {
                let inner = inner.iter().map(|(inner_key, value)| {
                    (
                        format!("{group}{}", inner_key.get_ref()),
                        inner_key.span().start,
                        value.get_ref(),
                    )
                });
                entries.extend(inner);
            }
            other => entries.push((name, key.span().start, other)),
        }
    }
    // The first mistake in the file is the first that is told.
    entries.sort_by_key(|(_, at, _)| *at);
    entries
}

fn unknown(path: &Path, line: usize, key: String) -> ConfigError {
    let names = || Key::all().iter().map(|key| key.name);
    // A setting in the wrong table is nearer than any slip.
    let last = key.rsplit('.').next().unwrap_or(&key);
    let moved = names().find(|name| name.rsplit('.').next() == Some(last));
    let hint = match moved.or_else(|| nearest(&key, names())) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; known are {}", names().collect::<Vec<_>>().join(", ")),
    };
    let path = path.into();
    ConfigError::UnknownKey { path, line, key, hint }
}

impl Notation {
    /// The text that a TOML value stands for, when it is written in this way.
    fn text_of(self, value: &DeValue<'_>) -> Option<String> {
        match (self, value) {
            (Self::Text | Self::Choice | Self::List | Self::Texts, DeValue::String(text)) => Some(text.to_string()),
            (Self::Texts, DeValue::Array(items)) => {
                let items = items.iter().map(|item| Self::Text.text_of(item.get_ref()));
                items.collect::<Option<Vec<_>>>().map(|items| items.join(","))
            }
            (Self::Number, DeValue::Integer(_) | DeValue::Float(_)) => Some(written(value)),
            (Self::Choice, DeValue::Boolean(choice)) => Some(choice.to_string()),
            (Self::List, DeValue::Array(items)) => {
                let items = items.iter().map(|item| Self::Number.text_of(item.get_ref()));
                items.collect::<Option<Vec<_>>>().map(|items| items.join(","))
            }
            _ => None,
        }
    }
}

/// A value as it stands in the file, or what kind of thing it is.
fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().into(),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => number.to_string(),
        },
        DeValue::Float(number) => number.as_str().into(),
        DeValue::Boolean(choice) => choice.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| written(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(_) => "a table".into(),
    }
}
