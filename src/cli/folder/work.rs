//! What is to be made, and what is there already.

use std::path::PathBuf;

use super::FolderFlags;
use crate::{
    Error, Result,
    batch::{BatchError, Item, Key, Manifest, differences},
    cli::{
        flags::RunFlags,
        generate::jobs::{read_start, recipe},
        model_files::Model,
        printer::Printer,
    },
    prompts::Scene,
    recipe::{ModelRecord, Recipe},
    rollout::start::StartFile,
    sweep::PointSettings,
    video::{Form, read_metadata},
};

/// A list of videos and their settings.
pub(in crate::cli) struct List<'a> {
    pub folder: &'a FolderFlags,
    pub running: &'a RunFlags,
    pub scenes: &'a [Scene],
    pub model: &'a Model,
    /// What the points of a sweep have in place of the model's settings, by [`Item::point`].
    pub points: &'a [PointSettings],
}

/// An item with what is known of it.
pub(super) struct Planned<'a> {
    pub item: &'a Item,
    pub state: State,
}

/// How far an item is.
pub(super) enum State {
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
pub(super) struct Conflicts {
    changed: usize,
    first_change: Option<(String, String)>,
    foreign: usize,
    first_foreign: Option<String>,
}

impl List<'_> {
    fn form(&self) -> Form {
        self.folder.format
    }

    pub fn file(&self, item: &Item) -> String {
        item.file(self.form().as_str())
    }

    pub fn path(&self, item: &Item) -> PathBuf {
        self.folder.output.join(self.file(item))
    }

    pub fn scene(&self, item: &Item) -> &Scene {
        &self.scenes[item.scene]
    }

    /// Whether videos are measured.
    pub fn measuring(&self) -> bool {
        !self.folder.no_metrics
    }

    /// How messages call an item.
    pub fn label(&self, item: &Item) -> String {
        match item.point {
            Some(_) => format!("`{}`", item.stem),
            None => self.scene(item).label(item.scene),
        }
    }

    /// Refuses settings that no video can be made with.
    ///
    /// # Errors
    /// As a prompt without anything special has them.
    pub fn check_settings(&self, printer: &Printer) -> Result<()> {
        let plain = Scene::of_prompt("a");
        recipe(&plain, None, self.form(), self.model, printer).map(drop)
    }

    /// The file that a scene begins with.
    pub fn start(&self, scene: &Scene) -> Option<StartFile> {
        scene.image.clone().map(StartFile::Image)
    }

    /// What is to be done with each item; `record` is the model with its files, if they are known.
    ///
    /// # Errors
    /// When a manifest cannot be read.
    pub(super) fn plan<'a>(
        &self,
        items: &'a [Item],
        manifest: &Manifest,
        record: Option<&ModelRecord>,
        printer: &Printer,
    ) -> Result<(Vec<Planned<'a>>, Conflicts)> {
        let mut conflicts = Conflicts::default();
        let mut planned = Vec::with_capacity(items.len());
        let mut last: Option<(usize, Result<Recipe, String>)> = None;
        for item in items {
            // Items of a scene differ in nothing but the seed and the point.
            let known = last.take().filter(|(scene, made)| *scene == item.scene && made.is_ok());
            let made = match known {
                Some((_, Ok(recipe))) => Ok(recipe),
                _ => self.recipe(self.scene(item), record, printer),
            };
            let state = match made {
                Ok(mut recipe) => {
                    last = Some((item.scene, Ok(recipe.clone())));
                    recipe.seed = item.seed;
                    if let Some(point) = item.point.and_then(|point| self.points.get(point)) {
                        recipe.cache = point.cache;
                        recipe.sampler = point.sampler.clone();
                    }
                    self.state(item, recipe, manifest, record.is_some(), &mut conflicts)?
                }
                Err(error) => State::Bad(Box::new(error)),
            };
            planned.push(Planned { item, state });
        }
        Ok((planned, conflicts))
    }

    fn recipe(&self, scene: &Scene, record: Option<&ModelRecord>, printer: &Printer) -> Result<Recipe> {
        let file = self.start(scene);
        let pictures = match &file {
            Some(file) => Some(read_start(file, self.model, printer)?),
            None => None,
        };
        let mut recipe = recipe(
            scene,
            file.as_ref().zip(pictures.as_ref()),
            self.form(),
            self.model,
            printer,
        )?;
        if let Some(record) = record {
            recipe.model = record.clone();
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
        if self.folder.skip_existing && size.is_some() {
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
                (Some(changes), Some(_)) if !self.folder.overwrite => {
                    conflicts.changed += 1;
                    conflicts.first_change.get_or_insert((name, changes));
                    Ok(State::InTheWay)
                }
                // Removed or damaged since.
                _ => Ok(State::Todo(recipe)),
            };
        }
        if size.is_none() || self.folder.overwrite {
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
    pub fn refuse(self, list: &List) -> Result<()> {
        let folder = &list.folder.output;
        if let Some((name, changes)) = self.first_change {
            return Err(Error::Batch(BatchError::Changed {
                count: self.changed,
                folder: folder.clone(),
                name,
                changes,
            }));
        }
        if let Some(name) = self.first_foreign {
            return Err(Error::Batch(BatchError::Foreign {
                count: self.foreign,
                folder: folder.clone(),
                name,
            }));
        }
        Ok(())
    }
}
