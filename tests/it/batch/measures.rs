//! What a batch measures of its videos.

use deepforcing::{
    batch::Entry,
    metrics::{Metrics, Options, Report},
};

use crate::batch::desk::{Batches, said};

const MANIFEST: &str = "out/manifest.jsonl";

fn entries(batches: &Batches) -> Vec<Entry> {
    let lines = batches.lines(MANIFEST).into_iter();
    lines.map(|line| serde_json::from_value(line).unwrap()).collect()
}

/// What `deepforcing metrics` says of a file.
fn measured(batches: &Batches, file: &str) -> Report {
    let output = batches.desk.run(&["metrics", file, "--json", "--sink-pictures", "37"]);
    let (stdout, _) = said(&output, 0);
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn videos_are_measured_while_they_are_made() {
    let batches = Batches::new();
    batches.write("list.txt", "a\nb\n");
    batches.ends(0, "list.txt", "out", &["--seconds", "3"]);
    for entry in entries(&batches) {
        let pictures = batches
            .desk
            .pixels(&["--prompt-given", &entry.prompt, "--seconds", "3"]);
        let mut alone = Metrics::new(32, 32, 16.0, Options::default()).unwrap();
        for picture in pictures.chunks(32 * 32 * 3) {
            alone.push(picture).unwrap();
        }
        let alone = alone.finish().unwrap();
        let made = entry.metrics.unwrap();
        assert_eq!((made.pictures, made.chunks, made.sink_pictures), (48, alone.chunks, 37));
        assert!(!entry.metrics_of_file);
        for (made, alone) in made.metrics.iter().zip(&alone.metrics) {
            assert_eq!(made.metric, alone.metric);
            // Numbers have seven digits in a manifest.
            let (made, alone) = (made.whole.unwrap_or(0.0), alone.whole.unwrap_or(0.0));
            assert!((made - alone).abs() <= 1e-6 * alone.abs(), "{made} and {alone}");
        }
    }
}

#[test]
fn who_wants_no_measures_gets_none_and_can_have_them_later() {
    let batches = Batches::new();
    batches.write("list.txt", "a\nb\n");
    batches.ends(0, "list.txt", "out", &["--no-metrics"]);
    assert!(batches.lines(MANIFEST).iter().all(|line| line.get("metrics").is_none()));
    batches.ends(0, "list.txt", "out", &["--no-metrics"]);
    assert_eq!(batches.lines(MANIFEST).len(), 2);
    let videos = batches.videos("out");
    let (stdout, _) = batches.ends(0, "list.txt", "out", &[]);
    assert!(stdout.is_empty() && batches.videos("out") == videos);
    let entries = entries(&batches);
    assert_eq!(entries.len(), 4);
    for entry in &entries[2..] {
        assert!(entry.metrics_of_file);
        let file = measured(&batches, &format!("out/{}", entry.file));
        let whole = |report: &Report| report.metric("brightness").unwrap().whole.unwrap();
        let (mine, its) = (whole(entry.metrics.as_ref().unwrap()), whole(&file));
        assert!((mine - its).abs() < 1e-4, "{mine} {its}");
    }
    // Once.
    batches.ends(0, "list.txt", "out", &[]);
    assert_eq!(batches.lines(MANIFEST).len(), 4);
}

#[test]
fn a_video_without_a_line_is_measured_afterwards() {
    let batches = Batches::new();
    batches.write("list.txt", "a\n");
    batches.ends(0, "list.txt", "out", &[]);
    std::fs::remove_file(batches.path(MANIFEST)).unwrap();
    let (stdout, _) = batches.ends(0, "list.txt", "out", &[]);
    assert!(stdout.is_empty());
    let [entry] = &entries(&batches)[..] else {
        panic!("one line is there")
    };
    assert!(entry.metrics_of_file && entry.metrics.is_some());
}
