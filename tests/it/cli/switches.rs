//! Prompts that change on the way.

use crate::cli::program::Desk;

/// Bytes of a picture of 32×32.
const PICTURE: usize = 32 * 32 * 3;

#[test]
fn a_switch_changes_what_comes_after_it_and_nothing_before() {
    let desk = Desk::new();
    let plain = desk.pixels(&[]);
    // The second chunk begins with picture 9, at 0.5625 s.
    let switched = desk.pixels(&["--switch", "3f: green hills"]);
    assert_eq!(plain.len(), 24 * PICTURE);
    assert!(plain[..9 * PICTURE] == switched[..9 * PICTURE]);
    assert!(plain[9 * PICTURE..10 * PICTURE] != switched[9 * PICTURE..10 * PICTURE]);
    // The same place by its time.
    assert!(switched == desk.pixels(&["--switch", "0.5625s: green hills"]));
}

#[test]
fn a_switch_within_a_chunk_waits_for_the_next_one_and_says_so() {
    let desk = Desk::new();
    let assert = desk
        .command("out.rgb", &["--switch", "0.2s: green hills"])
        .assert()
        .success();
    assert.stderr(predicates::str::contains("takes effect with the next chunk, at 0.5"));
    let moved = std::fs::read(desk.video("out.rgb")).unwrap();
    assert!(moved == desk.pixels(&["--switch", "3f: green hills"]));
}

/// A window so small that frames were dropped before the switch.
const SMALL_CACHE: [&str; 10] = [
    "--window",
    "6",
    "--sink",
    "2",
    "--budget",
    "6",
    "--recent",
    "3",
    "--seconds",
    "4",
];

#[test]
fn a_switch_does_to_the_cache_what_is_asked_for() {
    let desk = Desk::new();
    let pixels = |more: &[&str]| desk.pixels(&[&SMALL_CACHE[..], more].concat());
    let switch = ["--switch", "12f: green hills"];
    let of = |rule: &str| pixels(&[&switch[..], &["--on-switch", rule]].concat());
    let [keep, recache, flush] = ["keep", "recache", "flush"].map(of);
    // The chunk at latent frame 12 begins with picture 45.
    let before = 45 * PICTURE;
    assert!(keep[..before] == recache[..before] && keep[..before] == flush[..before]);
    assert!(keep != recache && keep != flush && recache != flush);
    assert!(
        keep == pixels(&switch),
        "the cache stays unless something else is asked for"
    );
    // What a switch says itself wins over what holds for all.
    for (rule, expected) in [("keep", &keep), ("recache", &recache), ("flush", &flush)] {
        let own = format!("12f {rule}: green hills");
        assert!(
            pixels(&["--switch", &own, "--on-switch", "recache"]) == *expected,
            "{rule}"
        );
    }
    let renewed = pixels(&[&switch[..], &["--on-switch", "recache", "--recache-sink", "renew"]].concat());
    assert!(renewed != recache && renewed[..before] == keep[..before]);
    let line = r#"{"prompts": ["a red ball", "green hills"], "switch": ["12f"], "on_switch": "flush"}"#;
    std::fs::write(desk.video("shots.jsonl"), line).unwrap();
    let from_file = pixels(&["--prompt-given", "--prompt-file", "shots.jsonl"]);
    assert!(from_file == flush);
}

#[test]
fn a_rerun_does_the_same_to_the_cache() {
    let desk = Desk::new();
    let flags = [&SMALL_CACHE[..], &["--switch", "12f recache: green hills"]].concat();
    let pixels = desk.pixels(&flags);
    desk.render("out.mp4", &flags);
    let recipe = desk.run(&["inspect", "out.mp4", "--json"]);
    let recipe: serde_json::Value = serde_json::from_slice(&recipe.stdout).unwrap();
    assert_eq!(recipe["format"], 2);
    assert_eq!(recipe["prompts"][1]["on-switch"]["recache"]["sink"], "encode");
    let folder = desk.model.folder().display().to_string();
    let words = ["rerun", "out.mp4", "-o", "-", "--format", "rgb", "--model", &folder];
    let output = desk.run(&words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(pixels == output.stdout);
    // Where the cache stays, older programs can repeat the video.
    desk.render("keep.mp4", &["--switch", "3f: green hills"]);
    let recipe = desk.run(&["inspect", "keep.mp4", "--json"]);
    let recipe: serde_json::Value = serde_json::from_slice(&recipe.stdout).unwrap();
    assert_eq!(recipe["format"], 1);
    assert!(recipe["prompts"][1].get("on-switch").is_none());
}

#[test]
fn the_toy_runs_under_the_presets_of_longlive() {
    let desk = Desk::new();
    let pixels = |preset: &str, more: &[&str]| {
        let words = ["--model-dir", "toy", "--preset", preset, "--seconds", "4"];
        desk.pixels(&[&words[..], &["--switch", "12f: the sea at night"], more].concat())
    };
    let [absolute, relative] = ["longlive", "longlive-infinity"].map(|preset| pixels(preset, &[]));
    assert_eq!((absolute.len(), relative.len()), (64 * PICTURE, 64 * PICTURE));
    // Both encode the cache again unless something else is asked for.
    for (preset, video) in [("longlive", &absolute), ("longlive-infinity", &relative)] {
        assert!(*video == pixels(preset, &["--on-switch", "recache"]), "{preset}");
        assert!(*video != pixels(preset, &["--on-switch", "keep"]), "{preset}");
    }
}
