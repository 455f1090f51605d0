//! Model files from a hub: a server on this machine stands in for it.

mod library;
mod program;
mod server;
