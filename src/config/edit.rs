//! Changes of the config file that leave everything else in it as it is, comments too.

use std::{fs, io};

use toml_edit::{Array, DocumentMut, Formatted, Item, Table, Value};

use super::{ConfigError, ConfigFile, Key, Layer, Settings, file::parse, value::Notation};
use crate::text::nearest::hint;

impl ConfigFile {
    /// Sets a setting in the file, which is made if need be. Gives the value as the setting writes it.
    ///
    /// # Errors
    /// When there is no such setting, it does not accept the value, or the file cannot be read or written.
    pub fn set(&self, name: &str, value: &str) -> Result<String, ConfigError> {
        let key = setting(name)?;
        let text = key.normal(value).map_err(|reason| ConfigError::Value {
            place: format!("`{}`", key.name),
            value: value.into(),
            reason,
        })?;
        let mut document = self.document()?;
        let (table, last) = match key.name.split_once('.') {
            Some((group, last)) => (group_of(&mut document, group), last),
            None => (Some(document.as_table_mut() as &mut dyn toml_edit::TableLike), key.name),
        };
        let Some(table) = table else {
            return Err(self.syntax(format!("`{}` is set to something that is no table", key.name)));
        };
        let value = written(key, &text).ok_or_else(|| ConfigError::Value {
            place: format!("`{}`", key.name),
            value: text.clone(),
            reason: format!(
                "a config file takes numbers up to {}; use the flag or the variable",
                i64::MAX
            ),
        })?;
        match table.get_mut(last) {
            // What stands beside the value stays beside it.
            Some(Item::Value(old)) => {
                let decor = old.decor().clone();
                *old = value;
                *old.decor_mut() = decor;
            }
            _ => drop(table.insert(last, Item::Value(value))),
        }
        self.write(&document.to_string())?;
        Ok(text)
    }

    /// Takes a setting out of the file. Gives whether it was there.
    ///
    /// # Errors
    /// When there is no such setting, or the file cannot be read or written.
    pub fn unset(&self, name: &str) -> Result<bool, ConfigError> {
        let key = setting(name)?;
        let mut document = self.document()?;
        let removed = match key.name.split_once('.') {
            Some((group, last)) => {
                let group = document.get_mut(group).and_then(Item::as_table_like_mut);
                group.and_then(|group| group.remove(last))
            }
            None => document.remove(key.name),
        };
        if removed.is_none() {
            return Ok(false);
        }
        self.write(&document.to_string())?;
        Ok(true)
    }

    /// Writes a file in which every setting stands as a comment, with what it means and its built-in default.
    ///
    /// # Errors
    /// When the file is there, or cannot be written.
    pub fn init(&self) -> Result<(), ConfigError> {
        if self.path.exists() {
            return Err(ConfigError::Exists {
                path: self.path.clone(),
            });
        }
        self.write(&template())
    }

    fn document(&self) -> Result<DocumentMut, ConfigError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => {
                return Err(ConfigError::Read {
                    path: self.path.clone(),
                    named: self.named,
                    source,
                });
            }
        };
        // The same complaints as of a run, rather than those of another reader.
        parse(&self.path, &text)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        text.parse()
            .map_err(|error: toml_edit::TomlError| self.syntax(error.message().into()))
    }

    fn syntax(&self, reason: String) -> ConfigError {
        ConfigError::Syntax {
            path: self.path.clone(),
            line: 1,
            reason,
        }
    }

    /// Replaces the file at once: a kill leaves the old or the new one.
    fn write(&self, text: &str) -> Result<(), ConfigError> {
        let write = || -> io::Result<()> {
            // Of a file that is linked elsewhere, the other end is replaced.
            let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let draft = path.with_extension(format!("{}.draft", std::process::id()));
            let placed = fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path));
            if placed.is_err() {
                fs::remove_file(&draft).ok();
            }
            placed
        };
        write().map_err(|source| ConfigError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

fn setting(name: &str) -> Result<&'static Key, ConfigError> {
    let dashed = name.trim().trim_start_matches("--").replace('_', "-").to_lowercase();
    Key::find(&dashed).ok_or_else(|| {
        let names = || Key::all().iter().map(|key| key.name);
        // A setting without its table is nearer than any slip.
        let moved = names().find(|known| known.rsplit('.').next() == Some(&dashed));
        ConfigError::NoSetting {
            name: name.into(),
            hint: match moved {
                Some(near) => format!("; did you mean `{near}`?"),
                None => hint(&dashed, names()),
            },
        }
    })
}

fn group_of<'a>(document: &'a mut DocumentMut, group: &str) -> Option<&'a mut dyn toml_edit::TableLike> {
    let item = document.entry(group).or_insert_with(|| Item::Table(Table::new()));
    item.as_table_like_mut()
}

