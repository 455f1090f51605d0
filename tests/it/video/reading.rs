//! Clips to go on from: every kind that people have, and every kind of broken one.

use std::{fs, path::Path};

use deepforcing::video::{Form, VideoError, VideoWriter, probe, read_frames, read_last_frames};
use ffmpeg_next::{Rational, format::Pixel};
use tempfile::tempdir;

use crate::video::{
    foreign::{Foreign, quiet, turn, wav},
    samples::{colour_at, push, settings, target, worst},
};

fn colours(count: u32) -> Vec<[u8; 3]> {
    (0..count).map(colour_at).collect()
}

/// The colour in the lower right half of a frame, where it is one colour.
fn colour(pixels: &[u8]) -> [u8; 3] {
    pixels.last_chunk::<3>().copied().unwrap()
}

/// The number of the colour in each frame.
fn numbers(frames: &[Vec<u8>]) -> Vec<u32> {
    let number = |frame: &Vec<u8>| {
        let off = |at: &u32| worst(&colour(frame), colour_at(*at));
        (0..36).min_by_key(off).unwrap()
    };
    frames.iter().map(number).collect()
}

#[test]
fn odd_sizes_and_deep_or_full_colours_are_read() {
    quiet();
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mkv");
    for (size, pixel) in [
        ((33, 17), Pixel::YUV420P),
        ((33, 17), Pixel::YUV444P),
        ((34, 18), Pixel::YUV420P10LE),
        ((35, 19), Pixel::YUV444P12LE),
        ((36, 20), Pixel::YUV422P),
        ((16, 16), Pixel::GRAY8),
    ] {
        Foreign::new(size, pixel, &[[90, 90, 90], [200, 200, 200]]).write(&path);
        let clip = read_frames(&path, 99).unwrap();
        assert_eq!(((clip.width, clip.height), clip.frames.len()), (size, 2), "{pixel:?}");
        for (frame, grey) in clip.frames.iter().zip([90, 200]) {
            assert!(worst(&colour(frame), [grey; 3]) <= 3, "{pixel:?}: {:?}", colour(frame));
        }
        let found = probe(&path).unwrap();
        assert_eq!(
            (found.width, found.height, found.frames, &*found.codec),
            (size.0, size.1, 2, "ffv1")
        );
    }
}

#[test]
fn one_frame_is_a_clip() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mkv");
    Foreign::new((32, 32), Pixel::YUV420P, &[[10, 200, 10]]).write(&path);
    assert_eq!(read_frames(&path, 9).unwrap().frames.len(), 1);
    let last = read_last_frames(&path, 9, 16.0).unwrap();
    assert_eq!((last.frames.len(), last.fps), (1, Some(16.0)));
}

#[test]
fn files_without_video_say_so() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("sound.wav");
    fs::write(&path, wav()).unwrap();
    for error in [
        read_frames(&path, 9).unwrap_err(),
        read_last_frames(&path, 9, 16.0).unwrap_err(),
        probe(&path).unwrap_err(),
    ] {
        assert!(
            error.to_string().contains("sound.wav") && error.to_string().contains("no video"),
            "{error}"
        );
    }
    for (count, fps) in [(0, 16.0), (9, 0.0), (9, f64::NAN)] {
        assert!(matches!(
            read_last_frames(&path, count, fps),
            Err(VideoError::Clip { .. })
        ));
    }
}

#[test]
fn pixels_that_are_not_square_become_so() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mkv");
    let wide = Foreign {
        aspect: Rational(3, 2),
        ..Foreign::new((32, 32), Pixel::YUV444P, &[[10, 20, 200]])
    };
    wide.write(&path);
    let clip = read_frames(&path, 9).unwrap();
    assert_eq!((clip.width, clip.height), (48, 32));
}

#[test]
fn turned_cameras_give_upright_pictures() {
    let folder = tempdir().unwrap();
    // The white corner, as stored at the upper left, comes to: right or left, lower or upper.
    for (matrix, size, right, lower, rotation) in [
        ([1, 0, 0, 1], (64, 32), false, false, 0),
        ([0, 1, -1, 0], (32, 64), true, false, 90),
        ([-1, 0, 0, -1], (64, 32), true, true, 180),
        ([0, -1, 1, 0], (32, 64), false, true, 270),
        ([-1, 0, 0, 1], (64, 32), true, false, 0),
        ([1, 0, 0, -1], (64, 32), false, true, 0),
        ([0, 1, 1, 0], (32, 64), false, false, 0),
        ([0, -1, -1, 0], (32, 64), true, true, 0),
    ] {
        let path = folder.path().join("clip.mp4");
        let clip = Foreign {
            encoder: "mpeg4",
            ..Foreign::new((64, 32), Pixel::YUV420P, &[[20, 20, 120]; 3])
        };
        clip.write(&path);
        turn(&path, matrix);
        let found = probe(&path).unwrap();
        assert_eq!((found.width, found.height), (64, 32), "{matrix:?}");
        // The program does not say whether a picture is mirrored too.
        let mirrored = matrix[0] * matrix[3] - matrix[1] * matrix[2] < 0;
        if !(mirrored && std::env::var_os("DEEPFORCING_FFMPEG").is_some()) {
            assert_eq!(found.rotation, rotation, "{matrix:?}");
        }
        for clip in [
            read_frames(&path, 9).unwrap(),
            read_last_frames(&path, 2, 20.0).unwrap(),
        ] {
            assert_eq!((clip.width, clip.height), size, "{matrix:?}");
            let bright = |right: bool, lower: bool| {
                let x = if right { size.0 - 3 } else { 2 } as usize;
                let y = if lower { size.1 - 3 } else { 2 } as usize;
                clip.frames[0][(y * size.0 as usize + x) * 3] > 150
            };
            for (x, y) in [(false, false), (false, true), (true, false), (true, true)] {
                assert_eq!(bright(x, y), (x, y) == (right, lower), "{matrix:?} {x} {y}");
            }
        }
    }
}

