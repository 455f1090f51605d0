//! Images to start from: every kind that people have, and every kind of broken one.

use std::{fs, path::PathBuf};

use deepforcing::video::{VideoError, VideoWriter, read_image};
use image::{DynamicImage, ImageEncoder, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::{TempDir, tempdir};

use crate::video::{
    foreign::{cmyk_jpeg, png_of_size, with_orientation},
    samples::{push, settings, target, worst},
};

fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn refused(path: &std::path::Path, says: &[&str]) {
    let error = read_image(path).unwrap_err();
    assert!(matches!(error, VideoError::Unreadable { .. }), "{error}");
    let text = error.to_string();
    let name = path.file_name().unwrap().to_string_lossy();
    assert!(text.contains(&*name), "{text}");
    assert!(says.iter().all(|what| text.contains(what)), "{text}");
}

#[test]
fn what_is_no_image_is_refused() {
    let folder = tempdir().unwrap();
    refused(&folder.path().join("none.png"), &["No such file"]);
    refused(folder.path(), &["folder"]);
    refused(&file(&folder, "empty.png", b""), &["empty"]);
    refused(
        &file(&folder, "text.png", &b"This is a text. ".repeat(100)),
        &["not an image", "PNG"],
    );
    let broken = encoded(&DynamicImage::new_rgb8(64, 64), ImageFormat::Png);
    refused(&file(&folder, "cut.png", &broken[..broken.len() / 2]), &["undamaged"]);
    let broken = encoded(&DynamicImage::new_rgb8(64, 64), ImageFormat::Jpeg);
    refused(&file(&folder, "cut.jpg", &broken[..100]), &["undamaged"]);
    refused(&file(&folder, "zero.png", &png_of_size(0, 0)), &["image"]);
    refused(
        &file(&folder, "zero.gif", b"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\x02\0;"),
        &["0x0"],
    );
    // A video is to be continued, not to be taken for an image.
    let video = target(folder.path(), deepforcing::video::Form::Mp4);
    let mut writer = VideoWriter::create(&video, settings()).unwrap();
    push(&mut writer, 2);
    writer.finish().unwrap();
    refused(&video.path(), &["video"]);
}

#[test]
fn huge_images_are_refused_before_memory_is_taken() {
    let folder = tempdir().unwrap();
    let path = file(&folder, "huge.png", &png_of_size(100_000, 100_000));
    refused(&path, &["100000x100000", "16384"]);
    let path = file(&folder, "large.png", &png_of_size(16_384, 16_384));
    refused(&path, &["16384x16384", "134 million"]);
}

#[test]
fn cmyk_becomes_rgb() {
    let folder = tempdir().unwrap();
    for (stored, rgb) in [
        ([255, 255, 255, 255], [255, 255, 255]),
        ([255, 0, 0, 255], [255, 0, 0]),
        ([0, 255, 255, 255], [0, 255, 255]),
        ([255, 255, 255, 0], [0, 0, 0]),
        ([128, 255, 128, 255], [128, 255, 128]),
    ] {
        let clip = read_image(&file(&folder, "cmyk.jpg", &cmyk_jpeg(24, 17, stored))).unwrap();
        assert_eq!((clip.width, clip.height), (24, 17));
        assert!(
            worst(&clip.frames[0], rgb) <= 3,
            "{stored:?}: {:?}",
            &clip.frames[0][..3]
        );
    }
}

#[test]
fn sixteen_bits_and_grey_become_eight_and_rgb() {
    let folder = tempdir().unwrap();
    let pixel = |x: u32, y: u32| Rgb([(x * 1000) as u16, (y * 5000) as u16, 65_535]);
    let image = DynamicImage::ImageRgb16(image::ImageBuffer::from_fn(20, 10, pixel));
    let clip = read_image(&file(&folder, "deep.png", &encoded(&image, ImageFormat::Png))).unwrap();
    assert_eq!((clip.width, clip.height), (20, 10));
    let at = |x: usize, y: usize| &clip.frames[0][(y * 20 + x) * 3..][..3];
    assert_eq!(at(0, 0), [0, 0, 255]);
    assert_eq!(
        at(19, 9),
        [
            (19_000.0f64 / 257.0).round() as u8,
            (45_000.0f64 / 257.0).round() as u8,
            255
        ]
    );
    for grey in [DynamicImage::new_luma8(4, 4), DynamicImage::new_luma16(4, 4)] {
        let clip = read_image(&file(&folder, "grey.png", &encoded(&grey, ImageFormat::Png))).unwrap();
        assert_eq!(clip.frames, [vec![0; 48]]);
    }
}

#[test]
fn transparent_parts_lie_on_black() {
    let folder = tempdir().unwrap();
    let pixels = [[200, 100, 50, 255], [200, 100, 50, 128], [200, 100, 50, 0]];
    let image = RgbaImage::from_fn(3, 1, |x, _| Rgba(pixels[x as usize]));
    let bytes = encoded(&DynamicImage::ImageRgba8(image), ImageFormat::Png);
    let clip = read_image(&file(&folder, "clear.png", &bytes)).unwrap();
    assert_eq!(clip.frames[0], [200, 100, 50, 100, 50, 25, 0, 0, 0]);
    let deep = image::ImageBuffer::from_pixel(2, 2, Rgba([65_535u16, 65_535, 65_535, 0]));
    let bytes = encoded(&DynamicImage::ImageRgba16(deep), ImageFormat::Png);
    assert_eq!(
        read_image(&file(&folder, "deep.png", &bytes)).unwrap().frames[0],
        [0; 12]
    );
}

#[test]
fn every_exif_orientation_is_made_upright() {
    let folder = tempdir().unwrap();
    // Four quarters in four colours: red, green / blue, white.
    let upright = RgbImage::from_fn(32, 16, |x, y| match (x < 16, y < 8) {
        (true, true) => Rgb([220, 20, 20]),
        (false, true) => Rgb([20, 200, 20]),
        (true, false) => Rgb([20, 20, 220]),
        (false, false) => Rgb([230, 230, 230]),
    });
    let upright = DynamicImage::ImageRgb8(upright);
    // What the camera stored, from which the orientation leads back.
    let stored = [
        (1, upright.clone()),
        (2, upright.fliph()),
        (3, upright.rotate180()),
        (4, upright.flipv()),
        (5, upright.rotate90().fliph()),
        (6, upright.rotate270()),
        (7, upright.rotate270().fliph()),
        (8, upright.rotate90()),
    ];
    for (orientation, stored) in stored {
        let mut jpeg = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 95)
            .write_image(
                stored.as_bytes(),
                stored.width(),
                stored.height(),
                image::ExtendedColorType::Rgb8,
            )
            .unwrap();
        let path = file(&folder, "turned.jpg", &with_orientation(&jpeg, orientation));
        let clip = read_image(&path).unwrap();
        assert_eq!((clip.width, clip.height), (32, 16), "{orientation}");
        for (x, y) in [(2, 2), (29, 2), (2, 13), (29, 13)] {
            let found = &clip.frames[0][(y * 32 + x) * 3..][..3];
            let expected = upright.as_rgb8().unwrap().get_pixel(x as u32, y as u32).0;
            assert!(
                worst(found, expected) < 20,
                "orientation {orientation} at {x},{y}: {found:?}"
            );
        }
    }
}

