//! What a sweep renders, and what its folder says of it.

use deepforcing::{batch::Entry, hub::file_hash::sha256, sweep::SweepPlan, trace::Trace};

use crate::sweep::sweeps::{Sweeps, THREE};

const RGB: [&str; 2] = ["--format", "rgb"];
/// Bytes of the pictures of the first chunk.
const FIRST_CHUNK: usize = 9 * 32 * 32 * 3;

#[test]
fn every_point_has_every_prompt_with_every_seed() {
    let sweeps = Sweeps::new();
    let (paths, stderr) = sweeps.ends(0, "out", &[&THREE[..], &["--seed", "3..4"]].concat());
    assert!(stderr.contains("1 of 4 combinations are left out"), "{stderr}");
    let mut expected = Vec::new();
    for prompt in ["00000", "00001"] {
        for seed in [3, 4] {
            for point in ["fifo", "sink-sink-1", "sink-sink-3"] {
                expected.push(format!("out/{point}/{prompt}-seed{seed}.mp4"));
            }
        }
    }
    assert_eq!(paths, expected);
    let plan = SweepPlan::read(&sweeps.desk.path("out")).unwrap().unwrap();
    let labels: Vec<_> = plan.points.iter().map(|point| point.label.as_str()).collect();
    assert_eq!(labels, ["fifo", "sink, sink 1", "sink, sink 3"]);
    assert_eq!((plan.seconds, plan.fps, plan.size.as_str()), (2.0, 16.0, "32x32"));
    assert_eq!((&plan.seeds[..], plan.prompts[1].text.as_str()), (&[3, 4][..], "b"));
    let axes: Vec<_> = plan
        .axes
        .iter()
        .map(|axis| (axis.key.as_str(), axis.values.join(" ")))
        .collect();
    assert_eq!(
        axes,
        [("cache.policy", "fifo sink".into()), ("cache.sink", "1 3".to_string())]
    );
    assert_eq!(plan.command[1], "sweep");
    let lines = sweeps.desk.lines("out/manifest.jsonl");
    assert_eq!(lines.len(), 12);
    for (line, path) in lines.into_iter().zip(&paths) {
        let entry: Entry = serde_json::from_value(line).unwrap();
        assert_eq!(&format!("out/{}", entry.file), path);
        assert_eq!(entry.sha256, sha256(&sweeps.desk.path(path)).unwrap());
        let point = &plan.points[entry.point.unwrap()];
        assert!(entry.file.starts_with(&format!("{}/", point.name)));
        assert_eq!(plan.seeds[entry.sample as usize], entry.seed);
        assert_eq!(plan.prompts[entry.index].text, entry.prompt);
        assert_eq!(entry.recipe["cache"]["policy"], point.resolved["cache.policy"].as_str());
        let metrics = entry.metrics.unwrap();
        assert_eq!((metrics.pictures, metrics.per_second.len()), (32, 2));
        // A sink of three latent frames is nine pictures.
        assert_eq!(metrics.sink_pictures, [0, 1, 9][entry.point.unwrap()]);
        assert!(!entry.metrics_of_file);
    }
}

#[test]
fn a_seed_has_the_same_noise_at_every_point() {
    let sweeps = Sweeps::new();
    let more = [&THREE[..], &RGB, &["--seed", "0,7", "--limit", "1"]].concat();
    sweeps.ends(0, "out", &more);
    let pictures = |point: &str, seed: u64| {
        let path = sweeps.desk.path(&format!("out/{point}/00000-seed{seed}.rgb"));
        std::fs::read(path).unwrap()
    };
    for seed in [0, 7] {
        let all = ["fifo", "sink-sink-1", "sink-sink-3"].map(|point| pictures(point, seed));
        // Nothing has left the cache while the first two chunks are made: what they show is the noise.
        assert!(
            all.iter().all(|video| video[..FIRST_CHUNK] == all[0][..FIRST_CHUNK]),
            "seed {seed}"
        );
        assert!(all[0] != all[1] && all[1] != all[2], "the settings change nothing");
    }
    assert!(pictures("fifo", 0)[..FIRST_CHUNK] != pictures("fifo", 7)[..FIRST_CHUNK]);
    // And a point's video is the one that `generate` makes.
    let settings = [
        "--policy",
        "sink",
        "--sink",
        "3",
        "--window",
        "6",
        "--seconds",
        "2",
        "--seed",
        "7",
    ];
    let alone = sweeps
        .desk
        .desk
        .pixels(&[&["--prompt-given", "a"], &settings[..]].concat());
    assert!(alone == pictures("sink-sink-3", 7));
}

