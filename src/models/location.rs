//! Which model is meant, and where its files are.

mod repository;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{ModelFiles, Needs, OwnFiles, Role, own_preset, search};
use crate::{
    Error, Result,
    checkpoint::{Checkpoint, CheckpointError, Network, networks_in},
    hub::{Hub, HubError, HubSettings, Source},
    models::bundled,
    models::cache_dir::cache_dir,
    models::preset::{Preset, Sources},
};

/// What the user asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelChoice<'a> {
    /// Name of a preset, path of a preset file, file of a transformer, folder of model files, or a repository of the hub.
    pub model: Option<&'a str>,
    /// Name or file of a preset whose settings are taken in place of the model's own.
    pub preset: Option<&'a str>,
    /// Files in place of the model's.
    pub own: Option<&'a OwnFiles>,
}

/// Where the files of a model are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelLocation {
    /// In a folder, under their published names.
    Folder(PathBuf),
    /// A file, or a folder in which they were found by what they hold; what is not there is in the cache of the hub.
    Found(PathBuf),
    /// In the cache of the hub, or not there yet.
    Hub,
    /// In the program.
    Bundled,
}

/// A model, and the settings to run it with.
#[derive(Debug, Clone)]
pub struct Located {
    /// The model: name or file of a preset, or a folder.
    pub model: String,
    /// Name or file of the preset that the settings are from.
    pub preset_name: String,
    /// The settings, with the file names and sources of the model.
    pub preset: Preset,
    pub location: ModelLocation,
    /// Files that were given or found, in the place of the model's.
    pub own: OwnFiles,
    /// Why it is the bundled model, when that was not asked for: the default model can be had neither from the cache
    /// nor from the hub.
    pub fallback: Option<HubError>,
}

/// The files of a model, or what is missing of them.
#[derive(Debug, Clone)]
pub enum Found {
    Files(Box<ModelFiles>),
    /// Not in the cache; [`Hub::missing`] tells how much that is, [`Hub::pull`] gets them.
    Missing(Vec<Source>),
}

/// Finds models.
#[derive(Debug, Clone)]
pub struct Locator {
    hub: Result<Hub, HubError>,
    own_cache: Option<PathBuf>,
}

impl Locator {
    /// A locator for the cache and hub that the environment names; `lookup` gives the value of a variable, as
    /// `std::env::var_os` does. A variable that cannot be is an error once the hub is needed.
    pub fn from_env(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        Self {
            own_cache: cache_dir(&lookup).map(|folder| folder.value),
            hub: HubSettings::from_env(&lookup).and_then(Hub::new),
        }
    }

    /// A locator for what the environment of this process names.
    pub fn of_process() -> Self {
        Self::from_env(|name| std::env::var_os(name))
    }

    /// The hub and its cache.
    ///
    /// # Errors
    /// When the environment names no cache, or a variable cannot be.
    pub fn hub(&self) -> Result<&Hub, HubError> {
        self.hub.as_ref().map_err(HubError::clone)
    }

    /// Folder for derived files, if there is a place for one.
    pub fn own_cache(&self) -> Option<&Path> {
        self.own_cache.as_deref()
    }

    /// Decides which model is meant.
    ///
    /// * a preset's name: its files in the cache of the hub; `toy` is the bundled model
    /// * a `.toml` file: a preset like those
    /// * a file: a transformer; the other files are beside it, or those of the preset
    /// * a folder of model files, under their published names or as diffusers and ComfyUI have them, with the preset that
    ///   the `config.json` of the transformer names
    /// * `organisation/name[@revision][:file]`: a repository of the hub
    /// * nothing: the model of the preset that was asked for, else the default one; if that is not in the cache and
    ///   the hub cannot be reached, the bundled model
    ///
    /// # Errors
    /// When there is no such model or preset.
    pub fn locate(&self, choice: ModelChoice<'_>, needs: Needs, cancelled: &dyn Fn() -> bool) -> Result<Located> {
        let none = OwnFiles::default();
        let given = choice.own.unwrap_or(&none);
        let located = match (choice.model, choice.preset) {
            (Some(name), preset) if is_preset(name) => named(name, preset),
            (Some(path), preset) => self.at_path(path, preset, needs, given, cancelled),
            (None, Some(name)) => of_preset(name),
            (None, None) if *given == none => self.default_model(needs, cancelled),
            (None, None) => named(Preset::DEFAULT, None),
        }?;
        Ok(Located {
            own: located.own.under(given).with_carried_tokenizer(),
            ..located
        })
    }

