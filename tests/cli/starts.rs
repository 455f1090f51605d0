//! Videos that begin with an image or go on from a clip.

use std::fs;

use image::{ImageBuffer, Rgb, Rgba};

use crate::program::Desk;

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
