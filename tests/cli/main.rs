//! The built program from the outside: what it renders, what it refuses, what is left when it is stopped.
#![cfg(feature = "ffmpeg")]

#[path = "../checkpoints/build.rs"]
#[allow(dead_code)]
mod build;
mod dry_run;
#[path = "../video/foreign.rs"]
#[allow(dead_code)]
mod foreign;
mod interrupted;
mod messages;
mod model;
mod program;
mod pulls;
mod recipes;
mod refused_files;
mod refused_requests;
mod renders;
#[cfg(unix)]
mod resumed;
#[path = "../hub/server.rs"]
#[allow(dead_code)]
mod server;
mod several;
mod starts;
mod strangers;
mod streams;
mod switches;
