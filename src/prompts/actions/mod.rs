//! What the keys and the mouse do in a world: which controls a model has, and trajectories as people write them.
//!
//! | file | what it holds |
//! |---|---|
//! | `controls` | [`Controls`]: the keys of each control scheme, one table row per scheme |
//! | `schemes` | the rows of that table |
//! | `grammar` | `w*48, w+left*24, none*48` |
//! | `file` | trajectories in files |
//! | `random` | random trajectories |
//! | `record` | [`ActionRecord`]: the actions of a recipe |
//!
//! # Trajectories
//!
//! As text: `ACTION*PICTURES`, separated by commas, semicolons or line ends. An action is one key or several joined by
//! `+`; keys are those of the published tools (`w`, `j`) or plain names (`forward`, `turn-left`), in capitals or not.
//! `none` is no key at all. A key of the camera or of the wheel takes a strength: `turn-left=0.05`. The last action may
//! have no number (`none*`, or `none` alone): it lasts to the end of the video. An earlier one must have one.
//!
//! As a file: `.txt` holds such text; `.jsonl` one object per line, `.csv` a table with the same names as columns, a row
//! for each picture or for several:
//!
//! | key | value |
//! |---|---|
//! | `action` | an action, as above |
//! | `frames` | for how many pictures; 1 without it |
//! | `keyboard` | in place of `action`: 0 or 1 for each keyboard column of the model |
//! | `mouse` | beside `keyboard`: vertical (+ up) and horizontal (+ right) movement of the picture; `[0, 0]` without it |

mod controls;
mod error;
mod file;
mod grammar;
mod random;
mod record;
mod schemes;

use std::path::{Path, PathBuf};

pub use controls::{Axis, Controls, Effect, Key, Mouse, Rest, Scheme};
pub use error::{ActionError, ActionProblem};
pub use random::random;
pub use record::ActionRecord;

use crate::rollout::actions::{ActionRows, ActionRowsError};

/// Most changes of the action in one trajectory: a day of one per second fits many times.
const MOST_RUNS: usize = 1 << 20;
/// Most pictures of a trajectory: a day at 240 per second.
const MOST_PICTURES: usize = 86_400 * 240;

/// What is pressed during one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Action {
    /// Keyboard columns that are 1, the first in the lowest bit.
    pub keys: u8,
    /// Vertical (+ up) and horizontal (+ right) movement; zero for models without a mouse.
    pub mouse: [f32; 2],
}

/// One action for several pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    pub action: Action,
    pub pictures: usize,
}

/// Actions as somebody wrote them, maybe without an end.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ActionPlan {
    trajectory: Trajectory,
    /// Lasts from there to the end of the video.
    rest: Option<Action>,
}

/// One action for each picture of a video.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trajectory {
    /// Neighbours differ, and none is empty.
    runs: Vec<Run>,
    pictures: usize,
}

impl Trajectory {
    /// Adds an action for the pictures that follow.
    ///
    /// # Errors
    /// When there are more pictures or changes than any video has.
    fn push(&mut self, action: Action, pictures: usize) -> Result<(), ActionProblem> {
        let longer = self.pictures.checked_add(pictures).filter(|all| *all <= MOST_PICTURES);
        self.pictures = longer.ok_or(ActionProblem::TooMany {
            what: "pictures",
            most: MOST_PICTURES,
        })?;
        let full = self.runs.len() == MOST_RUNS;
        match self.runs.last_mut() {
            _ if pictures == 0 => {}
            Some(last) if last.action == action => last.pictures += pictures,
            _ if full => {
                return Err(ActionProblem::TooMany {
                    what: "changes of the action",
                    most: MOST_RUNS,
                });
            }
            _ => self.runs.push(Run { action, pictures }),
        }
        Ok(())
    }

    /// The actions in order; neighbours differ.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Pictures that have an action.
    pub fn pictures(&self) -> usize {
        self.pictures
    }

    /// As [`ActionPlan::parse`] reads it, with plain names of keys.
    pub fn text(&self, controls: Controls) -> String {
        let runs = self.runs.iter();
        let runs: Vec<_> = runs
            .map(|run| format!("{}*{}", controls.text(run.action), run.pictures))
            .collect();
        runs.join(", ")
    }

