//! `deepforcing doctor`.

use serde_json::Value;

use crate::terminal::desk::{Desk, TOY};

/// The report, whatever the exit code.
fn report(desk: &Desk) -> (Option<i32>, Value) {
    let said = desk.run(&["doctor", "--json"]);
    (said.code, serde_json::from_str(&said.stdout).unwrap())
}

fn problems(report: &Value) -> String {
    report["problems"].to_string()
}

#[test]
fn a_machine_on_which_generate_works_is_well() {
    let desk = Desk::new();
    let text = desk.stdout(&["doctor"]);
    for section in [
        "program",
        "processor",
        "threads",
        "memory",
        "ffmpeg",
        "config",
        "folders",
        "models",
        "variables",
    ] {
        assert!(text.lines().any(|line| line == section), "{section} is not in {text}");
    }
    let (code, report) = report(&desk);
    assert_eq!((code, &report["ok"]), (Some(0), &Value::Bool(true)), "{report:#}");
    assert_eq!(report["program"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(report["threads"]["used for computing"].as_u64().unwrap() > 0);
    assert!(
        report["ffmpeg"]["encoders"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    );
    assert_eq!(report["models"]["deep-forcing"], "not there");
    assert_eq!(report["models"]["toy"], "part of the program");
}

#[test]
fn the_variables_are_shown_and_the_token_is_not() {
    let desk = Desk::new()
        .with("HF_TOKEN", "hf_verysecret")
        .with("DEEPFORCING_SEED", "7");
    let desk = desk
        .with("RAYON_NUM_THREADS", "3")
        .with("HTTPS_PROXY", "http://me:verysecret@proxy:80");
    for words in [&["doctor"][..], &["doctor", "--json"], &["doctor", "-vv"]] {
        let said = desk.run(words);
        assert!(!said.stdout.contains("verysecret") && !said.stderr.contains("verysecret"));
    }
    let (_, report) = report(&desk);
    assert_eq!(report["folders"]["Hugging Face token"], "from HF_TOKEN");
    assert_eq!(report["variables"]["DEEPFORCING_SEED"], "7");
    assert_eq!(report["variables"]["HF_HOME"], Value::Null);
    assert_eq!(report["threads"]["used for computing"], 3);
    let (_, report) = self::report(&desk.with("DEEPFORCING_THREADS", "2"));
    assert_eq!(report["threads"]["used for computing"], 2);
}

#[test]
fn what_stands_in_the_way_of_generate_makes_it_fail() {
    let cases = [
        (Desk::new().config("sede = 1"), "did you mean `seed`?"),
        (
            Desk::new().with("DEEPFORCING_PRESET", "turbo"),
            "unknown preset `turbo`",
        ),
        (Desk::new().with("HF_ENDPOINT", "nonsense"), "HF_ENDPOINT"),
        (
            Desk::new()
                .with("DEEPFORCING_MODEL", "self-forcing")
                .with("HF_HUB_OFFLINE", "1"),
            "HF_HUB_OFFLINE",
        ),
    ];
    for (desk, says) in cases {
        let (code, report) = report(&desk);
        assert_eq!(
            (code, &report["ok"]),
            (Some(1), &Value::Bool(false)),
            "{says}: {report:#}"
        );
        assert!(problems(&report).contains(says), "{says}: {report:#}");
        let said = desk.run(&["doctor"]);
        assert_eq!(said.code, Some(1));
        assert!(
            said.stdout.contains("  error: ") && said.stderr.contains("cannot work"),
            "{}",
            said.stderr
        );
    }
}

#[test]
fn what_does_not_is_told_and_no_failure() {
    let cases = [
        (Desk::new().with("DEEPFORCING_SEDE", "1"), "DEEPFORCING_SEDE"),
        (Desk::new().with("RAYON_NUM_THREADS", "many"), "RAYON_NUM_THREADS"),
        (Desk::new().without("HOME"), "set HOME"),
        (Desk::new().with("HF_HUB_OFFLINE", "1"), ""),
    ];
    for (desk, says) in cases {
        let (code, report) = report(&desk);
        assert_eq!(code, Some(0), "{report:#}");
        assert!(problems(&report).contains(says), "{says}: {report:#}");
    }
    // A file where the cache should be.
    let desk = Desk::new();
    let file = desk.write("file", "");
    let desk = desk.with("HF_HUB_CACHE", file.join("hub"));
    let (code, report) = report(&desk);
    assert_eq!(code, Some(0), "{report:#}");
    assert!(problems(&report).contains("HF_HUB_CACHE"), "{report:#}");
}

#[test]
fn a_folder_as_the_model_must_hold_one() {
    let well = Desk::new().with("DEEPFORCING_MODEL", TOY);
    assert_eq!(report(&well).0, Some(0));
    let desk = Desk::new();
    desk.write("empty/readme", "");
    let empty = desk.home().join("empty");
    let (code, report) = report(&desk.with("DEEPFORCING_MODEL", empty));
    assert_eq!(code, Some(1));
    assert!(problems(&report).contains("the transformer is missing"), "{report:#}");
}
