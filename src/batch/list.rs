//! What is to be made, and what is there already.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{BatchError, Item, Key, Manifest, Shard, differences};
use crate::{
    Error, Result,
    cache::CacheSettings,
    prompts::Scene,
    recipe::{Disclosure, ModelRecord, Recipe},
    render::{
        Event,
        jobs::{at_point, read_start, recipe},
        session::Session,
        world,
    },
    rollout::sampler::SamplerSettings,
    rollout::start::StartFile,
    trace::TraceOptions,
    video::{Form, read_metadata},
};

/// A list of videos of one folder, and their settings.
pub struct List<'a> {
    /// The model and what all videos have in common; of several models, the first one.
    pub session: &'a Session,
    /// The models of a sweep's points, by [`PointSettings::session`]; empty when all videos are of one model.
    pub sessions: &'a [Session],
    pub scenes: &'a [Scene],
    /// What the points of a sweep have in place of the session's settings, by [`Item::point`].
    pub points: &'a [PointSettings],
    pub folder: &'a Path,
    /// Which part of the list is made.
    pub shard: Shard,
    pub form: Form,
    pub existing: Existing,
    /// What the videos tell of how they were made.
    pub disclosure: Disclosure,
    /// Whether videos are measured; the measures are in the manifest.
    pub measures: bool,
    /// What is recorded of the cache, in a file beside each video; its paths do not count.
    pub trace: Option<TraceOptions>,
    /// Whether videos are refused that need more memory than there is.
    pub checks_memory: bool,
    /// Whether the state of the video in work is kept, so that a run that was killed goes on with it.
    pub keeps_state: bool,
}

/// What becomes of videos that are there and are not those of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// The list is refused.
    #[default]
    Refuse,
    /// They stay, whatever they hold.
    Keep,
    /// They are made again.
    Replace,
}

/// What model, cache and sampler of a point of a sweep are.
#[derive(Debug, Clone, PartialEq)]
pub struct PointSettings {
    /// Which of the list's sessions makes it.
    pub session: usize,
    pub cache: CacheSettings,
    pub sampler: SamplerSettings,
}

/// An item with what is known of it.
pub struct Planned<'a> {
    pub item: &'a Item,
    pub state: State,
}

/// How far an item is.
pub enum State {
    /// To be made.
    Todo(Box<Recipe>),
    /// Finished and in the manifest.
    Done(Box<Recipe>),
    /// A file is there and may stay, whatever it holds.
    Kept,
    /// Something else has its name, and may not be replaced.
    InTheWay,
    /// Complete, but a kill came before its line in the manifest.
    Unlisted(Box<Recipe>),
    /// It cannot be made.
    Bad(Box<Error>),
}

/// What stands in the way of a run.
#[derive(Default)]
pub struct Conflicts {
    changed: usize,
    first_change: Option<(String, String)>,
    foreign: usize,
    first_foreign: Option<String>,
}

