//! Traces from the outside: recorded by `generate --trace`, read back, drawn by `deepforcing trace`.
#![cfg(feature = "ffmpeg")]

mod messages;
mod pages;
use crate::cli::program;
mod recorded;
mod size;

/// A window so small that every chunk after the second one makes room in the cache.
const SMALL_CACHE: [&str; 8] = ["--window", "6", "--sink", "2", "--budget", "6", "--recent", "3"];
