//! Stands in for the encoder in builds without FFmpeg.

use std::{convert::Infallible, path::Path};

use super::{EncoderInfo, VideoError, VideoSettings, VideoSummary};

/// The video encoder, which this build lacks: [`create`](Self::create) always fails.
#[derive(Debug)]
pub struct VideoEncoder(Infallible);

impl VideoEncoder {
    /// # Errors
    /// Always [`VideoError::NoFfmpeg`].
    pub fn create(_path: &Path, _settings: VideoSettings) -> Result<Self, VideoError> {
        Err(VideoError::NoFfmpeg)
    }

    /// Unreachable in this build.
    pub fn info(&self) -> &EncoderInfo {
        match self.0 {}
    }

    /// Unreachable in this build.
    pub fn frames(&self) -> u64 {
        match self.0 {}
    }

    /// Unreachable in this build.
    pub fn partial_path(&self) -> &Path {
        match self.0 {}
    }

    /// Unreachable in this build.
    pub fn push(&mut self, _rgb: &[u8]) -> Result<(), VideoError> {
        match self.0 {}
    }

    /// Unreachable in this build.
    pub fn flush(&mut self) -> Result<(), VideoError> {
        match self.0 {}
    }

    /// Unreachable in this build.
    pub fn finish(self) -> Result<VideoSummary, VideoError> {
        match self.0 {}
    }

    /// Unreachable in this build.
    pub fn finish_partial(self) -> Result<Option<VideoSummary>, VideoError> {
        match self.0 {}
    }
}
