//! `deepforcing metrics`, on good files and bad ones.

use std::{
    fs::{self, File},
    io::{Seek, Write},
    path::PathBuf,
    process::{Command, Output},
};

use deepforcing::video::{Target, VideoSettings, VideoWriter};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::metrics::clips::{HEIGHT, WIDTH, other_scene, scene};

/// A folder of videos in which the program runs.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn video(&self, name: &str, pictures: impl IntoIterator<Item = Vec<u8>>) {
        let target = Target::parse(self.path(name), None).unwrap();
        let settings = VideoSettings::new(WIDTH as u32, HEIGHT as u32);
        let mut writer = VideoWriter::create(&target, settings).unwrap();
        for picture in pictures {
            writer.push(&picture).unwrap();
        }
        writer.finish().unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deepforcing"));
        command.current_dir(self.0.path()).arg("metrics").args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    #[track_caller]
    fn stdout(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs what must fail with exit code 1 and one error that says all of `says`; gives stdout.
    #[track_caller]
    fn fails(&self, words: &[&str], says: &[&str]) -> String {
        let output = self.run(words);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
        assert_eq!(stderr.matches("error: ").count(), 1, "{words:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        for part in says {
            assert!(stderr.contains(part), "{words:?}: `{part}` is not in: {stderr}");
        }
        String::from_utf8(output.stdout).unwrap()
    }
}

fn metric<'a>(report: &'a Value, key: &str) -> &'a Value {
    let all = report["metrics"].as_array().unwrap();
    all.iter().find(|metric| metric["key"] == key).unwrap()
}

#[test]
fn a_video_is_told_to_people_and_to_programs() {
    let desk = Desk::new();
    desk.video("cut.mp4", [vec![scene(0.0); 80], vec![other_scene(); 16]].concat());
    let text = desk.stdout(&["cut.mp4"]);
    assert!(
        text.starts_with("cut.mp4: 96x64, 96 pictures, 6.00 s at 16 per second\n"),
        "{text}"
    );
    for part in [
        "VBench temporal flickering",
        "block-matching motion",
        "they share 4.00 s",
    ] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
    let report: Value = serde_json::from_str(&desk.stdout(&["cut.mp4", "--json"])).unwrap();
    assert_eq!((&report["file"], &report["pictures"]), (&"cut.mp4".into(), &96.into()));
    assert_eq!(report["per_second"].as_array().unwrap().len(), 6);
    let drift = metric(&report, "colour_drift");
    assert!(
        drift["last_against_first"].as_f64().unwrap() > 1.0 && drift["formula"].is_string(),
        "{drift}"
    );
    assert!(report["per_second"][5]["colour_drift"].as_f64().unwrap() > 10.0);
    let seconds = desk.stdout(&["cut.mp4", "--per-second"]);
    assert_eq!(
        seconds
            .lines()
            .filter(|line| line.starts_with(char::is_numeric))
            .count(),
        6,
        "{seconds}"
    );
}

#[test]
fn csv_has_a_line_for_each_value() {
    let desk = Desk::new();
    desk.video("a.mp4", vec![scene(0.0); 20]);
    desk.video("b, \"2\".gif", vec![scene(0.0); 20]);
    let csv = desk.stdout(&["a.mp4", "b, \"2\".gif", "--csv"]);
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + 2 * 13);
    assert_eq!(lines[0].split(',').count(), 8);
    assert!(
        lines[1].starts_with("a.mp4,temporal_flickering,\"score, 1 = still\",0.99"),
        "{}",
        lines[1]
    );
    assert!(
        lines[14].starts_with("\"b, \"\"2\"\".gif\",temporal_flickering,"),
        "{}",
        lines[14]
    );
    let csv = desk.stdout(&["a.mp4", "--csv", "--per-second"]);
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 3);
    for line in &lines {
        assert_eq!(line.split(',').count(), 17, "{line}");
    }
    assert!(lines[2].starts_with("a.mp4,1,4,"), "{}", lines[2]);
}

