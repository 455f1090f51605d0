//! Presets that say only in what they differ from another one: `base = "self-forcing"`.
//!
//! A base is the name of an embedded preset or of what some have in common, or a TOML file beside the one that names it.
//! Values are taken key by key, `[cache] sink` from here and `[cache] window` from there; but a file's source is taken
//! whole, for a size and a hash are of no use to another file.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{Spanned, Table, Value};

use super::{
    preset::Preset,
    published::{FileNames, Sources},
};
use crate::{
    Error, Result,
    cache::{CacheSettings, RecacheSink},
    files,
    prompts::actions::Controls,
    rollout::sampler::SamplerSettings,
    rollout::{RolloutDefaults, SwitchRule},
    text::nearest,
};

/// Presets in a row, each the base of the one before it.
const LONGEST: usize = 8;

/// Loads a preset with its bases; see [`Preset::load`]. `foreign`: it may be somebody else's, who may name files beside
/// it and no others.
pub(super) fn load(name_or_file: &str, foreign: bool) -> Result<Preset> {
    let own = Link::open(name_or_file)?;
    let mut bases: Vec<Link> = Vec::new();
    loop {
        let last = bases.last().unwrap_or(&own);
        let Some(base) = &last.draft.base else { break };
        if foreign && Preset::embedded_base(base.get_ref()).is_none() && !files::is_single_name(base.get_ref()) {
            return Err(last.wrong(base, "a base of a preset in a model's folder must be beside it"));
        }
        let next = last.base(base)?;
        if let Some(reason) = endless(&own, &bases, &next) {
            return Err(last.wrong(base, &reason));
        }
        bases.push(next);
    }
    let preset = if bases.is_empty() {
        alone(&own)?
    } else {
        merged(&own, &bases)?
    };
    // A preset may be somebody else's; its names are those of files in a model's folder.
    if let Some(name) = preset.files.all().find(|name| !files::is_inside(name)) {
        return Err(own.config(format!("`{name}` is no name of a file in the model's folder")));
    }
    for (role, source) in preset.sources.iter().flat_map(Sources::all) {
        source.check().map_err(|error| own.config(error))?;
        if role.is_named_by_presets() && !preset.files.names_a(role) {
            let reason = format!(
                "[sources.{role}] says where {} is published, and [files] not what it is called in a folder; add \
                 `{role} = [\"{}\"]` to [files]",
                role.words(),
                source.file
            );
            return Err(own.config(reason));
        }
    }
    Ok(preset)
}

/// Why a chain of bases cannot go on with `next`: it has no end, or too late a one.
fn endless(own: &Link, bases: &[Link], next: &Link) -> Option<String> {
    let chain = || std::iter::once(own).chain(bases);
    let is_circle = chain().any(|known| known.place == next.place);
    if !is_circle && bases.len() + 1 < LONGEST {
        return None;
    }
    let names: Vec<&str> = chain().chain([next]).map(|link| link.name.as_str()).collect();
    let names = names.join(" → ");
    Some(if is_circle {
        format!("its base leads in a circle ({names}); leave out one `base`")
    } else {
        format!("more than {LONGEST} presets are based on each other ({names}); base the first on a later one")
    })
}

/// What a preset file may say. It need not say everything, having a base; what it says is checked here, where the line
/// is known.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(dead_code)]
struct Draft {
    base: Option<Spanned<String>>,
    description: Option<String>,
    on_switch: Option<SwitchRule>,
    recache_sink: Option<RecacheSink>,
    controls: Option<Controls>,
    files: Option<FileNames>,
    sources: Option<Sources>,
    video: Option<VideoDraft>,
    rollout: Option<RolloutDefaults>,
    sampler: Option<SamplerSettings>,
    cache: Option<CacheSettings>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(dead_code)]
struct VideoDraft {
    width: Option<usize>,
    height: Option<usize>,
    fps: Option<u32>,
}

/// Where a preset is from, to tell whether two are the same.
#[derive(PartialEq)]
enum Place {
    Embedded(String),
    /// Without links and `..` where the system can tell.
    File(PathBuf),
}

