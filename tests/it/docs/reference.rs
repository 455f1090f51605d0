//! `docs/reference.md` is what the program says of its commands and flags. `make reference` writes it.

use std::{fs, path::Path};

use crate::docs::{
    desk::must,
    pages::{read, root},
};

/// Set to write the page in place of comparing it.
const WRITE: &str = "DEEPFORCING_WRITE_REFERENCE";

const PAGE: &str = "docs/reference.md";

const INTRODUCTION: &str = "\
# Reference

All commands and flags, as `--help` prints them. Written by `make reference` from the program itself: change it there.
";

/// The help of a command and of those below it, in the order in which it lists them.
fn sections(command: &[&str], folder: &Path, page: &mut String) {
    let mut words = command.to_vec();
    words.push("--help");
    let help = String::from_utf8(must(folder, &words).stdout).unwrap();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    let name = ["deepforcing"]
        .iter()
        .chain(command)
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    page.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim()));
    let listed = lines.iter().skip_while(|line| **line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with("  ") || line.is_empty());
    for line in listed {
        // A command stands two spaces in; its description may go on below, further in.
        let Some(below) = line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) else {
            continue;
        };
        let below = below.split(' ').next().unwrap_or_default();
        if !below.is_empty() && below != "help" {
            sections(&[command, &[below]].concat(), folder, page);
        }
    }
}

#[test]
fn the_reference_is_what_the_program_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut page = INTRODUCTION.to_string();
    sections(&[], folder.path(), &mut page);
    for command in ["generate", "models pull", "config show", "man"] {
        assert!(
            page.contains(&format!("\n## deepforcing {command}\n")),
            "{command} was not found"
        );
    }
    if std::env::var_os(WRITE).is_some() {
        fs::write(root().join(PAGE), page).unwrap();
        return;
    }
    let written = read(Path::new(PAGE));
    let differs = written.lines().zip(page.lines()).position(|(old, new)| old != new);
    let line = differs.unwrap_or_else(|| written.lines().count().min(page.lines().count()));
    assert!(
        written == page,
        "{PAGE} is not what the program says, from line {} on: run `make reference`\n  page:    {:?}\n  program: {:?}",
        line + 1,
        written.lines().nth(line),
        page.lines().nth(line)
    );
}
