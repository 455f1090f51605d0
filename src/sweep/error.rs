//! What can be wrong with a sweep.

use std::path::PathBuf;

/// Why a sweep cannot run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SweepError {
    /// A value that the parameter does not accept.
    #[error("{place} has `{value}`: {reason}")]
    Value {
        /// The flag or the key in a file.
        place: String,
        value: String,
        reason: String,
    },
    /// A range from a number to a lower one.
    #[error("{place} has the range `{range}`, which goes down; write it as {low}..{high} (both ends belong to it)")]
    RangeDown {
        place: String,
        range: String,
        low: u64,
        high: u64,
    },
    /// A range that is none.
    #[error(
        "{place} has `{range}`: expected FIRST..LAST or FIRST..LAST..STEP in whole numbers (both ends belong to it), for \
         example 0..20..5"
    )]
    Range { place: String, range: String },
    /// More values than anybody renders.
    #[error("{place} has more than {most} values; give fewer, or a range with a larger step (FIRST..LAST..STEP)")]
    TooManyValues { place: String, most: usize },
    /// More points than anybody renders.
    #[error("the grid has {points} points, more than {most}; give fewer values")]
    TooManyPoints { points: usize, most: usize },
    /// A flag sets what tells the points of a preset apart.
    #[error("the points of preset `{preset}` set `{key}` themselves; leave {flag} out, or use a preset of your own")]
    PointsSet { preset: String, key: String, flag: String },
    /// Models whose videos cannot be compared.
    #[error("{one}, {other}; give all of them one size with --size (and one rate with --fps), or sweep each alone")]
    Sizes { one: String, other: String },
    /// A sweep of nothing.
    #[error("the grid has no point; give at least one value, for example --sink 4,9")]
    NoPoints,
    /// No point obeys the rules.
    #[error(
        "the grid has no legal point: {}{reasons}; change the values, for example by another --policy",
        match points { 1 => "its only point breaks a rule: ".into(), points => format!("all {points} break a rule: ") }
    )]
    NoLegalPoint { points: usize, reasons: String },
    /// Some points break rules, and that was not to be.
    #[error("{illegal} of {points} points break a rule: {reasons}; leave them out with --illegal skip")]
    Illegal {
        illegal: usize,
        points: usize,
        reasons: String,
    },
    /// A preset of sweeps that does not exist.
    #[error("unknown sweep preset `{name}`{hint} (or give the path of a .toml file)")]
    UnknownPreset { name: String, hint: String },
    /// A preset of models where one of sweeps is expected.
    #[error(
        "`{name}` is a preset of models, and --preset names a sweep here; choose the model with --model {name}, or its \
         settings alone with --model-preset {name}"
    )]
    ModelPreset { name: String },
    /// A preset file that cannot be read.
    #[error("cannot read the sweep preset `{}`: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// A list of trajectories that cannot be read.
    #[error("cannot read the list of trajectories `{}`: {reason}", path.display())]
    Trajectories { path: PathBuf, reason: String },
    /// A preset file that is not TOML or has something wrong.
    #[error("`{place}`: {reason}")]
    Preset {
        /// File and line.
        place: String,
        reason: String,
    },
    /// A plan that cannot be read.
    #[error("cannot read `{}`: {reason}; correct it, remove it (finished videos stay known), or give another folder", path.display())]
    PlanUnreadable { path: PathBuf, reason: String },
    /// A plan that cannot be written.
    #[error("cannot write `{}`: {reason}; check the free space of its disk, then run the same command again", path.display())]
    PlanUnwritten { path: PathBuf, reason: String },
    /// The folder holds another sweep.
    #[error(
        "folder `{}` holds a sweep of something else: {changes}; give another folder, or render all of it again with \
         --overwrite",
        folder.display()
    )]
    OtherSweep { folder: PathBuf, changes: String },
}

impl SweepError {
    /// Whether the fault lies in what was asked for.
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            Self::Unreadable { .. }
                | Self::Trajectories { .. }
                | Self::PlanUnreadable { .. }
                | Self::PlanUnwritten { .. }
                | Self::OtherSweep { .. }
        )
    }
}
