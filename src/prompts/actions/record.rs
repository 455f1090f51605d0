//! The actions of a recipe.

use serde::{Deserialize, Serialize};

use super::{ActionError, ActionPlan, ActionProblem, Controls, Trajectory};
use crate::rollout::actions::{ActionRows, ActionRowsError};

/// What was done in every picture of a video, as its recipe keeps it: the control scheme, and the trajectory as text with
/// how many pictures each action lasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct ActionRecord {
    pub controls: Controls,
    pub trajectory: Trajectory,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    controls: Controls,
    trajectory: String,
}

impl From<ActionRecord> for Written {
    fn from(record: ActionRecord) -> Self {
        Self {
            controls: record.controls,
            trajectory: record.text(),
        }
    }
}

impl TryFrom<Written> for ActionRecord {
    type Error = ActionError;

    fn try_from(written: Written) -> Result<Self, ActionError> {
        let plan = ActionPlan::parse(&written.trajectory, written.controls)?;
        let pictures = plan.pictures().ok_or_else(|| ActionError::Text {
            place: String::new(),
            problem: ActionProblem::NoEnd,
        })?;
        Ok(Self {
            controls: written.controls,
            trajectory: plan.for_pictures(pictures)?,
        })
    }
}

impl ActionRecord {
    /// The trajectory as text.
    pub fn text(&self) -> String {
        self.trajectory.text(self.controls)
    }

    /// The same for people: at most so many changes of the action.
    pub fn summary(&self, most: usize) -> String {
        let runs = self.trajectory.runs();
        if runs.len() <= most {
            return self.text();
        }
        let first = runs.iter().take(most);
        let first: Vec<_> = first
            .map(|run| format!("{}*{}", self.controls.text(run.action), run.pictures))
            .collect();
        format!("{}, … and {} more", first.join(", "), runs.len() - most)
    }

    /// One row per picture, for the pictures of `latent_frames` latent frames.
    ///
    /// # Errors
    /// As [`Trajectory::rows`].
    pub fn rows(&self, latent_frames: usize) -> Result<ActionRows, ActionRowsError> {
        self.trajectory.rows(self.controls, latent_frames)
    }
}
