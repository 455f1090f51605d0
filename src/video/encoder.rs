//! The mp4 writer for a path alone.

use std::path::{Path, PathBuf};

use super::{EncoderInfo, Form, Target, VideoError, VideoSettings, VideoSummary, VideoWriter, output::Output};

/// Encodes RGB frames into an mp4 file: a [`VideoWriter`] that knows where its partial file is.
#[derive(Debug)]
pub struct VideoEncoder {
    writer: VideoWriter,
    partial: PathBuf,
}

impl VideoEncoder {
    /// Opens an encoder for a video that will be at `path`, and the partial file beside it.
    ///
    /// # Errors
    /// As [`VideoWriter::create`]; [`VideoError::FormConflict`] for another extension than `.mp4`.
    pub fn create(path: &Path, settings: VideoSettings) -> Result<Self, VideoError> {
        let target = Target::parse(path, Some(Form::Mp4))?;
        let partial = Output::new(path)?.partial;
        let writer = VideoWriter::create(&target, settings)?;
        Ok(Self { writer, partial })
    }

    /// The encoder in use; differs from libx264 where the installed FFmpeg lacks it.
    pub fn info(&self) -> &EncoderInfo {
        self.writer.info()
    }

    /// Frames pushed so far.
    pub fn frames(&self) -> u64 {
        self.writer.frames()
    }

    /// Where the frames are until the video is finished.
    pub fn partial_path(&self) -> &Path {
        &self.partial
    }

    /// As [`VideoWriter::push`].
    ///
    /// # Errors
    /// As [`VideoWriter::push`].
    pub fn push(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        self.writer.push(rgb)
    }

    /// As [`VideoWriter::flush`].
    ///
    /// # Errors
    /// As [`VideoWriter::flush`].
    pub fn flush(&mut self) -> Result<(), VideoError> {
        self.writer.flush()
    }

    /// As [`VideoWriter::finish`].
    ///
    /// # Errors
    /// As [`VideoWriter::finish`].
    pub fn finish(self) -> Result<VideoSummary, VideoError> {
        self.writer.finish()
    }

    /// As [`VideoWriter::finish_partial`].
    ///
    /// # Errors
    /// As [`VideoWriter::finish`].
    pub fn finish_partial(self) -> Result<Option<VideoSummary>, VideoError> {
        self.writer.finish_partial()
    }
}
