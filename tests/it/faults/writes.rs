//! Calls that fail while a video or a batch is written.

use std::{fs, path::Path, process::Output};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::shim::{Fault, run};
use crate::{
    batch::desk::Batches,
    cli::program::{Desk, decoded, process},
};

/// What the system may answer: number, and whether only once.
const ERRORS: [(&str, i32, bool); 7] = [
    ("ENOSPC", 28, false),
    ("EDQUOT", 122, false),
    ("EROFS", 30, false),
    ("EIO", 5, false),
    ("EMFILE", 24, false),
    ("ENOMEM", 12, false),
    ("EINTR", 4, true),
];
/// Moments that are tried with each of them.
const MOMENTS: usize = 3;

/// Faults at seeded moments among `calls`.
fn faults(calls: usize, seed: u64) -> Vec<(String, Fault)> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut all = Vec::new();
    for (name, errno, once) in ERRORS {
        for _ in 0..MOMENTS {
            let call = random.random_range(1..=calls);
            all.push((format!("{name} at call {call} of {calls}"), Fault { call, errno, once }));
        }
    }
    all
}

/// That the program ended by itself and said why if it failed.
#[track_caller]
fn check_end(what: &str, output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
    match output.status.code() {
        Some(0) => {}
        Some(1 | 3) => assert!(stderr.contains("error: "), "{what}: {stderr}"),
        other => panic!("{what}: ended with {other:?} ({:?}): {stderr}", output.status),
    }
}

fn generate(desk: &Desk, more: &[&str]) -> std::process::Command {
    let mut command = process(&desk.words("out.mp4", more));
    command.current_dir(desk.video(""));
    command
}

#[test]
fn a_video_survives_failing_calls() {
    let desk = Desk::new();
    let folder = desk.video("");
    let (output, calls) = run(generate(&desk, &[]), &folder, None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(calls > 10, "{calls} calls");
    let whole = fs::read(desk.video("out.mp4")).unwrap();
    for (what, fault) in faults(calls, 1) {
        fs::remove_file(desk.video("out.mp4")).unwrap();
        let (output, _) = run(generate(&desk, &[]), &folder, Some(fault));
        check_end(&what, &output);
        if output.status.success() || desk.video("out.mp4").exists() {
            let made = fs::read(desk.video("out.mp4")).unwrap();
            assert!(made == whole, "{what}: what has the final name is not the video");
        }
        let again = generate(&desk, &["--overwrite"]).output().unwrap();
        assert!(
            again.status.success(),
            "{what}: {}",
            String::from_utf8_lossy(&again.stderr)
        );
        assert!(fs::read(desk.video("out.mp4")).unwrap() == whole, "{what}: afterwards");
    }
    assert_eq!(desk.names(), ["out.mp4"], "something was left behind");
}

/// That all videos that `output` calls finished are there and whole.
#[track_caller]
fn check_finished(what: &str, output: &Output, folder: &Path, frames: usize) {
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let name = Path::new(line).file_name().unwrap();
        let clip = decoded(&folder.join(name));
        assert_eq!(clip.frames.len(), frames, "{what}: {line}");
    }
}

#[test]
fn a_batch_goes_on_after_failing_calls() {
    let batches = Batches::new();
    batches.write("list.txt", "a red ball\na green cube\n");
    let started = |out: &str| batches.command("list.txt", out, &["--no-metrics"]);
    let (output, calls) = run(started("whole"), &batches.path(""), None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let whole = batches.videos("whole");
    assert_eq!(whole.len(), 2);
    for (index, (what, fault)) in faults(calls, 2).into_iter().enumerate() {
        let out = format!("out-{index}");
        let (output, _) = run(started(&out), &batches.path(""), Some(fault));
        check_end(&what, &output);
        if batches.path(&out).exists() {
            check_finished(&what, &output, &batches.path(&out), 8);
        }
        let again = started(&out).output().unwrap();
        assert!(
            again.status.success(),
            "{what}: {}",
            String::from_utf8_lossy(&again.stderr)
        );
        assert!(batches.videos(&out) == whole, "{what}: the folder afterwards");
    }
}
