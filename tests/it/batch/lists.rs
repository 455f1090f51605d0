//! What is rendered, under which names, and what the manifest says of it.

use std::fs;

use deepforcing::{hub::file_hash::sha256, video::read_frames};

use crate::batch::desk::Batches;

#[test]
fn samples_get_seeds_and_the_manifest_tells_everything() {
    let batches = Batches::new();
    batches.write("list.txt", "a red ball\nthe sea / at night\n");
    let more = ["--samples", "2", "--naming", "vbench", "--seed", "7"];
    let (stdout, _) = batches.ends(0, "list.txt", "out", &more);
    let names = [
        "a red ball-0.mp4",
        "a red ball-1.mp4",
        "the sea _ at night-0.mp4",
        "the sea _ at night-1.mp4",
    ];
    let paths: String = names.iter().map(|name| format!("out/{name}\n")).collect();
    assert_eq!(stdout, paths);
    assert_eq!(
        batches.names("out"),
        [&names[..2], &["manifest.jsonl"], &names[2..]].concat()
    );
    let lines = batches.lines("out/manifest.jsonl");
    assert_eq!(lines.len(), 4);
    for (index, (line, name)) in lines.iter().zip(names).enumerate() {
        assert_eq!(line["file"], name);
        assert_eq!(line["seed"], 7 + index as u64 % 2);
        assert_eq!(line["prompt"], ["a red ball", "the sea / at night"][index / 2]);
        assert_eq!(line["pictures"], 8);
        let path = batches.path("out").join(name);
        assert_eq!(line["sha256"], sha256(&path).unwrap());
        assert!(line["times"]["total"].as_f64().unwrap() > 0.0);
    }
    // A video is the one that `generate` makes.
    let alone = batches.desk.render("alone.mp4", &["--seed", "8", "--seconds", "0.5"]);
    let path = batches.path("out").join(names[1]);
    assert!(alone.frames == read_frames(&path, usize::MAX).unwrap().frames);
}

#[test]
fn tables_and_lines_of_json_make_the_same_videos() {
    let batches = Batches::new();
    let lines = [
        r#"{"id": "ball", "prompt": "a red, round ball", "seed": 3}"#,
        r#"{"id": "sea", "prompts": ["a calm sea", "a storm"], "switch": ["3f"], "seconds": 1}"#,
    ];
    batches.write("list.jsonl", lines.join("\n"));
    let table = "\u{feff}id,prompt,prompts,switch,seed,seconds\r\n\
                 ball,\"a red, round ball\",,,3,\r\n\
                 sea,,\"[\"\"a calm sea\"\", \"\"a storm\"\"]\",\"[\"\"3f\"\"]\",,1\r\n";
    batches.write("list.csv", table);
    batches.ends(0, "list.jsonl", "lines", &[]);
    batches.ends(0, "list.csv", "table", &[]);
    let videos = batches.videos("lines");
    assert_eq!(videos.keys().collect::<Vec<_>>(), ["ball.mp4", "sea.mp4"]);
    assert!(videos == batches.videos("table"));
}

#[test]
fn parts_share_a_folder_and_make_all_of_it() {
    let batches = Batches::new();
    batches.write("list.txt", "a\nb\nc\nd\ne\n");
    batches.ends(0, "list.txt", "whole", &["--limit", "4"]);
    let (stdout, _) = batches.ends(0, "list.txt", "out", &["--limit", "4", "--shard", "1/2"]);
    assert_eq!(stdout, "out/00001.mp4\nout/00003.mp4\n");
    let mut slurm = batches.command("list.txt", "out", &["--limit", "4"]);
    slurm.envs([
        ("SLURM_ARRAY_TASK_ID", "5"),
        ("SLURM_ARRAY_TASK_MIN", "5"),
        ("SLURM_ARRAY_TASK_COUNT", "2"),
    ]);
    let (stdout, stderr) = crate::batch::desk::said(&slurm.output().unwrap(), 0);
    assert_eq!(stdout, "out/00000.mp4\nout/00002.mp4\n");
    assert!(
        stderr.contains("SLURM_ARRAY_TASK_ID is set: rendering part 0/2"),
        "{stderr}"
    );
    assert!(batches.videos("whole") == batches.videos("out"));
    // Whoever comes later knows what all parts made.
    let (stdout, stderr) = batches.ends(0, "list.txt", "out", &["--limit", "4"]);
    assert!(stdout.is_empty() && stderr.contains("4 were there already"), "{stderr}");
}

