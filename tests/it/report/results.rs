//! The files for other programs, checked against what was put into the folder.

use std::{collections::HashMap, fs};

use deepforcing::report::{self, Options};
use serde_json::Value;

use crate::report::folder::{Folder, Shape};

fn json(folder: &Folder) -> Value {
    serde_json::from_str(&folder.read("results.json")).unwrap()
}

#[test]
fn a_finished_sweep_gives_every_file() {
    let folder = Folder::sweep(Shape::default());
    let written = report::write(folder.path(), &Options::default()).unwrap();
    assert_eq!((written.rows, written.videos, written.expected), (3, 12, Some(12)));
    let [short] = &written.notes[..] else {
        panic!("{:?}", written.notes)
    };
    assert!(
        short.starts_with("12 of 12 videos are shorter than 10 s: ") && short.contains(" up to 4.0 s, "),
        "{short}"
    );
    for name in [
        "report.html",
        "results.csv",
        "results.json",
        "table.md",
        "plots/summary.svg",
        "plots/curve-motion.svg",
    ] {
        assert!(written.files.contains(&folder.file(name)), "{name}");
    }
    for file in &written.files {
        assert!(fs::metadata(file).unwrap().len() > 200, "{}", file.display());
        assert!(!file.to_string_lossy().contains("partial"));
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().contains("partial"))
    );
}

#[test]
fn means_spread_and_the_best_are_those_of_the_videos() {
    let folder = Folder::sweep(Shape::default());
    report::write(folder.path(), &Options::default()).unwrap();
    let json = json(&folder);
    let drifts: Vec<f64> = json["videos"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|video| video["row"] == "sink-4")
        .map(|video| {
            let metrics = video["metrics"]["metrics"].as_array().unwrap();
            let drift = metrics.iter().find(|metric| metric["key"] == "colour_drift").unwrap();
            drift["last_against_first"].as_f64().unwrap()
        })
        .collect();
    assert_eq!(drifts.len(), 4);
    let mean = drifts.iter().sum::<f64>() / 4.0;
    let std = (drifts.iter().map(|drift| (drift - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
    let cell = &json["rows"][1]["columns"]["colour_drift"];
    assert!((cell["mean"].as_f64().unwrap() - mean).abs() < 1e-9);
    assert!((cell["std"].as_f64().unwrap() - std).abs() < 1e-9);
    assert_eq!(cell["n"], 4);
    // The render time was made to be 3 s and one more for each frame of the sink.
    let times: Vec<_> = (0..3)
        .map(|row| &json["rows"][row]["columns"]["render_seconds"])
        .collect();
    assert_eq!(times[2]["mean"], 13.0);
    assert_eq!((&times[0]["best"], &times[1]["best"]), (&true.into(), &false.into()));
    // A video with a sink of 4 latent frames, as flags.
    let line = json["videos"][4]["generate"].as_str().unwrap();
    for words in [
        "--sink 4 ",
        "--seconds 4 ",
        "--size 96x64 ",
        "--seed 0 ",
        "--model toy ",
        "'a red ball over green hills'",
    ] {
        assert!(format!("{line} ").contains(words), "{line}");
    }
}

#[test]
fn the_csv_has_one_line_per_video() {
    let folder = Folder::sweep(Shape::default());
    report::write(folder.path(), &Options::default()).unwrap();
    let mut reader = csv::Reader::from_path(folder.file("results.csv")).unwrap();
    let lines: Vec<HashMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(lines.len(), 12);
    let last = &lines[11];
    assert_eq!(
        (last["setting"].as_str(), last["cache.sink"].as_str()),
        ("sink-10", "10")
    );
    assert_eq!(
        (last["prompt"].as_str(), last["seed"].as_str()),
        ("a blue cube in the snow", "1")
    );
    assert_eq!((last["pictures"].as_str(), last["seconds"].as_str()), ("32", "4"));
    assert!(last["sharpness_first_5s"].parse::<f64>().unwrap() > 0.0);
}

#[test]
fn the_table_marks_the_best_and_says_what_the_spread_is() {
    let folder = Folder::sweep(Shape::default());
    report::write(folder.path(), &Options::default()).unwrap();
    let table = folder.read("table.md");
    let row = table.lines().find(|line| line.starts_with("| sink 0 |")).unwrap();
    assert!(
        row.contains("**3.000 ± 0.000**") || row.contains("**3.00 ± 0.00**"),
        "{row}"
    );
    assert!(table.contains("sample standard deviation"), "{table}");
    let columns = |line: &str| line.matches(" | ").count();
    let lines: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(
        lines.len() == 4 && lines.iter().all(|line| columns(line) == columns(lines[0])),
        "{table}"
    );
}

#[test]
fn plots_are_pictures_with_text_in_them() {
    let folder = Folder::sweep(Shape::default());
    report::write(folder.path(), &Options::default()).unwrap();
    let svg = folder.read("plots/curve-colour_drift.svg");
    assert!(svg.contains("colour drift") && svg.contains("sink 10"), "{svg}");
    let png = image::open(folder.file("plots/curve-colour_drift.png"))
        .unwrap()
        .into_rgb8();
    assert_eq!(png.width(), 1800);
    // Text is dark: without a font there would be none in the title's place.
    let title = image::imageops::crop_imm(&png, 40, 20, 400, 60).to_image();
    let dark = title
        .pixels()
        .filter(|pixel| pixel.0.iter().all(|part| *part < 90))
        .count();
    assert!(dark > 300, "{dark} dark pixels where the title should be");
}

#[test]
fn a_skipped_point_is_listed_with_its_reason() {
    let folder = Folder::sweep(Shape::default());
    folder.write_plan(|plan| {
        let mut point = plan["points"][2].clone();
        point["name"] = "sink-20".into();
        point["label"] = "sink 20".into();
        point["skipped"] = "sink 20 > window 12".into();
        plan["points"].as_array_mut().unwrap().push(point);
    });
    let written = report::write(folder.path(), &Options::default()).unwrap();
    assert_eq!((written.rows, written.expected), (4, Some(12)));
    assert!(
        folder
            .read("report.html")
            .contains("not rendered: sink 20 &gt; window 12")
    );
    assert!(
        folder
            .read("table.md")
            .contains("Not rendered: sink 20: sink 20 \\> window 12")
    );
}
