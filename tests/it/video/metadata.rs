//! Title and comment go in and come out.

use std::fs;

use deepforcing::video::{Form, Metadata, Target, VideoError, VideoWriter, read_metadata};
use tempfile::tempdir;

use crate::video::samples::{push, settings, target};

const WITH_METADATA: [Form; 4] = [Form::Mp4, Form::Webm, Form::Gif, Form::Png];

fn metadata(title: &str, comment: &str) -> Metadata {
    Metadata {
        title: Some(title.to_owned()),
        comment: Some(comment.to_owned()),
    }
}

/// The file in which the metadata of a target is.
fn file_of(target: &Target) -> std::path::PathBuf {
    match target.form() {
        Form::Png => target.path().with_file_name("clip_000.png"),
        _ => target.path(),
    }
}

#[test]
fn texts_survive_in_every_form_that_has_them() {
    let long = format!("{{\"prompts\":[\"{}\"]}}", "ein Ballon ☀ über dem Meer, ".repeat(4000));
    assert!(long.len() > 100_000);
    let texts = [
        metadata("a red ball", "{\"seed\":1}"),
        metadata(
            "üñî ☀ 漢字 🎈",
            "first line\nsecond line\ttab \"quoted\" \\ / = ; # %s %d",
        ),
        metadata("long", &long),
        Metadata {
            title: Some("only a title".to_owned()),
            comment: None,
        },
    ];
    for form in WITH_METADATA {
        assert!(form.holds_metadata());
        for metadata in &texts {
            let folder = tempdir().unwrap();
            let target = target(folder.path(), form);
            let mut with = settings();
            with.metadata = metadata.clone();
            let mut writer = VideoWriter::create(&target, with).unwrap();
            push(&mut writer, 3);
            writer.finish().unwrap();
            let read = read_metadata(&file_of(&target)).unwrap();
            assert_eq!(read.title, metadata.title, "{form}");
            assert!(read.comment == metadata.comment, "{form}: {:?}", metadata.title);
        }
    }
}

#[test]
fn texts_may_be_set_late() {
    for form in WITH_METADATA {
        let folder = tempdir().unwrap();
        let target = target(folder.path(), form);
        let mut with = settings();
        with.metadata = metadata("early", "{}");
        let mut writer = VideoWriter::create(&target, with).unwrap();
        push(&mut writer, 3);
        writer.set_metadata(metadata("late", "{\"frames\":3}"));
        writer.finish().unwrap();
        assert_eq!(
            read_metadata(&file_of(&target)).unwrap(),
            metadata("late", "{\"frames\":3}"),
            "{form}"
        );
    }
}

#[test]
fn an_unfinished_file_tells_what_was_known() {
    for form in WITH_METADATA {
        let folder = tempdir().unwrap();
        let target = target(folder.path(), form);
        let mut with = settings();
        with.metadata = metadata("a red ball", "{\"seed\":1}");
        let mut writer = VideoWriter::create(&target, with.clone()).unwrap();
        push(&mut writer, 9);
        writer.flush().unwrap();
        let kept = writer.kept().unwrap().path;
        let file = if form == Form::Png { file_of(&target) } else { kept };
        assert_eq!(read_metadata(&file).unwrap(), with.metadata, "{form}");
    }
}

#[test]
fn nul_characters_are_left_out() {
    for form in WITH_METADATA {
        let folder = tempdir().unwrap();
        let target = target(folder.path(), form);
        let mut with = settings();
        with.metadata = metadata("a\0b", "c\0\0d");
        let mut writer = VideoWriter::create(&target, with).unwrap();
        push(&mut writer, 1);
        writer.finish().unwrap();
        assert_eq!(
            read_metadata(&file_of(&target)).unwrap(),
            metadata("ab", "cd"),
            "{form}"
        );
    }
}

#[test]
fn files_without_texts_say_so() {
    for form in Form::ALL {
        let folder = tempdir().unwrap();
        let target = target(folder.path(), form);
        let mut writer = VideoWriter::create(&target, settings()).unwrap();
        push(&mut writer, 2);
        writer.finish().unwrap();
        let error = read_metadata(&file_of(&target)).unwrap_err();
        match form {
            // Nothing in it says that it is a video.
            Form::Rgb => assert!(matches!(error, VideoError::Unreadable { .. }), "{error}"),
            _ => assert!(matches!(error, VideoError::NoMetadata { .. }), "{form}: {error}"),
        }
    }
}

#[test]
fn files_that_are_no_media_say_so() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file.mp4");
    let says = |what: &str| {
        let error = read_metadata(&path).unwrap_err();
        assert!(matches!(error, VideoError::Unreadable { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    says("No such file");
    fs::write(&path, "").unwrap();
    says("empty");
    fs::write(&path, "this is no video ".repeat(1000)).unwrap();
    says("not a video");
    fs::write(&path, b"\x89PNG\r\n\x1a\n and then nothing of it").unwrap();
    says("file.mp4");
    assert!(read_metadata(folder.path()).unwrap_err().to_string().contains("folder"));
}