#[test]
fn of_an_animation_the_first_picture_counts() {
    let folder = tempdir().unwrap();
    let video = target(folder.path(), deepforcing::video::Form::Gif);
    let mut writer = VideoWriter::create(&video, settings()).unwrap();
    push(&mut writer, 3);
    writer.finish().unwrap();
    let clip = read_image(&video.path()).unwrap();
    assert_eq!(clip.frames.len(), 1);
    assert!(worst(&clip.frames[0], crate::video::samples::colour_at(0)) <= 4);
}

#[test]
fn names_and_other_kinds_do_not_matter() {
    let folder = tempdir().unwrap();
    let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(6, 4, Rgb([9, 99, 199])));
    let png = encoded(&image, ImageFormat::Png);
    assert_eq!(
        read_image(&file(&folder, "a.jpg", &png)).unwrap().frames,
        [image.as_bytes()]
    );
    // A bitmap, which only FFmpeg reads here: 24 bits, rows from below, padded to 4 bytes.
    let mut bmp = b"BM\x86\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x06\0\0\0\x04\0\0\0\x01\0\x18\0".to_vec();
    bmp.extend([0; 24]);
    for _ in 0..4 {
        bmp.extend([199, 99, 9].repeat(6));
        bmp.extend([0, 0]);
    }
    assert_eq!(
        read_image(&file(&folder, "a.bmp", &bmp)).unwrap().frames,
        [image.as_bytes()]
    );
}

/// A bitmap of 32 bits in a TGA file, rows from above: blue, green, red, alpha.
fn tga(width: u16, height: u16, pixels: &[[u8; 4]]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    bytes.extend([32, 0x28]);
    bytes.extend(pixels.iter().flatten());
    bytes
}

/// An uncompressed TIFF file of RGB or RGBA pixels with an orientation.
fn tiff(width: u16, height: u16, channels: u16, orientation: u16, pixels: &[u8]) -> Vec<u8> {
    let data = 8 + 2 + 11 * 12 + 4 + 8;
    let mut entries = vec![
        (256, 3, 1, u32::from(width)),
        (257, 3, 1, u32::from(height)),
        (258, 3, u32::from(channels), data - 8),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, data),
        (274, 3, 1, u32::from(orientation)),
        (277, 3, 1, u32::from(channels)),
        (278, 3, 1, u32::from(height)),
        (279, 4, 1, pixels.len() as u32),
    ];
    // What the fourth channel is: alpha. Without one, a tag that nobody knows.
    entries.push(if channels == 4 {
        (338, 3, 1, 2)
    } else {
        (65_000, 3, 1, 0)
    });
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        bytes.extend((tag as u16).to_le_bytes());
        bytes.extend((kind as u16).to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    // Bits of each channel.
    bytes.extend([8, 0].repeat(4));
    bytes.extend(pixels);
    bytes
}

