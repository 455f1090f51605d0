//! What is to be filmed: prompts of one or many videos, from files and from the command line.
//!
//! | file | what it holds |
//! |---|---|
//! | `file` | prompt files as text: encodings, lines, limits; the kinds `.txt` and `.jsonl` |
//! | `table` | the kind `.csv` |
//! | `written` | a video as a line of a `.jsonl` file |
//! | `jsonl` | one line of a `.jsonl` file |
//! | `moment` | points in time as people write them, and `--switch` |
//! | `actions/` | what keys and mouse do in a world: controls, trajectories as text, as files and at random |
//! | `resolve` | from points in time to the chunks at which prompts take over |
//! | `names` | a file name for each of several videos |
//!
//! # Prompt files
//!
//! Text is UTF-8; a byte order mark is dropped, and lines end as on any system. Empty lines and lines that begin with
//! `#` (comments) are left out, in every kind of file; line numbers in messages count them.
//!
//! `.txt`: one prompt per line, one video per prompt.
//!
//! `.jsonl`: one JSON object per line, one video per object. A superset of LongLive's `{"prompts": ["a", "b"]}`:
//!
//! | key | value |
//! |---|---|
//! | `prompt` | the prompt of a video without switches |
//! | `prompts` | list of prompts that follow each other (in place of `prompt`) |
//! | `switch` | list of the points where the second and later prompts take over: numbers are seconds, strings are `"12s"`, `"1:30"`, `"1m30s"` or latent frames `"40f"`; without it all prompts get equal shares of the video |
//! | `on_switch` | what becomes of the cache at a switch: `"keep"`, `"recache"`, `"flush"` or `"cut"`, or a list with one of them (or `null`, as for all videos) for each switch |
//! | `switch_frame_indices` | the same as a list of latent frames, as in LongLive's configuration |
//! | `seed` | whole number, 0 to 2⁶⁴ − 1; -1 or `"random"` draws one |
//! | `seconds` | length of the video: a number, or a text such as `"90s"` or `"1:30"` |
//! | `id` | name of the video, for its file name; each only once in a file |
//! | `image` | picture that the video starts from; relative to the folder of the prompt file |
//! | `actions` | what is done in a world, as text or as the name of a file (see [`actions`]); relative as `image` |
//! | `error` | why a batch could not make the video, in its `failed.jsonl`; not read |
//! | `settings` | settings of that batch, its model among them, as an object of texts; under flags, over the config file |
//! | `videos` | which videos of the prompt a sweep could not make, in its `failed.jsonl`; not read |
//!
//! Other keys are refused. A line with `image` or `actions` need not have a prompt: worlds read none.
//!
//! `.csv`: the first line names the columns, which are keys of a `.jsonl` file in capitals or not; lists are written as
//! JSON (`"[""a"", ""b""]"`), and an empty cell is as if the column were not there. Columns are parted by commas,
//! semicolons or tabs, as the first line has them; columns without a name and without content are left out.

pub mod actions;
mod error;
mod file;
mod jsonl;
mod moment;
mod names;
mod resolve;
mod table;
mod written;

use std::{collections::BTreeMap, path::PathBuf};

use self::actions::ActionSource;
use crate::rollout::SwitchRule;

pub use error::{LineProblem, PromptError};
pub use file::{Format, PromptList, read_prompts, read_prompts_from};
pub(crate) use jsonl::VIDEOS as FAILED_VIDEOS;
pub use moment::{Moment, MomentError, parse_moment, parse_switch};
pub use names::{NameError, output_names, safe_file_name};
pub use resolve::{MovedSwitch, PromptSpan, Resolved, SwitchError, check_recaches, resolve_switches};

/// A prompt, and from when on it applies.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    pub text: String,
    pub start: Moment,
    /// What becomes of the cache where the prompt takes over; `None` is up to the settings that hold for all videos.
    pub on_switch: Option<SwitchRule>,
}

/// One video to make. What is `None` is up to the settings that hold for all videos.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scene {
    /// Name for the file; unique in a prompt file.
    pub id: Option<String>,
    /// The first starts at 0; none for a world.
    pub segments: Vec<Segment>,
    pub seed: Option<u64>,
    /// Whether the seed was drawn, because any will do.
    pub seed_drawn: bool,
    pub seconds: Option<f64>,
    /// Picture that the video starts from.
    pub image: Option<PathBuf>,
    /// What is done in it, if it is a world.
    pub actions: Option<ActionSource>,
    /// Settings by name, of a batch whose failures the file lists.
    pub settings: BTreeMap<String, String>,
    /// Line of the prompt file, from 1.
    pub line: Option<usize>,
}

impl Scene {
    /// A video of a single prompt.
    pub fn of_prompt(text: impl Into<String>) -> Self {
        Self {
            segments: vec![Segment {
                text: text.into(),
                start: Moment::START,
                on_switch: None,
            }],
            ..Self::default()
        }
    }

    /// The first prompt; of a world what is done in it.
    pub fn title(&self) -> &str {
        match (self.segments.first(), &self.actions) {
            (Some(segment), _) => &segment.text,
            (None, Some(ActionSource::Text(text))) => text,
            (None, Some(ActionSource::File(path))) => path.to_str().unwrap_or_default(),
            (None, None) => "",
        }
    }

    /// How messages call the video: its id, its line, or its number (`index` counts from 0).
    pub fn label(&self, index: usize) -> String {
        match (&self.id, self.line) {
            (Some(id), Some(line)) => format!("`{id}` (line {line})"),
            (Some(id), None) => format!("`{id}`"),
            (None, Some(line)) => format!("the prompt of line {line}"),
            (None, None) => format!("video {index}"),
        }
    }
}
