//! Several videos with one load of the model, and where each goes.

use std::fs;

use crate::cli::program::{Desk, decoded};

#[test]
fn prompts_on_the_command_line_make_a_video_each() {
    let desk = Desk::new();
    let words = ["--prompt-given", "a red ball", "green hills", "--output", "{index}.mp4"];
    let output = desk.command("", &words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "0.mp4\n1.mp4\n");
    let first = desk.render("alone.mp4", &[]);
    assert!(
        first.frames == decoded(&desk.video("0.mp4")).frames,
        "a video depends on its neighbours"
    );
    assert!(first.frames != decoded(&desk.video("1.mp4")).frames);
}

#[test]
fn a_prompt_file_tells_names_seeds_and_lengths() {
    let desk = Desk::new();
    let lines = [
        r#"{"id": "ball", "prompt": "a red ball", "seed": 7, "seconds": 0.5}"#,
        "# a comment",
        r#"{"prompts": ["green hills", "night"], "switch": ["0.6s"]}"#,
    ];
    fs::write(desk.video("shots.jsonl"), lines.join("\n")).unwrap();
    fs::create_dir(desk.video("out")).unwrap();
    let words = ["--prompt-given", "--prompt-file", "shots.jsonl", "--output", "out/"];
    desk.command("", &words)
        .assert()
        .success()
        .stdout("out/ball.mp4\nout/1.mp4\n");
    assert_eq!(decoded(&desk.video("out/ball.mp4")).frames.len(), 8);
    let alone = desk.render("alone.mp4", &["--seed", "7", "--seconds", "0.5"]);
    assert!(alone.frames == decoded(&desk.video("out/ball.mp4")).frames);
    assert_eq!(decoded(&desk.video("out/1.mp4")).frames.len(), 24);
}

#[test]
fn prompts_come_from_standard_input() {
    let desk = Desk::new();
    let mut command = desk.command("", &["--prompt-given", "-", "--output", "{id}.mp4"]);
    let assert = command.write_stdin("a red ball\n\ngreen hills\r\n").assert();
    assert.success().stdout("0.mp4\n1.mp4\n");
    // One prompt needs no name of its own.
    let mut command = desk.command("one.mp4", &["--prompt-given", "-"]);
    command.write_stdin("a red ball").assert().success();
    assert!(decoded(&desk.video("one.mp4")).frames == decoded(&desk.video("0.mp4")).frames);
}

#[test]
fn without_any_model_nothing_is_made_unwatched() {
    let desk = Desk::new();
    fs::write(desk.video("list.txt"), "a red ball rolling over green hills\n").unwrap();
    for words in [
        &["generate", "a red ball rolling over green hills", "-o", "toy.mp4"][..],
        &["generate", "a red ball rolling over green hills", "--dry-run"],
        &["batch", "list.txt", "-o", "out"],
        &["sweep", "list.txt", "-o", "out", "--sink", "4,9"],
    ] {
        let output = desk.run(words);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
        assert!(
            stderr.contains("`deep-forcing` is not on this machine") && stderr.contains("--model toy"),
            "{stderr}"
        );
    }
    assert_eq!(desk.names(), ["list.txt"]);
    // Who names it gets it, and what it does not know is told.
    let words = [
        "generate",
        "a red dragon over green hills",
        "--model",
        "toy",
        "--seconds",
        "0.5",
        "-o",
        "toy.mp4",
        "--json",
    ];
    let output = desk.run(&words);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("does not know `dragon`") && stderr.contains("deepforcing prompts"),
        "{stderr}"
    );
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["fallback"], false);
    assert_eq!(decoded(&desk.video("toy.mp4")).frames.len(), 8);
}

#[test]
fn a_video_without_a_name_replaces_none() {
    let desk = Desk::new();
    let model = desk.model.folder().display().to_string();
    let run = |more: &[&str]| {
        let words = [
            &["generate"],
            more,
            &["--model", &model, "--size", "32x32", "--seconds", "0.5"],
        ]
        .concat();
        let output = desk.run(&words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&["a red ball"]), "video.mp4\n");
    assert_eq!(run(&["a red ball"]), "video-2.mp4\n");
    assert_eq!(run(&["a red ball"]), "video-3.mp4\n");
    assert_eq!(run(&["a red ball", "--overwrite"]), "video.mp4\n");
    assert_eq!(run(&["a red ball", "the sea"]), "video-0.mp4\nvideo-1.mp4\n");
    assert_eq!(run(&["a red ball", "the sea"]), "video-0-2.mp4\nvideo-1-2.mp4\n");
}