#[test]
fn the_last_frames_come_at_the_rate_that_is_asked_for() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mkv");
    // 30 frames in 1.5 seconds.
    Foreign::new((32, 32), Pixel::YUV444P, &colours(30)).write(&path);
    let last = |count, fps| numbers(&read_last_frames(&path, count, fps).unwrap().frames);
    assert_eq!(last(5, 20.0), [25, 26, 27, 28, 29]);
    assert_eq!(last(99, 20.0), (0..30).collect::<Vec<_>>());
    assert_eq!(last(4, 10.0), [23, 25, 27, 29]);
    assert_eq!(last(99, 10.0).len(), 15);
    assert_eq!(last(5, 40.0), [27, 28, 28, 29, 29]);
    let at_16 = last(99, 16.0);
    assert_eq!((at_16.len(), at_16.last()), (24, Some(&29)));
    assert!(
        at_16.windows(2).all(|pair| (1..=2).contains(&(pair[1] - pair[0]))),
        "{at_16:?}"
    );
}

#[test]
fn variable_rates_keep_their_speed() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mkv");
    let mut clip = Foreign::new((32, 32), Pixel::YUV444P, &colours(5));
    // A tenth, half a second, a tenth, then a long standstill.
    clip.frames = [0, 10, 60, 70, 80].into_iter().zip(colours(5)).collect();
    clip.last = 20;
    clip.write(&path);
    let last = |count| numbers(&read_last_frames(&path, count, 10.0).unwrap().frames);
    let all = last(99);
    assert_eq!(all[..9], [0, 1, 1, 1, 1, 1, 2, 3, 4]);
    assert_eq!(last(4), all[all.len() - 4..]);
}

#[test]
fn of_a_long_clip_only_the_end_is_decoded() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    // A frame in two seconds, ten minutes.
    let long = Foreign {
        encoder: "mpeg4",
        frames: (0..300).map(|at| (i64::from(at) * 200, colour_at(at % 36))).collect(),
        last: 200,
        ..Foreign::new((32, 32), Pixel::YUV420P, &[])
    };
    long.write(&path);
    // Damage at the beginning does not matter then, and would if it were read.
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|kind| kind == b"mdat").unwrap() + 4;
    bytes[at + 60..at + 4000].fill(0x55);
    fs::write(&path, bytes).unwrap();
    let last = read_last_frames(&path, 4, 0.5).unwrap();
    let expected: Vec<_> = (296..300).map(|at| at % 36).collect();
    assert_eq!(numbers(&last.frames), expected);
}

#[test]
fn interrupted_and_damaged_files_say_what_is_wrong() {
    let folder = tempdir().unwrap();
    let video = target(folder.path(), Form::Mp4);
    let mut writer = VideoWriter::create(&video, settings()).unwrap();
    push(&mut writer, 30);
    writer.finish().unwrap();
    let path = video.path();
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8], says: &str| {
        fs::write(&path, bytes).unwrap();
        for error in [
            read_frames(&path, 99).unwrap_err(),
            read_last_frames(&path, 99, 16.0).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains("clip.mp4") && text.contains(says), "{text}");
        }
    };
    refused(b"", "empty");
    refused(&whole[..whole.len() - 40], "damaged after");
    refused(&whole[..whole.len() * 9 / 10], "damaged after");
    // Before the index.
    refused(&whole[..40], "interrupted");
    refused(&b"This is a text. ".repeat(99), "not a video");
    // An mp4 whose index would have come at the end.
    let at = whole.windows(4).position(|kind| kind == b"moov").unwrap();
    let mut without = whole.clone();
    without[at..at + 4].copy_from_slice(b"skip");
    refused(&without, "interrupted");
}

#[test]
fn sizes_that_no_memory_holds_are_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("huge.y4m");
    fs::write(&path, "YUV4MPEG2 W17000 H16 F16:1\nFRAME\n0123456789").unwrap();
    let refused = |path: &Path| read_frames(path, 9).unwrap_err().to_string();
    assert!(
        refused(&path).contains("17000x16") && refused(&path).contains("16384"),
        "{}",
        refused(&path)
    );
}
