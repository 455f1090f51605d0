//! Completion scripts and man pages.

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::terminal::desk::Desk;

/// Whether a program is there to check with.
fn there(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status();
    found.is_ok_and(|status| status.success())
}

#[test]
fn every_shell_gets_a_script_that_knows_every_command() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = desk.stdout(&["completions", shell]);
        for word in ["generate", "config", "doctor", "completions", "man", "seconds", "quiet"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        let path = desk.write(&format!("script.{shell}"), &script);
        if ["bash", "zsh", "fish"].contains(&shell) && there(shell) {
            let checked = Command::new(shell).arg("-n").arg(&path).output().unwrap();
            assert!(
                checked.status.success(),
                "{shell}: {}",
                String::from_utf8_lossy(&checked.stderr)
            );
        }
    }
    desk.refused(&["completions", "basch"], 2, &["bash"]);
}

#[test]
fn bash_completes_commands_and_flags() {
    if !there("bash") {
        return;
    }
    let desk = Desk::new();
    let script = desk.write("script", &desk.stdout(&["completions", "bash"]));
    // As bash calls it: the command, the word to complete, the word before.
    let complete = |words: &str| {
        let all: Vec<_> = words.split(' ').collect();
        let (last, word, before) = (all.len() - 1, all[all.len() - 1], all[all.len() - 2]);
        let ask = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={last}; _deepforcing deepforcing '{word}' '{before}'; echo \
             ${{COMPREPLY[@]}}",
            script.display()
        );
        let output = Command::new("bash").args(["-c", &ask]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete("deepforcing doc"), "doctor\n");
    assert!(complete("deepforcing generate --sec").contains("--seconds"));
}

#[test]
fn every_command_has_a_man_page() {
    let desk = Desk::new();
    let folder = desk.home().join("man/man1");
    desk.stdout(&["man", "--out", folder.to_str().unwrap()]);
    let mut names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for page in [
        "deepforcing.1",
        "deepforcing-generate.1",
        "deepforcing-config-show.1",
        "deepforcing-doctor.1",
    ] {
        assert!(names.contains(&page.to_string()), "{page} is not in {names:?}");
    }
    for name in &names {
        let page = fs::read_to_string(folder.join(name)).unwrap();
        for part in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS"] {
            assert!(page.contains(part), "{name}: {part}");
        }
        if there("groff") {
            let checked = Command::new("groff")
                .args(["-man", "-Tutf8", "-Kutf8", "-ww", "-z"])
                .arg(folder.join(name))
                .output()
                .unwrap();
            let complaints = String::from_utf8_lossy(&checked.stderr);
            assert!(
                checked.status.success() && complaints.is_empty(),
                "{name}: {complaints}"
            );
        }
    }
}

#[test]
fn one_page_is_printed() {
    let desk = Desk::new();
    let page = desk.stdout(&["man", "config", "show"]);
    assert!(
        page.contains("deepforcing\\-config\\-show") || page.contains("deepforcing-config-show"),
        "{page}"
    );
    assert!(page.contains("\\-\\-json"));
    assert!(desk.stdout(&["man"]).contains("generate"));
    desk.refused(
        &["man", "genrate"],
        1,
        &["no command `genrate`; did you mean `generate`?"],
    );
}

#[test]
fn help_has_an_example_everywhere() {
    let desk = Desk::new();
    let commands: [&[&str]; 7] = [
        &[],
        &["generate"],
        &["config"],
        &["config", "show"],
        &["config", "path"],
        &["doctor"],
        &["completions"],
    ];
    for command in commands.into_iter().chain([&["man"][..]]) {
        let help = desk.stdout(&[command, &["--help"]].concat());
        assert!(help.contains("Example"), "{command:?}: {help}");
        assert!(
            help.lines().all(|line| line.chars().count() <= 120),
            "{command:?}: {help}"
        );
    }
}
