//! The mp4 writer for a path alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use deepforcing::video::{
    Clip, Form, Metadata, Target, VideoError, VideoSettings, VideoWriter, read_frames, read_image,
};
use ffmpeg_next as ffmpeg;
use tempfile::tempdir;

use crate::video::samples::{HEIGHT, WIDTH, frame, names, settings};

/// An mp4 writer for a path alone.
fn create(path: &Path, settings: VideoSettings) -> Result<VideoWriter, VideoError> {
    VideoWriter::create(&Target::parse(path, Some(Form::Mp4))?, settings)
}

fn check_output(path: &Path, overwrite: bool) -> Result<(), VideoError> {
    Target::parse(path, None)?.check(overwrite)
}

fn push(encoder: &mut VideoWriter, frames: u32) {
    for at in 0..frames {
        encoder.push(&frame(at, [40, 120, 90])).unwrap();
    }
}

/// Top-level boxes of an mp4 file, in order.
fn boxes(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap();
    let (mut at, mut names) = (0, Vec::new());
    while at + 8 <= bytes.len() {
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        names.push(String::from_utf8_lossy(&bytes[at + 4..at + 8]).into_owned());
        assert!(size >= 8, "box size {size}");
        at += size;
    }
    names
}

#[test]
fn a_finished_video_is_what_players_expect() {
    let folder = tempdir().unwrap();
    // A colon must not be taken for a protocol.
    let path = folder.path().join("ball: red.mp4");
    let metadata = Metadata {
        title: Some("a red\0 ball ☀".into()),
        comment: Some("seed 1".into()),
    };
    let mut encoder = create(&path, VideoSettings { metadata, ..settings() }).unwrap();
    push(&mut encoder, 33);
    assert!(!path.exists());
    let summary = encoder.finish().unwrap();
    assert_eq!(names(&folder), ["ball: red.mp4"]);
    assert_eq!((summary.frames, summary.duration.as_secs_f64()), (33, 33.0 / 16.0));
    assert_eq!(summary.bytes, fs::metadata(&path).unwrap().len());

    let input = ffmpeg::format::input(&format!("file:{}", path.display())).unwrap();
    assert_eq!(input.metadata().get("title"), Some("a red ball ☀"));
    assert_eq!(input.metadata().get("comment"), Some("seed 1"));
    assert_eq!(input.streams().count(), 1);
    let stream = input.streams().best(ffmpeg::media::Type::Video).unwrap();
    assert_eq!(stream.frames(), 33);
    assert_eq!(stream.avg_frame_rate(), ffmpeg::Rational(16, 1));
    assert_eq!(f64::from(stream.time_base()) * stream.duration() as f64, 33.0 / 16.0);
    let decoder = ffmpeg::codec::context::Context::from_parameters(stream.parameters()).unwrap();
    let decoder = decoder.decoder().video().unwrap();
    assert_eq!((decoder.width(), decoder.height()), (WIDTH, HEIGHT));
    assert_eq!(decoder.format(), ffmpeg::format::Pixel::YUV420P);
    assert_eq!(decoder.color_space(), ffmpeg::color::Space::BT709);
    assert_eq!(decoder.color_range(), ffmpeg::color::Range::MPEG);
    assert_eq!(decoder.color_primaries(), ffmpeg::color::Primaries::BT709);
    assert_eq!(
        decoder.color_transfer_characteristic(),
        ffmpeg::color::TransferCharacteristic::BT709
    );

    let boxes = boxes(&path);
    let position = |name| boxes.iter().position(|found| found == name).unwrap();
    assert!(
        position("moov") < position("mdat") && !boxes.iter().any(|name| name == "moof"),
        "{boxes:?}"
    );
}

#[test]
fn keyframes_come_every_interval() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let mut encoder = create(&path, settings()).unwrap();
    for at in 0..30 {
        // A scene cut where no keyframe belongs.
        encoder
            .push(&frame(at, if at < 7 { [250, 10, 10] } else { [10, 10, 250] }))
            .unwrap();
    }
    encoder.finish().unwrap();
    let mut input = ffmpeg::format::input(&path).unwrap();
    let keys: Vec<_> = input
        .packets()
        .enumerate()
        .filter(|(_, (_, packet))| packet.is_key())
        .map(|(at, _)| at)
        .collect();
    assert_eq!(keys, [0, 12, 24]);
}

#[test]
fn colours_survive_the_round_trip() {
    let folder = tempdir().unwrap();
    let colours = [
        [0, 0, 0],
        [255, 255, 255],
        [128, 128, 128],
        [200, 30, 30],
        [30, 200, 30],
        [30, 30, 200],
        [240, 220, 40],
    ];
    for (index, colour) in colours.into_iter().enumerate() {
        let path = folder.path().join(format!("{index}.mp4"));
        let mut encoder = create(&path, settings()).unwrap();
        let solid = colour.repeat((WIDTH * HEIGHT) as usize);
        for _ in 0..3 {
            encoder.push(&solid).unwrap();
        }
        encoder.finish().unwrap();
        let clip = read_frames(&path, 10).unwrap();
        assert_eq!(
            (clip.width, clip.height, clip.fps, clip.frames.len()),
            (WIDTH, HEIGHT, Some(16.0), 3)
        );
        let worst = clip
            .frames
            .concat()
            .iter()
            .zip(solid.iter().cycle())
            .map(|(a, b)| a.abs_diff(*b))
            .max()
            .unwrap();
        assert!(worst <= 3, "{colour:?} comes back {worst} off");
    }
}

