//! The program ffmpeg in place of its libraries: it keeps the promises of the linked ones.

use std::{path::PathBuf, process::Command};

/// The tests that both must pass.
const SHARED: &[&str] = &[
    "video::encoder::",
    "video::failures::",
    "video::forms::",
    "video::images::",
    "video::metadata::",
    "video::reading::",
    "video::targets::",
];

/// Those that ask for what only the libraries tell.
const LINKED_ALONE: &[&str] = &[];

/// The program in the `PATH`; says so where there is none.
pub fn ffmpeg() -> Option<PathBuf> {
    let found = std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join("ffmpeg"))
        .find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: no program ffmpeg is in the PATH");
    }
    found
}

#[test]
fn the_tests_of_the_libraries_hold_for_the_program() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.args(SHARED).env("DEEPFORCING_FFMPEG", ffmpeg);
    for name in LINKED_ALONE {
        tests.args(["--skip", name]);
    }
    let output = tests.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let passed = told.lines().filter(|line| line.ends_with("... ok")).count();
    assert!(passed > 40, "{told}");
}