#[test]
fn transparent_parts_of_other_kinds_lie_on_black() {
    let folder = tempdir().unwrap();
    let pixels = [[50, 100, 200, 255], [50, 100, 200, 128], [50, 100, 200, 0]];
    let clip = read_image(&file(&folder, "clear.tga", &tga(3, 1, &pixels))).unwrap();
    assert_eq!(clip.frames[0], [200, 100, 50, 100, 50, 25, 0, 0, 0]);
    let pixels = [200, 100, 50, 255, 200, 100, 50, 128, 200, 100, 50, 0];
    let clip = read_image(&file(&folder, "clear.tif", &tiff(3, 1, 4, 1, &pixels))).unwrap();
    assert_eq!(clip.frames[0], [200, 100, 50, 100, 50, 25, 0, 0, 0]);
}

#[test]
fn other_kinds_are_turned_upright_too() {
    let folder = tempdir().unwrap();
    let upright = RgbImage::from_fn(4, 2, |x, y| Rgb([(x * 60) as u8, (y * 200) as u8, 9]));
    let upright = DynamicImage::ImageRgb8(upright);
    for (orientation, stored) in [
        (1, upright.clone()),
        (2, upright.fliph()),
        (3, upright.rotate180()),
        (6, upright.rotate270()),
        (8, upright.rotate90()),
    ] {
        let (width, height) = (stored.width() as u16, stored.height() as u16);
        let bytes = tiff(width, height, 3, orientation, stored.as_bytes());
        let clip = read_image(&file(&folder, "turned.tif", &bytes)).unwrap();
        assert_eq!((clip.width, clip.height), (4, 2), "{orientation}");
        assert!(
            clip.frames[0] == upright.as_bytes(),
            "{orientation}: {:?}",
            clip.frames[0]
        );
    }
}

#[test]
fn of_an_icon_the_largest_picture_counts() {
    let folder = tempdir().unwrap();
    let size = |side, level| {
        encoded(
            &DynamicImage::ImageRgb8(RgbImage::from_pixel(side, side, Rgb([level; 3]))),
            ImageFormat::Png,
        )
    };
    let (small, large) = (size(16, 50), size(32, 200));
    let mut icon = vec![0, 0, 1, 0, 2, 0];
    let mut at = 6 + 2 * 16;
    for (side, png) in [(16u8, &small), (32, &large)] {
        icon.extend([side, side, 0, 0, 1, 0, 32, 0]);
        icon.extend((png.len() as u32).to_le_bytes());
        icon.extend((at as u32).to_le_bytes());
        at += png.len();
    }
    icon.extend(small.iter().chain(&large));
    let clip = read_image(&file(&folder, "x.ico", &icon)).unwrap();
    assert_eq!((clip.width, clip.height), (32, 32));
    assert!(worst(&clip.frames[0], [200; 3]) <= 1);
}

#[test]
fn a_video_of_one_frame_is_an_image() {
    let folder = tempdir().unwrap();
    let video = target(folder.path(), deepforcing::video::Form::Mp4);
    let mut writer = VideoWriter::create(&video, settings()).unwrap();
    push(&mut writer, 1);
    writer.finish().unwrap();
    assert_eq!(read_image(&video.path()).unwrap().frames.len(), 1);
}

#[test]
fn kinds_that_cannot_be_read_are_named() {
    let folder = tempdir().unwrap();
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".repeat(20);
    refused(
        &file(&folder, "a.heic", &heic),
        &["a HEIC picture", "convert it to PNG or JPEG"],
    );
    let webp = [&b"RIFF\x80\0\0\0WEBPVP8X\x0a\0\0\0\x02"[..], &[0; 200]].concat();
    refused(
        &file(&folder, "a.webp", &webp),
        &["an animated WebP picture", "convert it"],
    );
    refused(&file(&folder, "a.png", b"%PDF-1.7 and so on"), &["a PDF document"]);
}

#[test]
#[cfg(unix)]
fn a_pipe_is_refused_as_one() {
    use std::process::Command;
    let folder = tempdir().unwrap();
    let pipe = folder.path().join("pipe.png");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    refused(&pipe, &["a pipe", "only once", "save"]);
    let error = deepforcing::video::read_last_frames(&pipe, 9, 16.0)
        .unwrap_err()
        .to_string();
    assert!(error.contains("a pipe"), "{error}");
}
