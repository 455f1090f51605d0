//! Several videos with one load of the model, and where each goes.

use std::fs;

use crate::program::{Desk, decoded, program};

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
fn without_any_model_the_bundled_one_is_used_and_said_so() {
    let desk = Desk::new();
    let path = desk.video("toy.mp4");
    let mut command = program();
    command.current_dir(path.parent().unwrap());
    command.args([
        "generate",
        "a red ball rolling over the hills",
        "--seconds",
        "0.5",
        "-o",
        "toy.mp4",
    ]);
    let note = predicates::str::contains("bundled model `toy`");
    command.assert().success().stdout("toy.mp4\n").stderr(note);
    assert_eq!(decoded(&path).frames.len(), 8);
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