    /// The files of a located model.
    ///
    /// # Errors
    /// When a file is missing from a folder, the bundled model cannot be unpacked, the model is published nowhere, or
    /// there is no cache.
    pub fn files(&self, located: &Located, needs: Needs) -> Result<Found> {
        let (preset, own) = (&located.preset, &located.own);
        let folder = match &located.location {
            ModelLocation::Folder(folder) => folder.clone(),
            ModelLocation::Bundled => bundled::unpack(self.own_cache())?,
            ModelLocation::Hub => {
                let sources = preset.sources.as_ref().ok_or_else(|| Error::NoSources {
                    name: located.model.clone(),
                })?;
                return in_cache(self.hub()?, preset, sources, needs, own);
            }
            ModelLocation::Found(_) => return self.beside_found(preset, needs, own),
        };
        let files = ModelFiles::find_with(&folder, &preset.files, needs.decoder, own)?;
        Ok(Found::Files(files.with_controls(preset.controls).into()))
    }

    /// Files that were found, and those of the preset for what was not.
    fn beside_found(&self, preset: &Preset, needs: Needs, own: &OwnFiles) -> Result<Found> {
        let is_whole = Role::ALL
            .iter()
            .all(|role| own.replaces(*role) || !role.is_required(needs));
        if is_whole && !preset.files.names_a(Role::Lora) {
            let mut paths = Default::default();
            own.over(&mut paths);
            return Ok(Found::Files(
                ModelFiles::of_paths(paths, &preset.files, needs.decoder)
                    .with_controls(preset.controls)
                    .into(),
            ));
        }
        let of_family = Preset::load(Preset::DEFAULT)?.sources.unwrap_or_default();
        let sources = preset.sources.as_ref().unwrap_or(&of_family);
        in_cache(self.hub()?, preset, sources, needs, own)
    }

