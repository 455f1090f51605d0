//! What would be done, said without doing it.

use std::fs;

use serde_json::Value;

use crate::cli::program::Desk;

#[test]
fn a_dry_run_prints_the_plan_and_makes_nothing() {
    let desk = Desk::new();
    let flags = [
        "--dry-run",
        "--seconds",
        "30",
        "--seed",
        "7",
        "--switch",
        "12s: green hills",
    ];
    let output = desk.command("out.mp4", &flags).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "out.mp4",
        "a red ball",
        "green hills",
        "32x32",
        "deep-forcing",
        "sink",
        "cache",
        "480",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert!(desk.names().is_empty());
}

#[test]
fn a_dry_run_reads_no_weights() {
    let desk = Desk::new();
    // Behind the headers there is nothing but zeros: no video could come of it.
    let path = desk.model.path(crate::cli::model::TRANSFORMER);
    let mut bytes = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[header..].fill(0xff);
    fs::write(&path, bytes).unwrap();
    assert!(
        desk.command("out.mp4", &["--dry-run"])
            .output()
            .unwrap()
            .status
            .success()
    );
    assert!(!desk.command("out.mp4", &[]).output().unwrap().status.success());
}

#[test]
fn a_plan_in_json_has_a_line_per_video() {
    let desk = Desk::new();
    let flags = [
        "--dry-run",
        "--json",
        "--prompt-given",
        "a red ball",
        "green hills",
        "--output",
        "{index}.webm",
    ];
    let output = desk.command("", &flags).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let plans: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(plans.len(), 2);
    assert_eq!(plans[1]["output"], "1.webm");
    assert_eq!(plans[0]["recipe"]["video"]["pictures"], 24);
    assert!(plans[0]["memory"].is_object() && plans[0]["cache"].is_array());
    assert!(
        plans[0]["files"]
            .as_array()
            .unwrap()
            .iter()
            .all(|file| file["present"] == true)
    );
}

#[test]
fn what_the_real_run_would_refuse_is_refused() {
    let desk = Desk::new();
    fs::write(desk.video("there.mp4"), "x").unwrap();
    let refused = |more: &[&str], says: &str| {
        let output = desk
            .command("there.mp4", &[&["--dry-run"], more].concat())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
        // The plan is told all the same.
        assert!(!output.stdout.is_empty());
    };
    refused(&[], "exists already");
    let large = [
        "--overwrite",
        "--policy",
        "global",
        "--seconds",
        "86400",
        "--size",
        "4096x4096",
    ];
    refused(&large, "memory");
    let allowed = desk.command("there.mp4", &[&["--dry-run", "--no-memory-check"], &large[..]].concat());
    assert!({ allowed }.output().unwrap().status.success());
}

#[test]
fn a_dry_run_tells_the_time_that_earlier_videos_took() {
    let desk = Desk::new();
    let cache = desk.video("cache");
    let plan = |seconds: &str| {
        let mut command = desk.command("out.mp4", &["--dry-run", "--json", "--seconds", seconds]);
        let output = command.env("DEEPFORCING_CACHE", &cache).output().unwrap();
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        plan["seconds"].as_f64()
    };
    assert_eq!(plan("6"), None);
    // Long enough for any machine to be measured.
    let mut command = desk.command("made.mp4", &["--seconds", "60"]);
    command.env("DEEPFORCING_CACHE", &cache).assert().success();
    let (short, long) = (plan("6").unwrap(), plan("60").unwrap());
    assert!(short > 0.0 && long > 5.0 * short, "{short} {long}");
}
