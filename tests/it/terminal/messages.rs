//! Colours, quiet and verbose, where things are printed.

use std::process::{Command, Stdio};

use crate::terminal::desk::{Desk, PROGRAM, TOY};

const RED: &str = "\x1b[1;31m";

fn generate<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let words = [
        "generate",
        "a red ball",
        "--model-dir",
        TOY,
        "--seconds",
        "1",
        "-o",
        output,
    ];
    [&words[..], more].concat()
}

#[test]
fn colours_follow_flag_and_variables() {
    let wrong = |desk: Desk, words: &[&str]| {
        let desk = desk.with("DEEPFORCING_SEED", "x");
        let said = desk.run(&[&["config", "show"], words].concat());
        assert_eq!(said.code, Some(2));
        assert!(
            said.stderr.contains("error:") && said.stderr.contains("hint:"),
            "{}",
            said.stderr
        );
        said.stderr.contains(RED)
    };
    assert!(!wrong(Desk::new(), &[]), "stderr is no terminal");
    assert!(wrong(Desk::new().with("CLICOLOR_FORCE", "1"), &[]));
    assert!(!wrong(
        Desk::new().with("CLICOLOR_FORCE", "1").with("NO_COLOR", "1"),
        &[]
    ));
    assert!(wrong(Desk::new().with("NO_COLOR", "1"), &["--color", "always"]));
    assert!(!wrong(Desk::new().with("CLICOLOR_FORCE", "1"), &["--color=never"]));
    // The messages of the parser as well.
    let usage = Desk::new().run(&["config", "shwo", "--color", "always"]).stderr;
    assert!(usage.contains('\x1b'), "{usage}");
    assert!(
        !Desk::new()
            .with("CLICOLOR_FORCE", "1")
            .run(&["--color", "never", "config", "shwo"])
            .stderr
            .contains('\x1b')
    );
}

#[test]
fn quiet_prints_the_result_and_nothing_else() {
    let desk = Desk::new().with("DEEPFORCING_SEDE", "1");
    let said = desk.run(&generate("ball.mp4", &["-q"]));
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (Some(0), "ball.mp4\n", "")
    );
    // Errors are printed all the same.
    let said = desk.run(&generate("ball.mp4", &["--quiet"]));
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""));
    assert!(
        said.stderr.starts_with("error: ") && said.stderr.contains("--overwrite"),
        "{}",
        said.stderr
    );
    desk.refused(&generate("other.mp4", &["-q", "-v"]), 2, &["--quiet", "--verbose"]);
}

#[test]
fn lines_stand_in_for_the_live_line_where_there_is_no_terminal() {
    let desk = Desk::new();
    let said = desk.run(&generate("ball.mp4", &[]));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(!said.stderr.contains(['\x1b', '\r']), "{:?}", said.stderr);
    assert!(said.stderr.contains("first picture after"), "{}", said.stderr);
    assert!(said.stderr.contains("16 pictures, 1.00 s"), "{}", said.stderr);
    assert!(!said.stderr.contains("denoise"), "{}", said.stderr);
}

#[test]
fn verbose_tells_the_stages_apart() {
    let desk = Desk::new();
    let said = desk.run(&generate("ball.mp4", &["-v"]));
    // On a busy machine there are lines on the way as well.
    let last = said.stderr.lines().rfind(|line| line.contains("denoise")).unwrap();
    for part in ["1.0/1.0 s", "denoise ", "decode ", "encode ", "fps", "MB"] {
        assert!(last.contains(part), "`{part}` is not in {last}");
    }
}

#[test]
fn log_filters_come_from_variables() {
    let desk = Desk::new().with("DEEPFORCING_LOG", "deepforcing=nonsense=x");
    let said = desk.run(&["config", "path"]);
    assert_eq!(said.code, Some(0));
    assert!(
        said.stderr
            .contains("warning: DEEPFORCING_LOG is `deepforcing=nonsense=x`"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_preview_without_a_terminal_is_off_and_says_so() {
    let desk = Desk::new().with("TERM", "xterm-kitty");
    let said = desk.run(&generate("ball.mp4", &["--preview"]));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.contains("note: no preview: stderr is no terminal"),
        "{}",
        said.stderr
    );
    assert!(!said.stderr.contains('\x1b') && !said.stdout.contains('\x1b'));
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let desk = Desk::new();
    for words in [
        &["config", "show"][..],
        &["doctor"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
    ] {
        let mut child = Command::new(PROGRAM)
            .env_clear()
            .envs(desk.variables().iter().cloned())
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{words:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let desk = Desk::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(PROGRAM)
        .env_clear()
        .envs(desk.variables().iter().cloned())
        .args(["config", "show"])
        .stdout(full)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("error: cannot write to stdout"), "{stderr}");
}