    /// As a `.jsonl` file of actions.
    pub fn json_lines(&self, controls: Controls) -> String {
        let line = |run: &Run| {
            let value = serde_json::json!({"frames": run.pictures, "action": controls.text(run.action)});
            format!("{value}\n")
        };
        self.runs.iter().map(line).collect()
    }

    /// One row per picture for the pictures of `latent_frames` latent frames. A video may end within its last latent
    /// frames: their pictures beyond the end, which nobody sees, have its last action (docs/algorithms/world_actions.md
    /// section 1).
    ///
    /// # Errors
    /// Only when a movement of the mouse is not finite.
    pub fn rows(&self, controls: Controls, latent_frames: usize) -> Result<ActionRows, ActionRowsError> {
        let pictures = crate::vae::pictures_of_latents(latent_frames);
        let each = self
            .runs
            .iter()
            .flat_map(|run| std::iter::repeat_n(run.action, run.pictures));
        let last = self.runs.last().map_or(controls.none(), |run| run.action);
        let actions: Vec<Action> = each.chain(std::iter::repeat(last)).take(pictures).collect();
        let keyboard = actions.iter().map(|action| controls.columns(action.keys)).collect();
        let mouse = controls.has_mouse();
        let mouse = mouse.then(|| actions.iter().map(|action| action.mouse).collect());
        ActionRows::new(keyboard, mouse)
    }
}

impl ActionPlan {
    /// Reads a text such as `w*48, w+left*24, none*`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str, controls: Controls) -> Result<Self, ActionError> {
        let plan = grammar::plan(text, controls);
        plan.map_err(|(place, problem)| ActionError::Text { place, problem })
    }

    /// No action at all, however long the video is.
    pub fn still(controls: Controls) -> Self {
        Self {
            trajectory: Trajectory::default(),
            rest: Some(controls.none()),
        }
    }

    /// Its length in pictures, if it has one.
    pub fn pictures(&self) -> Option<usize> {
        self.rest.is_none().then_some(self.trajectory.pictures)
    }

    /// The actions of a video of `pictures` pictures. Nothing is repeated that was not said to last to the end.
    ///
    /// # Errors
    /// When there are more or fewer than pictures.
    pub fn for_pictures(mut self, pictures: usize) -> Result<Trajectory, ActionError> {
        let actions = self.trajectory.pictures;
        if let (Some(rest), true) = (self.rest, actions < pictures) {
            let filled = self.trajectory.push(rest, pictures - actions);
            filled.map_err(|problem| ActionError::Text {
                place: String::new(),
                problem,
            })?;
            return Ok(self.trajectory);
        }
        match actions.cmp(&pictures) {
            std::cmp::Ordering::Equal => Ok(self.trajectory),
            std::cmp::Ordering::Less => Err(ActionError::Few { actions, pictures }),
            std::cmp::Ordering::Greater => Err(ActionError::Many { actions, pictures }),
        }
    }
}

/// Where actions come from, before it is known which controls they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionSource {
    Text(String),
    File(PathBuf),
}

impl ActionSource {
    /// A name that ends as files of actions do is that of a file, relative to `folder`; all else is text.
    pub fn new(text: &str, folder: &Path) -> Self {
        if file::Form::of_name(text).is_some() {
            Self::File(folder.join(text))
        } else {
            Self::Text(text.into())
        }
    }

    /// What it says, for a model with these controls.
    ///
    /// # Errors
    /// When a file cannot be read, or the first thing that is wrong.
    pub fn read(&self, controls: Controls) -> Result<ActionPlan, ActionError> {
        match self {
            Self::Text(text) => ActionPlan::parse(text, controls),
            Self::File(path) => file::read(path, controls),
        }
    }

    /// As it is written: the text, or the path.
    pub fn written(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::File(path) => path.to_string_lossy().into_owned(),
        }
    }

    /// A short name for people and files: that of the file, or the text.
    pub fn label(&self) -> String {
        match self {
            Self::Text(text) => text.trim().into(),
            Self::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
