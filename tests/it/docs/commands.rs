//! Every `deepforcing …` line of a code block in README, CONTRIBUTING and docs, run by the built program.
//!
//! `generate`, `batch` and `sweep` run with `--dry-run`, and with the toy model where the line names none. The other
//! commands run as they stand. What cannot run everywhere ([`ELSEWHERE`]) is parsed only, by asking for `--help` at the
//! end: flags and values before it must be right.

use std::{collections::BTreeMap, path::Path};

use rayon::prelude::*;

use crate::docs::{
    desk::{desk, program},
    pages::{Page, guides},
};

/// What a line has in it that cannot run on every machine.
const ELSEWHERE: &[(&str, &str)] = &[
    ("--device cuda", "needs a GPU"),
    ("bench ", "takes minutes"),
    ("convert ", "needs a model's file"),
    ("--lora ", "needs a LoRA"),
    ("--resume", "needs a run that was stopped"),
    ("--model matrix-game-2", "needs downloaded files"),
    ("models pull", "downloads"),
    ("models verify", "needs downloaded files"),
    ("models path", "needs downloaded files"),
    ("models remove", "needs downloaded files"),
    (
        "decode ball.safetensors --vae tae",
        "needs the tiny decoder, which the toy model lacks",
    ),
    ("--layer 0,5,10-12", "means a model of more layers than the toy has"),
];

/// The words of a line as a shell would make them, up to a pipe, a redirection, a comment, or what a help text says
/// beside a command (two spaces). A substituted command stands for a prompt.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '$') if characters.peek() == Some(&'(') => {
                while characters.next().is_some_and(|c| c != ')') {}
                word.get_or_insert_default().push_str("a red ball");
            }
            (None, ' ') => {
                words.extend(word.take());
                if characters.peek() == Some(&' ') {
                    break;
                }
            }
            (None, '|' | '>' | '#' | '&') => break,
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Commands of the pages, each with a page that has it; those inside `$(…)` too.
fn commands() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for page in guides() {
        let code = Page::read(&page).code;
        let trimmed: Vec<&str> = code.iter().map(|line| line.trim()).collect();
        let joined = trimmed.join("\n").replace(" \\\n", " ");
        for line in joined.lines() {
            let line = line.trim();
            let inner = line.match_indices("$(deepforcing ").map(|(at, _)| {
                let rest = &line[at + 2..];
                &rest[..rest.find([')', '|']).unwrap_or(rest.len())]
            });
            let mut outer = line;
            // Variables before the command.
            while let Some((first, rest)) = outer.split_once(' ')
                && first.contains('=')
                && first.starts_with(|c: char| c.is_ascii_uppercase())
            {
                outer = rest;
            }
            let outer = Some(outer).filter(|outer| outer.starts_with("deepforcing "));
            for command in inner.chain(outer) {
                found
                    .entry(command.trim().to_string())
                    .or_insert_with(|| page.display().to_string());
            }
        }
    }
    found
}

/// The words that are run for a line.
fn run_words(line: &str, folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for word in &words(line)[1..] {
        match word.strip_prefix("~/") {
            Some(rest) => all.push(folder.join(rest).display().to_string()),
            None if word == "out/*.mp4" => all.extend(videos(folder)),
            None => all.push(word.clone()),
        }
    }
    let has = |flag: &str| all.iter().any(|word| word == flag);
    if ELSEWHERE.iter().any(|(part, _)| line.contains(part)) {
        all.push("--help".into());
        return all;
    }
    if ["generate", "batch", "sweep"].contains(&all[0].as_str()) {
        let toy = (!has("--model")).then_some(["--model", "toy"]);
        let dry = (!has("--dry-run")).then_some("--dry-run");
        let more: Vec<_> = toy.into_iter().flatten().chain(dry).map(String::from).collect();
        all.extend(more);
    }
    all
}

/// Takes away the files that a command is to write: most lines of the pages write what others read.
fn make_room(words: &[String], folder: &Path) {
    let output = |flag: &str| ["-o", "--output", "--save-latents", "--trace", "--thumbnail"].contains(&flag);
    for pair in words.windows(2).filter(|pair| output(&pair[0])) {
        let path = folder.join(&pair[1]);
        if path.is_file() {
            std::fs::remove_file(&path).unwrap();
        }
    }
}

/// As `out/*.mp4` in a shell.
fn videos(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder.join("out")).unwrap();
    let names = names.map(|entry| format!("out/{}", entry.unwrap().file_name().to_string_lossy()));
    names.filter(|name| name.ends_with(".mp4")).collect()
}

#[test]
fn every_command_of_the_pages_works() {
    let all = commands();
    assert!(all.len() > 60, "only {} commands were found", all.len());
    let run = |(line, page): (&String, &String)| {
        let finished = line.contains("report ") || line.contains("metrics out/");
        let desk = desk(finished);
        let words = run_words(line, desk.path());
        make_room(&words, desk.path());
        let output = program(desk.path()).args(&words).output().unwrap();
        let (told, status) = (String::from_utf8_lossy(&output.stderr), output.status);
        (!status.success()).then(|| format!("{page}: {line}\n  run as {words:?}: {status}\n{told}"))
    };
    let wrong: Vec<_> = all.par_iter().filter_map(run).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} commands:\n{}",
        wrong.len(),
        all.len(),
        wrong.join("\n")
    );
}

#[test]
fn commands_named_in_a_sentence_exist() {
    let folder = tempfile::tempdir().unwrap();
    let mut known = BTreeMap::new();
    for page in guides() {
        for span in Page::read(&page).spans() {
            let Some(name) = span
                .strip_prefix("deepforcing ")
                .and_then(|rest| rest.split(' ').next())
            else {
                continue;
            };
            let there = *known.entry(name.to_string()).or_insert_with(|| {
                let output = program(folder.path()).args([name, "--help"]).output().unwrap();
                output.status.success()
            });
            assert!(
                there || name.starts_with(['-', '…']),
                "{}: there is no command `{span}`",
                page.display()
            );
        }
    }
    assert!(known.len() > 5, "{known:?}");
}

#[test]
fn lines_are_cut_into_words_as_a_shell_does() {
    let cut = |line: &str| words(line).join("|");
    assert_eq!(
        cut("deepforcing generate \"a red  ball\" -o 'out/{id}.mp4'"),
        "deepforcing|generate|a red  ball|-o|out/{id}.mp4"
    );
    assert_eq!(cut("deepforcing man | man -l -"), "deepforcing|man");
    assert_eq!(
        cut("deepforcing models list      what there is"),
        "deepforcing|models|list"
    );
    assert_eq!(
        cut("deepforcing generate \"$(deepforcing prompts | jq)\" --json"),
        "deepforcing|generate|a red ball|--json"
    );
    assert_eq!(cut("deepforcing generate '' -o x > y"), "deepforcing|generate||-o|x");
}

#[test]
fn a_wrong_flag_or_value_is_found_even_where_a_line_is_only_parsed() {
    let desk = desk(false);
    for line in [
        "deepforcing bench --no-such-flag",
        "deepforcing generate x --device cuda --seconds many",
    ] {
        let output = program(desk.path())
            .args(run_words(line, desk.path()))
            .output()
            .unwrap();
        assert!(!output.status.success(), "{line}");
    }
}