/// One preset of a chain, as it stands in its file.
struct Link {
    /// For people: its name, or its path as it was reached.
    name: String,
    place: Place,
    text: Cow<'static, str>,
    draft: Draft,
}

impl Link {
    /// A preset by name or path.
    fn open(name_or_file: &str) -> Result<Self> {
        let path = Path::new(name_or_file);
        match Preset::embedded(name_or_file) {
            Some(text) => Self::embedded(name_or_file, text),
            None if is_toml(path) => Self::file(path).map_err(|error| Error::config(path, error))?,
            None => Err(Error::UnknownPreset {
                name: name_or_file.into(),
                known: Preset::names().join(", "),
            }),
        }
    }

    fn embedded(name: &str, text: &'static str) -> Result<Self> {
        Self::parse(name.into(), Place::Embedded(name.into()), text.into())
    }

    /// The outer error is that of the disk.
    fn file(path: &Path) -> std::io::Result<Result<Self>> {
        let text = files::read_settings(path)?;
        let place = path.canonicalize().unwrap_or_else(|_| path.into());
        Ok(Self::parse(path.display().to_string(), Place::File(place), text.into()))
    }

    fn parse(name: String, place: Place, text: Cow<'static, str>) -> Result<Self> {
        let draft = toml::from_str(&text).map_err(|error| Error::config(Path::new(&name), error))?;
        Ok(Self {
            name,
            place,
            text,
            draft,
        })
    }

    /// The base of this one.
    fn base(&self, base: &Spanned<String>) -> Result<Self> {
        let named = base.get_ref().as_str();
        if let Some(text) = Preset::embedded_base(named) {
            return Self::embedded(named, text);
        }
        if !is_toml(Path::new(named)) {
            let hint = nearest::hint(named, Preset::bases());
            return Err(self.wrong(
                base,
                &format!("unknown base `{named}`{hint}; or give the path of a .toml file"),
            ));
        }
        let path = match Path::new(&self.name).parent() {
            Some(folder) => folder.join(named),
            None => named.into(),
        };
        let file = Self::file(&path);
        file.map_err(|error| self.wrong(base, &format!("cannot read its base `{}`: {error}", path.display())))?
    }

    /// An error about what this one says of its base.
    fn wrong(&self, base: &Spanned<String>, reason: &str) -> Error {
        let before = self.text.get(..base.span().start).unwrap_or_default();
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        Error::config(Path::new(&self.name), format!("line {line}: {reason}"))
    }

    /// What it says itself.
    fn table(&self) -> Result<Table> {
        let mut table: Table = toml::from_str(&self.text).map_err(|error| self.config(error))?;
        table.remove("base");
        Ok(table)
    }

    fn config(&self, error: impl ToString) -> Error {
        Error::config(Path::new(&self.name), error)
    }
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "toml")
}

/// A preset without a base, from its text, so that what it lacks is told with a line.
fn alone(own: &Link) -> Result<Preset> {
    let preset: Preset = toml::from_str(&own.text).map_err(|error| own.config(error))?;
    match preset.sources.as_ref().and_then(Sources::lacks) {
        Some(role) => Err(own.config(unpublished(role))),
        None => Ok(preset),
    }
}

/// A preset with its bases, of whose values the first counts.
fn merged(own: &Link, bases: &[Link]) -> Result<Preset> {
    let mut table = own.table()?;
    let mut inherited = BTreeMap::new();
    for base in bases {
        let added = add(&mut table, base.table()?);
        inherited.extend(added.into_iter().map(|place| (place, base.name.clone())));
    }
    let mut preset = Preset::deserialize(Value::Table(table)).map_err(|error| {
        let names: Vec<&str> = bases.iter().map(|link| link.name.as_str()).collect();
        own.config(format!("{} (nor is it in {})", error.message(), names.join(", ")))
    })?;
    preset.inherited = inherited;
    if let Some(role) = preset.sources.as_ref().and_then(Sources::lacks) {
        if own.draft.sources.is_some() {
            return Err(own.config(unpublished(role)));
        }
        // What it is based on is no model by itself: this one's files are in a folder only.
        preset.sources = None;
    }
    Ok(preset)
}

