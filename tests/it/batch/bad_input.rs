//! What is refused, what is skipped, and what stops a batch.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use image::{Rgb, RgbImage};

use crate::batch::{
    desk::{Batches, said},
    program::{PROGRAM, environment},
};

#[test]
fn prompt_files_that_cannot_be_are_refused() {
    let batches = Batches::new();
    let long = "x".repeat(1 << 20);
    let cases: [(&str, &[u8], &str); 9] = [
        ("empty.txt", b"", "holds no prompt"),
        ("empty.csv", b"", "holds no prompt"),
        ("binary.txt", b"\x7fELF\x02\x01\0\0", "is NUL"),
        ("binary.csv", b"prompt\n\xff\x80", "line 2: byte 1 (0xff"),
        ("long.txt", long.as_bytes(), "line 1: the line has more than"),
        (
            "keys.jsonl",
            br#"{"promt": "a"}"#,
            "unknown key `promt`; did you mean `prompt`?",
        ),
        ("keys.csv", b"prompt,sed\na,1\n", "line 1: unknown key `sed`"),
        (
            "twice.csv",
            b"id,prompt\nx,a\nx,b\n",
            "the id `x` stands in line 2 and again in line 3",
        ),
        (
            "cells.csv",
            b"prompt,seed\na,b,c\n",
            "line 2: not a row of a table: 3 cells",
        ),
    ];
    for (name, content, says) in cases {
        batches.write(name, content);
        let (_, stderr) = batches.ends(1, name, "out", &[]);
        assert!(stderr.contains(says) && stderr.contains(name), "{stderr}");
    }
    assert!(!batches.path("out").exists());
}

#[test]
fn byte_order_marks_and_line_ends_of_windows_are_nothing() {
    let batches = Batches::new();
    batches.write("list.txt", "\u{feff}a red ball\r\n\r\ngreen hills\r\n");
    batches.ends(0, "list.txt", "out", &[]);
    let lines = batches.lines("out/manifest.jsonl");
    let prompts: Vec<_> = lines.iter().map(|line| line["prompt"].as_str().unwrap()).collect();
    assert_eq!(prompts, ["a red ball", "green hills"]);
}

#[test]
fn wrong_requests_are_refused() {
    let batches = Batches::new();
    batches.write("list.txt", "a/b\na_b\n");
    batches.write("file", "");
    let cases: [(&[&str], &str); 6] = [
        (&["--naming", "vbench"], "would both be written to `a_b-0.mp4`"),
        (&["--shard", "3/2"], "the last of 2 is 1/2"),
        (
            &["--samples", "2", "--seed", "18446744073709551615"],
            "choose a lower seed",
        ),
        (&["--format", "png"], "one file per video"),
        (&["--sink", "100"], "sink"),
        (&["--skip-existing", "--overwrite"], "cannot be used with"),
    ];
    for (more, says) in cases {
        let (_, stderr) = batches.ends(2, "list.txt", "out", more);
        assert!(stderr.contains(says), "{stderr}");
    }
    let mut command = batches.command("list.txt", "out", &[]);
    let output = command.env("JOB_COMPLETION_INDEX", "0").output().unwrap();
    let (_, stderr) = said(&output, 2);
    assert!(stderr.contains("JOB_COMPLETIONS is not"), "{stderr}");
    assert!(!batches.path("out").exists());
    for folder in ["file", "file/out", "/proc/out"] {
        let (_, stderr) = batches.ends(1, "list.txt", folder, &[]);
        assert!(
            stderr.contains(&format!("cannot write in folder `{folder}`")),
            "{stderr}"
        );
    }
}

#[test]
fn files_of_others_are_not_replaced() {
    let batches = Batches::new();
    batches.write("list.txt", "a\nb\n");
    fs::create_dir(batches.path("out")).unwrap();
    batches.write("out/00001.mp4", "mine");
    let (_, stderr) = batches.ends(1, "list.txt", "out", &[]);
    assert!(
        stderr.contains("00001.mp4") && stderr.contains("in no manifest"),
        "{stderr}"
    );
    batches.ends(0, "list.txt", "out", &["--skip-existing"]);
    assert_eq!(batches.videos("out")["00001.mp4"], b"mine");
    batches.ends(0, "list.txt", "out", &["--overwrite"]);
    assert_ne!(batches.videos("out")["00001.mp4"], b"mine");
}

