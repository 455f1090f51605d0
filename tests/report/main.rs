//! `deepforcing report`: what it makes of folders of every state, and what a browser makes of its page.
#![cfg(feature = "ffmpeg")]

mod browser;
mod folder;
mod in_browser;
mod kinds;
mod messages;
#[path = "../cli/program.rs"]
#[allow(dead_code)]
mod program;
mod results;

// `program` asks for them.
#[path = "../checkpoints/build.rs"]
#[allow(dead_code)]
mod build;
#[path = "../cli/model.rs"]
#[allow(dead_code)]
mod model;
