//! `deepforcing batch` from the outside.
#![cfg(feature = "ffmpeg")]

mod bad_input;
#[path = "../checkpoints/build.rs"]
#[allow(dead_code)]
mod build;
mod desk;
mod library;
mod lists;
mod measures;
#[path = "../cli/model.rs"]
#[allow(dead_code)]
mod model;
#[path = "../cli/program.rs"]
#[allow(dead_code)]
mod program;
mod resumed;