#[test]
fn words_without_quotes_are_warned_about() {
    let desk = Desk::new();
    let model = desk.model.folder().display().to_string();
    let run = |words: &[&str]| {
        let words = [
            &["generate"],
            words,
            &["--model", &model, "--dry-run", "-o", "{index}.mp4"],
        ]
        .concat();
        String::from_utf8(desk.run(&words).stderr).unwrap()
    };
    let stderr = run(&["a", "red", "ball", "bouncing"]);
    assert!(
        stderr.contains("4 videos, one for each word") && stderr.contains("\"a red ball bouncing\""),
        "{stderr}"
    );
    assert!(!run(&["a red ball", "sea"]).contains("one for each word"));
}

#[test]
fn a_seed_is_drawn_on_demand() {
    let desk = Desk::new();
    for seed in [&["--seed", "-1"][..], &["--seed=-1"], &["--seed", "random"]] {
        let output = desk
            .command("drawn.mp4", &[seed, &["--json", "--overwrite"]].concat())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(stderr.contains(&format!("drawn seed: {}", json["seed"])), "{stderr}");
    }
    let drawn = decoded(&desk.video("drawn.mp4"));
    // The video knows its seed.
    let model = desk.model.folder().display().to_string();
    let output = desk.run(&["rerun", "drawn.mp4", "-o", "again.mp4", "--model", &model]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(drawn.frames == decoded(&desk.video("again.mp4")).frames);
}

#[test]
fn lengths_are_taken_as_people_write_them() {
    let desk = Desk::new();
    for (more, frames) in [
        (&["--seconds", "0.5s"][..], 8),
        (&["--seconds", "0:01"], 16),
        (&["--seconds=", "--frames", "9"], 9),
        (&["--seconds=", "--num-frames", "24", "--fps", "23.976"], 24),
    ] {
        // `--seconds=` only keeps the default of these tests away.
        let more: Vec<_> = more.iter().copied().filter(|word| *word != "--seconds=").collect();
        let mut words = vec![
            "generate",
            "a red ball",
            "--size",
            "32x32",
            "-o",
            "length.mp4",
            "--overwrite",
            "--model",
        ];
        let model = desk.model.folder().display().to_string();
        words.push(&model);
        words.extend(more.iter());
        let output = desk.run(&words);
        assert!(
            output.status.success(),
            "{more:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(decoded(&desk.video("length.mp4")).frames.len(), frames, "{more:?}");
    }
    desk.refused(2, &["--frames", "9", "--seconds", "1"], &["cannot be used with"]);
}

#[test]
fn a_number_of_steps_is_not_taken_for_a_step() {
    let desk = Desk::new();
    desk.refused(
        2,
        &["--steps", "4"],
        &["did you mean 4 steps: 1000,750,500,250? (--num-steps 4)"],
    );
    let all = desk.pixels(&["--steps", "1000,500"]);
    assert!(all == desk.pixels(&["--num-steps", "2"]));
    assert!(desk.pixels(&[]) == desk.pixels(&["--num-steps", "4"]));
}

#[test]
fn folders_of_outputs_are_made() {
    let desk = Desk::new();
    let more = [
        "--save-latents",
        "more/latents/a.safetensors",
        "--thumbnail",
        "more/pictures/a.png",
        "--trace",
        "more/traces/a.jsonl",
        "--sidecar",
        "--output",
        "new/deep/a.mp4",
    ];
    desk.command("", &more).assert().success().stdout("new/deep/a.mp4\n");
    for name in [
        "new/deep/a.mp4",
        "new/deep/a.json",
        "more/latents/a.safetensors",
        "more/pictures/a.png",
        "more/traces/a.jsonl",
    ] {
        assert!(desk.video(name).is_file(), "{name}");
    }
    let output = desk.run(&["trace", "more/traces/a.jsonl", "-o", "pages/a.html"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What is refused leaves no folder.
    desk.refused(2, &["--output", "other/deep/a.mp4", "--sink", "99"], &["sink"]);
}

#[test]
fn the_longest_legal_name_is_written() {
    let desk = Desk::new();
    // The sidecar's name is a letter longer.
    for name in [format!("{}.mp4", "a".repeat(250)), format!("{}é.mp4", "b".repeat(248))] {
        desk.command(&name, &["--sidecar"]).assert().success();
        assert_eq!(decoded(&desk.video(&name)).frames.len(), 24);
    }
    let long = format!("{}.mp4", "a".repeat(252));
    let output = desk.command(&long, &[]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("256 bytes") && stderr.contains("shorten it"),
        "{stderr}"
    );
}

#[test]
fn a_folder_gets_the_video_under_its_usual_name() {
    let desk = Desk::new();
    fs::create_dir(desk.video("out")).unwrap();
    for (folder, path) in [("out", "out/video.mp4\n"), ("out/", "out/video.webm\n")] {
        let format = path.trim().rsplit('.').next().unwrap();
        let words = ["--output", folder, "--format", format];
        desk.command("", &words).assert().success().stdout(path);
    }
}
