//! The image that a world begins with, as a network reads it (docs/algorithms/matrix_game_2.md section 4).

pub mod clip;
pub mod picture;

pub use clip::{ClipConfig, ClipVision};
