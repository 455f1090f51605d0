//! `deepforcing sweep` from the outside.
#![cfg(feature = "ffmpeg")]

mod bad_input;
#[path = "../checkpoints/build.rs"]
#[allow(dead_code)]
mod build;
#[path = "../batch/desk.rs"]
#[allow(dead_code)]
mod desk;
mod grids;
#[path = "../cli/model.rs"]
#[allow(dead_code)]
mod model;
#[path = "../cli/program.rs"]
#[allow(dead_code)]
mod program;
mod resumed;
mod sweeps;
