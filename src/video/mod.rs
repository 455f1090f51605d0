//! Pictures and the video encoder.

/// What is wrong with the output file or the encoder.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {}
