//! Every form is written and read back.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use deepforcing::video::{
    Codec, Colour, Form, Probe, Target, VideoError, VideoSettings, VideoWriter, probe, read_frames, read_image,
};
use tempfile::tempdir;

use crate::video::samples::{HEIGHT, WIDTH, changing, colour_at, names, names_in, push, settings, target, worst};

const FRAMES: u32 = 17;

/// Writes 17 frames of changing colour.
fn written(folder: &Path, form: Form) -> PathBuf {
    let target = target(folder, form);
    let mut writer = VideoWriter::create(&target, settings()).unwrap();
    push(&mut writer, FRAMES);
    assert_eq!(writer.frames(), u64::from(FRAMES));
    let summary = writer.finish().unwrap();
    assert_eq!(summary.frames, u64::from(FRAMES));
    assert_eq!(summary.duration.as_secs_f64(), f64::from(FRAMES) / 16.0);
    assert_eq!(summary.path, target.path());
    summary.path
}

fn check_pixels(path: &Path, tolerance: u8) {
    let clip = read_frames(path, 99).unwrap();
    assert_eq!(
        (clip.width, clip.height, clip.frames.len()),
        (WIDTH, HEIGHT, FRAMES as usize)
    );
    for (at, pixels) in clip.frames.iter().enumerate() {
        let off = worst(pixels, colour_at(at as u32));
        assert!(off <= tolerance, "{}: frame {at} is {off} off", path.display());
    }
}

fn checked_probe(path: &Path) -> Probe {
    let found = probe(path).unwrap();
    assert_eq!((found.width, found.height, found.rotation), (WIDTH, HEIGHT, 0));
    assert_eq!(
        (found.fps, found.frames),
        (Some(16.0), FRAMES.into()),
        "{}",
        path.display()
    );
    found
}

