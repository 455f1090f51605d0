//! The same videos under many settings: a grid of cache and sampler parameters, rendered into one folder.
//!
//! | file | what it holds |
//! |---|---|
//! | `values` | lists and ranges as people write them |
//! | `grid` | [`Grid`]: the product of lists as points, which are legal and which are the same |
//! | `preset` | [`SweepPreset`]: sweeps in TOML files, those of the paper among them |
//! | `plan` | [`SweepPlan`]: points, prompts and seeds of a sweep, as its folder keeps them |
//! | `extend` | a sweep in a folder that holds one already |
//! | `items` | the videos of a plan |
//! | `trajectories` | worlds: every start with each of several trajectories |

mod error;
mod extend;
mod grid;
mod items;
mod plan;
mod preset;
mod trajectories;
mod values;

pub use crate::batch::PointSettings;
pub use error::SweepError;
pub use extend::Extended;
pub use grid::{Assignments, Grid, NamedPoint, Points, Resolved, axis_keys, has_meaning, parameters, systems};
pub use items::{items, prompts};
pub use plan::{Axis, FORMAT, PLAN_FILE, Point, SweepPlan, SweepPrompt};
pub use preset::SweepPreset;
pub use trajectories::{read_trajectories, with_trajectories};
pub use values::values;
