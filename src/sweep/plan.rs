//! What a sweep renders, as its folder keeps it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::SweepError;
use crate::files;

/// Name of the file in the folder of a sweep that holds its [`SweepPlan`].
///
/// The videos lie beside it as `POINT/PROMPT-seedSEED.EXTENSION`, one folder per point; each has a line in the folder's
/// `manifest.jsonl` (see [`crate::batch::Entry`]) with the numbers of its point and prompt in the plan and what was
/// measured of it. Of several lines with one file the last one counts. Lines of points that are not in the plan are
/// those of a sweep that was replaced.
pub const PLAN_FILE: &str = "sweep.json";

/// Number of the format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// The grid of a sweep, and what is rendered at each of its points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepPlan {
    /// Of this file; [`FORMAT`].
    pub format: u32,
    /// Version of the program.
    pub deepforcing: String,
    /// The command line that made it, to repeat it: program name and arguments.
    pub command: Vec<String>,
    /// Name of the preset of the sweep, if one was used.
    pub preset: Option<String>,
    /// Name or folder of the model; of several, all of them with commas between.
    pub model: String,
    /// Playing time of each video in seconds, save of prompts that say their own.
    pub seconds: f64,
    /// Picture size in pixels, `832x480`.
    pub size: String,
    /// Pictures per second.
    pub fps: f64,
    /// The parameters that take several values, the slowest first.
    pub axes: Vec<Axis>,
    /// A sweep that is extended keeps the numbers of its points: new ones come last.
    pub points: Vec<Point>,
    /// The same holds for prompts.
    pub prompts: Vec<SweepPrompt>,
    /// Every prompt is rendered with each of them, with the same noise at every point.
    pub seeds: Vec<u64>,
}

/// A parameter of the grid and its values, as they are written in the config file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// As in the config file: `cache.sink`, `sampler.steps`.
    pub key: String,
    pub values: Vec<String>,
}

/// One combination of settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its folder: `sink-10`, `deep-forcing-budget-16`. Unlike all others.
    pub name: String,
    /// What people read: `sink 10`.
    pub label: String,
    /// All settings in which points differ or that the sweep sets, by their names in the config file; those that mean
    /// nothing under the point's policy are left out.
    pub settings: BTreeMap<String, String>,
    /// The same with all settings of cache and sampler: what the point is.
    #[serde(default)]
    pub resolved: BTreeMap<String, String>,
    /// Why it is not rendered, when its settings break a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// A prompt of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepPrompt {
    /// The id or number of the prompt in its file, as videos are named by.
    pub id: String,
    /// The first prompt, in full.
    pub text: String,
}

impl SweepPlan {
    /// The plan of a folder, if it has one.
    ///
    /// # Errors
    /// When it cannot be read, or is of a later format.
    pub fn read(folder: &Path) -> Result<Option<Self>, SweepError> {
        let path = folder.join(PLAN_FILE);
        let unreadable = |reason: String| SweepError::PlanUnreadable {
            path: path.clone(),
            reason,
        };
        let text = match files::read_text(&path, files::LONGEST_TEXT) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let mut plan: Self = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if plan.format != FORMAT {
            return Err(unreadable(format!(
                "it has format {}, made by deepforcing {}, and this program reads format {FORMAT}",
                plan.format, plan.deepforcing
            )));
        }
        plan.check_names().map_err(unreadable)?;
        // Earlier versions had one model for all points.
        for point in &mut plan.points {
            let model = || plan.model.clone();
            point.resolved.entry("model".into()).or_insert_with(model);
        }
        Ok(Some(plan))
    }

    /// The models of its points.
    pub fn models(&self) -> BTreeSet<&str> {
        let of_points = self.points.iter().filter_map(|point| point.resolved.get("model"));
        let models: BTreeSet<&str> = of_points.map(String::as_str).collect();
        if models.is_empty() {
            return [self.model.as_str()].into();
        }
        models
    }

    /// Refuses names that are none of a single folder or file: videos are written under them.
    ///
    /// # Errors
    /// With the first such name.
    pub(crate) fn check_names(&self) -> Result<(), String> {
        let points = self.points.iter().map(|point| ("point", &point.name));
        let prompts = self.prompts.iter().map(|prompt| ("prompt", &prompt.id));
        match points.chain(prompts).find(|(_, name)| !files::is_single_name(name)) {
            None => Ok(()),
            Some((of, name)) => Err(format!(
                "`{name}` cannot be the name of a {of}, expected one without folders"
            )),
        }
    }

    /// Writes the plan into its folder; a kill leaves the old or the new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), SweepError> {
        let path = folder.join(PLAN_FILE);
        // Processes that render parts of one sweep may write at the same time.
        let draft = folder.join(format!(".{PLAN_FILE}.{}", std::process::id()));
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        let write = || -> io::Result<()> {
            let mut file = files::create(&draft)?;
            writeln!(file, "{text}")?;
            file.sync_data()?;
            fs::rename(&draft, &path)
        };
        write().map_err(|error| {
            fs::remove_file(&draft).ok();
            SweepError::PlanUnwritten {
                path: path.clone(),
                reason: error.to_string(),
            }
        })
    }
}
