//! What the program says to bad input, word for word. `cargo insta review` shows changes.

use std::fs;

use crate::trace::program::Desk;

/// Exit code and everything that a run says.
fn said(desk: &Desk, words: &[&str]) -> String {
    let output = desk.run(words);
    assert!(
        output.stdout.is_empty(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{words:?}: {stderr}");
    let model = desk.model.folder().display().to_string();
    let here = desk.video("").display().to_string();
    let stderr = stderr.replace(&model, "MODEL").replace(&here, "");
    let code = output.status.code().unwrap();
    format!(
        "$ deepforcing {}\n{stderr}exit code {code}\n",
        words.join(" ").replace(&model, "MODEL")
    )
}

fn generate(desk: &Desk, words: &[&str]) -> String {
    let model = desk.model.folder().display().to_string();
    let fixed = ["--model", &model, "--size", "32x32", "--seconds", "1"];
    said(desk, &[&["generate", "a"], words, &fixed].concat())
}

macro_rules! snapshot {
    ($name:literal, $said:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($name, $said);
        })
    };
}

#[test]
fn what_cannot_be_recorded() {
    let desk = Desk::new();
    fs::write(desk.video("there.jsonl"), "precious").unwrap();
    let all: Vec<_> = [
        &["--attention", "0"][..],
        &["--trace", "t.jsonl", "--attention-every", "2"],
        &["--trace", "t.jsonl", "--attention", "0,9"],
        &["--trace", "t.jsonl", "--attention", "all:0,2"],
        &["--trace", "t.jsonl", "--attention", "first"],
        &["--trace", "t.jsonl", "--attention", "3-1"],
        &["--trace", "t.jsonl", "--attention", "0", "--attention-every", "0"],
        &["--trace", "there.jsonl"],
        &["--trace", "same.mp4", "-o", "same.mp4"],
    ]
    .iter()
    .map(|words| generate(&desk, words))
    .collect();
    snapshot!("trace_recording", all.join("\n"));
    assert_eq!(fs::read_to_string(desk.video("there.jsonl")).unwrap(), "precious");
    assert_eq!(desk.names(), ["there.jsonl"]);
}

#[test]
fn what_cannot_be_drawn() {
    let desk = Desk::new();
    let trace = desk.video("run.jsonl").display().to_string();
    desk.render("run.mp4", &["--trace", &trace]);
    let run = fs::read_to_string(desk.video("run.jsonl")).unwrap();
    let header = run.lines().next().unwrap();
    let newer = header.replace("\"format\":1,\"deepforcing\":\"", "\"format\":2,\"deepforcing\":\"9.");
    let version = env!("CARGO_PKG_VERSION");
    for (name, text) in [
        ("empty.jsonl", String::new()),
        ("prompts.txt", "a red ball\n".into()),
        ("prompts.jsonl", "{\"prompt\": \"a red ball\"}\n".into()),
        (
            "newer.jsonl",
            newer.replace(version, "9.0.0").replace("9.9.0.0", "9.0.0") + "\n",
        ),
        ("sizes.jsonl", header.replace("\"rows\":2", "\"rows\":0") + "\n"),
        ("header.jsonl", format!("{header}\n")),
        ("half.jsonl", header[..header.len() / 2].to_owned()),
    ] {
        fs::write(desk.video(name), text).unwrap();
    }
    fs::write(desk.video("there.html"), "precious").unwrap();
    let all: Vec<_> = [
        &["missing.jsonl"][..],
        &["empty.jsonl"],
        &["prompts.txt"],
        &["prompts.jsonl"],
        &["run.mp4"],
        &["newer.jsonl"],
        &["sizes.jsonl"],
        &["header.jsonl"],
        &["half.jsonl"],
        &["run.jsonl", "--layer", "2"],
        &["run.jsonl", "--layer", "zero"],
        &["run.jsonl", "--video", "missing.mp4"],
        &["run.jsonl", "--video", "prompts.txt"],
        &["run.jsonl", "-o", "there.html"],
    ]
    .iter()
    .map(|words| said(&desk, &[&["trace"], *words].concat()))
    .collect();
    snapshot!("trace_drawing", all.join("\n"));
    assert_eq!(fs::read_to_string(desk.video("there.html")).unwrap(), "precious");
}