#[test]
fn formulas_are_told_without_a_file() {
    let text = Desk::new().stdout(&["--formulas"]);
    for metric in deepforcing::metrics::METRICS {
        for part in [metric.key, metric.unit, metric.formula, metric.source] {
            assert!(text.contains(part), "`{part}` is not in {text}");
        }
    }
    let output = Desk::new().run(&[]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn flags_that_cannot_be_are_refused() {
    let desk = Desk::new();
    for words in [
        ["a.mp4", "--fps", "0"],
        ["a.mp4", "--fps", "nan"],
        ["a.mp4", "--chunk", "0"],
        ["a.mp4", "--json", "--csv"],
        ["a.mp4", "--json", "--per-second"],
    ] {
        assert_eq!(desk.run(&words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn one_picture_has_no_values_of_pairs() {
    let desk = Desk::new();
    desk.video("one.mp4", [scene(0.0)]);
    let report: Value = serde_json::from_str(&desk.stdout(&["one.mp4", "--json"])).unwrap();
    for key in [
        "temporal_flickering",
        "motion",
        "seam_discontinuity",
        "colour_drift_slope",
    ] {
        assert_eq!(metric(&report, key)["whole"], Value::Null, "{key}");
    }
    assert!(metric(&report, "sharpness")["whole"].as_f64().unwrap() > 0.0);
    let text = desk.stdout(&["one.mp4"]);
    let line = text
        .lines()
        .find(|line| line.starts_with("block-matching motion"))
        .unwrap();
    assert_eq!(line.split_whitespace().filter(|word| *word == "–").count(), 4, "{line}");
}

#[test]
fn files_that_are_no_videos_are_named_with_the_reason() {
    let desk = Desk::new();
    fs::write(desk.path("empty.mp4"), "").unwrap();
    fs::write(desk.path("text.mp4"), "no video, only words\n".repeat(99)).unwrap();
    fs::write(desk.path("sound.wav"), sound()).unwrap();
    desk.video("whole.mp4", (0..64).map(|at| scene(f64::from(at))));
    let whole = fs::read(desk.path("whole.mp4")).unwrap();
    fs::write(desk.path("torn.mp4"), &whole[..whole.len() / 2]).unwrap();
    for (name, says) in [
        ("missing.mp4", "No such file"),
        ("empty.mp4", "it is empty"),
        ("text.mp4", "it is not a video"),
        ("sound.wav", "it holds sound, but no video stream"),
        ("torn.mp4", "damaged after"),
        (".", "it is a folder"),
    ] {
        assert_eq!(desk.fails(&[name], &[name, says]), "", "{name}");
    }
}

/// A tenth of a second of silence.
fn sound() -> Vec<u8> {
    let samples = 800u32;
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + samples).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16u32.to_le_bytes());
    wav.extend([1, 0, 1, 0]);
    wav.extend(8000u32.to_le_bytes());
    wav.extend(8000u32.to_le_bytes());
    wav.extend([1, 0, 8, 0]);
    wav.extend(b"data");
    wav.extend(samples.to_le_bytes());
    wav.extend(vec![128; samples as usize]);
    wav
}

#[test]
fn a_broken_file_does_not_keep_the_others_from_being_measured() {
    let desk = Desk::new();
    desk.video("a.mp4", vec![scene(0.0); 8]);
    desk.video("c.mp4", vec![scene(0.0); 8]);
    fs::write(desk.path("b.mp4"), "broken").unwrap();
    let stdout = desk.fails(&["a.mp4", "b.mp4", "c.mp4", "--json"], &["b.mp4"]);
    let reports: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let files: Vec<_> = reports.iter().map(|report| report["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["a.mp4", "c.mp4"]);
}

/// Writes a green y4m video of 7680×4320 whose pixels take no room on the disk.
fn write_8k(path: &PathBuf, pictures: i64) {
    let mut file = File::create(path).unwrap();
    file.write_all(b"YUV4MPEG2 W7680 H4320 F16:1 Ip A1:1 C420jpeg\n")
        .unwrap();
    for _ in 0..pictures {
        file.write_all(b"FRAME\n").unwrap();
        file.seek_relative(7680 * 4320 * 3 / 2).unwrap();
    }
    let end = file.stream_position().unwrap();
    file.set_len(end).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn memory_for_8k_does_not_grow_with_the_video() {
    use std::{process::Stdio, thread, time::Duration};

    const PICTURES: i64 = 16;
    let desk = Desk::new();
    write_8k(&desk.path("8k.y4m"), PICTURES);
    let mut child = desk
        .command(&["8k.y4m", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<i64>().ok());
        most = most.max(kilobytes.unwrap_or(0));
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["pictures"], &report["width"]),
        (&PICTURES.into(), &7680.into())
    );
    assert_eq!(metric(&report, "motion")["whole"], 0.0);
    // All pictures in RGB are 1.6 GB; some 400 MB are the picture before, this one, and its decoding.
    let all = PICTURES * 7680 * 4320 * 3 / 1024;
    assert!(most > 0 && most < all / 2, "{most} kB of {all} kB");
}
