//! The cache policies of other projects: each renders, is listed, and is refused by the rule that it breaks.

use std::collections::HashSet;

use crate::cli::program::Desk;

/// Policies that need nothing but their name.
const PUBLISHED: [&str; 7] = [
    "infinity-rope",
    "id-forcing",
    "lol",
    "memrope",
    "ema-sink",
    "rolling-sink",
    "dummy-forcing",
];

#[test]
fn published_policies_render_each_its_own_video() {
    let desk = Desk::new();
    let small = |policy: &str| match policy {
        // Room is made within three seconds.
        "id-forcing" => vec!["--native-chunks", "2"],
        "memrope" | "rolling-sink" | "lol" => vec!["--window", "9"],
        _ => Vec::new(),
    };
    let video = |policy: &str| {
        let words = [&["--policy", policy, "--seconds", "3"][..], &small(policy)].concat();
        desk.pixels(&words)
    };
    let videos: HashSet<_> = PUBLISHED.iter().map(|policy| video(policy)).collect();
    assert_eq!(
        videos.len(),
        PUBLISHED.len(),
        "the policies are one policy under several names"
    );
    assert!(videos.contains(&video("memrope")), "the same seed gives another video");
}

#[test]
fn rules_are_refused_before_anything_is_loaded() {
    let desk = Desk::new();
    for (words, says) in [
        (
            &["--policy", "rolling-sink", "--window", "20"][..],
            &["window 20", "18 or 21"][..],
        ),
        (&["--policy", "ema-sink", "--sink", "2"], &["sink 2", "take sink 3"]),
        (&["--policy", "memrope", "--alpha-long", "1.5"], &["1.5", "from 0 to 1"]),
        (&["--policy", "forcing-kv"], &["--heads FILE"]),
        (&["--policy", "forcing-kv", "--heads", "40x40:0"], &["40x40:0"]),
        (
            &["--policy", "custom", "--keep", "sink 3"],
            &["current chunk would be dropped"],
        ),
        (
            &[
                "--policy",
                "rolling-sink",
                "--switch",
                "1s flush: the sea",
                "--seconds",
                "3",
            ],
            &["cannot have `flush`", "keep"],
        ),
    ] {
        desk.refused(2, words, says);
    }
}

#[test]
fn policies_are_listed_with_what_they_cost() {
    let desk = Desk::new();
    let listed = desk.run(&["policies", "--model", "toy", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let of = |name: &str| {
        let all = listed["policies"].as_array().unwrap();
        all.iter().find(|policy| policy["name"] == name).unwrap().clone()
    };
    assert_eq!(
        (of("fifo")["memory"].as_f64(), of("fifo")["cost"].as_f64()),
        (Some(1.0), Some(1.0))
    );
    assert!(of("infinity-rope")["memory"].as_f64().unwrap() < 0.5);
    assert!(of("rolling-sink")["memory"].as_f64().unwrap() > 1.3);
    assert!(of("forcing-kv")["refused"].as_str().unwrap().contains("--heads"));
    let text = desk.run(&["policies", "--model", "toy"]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(PUBLISHED.iter().all(|policy| text.contains(policy)), "{text}");
}
