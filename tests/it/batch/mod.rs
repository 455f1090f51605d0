//! `deepforcing batch` from the outside.
#![cfg(feature = "ffmpeg")]

mod bad_input;
pub mod desk;
mod library;
mod lists;
mod measures;
use crate::cli::program;
mod resumed;
