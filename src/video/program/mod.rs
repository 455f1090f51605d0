//! The program `ffmpeg` as a child process: what encodes and reads where FFmpeg's libraries are not linked, or another
//! FFmpeg is wanted.
//!
//! | file | what it holds |
//! |---|---|
//! | `find` | which program it is, and whether it can be used |
//! | `child` | one run of it, with an end even if it hangs |
//! | `options` | the options of each encoder; which encoder works |
//! | `encode` | pictures in, pieces of a video out, one at each flush |
//! | `pieces_mp4`, `pieces_webm` | what is taken of a piece, and the texts of a video |
//! | `complete` | the copy that players can search |
//! | `look` | what a file holds, from what the program says of it |
//! | `frames`, `read` | frames of a file; clips and images of them |
//!
//! A program cannot be asked to hand out what it has so far. So each piece of a video, up to a flush, is made by a run of
//! its own, which ends with the piece: then all of it is there, with any version and any encoder. The pieces are put one
//! behind the other. Each begins with a keyframe.

mod child;
mod complete;
mod encode;
mod find;
mod frames;
mod look;
mod options;
mod pieces_mp4;
mod pieces_webm;
mod read;

#[cfg(all(test, unix))]
mod tests;

pub(super) use child::stop_reading;
pub(super) use complete::complete;
pub(super) use encode::open_encoded;
pub use find::{FfmpegProgram, Origin, found_programs, program_in_use, use_program};
pub(super) use find::{Through, through};
pub use options::listed;
pub(super) use read::{container_metadata, for_chosen_frames, probe, read_frames, read_last_frames, read_other_image};
