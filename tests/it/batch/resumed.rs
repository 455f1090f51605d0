//! Batches that are stopped and resumed.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use crate::batch::desk::{Batches, said};

const MANIFEST: &str = "out/manifest.jsonl";

/// Waits until the manifest has `count` lines.
fn wait_for(batches: &Batches, count: usize) {
    let start = Instant::now();
    while batches.lines(MANIFEST).len() < count {
        assert!(start.elapsed() < Duration::from_secs(120), "no video");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_batch_that_is_killed_again_and_again_makes_the_same_files() {
    let batches = Batches::new();
    batches.write("list.txt", "a\nb\nc\n");
    let more = ["--samples", "3"];
    batches.ends(0, "list.txt", "whole", &more);
    let mut rendered = 0;
    for (lines, wait) in [(1, 0), (3, 37), (6, 90)] {
        let mut child = batches.start("list.txt", "out", &more);
        wait_for(&batches, lines);
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        rendered += String::from_utf8_lossy(&output.stdout).lines().count();
        // What has its final name is whole.
        for (name, bytes) in batches.videos("out") {
            assert!(bytes == batches.videos("whole")[&name], "{name} after {lines}");
        }
    }
    let (stdout, _) = batches.ends(0, "list.txt", "out", &more);
    assert!(batches.videos("whole") == batches.videos("out"));
    assert_eq!(batches.names("whole"), batches.names("out"));
    assert_eq!(batches.lines(MANIFEST).len(), 9);
    // Each is rendered once; a kill may come between the manifest and standard output.
    rendered += stdout.lines().count();
    assert!((6..=9).contains(&rendered), "{rendered}");
}

#[test]
#[cfg(unix)]
fn an_interrupt_keeps_nothing_half_done() {
    let batches = Batches::new();
    batches.write("list.txt", "a\nb\n");
    let more = ["--seconds", "20"];
    let child = batches.start("list.txt", "out", &more);
    wait_for(&batches, 1);
    let start = Instant::now();
    while !batches.path("out/.work/.video.partial.mp4").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no second video");
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
    let (_, stderr) = said(&child.wait_with_output().unwrap(), 130);
    assert!(stderr.contains("goes on where it was"), "{stderr}");
    // Of the second video there is a state to go on from, no file.
    let names = batches.names("out");
    let videos: Vec<_> = names.iter().filter(|name| !name.starts_with(".work.")).collect();
    assert_eq!(videos, ["00000.mp4", "manifest.jsonl"]);
    let (stdout, _) = batches.ends(0, "list.txt", "out", &more);
    assert_eq!(stdout, "out/00001.mp4\n");
    assert_eq!(batches.names("out"), ["00000.mp4", "00001.mp4", "manifest.jsonl"]);
}

#[test]
fn the_video_in_work_goes_on_where_a_kill_left_it() {
    let batches = Batches::new();
    batches.write("list.txt", "a\nb\n");
    let more = ["--seconds", "20"];
    batches.ends(0, "list.txt", "whole", &more);
    let mut child = batches.start("list.txt", "out", &more);
    wait_for(&batches, 1);
    let (start, state) = (Instant::now(), batches.path("out/.work.state"));
    while !state.exists() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no state of the second video"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (_, stderr) = batches.ends(0, "list.txt", "out", &more);
    assert!(stderr.contains("going on after"), "{stderr}");
    assert!(batches.videos("whole") == batches.videos("out"));
    assert_eq!(batches.names("whole"), batches.names("out"));

    // The state of another video is no reason not to make this one.
    let mut child = batches.start("list.txt", "other", &["--seconds", "600"]);
    let (start, state) = (Instant::now(), batches.path("other/.work.state"));
    while !state.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no state");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (_, stderr) = batches.ends(0, "list.txt", "other", &more);
    assert!(!stderr.contains("going on after"), "{stderr}");
    assert!(batches.videos("whole") == batches.videos("other"));
}

#[test]
fn a_line_that_was_cut_short_is_written_again() {
    let batches = Batches::new();
    batches.write("list.txt", "a\nb\n");
    batches.ends(0, "list.txt", "out", &[]);
    let (text, videos) = (fs::read(batches.path(MANIFEST)).unwrap(), batches.videos("out"));
    let modified = fs::metadata(batches.path("out/00001.mp4")).unwrap().modified().unwrap();
    // In the middle of the last line, before its end, and without it: the video is there, and known by its recipe.
    for end in [text.len() - 200, text.len() - 1, text.len() / 2 - 30] {
        batches.write(MANIFEST, &text[..end]);
        let (stdout, stderr) = batches.ends(0, "list.txt", "out", &[]);
        if end > text.len() / 2 {
            assert!(stdout.is_empty() && stderr.contains("2 were there already"), "{stderr}");
            let now = fs::metadata(batches.path("out/00001.mp4")).unwrap().modified().unwrap();
            assert_eq!(now, modified, "rendered again");
        }
        let files: Vec<_> = batches
            .lines(MANIFEST)
            .iter()
            .map(|line| line["file"].clone())
            .collect();
        assert_eq!(files, ["00000.mp4", "00001.mp4"], "{end}");
        assert!(batches.videos("out") == videos);
    }
    // A video that was removed or cut is made again.
    fs::remove_file(batches.path("out/00000.mp4")).unwrap();
    batches.write("out/00001.mp4", "cut");
    let (stdout, _) = batches.ends(0, "list.txt", "out", &[]);
    assert_eq!(stdout.lines().count(), 2);
    assert!(batches.videos("out") == videos);
}

#[test]
fn a_changed_line_of_the_manifest_is_named() {
    let batches = Batches::new();
    batches.write("list.txt", "a\nb\n");
    batches.ends(0, "list.txt", "out", &[]);
    let text = fs::read_to_string(batches.path(MANIFEST)).unwrap();
    batches.write(MANIFEST, text.replacen("\"seed\":", "\"sead\":", 2));
    let (_, stderr) = batches.ends(1, "list.txt", "out", &[]);
    assert!(
        stderr.contains("manifest.jsonl`, line 1") && stderr.contains("seed"),
        "{stderr}"
    );
    batches.write(MANIFEST, format!("{text}no JSON\n"));
    let (_, stderr) = batches.ends(1, "list.txt", "out", &[]);
    assert!(stderr.contains("manifest.jsonl`, line 3"), "{stderr}");
}

#[test]
fn changed_prompts_and_settings_are_noticed() {
    let batches = Batches::new();
    batches.write("list.txt", "a\nb\n");
    batches.ends(0, "list.txt", "out", &[]);
    let before = batches.videos("out");
    batches.write("list.txt", "a\nc\nd\n");
    for more in [&[][..], &["--dry-run"]] {
        let (_, stderr) = batches.ends(1, "list.txt", "out", more);
        for part in [
            "1 finished video",
            "00001.mp4",
            "prompts.0.text was \"b\", is \"c\"",
            "--overwrite",
        ] {
            assert!(stderr.contains(part), "{stderr}");
        }
    }
    assert!(batches.videos("out") == before);
    let (stdout, _) = batches.ends(0, "list.txt", "out", &["--skip-existing"]);
    assert_eq!(stdout, "out/00002.mp4\n");
    let (stdout, _) = batches.ends(0, "list.txt", "out", &["--overwrite"]);
    assert_eq!(stdout, "out/00001.mp4\n");
    assert!(batches.videos("out")["00001.mp4"] != before["00001.mp4"]);
    let (stdout, _) = batches.ends(0, "list.txt", "out", &[]);
    assert!(stdout.is_empty());
    let (_, stderr) = batches.ends(1, "list.txt", "out", &["--sink", "9"]);
    assert!(
        stderr.contains("3 finished videos") && stderr.contains("cache.sink was"),
        "{stderr}"
    );
}
