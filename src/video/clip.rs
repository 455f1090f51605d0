//! Existing clips and images as starting frames: decoded, cropped to the size of the model, as a tensor.

use candle_core::{Device, Tensor};
use image::{DynamicImage, RgbImage, imageops::FilterType};
use rayon::prelude::*;

use super::VideoError;

/// Longest side of a picture that is read.
pub(super) const MAX_SIDE: u32 = 16_384;

/// Frames of a video, or the one frame of an image.
#[derive(Clone, PartialEq)]
pub struct Clip {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames per second; none for an image, or if the file does not tell.
    pub fps: Option<f64>,
    /// RGB, `height * width * 3` bytes each.
    pub frames: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Clip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            width,
            height,
            fps,
            frames,
        } = self;
        write!(f, "Clip {{ {width}x{height}, fps: {fps:?}, {} frames }}", frames.len())
    }
}

impl Clip {
    /// Covers and cuts evenly: scales every frame, keeping its proportions, until it covers `width` x `height`, and cuts
    /// off what sticks out, half of it on each side. Nothing is stretched and no bars appear; a picture of 1920x1080 for
    /// 832x480 loses 13 columns of 1920 on each side, a square one 42% of its rows.
    ///
    /// # Errors
    /// [`VideoError::FitSize`] for an empty size, [`VideoError::Clip`] if a frame does not have the clip's size.
    pub fn fit(self, width: u32, height: u32) -> Result<Self, VideoError> {
        if width == 0 || height == 0 {
            return Err(VideoError::FitSize { width, height });
        }
        self.check()?;
        if (self.width, self.height) == (width, height) {
            return Ok(self);
        }
        let fit_frame = |frame: Vec<u8>| {
            let image = RgbImage::from_raw(self.width, self.height, frame)?;
            fit_picture(image, width, height).ok().map(RgbImage::into_raw)
        };
        let frames: Option<Vec<_>> = self.frames.into_par_iter().map(fit_frame).collect();
        let frames = frames.ok_or_else(|| VideoError::Clip {
            reason: "its frames differ in size".to_owned(),
        })?;
        Ok(Self {
            width,
            height,
            fps: self.fps,
            frames,
        })
    }

    /// The frames as `[frame, 3, height, width]` f32 in [-1, 1], as the VAE encoder takes them.
    ///
    /// # Errors
    /// [`VideoError::Clip`] without frames or with frames of a wrong size; a failure of the device.
    pub fn to_tensor(&self, device: &Device) -> crate::Result<Tensor> {
        self.check()?;
        let (width, height) = (self.width as usize, self.height as usize);
        let plane = width * height;
        let mut values = vec![0f32; self.frames.len() * 3 * plane];
        values
            .par_chunks_mut(3 * plane)
            .zip(&self.frames)
            .for_each(|(planes, frame)| {
                for (channel, plane) in planes.chunks_mut(plane).enumerate() {
                    let bytes = frame.iter().skip(channel).step_by(3);
                    plane
                        .iter_mut()
                        .zip(bytes)
                        .for_each(|(value, &byte)| *value = f32::from(byte) / 127.5 - 1.0);
                }
            });
        Ok(Tensor::from_vec(values, (self.frames.len(), 3, height, width), device)?)
    }

    fn check(&self) -> Result<(), VideoError> {
        let expected = self.width as usize * self.height as usize * 3;
        if self.frames.is_empty() || expected == 0 {
            return Err(VideoError::Clip {
                reason: "it has no frames".to_owned(),
            });
        }
        match self.frames.iter().position(|frame| frame.len() != expected) {
            Some(index) => Err(VideoError::Clip {
                reason: format!(
                    "frame {index} has {} bytes instead of {expected}",
                    self.frames[index].len()
                ),
            }),
            None => Ok(()),
        }
    }
}

/// One picture as [`Clip::fit`] fits it.
///
/// # Errors
/// [`VideoError::FitSize`] for an empty size.
pub(super) fn fit_picture(picture: RgbImage, width: u32, height: u32) -> Result<RgbImage, VideoError> {
    if width == 0 || height == 0 {
        return Err(VideoError::FitSize { width, height });
    }
    if picture.dimensions() == (width, height) {
        return Ok(picture);
    }
    let fitted = DynamicImage::ImageRgb8(picture).resize_to_fill(width, height, FilterType::CatmullRom);
    Ok(fitted.into_rgb8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: u32, height: u32) -> Clip {
        let pixel = |y: u32, x: u32| [(x * 255 / width) as u8, (y * 255 / height) as u8, 128];
        let frame = (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| pixel(y, x)))
            .collect();
        Clip {
            width,
            height,
            fps: None,
            frames: vec![frame],
        }
    }

    #[test]
    fn tensor_and_back_is_exact() {
        let clip = gradient(6, 4);
        let tensor = clip.to_tensor(&Device::Cpu).unwrap();
        assert_eq!(tensor.dims(), [1, 3, 4, 6]);
        assert_eq!(
            tensor
                .get(0)
                .unwrap()
                .get(2)
                .unwrap()
                .min_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap(),
            128.0 / 127.5 - 1.0
        );
        let back: Vec<f32> = tensor
            .permute((0, 2, 3, 1))
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let bytes: Vec<u8> = back.iter().map(|v| (v * 127.5 + 127.5).round() as u8).collect();
        assert_eq!(bytes, clip.frames[0]);
    }

    #[test]
    fn fit_covers_and_cuts_evenly() {
        let fitted = gradient(100, 40).fit(20, 20).unwrap();
        assert_eq!((fitted.width, fitted.height, fitted.frames[0].len()), (20, 20, 1200));
        // The middle 40 of 100 columns remain.
        let (left, right) = (i32::from(fitted.frames[0][0]), i32::from(fitted.frames[0][19 * 3]));
        assert!(
            (left - 30 * 255 / 100).abs() < 8 && (right - 69 * 255 / 100).abs() < 8,
            "{left} {right}"
        );
        assert!(matches!(gradient(8, 8).fit(0, 8), Err(VideoError::FitSize { .. })));
    }

    #[test]
    fn clips_with_wrong_frames_are_refused() {
        let mut clip = gradient(8, 8);
        clip.frames.push(vec![0; 5]);
        assert!(
            clip.to_tensor(&Device::Cpu)
                .unwrap_err()
                .to_string()
                .contains("frame 1 has 5 bytes")
        );
        clip.frames.clear();
        assert!(clip.fit(4, 4).is_err());
    }
}
