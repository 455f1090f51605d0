//! A small picture of each latent frame, from the video.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use image::{RgbImage, codecs::jpeg::JpegEncoder, imageops, imageops::FilterType};

use crate::{
    vae::pictures_of_latents,
    video::{Picture, VideoError, for_each_frame},
};

/// Longest side of a picture in the page.
const LONGEST_SIDE: u32 = 416;
/// JPEG quality.
const QUALITY: u8 = 82;

/// Pictures by latent frame, ready for a page.
#[derive(Debug, Clone, Default)]
pub struct Pictures {
    by_frame: HashMap<u64, String>,
    /// Width and height of the video.
    size: Option<(u32, u32)>,
}

/// Why reading stops.
enum Stop {
    Enough,
    Video(VideoError),
}

impl From<VideoError> for Stop {
    fn from(error: VideoError) -> Self {
        Self::Video(error)
    }
}

impl Pictures {
    /// Reads the pictures of the latent `frames` from a video; those beyond its end are missing.
    ///
    /// # Errors
    /// As [`for_each_frame`].
    pub fn read(video: &Path, frames: &BTreeSet<u64>) -> Result<Self, VideoError> {
        let mut wanted = frames.iter().map(|frame| (*frame, picture_of(*frame))).peekable();
        let mut pictures = Self::default();
        let mut number = 0;
        let read = for_each_frame(video, |picture| {
            pictures.size = Some((picture.width, picture.height));
            while let Some((frame, _)) = wanted.next_if(|(_, wanted)| *wanted == number) {
                pictures.by_frame.insert(frame, as_data(&picture)?);
            }
            number += 1;
            match wanted.peek() {
                Some(_) => Ok(()),
                None => Err(Stop::Enough),
            }
        });
        match read {
            Ok(()) | Err(Stop::Enough) => Ok(pictures),
            Err(Stop::Video(error)) => Err(error),
        }
    }

    /// Latent frames that have a picture.
    pub fn len(&self) -> usize {
        self.by_frame.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_frame.is_empty()
    }

    /// Width and height of the video that they are from.
    pub fn size(&self) -> Option<(u32, u32)> {
        self.size
    }

    pub(super) fn by_frame(&self) -> &HashMap<u64, String> {
        &self.by_frame
    }
}

/// The picture in the middle of those of a latent frame.
fn picture_of(frame: u64) -> usize {
    let frame = usize::try_from(frame).unwrap_or(usize::MAX / 8);
    (pictures_of_latents(frame) + pictures_of_latents(frame + 1)) / 2
}

/// A JPEG in a `data:` address.
fn as_data(picture: &Picture<'_>) -> Result<String, VideoError> {
    let failed = |reason: String| VideoError::Clip { reason };
    let Picture { width, height, rgb, .. } = *picture;
    let image = RgbImage::from_raw(width, height, rgb.to_vec());
    let image = image.ok_or_else(|| failed(format!("a frame of {width}x{height} has {} bytes", rgb.len())))?;
    let longest = width.max(height);
    let image = match longest > LONGEST_SIDE {
        true => {
            let side = |side: u32| (side * LONGEST_SIDE / longest).max(1);
            imageops::resize(&image, side(width), side(height), FilterType::Triangle)
        }
        false => image,
    };
    let mut jpeg = Vec::new();
    let encoded = JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&image);
    encoded.map_err(|error| failed(error.to_string()))?;
    Ok(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(jpeg)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latent_frame_is_shown_by_the_picture_in_its_middle() {
        // Frame 0 is picture 0; frame 1 is pictures 1 to 4; frame 9 is 33 to 36.
        assert_eq!([0, 1, 2, 9].map(picture_of), [0, 3, 7, 35]);
    }
}
