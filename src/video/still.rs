//! An image as the start of a video: upright, opaque, 8 bits.

use std::{
    io::{BufReader, Read, Seek},
    path::Path,
};

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, guess_format};

use super::{Clip, VideoError, clip::MAX_SIDE, reader::read_other_image};
use crate::files;

/// Pixels of the largest image that is read: about 400 MB of RGB.
const MAX_PIXELS: u64 = 1 << 27;

/// Reads an image as a clip of one frame.
///
/// - By content, not by name: PNG, JPEG, GIF and (by its name) TGA; with FFmpeg also WebP, BMP, TIFF and what else it knows of images.
/// - Of an animation, the first picture. A video of a single frame is an image as well.
/// - Turned and mirrored as its EXIF orientation says.
/// - Transparent parts are laid on black, as they would be shown by a video player.
/// - 16 bits become 8; grey and CMYK become RGB; colour profiles are not applied.
///
/// # Errors
/// [`VideoError::Unreadable`] if the file is missing, a pipe, no image, damaged, empty, or larger than 16384 pixels on a side or
/// 134 million in all (refused before memory is taken).
pub fn read_image(path: &Path) -> Result<Clip, VideoError> {
    let unreadable = |reason: String| VideoError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    if path.is_dir() {
        return Err(unreadable("it is a folder, not an image".to_owned()));
    }
    check_rereadable(path).map_err(unreadable)?;
    let mut start = Vec::new();
    let mut file = files::open(path).map_err(|error| unreadable(error.to_string()))?;
    let read = file.by_ref().take(64).read_to_end(&mut start);
    read.and_then(|_| file.rewind())
        .map_err(|error| unreadable(error.to_string()))?;
    if start.is_empty() {
        return Err(unreadable("it is empty, not an image".to_owned()));
    }
    let known = guess_format(&start).ok().filter(|format| format.reading_enabled());
    // A TGA file begins with nothing that tells it.
    let known = known.or_else(|| {
        ImageFormat::from_path(path)
            .ok()
            .filter(|format| *format == ImageFormat::Tga)
    });
    let Some(format) = known else {
        return match read_other_image(path, &start) {
            Err(VideoError::NoFfmpeg { .. }) => Err(unreadable(without_ffmpeg(&start))),
            other => other,
        };
    };
    let mut reader = ImageReader::with_format(BufReader::new(file), format);
    reader.limits(limits());
    let picture = decode(reader).map_err(unreadable)?;
    let picture = opaque(picture);
    let (width, height) = picture.dimensions();
    Ok(Clip {
        width,
        height,
        fps: None,
        frames: vec![picture.into_raw()],
    })
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    // For 16 bits and alpha: 8 bytes a pixel.
    limits.max_alloc = Some(MAX_PIXELS * 8 + (1 << 20));
    limits
}

fn decode(reader: ImageReader<impl std::io::BufRead + std::io::Seek>) -> Result<DynamicImage, String> {
    let damaged = |error: ImageError| format!("it is not a complete, undamaged image: {error}");
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Refuses pictures without pixels, and with too many.
pub(super) fn check_size(width: u32, height: u32) -> Result<(), String> {
    if width == 0 || height == 0 {
        return Err(format!("it is {width}x{height} pixels: there is nothing in it"));
    }
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!(
            "it is {width}x{height} pixels: at most {MAX_SIDE} on a side and {} million in all can be read; scale it down",
            MAX_PIXELS / 1_000_000
        ));
    }
    Ok(())
}

/// Refuses what can be read only once: a start is looked at several times.
pub(super) fn check_rereadable(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => Err(
            "it is a pipe or a device, which can be read only once: save what comes out of it in a file and name that"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// `picture` in 8-bit RGB, laid on black.
pub(super) fn opaque(picture: DynamicImage) -> image::RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let picture = picture.into_rgba8();
    let (width, height) = picture.dimensions();
    let on_black = |part: u8, alpha: u8| ((u32::from(part) * u32::from(alpha) + 127) / 255) as u8;
    let bytes = picture
        .pixels()
        .flat_map(|&image::Rgba([r, g, b, alpha])| [r, g, b].map(|part| on_black(part, alpha)))
        .collect();
    image::RgbImage::from_raw(width, height, bytes).unwrap_or_default()
}

fn without_ffmpeg(start: &[u8]) -> String {
    match super::still_kind::name(start) {
        Some(kind) => {
            format!("it is {kind}, and without FFmpeg only PNG, JPEG and GIF are read: convert it to one of them")
        }
        None => "it is not a PNG, JPEG or GIF image".to_owned(),
    }
}
