//! Existing clips and images as starting frames: decoded, cropped to the size of the model, as a tensor.

use std::path::Path;

use candle_core::{Device, Tensor};
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage, imageops::FilterType};
use rayon::prelude::*;

use super::VideoError;

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
    /// Scales every frame so that it covers `width` x `height` and cuts off what sticks out, evenly on both sides.
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
            let fitted = DynamicImage::ImageRgb8(image).resize_to_fill(width, height, FilterType::CatmullRom);
            Some(fitted.into_rgb8().into_raw())
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

/// Reads a PNG or JPEG image, upright, as a clip of one frame. Transparency is dropped.
///
/// # Errors
/// [`VideoError::Unreadable`] if the file is missing, of another kind, damaged, or absurdly large.
pub fn read_image(path: &Path) -> Result<Clip, VideoError> {
    let unreadable = |reason: String| VideoError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let io = |error: std::io::Error| unreadable(error.to_string());
    let decode = |error: image::ImageError| unreadable(format!("{error}; PNG and JPEG images can be read"));
    // By content: names lie.
    let reader = ImageReader::open(path).map_err(io)?.with_guessed_format().map_err(io)?;
    let mut decoder = reader.into_decoder().map_err(decode)?;
    let orientation = decoder.orientation().map_err(decode)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(decode)?;
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    let (width, height) = picture.dimensions();
    Ok(Clip {
        width,
        height,
        fps: None,
        frames: vec![picture.into_raw()],
    })
}

/// Reads the first `max_frames` frames of a video, or all if there are fewer. Sound and other streams are ignored.
///
/// # Errors
/// [`VideoError::Unreadable`] if the file is missing, holds no video, is damaged, or changes its size on the way;
/// [`VideoError::NoFfmpeg`] in a build without FFmpeg.
#[cfg(not(feature = "ffmpeg"))]
pub fn read_frames(_path: &Path, _max_frames: usize) -> Result<Clip, VideoError> {
    Err(VideoError::NoFfmpeg)
}

#[cfg(feature = "ffmpeg")]
pub use with_ffmpeg::read_frames;

#[cfg(feature = "ffmpeg")]
mod with_ffmpeg {
    use std::{fs, path::Path};

    use ffmpeg_next::{self as ffmpeg, Packet, codec, decoder, format, frame, media};

    use super::{Clip, VideoError};
    use crate::video::{codec::quiet, colour::Converter, encoder::url};

    /// Reads the first `max_frames` frames of a video, or all if there are fewer. Sound and other streams are ignored.
    ///
    /// # Errors
    /// [`VideoError::Unreadable`] if the file is missing, holds no video, is damaged, or changes its size on the way;
    /// [`VideoError::NoFfmpeg`] in a build without FFmpeg.
    pub fn read_frames(path: &Path, max_frames: usize) -> Result<Clip, VideoError> {
        quiet();
        let unreadable = |reason: String| VideoError::Unreadable {
            path: path.to_owned(),
            reason,
        };
        match fs::metadata(path) {
            Err(error) => return Err(unreadable(error.to_string())),
            Ok(found) if found.is_dir() => return Err(unreadable("it is a folder, not a video file".to_owned())),
            Ok(_) => {}
        }
        let mut clip = Clip {
            width: 0,
            height: 0,
            fps: None,
            frames: Vec::new(),
        };
        let decoded = url(path).and_then(|url| decode(&url, max_frames, &mut clip));
        match decoded {
            Ok(()) if clip.frames.is_empty() => Err(unreadable("it holds no frames".to_owned())),
            Ok(()) => Ok(clip),
            Err(ffmpeg::Error::StreamNotFound) => Err(unreadable("it holds no video stream".to_owned())),
            Err(ffmpeg::Error::InputChanged) => Err(unreadable("its picture size changes on the way".to_owned())),
            Err(error) => match clip.frames.len() {
                0 => Err(unreadable(format!("it is not a video that FFmpeg can open: {error}"))),
                frames => Err(unreadable(format!("damaged after {frames} frames: {error}"))),
            },
        }
    }

    fn decode(url: &str, max_frames: usize, clip: &mut Clip) -> Result<(), ffmpeg::Error> {
        let mut input = format::input(url)?;
        let stream = input
            .streams()
            .best(media::Type::Video)
            .ok_or(ffmpeg::Error::StreamNotFound)?;
        let index = stream.index();
        let rate = f64::from(stream.avg_frame_rate());
        clip.fps = (rate.is_finite() && rate > 0.0).then_some(rate);
        let mut decoder = codec::context::Context::from_parameters(stream.parameters())?
            .decoder()
            .video()?;
        let mut converter = None;
        let mut packet = Packet::empty();
        while clip.frames.len() < max_frames {
            match packet.read(&mut input) {
                Ok(()) if packet.stream() != index => continue,
                Ok(()) => decoder.send_packet(&packet)?,
                Err(ffmpeg::Error::Eof) => {
                    decoder.send_eof()?;
                    return receive(&mut decoder, &mut converter, max_frames, clip);
                }
                Err(error) => return Err(error),
            }
            receive(&mut decoder, &mut converter, max_frames, clip)?;
        }
        Ok(())
    }

    /// Takes the frames that the decoder has ready.
    fn receive(
        decoder: &mut decoder::Video,
        converter: &mut Option<Converter>,
        max_frames: usize,
        clip: &mut Clip,
    ) -> Result<(), ffmpeg::Error> {
        let mut decoded = frame::Video::empty();
        while clip.frames.len() < max_frames {
            match decoder.receive_frame(&mut decoded) {
                Ok(()) => {}
                Err(
                    ffmpeg::Error::Eof
                    | ffmpeg::Error::Other {
                        errno: ffmpeg::error::EAGAIN,
                    },
                ) => break,
                Err(error) => return Err(error),
            }
            if clip.frames.is_empty() {
                (clip.width, clip.height) = (decoded.width(), decoded.height());
            } else if (clip.width, clip.height) != (decoded.width(), decoded.height()) {
                return Err(ffmpeg::Error::InputChanged);
            }
            let converter = match converter {
                Some(converter) if converter.takes(&decoded) => converter,
                _ => converter.insert(Converter::frame_to_rgb(&decoded)?),
            };
            let mut rgb = frame::Video::empty();
            converter.run(&decoded, &mut rgb)?;
            let rows = rgb.data(0).chunks(rgb.stride(0));
            let row_bytes = clip.width as usize * 3;
            let bytes = rows.take(clip.height as usize).flat_map(|row| &row[..row_bytes]);
            clip.frames.push(bytes.copied().collect());
        }
        Ok(())
    }
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
