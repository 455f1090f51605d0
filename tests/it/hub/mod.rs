//! Model files from a hub: a server on this machine stands in for it.

mod answers;
mod cache;
mod desk;
mod program;
pub mod server;
mod transfers;
mod trust;
