//! Places that a video cannot go to, found before any work is done.

use std::fs;

use deepforcing::video::{Form, Target, VideoError, VideoWriter, check_picture, save_picture};
use tempfile::tempdir;

use crate::video::samples::{names, push, settings, target};

#[test]
fn an_existing_video_is_protected_in_every_form() {
    for form in Form::ALL {
        let folder = tempdir().unwrap();
        let target = target(folder.path(), form);
        target.check(false).unwrap();
        assert!(names(&folder).is_empty(), "{form}: a check leaves nothing");
        let mut writer = VideoWriter::create(&target, settings()).unwrap();
        push(&mut writer, 1);
        writer.finish().unwrap();
        let error = target.check(false).unwrap_err();
        assert!(matches!(error, VideoError::Exists { .. }), "{form}: {error}");
        assert!(error.to_string().contains("--overwrite"), "{error}");
        target.check(true).unwrap();
    }
}

#[test]
fn two_runs_cannot_write_one_video_in_any_form() {
    for form in Form::ALL {
        let folder = tempdir().unwrap();
        let target = target(folder.path(), form);
        let mut writer = VideoWriter::create(&target, settings()).unwrap();
        push(&mut writer, 1);
        for error in [
            target.check(true).unwrap_err(),
            VideoWriter::create(&target, settings()).unwrap_err(),
        ] {
            assert!(matches!(error, VideoError::Busy { .. }), "{form}: {error}");
        }
        assert_eq!(writer.finish().unwrap().frames, 1);
        target.check(true).unwrap();
    }
}

#[test]
fn videos_of_one_name_and_several_forms_do_not_disturb_each_other() {
    let folder = tempdir().unwrap();
    let mut writers = Form::ALL.map(|form| VideoWriter::create(&target(folder.path(), form), settings()).unwrap());
    for writer in &mut writers {
        push(writer, 2);
    }
    for writer in writers {
        writer.finish().unwrap();
    }
    assert_eq!(
        names(&folder),
        [
            "clip.gif",
            "clip.mp4",
            "clip.rgb",
            "clip.webm",
            "clip.y4m",
            "clip_000.png",
            "clip_001.png"
        ]
    );
}

#[test]
fn folders_of_pictures_are_checked() {
    let folder = tempdir().unwrap();
    let at = |name: &str| Target::parse(format!("{}/{name}", folder.path().display()), None).unwrap();
    at("none/frames/").check(false).unwrap();
    assert!(names(&folder).is_empty());
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(matches!(at("file/").check(false), Err(VideoError::FolderIsFile { .. })));
    assert!(matches!(
        at("file/a_%d.png").check(true),
        Err(VideoError::FolderIsFile { .. })
    ));
    fs::create_dir(folder.path().join("frames")).unwrap();
    fs::write(folder.path().join("frames/other.png"), "").unwrap();
    at("frames/").check(false).unwrap();
    fs::write(folder.path().join("frames/frame_00007.png"), "").unwrap();
    let error = at("frames/").check(false).unwrap_err();
    assert!(error.to_string().contains("frame_00007.png"), "{error}");
    at("frames/").check(true).unwrap();
    assert_eq!(names(&folder), ["file", "frames"]);
}

#[test]
fn linked_folders_are_one_place() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("real")).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.path().join("real"), folder.path().join("link")).unwrap();
        let at = |name: &str| Target::parse(folder.path().join(name), None).unwrap();
        assert!(at("real/a.mp4").same_place(&at("link/a.mp4")));
        assert_eq!(at("real/../real/a.mp4").key(), at("link/./a.mp4").key());
        assert!(!at("real/a.mp4").same_place(&at("a.mp4")));
    }
}

#[test]
fn pictures_are_saved_whole_or_not_at_all() {
    let folder = tempdir().unwrap();
    let pixels = [200, 90, 30].repeat(40 * 20);
    for (name, tolerance) in [("thumb.png", 0), ("thumb.jpg", 4), ("thumb.JPEG", 4)] {
        let path = folder.path().join(name);
        save_picture(&path, 40, 20, &pixels, false).unwrap();
        let image = image::ImageReader::open(&path).unwrap().with_guessed_format().unwrap();
        assert_eq!(image.format() == Some(image::ImageFormat::Png), name.ends_with("png"));
        let read = image.decode().unwrap().into_rgb8();
        assert_eq!(read.dimensions(), (40, 20));
        assert!(
            crate::video::samples::worst(read.as_raw(), [200, 90, 30]) <= tolerance,
            "{name}"
        );
        let again = save_picture(&path, 40, 20, &pixels, false);
        assert!(matches!(again, Err(VideoError::Exists { .. })), "{name}");
        save_picture(&path, 40, 20, &pixels, true).unwrap();
    }
    assert_eq!(names(&folder), ["thumb.JPEG", "thumb.jpg", "thumb.png"]);
    let refused = |name: &str| check_picture(&folder.path().join(name), true).unwrap_err();
    assert!(matches!(refused("thumb.webp"), VideoError::PictureExtension { .. }));
    check_picture(&folder.path().join("none/thumb.png"), true).unwrap();
    fs::create_dir(folder.path().join("d.png")).unwrap();
    assert!(matches!(refused("d.png"), VideoError::IsFolder { .. }));
    let wrong = save_picture(&folder.path().join("new.png"), 41, 20, &pixels, false).unwrap_err();
    assert!(matches!(wrong, VideoError::Picture { .. }), "{wrong}");
    assert!(!folder.path().join("new.png").exists());
}