#[test]
fn a_bad_item_is_skipped_and_can_be_fed_back() {
    let batches = Batches::new();
    let lines = [
        r#"{"prompt": "a", "image": "later.png"}"#,
        r#"{"prompts": ["b", "c"], "switch": [99]}"#,
        r#"{"prompt": "d"}"#,
    ];
    batches.write("list.jsonl", lines.join("\n"));
    batches.write("later.png", "no image");
    let (stdout, stderr) = batches.ends(3, "list.jsonl", "out", &[]);
    assert_eq!(stdout, "out/00002.mp4\n");
    for part in [
        "the prompt of line 1",
        "later.png",
        "the prompt of line 2",
        "1 rendered, 2 could not be made",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    let failed = batches.lines("out/failed.jsonl");
    assert_eq!(failed.len(), 2);
    assert!(failed[0]["error"].as_str().unwrap().contains("later.png"));
    assert_eq!(failed[1]["switch"][0], 99.0);
    let settings = &failed[1]["settings"];
    assert_eq!(
        (&settings["size"], &settings["seconds"]),
        (&"32x32".into(), &"0.5".into())
    );
    let model = settings["model"].as_str().unwrap();
    assert_eq!(model, batches.desk.model.folder().display().to_string());
    // The file alone says what to make.
    let alone = crate::batch::program::program()
        .current_dir(batches.path(""))
        .args(["batch", "out/failed.jsonl", "-o", "out", "--dry-run"])
        .output()
        .unwrap();
    let (stdout, stderr) = said(&alone, 3);
    assert!(
        stdout.contains("00000.mp4") && stderr.contains("size = 32x32"),
        "{stdout}{stderr}"
    );
    // Once the picture can be read, the list of failures is rendered under the same names.
    let picture = RgbImage::from_pixel(32, 32, Rgb([200, 30, 30]));
    picture.save(batches.path("later.png")).unwrap();
    let (stdout, _) = batches.ends(3, "out/failed.jsonl", "out", &[]);
    assert_eq!(stdout, "out/00000.mp4\n");
    let failed = batches.lines("out/failed.jsonl");
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["id"], "00001");
    let mut repaired = failed[0].clone();
    repaired["switch"] = serde_json::json!(["3f"]);
    repaired["seconds"] = serde_json::json!(1);
    batches.write("repaired.jsonl", repaired.to_string());
    batches.ends(0, "repaired.jsonl", "out", &[]);
    assert_eq!(
        batches.names("out"),
        ["00000.mp4", "00001.mp4", "00002.mp4", "manifest.jsonl"]
    );
}

#[test]
fn two_processes_do_not_share_a_part() {
    for (mine, others, refused) in [
        (&[][..], &[][..], true),
        (&["--shard", "0/2"], &["--shard", "0/2"], true),
        (&["--shard", "0/2"], &[], true),
        (&["--shard", "0/2"], &["--shard", "1/2"], false),
    ] {
        // A folder for each: what a killed process leaves would look like the work of the next.
        let batches = Batches::new();
        batches.write("list.txt", "a\nb\n");
        let long = [mine, &["--seconds", "3600"]].concat();
        let mut child = batches.start("list.txt", "out", &long);
        let work = if mine.is_empty() {
            "out/.work"
        } else {
            "out/.work-0-of-2"
        };
        let start = Instant::now();
        while !batches.path(work).join(".video.partial.mp4").exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "nothing begins");
            std::thread::sleep(Duration::from_millis(10));
        }
        let output = batches.run("list.txt", "out", others);
        child.kill().unwrap();
        child.wait().unwrap();
        let (_, stderr) = said(&output, i32::from(refused));
        let says = stderr.contains("another process works in folder `out`") && stderr.contains("--shard I/N");
        assert_eq!(says, refused, "{stderr}");
        if refused && mine.is_empty() == others.is_empty() {
            assert!(stderr.contains(&format!("(process {})", child.id())), "{stderr}");
        }
    }
}

#[test]
#[cfg(unix)]
fn a_full_disk_stops_the_batch() {
    let batches = Batches::new();
    batches.write("list.txt", "a\nb\nc\n");
    let batch = batches.command("list.txt", "out", &["--seconds", "60", "--format", "rgb"]);
    // A limit on the size of files fails as a full disk does.
    let mut command = Command::new("bash");
    command.env_clear().envs(environment()).current_dir(batches.path(""));
    command.args(["-c", "ulimit -f 256; trap '' XFSZ; exec \"$0\" \"$@\"", PROGRAM]);
    let output = command.args(batch.get_args()).output().unwrap();
    let (stdout, stderr) = said(&output, 1);
    assert!(stdout.is_empty() && stderr.contains("ulimit -f"), "{stderr}");
    assert!(!stderr.contains("is skipped"), "{stderr}");
    assert!(batches.lines("out/manifest.jsonl").is_empty() && batches.videos("out").is_empty());
    assert!(!batches.path("out/failed.jsonl").exists());
}