/// The text behind `key:` in the only line of a file that has it, without comment and quotes.
fn field<'a>(text: &'a str, key: &str) -> &'a str {
    let values = text.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches("- ");
        line.strip_prefix(key)?.strip_prefix(": ")
    });
    let values: Vec<_> = values.collect();
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values[0].split(" #").next().unwrap().trim().trim_matches('"')
}

#[test]
fn the_example_of_a_kubernetes_job_renders_every_part_once() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/configs/cluster/batch-job.yaml")).unwrap();
    assert_eq!((field(&text, "apiVersion"), field(&text, "kind")), ("batch/v1", "Job"));
    assert_eq!(field(&text, "completionMode"), "Indexed");
    // Pods that have failed are replaced by others only under this policy, which `podFailurePolicy` needs.
    assert_eq!(field(&text, "restartPolicy"), "Never");
    let completions: usize = field(&text, "completions").parse().unwrap();
    assert_eq!(field(&text, "parallelism"), completions.to_string());
    let (_, count) = text.split_once("- name: JOB_COMPLETIONS\n").unwrap();
    assert_eq!(
        count.lines().next().unwrap().trim(),
        format!("value: \"{completions}\"")
    );
    let command = field(&text, "command");
    assert!(
        command.starts_with("[deepforcing, batch, ") && !command.contains("--shard"),
        "{command}"
    );
    // Kubernetes sets the index.
    let batches = Batches::new();
    let prompts: Vec<_> = (0..completions + 1)
        .map(|number| format!("prompt {number}\n"))
        .collect();
    batches.write("list.txt", prompts.concat());
    let mut made = Vec::new();
    for index in 0..completions {
        let mut pod = batches.command("list.txt", "out", &["--dry-run"]);
        pod.envs([
            ("JOB_COMPLETION_INDEX", index.to_string()),
            ("JOB_COMPLETIONS", completions.to_string()),
        ]);
        let (stdout, stderr) = crate::batch::desk::said(&pod.output().unwrap(), 0);
        let says = format!("JOB_COMPLETION_INDEX is set: rendering part {index}/{completions}");
        assert!(stderr.contains(&says), "{stderr}");
        made.extend(stdout.lines().map(|line| line.split(' ').next().unwrap().to_owned()));
    }
    made.sort();
    let all: Vec<_> = (0..completions + 1).map(|number| format!("{number:05}.mp4")).collect();
    assert_eq!(made, all);
}

#[test]
fn a_dry_run_tells_the_plan_and_writes_nothing() {
    let batches = Batches::new();
    batches.write("list.txt", "a\nb\n");
    let (stdout, _) = batches.ends(0, "list.txt", "out", &["--dry-run"]);
    assert!(stdout.contains("00000.mp4  to render"), "{stdout}");
    assert!(!batches.path("out").exists());
    batches.ends(0, "list.txt", "out", &["--limit", "1"]);
    let (stdout, _) = batches.ends(0, "list.txt", "out", &["--dry-run", "--json"]);
    let states: Vec<serde_json::Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(states[0]["state"], "finished");
    assert_eq!(states[1]["state"], "to render");
}

#[test]
fn long_prompts_get_names_that_fit_and_stay_whole_in_the_manifest() {
    let batches = Batches::new();
    let prompt = "a very long prompt ".repeat(30);
    batches.write("list.txt", &prompt);
    batches.ends(0, "list.txt", "out", &["--naming", "vbench"]);
    let line = &batches.lines("out/manifest.jsonl")[0];
    assert_eq!(line["prompt"], prompt.trim());
    assert_eq!(line["file"].as_str().unwrap().len(), 255);
    assert!(fs::exists(batches.path("out").join(line["file"].as_str().unwrap())).unwrap());
}

