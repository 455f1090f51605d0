//! Measures of videos: known answers, the formulas in numpy, and the command.

mod clips;
mod known;
#[cfg(feature = "ffmpeg")]
mod program;
mod reference;
