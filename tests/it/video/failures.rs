//! Runs that die, disks that fill, readers that leave.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

use deepforcing::video::{Form, Target, VideoError, VideoWriter, read_frames, read_image};
use tempfile::tempdir;

use crate::video::samples::{HEIGHT, WIDTH, changing, colour_at, names, push, settings, target, worst};

const KILLED: &str = "DEEPFORCING_TEST_KILLED_TARGET";

/// The process that dies; run by the test below only.
#[test]
#[ignore = "ends its process"]
fn process_that_dies() {
    let path = std::env::var_os(KILLED).unwrap();
    let mut writer = VideoWriter::create(&Target::parse(path, None).unwrap(), settings()).unwrap();
    push(&mut writer, 9);
    writer.flush().unwrap();
    for at in 9..21 {
        writer.push(&changing(at)).unwrap();
    }
    writer.flush().unwrap();
    assert_eq!(writer.kept().unwrap().frames, 21);
    for at in 21..23 {
        writer.push(&changing(at)).unwrap();
    }
    std::process::abort();
}

/// Frames in what a run left of a form, which must be `at_least` with the right colours.
fn left(partial: &Path, form: Form, at_least: usize) {
    let frames = match form {
        Form::Rgb => fs::read(partial)
            .unwrap()
            .chunks_exact((WIDTH * HEIGHT * 3) as usize)
            .map(<[u8]>::to_vec)
            .collect(),
        Form::Png => (0..23)
            .map(|at| partial.with_file_name(format!("clip_{at:03}.png")))
            .filter(|path| path.exists())
            .map(|path| read_image(&path).unwrap().frames.remove(0))
            .collect(),
        _ => read_frames(partial, 99).unwrap().frames,
    };
    assert!(frames.len() >= at_least, "{form}: {} frames", frames.len());
    for (at, pixels) in frames.iter().enumerate() {
        assert!(worst(pixels, colour_at(at as u32)) <= 8, "{form}: frame {at}");
    }
}

#[test]
fn a_killed_process_leaves_every_flushed_frame_in_every_form() {
    for form in Form::ALL {
        let folder = tempdir().unwrap();
        let target = target(folder.path(), form);
        let older = target.path();
        fs::write(&older, "an older video").unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "video::failures::process_that_dies", "--ignored"])
            .env(KILLED, target.path())
            .output()
            .unwrap()
            .status;
        assert!(!status.success());
        assert_eq!(fs::read(&older).unwrap(), b"an older video", "{form}");
        left(&folder.path().join(format!(".clip.partial.{form}")), form, 21);
        // Its lock died with it, and the next run replaces what it left.
        target.check(true).unwrap();
        let mut writer = VideoWriter::create(&target, settings()).unwrap();
        push(&mut writer, 2);
        writer.finish().unwrap();
        let expected = match form {
            Form::Png => vec![
                "clip_%03d.png".to_owned(),
                "clip_000.png".to_owned(),
                "clip_001.png".to_owned(),
            ],
            form => vec![format!("clip.{form}")],
        };
        assert_eq!(names(&folder), expected);
    }
}

#[test]
fn a_dropped_writer_leaves_all_that_was_pushed() {
    for form in Form::ALL {
        let folder = tempdir().unwrap();
        let target = target(folder.path(), form);
        let mut writer = VideoWriter::create(&target, settings()).unwrap();
        push(&mut writer, 5);
        drop(writer);
        left(&folder.path().join(format!(".clip.partial.{form}")), form, 5);
        assert!(!target.path().exists(), "{form}");
        target.check(true).unwrap();
    }
}

#[test]
fn without_frames_nothing_remains_in_any_form() {
    for form in Form::ALL {
        let folder = tempdir().unwrap();
        let target = target(folder.path(), form);
        let create = || VideoWriter::create(&target, settings()).unwrap();
        drop(create());
        assert!(matches!(create().finish(), Err(VideoError::NoFrames { .. })));
        assert!(create().finish_partial().unwrap().is_none());
        assert!(names(&folder).is_empty(), "{form}: {:?}", names(&folder));
        assert_eq!(create().kept(), None);
    }
}

#[test]
fn a_partial_file_cut_off_anywhere_gives_its_whole_frames() {
    for form in [Form::Mp4, Form::Webm, Form::Gif, Form::Y4m] {
        let folder = tempdir().unwrap();
        let target = target(folder.path(), form);
        let mut writer = VideoWriter::create(&target, settings()).unwrap();
        let (mut sizes, partial) = (Vec::new(), folder.path().join(format!(".clip.partial.{form}")));
        for at in 0..4 {
            for frame in 0..4 {
                writer.push(&changing(at * 4 + frame)).unwrap();
            }
            writer.flush().unwrap();
            sizes.push(fs::metadata(&partial).unwrap().len() as usize);
        }
        let bytes = fs::read(&partial).unwrap();
        let cut = folder.path().join("cut");
        // A kill in the middle of a write, anywhere and in the head of a fragment.
        let anywhere = (0..20).map(|step| sizes[1] + (sizes[3] - sizes[1]) * step / 20);
        for length in anywhere.chain(sizes[1]..sizes[1] + 9) {
            let mut left = bytes[..length].to_vec();
            if form == Form::Mp4 {
                // A fragment gets its name when it is complete.
                let begins = *sizes.iter().rfind(|&&size| size <= length).unwrap();
                let name = (begins + 4).min(length)..(begins + 8).min(length);
                left[name.clone()].copy_from_slice(&b"free"[..name.len()]);
            }
            fs::write(&cut, left).unwrap();
            let least = if length >= sizes[2] { 12 } else { 8 };
            let clip = read_frames(&cut, 99);
            match clip {
                Ok(clip) => {
                    assert!(clip.frames.len() >= least, "{form} {length}: {}", clip.frames.len());
                    for (at, pixels) in clip.frames.iter().enumerate().take(least) {
                        assert!(worst(pixels, colour_at(at as u32)) <= 8, "{form} {length}: frame {at}");
                    }
                }
                Err(error) => panic!("{form} {length} of {sizes:?}: {error}"),
            }
        }
    }
}