fn unpublished(role: super::Role) -> String {
    format!(
        "[sources] does not say where {} is published; add [sources.{role}] with `repo` and `file`",
        role.words()
    )
}

/// Adds to `table` what it does not have yet, key by key; returns the places of what was added.
fn add(table: &mut Table, values: Table) -> Vec<String> {
    let mut added = Vec::new();
    for (section, value) in values {
        match (table.get_mut(&section), value) {
            (Some(Value::Table(known)), Value::Table(more)) => {
                for (key, value) in more {
                    let place = format!("{section}.{key}");
                    if !known.contains_key(&key) {
                        known.insert(key, value);
                        added.push(place);
                    }
                }
            }
            (Some(_), _) => {}
            (None, value) => {
                match &value {
                    Value::Table(keys) => added.extend(keys.keys().map(|key| format!("{section}.{key}"))),
                    _ => added.push(section.clone()),
                }
                table.insert(section, value);
            }
        }
    }
    added
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::{cache::PolicyName, models::Role};

    /// Writes files and loads the first.
    fn load_files(files: &[(&str, &str)]) -> (Result<Preset>, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let first = folder.path().join(files[0].0);
        (load(first.to_str().unwrap(), false), folder)
    }

    #[test]
    fn presets_of_a_folder_name_no_file_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("model")).unwrap();
        fs::write(at("base.toml"), "base = \"toy\"").unwrap();
        fs::write(at("model/mine.toml"), "base = \"../base.toml\"").unwrap();
        let path = at("model/mine.toml").to_string_lossy().into_owned();
        assert!(load(&path, false).is_ok());
        let error = load(&path, true).unwrap_err().to_string();
        assert!(error.contains("must be beside it"), "{error}");
        fs::write(at("model/base.toml"), "base = \"toy\"").unwrap();
        fs::write(at("model/mine.toml"), "base = \"base.toml\"").unwrap();
        assert!(load(&path, true).is_ok());
    }

    #[track_caller]
    fn refused(files: &[(&str, &str)], says: &[&str]) {
        let error = load_files(files).0.unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, Error::Config { .. }), "{said}");
        assert!(said.contains(files[0].0) || says[0].contains(".toml"), "{said}");
        assert!(says.iter().all(|part| said.contains(part)), "{said}");
    }

    #[test]
    fn what_is_not_said_is_that_of_the_base() {
        let (preset, _folder) = load_files(&[("mine.toml", "base = \"self-forcing\"\n[cache]\nsink = 3\n")]);
        let (preset, base) = (preset.unwrap(), Preset::load("self-forcing").unwrap());
        assert_eq!((preset.cache.policy, preset.cache.sink), (PolicyName::Fifo, 3));
        assert_eq!((&preset.sources, &preset.sampler), (&base.sources, &base.sampler));
        assert_eq!(preset.description, base.description);
        assert_eq!(preset.base_of("cache.sink"), None);
        assert_eq!(preset.base_of("video.fps"), Some("wan2.1-1.3b"));
        assert_eq!(preset.base_of("description"), Some("self-forcing"));
    }

    #[test]
    fn a_source_is_taken_whole() {
        let vae = "base = \"self-forcing\"\n[sources]\nvae = { repo = \"me/vae\", file = \"Wan2.1_VAE.pth\" }\n";
        let sources = load_files(&[("mine.toml", vae)]).0.unwrap().sources.unwrap();
        let vae = sources.of(Role::Vae).unwrap();
        // Neither size nor hash nor commit of the file in whose place it is.
        assert_eq!(
            (vae.bytes, vae.sha256.as_deref(), vae.revision.as_str()),
            (None, None, "main")
        );
        assert!(sources.of(Role::TextEncoder).unwrap().sha256.is_some());
    }

    #[test]
    fn a_lora_is_named_as_file_and_as_source() {
        let sources = "base = \"self-forcing\"\nsources.lora = { repo = \"a/b\", file = \"models/lora.pt\" }\n";
        let preset = load_files(&[(
            "mine.toml",
            &format!("{sources}files.lora = [\"lora.pt\"]\nfiles.lora-alpha = 8\n"),
        )]);
        let preset = preset.0.unwrap();
        assert_eq!(preset.files.of(Role::Lora), ["lora.pt"]);
        assert_eq!(preset.files.lora_alpha, Some(8.0));
        let needed = preset.sources.unwrap();
        let needed = needed.needed(crate::models::Needs::default()).unwrap();
        assert!(needed.iter().any(|(role, _)| *role == Role::Lora));
        refused(
            &[("mine.toml", sources)],
            &["[sources.lora]", "lora = [\"models/lora.pt\"]"],
        );
    }

    #[test]
    fn files_are_bases_by_their_place_beside_the_file() {
        let files = [
            ("a/mine.toml", "base = \"../b/other.toml\"\n[video]\nfps = 8\n"),
            (
                "b/other.toml",
                "base = \"toy\"\ndescription = \"Other\"\n[video]\nfps = 9\nwidth = 112\n",
            ),
        ];
        let (preset, folder) = load_files(&files);
        let preset = preset.unwrap();
        assert_eq!(
            (preset.video.fps, preset.video.width, preset.video.height),
            (8, 112, 96)
        );
        assert_eq!(preset.description, "Other");
        let other = folder.path().join("a/../b/other.toml");
        assert_eq!(preset.base_of("video.width"), other.to_str());
        assert_eq!(preset.base_of("video.height"), Some("toy"));
        assert_eq!(preset.sources, None);
    }

    #[test]
    fn a_model_of_the_family_in_a_folder_needs_no_source() {
        let (preset, _folder) = load_files(&[("mine.toml", "base = \"wan2.1-1.3b\"\n")]);
        assert_eq!(preset.unwrap().sources, None);
        let vae = "base = \"wan2.1-1.3b\"\n[sources]\nvae = { repo = \"a/b\", file = \"c\" }\n";
        refused(
            &[("mine.toml", vae)],
            &["the transformer is published", "[sources.transformer]"],
        );
    }

    #[test]
    fn bases_that_are_none_are_told_with_their_line() {
        refused(
            &[("mine.toml", "description = \"x\"\nbase = \"self-forcin\"\n")],
            &["line 2", "unknown base `self-forcin`; did you mean `self-forcing`?"],
        );
        refused(
            &[("mine.toml", "base = \"quite other\"")],
            &["`wan2.1-1.3b`", ".toml file"],
        );
        refused(&[("mine.toml", "base = \"gone.toml\"")], &["line 1", "gone.toml`"]);
        refused(&[("mine.toml", "base = 3")], &["line 1", "string"]);
        refused(
            &[("mine.toml", "base = \"b.toml\""), ("b.toml", "\n[cache]\nsnik = 3")],
            &["b.toml", "line 3", "snik"],
        );
    }

    #[test]
    fn circles_and_endless_chains_are_refused() {
        refused(&[("a.toml", "base = \"a.toml\"")], &["circle", "leave out one `base`"]);
        refused(
            &[
                ("a.toml", "base = \"b.toml\""),
                ("b.toml", "base = \"./c.toml\""),
                ("c.toml", "base = \"./b.toml\""),
            ],
            &["c.toml", "line 1", "circle"],
        );
        let names: Vec<_> = (0..100)
            .map(|n| (format!("{n}.toml"), format!("base = \"{}.toml\"", n + 1)))
            .collect();
        let files: Vec<_> = names
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        refused(&files, &["7.toml", "more than 8", "8.toml"]);
        let deep = format!("base = {}", "[".repeat(100_000));
        refused(&[("mine.toml", &deep)], &["line 1"]);
    }

    #[test]
    fn what_nobody_says_is_told_with_all_who_could() {
        let files = [
            ("mine.toml", "base = \"b.toml\"\n[video]\nwidth = 64"),
            ("b.toml", "description = \"b\""),
        ];
        refused(&files, &["`height`", "nor is it in", "b.toml"]);
        refused(&[("mine.toml", "description = \"b\"")], &["`video`"]);
    }

    #[test]
    fn a_source_that_would_leave_the_cache_is_refused() {
        let text = "base = \"self-forcing\"\nsources.tiny-decoder = { repo = \"a/b\", file = \"../../evil\" }";
        refused(&[("mine.toml", text)], &["../../evil"]);
    }
}
