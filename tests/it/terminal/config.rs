//! Settings from every layer, seen through `config show`.

use crate::terminal::desk::{Desk, TOY};

/// The line of a setting in the table, without the spaces that align it.
fn line(desk: &Desk, words: &[&str], key: &str) -> String {
    let table = desk.stdout(&[&["config", "show"], words].concat());
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| words.first() == Some(&key));
    line.unwrap_or_else(|| panic!("{key} is not in {table}")).join(" ")
}

#[test]
fn every_layer_wins_over_the_one_below() {
    let preset = include_str!("../../../configs/toy.toml").replace("sink = 10", "sink = 9");
    let mut desk = Desk::new();
    desk.write("mine.toml", &preset);
    assert_eq!(line(&desk, &[], "crf"), "crf 18 default");
    assert_eq!(line(&desk, &[], "cache.sink"), "cache.sink 10 preset deep-forcing");
    let mine = ["--preset", "mine.toml"];
    assert_eq!(line(&desk, &mine, "cache.sink"), "cache.sink 9 preset mine.toml");
    desk = desk.config("[cache]\nsink = 8\n");
    let file = desk.path(".config/deepforcing/config.toml");
    assert_eq!(
        line(&desk, &mine, "cache.sink"),
        format!("cache.sink 8 {}:2", file.display())
    );
    desk = desk.with("DEEPFORCING_CACHE_SINK", "7");
    assert_eq!(
        line(&desk, &mine, "cache.sink"),
        "cache.sink 7 variable DEEPFORCING_CACHE_SINK"
    );
    desk = desk.with("DEEPFORCING_PRESET", "self-forcing");
    assert_eq!(
        line(&desk, &[], "preset"),
        "preset self-forcing variable DEEPFORCING_PRESET"
    );
    assert_eq!(line(&desk, &mine, "preset"), "preset mine.toml flag --preset");
}

#[test]
fn a_preset_tells_what_it_has_from_its_base() {
    let desk = Desk::new();
    desk.write("mine.toml", "base = \"self-forcing\"\n[cache]\nsink = 3\n");
    let mine = ["--preset", "mine.toml"];
    assert_eq!(line(&desk, &mine, "cache.sink"), "cache.sink 3 preset mine.toml");
    assert_eq!(
        line(&desk, &mine, "size"),
        "size 832x480 preset mine.toml, from its base wan2.1-1.3b"
    );
    assert_eq!(
        line(&desk, &[], "fps"),
        "fps 16 preset deep-forcing, from its base wan2.1-1.3b"
    );
    let json = desk.json(&["config", "show", "--preset", "mine.toml", "--json"]);
    let origin = |key: &str| json["settings"][key]["origin"].clone();
    assert_eq!(
        origin("fps"),
        serde_json::json!({"kind": "preset", "name": "mine.toml", "base": "wan2.1-1.3b"})
    );
    assert_eq!(
        origin("cache.sink"),
        serde_json::json!({"kind": "preset", "name": "mine.toml"})
    );
    desk.write("circle.toml", "base = \"circle.toml\"");
    desk.refused(
        &["config", "show", "--preset", "circle.toml"],
        1,
        &["`circle.toml`", "line 1", "circle"],
    );
    desk.write("slip.toml", "base = \"self-forcin\"");
    desk.refused(
        &["config", "show", "--preset", "slip.toml"],
        1,
        &["did you mean `self-forcing`?"],
    );
}

#[test]
fn the_settings_come_as_json_too() {
    let desk = Desk::new()
        .config("seed = 7")
        .with("DEEPFORCING_SAMPLER_STEPS", "1000,500");
    let json = desk.json(&["config", "show", "--json"]);
    let settings = &json["settings"];
    assert_eq!(settings["seed"]["value"], 7);
    assert_eq!(settings["seed"]["origin"]["kind"], "file");
    assert_eq!(settings["seed"]["origin"]["line"], 1);
    assert_eq!(settings["seed"]["variable"], "DEEPFORCING_SEED");
    assert_eq!(settings["sampler.steps"]["value"], serde_json::json!([1000, 500]));
    assert_eq!(settings["sampler.steps"]["origin"]["name"], "DEEPFORCING_SAMPLER_STEPS");
    assert_eq!(settings["sampler.shift"]["value"], 5.0);
    assert_eq!(settings["model"]["value"], serde_json::Value::Null);
    assert_eq!(
        json["config-file"],
        desk.path(".config/deepforcing/config.toml").to_str().unwrap()
    );
}

#[test]
fn the_model_tells_the_preset() {
    let desk = Desk::new();
    assert_eq!(line(&desk, &["--model", TOY], "size"), "size 96x96 preset toy");
    // Of another preset it takes all but the size.
    let other = ["--model", TOY, "--preset", "longlive"];
    assert_eq!(line(&desk, &other, "size"), "size 96x96 preset toy");
    assert!(line(&desk, &other, "cache.window").starts_with("cache.window 12 preset longlive"));
    let desk = desk.config(&format!("model = {TOY:?}"));
    assert_eq!(line(&desk, &[], "size"), "size 96x96 preset toy");
}