#[test]
fn dropping_keeps_a_playable_partial_file_and_nothing_under_the_final_name() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let mut encoder = create(&path, settings()).unwrap();
    push(&mut encoder, 17);
    drop(encoder);
    assert_eq!(names(&folder), [".clip.partial.mp4"]);
    assert_eq!(
        read_frames(&folder.path().join(".clip.partial.mp4"), 99)
            .unwrap()
            .frames
            .len(),
        17
    );
    // The next run replaces it.
    let mut encoder = create(&path, settings()).unwrap();
    push(&mut encoder, 2);
    encoder.finish().unwrap();
    assert_eq!(names(&folder), ["clip.mp4"]);
}

#[test]
fn without_frames_nothing_remains() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    drop(create(&path, settings()).unwrap());
    assert!(names(&folder).is_empty());
    assert!(matches!(
        create(&path, settings()).unwrap().finish(),
        Err(VideoError::NoFrames { .. })
    ));
    assert!(names(&folder).is_empty());
    assert!(create(&path, settings()).unwrap().finish_partial().unwrap().is_none());
    assert!(names(&folder).is_empty());
}

#[test]
fn an_interrupted_run_becomes_a_proper_video() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let mut encoder = create(&path, settings()).unwrap();
    push(&mut encoder, 9);
    assert_eq!(encoder.finish_partial().unwrap().unwrap().frames, 9);
    assert_eq!(names(&folder), ["clip.mp4"]);
    assert_eq!(read_frames(&path, 99).unwrap().frames.len(), 9);
}

const KILLED_OUTPUT: &str = "DEEPFORCING_TEST_KILLED_OUTPUT";

/// The process that is killed; run by the test below only.
#[test]
#[ignore = "ends its process"]
fn process_that_dies() {
    let path = std::env::var_os(KILLED_OUTPUT).unwrap();
    let mut encoder = create(Path::new(&path), settings()).unwrap();
    // The first chunk of a causal VAE, a whole one, and a part of a third that is lost.
    push(&mut encoder, 9);
    encoder.flush().unwrap();
    push(&mut encoder, 12);
    encoder.flush().unwrap();
    push(&mut encoder, 2);
    std::process::abort();
}

#[test]
fn a_killed_process_leaves_every_flushed_frame() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    fs::write(&path, "an older video").unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "video::encoder::process_that_dies", "--ignored"])
        .env(KILLED_OUTPUT, &path)
        .output()
        .unwrap()
        .status;
    assert!(!status.success());
    assert_eq!(names(&folder), [".clip.partial.mp4", "clip.mp4"]);
    assert_eq!(fs::read(&path).unwrap(), b"an older video");
    assert_eq!(
        read_frames(&folder.path().join(".clip.partial.mp4"), 99)
            .unwrap()
            .frames
            .len(),
        21
    );
    // Its lock died with it.
    check_output(&path, true).unwrap();
}

#[test]
fn two_runs_cannot_write_the_same_video() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let mut encoder = create(&path, settings()).unwrap();
    push(&mut encoder, 3);
    assert!(matches!(check_output(&path, false), Err(VideoError::Busy { .. })));
    assert!(matches!(create(&path, settings()), Err(VideoError::Busy { .. })));
    push(&mut encoder, 3);
    assert_eq!(encoder.finish().unwrap().frames, 6);
}

#[test]
fn wrong_frames_and_sizes_are_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let mut encoder = create(&path, settings()).unwrap();
    push(&mut encoder, 1);
    let error = encoder.push(&[0; 100]).unwrap_err();
    assert!(
        matches!(
            error,
            VideoError::FrameSize {
                frame: 1,
                actual: 100,
                ..
            }
        ),
        "{error}"
    );
    drop(encoder);
    for (width, height) in [(97, 64), (96, 63), (0, 64)] {
        let created = create(&path, VideoSettings::new(width, height));
        assert!(matches!(created, Err(VideoError::Size { .. })), "{width}x{height}");
    }
}

