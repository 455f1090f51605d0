//! Sweeps over several models, and over the loops and caches of several presets.

use serde_json::Value;

use crate::sweep::sweeps::Sweeps;

/// The toy at half its size.
const TOY: [&str; 6] = ["--model", "toy", "--size", "48x48", "--seconds", "5"];

/// The recipes of a folder's videos, by their files in the order in which they were made.
fn recipes(sweeps: &Sweeps, out: &str) -> Vec<(String, Value)> {
    let lines = sweeps.desk.lines(&format!("{out}/manifest.jsonl")).into_iter();
    lines
        .map(|line| (line["file"].as_str().unwrap().to_owned(), line["recipe"].clone()))
        .collect()
}

#[test]
fn the_systems_of_the_paper_run_on_the_weights_of_one_model() {
    let sweeps = Sweeps::new();
    sweeps.ends(
        0,
        "out",
        &[&TOY[..], &["--preset", "paper-systems", "--limit", "1"]].concat(),
    );
    let made = recipes(&sweeps, "out");
    let files: Vec<_> = made.iter().map(|(file, _)| file.as_str()).collect();
    let names = ["causvid", "self-forcing", "rolling-forcing", "longlive", "deep-forcing"];
    assert_eq!(files, names.map(|name| format!("{name}/00000-seed0.mp4")));
    for ((_, recipe), name) in made.iter().zip(names) {
        assert_eq!(
            (&recipe["model"]["model"], &recipe["model"]["preset"]),
            (&"toy".into(), &name.into())
        );
    }
    let of = |number: usize, place: &str| made[number].1.pointer(place).cloned();
    assert_eq!(of(0, "/sampler/shift"), Some(8.0.into()));
    assert_eq!(of(2, "/rollout/loop"), Some("rolling".into()));
    assert_eq!(of(3, "/cache/window"), Some(12.into()));
    assert_eq!(of(4, "/cache/policy"), Some("deep-forcing".into()));
    let plan = sweeps.plan("out");
    let labels: Vec<_> = plan["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| &point["label"])
        .collect();
    assert_eq!(
        labels,
        ["CausVid", "Self Forcing", "Rolling Forcing", "LongLive", "Deep Forcing"]
    );
    assert_eq!((&plan["model"], &plan["seconds"]), (&"toy".into(), &5.0.into()));
    // The videos are those that `generate` makes.
    let video = sweeps.desk.path("one.mp4");
    let words = ["generate", "a", "--preset", "longlive", "-o", video.to_str().unwrap()];
    let words: Vec<String> = words.iter().chain(&TOY).map(|word| word.to_string()).collect();
    let output = crate::cli::program::process(&words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let swept = sweeps.desk.path("out/longlive/00000-seed0.mp4");
    assert!(std::fs::read(video).unwrap() == std::fs::read(swept).unwrap());
    // The same again makes nothing.
    let (paths, stderr) = sweeps.ends(
        0,
        "out",
        &[&TOY[..], &["--preset", "paper-systems", "--limit", "1"]].concat(),
    );
    assert!(paths.is_empty() && stderr.contains("5 were there already"), "{stderr}");
}

#[test]
fn models_are_points_and_each_is_made_before_the_next() {
    let sweeps = Sweeps::new();
    let folder = sweeps.desk.desk.model.folder().display().to_string();
    let two = format!("{folder},toy");
    let common = ["--size", "32x32", "--seconds", "2", "--window", "6", "--policy", "sink"];
    let one = [&common[..], &["--model", &folder, "--sink", "1,3"]].concat();
    sweeps.ends(0, "out", &one);
    // A further model adds its points.
    let both = [&common[..], &["--model", &two, "--sink", "1,3"]].concat();
    let (paths, stderr) = sweeps.ends(0, "out", &both);
    assert!(
        stderr.contains("4 rendered") && stderr.contains("4 were there already"),
        "{stderr}"
    );
    let expected: Vec<_> = ["00000", "00001"]
        .iter()
        .flat_map(|prompt| ["toy-sink-1", "toy-sink-3"].map(|point| format!("out/{point}/{prompt}-seed0.mp4")))
        .collect();
    assert_eq!(paths, expected);
    // From nothing, all videos of a model come before those of the next.
    let (paths, _) = sweeps.ends(0, "fresh", &both);
    let of_toy: Vec<_> = paths.iter().map(|path| path.starts_with("fresh/toy-")).collect();
    assert_eq!(of_toy, [[false; 4], [true; 4]].concat());
    let plan = sweeps.plan("fresh");
    assert_eq!(plan["model"], format!("{folder}, toy"));
    assert_eq!(plan["axes"][0]["key"], "model");
    let made = recipes(&sweeps, "fresh");
    assert_ne!(made[0].1["model"]["files"], made[7].1["model"]["files"]);
}

#[test]
fn what_cannot_be_compared_or_made_is_refused() {
    let sweeps = Sweeps::new();
    let refused = |more: &[&str], says: &[&str]| {
        let (stdout, stderr) = sweeps.ends(2, "out", more);
        assert!(stdout.is_empty() && !sweeps.desk.path("out").exists());
        assert!(says.iter().all(|part| stderr.contains(part)), "{stderr}");
    };
    refused(&["--model", "toy,nothing"], &["nothing", "neither a model folder"]);
    refused(&["--model", "toy,"], &["--model", "``", "names or paths"]);
    refused(&["--model-preset", "longlive,turbo"], &["unknown preset `turbo`"]);
    refused(
        &["--preset", "paper-systems", "--model-preset", "longlive"],
        &["paper-systems", "`preset`", "--model-preset"],
    );
    // A rolling window and its rules.
    let rolling = [
        "--model",
        "toy",
        "--model-preset",
        "rolling-forcing",
        "--policy",
        "fifo,deep-sink",
    ];
    refused(&rolling, &["all 2 break a rule", "policy `fifo`", "sink-rerope"]);
    refused(
        &[&rolling[..4], &["--window", "17,21", "--illegal", "refuse"]].concat(),
        &["1 of 2 points", "window 17", "--illegal skip"],
    );
}
