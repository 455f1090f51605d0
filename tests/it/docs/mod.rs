//! What is written about the program, held against the program.
//!
//! | module | what it checks |
//! |---|---|
//! | `citations` | pages of `docs/algorithms` that comments cite, and their sections |
//! | `links` | links, anchors, paths and `make` targets in the repository's pages |
//! | `commands` | every `deepforcing …` line of a code block, run by the built program |
//! | `reference` | `docs/reference.md` is what the program says of itself |
//! | `rooms` | imports between the folders of `src` go one way |

mod citations;
#[cfg(feature = "ffmpeg")]
mod commands;
#[cfg(feature = "ffmpeg")]
mod desk;
mod links;
mod pages;
#[cfg(feature = "ffmpeg")]
mod reference;
mod rooms;
