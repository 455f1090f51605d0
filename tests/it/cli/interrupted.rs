//! Videos that are stopped while they are being made.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use deepforcing::video::read_frames;

use crate::cli::program::{Desk, PROGRAM, decoded, process};

/// Pictures of the whole video: more than can be made while a test waits.
const SECONDS: &str = "3600";

fn frames_in(path: &Path) -> usize {
    read_frames(path, 40).map_or(0, |clip| clip.frames.len())
}

/// Starts a long video and waits for its first chunks to be on disk.
fn started(desk: &Desk) -> Child {
    let mut child = process(&desk.words("out.mp4", &["--seconds", SECONDS, "--quiet"]))
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

/// Files in the folder, those of the state left out.
fn videos(desk: &Desk) -> Vec<String> {
    let of_state = |name: &String| [".state", ".latents", ".part"].iter().any(|end| name.ends_with(end));
    desk.names().into_iter().filter(|name| !of_state(name)).collect()
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn an_interrupt_makes_a_proper_video_of_what_is_there() {
    let desk = Desk::new();
    let child = started(&desk);
    assert_eq!(videos(&desk), [".out.partial.mp4"]);
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
    assert_eq!(videos(&desk), ["out.mp4"]);
}

#[test]
fn a_kill_leaves_nothing_under_the_final_name() {
    let desk = Desk::new();
    let child = started(&desk);
    signal(&child, "-KILL");
    assert_eq!(child.wait_with_output().unwrap().status.code(), None);
    assert_eq!(videos(&desk), [".out.partial.mp4"]);
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

/// Moments that differ from run to run, and can be told when a test fails.
fn random_milliseconds(count: usize) -> Vec<u64> {
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    let mut state = u64::from(seed) | 1;
    let next = |_| {
        // Xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % 700
    };
    (0..count).map(next).collect()
}

#[test]
fn a_kill_at_any_moment_leaves_whole_chunks_that_play() {
    for (form, wait) in ["mp4", "mp4", "mp4", "webm", "mp4"]
        .into_iter()
        .zip(random_milliseconds(5))
    {
        let desk = Desk::new();
        let name = format!("out.{form}");
        let mut child = process(&desk.words(&name, &["--seconds", SECONDS, "--quiet"]))
            .spawn()
            .unwrap();
        let partial = desk.video(&format!(".out.partial.{form}"));
        let start = Instant::now();
        while frames_in(&partial) == 0 {
            assert!(start.elapsed() < Duration::from_secs(60), "no picture");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(wait));
        let before = read_frames(&partial, usize::MAX).map_or(0, |clip| clip.frames.len());
        child.kill().unwrap();
        child.wait().unwrap();
        // Safe after each chunk (9 pictures, then 12 each), and every 12 pictures.
        let frames = decoded(&partial).frames.len();
        assert!(
            frames >= before && (frames % 12 == 9 || frames.is_multiple_of(12)),
            "{form}, {wait} ms: {frames} frames, {before} before"
        );
        assert_eq!(videos(&desk), [format!(".out.partial.{form}")], "{wait} ms");
    }
}

#[test]
fn a_second_interrupt_quits_at_once_and_what_is_there_plays() {
    let desk = Desk::new();
    // Chunks of some seconds, so that the second interrupt comes before the end of one.
    let words = desk.words("out.mp4", &["--seconds", SECONDS, "--size", "512x512", "--window", "9"]);
    let small = ["--sink", "2", "--budget", "8", "--recent", "4"].map(String::from);
    let words = [words, small.to_vec()].concat();
    let mut child = process(&words)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let partial = desk.video(".out.partial.mp4");
    let start = Instant::now();
    while frames_in(&partial) < 9 {
        assert!(
            start.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none(),
            "no picture"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    signal(&child, "-INT");
    std::thread::sleep(Duration::from_millis(300));
    if child.try_wait().unwrap().is_none() {
        signal(&child, "-INT");
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let left = match partial.exists() {
        true => partial,
        false => desk.video("out.mp4"),
    };
    assert!(decoded(&left).frames.len() >= 9);
}

#[test]
fn a_full_disk_keeps_what_is_rendered_and_says_where() {
    let desk = Desk::new();
    let words = desk.words("out.mp4", &["--seconds", "600", "--crf", "0"]);
    // A limit on the size of files fails as a full disk does.
    let mut command = Command::new("bash");
    command.env_clear().envs(crate::cli::program::environment());
    command
        .args(["-c", "ulimit -f 256; trap '' XFSZ; exec \"$0\" \"$@\"", PROGRAM])
        .args(&words);
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let partial = desk.video(".out.partial.mp4");
    assert!(
        stderr.contains(".out.partial.mp4") && stderr.contains("ulimit -f"),
        "{stderr}"
    );
    let frames = decoded(&partial).frames.len();
    assert!(
        frames > 9 && stderr.contains(&format!("first {frames} frames")),
        "{frames} frames: {stderr}"
    );
}
