//! How fast this machine makes videos, and whether its devices agree.
//!
//! | file | what it holds |
//! |---|---|
//! | `networks` | networks from files, or with random weights made on the device |
//! | `run` | the measurement: stage by stage, then all stages side by side |
//! | `loops` | what other loops do: a cache encoded again, a rolling window, a LoRA |
//! | `clock` | times of what a device does |
//! | `flops` | floating-point operations by arithmetic |
//! | `ceiling` | how fast the device multiplies matrices |
//! | `machine` | what the numbers were measured on |
//! | `report` | the result as a table and as JSON |
//! | `compare` | two results side by side |
//! | `parity` | a rollout on a device against the same on the CPU |
//!
//! Stages are measured one after the other with the device synchronised between them, so a stage's time is its own;
//! what a user sees is the run with all stages side by side, which follows.

mod ceiling;
mod clock;
pub mod compare;
pub mod flops;
pub mod loops;
mod machine;
pub mod networks;
pub mod parity;
pub mod report;
mod run;
mod world;

pub use compare::compare;
pub use machine::Machine;
pub use networks::{Networks, Scale, random_weights};
pub use report::{BenchReport, FORMAT};
pub use run::{BenchSettings, run};

/// A measurement that cannot be made or compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BenchError {
    /// Too few chunks to say anything.
    #[error("{chunks} chunks are too few to measure: take at least 2")]
    TooFewChunks { chunks: usize },
    /// An earlier result that cannot be read.
    #[error("`{path}` is no result of `deepforcing bench --json` that can be read: {reason}")]
    NotAReport { path: String, reason: String },
    /// Loops that no world is made by.
    #[error("--loops measures what models do that read prompts, and `{preset}` is a world: leave it out")]
    NoLoops { preset: String },
    /// Devices that do not agree.
    #[error("the device does not agree with the CPU: {reason}")]
    Differs { reason: String },
}

impl BenchError {
    /// Whether another flag or file is what helps.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Differs { .. })
    }
}
