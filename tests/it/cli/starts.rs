//! Videos that begin with an image or go on from a clip.

use std::fs;

use image::{ImageBuffer, Rgb, Rgba};

use ffmpeg_next::format::Pixel;

use crate::cli::{
    foreign::{Foreign, cmyk_jpeg, png_of_size, wav, with_orientation},
    program::Desk,
};

const PICTURE: usize = 32 * 32 * 3;

/// The mean colour of a picture.
fn mean(picture: &[u8]) -> [f64; 3] {
    std::array::from_fn(|channel| {
        let values = picture.iter().skip(channel).step_by(3);
        values.map(|value| f64::from(*value)).sum::<f64>() / (picture.len() / 3) as f64
    })
}

#[test]
fn an_image_is_held_for_the_first_chunk_and_changes_the_rest() {
    let desk = Desk::new();
    ImageBuffer::from_pixel(50, 40, Rgb([200u8, 60, 40]))
        .save(desk.video("red.png"))
        .unwrap();
    ImageBuffer::from_pixel(50, 40, Rgba([20u16, 60_000, 40, 65_535]))
        .save(desk.video("deep.png"))
        .unwrap();
    let assert = desk.command("out.mp4", &["--image", "red.png"]).assert().success();
    assert.stderr(predicates::str::contains("held for 9 pictures"));
    let red = desk.pixels(&["--image", "red.png"]);
    // 9 pictures of the start, then 1.5 s.
    assert_eq!(red.len(), (9 + 24) * PICTURE);
    let green = desk.pixels(&["--image", "deep.png"]);
    assert_ne!(mean(&red[..PICTURE]), mean(&green[..PICTURE]));
    assert!(red[32 * PICTURE..] != green[32 * PICTURE..], "the start is forgotten");
    assert!(red == desk.pixels(&["--image", "red.png"]));
    // The recipe finds it again, and notices when it is another one.
    let folder = desk.model.folder().display().to_string();
    let rerun = ["rerun", "out.mp4", "-o", "-", "--format", "rgb", "--model", &folder];
    let output = desk.run(&rerun);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == red);
    fs::copy(desk.video("deep.png"), desk.video("red.png")).unwrap();
    let output = desk.run(&rerun);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("red.png"));
}

#[test]
fn a_clip_goes_on() {
    let desk = Desk::new();
    desk.render("clip.mp4", &["--size", "48x32", "--seconds", "2"]);
    let assert = desk
        .command("longer.mp4", &["--extend", "clip.mp4", "--seconds", "1"])
        .assert()
        .success();
    // 32 pictures are 8 latent frames, of which whole chunks are taken.
    assert.stderr(predicates::str::contains("last 21 pictures of the clip"));
    assert_eq!(
        desk.pixels(&["--extend", "clip.mp4", "--seconds", "1"]).len(),
        (21 + 16) * PICTURE
    );
}

#[test]
fn files_that_are_no_start() {
    let desk = Desk::new();
    fs::write(desk.video("text.png"), "no image").unwrap();
    desk.refused(1, &["--image", "text.png"], &["text.png"]);
    desk.refused(1, &["--image", "none.png"], &["none.png"]);
    desk.refused(1, &["--extend", "text.png"], &["text.png"]);
    desk.render("short.mp4", &["--seconds", "0.0625"]);
    desk.refused(
        1,
        &["--extend", "short.mp4"],
        &["start of 1 picture is too short", "needs at least 9"],
    );
    desk.refused(2, &["--image", "a.png", "--extend", "b.mp4"], &["cannot be used with"]);
}

/// Whether `a` and `b` begin with nearly the same picture.
fn begins_alike(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (mean(&a[..PICTURE]), mean(&b[..PICTURE]));
    a.iter().zip(b).all(|(a, b)| (a - b).abs() < 4.0)
}

#[test]
fn images_of_every_kind_start_a_video() {
    let desk = Desk::new();
    let image = ImageBuffer::from_fn(40, 24, |x, _| {
        if x < 20 {
            Rgb([230u8, 30, 30])
        } else {
            Rgb([30, 30, 230])
        }
    });
    image.save(desk.video("plain.png")).unwrap();
    let plain = desk.pixels(&["--image", "plain.png"]);
    // Stored lying on its side, with the note that says so.
    let mut jpeg = Vec::new();
    let turned = image::DynamicImage::ImageRgb8(image.clone()).rotate270();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 97);
    turned.write_with_encoder(encoder).unwrap();
    fs::write(desk.video("exif.jpg"), with_orientation(&jpeg, 6)).unwrap();
    assert!(begins_alike(&plain, &desk.pixels(&["--image", "exif.jpg"])));
    let deep = ImageBuffer::from_fn(40, 24, |x, y| {
        Rgb(image.get_pixel(x, y).0.map(|value| u16::from(value) * 257))
    });
    deep.save(desk.video("deep.png")).unwrap();
    assert!(plain == desk.pixels(&["--image", "deep.png"]), "16 bits");
    let solid = ImageBuffer::from_fn(40, 24, |x, y| {
        let [r, g, b] = image.get_pixel(x, y).0;
        Rgba([r, g, b, 255])
    });
    solid.save(desk.video("alpha.png")).unwrap();
    assert!(plain == desk.pixels(&["--image", "alpha.png"]), "alpha");
    fs::write(desk.video("cmyk.jpg"), cmyk_jpeg(24, 17, [255, 0, 0, 255])).unwrap();
    ImageBuffer::from_pixel(24, 17, Rgb([255u8, 0, 0]))
        .save(desk.video("red.png"))
        .unwrap();
    assert!(begins_alike(
        &desk.pixels(&["--image", "cmyk.jpg"]),
        &desk.pixels(&["--image", "red.png"])
    ));
}

#[test]
fn images_that_cannot_be() {
    let desk = Desk::new();
    fs::write(desk.video("empty.png"), png_of_size(0, 0)).unwrap();
    desk.refused(1, &["--image", "empty.png"], &["empty.png"]);
    fs::write(desk.video("huge.png"), png_of_size(100_000, 100_000)).unwrap();
    desk.refused(1, &["--image", "huge.png"], &["100000x100000"]);
}

#[test]
fn clips_of_every_kind_go_on() {
    let desk = Desk::new();
    let colours: Vec<[u8; 3]> = (0..24).map(|at| [40 + at * 8, 120, 60]).collect();
    Foreign::new((51, 33), Pixel::YUV444P, &colours).write(&desk.video("odd.mkv"));
    // 24 frames at 20 per second are 19 at 16.
    assert_eq!(
        desk.pixels(&["--extend", "odd.mkv", "--seconds", "1"]).len(),
        (9 + 16) * PICTURE
    );
    let mut uneven = Foreign::new((48, 32), Pixel::YUV420P, &colours);
    let mut time = 0;
    for (at, frame) in uneven.frames.iter_mut().enumerate() {
        frame.0 = time;
        time += if at % 2 == 0 { 2 } else { 9 };
    }
    uneven.write(&desk.video("uneven.mkv"));
    assert_eq!(
        desk.pixels(&["--extend", "uneven.mkv", "--seconds", "1"]).len(),
        (21 + 16) * PICTURE
    );
    fs::write(desk.video("sound.wav"), wav()).unwrap();
    desk.refused(1, &["--extend", "sound.wav"], &["sound.wav", "no video stream"]);
    Foreign::new((48, 32), Pixel::YUV420P, &colours[..1]).write(&desk.video("one.mkv"));
    desk.refused(1, &["--extend", "one.mkv"], &["start of 1 picture is too short"]);
}