#[test]
fn samplers_are_parameters_as_well() {
    let sweeps = Sweeps::new();
    let more = [
        "--steps",
        "1000,500;1000",
        "--shift",
        "5,7.5",
        "--limit",
        "1",
        "--seconds",
        "0.5",
    ];
    let (paths, _) = sweeps.ends(0, "out", &more);
    assert_eq!(paths.len(), 4);
    assert_eq!(
        sweeps.points("out"),
        [
            "steps-1000-500-shift-5",
            "steps-1000-500-shift-7.5",
            "steps-1000-shift-5",
            "steps-1000-shift-7.5"
        ]
    );
    let lines = sweeps.desk.lines("out/manifest.jsonl");
    assert_eq!(lines[1]["recipe"]["sampler"]["steps"], serde_json::json!([1000, 500]));
    assert_eq!(lines[1]["recipe"]["sampler"]["shift"], 7.5);
}

#[test]
fn the_sweeps_of_the_paper_are_known_by_name() {
    let sweeps = Sweeps::new();
    let points = |preset: &str, more: &[&str]| {
        let words = ["--preset", preset, "--limit", "1", "--dry-run"];
        let (lines, stderr) = sweeps.ends(0, "out", &[&words[..], more].concat());
        assert!(!stderr.contains("warning"), "{stderr}");
        let point = |line: String| line.split('/').next().unwrap().to_owned();
        lines.into_iter().map(point).collect::<Vec<_>>()
    };
    assert_eq!(
        points("paper-sink", &[]),
        ["sink-0", "sink-4", "sink-9", "sink-12", "sink-14", "sink-18"]
    );
    assert_eq!(points("paper-sink", &["--sink", "10..11"]), ["sink-10", "sink-11"]);
    assert_eq!(
        points("paper-components", &[]),
        ["self-forcing", "deep-sink", "deep-sink-participative-compression"]
    );
    assert_eq!(
        points("paper-scorer", &[]),
        ["scorer-denoising", "scorer-past", "scorer-both", "scorer-random"]
    );
    assert!(!sweeps.desk.path("out").exists());
}

#[test]
fn a_sweep_of_ones_own_is_rendered() {
    let sweeps = Sweeps::new();
    let text = "seconds = 0.5\nseed = \"1..2\"\n[cache]\npolicy = \"fifo\"\nwindow = [6, 9]\n";
    sweeps.desk.write("mine.toml", text);
    let (paths, _) = sweeps.ends(0, "out", &["--preset", "mine.toml", "--limit", "1"]);
    assert_eq!(
        paths,
        [
            "out/window-6/00000-seed1.mp4",
            "out/window-9/00000-seed1.mp4",
            "out/window-6/00000-seed2.mp4",
            "out/window-9/00000-seed2.mp4"
        ]
    );
    assert_eq!(sweeps.plan("out")["preset"], "mine.toml");
}

#[test]
fn parts_make_the_whole_sweep() {
    let sweeps = Sweeps::new();
    let short = [&THREE[..], &["--seconds", "0.5"]].concat();
    sweeps.ends(0, "whole", &short);
    let (first, _) = sweeps.ends(0, "out", &[&short[..], &["--shard", "0/2"]].concat());
    let (second, _) = sweeps.ends(0, "out", &[&short[..], &["--shard", "1/2"]].concat());
    assert_eq!((first.len(), second.len()), (3, 3));
    for point in sweeps.points("whole") {
        let videos = |folder: &str| sweeps.desk.videos(&format!("{folder}/{point}"));
        assert!(videos("whole") == videos("out"));
    }
    let (paths, stderr) = sweeps.ends(0, "out", &short);
    assert!(paths.is_empty() && stderr.contains("6 were there already"), "{stderr}");
}

#[test]
fn traces_lie_beside_the_videos_of_every_point() {
    let sweeps = Sweeps::new();
    let traced = [
        &THREE[..],
        &["--limit", "1", "--traces", "--attention", "1", "--attention-every", "2"],
    ]
    .concat();
    let (paths, _) = sweeps.ends(0, "out", &traced);
    assert_eq!(paths.len(), 3);
    for path in &paths {
        let video = sweeps.desk.path(path);
        let trace = Trace::read(&video.with_extension("trace.jsonl")).unwrap();
        assert!(trace.end.unwrap().complete, "{path}");
        let point = path.split('/').nth(1).unwrap();
        let policy = serde_json::to_value(&trace.header.recipe).unwrap()["cache"]["policy"].clone();
        assert_eq!(policy, point.split('-').next().unwrap());
        assert!(
            !trace.attention.is_empty() && trace.attention.iter().all(|line| line.layer == 1),
            "{path}"
        );
        assert_eq!(sweeps.desk.path(&trace.header.video.unwrap()), video);
    }
    // Known from the folder, as videos are.
    let (again, _) = sweeps.ends(0, "out", &traced);
    assert!(again.is_empty());
    for (more, says) in [
        (&["--attention", "0"][..], "--traces"),
        (&["--traces", "--attention", "9"], "the model has"),
    ] {
        let output = sweeps.run("list.txt", "other", &[&THREE[..], more].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && stderr.contains(says), "{stderr}");
    }
}