/// Takes some bytes, then fails.
struct Limited {
    room: usize,
    kind: io::ErrorKind,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(match self.kind {
                io::ErrorKind::BrokenPipe => io::Error::from_raw_os_error(32),
                kind => kind.into(),
            });
        }
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_leaves_is_told_from_a_failure() {
    for form in [Form::Mp4, Form::Webm, Form::Y4m, Form::Rgb] {
        for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::Other] {
            // Before the first byte, and later.
            for room in [0, 30_000] {
                let opened = VideoWriter::stream(Limited { room, kind }, form, settings());
                let error = opened.and_then(|mut writer| {
                    for at in 0..60 {
                        writer.push(&noise(at))?;
                    }
                    writer.finish()
                });
                match (kind, error.unwrap_err()) {
                    (io::ErrorKind::BrokenPipe, VideoError::ReaderGone { .. }) => {}
                    (io::ErrorKind::Other, VideoError::Write { kept: None, .. }) => {}
                    (_, other) => panic!("{form} {kind} {room}: {other}"),
                }
            }
        }
    }
}

/// A picture that is not to be compressed.
fn noise(at: u32) -> Vec<u8> {
    let mut seed = at * 7919 + 1;
    let bytes = (0..WIDTH * HEIGHT * 3).map(|_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    });
    bytes.collect()
}

/// A file system of 300 kB, which only root can make.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mut command = Command::new("mount");
        let mounted = command
            .args(["-t", "tmpfs", "-o", "size=300k", "tmpfs"])
            .arg(at)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            other => {
                eprintln!("skipped: a small disk cannot be mounted here ({other:?})");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk_keeps_what_was_safe_and_says_where() {
    for form in Form::ALL {
        let folder = tempdir().unwrap();
        let Some(disk) = SmallDisk::mount(folder.path()) else {
            return;
        };
        let target = target(&disk.0, form);
        let mut writer = VideoWriter::create(&target, settings()).unwrap();
        let error = (0..2000).find_map(|at| {
            let pushed = writer
                .push(&noise(at))
                .and_then(|()| if at % 4 == 3 { writer.flush() } else { Ok(()) });
            pushed.err()
        });
        let error = error.unwrap_or_else(|| panic!("{form}: the disk is large"));
        let text = error.to_string();
        let VideoError::Write {
            reason,
            kept: Some(kept),
            ..
        } = error
        else {
            panic!("{form}: {text}");
        };
        assert!(reason.contains("No space left"), "{form}: {reason}");
        assert!(
            text.contains(&*kept.path.to_string_lossy()) && text.contains("kept"),
            "{text}"
        );
        // Later calls fail as well, and do no harm.
        assert!(writer.push(&changing(0)).is_err() && writer.flush().is_err());
        drop(writer);
        assert!(!target.path().exists());
        let frames = match form {
            Form::Png => names(&folder).iter().filter(|name| name.ends_with("png")).count(),
            Form::Rgb => {
                let bytes = fs::metadata(&kept.path).unwrap().len();
                assert_eq!(bytes % u64::from(WIDTH * HEIGHT * 3), 0);
                (bytes / u64::from(WIDTH * HEIGHT * 3)) as usize
            }
            _ => read_frames(&kept.path, 9999)
                .unwrap_or_else(|error| panic!("{form}: {error}"))
                .frames
                .len(),
        };
        assert_eq!(frames as u64, kept.frames, "{form}");
    }
}

#[test]
fn a_disk_without_room_for_the_copy_keeps_the_partial_file() {
    for form in [Form::Mp4, Form::Webm] {
        let folder = tempdir().unwrap();
        let Some(disk) = SmallDisk::mount(folder.path()) else {
            return;
        };
        let target = target(&disk.0, form);
        let mut writer = VideoWriter::create(&target, settings()).unwrap();
        for at in 0..5 {
            writer.push(&noise(at)).unwrap();
        }
        writer.flush().unwrap();
        // Room for the end of the partial file, but not for a second copy.
        let mut filler = fs::File::create(disk.0.join("filler")).unwrap();
        filler.write_all(&vec![0; 300_000]).unwrap_err();
        let filled = filler.metadata().unwrap().len();
        filler.set_len(filled - 4096).unwrap();
        let error = writer.finish().unwrap_err();
        let VideoError::Finish { partial: kept, .. } = &error else {
            panic!("{form}: {error}");
        };
        assert!(error.to_string().contains(&*kept.to_string_lossy()), "{error}");
        assert_eq!(read_frames(kept, 99).unwrap().frames.len(), 5);
        assert!(!target.path().exists());
    }
}
