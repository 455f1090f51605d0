//! Videos that begin from given pictures: image to video, and the extension of a clip (docs/algorithms/self_forcing.md
//! section 3).

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::{RolloutDefaults, request::PictureSize};
use crate::{
    Error, Result,
    transformer::image::picture::{Extent, fit, planes},
    vae::{PICTURE_CHANNELS, TEMPORAL_FACTOR, WanEncoder, pictures_of_latents},
    video::{Clip, read_image, read_last_frames_fitted},
};

/// The file that a video begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFile {
    /// The video begins with this image.
    Image(PathBuf),
    /// The video goes on from the end of this clip.
    Clip(PathBuf),
}

impl StartFile {
    pub fn path(&self) -> &Path {
        match self {
            Self::Image(path) | Self::Clip(path) => path,
        }
    }
}

/// The pictures that a video begins with, in its size and rate.
#[derive(Debug, Clone)]
pub struct StartPictures {
    pub clip: Clip,
    /// Latent frames that they become.
    pub latent_frames: usize,
    /// Pictures for which a single image is held, for models that cannot start from one: 1 otherwise.
    pub held: usize,
    /// Whether the image is what a world is made under, and no part of the video.
    is_condition: bool,
}

/// What a rollout begins with.
#[derive(Debug, Clone)]
pub enum Given {
    /// Latents `[frames, 16, height/8, width/8]` that are the beginning of the video.
    Latents(Tensor),
    /// The image `[1, 3, height, width]` in −1…1 that a world is made under.
    Image(Tensor),
}

impl StartPictures {
    /// Reads `file` for a model that works in chunks as `rollout` says; pictures are scaled to cover `size` and cut
    /// evenly. Of a clip the end is taken, at most `most` latent frames (what the window can hold).
    ///
    /// A model whose chunks are longer than a frame cannot start from one picture (docs/algorithms/self_forcing.md
    /// section 3): the image is held for a whole chunk.
    ///
    /// # Errors
    /// When the file cannot be read, or a clip is shorter than a chunk.
    pub fn read(file: &StartFile, size: PictureSize, fps: u32, rollout: RolloutDefaults, most: usize) -> Result<Self> {
        let RolloutDefaults {
            chunk,
            first_frame_alone,
            ..
        } = rollout;
        let first = if first_frame_alone { 1 } else { chunk };
        let mut held = 1;
        let clip = match file {
            StartFile::Image(path) => {
                let mut clip = read_image(path)?.fit(size.width as u32, size.height as u32)?;
                held = pictures_of_latents(first);
                if let Some(image) = clip.frames.first().cloned() {
                    clip.frames.resize(held, image);
                }
                clip
            }
            StartFile::Clip(path) => {
                let size = (size.width as u32, size.height as u32);
                read_last_frames_fitted(path, pictures_of_latents(most.max(first)), fps.into(), size)?
            }
        };
        let found = clip.frames.len();
        let latent_frames =
            start_latents(found, chunk, first_frame_alone, most.max(first)).ok_or_else(|| Error::ShortStart {
                file: Some(file.path().into()),
                found,
                needed: pictures_of_latents(first),
                chunk,
            })?;
        Ok(Self {
            clip,
            latent_frames,
            held,
            is_condition: false,
        })
    }

    /// Reads the image at `path` that a world of `size` begins with: its middle, in the proportions of the video, resized as
    /// the models were trained with (docs/algorithms/matrix_game_2.md section 4). The world is made under it; none of its
    /// latent frames is given.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of_world(path: &Path, size: PictureSize) -> Result<Self> {
        let mut clip = read_image(path)?;
        let (from, to) = (
            Extent {
                width: clip.width as usize,
                height: clip.height as usize,
            },
            Extent {
                width: size.width,
                height: size.height,
            },
        );
        for frame in &mut clip.frames {
            *frame = fit(frame, from, to);
        }
        (clip.width, clip.height) = (size.width as u32, size.height as u32);
        Ok(Self {
            clip,
            latent_frames: 0,
            held: 1,
            is_condition: true,
        })
    }

    /// The image `[1, 3, height, width]` in −1…1 that a world is made under; `None` where the pictures are part of the video.
    ///
    /// # Errors
    /// On a device failure.
    pub fn image(&self, device: &Device) -> Result<Option<Tensor>> {
        if !self.is_condition {
            return Ok(None);
        }
        let shape = (1, PICTURE_CHANNELS, self.clip.height as usize, self.clip.width as usize);
        let frame = self.clip.frames.first().map(Vec::as_slice).unwrap_or_default();
        Ok(Some(Tensor::from_vec(planes(frame), shape, device)?))
    }

    /// The latents `[F, 16, H/8, W/8]` for [`crate::rollout::Rollout::new`].
    ///
    /// # Errors
    /// On a device failure.
    pub fn encode(&self, encoder: &WanEncoder, device: &Device) -> Result<Tensor> {
        encode_last(encoder, &self.clip.to_tensor(device)?, self.latent_frames)
    }
}

/// The latents of the last pictures, as many as give `latents` latent frames.
fn encode_last(encoder: &WanEncoder, pictures: &Tensor, latents: usize) -> Result<Tensor> {
    let taken = pictures_of_latents(latents);
    encoder.encode(&pictures.narrow(0, pictures.dim(0)? - taken, taken)?)
}

/// Encodes the pictures `[T, 3, H, W]` (−1…1) that a video begins with into latents `[F, 16, H/8, W/8]` for
/// [`crate::rollout::Rollout::new`].
///
/// The video goes on from the end of the pictures, so the last ones are taken: as many as make whole chunks of `chunk`
/// latent frames, at most `most` of them (more than the window would be forgotten at once). With `first_alone` the first
/// latent frame is a chunk of its own, so that one picture is enough.
///
/// # Errors
/// When there are fewer pictures than one chunk needs, or the VAE does not take them.
pub fn encode_start(
    encoder: &WanEncoder,
    pictures: &Tensor,
    chunk: usize,
    first_alone: bool,
    most: usize,
) -> Result<Tensor> {
    let found = pictures.dim(0)?;
    let latents = start_latents(found, chunk, first_alone, most).ok_or_else(|| Error::ShortStart {
        file: None,
        found,
        needed: pictures_of_latents(if first_alone { 1 } else { chunk }),
        chunk,
    })?;
    encode_last(encoder, pictures, latents)
}

/// Latent frames that `pictures` pictures give in whole chunks, at most `most`; `None` when they do not fill one.
pub fn start_latents(pictures: usize, chunk: usize, first_alone: bool, most: usize) -> Option<usize> {
    let available = match pictures {
        0 => 0,
        _ => 1 + (pictures - 1) / TEMPORAL_FACTOR,
    };
    let available = available.min(most);
    let alone = usize::from(first_alone && available > 0);
    let latents = alone + (available - alone) / chunk.max(1) * chunk;
    (latents > 0).then_some(latents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_chunks_are_taken() {
        assert_eq!(start_latents(1, 3, true, 21), Some(1));
        assert_eq!(start_latents(1, 3, false, 21), None);
        assert_eq!(start_latents(9, 3, false, 21), Some(3));
        assert_eq!(start_latents(8, 3, false, 21), None);
        assert_eq!(start_latents(1000, 3, false, 18), Some(18));
        assert_eq!(start_latents(1000, 3, true, 18), Some(16));
        assert_eq!(start_latents(0, 1, true, 21), None);
    }
}