#[test]
fn prompts_of_standard_input_and_of_old_systems_are_read() {
    let batches = Batches::new();
    batches.write("list.txt", "a red ball\ra blue cube\ra green heart");
    let (stdout, _) = batches.ends(0, "list.txt", "out", &["--dry-run"]);
    assert_eq!(stdout.lines().count(), 3, "{stdout}");
    let command = batches.command("-", "out", &["--dry-run"]);
    let mut piped = crate::batch::program::program();
    piped.current_dir(batches.path("")).args(command.get_args());
    let output = piped
        .write_stdin("a red ball\n# not me\na blue cube\n")
        .output()
        .unwrap();
    let (stdout, stderr) = crate::batch::desk::said(&output, 0);
    assert_eq!(stdout.lines().count(), 2, "{stdout}");
    assert!(stderr.contains("1 line that begins with # is left out"), "{stderr}");
}

#[test]
fn tables_of_spreadsheets_are_read() {
    let batches = Batches::new();
    batches.write("trailing.csv", "prompt,seed,,\na red ball,1,,\na blue cube,2,,\n");
    batches.write("semicolon.csv", "Prompt;Seed\r\na red ball;1\r\na blue cube;2\r\n");
    for list in ["trailing.csv", "semicolon.csv"] {
        let (stdout, _) = batches.ends(0, list, "out", &["--dry-run"]);
        assert!(
            stdout.contains("seed 1  a red ball\n") && stdout.contains("seed 2  a blue cube\n"),
            "{stdout}"
        );
    }
}

#[test]
fn a_repeated_prompt_is_rendered_once() {
    let batches = Batches::new();
    batches.write("list.txt", "a red ball\na blue cube\na red ball\n");
    let more = ["--samples", "2", "--naming", "vbench", "--dry-run"];
    let (stdout, stderr) = batches.ends(0, "list.txt", "out", &more);
    assert_eq!(stdout.lines().count(), 4, "{stdout}");
    assert!(
        stderr.contains("the prompt of line 3 is as the prompt of line 1"),
        "{stderr}"
    );
    assert!(stderr.contains("4 to render"), "{stderr}");
}

#[test]
fn drawn_seeds_stay_when_a_batch_goes_on() {
    let batches = Batches::new();
    batches.write(
        "list.jsonl",
        "{\"prompt\": \"a red ball\", \"seed\": -1}\n{\"prompt\": \"b\", \"seed\": 3}\n",
    );
    batches.write("list.txt", "a red ball\n");
    for (list, out, more) in [
        ("list.jsonl", "lines", &[][..]),
        ("list.txt", "flags", &["--seed", "random"]),
    ] {
        let (_, stderr) = batches.ends(0, list, out, more);
        let entry = &batches.lines(&format!("{out}/manifest.jsonl"))[0];
        assert!(
            stderr.contains("drawn seed") && stderr.contains(&entry["seed"].to_string()),
            "{stderr}"
        );
        let before = batches.videos(out);
        let (stdout, stderr) = batches.ends(0, list, out, more);
        assert!(stdout.is_empty() && stderr.contains("were there already"), "{stderr}");
        assert!(before == batches.videos(out));
    }
}

#[test]
fn a_dry_run_tells_what_will_be_refused() {
    let batches = Batches::new();
    batches.write(
        "list.jsonl",
        "{\"prompts\": [\"a\", \"b\"], \"switch\": [99]}\n{\"prompt\": \"c\"}\n",
    );
    let (stdout, stderr) = batches.ends(3, "list.jsonl", "out", &["--dry-run"]);
    assert!(
        stdout.contains("cannot be made") && stderr.contains("1 to render"),
        "{stdout}{stderr}"
    );
    let words = [
        "batch",
        "list.jsonl",
        "-o",
        "out",
        "--dry-run",
        "--policy",
        "global",
        "--seconds",
        "86400",
    ];
    let model = batches.desk.model.folder().display().to_string();
    let output = batches
        .desk
        .run(&[&words[..], &["--size", "4096x4096", "--model", &model]].concat());
    let (stdout, _) = crate::batch::desk::said(&output, 3);
    assert!(stdout.contains("memory"), "{stdout}");
}
