//! Worlds: what steers them, and what is refused before a model is loaded.

use std::fs;

use crate::cli::{
    model::{Model, TRANSFORMER},
    program::Desk,
};

/// A desk with a world, a preset for it, and an image to begin with.
fn desk(controls: &str) -> Desk {
    let (keys, mouse) = match controls {
        "universal" => (4, true),
        "gta_drive" => (2, true),
        _ => (7, false),
    };
    with_preset(Desk::of(Model::world(TRANSFORMER, keys, mouse)), controls)
}

fn with_preset(desk: Desk, controls: &str) -> Desk {
    let preset = format!(
        "base = \"matrix-game-2\"\ndescription = \"a world\"\ncontrols = \"{controls}\"\n\
         [video]\nfps = 16\n[cache]\nwindow = 21\n"
    );
    fs::write(desk.video("world.toml"), preset).unwrap();
    let picture = image::RgbImage::from_pixel(32, 32, image::Rgb([20, 90, 30]));
    picture.save(desk.video("start.png")).unwrap();
    desk
}

const WORLD: [&str; 5] = ["--prompt-given", "--preset", "world.toml", "--image", "start.png"];

#[track_caller]
fn refused(desk: &Desk, more: &[&str], says: &[&str]) {
    desk.refused(2, &[&WORLD[..], more].concat(), says);
}

