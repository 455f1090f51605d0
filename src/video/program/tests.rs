//! Programs that are no good, as scripts in the place of ffmpeg.

use std::{
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{
    super::{Codec, Encoder, Form, Metadata, VideoError, VideoSettings, backend::Backend, destination::Destination},
    encode::PieceStream,
    find::{FfmpegProgram, Origin, use_program},
    frames::Source,
    options,
};

/// A program that is a script.
fn script(folder: &Path, text: &str) -> Arc<FfmpegProgram> {
    let path = folder.join("ffmpeg");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    program(path)
}

fn program(path: PathBuf) -> Arc<FfmpegProgram> {
    Arc::new(FfmpegProgram {
        path,
        origin: Origin::Flag,
        version: "5.1".into(),
        number: Some((5, 1)),
    })
}

/// The real program; says so where there is none.
fn real() -> Option<PathBuf> {
    let found = std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join("ffmpeg"))
        .find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: no program ffmpeg is in the PATH");
    }
    found
}

fn settings() -> VideoSettings {
    VideoSettings::new(96, 64)
}

/// Memory that a stream is written to.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn stream(program: &Arc<FfmpegProgram>, form: Form, encoder: Encoder) -> (io::Result<PieceStream>, Memory) {
    let memory = Memory::default();
    let to = Destination::Stream(Box::new(memory.clone()));
    let stream = PieceStream::create(to, Arc::clone(program), (form, encoder), &settings());
    (stream, memory)
}

fn push(stream: &mut PieceStream, frames: u32) -> io::Result<()> {
    let picture = vec![90; settings().frame_bytes()];
    (0..frames).try_for_each(|at| stream.push(&picture, at.into(), &Metadata::default()))
}

/// The error of a video of two pieces through a script.
fn failure(text: &str) -> io::Error {
    let folder = tempfile::tempdir().unwrap();
    let (stream, _) = stream(&script(folder.path(), text), Form::Mp4, Encoder::X264);
    let mut stream = stream.unwrap();
    let pieces = (0..2).try_for_each(|_| push(&mut stream, 40).and_then(|()| stream.flush()));
    pieces.unwrap_err()
}

#[test]
fn a_program_that_dies_is_told_with_what_it_said() {
    let error = failure("head -c 1000 >/dev/null; echo '[x @ 0x5] [error] no more memory' >&2; exit 7");
    let text = error.to_string();
    assert!(
        text.contains("exit code 7") && text.contains("no more memory"),
        "{text}"
    );
    // It is no reader of our output that left.
    assert_ne!(error.kind(), io::ErrorKind::BrokenPipe);
    let killed = failure("head -c 1000 >/dev/null; kill -9 $$").to_string();
    assert!(killed.contains("signal"), "{killed}");
}

#[test]
fn a_program_that_hangs_is_ended() {
    for hangs in ["sleep 600", "cat >/dev/null; sleep 600", "exec sleep 600"] {
        let began = Instant::now();
        let text = failure(hangs).to_string();
        assert!(text.contains("hung"), "{hangs}: {text}");
        assert!(began.elapsed() < Duration::from_secs(20), "{hangs}");
    }
}

#[test]
fn what_is_no_video_is_not_written() {
    for (gives, says) in [
        ("cat >/dev/null; echo nonsense", "of no use"),
        ("cat >/dev/null", "0 frames in it instead of 40"),
    ] {
        let text = failure(gives).to_string();
        assert!(text.contains(says), "{gives}: {text}");
    }
}

#[test]
fn a_program_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (text, says) in [
        ("echo 'avconv version 12'", "not the program ffmpeg"),
        ("exit 3", "exit code 3"),
        (
            "echo 'ffmpeg version 3.4.8 Copyright'",
            "version 3.4.8, and 4.2 or newer is needed",
        ),
        ("sleep 600", "hung"),
        ("yes", "it gives more than"),
    ] {
        let error = use_program(&script(folder.path(), text).path).unwrap_err();
        assert!(error.is_usage(), "{error}");
        let told = error.to_string();
        assert!(told.contains(says) && told.contains("--ffmpeg"), "{text}: {told}");
    }
}

#[test]
fn the_next_encoder_is_taken_and_it_is_said() {
    let Some(ffmpeg) = real() else { return };
    let folder = tempfile::tempdir().unwrap();
    let ffmpeg = ffmpeg.display();
    // Not in it, and in it without working.
    for (without, reason) in [
        (
            format!(
                "case \"$*\" in *-encoders*) '{ffmpeg}' \"$@\" | grep -v ' libx264 '; exit;; esac; exec '{ffmpeg}' \"$@\""
            ),
            "not in this FFmpeg",
        ),
        (
            format!("case \"$*\" in *libx264*) echo '[error] broken' >&2; exit 1;; esac; exec '{ffmpeg}' \"$@\""),
            "broken",
        ),
    ] {
        let program = script(folder.path(), &without);
        let (_, info) = options::working(
            &program,
            Form::Mp4,
            &VideoSettings {
                crf: without.len() as u8 % 50,
                ..settings()
            },
            None,
        )
        .unwrap();
        assert_ne!(info.name, "libx264");
        assert_eq!(info.rejected[0].name, "libx264");
        assert!(info.rejected[0].reason.contains(reason), "{:?}", info.rejected);
    }
    let none = script(folder.path(), "exit 0");
    let settings = VideoSettings { fps: 7, ..settings() };
    let error = options::working(&none, Form::Mp4, &settings, None).unwrap_err();
    assert!(
        matches!(&error, VideoError::NoEncoder { rejected } if rejected.len() == 4),
        "{error}"
    );
}

#[test]
fn a_slow_program_makes_the_same_video() {
    let Some(ffmpeg) = real() else { return };
    let folder = tempfile::tempdir().unwrap();
    let slow = script(folder.path(), &format!("sleep 0.5; exec '{}' \"$@\"", ffmpeg.display()));
    let videos = [&program(ffmpeg), &slow].map(|program| {
        let (stream, memory) = stream(program, Form::Mp4, Encoder::Mpeg4);
        let mut stream = stream.unwrap();
        for frames in [9, 12] {
            push(&mut stream, frames).unwrap();
            stream.flush().unwrap();
        }
        stream.close(&Metadata::default()).unwrap();
        memory.bytes()
    });
    assert!(videos[0].len() > 1000 && videos[0] == videos[1]);
    assert_eq!(Encoder::Mpeg4.codec(), Codec::Mpeg4);
}

#[test]
fn a_program_that_cannot_read_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("video");
    std::fs::write(&video, "something").unwrap();
    for (text, says) in [
        ("echo '[error] /dev/fd/0: no luck' >&2; exit 1", "no luck"),
        ("sleep 600", "hung"),
        ("exit 0", "nothing in it"),
        ("kill -9 $$", "signal"),
    ] {
        let program = script(folder.path(), text);
        let reason = Source::open(program, &video).err().unwrap();
        assert!(reason.contains(says), "{text}: {reason}");
    }
}
