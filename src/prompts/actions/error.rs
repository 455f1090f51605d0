//! What can be wrong with actions.

use std::path::PathBuf;

use super::Controls;

/// Actions that cannot steer a video.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ActionError {
    /// The file is missing or may not be read.
    #[error("cannot read the file of actions `{}`: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// Something in the text is wrong.
    #[error("actions{place}: {problem}")]
    Text {
        /// Which of them, with a space in front; empty for all.
        place: String,
        problem: ActionProblem,
    },
    /// Something in a file is wrong.
    #[error("file of actions `{}`{}: {problem}", path.display(), match line { 0 => String::new(), line => format!(", line {line}") })]
    File {
        path: PathBuf,
        /// From 1; 0 for the whole file.
        line: usize,
        problem: ActionProblem,
    },
    /// Fewer than pictures.
    #[error(
        "there are actions for {actions} pictures and the video has {pictures}: {} {} missing; let the last one last to \
         the end (`none*` for nothing pressed), or ask for a video of {actions} pictures",
        pictures - actions, if pictures - actions == 1 { "is" } else { "are" }
    )]
    Few { actions: usize, pictures: usize },
    /// More than pictures.
    #[error(
        "there are actions for {actions} pictures and the video has {pictures}: {} too many; leave them out, or ask for a \
         longer video (without --seconds it is as long as its actions)",
        actions - pictures
    )]
    Many { actions: usize, pictures: usize },
    /// Actions for a model that reads none.
    #[error(
        "the model `{model}` has no controls: it makes videos from prompts and reads no actions; leave out the actions, \
         or choose a world model with --model (`deepforcing models list`)"
    )]
    NoControls { model: String },
    /// A prompt for a model that reads none.
    #[error(
        "the model `{model}` reads no prompt: its world begins with an image and is steered by actions; leave out \"{prompt}\""
    )]
    PromptUnread { model: String, prompt: String },
    /// A world without an image.
    #[error("the model `{model}` continues an image, and there is none; give the start of its world with --image FILE")]
    NoImage { model: String },
    /// A world that is to go on from a clip.
    #[error(
        "the model `{model}` begins with an image and not with a clip; give it with --image FILE in place of --extend"
    )]
    ClipStart { model: String },
    /// A random trajectory of no length.
    #[error("how long the actions are is not known: give --pictures N, or with --model also --seconds")]
    NoLength,
    /// A file of a kind that no actions are written to.
    #[error("`{}` does not end in .jsonl or .txt, and actions are written as one of these; give such a name", path.display())]
    Ending { path: PathBuf },
    /// A model that reads prompts without one.
    #[error("{video}: there is no prompt, and the model `{model}` makes videos from prompts; say what the video shows")]
    NoPrompt { video: String, model: String },
}

/// What is wrong with one action.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ActionProblem {
    #[error("there is no action; write, for example, `w*12, none*`")]
    Empty,
    #[error("unknown key `{key}` (the controls are {controls}){hint}")]
    UnknownKey {
        key: String,
        controls: Controls,
        hint: String,
    },
    #[error("`{key}` is a key of the controls {other}, and the model has {controls}: {known}")]
    OtherControls {
        key: String,
        controls: Controls,
        other: Controls,
        known: String,
    },
    #[error("`{first}` and `{second}` cannot be pressed together: {reason}")]
    Clash {
        first: String,
        second: String,
        reason: &'static str,
    },
    #[error("`{text}` is no number of pictures; expected a whole number above 0 after *, or nothing: to the end")]
    Count { text: String },
    #[error("`{action}` lasts to the end of the video, and more follows it; say for how many pictures: `{action}*12`")]
    OpenInside { action: String },
    #[error("the last action has no number of pictures, and in a recipe all have one")]
    NoEnd,
    #[error("`{key}` is pressed or not and has no strength; leave out `={strength}`")]
    NoStrength { key: String, strength: String },
    #[error("`{strength}` is no strength of `{key}`; expected a number above 0, up to {most}")]
    Strength { key: String, strength: String, most: f32 },
    #[error(
        "the {axis} movement of the mouse is {value}, beyond the range of {controls}: at most {most} either way in a picture"
    )]
    MouseRange {
        axis: &'static str,
        value: f32,
        most: f32,
        controls: Controls,
    },
    #[error("the controls {controls} have no mouse; leave it out")]
    NoMouse { controls: Controls },
    #[error(
        "{pressed} columns of the keyboard are 1, and in {controls} it is always one; nothing pressed is its first: \
         [{none}] (`none`)"
    )]
    OneKey {
        controls: Controls,
        pressed: u32,
        none: String,
    },
    #[error("`keyboard` has {found} columns, and {controls} has {expected}: {names}")]
    Columns {
        found: usize,
        expected: usize,
        controls: Controls,
        names: String,
    },
    #[error("column {column} of `keyboard` is {value}; expected 0 (up) or 1 (pressed)")]
    NotPressed { column: usize, value: f64 },
    #[error("there is neither `action` nor `keyboard`; give one of them")]
    NoAction,
    #[error("`action` and `{other}` say the same; give one of them")]
    Both { other: &'static str },
    #[error("more than {most} {what}")]
    TooMany { what: &'static str, most: usize },
    /// What is no text, no JSON or no table.
    #[error("{reason}")]
    Unread { reason: String },
}

impl ActionError {
    /// Whether the fault lies in what was asked for.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Unreadable { .. })
    }
}
