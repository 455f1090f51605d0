//! Which model is meant, and where its files are.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{ModelFiles, Needs, Role, own_preset, preset_of_folder};
use crate::{
    Error, Result,
    hub::{Hub, HubError, HubSettings, Source},
    models::bundled,
    models::cache_dir::cache_dir,
    models::preset::{Preset, Sources},
};

/// What the user asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelChoice<'a> {
    /// Name of a preset, path of a preset file, or folder of model files.
    pub model: Option<&'a str>,
    /// Name or file of a preset whose settings are taken in place of the model's own.
    pub preset: Option<&'a str>,
}

/// Where the files of a model are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelLocation {
    /// In a folder, under their published names.
    Folder(PathBuf),
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
    /// * anything else: a folder of model files, with the preset that its `config.json` names
    /// * nothing: the model of the preset that was asked for, else the default one; if that is not in the cache and
    ///   the hub cannot be reached, the bundled model
    ///
    /// # Errors
    /// When there is no such model or preset.
    pub fn locate(&self, choice: ModelChoice<'_>, needs: Needs, cancelled: &dyn Fn() -> bool) -> Result<Located> {
        match named_or_in_folder(choice)? {
            Some(located) => Ok(located),
            None => self.default_model(needs, cancelled),
        }
    }

    /// The files of a located model.
    ///
    /// # Errors
    /// When a file is missing from a folder, the bundled model cannot be unpacked, the model is published nowhere, or
    /// there is no cache.
    pub fn files(&self, located: &Located, needs: Needs) -> Result<Found> {
        let preset = &located.preset;
        let folder = match &located.location {
            ModelLocation::Folder(folder) => folder.clone(),
            ModelLocation::Bundled => bundled::unpack(self.own_cache())?,
            ModelLocation::Hub => {
                let sources = preset.sources.as_ref().ok_or_else(|| Error::NoSources {
                    name: located.model.clone(),
                })?;
                return in_cache(self.hub()?, preset, sources, needs);
            }
        };
        let files = ModelFiles::find(&folder, &preset.files, needs.decoder)?;
        Ok(Found::Files(files.with_controls(preset.controls).into()))
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

/// The settings of a model under a preset, of `choice`; those of the default model where it names neither.
///
/// # Errors
/// When there is no such model or preset.
pub fn preset_of_choice(choice: ModelChoice<'_>) -> Result<(String, Preset)> {
    match named_or_in_folder(choice)? {
        Some(located) => Ok((located.preset_name, located.preset)),
        None => Ok((Preset::DEFAULT.into(), Preset::load(Preset::DEFAULT)?)),
    }
}

/// The model that was asked for, if one was.
fn named_or_in_folder(choice: ModelChoice<'_>) -> Result<Option<Located>> {
    match (choice.model, choice.preset) {
        (Some(name), preset) if is_preset(name) => named(name, preset),
        (Some(folder), preset) => in_folder(folder, preset),
        (None, Some(name)) => match Preset::load(name)?.sources {
            None if name != Preset::BUNDLED => named(Preset::DEFAULT, Some(name)),
            _ => named(name, None),
        },
        (None, None) => return Ok(None),
    }
    .map(Some)
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
        fallback: None,
    })
}

