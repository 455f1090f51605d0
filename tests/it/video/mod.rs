//! Videos as files: what players find in them, what a killed run leaves, every refusal; clips and images read back.
#![cfg(feature = "ffmpeg")]

mod encoder;
mod failures;
pub mod foreign;
mod forms;
mod images;
mod metadata;
mod program;
mod reading;
mod samples;
mod targets;
