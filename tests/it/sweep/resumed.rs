//! Sweeps that are stopped, resumed, and extended.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::sweep::sweeps::{Sweeps, THREE};

#[test]
fn a_sweep_that_is_killed_goes_on_where_it_was() {
    let sweeps = Sweeps::new();
    sweeps.ends(0, "whole", &THREE);
    let mut child = sweeps.start("out", &THREE);
    let start = Instant::now();
    while sweeps.desk.lines("out/manifest.jsonl").len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(120), "no video");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let there = sweeps.desk.lines("out/manifest.jsonl").len();
    let (paths, _) = sweeps.ends(0, "out", &THREE);
    assert!(paths.len() <= 6 - there, "{paths:?}");
    assert_eq!(sweeps.desk.lines("out/manifest.jsonl").len(), 6);
    for point in sweeps.points("out") {
        let videos = |folder: &str| sweeps.desk.videos(&format!("{folder}/{point}"));
        assert!(videos("whole") == videos("out"), "{point}");
    }
}

#[test]
fn more_values_keep_what_is_finished() {
    let sweeps = Sweeps::new();
    let sink = |values: &'static str| {
        [
            "--policy",
            "sink",
            "--window",
            "6",
            "--sink",
            values,
            "--seconds",
            "0.5",
        ]
    };
    sweeps.ends(0, "out", &sink("3"));
    assert_eq!(sweeps.points("out"), ["sink"]);
    let (paths, _) = sweeps.ends(0, "out", &sink("1,3"));
    assert_eq!(paths, ["out/sink-1/00000-seed0.mp4", "out/sink-1/00001-seed0.mp4"]);
    assert_eq!(sweeps.points("out"), ["sink", "sink-1"]);
    let more = [
        "--policy",
        "sink",
        "--window",
        "6,9",
        "--sink",
        "1",
        "--seconds",
        "0.5",
        "--seed",
        "0..1",
    ];
    let (paths, _) = sweeps.ends(0, "out", &more);
    // Two prompts with a new point and two seeds, and the old point with the new seed.
    assert_eq!(paths.len(), 2 * 2 + 2);
    assert_eq!(sweeps.points("out"), ["sink", "sink-1", "window-9"]);
    let plan = sweeps.plan("out");
    assert_eq!(plan["axes"][1]["values"], serde_json::json!(["1", "3"]));
    assert_eq!(plan["seeds"], serde_json::json!([0, 1]));
    // Prompts that come before the others keep the numbers of those that are there.
    sweeps.desk.write(
        "more.jsonl",
        "{\"id\": \"new\", \"prompt\": \"n\"}\n{\"id\": \"00001\", \"prompt\": \"b\"}\n",
    );
    let output = sweeps.run("more.jsonl", "out", &sink("1"));
    let (stdout, _) = crate::sweep::desk::said(&output, 0);
    assert_eq!(stdout, "out/sink-1/new-seed0.mp4\n");
    let last = sweeps.desk.lines("out/manifest.jsonl").pop().unwrap();
    assert_eq!((&last["index"], &last["point"]), (&2.into(), &1.into()));
}

