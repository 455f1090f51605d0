//! Videos that are stopped while they are being made.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use deepforcing::video::read_frames;

use crate::program::{Desk, PROGRAM, decoded};

/// Pictures of the whole video: more than can be made while a test waits.
const SECONDS: &str = "3600";

fn frames_in(path: &Path) -> usize {
    read_frames(path, 40).map_or(0, |clip| clip.frames.len())
}

/// Starts a long video and waits for its first chunks to be on disk.
fn started(desk: &Desk) -> Child {
    let mut child = Command::new(PROGRAM)
        .args(desk.words("out.mp4", &["--seconds", SECONDS, "--quiet"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while frames_in(&desk.video(".out.partial.mp4")) < 20 {
        let status = child.try_wait().unwrap();
        if status.is_some() || start.elapsed() > Duration::from_secs(60) {
            child.kill().ok();
            let output = child.wait_with_output().unwrap();
            panic!("no picture: {status:?} {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn an_interrupt_makes_a_proper_video_of_what_is_there() {
    let desk = Desk::new();
    let child = started(&desk);
    assert_eq!(desk.names(), [".out.partial.mp4"]);
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let path = desk.video("out.mp4");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{}\n", path.display())
    );
    let frames = decoded(&path).frames.len();
    // Whole chunks: 9 pictures, then 12 each.
    assert!((20..3600 * 16).contains(&frames) && frames % 12 == 9, "{frames} frames");
    assert_eq!(desk.names(), ["out.mp4"]);
}

#[test]
fn a_kill_leaves_nothing_under_the_final_name() {
    let desk = Desk::new();
    let child = started(&desk);
    signal(&child, "-KILL");
    assert_eq!(child.wait_with_output().unwrap().status.code(), None);
    assert_eq!(desk.names(), [".out.partial.mp4"]);
    assert!(decoded(&desk.video(".out.partial.mp4")).frames.len() >= 20);
    // The next run replaces what the killed one left.
    assert_eq!(desk.render("out.mp4", &[]).frames.len(), 24);
    assert_eq!(desk.names(), ["out.mp4"]);
}

#[test]
fn two_runs_do_not_write_one_video() {
    let desk = Desk::new();
    let mut child = started(&desk);
    let output = desk.command("out.mp4", &[]).output().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("another run is writing"), "{stderr}");
}
