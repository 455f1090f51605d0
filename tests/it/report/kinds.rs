//! Folders that are no finished sweep: batches, interrupted runs, files that went missing, hands that edited.

use std::{fs, path::Path};

use deepforcing::report::{self, Options, Written};
use serde_json::Value;

use crate::report::folder::{Folder, Shape};

fn write(folder: &Folder) -> (Written, Value) {
    let written = report::write(folder.path(), &Options::default()).unwrap();
    let json = serde_json::from_str(&folder.read("results.json")).unwrap();
    (written, json)
}

/// Names and labels of the rows.
fn rows(json: &Value) -> Vec<(&str, &str)> {
    let rows = json["rows"].as_array().unwrap().iter();
    rows.map(|row| (row["name"].as_str().unwrap(), row["label"].as_str().unwrap()))
        .collect()
}

/// The folder without its plan and points: a batch.
fn as_batch(folder: &Folder) {
    fs::remove_file(folder.file("sweep.json")).unwrap();
    folder.change_lines(|_, line| {
        line.as_object_mut().unwrap().remove("point");
    });
}

#[test]
fn a_batch_has_one_row_per_prompt_and_no_best() {
    let folder = Folder::sweep(Shape {
        sinks: vec![4],
        ..Shape::default()
    });
    as_batch(&folder);
    let (written, json) = write(&folder);
    assert_eq!((written.videos, written.expected), (4, None));
    assert_eq!(
        rows(&json),
        [("0", "a red ball over green hills"), ("1", "a blue cube in the snow")]
    );
    assert!(!folder.read("table.md").contains("**"));
}

#[test]
fn a_batch_of_one_prompt_has_one_row_per_seed() {
    let folder = Folder::sweep(Shape {
        sinks: vec![4],
        prompts: vec!["a red ball".into()],
        seeds: vec![3, 4, 5],
        ..Shape::default()
    });
    as_batch(&folder);
    let (_, json) = write(&folder);
    assert_eq!(
        rows(&json),
        [("seed-3", "seed 3"), ("seed-4", "seed 4"), ("seed-5", "seed 5")]
    );
}

#[test]
fn a_sweep_without_its_plan_is_named_by_its_folders() {
    let folder = Folder::sweep(Shape::default());
    fs::remove_file(folder.file("sweep.json")).unwrap();
    let (written, json) = write(&folder);
    assert_eq!(rows(&json)[2], ("sink-10", "sink-10"));
    assert!(written.notes[0].contains("no sweep.json"), "{:?}", written.notes);
}

#[test]
fn an_unfinished_sweep_says_how_many_of_how_many() {
    let folder = Folder::sweep(Shape::default());
    let text = folder.read("manifest.jsonl");
    // Seven lines, and one that a crash cut short.
    let kept: usize = text.split_inclusive('\n').take(7).map(str::len).sum();
    fs::write(folder.file("manifest.jsonl"), &text[..kept + 40]).unwrap();
    let (written, json) = write(&folder);
    assert_eq!((written.videos, written.expected), (7, Some(12)));
    assert_eq!(
        written.notes[0],
        "the last line of manifest.jsonl was cut short and is left out"
    );
    assert_eq!(json["rows"][1]["videos"], 3);
    assert!(folder.read("report.html").contains("7 of 12 videos"));
    assert!(folder.read("table.md").contains("| sink 4 | 3 of 4 |"));
}

#[test]
fn lines_that_a_hand_broke_are_named_and_left_out() {
    let folder = Folder::sweep(Shape::default());
    let text = folder
        .read("manifest.jsonl")
        .replacen("\"seed\":0", "\"seed\":\"zero\"", 1);
    fs::write(folder.file("manifest.jsonl"), text).unwrap();
    let (written, _) = write(&folder);
    assert_eq!(written.videos, 11);
    let note = &written.notes[0];
    assert!(
        note.starts_with("manifest.jsonl, line 1: ") && note.contains("\"zero\""),
        "{note}"
    );
}

#[test]
fn a_file_outside_of_the_folder_is_never_looked_at() {
    let folder = Folder::sweep(Shape::default());
    folder.change_lines(|number, line| {
        if number == 0 {
            line["file"] = "../../etc/passwd".into();
        }
    });
    let (written, _) = write(&folder);
    assert!(
        written.notes[0].contains("is not a file of the folder"),
        "{:?}",
        written.notes
    );
    assert!(!folder.read("report.html").contains("src=\"../"));
}

#[test]
fn missing_and_damaged_videos_keep_their_measures() {
    let folder = Folder::sweep(Shape::default());
    fs::remove_file(folder.file("sink-0/00000-0.mp4")).unwrap();
    let damaged = folder.file("sink-4/00000-0.mp4");
    let bytes = fs::read(&damaged).unwrap();
    fs::write(&damaged, vec![0; bytes.len()]).unwrap();
    let (written, json) = write(&folder);
    assert!(
        written.notes.iter().any(|note| note.contains("1 of 12 videos")),
        "{:?}",
        written.notes
    );
    assert!(
        written
            .notes
            .iter()
            .any(|note| note.contains("cannot read 'sink-4/00000-0.mp4'")),
        "{:?}",
        written.notes
    );
    let states: Vec<_> = json["videos"]
        .as_array()
        .unwrap()
        .iter()
        .map(|video| &video["state"])
        .collect();
    assert_eq!(
        (states[0], states[1], states[4]),
        (&"missing".into(), &"there".into(), &"damaged".into())
    );
    assert_eq!(json["rows"][0]["columns"]["colour_drift"]["n"], 4);
}

#[test]
fn videos_without_measures_are_measured_from_their_files() {
    let folder = Folder::sweep(Shape::default());
    let before = write(&folder).1;
    folder.change_lines(|_, line| {
        line.as_object_mut().unwrap().remove("metrics");
    });
    let (written, after) = write(&folder);
    assert!(
        written.notes[0].contains("12 of 12 videos were measured for this report"),
        "{:?}",
        written.notes
    );
    let drift = |json: &Value| json["rows"][2]["columns"]["colour_drift"]["mean"].as_f64().unwrap();
    // Encoding changes a little.
    assert!(
        (drift(&before) - drift(&after)).abs() < 1.0,
        "{} {}",
        drift(&before),
        drift(&after)
    );
    // Without looking, there is nothing to show of them, and that is said.
    let options = Options {
        look_at_videos: false,
        ..Options::default()
    };
    report::write(folder.path(), &options).unwrap();
    let json: Value = serde_json::from_str(&folder.read("results.json")).unwrap();
    assert!(json["rows"][2]["columns"].get("colour_drift").is_none());
}

#[test]
fn hostile_texts_are_only_texts() {
    let hostile = "</script><script>alert(1)</script><!-- {{data}} \u{2028} \" ' `$(touch x)`\u{1}|";
    let folder = Folder::sweep(Shape {
        sinks: vec![0, 4],
        prompts: vec![hostile.into()],
        seeds: vec![0],
        ..Shape::default()
    });
    folder.write_plan(|plan| plan["points"][0]["label"] = hostile.into());
    write(&folder);
    let page = folder.read("report.html");
    // Those of the page itself, and no more.
    assert_eq!(page.matches("<script").count(), 3);
    assert_eq!(page.matches("</script").count(), 3);
    assert!(!page.contains("<!-- {{"));
    let plot = folder.read("plots/summary.svg");
    assert!(!plot.contains("<script"), "{plot}");
    assert!(Path::new(&folder.file("plots/summary.png")).exists());
}
