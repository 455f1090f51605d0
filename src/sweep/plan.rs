//! What a sweep renders, as its folder keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Name of the file in the folder of a sweep that holds its [`SweepPlan`].
///
/// The videos lie beside it as `POINT/STEM.EXTENSION`, one folder per point; each has a line in the folder's
/// `manifest.jsonl` (see [`crate::batch::Entry`]) with the number of its point and what was measured of it.
pub const PLAN_FILE: &str = "sweep.json";

/// The grid of a sweep, and what is rendered at each of its points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepPlan {
    /// Of this file; 1.
    pub format: u32,
    /// Version of the program.
    pub deepforcing: String,
    /// The command line that made it, to repeat it: program name and arguments.
    pub command: Vec<String>,
    /// Name of the preset of the sweep, if one was used.
    pub preset: Option<String>,
    /// Name or folder of the model.
    pub model: String,
    /// Playing time of each video in seconds.
    pub seconds: f64,
    /// Pictures per second.
    pub fps: f64,
    /// The parameters that take several values, the slowest first.
    pub axes: Vec<Axis>,
    pub points: Vec<Point>,
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
    /// All settings in which points differ or that the sweep sets, by their names in the config file.
    pub settings: BTreeMap<String, String>,
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