#[test]
fn an_output_is_checked_before_any_work() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    check_output(&at("clip.mp4"), false).unwrap();
    assert!(names(&folder).is_empty());

    let refused = |path: PathBuf, overwrite: bool, says: &str| {
        let error = check_output(&path, overwrite).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(says), "{}: {text}", path.display());
        error
    };
    // A folder that is missing is made later, and not left behind by the check.
    check_output(&at("none/clip.mp4"), false).unwrap();
    assert!(names(&folder).is_empty());
    assert!(matches!(
        refused(at("clip.avi"), false, ".mp4"),
        VideoError::Extension { .. }
    ));
    assert!(matches!(
        refused(folder.path().to_owned(), false, "is a folder"),
        VideoError::IsFolder { .. }
    ));
    fs::create_dir(at("folder.mp4")).unwrap();
    assert!(matches!(
        refused(at("folder.mp4"), true, "is a folder"),
        VideoError::IsFolder { .. }
    ));
    fs::write(at("file.mp4"), "x").unwrap();
    assert!(matches!(
        refused(at("file.mp4"), false, "--overwrite"),
        VideoError::Exists { .. }
    ));
    check_output(&at("file.mp4"), true).unwrap();
    assert_eq!(fs::read(at("file.mp4")).unwrap(), b"x");
    assert!(matches!(
        refused(at("file.mp4/clip.mp4"), false, "not a folder"),
        VideoError::FolderIsFile { .. }
    ));
    assert!(matches!(
        refused(at("file.mp4/deep/clip.mp4"), false, "not a folder"),
        VideoError::FolderIsFile { .. }
    ));
    // Names that no file system takes.
    check_output(&at(&format!("{}.mp4", "x".repeat(250))), false).unwrap();
    assert!(matches!(
        refused(at(&format!("{}.mp4", "x".repeat(252))), false, "shorten it"),
        VideoError::NameTooLong { .. }
    ));
    // Nobody can create files there, not even root.
    #[cfg(target_os = "linux")]
    {
        let error = refused("/proc/clip.mp4".into(), false, "cannot create");
        assert!(matches!(error, VideoError::NotWritable { .. }));
        assert!(create(Path::new("/proc/clip.mp4"), settings()).is_err());
    }
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_and_odd_names_are_refused() {
    use std::{
        ffi::OsStr,
        os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    };
    let folder = tempdir().unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write anyway.
    if fs::write(closed.join("probe"), "").is_err() {
        assert!(matches!(
            check_output(&closed.join("clip.mp4"), false),
            Err(VideoError::NotWritable { .. })
        ));
    }
    let latin1 = folder.path().join(OsStr::from_bytes(b"caf\xe9.mp4"));
    assert!(matches!(check_output(&latin1, false), Err(VideoError::NotUtf8 { .. })));
    assert!(matches!(
        check_output(Path::new("/dev/null"), true),
        Err(VideoError::Extension { .. })
    ));
    let link = folder.path().join("null.mp4");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    assert!(matches!(check_output(&link, true), Err(VideoError::NotAFile { .. })));
}

#[test]
fn clips_and_images_are_read_and_fitted() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let mut encoder = create(&path, settings()).unwrap();
    push(&mut encoder, 20);
    encoder.finish().unwrap();
    let clip = read_frames(&path, 5).unwrap();
    assert_eq!(clip.frames.len(), 5);
    let tensor = clip.fit(32, 48).unwrap().to_tensor(&candle_core::Device::Cpu).unwrap();
    assert_eq!(tensor.dims(), [5, 3, 48, 32]);

    let picture = folder.path().join("picture.jpg");
    image::RgbImage::from_pixel(50, 30, image::Rgb([200, 100, 50]))
        .save_with_format(&picture, image::ImageFormat::Png)
        .unwrap();
    let image = read_image(&picture).unwrap();
    assert_eq!(
        image,
        Clip {
            width: 50,
            height: 30,
            fps: None,
            frames: vec![[200, 100, 50].repeat(1500)]
        }
    );
    // FFmpeg reads images too, as a video of one frame.
    assert_eq!(read_frames(&picture, 9).unwrap().frames, image.frames);
}

#[test]
fn unreadable_clips_say_why() {
    let folder = tempdir().unwrap();
    let bad = folder.path().join("bad.mp4");
    let read = |says: &str| {
        for error in [read_frames(&bad, 9).unwrap_err(), read_image(&bad).unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains("bad.mp4") && text.contains(says), "{text}");
        }
    };
    read("No such file");
    fs::write(&bad, "").unwrap();
    read("bad.mp4");
    fs::write(&bad, "this is no video ".repeat(1000)).unwrap();
    read("bad.mp4");
    assert!(read_frames(folder.path(), 9).is_err());
    assert!(read_image(folder.path()).is_err());
    // A truncated video: the index is whole, the frames are not.
    let mut encoder = create(&bad, settings()).unwrap();
    push(&mut encoder, 40);
    encoder.finish().unwrap();
    let whole = fs::read(&bad).unwrap();
    fs::write(&bad, &whole[..whole.len() / 4]).unwrap();
    assert!(read_frames(&bad, 99).is_err());
}

#[test]
fn an_encoder_can_move_to_another_thread() {
    fn sendable<T: Send>() {}
    sendable::<VideoWriter>();
    sendable::<VideoError>();
}