fn in_folder(folder: &str, settings: Option<&str>) -> Result<Located> {
    let path = Path::new(folder);
    if !path.is_dir() {
        // A path is a folder that is not there; a bare word may as well be a misspelt name.
        return Err(match path.components().count() {
            1 if !path.exists() => Error::UnknownModel {
                name: folder.into(),
                known: Preset::names().join(", "),
            },
            _ => Error::ModelFolder { path: path.into() },
        });
    }
    let (preset_name, preset) = match settings {
        Some(name) => {
            let preset = Preset::load(name)?;
            // Only a folder that says which preset it is of has files and a picture size of its own.
            let preset = match own_preset(path).ok().flatten() {
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
            (name.to_string(), preset)
        }
        None => preset_of_folder(path)?,
    };
    Ok(Located {
        model: folder.into(),
        preset_name,
        preset,
        location: ModelLocation::Folder(path.into()),
        fallback: None,
    })
}

fn in_cache(hub: &Hub, preset: &Preset, sources: &Sources, needs: Needs) -> Result<Found> {
    let needed = sources.needed(needs)?;
    if preset.files.names_a(Role::Lora) && sources.of(Role::Lora).is_none() {
        return Err(Error::NoSource {
            role: Role::Lora.name(),
        });
    }
    let missing: Vec<Source> = needed
        .iter()
        .filter(|(_, source)| hub.find(source).is_none())
        .map(|(_, source)| (*source).clone())
        .collect();
    if !missing.is_empty() {
        return Ok(Found::Missing(missing));
    }
    let there = sources.all().into_iter();
    Ok(Found::Files(Box::new(ModelFiles {
        paths: there
            .filter_map(|(role, source)| Some((role, hub.find(source)?)))
            .collect(),
        decoder: needs.decoder,
        state_dict: preset.files.state_dict.clone(),
        lora_alpha: preset.files.lora_alpha,
        controls: preset.controls,
        loras: Vec::new(),
        sources: Some(sources.clone()),
    })))
}

#[cfg(test)]
mod tests {
    use super::super::DecoderKind;
    use super::*;

    const NO_NETWORK: [(&str, &str); 1] = [("HF_HUB_OFFLINE", "1")];

    fn locator(cache: &Path, more: &[(&'static str, &'static str)]) -> Locator {
        let more = more.to_vec();
        let cache = cache.to_path_buf();
        Locator::from_env(move |name| match name {
            "HF_HUB_CACHE" => Some(cache.clone().into()),
            "DEEPFORCING_CACHE" => Some(cache.join("own").into()),
            _ => more.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()),
        })
    }

    fn locate(locator: &Locator, model: Option<&str>, preset: Option<&str>) -> Result<Located> {
        locator.locate(ModelChoice { model, preset }, Needs::default(), &|| false)
    }

    /// Puts a preset's files into a cache, with their sizes and nothing in them.
    fn fill(cache: &Path, preset: &str) {
        for (_, source) in Preset::load(preset).unwrap().sources.unwrap().all() {
            let repo = cache.join(format!("models--{}", source.repo.replace('/', "--")));
            let commit = match source.revision.as_str() {
                "main" => "0123456789012345678901234567890123456789",
                commit => commit,
            };
            std::fs::create_dir_all(repo.join("refs")).unwrap();
            std::fs::write(repo.join("refs").join(&source.revision), commit).unwrap();
            let file = repo.join("snapshots").join(commit).join(&source.file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            let file = std::fs::File::create(file).unwrap();
            file.set_len(source.bytes.unwrap_or(1)).unwrap();
        }
    }

    #[test]
    fn a_preset_is_in_the_cache_or_missing() {
        let cache = tempfile::tempdir().unwrap();
        let locator = locator(cache.path(), &NO_NETWORK);
        let located = locate(&locator, Some("causal-forcing"), None).unwrap();
        assert_eq!(located.location, ModelLocation::Hub);
        let Found::Missing(missing) = locator.files(&located, Needs::default()).unwrap() else {
            panic!("found in an empty cache");
        };
        let files: Vec<_> = missing.iter().map(|source| source.file.as_str()).collect();
        assert!(files.contains(&"chunkwise/causal_forcing.pt"), "{files:?}");
        assert!(!files.contains(&"taew2_1.pth"), "{files:?}");

        fill(cache.path(), "causal-forcing");
        let Found::Files(files) = locator.files(&located, Needs::default()).unwrap() else {
            panic!("not found in a full cache");
        };
        assert_eq!(files.state_dict.as_deref(), Some("generator"));
        let listed = files.list(Needs::default());
        assert!(listed.iter().all(|file| file.source.is_some() && file.path.is_file()));
        let roles: Vec<_> = listed.iter().map(|file| file.role).collect();
        assert!(
            roles.contains(&Role::Vae) && !roles.contains(&Role::TinyDecoder),
            "{roles:?}"
        );
    }

    #[test]
    fn the_tiny_decoder_needs_the_vae_only_to_start_from_pictures() {
        let sources = Preset::load("deep-forcing").unwrap().sources.unwrap();
        let files = |needs: Needs| -> Vec<Role> {
            let needed = sources.needed(needs).unwrap();
            needed.into_iter().map(|(role, _)| role).collect()
        };
        let tae = Needs {
            decoder: DecoderKind::Tae,
            ..Needs::default()
        };
        assert!(files(tae).contains(&Role::TinyDecoder) && !files(tae).contains(&Role::Vae));
        let start = Needs { encoder: true, ..tae };
        assert!(files(start).contains(&Role::TinyDecoder) && files(start).contains(&Role::Vae));
        assert!(!files(Needs::default()).contains(&Role::TinyDecoder));
    }

    #[test]
    #[cfg(feature = "bundled-model")]
    fn the_bundled_model_is_taken_when_the_default_one_cannot_be_had() {
        let cache = tempfile::tempdir().unwrap();
        for variable in [("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:1")] {
            let locator = locator(cache.path(), &[variable]);
            let located = locate(&locator, None, None).unwrap();
            assert_eq!(located.preset_name, "toy", "{variable:?}");
            assert_eq!(located.location, ModelLocation::Bundled);
            assert!(located.fallback.unwrap().is_offline());
            // Who names a model gets it or an error.
            let named = locate(&locator, Some("deep-forcing"), None).unwrap();
            assert_eq!(named.location, ModelLocation::Hub);
        }
        fill(cache.path(), Preset::DEFAULT);
        let located = locate(&locator(cache.path(), &NO_NETWORK), None, None).unwrap();
        assert_eq!(
            (located.preset_name.as_str(), located.location),
            ("deep-forcing", ModelLocation::Hub)
        );
    }

    #[test]
    #[cfg(feature = "bundled-model")]
    fn without_a_place_for_a_cache_the_bundled_model_is_left() {
        let located = locate(&Locator::from_env(|_| None), None, None).unwrap();
        assert_eq!(located.location, ModelLocation::Bundled);
        assert_eq!(located.fallback, Some(HubError::NoHome));
    }

    #[test]
    fn settings_can_be_those_of_another_preset() {
        let cache = tempfile::tempdir().unwrap();
        let locator = locator(cache.path(), &NO_NETWORK);
        let located = locate(&locator, Some("causal-forcing"), Some("deep-forcing")).unwrap();
        let model = Preset::load("causal-forcing").unwrap();
        assert_eq!(
            (located.model.as_str(), located.preset_name.as_str()),
            ("causal-forcing", "deep-forcing")
        );
        assert_eq!(located.preset.sources, model.sources);
        assert_eq!(located.preset.cache, Preset::load("deep-forcing").unwrap().cache);
        assert_ne!(located.preset.cache, model.cache);
        assert_eq!(located.preset.sized_by(), Some("causal-forcing"));
        // The size is that of the weights, be they smaller or larger.
        let video = |model, preset| locate(&locator, Some(model), Some(preset)).unwrap().preset.video;
        let [toy, wan] = ["toy", "longlive"].map(|name| Preset::load(name).unwrap().video);
        assert_eq!((video("toy", "longlive"), video("longlive", "toy")), (toy, wan));
        // Unless a file of the user says it itself.
        let own = cache.path().join("own.toml");
        let own = own.to_str().unwrap();
        let sized = "base = \"longlive\"\ndescription = \"own\"\n[video]\nwidth = 320\nheight = 192\nfps = 8\n";
        std::fs::write(own, sized).unwrap();
        assert_eq!((video("toy", own).width, video("toy", own).fps), (320, 8));
        std::fs::write(own, "base = \"longlive\"\ndescription = \"own\"\n").unwrap();
        assert_eq!(video("toy", own), toy);
        // A preset alone names a model as well.
        let located = locate(&locator, None, Some("toy")).unwrap();
        assert_eq!(located.location, ModelLocation::Bundled);
        assert_eq!(located.fallback, None);
        let located = locate(&locator, None, Some("self-forcing")).unwrap();
        assert_eq!(
            (located.model.as_str(), located.location),
            ("self-forcing", ModelLocation::Hub)
        );
    }

    #[test]
    fn a_folder_is_taken_with_the_preset_that_it_names() {
        let cache = tempfile::tempdir().unwrap();
        let locator = locator(cache.path(), &NO_NETWORK);
        let toy = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/toy");
        let located = locate(&locator, toy.to_str(), None).unwrap();
        assert_eq!(located.location, ModelLocation::Folder(toy.clone()));
        assert_eq!(located.preset_name, "toy");
        assert!(matches!(
            locator.files(&located, Needs::default()).unwrap(),
            Found::Files(_)
        ));
        let toy_preset = located.preset;
        let located = locate(&locator, toy.to_str(), Some("longlive")).unwrap();
        assert_eq!(located.preset_name, "longlive");
        // Its files and its picture size are its own.
        assert_eq!(located.preset.video, toy_preset.video);
        assert!(matches!(
            locator.files(&located, Needs::default()).unwrap(),
            Found::Files(_)
        ));
    }

    #[test]
    fn what_is_no_model_is_refused_with_the_known_ones() {
        let cache = tempfile::tempdir().unwrap();
        let locator = locator(cache.path(), &NO_NETWORK);
        let error = locate(&locator, Some("deepforcing"), None).unwrap_err();
        assert!(
            error.is_usage() && error.to_string().contains("deep-forcing, self-forcing"),
            "{error}"
        );
        let error = locate(&locator, Some("no/such/folder"), None).unwrap_err();
        assert!(matches!(error, Error::ModelFolder { .. }), "{error}");
        assert!(locate(&locator, None, Some("nothing")).unwrap_err().is_usage());
    }
}