#[test]
fn a_sweep_of_something_else_is_noticed() {
    let sweeps = Sweeps::new();
    let half = [&THREE[..], &["--seconds", "0.5"]].concat();
    sweeps.ends(0, "out", &[&half[..], &["--limit", "1"]].concat());
    let before = fs::read(sweeps.desk.path("out/sweep.json")).unwrap();
    let longer = [&THREE[..], &["--seconds", "1"]].concat();
    for more in [longer.clone(), [&longer[..], &["--dry-run"]].concat()] {
        let (_, stderr) = sweeps.ends(1, "out", &more);
        for part in ["folder `out`", "seconds was 0.5, is 1", "--overwrite"] {
            assert!(stderr.contains(part), "{stderr}");
        }
    }
    sweeps.desk.write("list.txt", "c\nb\n");
    let (_, stderr) = sweeps.ends(1, "out", &half);
    assert!(stderr.contains("prompt 00000 was \"a\", is \"c\""), "{stderr}");
    assert!(fs::read(sweeps.desk.path("out/sweep.json")).unwrap() == before);
    let (paths, _) = sweeps.ends(0, "out", &[&half[..], &["--overwrite"]].concat());
    assert_eq!(paths.len(), 6);
    assert_eq!(sweeps.plan("out")["prompts"][0]["text"], "c");
    // Where nothing is finished there is nothing to lose.
    sweeps.ends(0, "none", &[&half[..], &["--limit", "1", "--dry-run"]].concat());
    fs::create_dir(sweeps.desk.path("none")).unwrap();
    fs::write(sweeps.desk.path("none/sweep.json"), before).unwrap();
    sweeps.ends(0, "none", &[&longer[..], &["--limit", "1"]].concat());
    assert_eq!(sweeps.plan("none")["seconds"], 1.0);
}

#[test]
fn what_cannot_be_made_is_skipped_and_tried_again() {
    let sweeps = Sweeps::new();
    sweeps.desk.write(
        "list.jsonl",
        "{\"prompt\": \"a\", \"image\": \"later.png\"}\n{\"prompt\": \"b\"}\n",
    );
    sweeps.desk.write("later.png", "no image");
    let half = [&THREE[..], &["--seconds", "0.5"]].concat();
    let (stdout, stderr) = crate::sweep::desk::said(&sweeps.run("list.jsonl", "out", &half), 3);
    assert_eq!(stdout.lines().count(), 3);
    for part in [
        "`sink-sink-1/00000-seed0` cannot be made",
        "later.png",
        "3 rendered, 3 could not be made",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    // A line is a prompt, not a video: the settings are the grid's.
    let failed = sweeps.desk.lines("out/failed.jsonl");
    assert_eq!((failed.len(), &failed[0]["id"]), (1, &"00000".into()));
    let videos = ["fifo/00000-seed0", "sink-sink-1/00000-seed0", "sink-sink-3/00000-seed0"];
    assert_eq!(failed[0]["videos"], serde_json::json!(videos));
    // Only that prompt is tried again, and fails again.
    let (stdout, stderr) = crate::sweep::desk::said(&sweeps.run("out/failed.jsonl", "out", &half), 3);
    assert!(
        stdout.is_empty() && stderr.contains("0 rendered, 3 could not be made"),
        "{stderr}"
    );
    assert_eq!(sweeps.desk.lines("out/failed.jsonl")[0]["videos"], failed[0]["videos"]);
    let picture = image::RgbImage::from_pixel(32, 32, image::Rgb([200, 30, 30]));
    picture.save(sweeps.desk.path("later.png")).unwrap();
    // One point of three leaves the other two in the list.
    let one = ["--policy", "fifo", "--window", "6", "--seconds", "0.5"];
    let (stdout, _) = crate::sweep::desk::said(&sweeps.run("out/failed.jsonl", "out", &one), 0);
    assert_eq!(stdout, "out/fifo/00000-seed0.mp4\n");
    let left = sweeps.desk.lines("out/failed.jsonl");
    assert_eq!(left[0]["videos"], serde_json::json!(videos[1..]));
    fs::copy(sweeps.desk.path("out/failed.jsonl"), sweeps.desk.path("kept.jsonl")).unwrap();
    let (stdout, _) = crate::sweep::desk::said(&sweeps.run("out/failed.jsonl", "out", &half), 0);
    assert_eq!(
        stdout,
        "out/sink-sink-1/00000-seed0.mp4\nout/sink-sink-3/00000-seed0.mp4\n"
    );
    assert!(!sweeps.desk.path("out/failed.jsonl").exists());
    assert_eq!(sweeps.plan("out")["prompts"].as_array().unwrap().len(), 2);
    // It is a prompt file for everything else too.
    let (stdout, _) = sweeps.desk.ends(0, "kept.jsonl", "single", &[]);
    assert_eq!(stdout, "single/00000.mp4\n");
}
