//! What the program says about itself and what it shows in a terminal.

mod bench;
mod completions;
mod config;
mod desk;
mod doctor;
#[cfg(unix)]
mod live;
mod messages;
