//! What `report` says, word for word. `cargo insta review` shows changes.

use std::fs;

use crate::report::{
    folder::{Folder, Shape},
    program::program,
};

/// Exit code and what `report` with `words` says in the folder above `folder`.
fn said(folder: &Folder, words: &[&str]) -> String {
    let output = program()
        .current_dir(folder.path())
        .arg("report")
        .args(words)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(!stderr.contains("panicked"), "{stderr}");
    let code = output.status.code().unwrap();
    format!(
        "$ deepforcing report {}\n{stderr}{stdout}exit code {code}\n",
        words.join(" ")
    )
}

macro_rules! snapshot {
    ($name:literal, $said:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($name, $said);
        })
    };
}

#[test]
fn folders_that_cannot_be() {
    let folder = Folder::empty();
    fs::write(folder.file("file.txt"), "x").unwrap();
    for name in ["other", "begun", "broken", "plan"] {
        fs::create_dir(folder.file(name)).unwrap();
    }
    fs::write(folder.file("begun/manifest.jsonl"), "").unwrap();
    fs::write(folder.file("broken/manifest.jsonl"), "\n{\"file\": 3}\n").unwrap();
    let line = "{\"file\": \"a.mp4\", \"seed\": 1, \"prompt\": \"p\"}\n";
    fs::write(folder.file("plan/manifest.jsonl"), line).unwrap();
    fs::write(folder.file("plan/sweep.json"), "{\"format\": 1").unwrap();
    let all = ["nowhere", "file.txt", "other", "begun", "broken", "plan"].map(|name| said(&folder, &[name]));
    snapshot!("folders", all.join("\n"));
}

#[test]
fn what_is_not_as_it_should_be() {
    let folder = Folder::sweep(Shape {
        sinks: vec![0, 4],
        seeds: vec![0],
        ..Shape::default()
    });
    fs::remove_file(folder.file("sink-0/00000-0.mp4")).unwrap();
    let damaged = folder.file("sink-4/00001-0.mp4");
    let bytes = fs::read(&damaged).unwrap();
    fs::write(&damaged, vec![0; bytes.len()]).unwrap();
    let text = folder.read("manifest.jsonl");
    fs::write(folder.file("manifest.jsonl"), format!("nonsense\n{text}{{\"file\"")).unwrap();
    snapshot!("notes", said(&folder, &["."]));
}

#[test]
fn a_page_is_written_into_a_folder_that_may_not_be() {
    let folder = Folder::sweep(Shape {
        sinks: vec![0],
        prompts: vec!["p".into()],
        seeds: vec![0],
        ..Shape::default()
    });
    // In the way of the plots.
    fs::write(folder.file("plots"), "x").unwrap();
    let said = said(&folder, &["."]);
    assert!(
        said.contains("cannot write `./plots/") && said.ends_with("exit code 1\n"),
        "{said}"
    );
}
