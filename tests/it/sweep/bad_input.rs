//! What a sweep refuses, word for word. `cargo insta review` shows changes.

use std::time::{Duration, Instant};

use crate::sweep::sweeps::{Sweeps, THREE};

/// Exit code and everything that a sweep of `file` says that must not make a folder.
fn said(sweeps: &Sweeps, file: &str, more: &[&str]) -> String {
    let output = sweeps.run(file, "out", more);
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(!sweeps.desk.path("out").exists(), "{more:?}");
    let code = output.status.code().unwrap();
    format!(
        "$ deepforcing sweep {file} -o out {}\n{stderr}exit code {code}\n",
        more.join(" ")
    )
}

macro_rules! snapshot {
    ($name:literal, $said:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($name, $said.join("\n"));
        })
    };
}

#[test]
fn grids() {
    let sweeps = Sweeps::new();
    let cases: [&[&str]; 13] = [
        &["--sink", "13"],
        &["--sink", "13..32"],
        &["--sink", "10,13", "--illegal", "refuse"],
        &["--seed", "9..2"],
        &["--seed", "0..18446744073709551615"],
        &["--sink", "0.."],
        &["--sink", "4,,9"],
        &["--policy", "fifo,deepsink"],
        &["--steps", "1000,1000"],
        &["--shift", "5,0"],
        &["--sink", "0..4999", "--window", "0..4999"],
        &["--illegal", "maybe"],
        &["--format", "png"],
    ];
    snapshot!("grids", cases.map(|more| said(&sweeps, "list.txt", more)));
}

#[test]
fn presets() {
    let sweeps = Sweeps::new();
    let files = [
        ("unknown.toml", "[cache]\nwindow = 21\nsnik = [0, 4]\n"),
        ("outside.toml", "sink = [0, 4]\n"),
        ("word.toml", "[cache]\nsink = [0, \"x\"]\n"),
        ("down.toml", "seed = \"9..2\"\n"),
        ("nothing.toml", "seconds = 3\n"),
        ("syntax.toml", "[cache\n"),
    ];
    let mut all = Vec::new();
    for (name, text) in files {
        sweeps.desk.write(name, text);
        all.push(said(&sweeps, "list.txt", &["--preset", name]));
    }
    let names: [&[&str]; 4] = [
        &["--preset", "paper-snik"],
        &["--preset", "deep-forcing"],
        &["--preset", "none.toml"],
        &["--preset", "paper-components", "--policy", "fifo"],
    ];
    all.extend(names.map(|more| said(&sweeps, "list.txt", more)));
    snapshot!("presets", all);
}

#[test]
fn prompt_files() {
    let sweeps = Sweeps::new();
    let files: [(&str, &[u8]); 4] = [
        ("empty.txt", b""),
        ("binary.txt", b"\x7fELF\x02\x01\0\0"),
        (
            "ids.jsonl",
            b"{\"id\": \"a:b\", \"prompt\": \"a\"}\n{\"id\": \"a?b\", \"prompt\": \"b\"}\n",
        ),
        ("keys.jsonl", b"{\"promt\": \"a\"}\n"),
    ];
    let mut all = Vec::new();
    for (name, bytes) in files {
        sweeps.desk.write(name, bytes);
        all.push(said(&sweeps, name, &["--sink", "4,9"]));
    }
    all.push(said(&sweeps, "none.txt", &[]));
    snapshot!("prompt_files", all);
}

#[test]
fn a_plan_that_is_damaged_is_named() {
    let sweeps = Sweeps::new();
    std::fs::create_dir(sweeps.desk.path("out")).unwrap();
    sweeps.desk.write("out/sweep.json", "{\"format\": 1}");
    let (_, stderr) = sweeps.ends(1, "out", &THREE);
    assert!(
        stderr.contains("`out/sweep.json`") && stderr.contains("remove it"),
        "{stderr}"
    );
}

#[test]
fn two_processes_do_not_share_a_folder() {
    let sweeps = Sweeps::new();
    let long = [&THREE[..], &["--seconds", "3600"]].concat();
    let mut child = sweeps.start("out", &long);
    let start = Instant::now();
    while !sweeps.desk.path("out/.work/.video.partial.mp4").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing begins");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (_, stderr) = sweeps.ends(1, "out", &long);
    let id = child.id();
    child.kill().unwrap();
    child.wait().unwrap();
    for part in [
        "another process works in folder `out`",
        &format!("(process {id})"),
        "--shard I/N",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
}
