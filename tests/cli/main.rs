//! The built program from the outside: what it renders, what it refuses, what is left when it is stopped.
#![cfg(feature = "ffmpeg")]

#[path = "../checkpoints/build.rs"]
#[allow(dead_code)]
mod build;
mod interrupted;
mod model;
mod program;
mod refused_files;
mod refused_requests;
mod renders;
