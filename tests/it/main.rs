//! Tests of the library and of the built program, in one crate: one link in place of many.
//!
//! | module | what it holds |
//! |---|---|
//! | `batch` | `deepforcing batch` from the outside |
//! | `checkpoints` | Model files as they come, and (in `refused`) as they should not come |
//! | `cli` | The built program from the outside: what it renders, what it refuses, what is left when it is stopped |
//! | `docs` | What is written about the program, held against the program |
//! | `faults` | Calls that write fail on purpose, one after the other, under the built program |
//! | `hub` | Model files from a hub: a server on this machine stands in for it |
//! | `manifests` | The tensors that the code asks for at the published sizes, compared both ways with the published checkpoints |
//! | `metrics` | Measures of videos: known answers, the formulas in numpy, and the command |
//! | `plans` | Properties of cache plans: for any legal parameters and any number of chunks, without tensors |
//! | `report` | `deepforcing report`: what it makes of folders of every state, and what a browser makes of its page |
//! | `rolling` | Properties of rolling windows: every chunk leaves clean, once and in order |
//! | `rollouts` | Properties of whole rollouts, on a tiny network with random weights: one token per latent frame, so that long videos |
//! | `starts` | Videos that begin from pictures: through the VAE's encoder into the rollout, and out through the decoder |
//! | `sweep` | `deepforcing sweep` from the outside |
//! | `terminal` | What the program says about itself and what it shows in a terminal |
//! | `tiny` | A tiny network with random weights, for the tests of rollouts |
//! | `trace` | Traces from the outside: recorded by `generate --trace`, read back, drawn by `deepforcing trace` |
//! | `video` | Videos as files: what players find in them, what a killed run leaves, every refusal; clips and images read back |
//!
//! `golden` (a runner of its own), `memory` and `fuzz` (which count allocations) and `cuda_on_demand` are crates of their
//! own.

mod batch;
mod checkpoints;
mod cli;
mod docs;
mod faults;
mod hub;
mod manifests;
mod metrics;
mod plans;
mod report;
mod rolling;
mod rollouts;
mod starts;
mod sweep;
mod terminal;
mod tiny;
mod trace;
mod video;
mod worlds;