#[test]
fn the_config_file_is_where_it_is_said_to_be() {
    let desk = Desk::new();
    let path = |desk: &Desk| desk.stdout(&["config", "path"]);
    let usual = desk.path(".config/deepforcing/config.toml");
    assert_eq!(path(&desk), format!("{}\n", usual.display()));
    let xdg = desk.home().join("xdg");
    let desk = desk.with("XDG_CONFIG_HOME", &xdg);
    assert_eq!(
        path(&desk),
        format!("{}\n", xdg.join("deepforcing/config.toml").display())
    );
    let other = desk.write("other.toml", "seed = 3");
    let desk = desk.with("DEEPFORCING_CONFIG", &other);
    assert_eq!(path(&desk), format!("{}\n", other.display()));
    assert_eq!(line(&desk, &[], "seed"), format!("seed 3 {}:1", other.display()));
}

#[test]
fn a_file_that_is_not_there_matters_only_when_it_is_named() {
    let show = ["config", "show"];
    Desk::new().stdout(&show);
    Desk::new().without("HOME").stdout(&show);
    let desk = Desk::new().with("DEEPFORCING_CONFIG", "gone.toml");
    desk.refused(&show, 2, &["`gone.toml` that DEEPFORCING_CONFIG names", "hint:"]);
}

#[test]
fn mistakes_say_where_they_are_and_what_is_near() {
    let show = ["config", "show"];
    let refused = |config: &str, says: &[&str]| Desk::new().config(config).refused(&show, 2, says);
    refused(
        "\nsede = 1",
        &["config.toml:2`", "unknown setting `sede`; did you mean `seed`?"],
    );
    refused(
        "[cache]\nwindows = 1",
        &["`cache.windows`; did you mean `cache.window`?"],
    );
    refused(
        "seed = 'x'",
        &["`seed` in", "config.toml:1` is `x`", "a number without quotes"],
    );
    refused("cache = 3", &["unknown setting `cache`"]);
    refused("seed = ", &["config.toml:1` is not TOML"]);
    let environment = |name: &str, value: &str, says: &[&str]| Desk::new().with(name, value).refused(&show, 2, says);
    environment(
        "DEEPFORCING_SEED",
        "x",
        &["DEEPFORCING_SEED is `x`: expected a whole number from 0"],
    );
    environment("DEEPFORCING_CACHE_POLICY", "fivo", &["did you mean `fifo`?"]);
    environment("DEEPFORCING_PRESET", "turbo", &["unknown preset `turbo`"]);
}

#[test]
fn variables_that_mean_nothing_are_warned_about() {
    let desk = Desk::new().with("DEEPFORCING_SEDE", "1");
    let said = desk.run(&["config", "show"]);
    assert_eq!(said.code, Some(0));
    assert!(said.stderr.starts_with("warning: "), "{}", said.stderr);
    assert!(
        said.stderr
            .contains("`DEEPFORCING_SEDE` means nothing here; did you mean `DEEPFORCING_SEED`?")
    );
    assert_eq!(desk.run(&["config", "show", "-q"]).stderr, "");
}

#[test]
fn the_config_file_is_made_and_changed() {
    let desk = Desk::new();
    let path = desk.path(".config/deepforcing/config.toml");
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    assert_eq!(desk.stdout(&["config", "init"]), format!("{}\n", path.display()));
    desk.refused(&["config", "init"], 1, &["exists already"]);
    desk.stdout(&["config", "set", "seed", "7"]);
    desk.stdout(&["config", "set", "cache.sink", "4"]);
    assert!(line(&desk, &[], "seed").starts_with("seed 7 "));
    assert!(line(&desk, &[], "cache.sink").starts_with("cache.sink 4 "));
    desk.stdout(&["config", "unset", "seed"]);
    assert_eq!(line(&desk, &[], "seed"), "seed 0 default");
    desk.refused(&["config", "set", "sink", "4"], 2, &["did you mean `cache.sink`?"]);
    desk.refused(&["config", "set", "seed", "-7"], 2, &["expected a whole number"]);
}

#[test]
fn settings_that_break_a_rule_together_are_told_with_their_origin() {
    let desk = Desk::new().config("[cache]\nsink = 14\n");
    let origin = format!(
        "cache.sink = 14 comes from {}:2",
        desk.path(".config/deepforcing/config.toml").display()
    );
    let said = desk.run(&["config", "show"]);
    assert!(
        said.code == Some(2) && said.stdout.contains("cache.sink"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains(&origin), "{}", said.stderr);
    let said = desk.run(&["doctor"]);
    assert!(said.code == Some(1) && (said.stdout + &said.stderr).contains(&origin));
    let said = desk.run(&["config", "set", "cache.sink", "15"]);
    let now = origin.replace("14", "15");
    assert!(said.code == Some(0) && said.stderr.contains(&now), "{}", said.stderr);
    desk.stdout(&["config", "set", "cache.sink", "14"]);
    desk.refused(&["generate", "a red ball", "--model", TOY], 2, &[&origin]);
}
