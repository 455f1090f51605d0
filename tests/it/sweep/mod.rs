//! `deepforcing sweep` from the outside.
#![cfg(feature = "ffmpeg")]

mod bad_input;
use crate::batch::desk;
mod grids;
mod resumed;
mod sweeps;
mod systems;
