//! Traces from the outside: recorded by `generate --trace`, read back, drawn by `deepforcing trace`.
#![cfg(feature = "ffmpeg")]

#[path = "../checkpoints/build.rs"]
#[allow(dead_code)]
mod build;
mod messages;
#[path = "../cli/model.rs"]
#[allow(dead_code)]
mod model;
mod pages;
#[path = "../cli/program.rs"]
#[allow(dead_code)]
mod program;
mod recorded;
mod size;

/// A window so small that every chunk after the second one makes room in the cache.
const SMALL_CACHE: [&str; 8] = ["--window", "6", "--sink", "2", "--budget", "6", "--recent", "3"];