#[test]
fn mp4_is_what_players_expect() {
    let folder = tempdir().unwrap();
    let path = written(folder.path(), Form::Mp4);
    assert_eq!(names(&folder), ["clip.mp4"]);
    let found = checked_probe(&path);
    assert_eq!((&*found.codec, &*found.pixel_format), ("h264", "yuv420p"));
    assert_eq!((found.faststart, found.fragmented), (Some(true), false));
    assert_eq!(found.duration, Some(f64::from(FRAMES) / 16.0));
    assert_eq!(
        found.program.as_deref(),
        Some(concat!("deepforcing ", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(
        found.colour,
        Colour {
            space: Some("bt709"),
            primaries: Some("bt709"),
            transfer: Some("bt709"),
            range: Some("tv")
        }
    );
    check_pixels(&path, 4);
}

#[test]
fn webm_is_what_browsers_expect() {
    let folder = tempdir().unwrap();
    let path = written(folder.path(), Form::Webm);
    assert_eq!(names(&folder), ["clip.webm"]);
    let found = checked_probe(&path);
    assert_eq!((&*found.codec, &*found.pixel_format), ("vp9", "yuv420p"));
    assert_eq!((found.faststart, &*found.container), (None, "matroska,webm"));
    assert!(
        (found.duration.unwrap() - f64::from(FRAMES) / 16.0).abs() < 0.002,
        "{found:?}"
    );
    assert_eq!((found.colour.space, found.colour.range), (Some("bt709"), Some("tv")));
    assert_eq!(
        found.program.as_deref(),
        Some(concat!("deepforcing ", env!("CARGO_PKG_VERSION")))
    );
    check_pixels(&path, 6);
    // A webm file calls itself so.
    let bytes = fs::read(&path).unwrap();
    assert!(bytes[..64].windows(4).any(|part| part == b"webm"));
    // Its index is there: players can search.
    assert!(bytes.windows(4).any(|part| part == b"\x1c\x53\xbb\x6b"));
}

#[test]
fn gif_repeats_without_end_at_the_right_pace() {
    let folder = tempdir().unwrap();
    let path = written(folder.path(), Form::Gif);
    assert_eq!(names(&folder), ["clip.gif"]);
    check_pixels(&path, 8);
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.last(), Some(&b';'));
    let at = bytes.windows(11).position(|part| part == b"NETSCAPE2.0").unwrap() + 11;
    assert_eq!(bytes[at..at + 4], [3, 1, 0, 0]);
    // 17 frames of 6.25 hundredths of a second.
    let mut decoder = gif::DecodeOptions::new().read_info(&bytes[..]).unwrap();
    let mut delays = Vec::new();
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        delays.push(frame.delay);
    }
    assert_eq!(delays.len(), FRAMES as usize);
    assert!(delays.iter().all(|delay| (6..=7).contains(delay)));
    assert_eq!(delays.iter().sum::<u16>(), 106);
}

#[test]
fn pictures_are_exact_and_numbered_from_zero() {
    let folder = tempdir().unwrap();
    written(folder.path(), Form::Png);
    let expected: Vec<_> = (0..FRAMES).map(|at| format!("clip_{at:03}.png")).collect();
    assert_eq!(names(&folder), expected);
    for at in 0..FRAMES {
        let picture = read_image(&folder.path().join(&expected[at as usize])).unwrap();
        assert_eq!(picture.frames, [changing(at)], "picture {at}");
    }
}

#[test]
fn pictures_go_into_a_folder_that_is_made_for_them() {
    let folder = tempdir().unwrap();
    let target = Target::parse(format!("{}/frames/", folder.path().display()), None).unwrap();
    target.check(false).unwrap();
    assert!(names(&folder).is_empty());
    let mut writer = VideoWriter::create(&target, settings()).unwrap();
    push(&mut writer, 2);
    let kept = writer.kept().unwrap();
    assert_eq!(
        (kept.frames, kept.path),
        (2, folder.path().join("frames/frame_%05d.png"))
    );
    let summary = writer.finish().unwrap();
    let frames = folder.path().join("frames");
    assert_eq!(names_in(&frames), ["frame_00000.png", "frame_00001.png"]);
    let sizes: u64 = names_in(&frames)
        .iter()
        .map(|name| fs::metadata(frames.join(name)).unwrap().len())
        .sum();
    assert_eq!(summary.bytes, sizes);
}

#[test]
fn a_shorter_sequence_leaves_nothing_of_the_longer_one() {
    let folder = tempdir().unwrap();
    written(folder.path(), Form::Png);
    fs::write(folder.path().join("clip_note.png"), "not a picture of it").unwrap();
    let target = target(folder.path(), Form::Png);
    assert!(matches!(target.check(false), Err(VideoError::Exists { .. })));
    target.check(true).unwrap();
    let mut writer = VideoWriter::create(&target, settings()).unwrap();
    // Nothing is lost before there is something new.
    assert_eq!(names(&folder).iter().filter(|name| name.ends_with(".png")).count(), 18);
    push(&mut writer, 2);
    writer.finish().unwrap();
    assert_eq!(names(&folder), ["clip_000.png", "clip_001.png", "clip_note.png"]);
}

#[test]
fn rgb_is_the_frames_and_nothing_else() {
    let folder = tempdir().unwrap();
    let path = written(folder.path(), Form::Rgb);
    assert_eq!(names(&folder), ["clip.rgb"]);
    let frames: Vec<u8> = (0..FRAMES).flat_map(changing).collect();
    assert!(fs::read(&path).unwrap() == frames);
}

#[test]
fn y4m_is_understood_by_other_programs() {
    let folder = tempdir().unwrap();
    let path = written(folder.path(), Form::Y4m);
    assert_eq!(names(&folder), ["clip.y4m"]);
    assert!(
        fs::read(&path)
            .unwrap()
            .starts_with(b"YUV4MPEG2 W96 H64 F16:1 Ip A1:1 C420jpeg")
    );
    let found = checked_probe(&path);
    assert_eq!((&*found.pixel_format, found.colour.range), ("yuv420p", Some("tv")));
    check_pixels(&path, 3);
}

/// Memory that can be looked at while it is written to.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn streams_are_readable_up_to_every_flush() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("stream");
    for form in [Form::Mp4, Form::Webm, Form::Y4m] {
        let stream = Shared::default();
        let mut writer = VideoWriter::stream(stream.clone(), form, settings()).unwrap();
        assert_eq!(writer.kept(), None);
        push(&mut writer, 9);
        writer.flush().unwrap();
        fs::write(&file, &*stream.0.lock().unwrap()).unwrap();
        assert_eq!(read_frames(&file, 99).unwrap().frames.len(), 9, "{form}");
        push(&mut writer, 8);
        let summary = writer.finish().unwrap();
        let bytes = stream.0.lock().unwrap().clone();
        assert_eq!((summary.bytes, &*summary.path), (bytes.len() as u64, Path::new("-")));
        fs::write(&file, bytes).unwrap();
        let clip = read_frames(&file, 99).unwrap();
        assert_eq!((clip.frames.len(), clip.fps), (17, Some(16.0)), "{form}");
        if form == Form::Mp4 {
            let found = probe(&file).unwrap();
            assert!(
                found.fragmented && found.faststart.is_none() && found.frames == 17,
                "{found:?}"
            );
        }
    }
    let stream = Shared::default();
    let mut writer = VideoWriter::stream(stream.clone(), Form::Rgb, settings()).unwrap();
    push(&mut writer, 2);
    drop(writer);
    assert_eq!(*stream.0.lock().unwrap(), [changing(0), changing(1)].concat());
    for form in [Form::Gif, Form::Png] {
        let opened = VideoWriter::stream(Shared::default(), form, settings());
        assert!(matches!(opened, Err(VideoError::StdoutForm { .. })), "{form}");
    }
}

#[test]
fn quality_decides_the_size() {
    let folder = tempdir().unwrap();
    let noise: Vec<u8> = (0..WIDTH * HEIGHT * 3)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for form in [Form::Mp4, Form::Webm] {
        let size = |crf: u8| {
            let settings = VideoSettings { crf, ..settings() };
            let mut writer = VideoWriter::create(&target(folder.path(), form), settings).unwrap();
            for at in 0..6 {
                let mut frame = noise.clone();
                frame.rotate_left(at * 30);
                writer.push(&frame).unwrap();
            }
            writer.finish().unwrap().bytes
        };
        let (good, bad) = (size(10), size(45));
        assert!(good > bad * 2, "{form}: {good} {bad}");
    }
}

#[test]
fn the_encoder_says_what_it_is() {
    let folder = tempdir().unwrap();
    let codecs = Form::ALL.map(|form| {
        let writer = VideoWriter::create(&target(folder.path(), form), settings()).unwrap();
        writer.info().codec
    });
    assert_eq!(
        codecs,
        [Codec::H264, Codec::Vp9, Codec::Gif, Codec::Png, Codec::Raw, Codec::Raw]
    );
    assert!(names(&folder).is_empty());
}
