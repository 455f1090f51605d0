//! Videos that are continued where a run was stopped or killed.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::cli::program::{Desk, decoded, process};

/// 321 frames, 27 chunks.
const LONG: [&str; 2] = ["--seconds", "20"];

/// Starts a `generate` of `name` and kills it after `wait`, or when it has ended by itself.
fn killed_after(desk: &Desk, name: &str, more: &[&str], wait: Duration) {
    let words = desk.words(name, more);
    let mut child = process(&words)
        .current_dir(desk.video(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while start.elapsed() < wait && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().ok();
    child.wait().unwrap();
}

/// Starts a `generate` and kills it as soon as there is a state.
fn left_with_state(desk: &Desk, name: &str, more: &[&str]) {
    let state = desk.video(&format!(".{name}.state"));
    let words = desk.words(name, &[&["--seconds", "3600"], more].concat());
    let mut child = process(&words)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !state.exists() {
        let ended = child.try_wait().unwrap();
        assert!(
            ended.is_none() && start.elapsed() < Duration::from_secs(60),
            "{ended:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn complete(desk: &Desk, name: &str, more: &[&str]) -> Vec<u8> {
    let output = desk.command(name, more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(desk.video(name)).unwrap()
}

#[test]
fn thirty_kills_change_nothing() {
    let desk = Desk::new();
    let deep = ["--window", "9", "--sink", "3", "--budget", "8", "--recent", "4"];
    for (name, seed) in [("a.mp4", 1u64), ("b.y4m", 2)] {
        let whole = complete(&desk, &format!("whole-{name}"), &[&LONG[..], &deep].concat());
        let mut moments = StdRng::seed_from_u64(seed);
        let (mut kills, mut resumed) = (0, 0);
        let state = desk.video(&format!(".{name}.state"));
        while kills < 15 {
            let mut more = [&LONG[..], &deep].concat();
            if state.exists() {
                more.push("--resume");
                resumed += 1;
            } else {
                more.push("--overwrite");
            }
            killed_after(&desk, name, &more, Duration::from_millis(moments.random_range(1..900)));
            kills += 1;
        }
        let mut more = [&LONG[..], &deep].concat();
        more.push(if state.exists() { "--resume" } else { "--overwrite" });
        assert_eq!(
            complete(&desk, name, &more),
            whole,
            "{name}, seed {seed}, {resumed} resumed"
        );
        assert!(resumed > 0, "{name}: no run left a state");
        assert!(!state.exists() && !desk.video(&format!(".{name}.latents")).exists());
    }
}

#[test]
fn an_interrupted_video_goes_on_from_its_last_chunk() {
    let desk = Desk::new();
    let whole = complete(&desk, "whole.mp4", &LONG);
    let words = desk.words("out.mp4", &LONG);
    let mut child = process(&words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !desk.video(".out.mp4.state").exists() && child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("--resume"), "{stderr}");
    let there = decoded(&desk.video("out.mp4")).frames.len();
    let output = desk
        .command("out.mp4", &[&LONG[..], &["--resume"]].concat())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    // A chunk of 9 pictures, then 12 each: 4 for each latent frame, less 3.
    let frames = there.div_ceil(4);
    assert!(
        stderr.contains(&format!("going on after {frames} of 81 latent frames")),
        "{there}: {stderr}"
    );
    assert_eq!(fs::read(desk.video("out.mp4")).unwrap(), whole);
    assert_eq!(desk.names(), ["out.mp4", "whole.mp4"]);
}

#[test]
fn latents_and_thumbnail_are_those_of_the_whole_video() {
    let desk = Desk::new();
    let kept = [
        "--save-latents",
        "out.safetensors",
        "--thumbnail",
        "out.png",
        "--sidecar",
    ];
    let whole = ["--save-latents", "whole.safetensors", "--thumbnail", "whole.png"];
    complete(&desk, "whole.mp4", &[&LONG[..], &whole].concat());
    let more = [&LONG[..], &kept].concat();
    for wait in [300, 500, 700] {
        let resume = desk.video(".out.mp4.state").exists();
        let last: &[&str] = if resume { &["--resume"] } else { &["--overwrite"] };
        killed_after(&desk, "out.mp4", &[&more, last].concat(), Duration::from_millis(wait));
    }
    let last = if desk.video(".out.mp4.state").exists() {
        "--resume"
    } else {
        "--overwrite"
    };
    complete(&desk, "out.mp4", &[&more[..], &[last]].concat());
    for name in ["safetensors", "png", "mp4"] {
        let read = |stem: &str| fs::read(desk.video(&format!("{stem}.{name}"))).unwrap();
        assert!(read("out") == read("whole"), "{name} differs");
    }
}

#[test]
fn what_is_no_longer_the_same_video_is_refused_with_what_differs() {
    let desk = Desk::new();
    left_with_state(&desk, "out.mp4", &["--seed", "5"]);
    let long = ["--seconds", "3600", "--resume"];
    let refused = |more: &[&str], says: &[&str]| desk.refused(1, &[&long, more].concat(), says);
    refused(&[], &["seed is 5 there and", "--overwrite"]);
    refused(
        &["--seed", "5", "--size", "48x32"],
        &["video.width is 32 there and 48 now"],
    );
    refused(
        &["--seed", "5", "--prompt-given", "a blue cube"],
        &["prompts.1.text is \"a red ball\" there and \"a blue cube\" now"],
    );
    refused(&["--seed", "5", "--sink", "9"], &["cache.sink is 10 there and 9 now"]);
    desk.refused(1, &["--seed", "5", "--resume"], &["video.latent-frames is"]);
}

#[test]
fn a_resume_without_anything_to_resume_is_refused() {
    let desk = Desk::new();
    desk.refused(1, &["--resume"], &["nothing to resume", ".out.mp4.state"]);
    desk.refused(2, &["--resume", "--output", "-"], &["standard output"]);
    desk.refused(2, &["--resume", "--trace", "t.jsonl"], &["--trace"]);
    desk.refused(2, &["--resume", "--overwrite"], &["--resume"]);
}

/// Damages a copy of a state in many ways.
#[test]
fn damaged_foreign_and_hostile_states_are_refused() {
    let desk = Desk::new();
    left_with_state(&desk, "out.mp4", &[]);
    let (state, latents) = (desk.video(".out.mp4.state"), desk.video(".out.mp4.latents"));
    let (good_state, good_latents) = (fs::read(&state).unwrap(), fs::read(&latents).unwrap());
    let check = |name: &str, state_bytes: &[u8], latent_bytes: &[u8]| {
        fs::write(&state, state_bytes).unwrap();
        fs::write(&latents, latent_bytes).unwrap();
        eprintln!("{name}");
        desk.refused(
            1,
            &["--seconds", "3600", "--resume"],
            &["no state that a video can be continued from"],
        );
        assert!(
            fs::read(&state).unwrap() == state_bytes,
            "{name}: the state was changed"
        );
    };
    check("empty", b"", &good_latents);
    check("half", &good_state[..good_state.len() / 2], &good_latents);
    check("one byte short", &good_state[..good_state.len() - 1], &good_latents);
    check(
        "foreign",
        include_bytes!("../../golden/scheduler/io.safetensors"),
        &good_latents,
    );
    check("no latents", &good_state, b"");
    let mut other = good_latents.clone();
    other[5] ^= 1;
    check("other latents", &good_state, &other);
    let with = |from: &str, to: &str| {
        let at = find(&good_state, from.as_bytes()).unwrap_or_else(|| panic!("no {from}"));
        let mut bytes = good_state.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    check(
        "future format",
        &with("\\\"format\\\":1,\\\"recipe", "\\\"format\\\":9,\\\"recipe"),
        &good_latents,
    );
    check(
        "more layers",
        &with("\\\"layers\\\":", "\\\"layers\\\":9"),
        &good_latents,
    );
    fs::remove_file(&state).unwrap();
    std::os::unix::fs::symlink(desk.video("elsewhere"), &state).unwrap();
    desk.refused(1, &["--seconds", "3600", "--resume"], &["nothing to resume"]);
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[test]
fn two_runs_do_not_continue_one_video() {
    let desk = Desk::new();
    left_with_state(&desk, "out.mp4", &[]);
    let words = desk.words("out.mp4", &["--seconds", "3600", "--resume"]);
    let mut child = process(&words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !locked(&desk.video(".out.mp4.latents")) {
        assert!(start.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = desk
        .command("out.mp4", &["--seconds", "3600", "--resume"])
        .output()
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("another run"), "{stderr}");
}

fn locked(path: &Path) -> bool {
    let file = fs::File::open(path).unwrap();
    matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock))
}

#[test]
fn a_link_in_place_of_the_latents_is_not_written_through() {
    let desk = Desk::new();
    let precious = desk.video("precious");
    fs::write(&precious, "precious").unwrap();
    std::os::unix::fs::symlink(&precious, desk.video(".out.mp4.latents")).unwrap();
    desk.refused(1, &[], &["cannot keep a state", "--no-state"]);
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
}

#[test]
fn without_a_state_nothing_is_beside_the_video() {
    let desk = Desk::new();
    killed_after(
        &desk,
        "out.mp4",
        &["--seconds", "3600", "--no-state"],
        Duration::from_secs(2),
    );
    assert_eq!(desk.names(), [".out.partial.mp4"]);
}

#[test]
fn the_plan_says_how_large_the_state_becomes() {
    let desk = Desk::new();
    let output = desk.command("out.mp4", &["--dry-run", "--json"]).output().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let bytes = plan["state_bytes"].as_u64().unwrap();
    left_with_state(&desk, "out.mp4", &[]);
    let kept = fs::metadata(desk.video(".out.mp4.state")).unwrap().len();
    // That of the plan is of the whole video; the header has some kilobytes.
    assert!(kept < bytes + 20_000 && bytes > 10_000, "{kept} {bytes}");
    let text = desk.command("other.mp4", &["--dry-run"]).output().unwrap();
    assert!(
        String::from_utf8(text.stdout)
            .unwrap()
            .contains("--no-state keeps none")
    );
}

/// A state that the disk has no room for is given up, which is said once; video and latents are smaller than the limit.
#[test]
#[cfg(unix)]
fn a_state_that_does_not_fit_costs_nobody_the_video() {
    const LIMITED: &str = "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\"";
    let desk = Desk::new();
    let toy = ["--model-dir", "toy", "--size", "96x96", "--seconds", "5"];
    let whole = complete(&desk, "whole.mp4", &toy);
    assert!(whole.len() < 512_000);
    let output = std::process::Command::new("sh")
        .args(["-c", LIMITED, crate::cli::program::PROGRAM])
        .args(desk.words("out.mp4", &toy))
        .env_clear()
        .envs(crate::cli::program::environment())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let said = "the state of the video is not kept any more";
    assert_eq!(stderr.matches(said).count(), 1, "{stderr}");
    assert!(
        stderr.contains("File too large") && stderr.contains("the video goes on"),
        "{stderr}"
    );
    assert!(fs::read(desk.video("out.mp4")).unwrap() == whole);
    assert_eq!(desk.names(), ["out.mp4", "whole.mp4"]);
}
