//! `deepforcing report`: what it makes of folders of every state, and what a browser makes of its page.
#![cfg(feature = "ffmpeg")]

mod browser;
mod folder;
mod in_browser;
mod kinds;
mod messages;
use crate::cli::program;
mod results;
