//! Many videos in one folder, in a run that can be stopped at any moment and resumed.
//!
//! | file | what it holds |
//! |---|---|
//! | `shard` | which part of the list a process renders |
//! | `naming` | file names |
//! | `key` | what makes two videos the same |
//! | `manifest` | the finished videos of a folder, the state of a run |
//! | `compact` | measures in a line of a manifest |
//! | `failures` | the videos that could not be made, as a prompt file |
//! | `folder` | the folder, and who may write in it |
//! | `list` | [`List`]: what is to be made, and what is there already |
//! | `run` | [`Run`]: making it, video by video |
//! | `desk` | the files of a run |
//!
//! # Files in the folder
//!
//! | file | what it holds |
//! |---|---|
//! | `manifest.jsonl` | one line per finished video, appended and synced to disk |
//! | `failed.jsonl` | what could not be made, in the form of a prompt file |
//! | `.work/` | the video in work; it moves to its final name when it is complete |
//! | `.batch.lock` | held by the process that works in the folder |
//!
//! Processes that render different shards share the folder. Each has files of its own (`manifest-I-of-N.jsonl`,
//! `failed-I-of-N.jsonl`, `.work-I-of-N/`) and reads the manifests of all. A process without a shard has the folder for
//! itself.

mod compact;
mod desk;
mod error;
mod failures;
mod folder;
mod key;
mod list;
mod manifest;
mod naming;
mod run;
mod shard;

pub use error::BatchError;
pub use failures::Failures;
pub use folder::OutputFolder;
pub use key::{Key, differences};
pub use list::{Conflicts, Existing, List, Planned, PointSettings, State};
pub(crate) use manifest::manifests;
pub use manifest::{Entry, EntryTimes, Manifest};
pub use naming::{Item, Items, Naming, items};
pub use run::{Made, Run, Tally};
pub(crate) use run::{VideoRecordKey, loads, of_video};
pub use shard::Shard;
