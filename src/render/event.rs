//! What a caller hears of a run, from the search for its model to the last picture.

use std::time::Duration;

use crate::{
    Error,
    hub::Transfer,
    recipe::VideoRecord,
    render::pipeline::Update,
    video::{EncoderInfo, VideoSummary},
};

/// What happens on the way to the videos of a run.
pub enum Event<'a> {
    /// A step that takes a while begins.
    Stage(&'a str),
    /// Something that whoever asked for the videos should know.
    Note(&'a str),
    /// Something that is probably not meant.
    Warning(&'a str),
    /// Something for those who want to know more.
    Detail(&'a str),
    /// Files of the model `model` are downloaded.
    Download { model: &'a str, transfer: Transfer<'a> },
    /// A video is next.
    Video(InWork),
    /// The encoder is open; `chunks` chunks will come.
    Begun { encoder: &'a EncoderInfo, chunks: usize },
    /// News of the pipeline. Pictures are shown before they are encoded.
    Update(&'a Update),
    /// The pictures of the last update are encoded and safe on disk.
    Encoded(Duration),
    /// The video's file is complete; false when it was stopped early.
    Finished { summary: &'a VideoSummary, complete: bool },
    /// A video of a list cannot be made and is left out; `video` is how messages call it.
    Skipped { video: &'a str, error: &'a Error },
}

/// The video that is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InWork {
    /// Which of how many videos of the run, from 1.
    pub number: (usize, usize),
    pub pictures: usize,
    /// Pictures of the videos of the run before this one.
    pub done: usize,
    /// Pictures of all videos of the run.
    pub all: usize,
    /// Pictures per second of the video.
    pub fps: u32,
    /// Of a picture, in pixels.
    pub width: usize,
    /// Of a picture, in pixels.
    pub height: usize,
}

impl InWork {
    /// The video `video`, which is `number.0` of `number.1`, after `done` of `all` pictures of the run.
    pub fn of(video: &VideoRecord, number: (usize, usize), (done, all): (usize, usize)) -> Self {
        Self {
            number,
            pictures: video.pictures,
            done,
            all,
            fps: video.fps,
            width: video.width,
            height: video.height,
        }
    }
}
