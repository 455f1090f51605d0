//! What a batch measures of its videos.

use deepforcing::{batch::Entry, metrics::Report};

use crate::desk::{Batches, said};

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
    // Without loss, the pictures of the file are those that were made, save for the colours.
    batches.ends(0, "list.txt", "out", &["--seconds", "3", "--crf", "0"]);
    for entry in entries(&batches) {
        assert!(!entry.metrics_of_file);
        let made = entry.metrics.unwrap();
        let file = measured(&batches, &format!("out/{}", entry.file));
        assert_eq!((made.pictures, made.chunks, made.sink_pictures), (48, file.chunks, 37));
        for (made, file) in made.metrics.iter().zip(&file.metrics) {
            let (made_whole, file_whole) = (made.whole.unwrap_or(0.0), file.whole.unwrap_or(0.0));
            let near = (made_whole - file_whole).abs() <= 0.15 * file_whole.abs() + 0.3;
            assert!(near, "{}: {made_whole} and {file_whole}", made.metric.key);
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