#[test]
fn what_a_world_does_not_read_or_lacks_is_named() {
    let text = with_preset(Desk::new(), "universal");
    let steered = ["--prompt-given", "--actions", "w*24"];
    text.refused(2, &steered, &["no controls", "reads no actions"]);
    text.refused(2, &["--actions", "w*24"], &["no controls", "reads no actions"]);
    text.refused(2, &["--prompt-given", "--image", "start.png"], &["there is no prompt"]);
    let desk = desk("universal");
    let world = ["--preset", "world.toml"];
    let with = |more: &[&'static str]| [&world[..], more].concat();
    desk.refused(
        2,
        &with(&["--image", "start.png"]),
        &["reads no prompt", "\"a red ball\""],
    );
    let unstarted = ["--prompt-given", "--actions", "w*24"];
    desk.refused(2, &with(&unstarted), &["--image FILE"]);
    let extended = [&unstarted[..], &["--extend", "a.mp4"]].concat();
    desk.refused(2, &with(&extended), &["--extend", "--image FILE"]);
    let switched = [&WORLD[..], &["--switch", "1s: a storm"]].concat();
    desk.refused(2, &switched, &["no prompt"]);
}

#[test]
fn actions_that_cannot_be_are_refused() {
    let universal = desk("universal");
    for (actions, says) in [
        ("w*12, x*12", &["number 2", "unknown key `x`"][..]),
        ("foward*24", &["did you mean `forward`?"]),
        ("jump*24", &["`jump` is a key of the controls templerun", "universal"]),
        ("w, a*12", &["`w` lasts to the end"]),
        ("w+j=0.4*24", &["horizontal", "-0.4", "at most 0.1"]),
    ] {
        refused(&universal, &["--actions", actions], says);
    }
    let missing = [&WORLD[..], &["--actions", "none.jsonl"]].concat();
    universal.refused(1, &missing, &["none.jsonl", "cannot read"]);
    // 1.5 s at 16 pictures per second.
    refused(
        &universal,
        &["--actions", "w*20"],
        &["for 20 pictures", "has 24", "4 are missing", "none*"],
    );
    refused(
        &universal,
        &["--actions", "w*25"],
        &["for 25 pictures", "has 24", "1 too many"],
    );
    let temple = desk("templerun");
    refused(&temple, &["--actions", "jump+slide*24"], &["one key at a time"]);
    fs::write(
        temple.video("zeros.jsonl"),
        "{\"keyboard\": [0, 0, 0, 0, 0, 0, 0], \"frames\": 24}\n",
    )
    .unwrap();
    refused(
        &temple,
        &["--actions", "zeros.jsonl"],
        &["zeros.jsonl`, line 1", "always one", "[1, 0, 0, 0, 0, 0, 0]"],
    );
}

/// The plan of a video that is not made.
fn plan(desk: &Desk, more: &[&str]) -> String {
    let words = [
        "generate",
        "--image",
        "start.png",
        "--preset",
        "world.toml",
        "--size",
        "32x32",
    ];
    let folder = desk.model.folder().display().to_string();
    let output = desk.run(&[&words[..], &["--model", &folder, "--dry-run"], more].concat());
    let (stdout, stderr) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(stdout).unwrap()
}

#[test]
fn a_world_is_as_long_as_its_actions_unless_its_length_is_given() {
    let desk = desk("universal");
    fs::write(desk.video("walk.csv"), "frames,action\n30,w\n3,w+turn-left\n").unwrap();
    for (more, says) in [
        (
            &["--actions", "w*30, W+j*3"][..],
            ["33 pictures at 16", "forward*30, forward+turn-left*3"],
        ),
        (
            &["--actions", "walk.csv"],
            ["33 pictures at 16", "forward*30, forward+turn-left*3"],
        ),
        (
            &["--actions", "w*30, none", "--seconds", "2"],
            ["32 pictures at 16", "forward*30, none*2"],
        ),
        (&["--seconds", "1"], ["16 pictures at 16", "none*16"]),
        (&[], ["80 pictures at 16", "none*80"]),
    ] {
        let plan = plan(&desk, more);
        for part in says.into_iter().chain(["controls      universal\n"]) {
            assert!(plan.contains(part), "{more:?}: {plan}");
        }
        assert!(!plan.contains("\nprompt "), "{plan}");
    }
}

#[test]
fn the_keys_of_controls_are_printed_and_random_actions_made() {
    let desk = desk("gta_drive");
    let said = |words: &[&str]| {
        let output = desk.run(&[&["actions"][..], words].concat());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), stderr)
    };
    let (code, keys, stderr) = said(&["--controls", "templerun"]);
    assert_eq!(code, Some(0), "{stderr}");
    for part in [
        "templerun: ",
        "  z  turn-left",
        "nothing pressed: keyboard 1 0 0 0 0 0 0, no mouse",
        "one key",
    ] {
        assert!(keys.contains(part), "{keys}");
    }
    let (_, of_model, _) = said(&["--model", "world.toml"]);
    assert_eq!(of_model, said(&["--controls", "gta-drive"]).1);
    let json: serde_json::Value = serde_json::from_str(&said(&["--controls", "universal", "--json"]).1).unwrap();
    assert_eq!(json["columns"][0], "forward");
    let random = ["--model", "world.toml", "--random", "--seed", "7"];
    let (code, long, stderr) = said(&[&random[..], &["--seconds", "10"]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(said(&[&random[..], &["--pictures", "160"]].concat()).1, long);
    let written = said(&[&random[..], &["--pictures", "160", "-o", "walk.jsonl"]].concat());
    assert_eq!((written.0, written.1.as_str()), (Some(0), ""));
    assert_eq!(fs::read_to_string(desk.video("walk.jsonl")).unwrap(), long);
    assert!(plan(&desk, &["--actions", "walk.jsonl"]).contains("160 pictures"));
    for (code, words, says) in [
        (
            1,
            &[
                "--controls",
                "universal",
                "--random",
                "--pictures",
                "9",
                "-o",
                "walk.jsonl",
            ][..],
            "--overwrite",
        ),
        (
            2,
            &[
                "--controls",
                "universal",
                "--random",
                "--pictures",
                "9",
                "-o",
                "walk.mp4",
            ],
            ".jsonl or .txt",
        ),
        (2, &["--controls", "universal", "--random"], "--pictures"),
        (2, &["--model", "toy"], "has no controls"),
        (2, &["--controls", "univresal"], "universal"),
        (2, &[], "--controls"),
    ] {
        let (found, _, stderr) = said(words);
        assert!(found == Some(code) && stderr.contains(says), "{words:?}: {stderr}");
    }
}

#[test]
fn prompt_files_and_sweeps_hold_worlds() {
    let desk = desk("universal");
    let line = |id: &str, more: &str| format!("{{\"id\": \"{id}\", \"image\": \"start.png\"{more}}}\n");
    let starts = line("own", ", \"actions\": \"w*33\"") + &line("forest", "");
    fs::write(desk.video("starts.jsonl"), starts).unwrap();
    let folder = desk.model.folder().display().to_string();
    let model = ["--model", &folder, "--size", "32x32", "--dry-run"];
    let ends = |words: &[&str]| {
        let output = desk.run(&[words, &model].concat());
        let (stdout, stderr) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(output.status.success(), "{stderr}");
        String::from_utf8(stdout).unwrap() + &stderr
    };
    let batch = ends(&["batch", "starts.jsonl", "-o", "out", "--preset", "world.toml"]);
    assert!(batch.contains("own.mp4") && batch.contains("forest.mp4"), "{batch}");
    let sweep = ends(&[
        "sweep",
        "starts.jsonl",
        "-o",
        "sweep",
        "--model-preset",
        "world.toml",
        "--policy",
        "fifo,deep-sink",
        "--actions",
        "w*",
        "--actions",
        "j*12, none*",
    ]);
    for name in ["own-seed0", "forest-w-seed0", "forest-j-12-none-seed0"] {
        assert_eq!(sweep.matches(&format!("/{name}.mp4")).count(), 2, "{sweep}");
    }
}
