//! The built program from the outside: what it renders, what it refuses, what is left when it is stopped.
#![cfg(feature = "ffmpeg")]

use crate::checkpoints::build;
mod converts;
mod dry_run;
use crate::video::foreign;
mod interrupted;
mod loops;
mod loras;
mod messages;
pub mod model;
mod policies;
pub mod program;
mod pulls;
mod recipes;
mod refused_files;
mod refused_requests;
mod renders;
#[cfg(unix)]
mod resumed;
use crate::hub::server;
mod several;
mod starts;
mod strangers;
mod streams;
mod switches;
mod walks;
mod weights;
mod worlds;
