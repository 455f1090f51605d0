//! What a user asks of a video: its size and its length.

use std::str::FromStr;

use crate::{
    transformer::config::PATCH,
    vae::{SPATIAL_FACTOR, TEMPORAL_FACTOR, pictures_of_latents},
};

/// Sizes must be multiples of this: one token is 2×2 latent positions of 8×8 pixels.
pub const SIZE_STEP: usize = SPATIAL_FACTOR * PATCH;
/// Largest side of a picture.
const LARGEST_SIDE: usize = 4096;
/// Longest video, a day: what is longer is a slip.
const LONGEST: f64 = 86_400.0;

/// A request that cannot be met.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RequestError {
    #[error(
        "size {width}x{height} is not possible: both sides must be multiples of {SIZE_STEP} up to {LARGEST_SIDE}; the nearest is {near_width}x{near_height}"
    )]
    Size {
        width: usize,
        height: usize,
        near_width: usize,
        near_height: usize,
    },
    #[error("{seconds} seconds is not a length: give a number above 0, up to {LONGEST} (a day)")]
    Seconds { seconds: f64 },
    #[error(
        "{seconds} seconds at {fps} pictures per second is less than one picture; ask for at least {shortest} seconds"
    )]
    NoPicture { seconds: f64, fps: u32, shortest: f64 },
    #[error("the preset has chunks of 0 latent frames; a chunk has at least 1 latent frame, 3 in most models")]
    EmptyChunk,
    #[error("the preset has 0 pictures per second; Wan models have 16")]
    NoRate,
}

/// A seed that nobody chose, short enough to be typed.
pub fn draw_seed() -> u64 {
    rand::random::<u32>().into()
}

/// Width and height of a picture in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSize {
    pub width: usize,
    pub height: usize,
}

impl FromStr for PictureSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected WIDTHxHEIGHT in pixels, for example 832x480".to_string();
        let (width, height) = text.split_once(['x', 'X']).ok_or_else(expected)?;
        let side = |side: &str| side.trim().parse::<usize>().map_err(|_| expected());
        Ok(Self {
            width: side(width)?,
            height: side(height)?,
        })
    }
}

impl PictureSize {
    /// The size, if the networks can make it.
    ///
    /// # Errors
    /// When a side is no multiple of 16, zero or absurd; the message names the nearest size.
    pub fn checked(self) -> Result<Self, RequestError> {
        let near = |side: usize| {
            let rounded = side.saturating_add(SIZE_STEP / 2) / SIZE_STEP * SIZE_STEP;
            rounded.clamp(SIZE_STEP, LARGEST_SIDE)
        };
        let Self { width, height } = self;
        let (near_width, near_height) = (near(width), near(height));
        if (near_width, near_height) == (width, height) {
            return Ok(self);
        }
        Err(RequestError::Size {
            width,
            height,
            near_width,
            near_height,
        })
    }
}

/// Pictures of a video, and the latent frames that give them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoLength {
    /// Pictures to keep; the latents may give a few more.
    pub pictures: usize,
    /// Latent frames in whole chunks, given ones included.
    pub latent_frames: usize,
}

impl VideoLength {
    /// A video of `seconds` at `fps`, in chunks of `chunk` latent frames (the first alone if so trained).
    ///
    /// # Errors
    /// When the length is not a positive number, absurd, or shorter than a picture, or when rate or chunk are 0.
    pub fn of_seconds(seconds: f64, fps: u32, chunk: usize, first_alone: bool) -> Result<Self, RequestError> {
        Self::after_start(0, seconds, fps, chunk, first_alone)
    }

    /// A video that begins with `given` latent frames and goes on for `seconds`; both are in the length.
    ///
    /// # Errors
    /// As [`VideoLength::of_seconds`].
    pub fn after_start(
        given: usize,
        seconds: f64,
        fps: u32,
        chunk: usize,
        first_alone: bool,
    ) -> Result<Self, RequestError> {
        if !(seconds > 0.0 && seconds <= LONGEST) {
            return Err(RequestError::Seconds { seconds });
        }
        if fps == 0 {
            return Err(RequestError::NoRate);
        }
        let new = (seconds * fps as f64).round() as usize;
        if new == 0 {
            let shortest = (1.0 / fps as f64 * 1000.0).ceil() / 1000.0;
            return Err(RequestError::NoPicture { seconds, fps, shortest });
        }
        if chunk == 0 {
            return Err(RequestError::EmptyChunk);
        }
        let pictures = new + pictures_of_latents(given);
        let needed = 1 + (pictures - 1).div_ceil(TEMPORAL_FACTOR);
        let before = if given > 0 { given } else { usize::from(first_alone) };
        let latent_frames = before + needed.saturating_sub(before).div_ceil(chunk) * chunk;
        debug_assert!(pictures_of_latents(latent_frames) >= pictures);
        Ok(Self {
            pictures,
            latent_frames,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_and_checked() {
        let size: PictureSize = "832x480".parse().unwrap();
        assert_eq!(size.checked(), Ok(size));
        assert!("832".parse::<PictureSize>().is_err());
        assert!("832x-480".parse::<PictureSize>().is_err());
        let error = "100x480".parse::<PictureSize>().unwrap().checked().unwrap_err();
        assert!(
            error.to_string().contains("96x480") || error.to_string().contains("112x480"),
            "{error}"
        );
        for absurd in ["0x0", "16x1000000", "17x16"] {
            assert!(absurd.parse::<PictureSize>().unwrap().checked().is_err(), "{absurd}");
        }
    }

    #[test]
    fn lengths_come_out_in_whole_chunks() {
        let length = VideoLength::of_seconds(20.0, 16, 3, false).unwrap();
        assert_eq!(
            length,
            VideoLength {
                pictures: 320,
                latent_frames: 81
            }
        );
        let first_alone = VideoLength::of_seconds(0.0625, 16, 3, true).unwrap();
        assert_eq!(
            first_alone,
            VideoLength {
                pictures: 1,
                latent_frames: 1
            }
        );
    }

    #[test]
    fn a_start_comes_before_what_is_generated() {
        let after = |given, seconds, chunk, alone| {
            let length = VideoLength::after_start(given, seconds, 16, chunk, alone).unwrap();
            (length.pictures, length.latent_frames)
        };
        // An image and 5 s are the 81 pictures of the published models.
        assert_eq!(after(1, 5.0, 1, false), (81, 21));
        assert_eq!(after(1, 5.0, 3, true), (81, 22));
        // A chunk of three latent frames is 9 pictures.
        assert_eq!(after(3, 0.5, 3, false), (17, 6));
    }

    #[test]
    fn lengths_that_are_none_are_refused() {
        for seconds in [0.0, -3.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(matches!(
                VideoLength::of_seconds(seconds, 16, 3, false),
                Err(RequestError::Seconds { .. })
            ));
        }
        assert!(matches!(
            VideoLength::of_seconds(0.01, 16, 3, false),
            Err(RequestError::NoPicture { .. })
        ));
    }
}
