//! Pictures and video files: from rendered frames to a video of any form, and from a clip or image to starting frames.
//!
//! | file | what it holds |
//! |---|---|
//! | `target` | [`Target`]: where a video goes and in which [`Form`] |
//! | `pattern`, `output` | names of numbered pictures; checks of a place, names while a video is written, the rename |
//! | `folders` | folders of outputs, made as needed; names beside an output |
//! | `writer` | [`VideoWriter`]: RGB frames in, a video out, nothing incomplete under its name |
//! | `backend` | what all forms have in common, and the choice between them |
//! | `destination` | bytes on their way to a file, safe against a kill |
//! | `encoded`, `gif`, `pictures`, `raw` | the forms: mp4 and webm, GIF, PNG and JPEG pictures, y4m and RGB |
//! | `encoders` | [`Encoder`]: those that can be used, and which a video wants |
//! | `codec`, `colour` | opening an encoder of FFmpeg with its options; BT.709 conversion between RGB and YUV |
//! | `program/` | the program `ffmpeg` in place of its libraries, and which of them is used |
//! | `metadata` | [`Metadata`]: title and comment, and [`read_metadata`] |
//! | `clip` | [`Clip`]: frames of an existing video or image, as a tensor |
//! | `still`, `still_kind` | reading an image; kinds of images, and how the camera was held |
//! | `reader`, `decode` | reading a clip, and the frames in it |
//! | `kinds`, `input` | which kinds of files are read; opening one, and nothing but the file itself |
//! | `mp4_tables`, `ffmpeg_text` | what an mp4 claims; every text that FFmpeg hands out |
//! | `probe` | [`probe`]: what a file holds |

mod backend;
mod clip;
mod destination;
mod encoders;
mod error;
mod folders;
mod gif;
mod kinds;
pub mod latents;
mod metadata;
mod mp4_tables;
mod output;
mod pattern;
mod pictures;
mod probe;
mod program;
mod raw;
mod reader;
mod settings;
mod still;
mod still_kind;
mod target;
mod writer;

#[cfg(feature = "ffmpeg")]
mod codec;
#[cfg(feature = "ffmpeg")]
mod colour;
#[cfg(feature = "ffmpeg")]
mod decode;
#[cfg(feature = "ffmpeg")]
mod encoded;
#[cfg(feature = "ffmpeg")]
mod ffmpeg_text;
#[cfg(feature = "ffmpeg")]
mod input;

pub use backend::find_encoder;
pub use clip::Clip;
pub use encoders::{Encoder, EncoderChoice};
pub use error::VideoError;
#[cfg(feature = "ffmpeg")]
pub use ffmpeg_text::error_text;
pub(crate) use folders::beside as hidden_name;
pub use folders::{check_folder_of, make_folder_of};
pub use metadata::{Metadata, read_metadata};
pub use pictures::{check_picture, save_picture};
pub use probe::{Colour, Probe, probe};
pub use program::{
    FfmpegProgram, Origin as ProgramOrigin, found_programs, listed as program_encoders, program_in_use, use_program,
};
pub use reader::{Picture, for_chosen_frames, for_each_frame, read_frames, read_last_frames, read_last_frames_fitted};
pub use settings::{Codec, EncoderInfo, Kept, Preset, RejectedEncoder, VideoSettings, VideoSummary};
pub use still::read_image;
pub use target::{Form, Target};
pub use writer::VideoWriter;

/// Ends all reading of videos in this process, now and later: the user wants to stop. What is being read fails.
pub fn stop_reading() {
    #[cfg(feature = "ffmpeg")]
    input::stop_reading();
    program::stop_reading();
}

/// The program's name as files carry it.
const SOFTWARE: &str = concat!("deepforcing ", env!("CARGO_PKG_VERSION"));