    /// The model of a file, a folder or a repository.
    fn at_path(
        &self,
        name: &str,
        settings: Option<&str>,
        needs: Needs,
        given: &OwnFiles,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Located> {
        let path = Path::new(name);
        if let Some(located) = on_disk(path, settings, needs, given) {
            return located;
        }
        let first_is_folder = path.components().next().is_some_and(|first| Path::new(&first).is_dir());
        match repository::parse(name).filter(|_| !first_is_folder) {
            Some(source) => repository::locate(self.hub(), name, source, settings, cancelled),
            None => Err(not_there(name)),
        }
    }

    fn default_model(&self, needs: Needs, cancelled: &dyn Fn() -> bool) -> Result<Located> {
        let located = named(Preset::DEFAULT, None)?;
        let Some(sources) = &located.preset.sources else {
            return Ok(located);
        };
        let needed = sources.needed(needs)?;
        let out_of_reach = match &self.hub {
            // Other faults of the environment are the user's to mend.
            Err(error @ HubError::NoHome) => Some(error.clone()),
            Err(error) => return Err(error.clone().into()),
            Ok(hub) => {
                let missing = needed.into_iter().find(|(_, source)| hub.find(source).is_none());
                // Once: who is offline should not wait long.
                let hub = hub.clone().with_retries(0);
                let asked = missing.map(|(_, source)| hub.describe(source, cancelled));
                asked.and_then(Result::err).filter(HubError::is_offline)
            }
        };
        match out_of_reach {
            Some(error) if bundled::IS_AVAILABLE => Ok(Located {
                fallback: Some(error),
                ..named(Preset::BUNDLED, None)?
            }),
            _ => Ok(located),
        }
    }
}

/// The settings of a model under a preset, of `choice`; those of the default model where it names neither. Asks nobody.
///
/// # Errors
/// When there is no such model or preset.
pub fn preset_of_choice(choice: ModelChoice<'_>) -> Result<(String, Preset)> {
    let none = OwnFiles::default();
    let own = choice.own.unwrap_or(&none);
    let located = match (choice.model, choice.preset) {
        (Some(name), preset) if is_preset(name) => named(name, preset),
        (Some(path), preset) => match on_disk(Path::new(path), preset, Needs::default(), own) {
            Some(located) => located,
            None => match repository::parse(path) {
                Some(repository) => named(preset.unwrap_or(repository.preset()), None),
                None => Err(not_there(path)),
            },
        },
        (None, Some(name)) => of_preset(name),
        (None, None) => named(Preset::DEFAULT, None),
    }?;
    Ok((located.preset_name, located.preset))
}

/// The model of a preset that alone was asked for; where it has none, the default one with its settings.
fn of_preset(name: &str) -> Result<Located> {
    match Preset::load(name)?.sources {
        None if name != Preset::BUNDLED => named(Preset::DEFAULT, Some(name)),
        _ => named(name, None),
    }
}

/// The model of a file or a folder, if there is one.
fn on_disk(path: &Path, settings: Option<&str>, needs: Needs, given: &OwnFiles) -> Option<Result<Located>> {
    if path.is_file() {
        return Some(of_file(path, settings, needs, given));
    }
    if let Some(file) = search::transformer_of_place(path) {
        return Some(of_file(&file, settings, needs, given));
    }
    path.is_dir().then(|| in_folder(path, settings, needs, given))
}

/// A path is a folder that is not there; a bare word may as well be a misspelt name.
fn not_there(name: &str) -> Error {
    let path = Path::new(name);
    match path.components().count() {
        1 => Error::UnknownModel {
            name: name.into(),
            known: Preset::names().join(", "),
        },
        _ => Error::ModelFolder { path: path.into() },
    }
}

/// Whether a model is named by its preset rather than by its folder.
fn is_preset(name: &str) -> bool {
    let is_file = || {
        let path = Path::new(name);
        path.extension().is_some_and(|ending| ending == "toml") && !path.is_dir()
    };
    Preset::names().contains(&name) || is_file()
}

/// The model of a preset, with the settings of another one if asked for. Its files and their picture size stay its own.
fn named(name: &str, settings: Option<&str>) -> Result<Located> {
    let model = Preset::load(name)?;
    let (preset_name, preset) = match settings {
        None => (name, model),
        Some(settings) => {
            let preset = Preset::load(settings)?.for_weights(settings, name, model);
            (settings, preset)
        }
    };
    Ok(Located {
        model: name.into(),
        preset_name: preset_name.into(),
        preset,
        location: match name {
            Preset::BUNDLED => ModelLocation::Bundled,
            _ => ModelLocation::Hub,
        },
        own: OwnFiles::default(),
        fallback: None,
    })
}

/// The model of a file: a transformer, or a checkpoint with several networks. Other files are looked for beside it.
fn of_file(path: &Path, settings: Option<&str>, needs: Needs, given: &OwnFiles) -> Result<Located> {
    let mut own = OwnFiles::default();
    own.set_transformer(path.into());
    match networks_in(path) {
        Ok(found) if found.iter().any(|(network, _)| *network == Network::Transformer) => {
            let others = found.iter().map(|(network, _)| search::role_of(*network));
            others.for_each(|role| own.add(role, path.into()));
        }
        // The preset may choose one of its state dicts.
        Err(CheckpointError::NoStateDict { .. }) => {}
        Err(error) => return Err(error.into()),
        Ok(_) => drop(Checkpoint::open_network(path, Network::Transformer, None)?),
    }
    let (preset_name, preset) = preset_for(&own, path.parent().unwrap_or(Path::new("")), settings)?;
    let known = own.clone().under(given);
    let found = search::search(&search::root_of(path), &preset.files, needs, &known)?;
    Ok(Located {
        model: path.to_string_lossy().into_owned(),
        preset_name,
        preset,
        location: ModelLocation::Found(path.into()),
        own: found.under(&own),
        fallback: None,
    })
}

/// The preset that was asked for, or that the configuration of the transformer names.
fn preset_for(own: &OwnFiles, folder: &Path, settings: Option<&str>) -> Result<(String, Preset)> {
    match own.path(Role::Config) {
        Some(config) => settled(settings, || own_preset(folder, config)),
        None => settled(settings, || Ok(None)),
    }
}

/// The preset that was asked for, for weights that say which preset they are of (`own`) or do not; without one their
/// own, or the default one.
fn settled(settings: Option<&str>, own: impl FnOnce() -> Result<Option<(String, Preset)>>) -> Result<(String, Preset)> {
    let Some(name) = settings else {
        return match own()? {
            Some(own) => Ok(own),
            None => Ok((Preset::DEFAULT.into(), Preset::load(Preset::DEFAULT)?)),
        };
    };
    let preset = Preset::load(name)?;
    // Only weights that say which preset they are of have files and a picture size of their own.
    let preset = match own().ok().flatten() {
        Some((owner, weights)) => {
            // A file of the user says itself which files it means.
            let files = match Preset::names().contains(&name) {
                true => weights.files.clone(),
                false => preset.files.clone(),
            };
            preset.for_weights(name, &owner, Preset { files, ..weights })
        }
        None => preset,
    };
    Ok((name.to_string(), preset))
}

fn in_folder(path: &Path, settings: Option<&str>, needs: Needs, given: &OwnFiles) -> Result<Located> {
    let (preset_name, preset) = settled(settings, || own_preset(path, &path.join("config.json")))?;
    let names = preset.files.of(Role::Transformer);
    let published = names.iter().any(|name| path.join(name).is_file());
    let found = search::search(path, &preset.files, needs, given)?;
    let transformer = found.path(Role::Transformer).map(Path::to_path_buf);
    let (location, own) = match transformer.filter(|_| !published) {
        Some(_) => (ModelLocation::Found(path.into()), found),
        // What has its published name is found by it.
        None => (ModelLocation::Folder(path.into()), found.without(Role::Transformer)),
    };
    let (preset_name, preset) = match (&location, own.path(Role::Transformer).and_then(Path::parent)) {
        (ModelLocation::Found(_), Some(folder)) => preset_for(&own, folder, settings)?,
        _ => (preset_name, preset),
    };
    Ok(Located {
        model: path.to_string_lossy().into_owned(),
        preset_name,
        preset,
        location,
        own,
        fallback: None,
    })
}

fn in_cache(hub: &Hub, preset: &Preset, sources: &Sources, needs: Needs, own: &OwnFiles) -> Result<Found> {
    let sources = sources.only(|role| !own.replaces(role));
    let lacking = Role::ALL
        .iter()
        .find(|role| role.is_required(needs) && sources.of(**role).is_none() && !own.replaces(**role));
    if let Some(role) = lacking {
        return Err(Error::NoSource { role: role.name() });
    }
    let needed = sources.all().into_iter().filter(|(role, _)| role.is_used(needs));
    if preset.files.names_a(Role::Lora) && sources.of(Role::Lora).is_none() {
        return Err(Error::NoSource {
            role: Role::Lora.name(),
        });
    }
    let missing: Vec<Source> = needed
        .flat_map(|(_, source)| repository::missing_of(hub, source))
        .collect();
    if !missing.is_empty() {
        return Ok(Found::Missing(missing));
    }
    let there = sources.all().into_iter();
    let mut paths = there
        .filter_map(|(role, source)| Some((role, hub.find(source)?)))
        .collect();
    own.over(&mut paths);
    Ok(Found::Files(Box::new(ModelFiles {
        sources: Some(sources),
        controls: preset.controls,
        ..ModelFiles::of_paths(paths, &preset.files, needs.decoder)
    })))
}

#[cfg(test)]
mod tests;