/// A value in TOML, from the text that the setting writes; none for a number that TOML does not have.
fn written(key: &Key, text: &str) -> Option<Value> {
    let number = |text: &str| match text.parse::<i64>() {
        Ok(whole) => Some(Value::from(whole)),
        Err(_) if text.contains('.') => text.parse::<f64>().ok().map(Value::from),
        Err(_) => None,
    };
    match Layer::notation(key) {
        Notation::Number => number(text),
        Notation::List => {
            let items = text.split(',').map(|item| number(item.trim()));
            Some(Value::Array(items.collect::<Option<Array>>()?))
        }
        Notation::Texts => Some(Value::Array(
            text.split(',').map(|item| item.trim().to_owned()).collect(),
        )),
        Notation::Text | Notation::Choice => Some(Value::String(Formatted::new(text.into()))),
    }
}

/// Every setting as a comment.
fn template() -> String {
    let settings = Settings::resolve(&[]);
    let mut text = String::from(
        "# Settings of deepforcing. Take the # away before a setting to change it: what is set here comes before the\n\
         # preset of a model. `deepforcing config show` prints what holds and why.\n",
    );
    let entries = settings.entries();
    let parts = |key: &'static Key| key.name.split_once('.').unwrap_or(("", key.name));
    let mut groups: Vec<&str> = Vec::new();
    // Those of no group come first: behind a header they would belong to its group.
    for group in [""].into_iter().chain(Key::all().iter().map(|key| parts(key).0)) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    for group in groups {
        if !group.is_empty() {
            text.push_str(&format!("\n[{group}]\n"));
        }
        for key in Key::all().iter().filter(|key| parts(key).0 == group) {
            let entry = entries.iter().find(|entry| entry.key == key.name);
            let value = entry.and_then(|entry| written(key, entry.text.as_deref()?));
            let value = value.map_or_else(String::new, |value| value.to_string());
            text.push_str(&format!("\n# {}\n# {} = {value}\n", key.about, parts(key).1));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn reads(text: &str) -> Result<(), ConfigError> {
        parse(Path::new("config.toml"), text).map(drop)
    }

    fn file(folder: &Path, text: &str) -> ConfigFile {
        let path = folder.join("deep/er/config.toml");
        if !text.is_empty() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        }
        ConfigFile { path, named: false }
    }

    fn text(file: &ConfigFile) -> String {
        fs::read_to_string(&file.path).unwrap()
    }

    #[test]
    fn a_setting_changes_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let before = "# mine\nseed = 7 # lucky\n\n[cache] # of frames\nsink = 4\n";
        let file = file(folder.path(), before);
        assert_eq!(file.set("seed", "008").unwrap(), "8");
        assert_eq!(file.set("cache.sink", "14").unwrap(), "14");
        assert_eq!(file.set("--cache.reuse_limit", "0").unwrap(), "0");
        file.set("sampler.steps", "1000,500").unwrap();
        file.set("size", "96x96").unwrap();
        file.set("sampler.shift", "2.5").unwrap();
        let now = text(&file);
        assert!(
            now.starts_with(
                "# mine\nseed = 8 # lucky\nsize = \"96x96\"\n\n[cache] # of frames\nsink = 14\nreuse-limit = 0\n"
            ),
            "{now}"
        );
        assert!(now.ends_with("[sampler]\nsteps = [1000, 500]\nshift = 2.5\n"), "{now}");
        reads(&now).unwrap();
        assert!(file.unset("cache.sink").unwrap() && !file.unset("cache.sink").unwrap());
        assert!(file.unset("seed").unwrap());
        assert!(
            !text(&file).contains("sink") && !text(&file).contains("seed"),
            "{}",
            text(&file)
        );
    }

    #[test]
    fn every_setting_can_be_set_in_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path(), "");
        for entry in Settings::resolve(&[]).entries() {
            let value = entry.text.unwrap_or_else(|| match entry.key {
                "threads" => "2".into(),
                "max-vram" => "12GB".into(),
                "recache-sink" => "renew".into(),
                _ => "toy".into(),
            });
            assert_eq!(file.set(entry.key, &value).unwrap(), value, "{}", entry.key);
            reads(&text(&file)).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_set_is_refused_and_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path(), "seed = 7\n");
        for (name, value, says) in [
            ("sink", "3", "did you mean `cache.sink`?"),
            ("secnods", "3", "did you mean `seconds`?"),
            ("seed", "seven", "expected a whole number"),
            ("cache.policy", "deepsink", "did you mean `deep-sink`?"),
            ("seed", "18446744073709551615", "use the flag or the variable"),
        ] {
            let said = file.set(name, value).unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
        assert_eq!(text(&file), "seed = 7\n");
        fs::write(&file.path, "seed = \n").unwrap();
        assert!(file.set("fps", "8").unwrap_err().to_string().contains("is not TOML"));
    }

    #[test]
    fn a_new_file_has_every_setting_as_a_comment() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path(), "");
        file.init().unwrap();
        let written = text(&file);
        reads(&written).unwrap();
        let live = written
            .replace("\n# ", "\n")
            .lines()
            .filter(|line| line.contains(" = "))
            .count();
        assert_eq!(live, Key::all().len(), "{written}");
        assert!(
            written.contains("\n[cache]\n") && written.contains("# sink = 10\n"),
            "{written}"
        );
        assert!(file.init().unwrap_err().to_string().contains("exists already"));
        file.set("cache.sink", "3").unwrap();
        assert!(text(&file).contains("# sink = 10\n") && text(&file).contains("\nsink = 3\n"));
    }
}