impl List<'_> {
    /// Name of an item's file in the folder.
    pub fn file(&self, item: &Item) -> String {
        item.file(self.form.as_str())
    }

    pub(super) fn path(&self, item: &Item) -> PathBuf {
        self.folder.join(self.file(item))
    }

    /// What an item shows.
    pub fn scene(&self, item: &Item) -> &Scene {
        &self.scenes[item.scene]
    }

    /// Number of the session that makes an item.
    pub(crate) fn session_number(&self, item: &Item) -> usize {
        let point = item.point.and_then(|point| self.points.get(point));
        point.map_or(0, |point| point.session)
    }

    /// The session of a number.
    pub(crate) fn session_of(&self, number: usize) -> &Session {
        self.sessions.get(number).unwrap_or(self.session)
    }

    /// All sessions, by their numbers.
    pub(crate) fn all_sessions(&self) -> &[Session] {
        if self.sessions.is_empty() {
            std::slice::from_ref(self.session)
        } else {
            self.sessions
        }
    }

    /// How messages call an item.
    pub fn label(&self, item: &Item) -> String {
        if item.point.is_some() {
            return format!("`{}`", item.stem);
        }
        self.scene(item).label(item.scene)
    }

    /// Refuses settings that no video can be made with.
    ///
    /// # Errors
    /// As a prompt without anything special has them.
    pub fn check_settings(&self, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        for session in self.all_sessions() {
            let plain = match session.located.preset.controls {
                Some(_) => Scene::default(),
                None => Scene::of_prompt("a"),
            };
            recipe(&plain, None, self.form, session, observe)?;
        }
        Ok(())
    }

    /// The file that a scene begins with.
    pub(super) fn start(&self, scene: &Scene) -> Option<StartFile> {
        scene.image.clone().map(StartFile::Image)
    }

    /// What is to be done with each of `items`; `records` are the models with their files, by the numbers of their
    /// sessions, as far as they are known.
    ///
    /// # Errors
    /// When a manifest cannot be read.
    pub fn plan<'a>(
        &self,
        items: &'a [Item],
        manifest: &Manifest,
        records: &[Option<ModelRecord>],
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<(Vec<Planned<'a>>, Conflicts)> {
        let mut conflicts = Conflicts::default();
        let mut planned = Vec::with_capacity(items.len());
        // Items of a scene and a model differ in nothing but the seed and the point.
        let mut of_scene: HashMap<usize, Recipe> = HashMap::new();
        let mut last = None;
        for item in items {
            if last.replace(item.scene) != Some(item.scene) {
                of_scene.clear();
            }
            let number = self.session_number(item);
            let record = records.get(number).and_then(Option::as_ref);
            let made = match of_scene.get(&number) {
                Some(recipe) => Ok(recipe.clone()),
                None => self.recipe(self.scene(item), self.session_of(number), record, observe),
            };
            let made = made.and_then(|recipe| {
                of_scene.entry(number).or_insert_with(|| recipe.clone());
                self.of_item(item, recipe)
            });
            let state = match made {
                Ok(recipe) => self.state(item, recipe, manifest, record.is_some(), &mut conflicts)?,
                Err(error) => State::Bad(Box::new(error)),
            };
            planned.push(Planned { item, state });
        }
        Ok((planned, conflicts))
    }

    /// The recipe of an item, from that of its scene.
    fn of_item(&self, item: &Item, recipe: Recipe) -> Result<Recipe> {
        let recipe = Recipe {
            seed: item.seed,
            ..recipe
        };
        match item.point.and_then(|point| self.points.get(point)) {
            Some(point) => {
                let settings = &self.session_of(point.session).settings;
                at_point(recipe, point.cache, point.sampler.clone(), settings)
            }
            None => Ok(recipe),
        }
    }

    fn recipe(
        &self,
        scene: &Scene,
        session: &Session,
        record: Option<&ModelRecord>,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Recipe> {
        let file = self.start(scene);
        let label = || scene.label(scene.line.unwrap_or(0));
        world::check(scene, &label, file.as_ref(), &session.located)?;
        let pictures = match &file {
            Some(file) => Some(read_start(file, session, observe)?),
            None => None,
        };
        let start = file.as_ref().zip(pictures.as_ref());
        let mut recipe = recipe(scene, start, self.form, session, observe)?;
        if let Some(record) = record {
            recipe.set_model(record.clone());
        }
        Ok(recipe)
    }

    fn state(
        &self,
        item: &Item,
        recipe: Recipe,
        manifest: &Manifest,
        files_known: bool,
        conflicts: &mut Conflicts,
    ) -> Result<State> {
        let (name, path) = (self.file(item), self.path(item));
        let recipe = Box::new(recipe);
        let size = std::fs::metadata(&path).map(|metadata| metadata.len()).ok();
        if self.existing == Existing::Keep && size.is_some() {
            return Ok(State::Kept);
        }
        if let Some((hash, bytes)) = manifest.find(&name) {
            let key = Key::of(&recipe);
            // Before its files are known, a model is compared without them.
            let changes = match hash == key.hash {
                true => None,
                false => manifest.entry(&name)?.and_then(|entry| {
                    let (before, now) = match files_known {
                        true => (entry.recipe, key.recipe),
                        false => (Key::without_files(entry.recipe), Key::without_files(key.recipe)),
                    };
                    let changes = differences(&before, &now);
                    (files_known || !changes.is_empty()).then_some(changes)
                }),
            };
            return match (changes, size) {
                (None, Some(size)) if size == bytes => Ok(State::Done(recipe)),
                (Some(changes), Some(_)) if self.existing != Existing::Replace => {
                    conflicts.changed += 1;
                    conflicts.first_change.get_or_insert((name, changes));
                    Ok(State::InTheWay)
                }
                // Removed or damaged since.
                _ => Ok(State::Todo(recipe)),
            };
        }
        if size.is_none() || self.existing == Existing::Replace {
            return Ok(State::Todo(recipe));
        }
        let found = read_metadata(&path).ok().and_then(|metadata| metadata.comment);
        let found = found.and_then(|text| Recipe::from_json(&text).ok()).map(|mut found| {
            // A file names the encoder that wrote it, though any was asked for.
            if recipe.encoding.encoder.is_none() {
                found.encoding.encoder = None;
            }
            found
        });
        if found.is_some_and(|found| found.is_complete() && Key::of(&found).hash == Key::of(&recipe).hash) {
            return Ok(State::Unlisted(recipe));
        }
        conflicts.foreign += 1;
        conflicts.first_foreign.get_or_insert(name);
        Ok(State::InTheWay)
    }
}

impl Conflicts {
    /// Refuses to replace what was not asked to be replaced.
    ///
    /// # Errors
    /// With what changed, or which file is in the way.
    pub fn refuse(self, list: &List<'_>) -> Result<()> {
        let folder = list.folder.to_path_buf();
        if let Some((name, changes)) = self.first_change {
            return Err(Error::Batch(BatchError::Changed {
                count: self.changed,
                folder,
                name,
                changes,
            }));
        }
        if let Some(name) = self.first_foreign {
            return Err(Error::Batch(BatchError::Foreign {
                count: self.foreign,
                folder,
                name,
            }));
        }
        Ok(())
    }
}
