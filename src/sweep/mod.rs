//! The same videos under many settings: a grid of cache and sampler parameters, rendered into one folder.
//!
//! | file | what it holds |
//! |---|---|
//! | `plan` | [`SweepPlan`]: points, prompts and seeds of a sweep, as its folder keeps them |

mod plan;

pub use plan::{Axis, PLAN_FILE, Point, SweepPlan, SweepPrompt};
