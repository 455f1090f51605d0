//! What makes a world of a scene: an image and actions in place of prompts.

use crate::{
    Result,
    config::{Origin, Settings},
    models::Located,
    prompts::{
        Scene,
        actions::{ActionError, ActionPlan, ActionRecord, Controls},
    },
    rollout::start::StartFile,
};

/// Refuses a scene that says what the model does not read, or does not say what it needs. `label` is what messages call
/// the scene.
///
/// # Errors
/// With the first such thing.
pub(crate) fn check(
    scene: &Scene,
    label: &dyn Fn() -> String,
    start: Option<&StartFile>,
    located: &Located,
) -> Result<(), ActionError> {
    let model = || located.model.clone();
    let prompt = scene.segments.first();
    if located.preset.controls.is_none() {
        return match (&scene.actions, prompt) {
            (Some(_), _) => Err(ActionError::NoControls { model: model() }),
            (None, Some(_)) => Ok(()),
            (None, None) => Err(ActionError::NoPrompt {
                video: label(),
                model: model(),
            }),
        };
    }
    match (prompt, start) {
        (Some(prompt), _) => Err(ActionError::PromptUnread {
            model: model(),
            prompt: prompt.text.clone(),
        }),
        (None, None) => Err(ActionError::NoImage { model: model() }),
        (None, Some(StartFile::Clip(_))) => Err(ActionError::ClipStart { model: model() }),
        (None, Some(StartFile::Image(_))) => Ok(()),
    }
}

/// What is done in a scene, if the model makes worlds.
pub(crate) struct Steered {
    controls: Controls,
    plan: ActionPlan,
}

impl Steered {
    /// Of a world that says nothing of actions, nothing is done in it.
    ///
    /// # Errors
    /// When the actions cannot be read, or are not those of the model.
    pub fn of(scene: &Scene, located: &Located) -> Result<Option<Self>, ActionError> {
        let Some(controls) = located.preset.controls else {
            return Ok(None);
        };
        let plan = match &scene.actions {
            Some(source) => source.read(controls)?,
            None => ActionPlan::still(controls),
        };
        Ok(Some(Self { controls, plan }))
    }

    /// The actions of a video of `pictures` pictures.
    ///
    /// # Errors
    /// When there are more or fewer.
    pub fn record(self, pictures: usize) -> Result<ActionRecord, ActionError> {
        Ok(ActionRecord {
            controls: self.controls,
            trajectory: self.plan.for_pictures(pictures)?,
        })
    }
}

/// Length of a scene in seconds: its own, that of the command line, that of its actions, or the usual one.
pub(crate) fn seconds(scene: &Scene, settings: &Settings, steered: Option<&Steered>) -> f64 {
    let usual = &settings.seconds;
    let typed = matches!(usual.origin, Origin::Flag { .. }).then_some(usual.value);
    let of_actions = || {
        let pictures = steered?.plan.pictures()?;
        Some(pictures as f64 / f64::from(settings.fps.value.max(1)))
    };
    scene.seconds.or(typed).or_else(of_actions).unwrap_or(usual.value)
}
