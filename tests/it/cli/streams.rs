//! Videos on standard output, and in other forms than mp4.

use std::{fs, io::Read, process::Stdio};

use crate::cli::program::{Desk, decoded, process};

fn streamed(desk: &Desk, more: &[&str]) -> Vec<u8> {
    let output = desk.command("-", more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn standard_output_carries_a_playable_mp4() {
    let desk = Desk::new();
    let bytes = streamed(&desk, &[]);
    fs::write(desk.video("streamed.mp4"), bytes).unwrap();
    let file = desk.render("file.mp4", &[]);
    assert!(decoded(&desk.video("streamed.mp4")).frames == file.frames);
}

#[test]
fn raw_forms_have_the_size_that_they_must_have() {
    let desk = Desk::new();
    assert_eq!(desk.pixels(&[]).len(), 24 * 32 * 32 * 3);
    let y4m = streamed(&desk, &["--format", "y4m"]);
    let header = y4m.split(|byte| *byte == b'\n').next().unwrap();
    let text = String::from_utf8_lossy(header).into_owned();
    assert!(text.starts_with("YUV4MPEG2 W32 H32 F16:1"), "{text}");
    assert_eq!(y4m.len() - header.len() - 1, 24 * ("FRAME\n".len() + 32 * 32 * 3 / 2));
}

#[test]
fn extensions_tell_the_form() {
    let desk = Desk::new();
    desk.command("out.webm", &[]).assert().success();
    assert_eq!(decoded(&desk.video("out.webm")).frames.len(), 24);
    desk.command("out.gif", &[]).assert().success();
    assert_eq!(decoded(&desk.video("out.gif")).frames.len(), 24);
    desk.command("frame_%05d.png", &["--seconds", "0.5"]).assert().success();
    let pictures: Vec<_> = desk.names().into_iter().filter(|name| name.ends_with(".png")).collect();
    assert_eq!(pictures.len(), 8);
    assert_eq!((&*pictures[0], &*pictures[7]), ("frame_00000.png", "frame_00007.png"));
    // The pictures are those that were made.
    let first = image::open(desk.video("frame_00000.png"))
        .unwrap()
        .into_rgb8()
        .into_raw();
    assert!(first == desk.pixels(&["--seconds", "0.5"])[..32 * 32 * 3]);
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let desk = Desk::new();
    for format in ["mp4", "y4m", "rgb"] {
        let words = desk.words("-", &["--seconds", "600", "--format", format]);
        let mut child = process(&words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut some = [0; 512];
        child.stdout.take().unwrap().read_exact(&mut some).unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{format}: {stderr}");
        assert!(!stderr.contains("error"), "{format}: {stderr}");
    }
    assert!(desk.names().is_empty(), "{:?}", desk.names());
}

#[test]
fn a_thumbnail_is_the_picture_in_the_middle() {
    let desk = Desk::new();
    desk.render("out.mp4", &["--thumbnail", "thumb.png"]);
    let thumbnail = image::open(desk.video("thumb.png")).unwrap().into_rgb8().into_raw();
    let picture = 32 * 32 * 3;
    assert!(thumbnail == desk.pixels(&[])[12 * picture..13 * picture]);
}
