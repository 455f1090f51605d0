//! Tests of recipes: they survive as JSON, and damaged ones are refused.

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    cache::RecacheSink,
    models::DecoderKind,
    prompts::actions::{ActionPlan, Controls},
    rollout::{OnSwitch, start::StartFile},
};

fn file(role: &str, name: &str, hash: &str) -> FileRecord {
    FileRecord {
        role: role.into(),
        name: name.into(),
        bytes: 1_000_000,
        sha256: Some(hash.repeat(32)),
        repo: Some("owner/model".into()),
        revision: Some("b".repeat(40)),
        strength: None,
        alpha: None,
    }
}

fn prompt(latent_frame: usize, text: &str) -> PromptSpan {
    PromptSpan {
        latent_frame,
        seconds: latent_frame as f64 / 4.0,
        text: text.into(),
        on_switch: OnSwitch::Keep,
    }
}

pub(super) fn example() -> Recipe {
    Recipe {
        prompts: vec![prompt(0, "a calm sea"), prompt(51, "a storm")],
        seed: u64::MAX,
        video: VideoRecord {
            width: 832,
            height: 480,
            fps: 16,
            pictures: 320,
            latent_frames: 81,
        },
        start: Some(StartRecord {
            kind: StartKind::Clip,
            name: "sea.mp4".into(),
            sha256: "0".repeat(64),
            latent_frames: 18,
        }),
        notes: vec!["by hand".into()],
        ..Recipe::new(ModelRecord {
            model: Some("deep-forcing".into()),
            preset: "deep-forcing".into(),
            decoder: DecoderKind::Tae,
            files: vec![file("transformer", "a.pt", "ab"), file("config", "config.json", "cd")],
        })
    }
}

fn read(change: impl FnOnce(&mut Value)) -> Result<Recipe, RecipeError> {
    let mut value: Value = serde_json::from_str(&example().to_json()).unwrap();
    change(&mut value);
    Recipe::from_json(&value.to_string())
}

#[test]
fn a_recipe_survives_as_json() {
    let mut recipe = example();
    assert_eq!(Recipe::from_json(&recipe.to_json()).unwrap(), recipe);
    assert_eq!(Recipe::from_json(&recipe.to_json_pretty()).unwrap(), recipe);
    assert!(!recipe.to_json().contains('\n'));
    recipe.stopped_after(45);
    let read = Recipe::from_json(&recipe.to_json()).unwrap();
    assert_eq!((read.pictures_written, read.is_complete()), (Some(45), false));
    recipe.complete();
    assert_eq!(recipe, example());
}

#[test]
fn names_in_json_are_those_of_the_command_line() {
    let value: Value = serde_json::from_str(&example().to_json()).unwrap();
    assert_eq!(value["format"], 1);
    assert_eq!(value["deepforcing"], env!("CARGO_PKG_VERSION"));
    assert_eq!(value["seed"], u64::MAX);
    assert_eq!(value["model"]["decoder"], "tae");
    assert_eq!(value["encoding"]["preset"], "veryfast");
    assert_eq!(value["cache"]["policy"], "deep-forcing");
    assert_eq!(value["prompts"][1]["latent-frame"], 51);
    assert_eq!(value["start"]["kind"], "clip");
}

#[test]
fn later_formats_are_refused_and_unknown_keys_are_not() {
    let error = read(|value| {
        value["format"] = json!(FORMAT + 1);
        value["deepforcing"] = json!("9.0.0");
        value["sampler"] = json!("of a kind unknown today");
    });
    let message = error.unwrap_err().to_string();
    assert!(
        message.contains("format 4") && message.contains("9.0.0") && message.contains("update"),
        "{message}"
    );
    let more = read(|value| {
        value["mood"] = json!("happy");
        value["model"]["licence"] = json!("apache-2.0");
    });
    assert_eq!(more.unwrap(), example());
    let cache = read(|value| value["cache"]["mood"] = json!(1)).unwrap_err().to_string();
    assert!(cache.contains("unknown field `mood`"), "{cache}");
}

#[test]
fn a_lora_and_its_strength_are_part_of_the_model() {
    let mut recipe = example();
    assert_eq!(recipe.format, 1);
    let mut with_lora = recipe.model.clone();
    with_lora.files.push(FileRecord {
        strength: Some(0.5),
        repo: None,
        revision: None,
        ..file("lora", "loras/style.safetensors", "ef")
    });
    recipe.set_model(with_lora.clone());
    assert_eq!(recipe.format, 2);
    assert_eq!(Recipe::from_json(&recipe.to_json()).unwrap(), recipe);
    assert!(recipe.human().contains("loras/style.safetensors"), "{}", recipe.human());
    assert!(recipe.human().contains("strength 0.5"), "{}", recipe.human());
    let added: Vec<f64> = recipe.model.added_loras().map(|(_, strength)| strength).collect();
    assert_eq!(added, [0.5]);
    let mut stronger = with_lora.clone();
    stronger.files[2].strength = Some(0.6);
    let said = with_lora.differences(&stronger).join("; ");
    assert!(said.contains("lora") && said.contains("strength 0.5"), "{said}");
    let said = with_lora.differences(&example().model).join("; ");
    assert!(said.contains("lora: 1 file of the recipe, 0 files here"), "{said}");
    assert!(with_lora.differences(&with_lora).is_empty());
}

#[test]
fn only_a_recipe_that_says_what_becomes_of_the_cache_has_the_second_format() {
    let mut prompts = example().prompts;
    let plain = example().with_prompts(prompts.clone());
    assert_eq!(plain.format, 1);
    assert!(!plain.to_json().contains("on-switch"));
    for (on_switch, written) in [
        (OnSwitch::Flush, json!("flush")),
        (
            OnSwitch::Recache {
                sink: RecacheSink::Renew,
            },
            json!({"recache": {"sink": "renew"}}),
        ),
    ] {
        prompts[1].on_switch = on_switch;
        let recipe = example().with_prompts(prompts.clone());
        assert_eq!(recipe.format, 2);
        let json: Value = serde_json::from_str(&recipe.to_json()).unwrap();
        assert_eq!(json["prompts"][1]["on-switch"], written);
        assert_eq!(Recipe::from_json(&recipe.to_json()).unwrap(), recipe);
    }
    let contradiction = read(|value| value["prompts"][1]["on-switch"] = json!("flush"));
    let message = contradiction.unwrap_err().to_string();
    assert!(message.contains("format 2"), "{message}");
}

fn world() -> Recipe {
    let plan = ActionPlan::parse("w*300, j=0.05*20", Controls::Universal).unwrap();
    let mut recipe = Recipe {
        actions: Some(ActionRecord {
            controls: Controls::Universal,
            trajectory: plan.for_pictures(320).unwrap(),
        }),
        start: None,
        ..example()
    };
    recipe = recipe.with_prompts(Vec::new());
    recipe
}

#[test]
fn a_world_keeps_what_was_done_in_it() {
    let recipe = world();
    assert_eq!(recipe.format, 3);
    let json: Value = serde_json::from_str(&recipe.to_json()).unwrap();
    assert_eq!(
        json["actions"],
        json!({"controls": "universal", "trajectory": "forward*300, turn-left=0.05*20"})
    );
    assert_eq!(json.get("prompts"), None);
    assert_eq!(Recipe::from_json(&recipe.to_json()).unwrap(), recipe);
    recipe.check_makable().unwrap();
    assert_eq!(recipe.actions.as_ref().unwrap().rows(81).unwrap().pictures(), 0..321);
    let human = recipe.human();
    for part in [
        "controls      universal\n",
        "actions       forward*300, turn-left=0.05*20\n",
    ] {
        assert!(human.contains(part) && !human.contains("prompt  "), "{human}");
    }
}

#[test]
fn damaged_actions_are_refused() {
    type Change = fn(&mut Value);
    let damages: &[(Change, &str)] = &[
        (|v| v["format"] = json!(2), "belong to format 3"),
        (
            |v| v["actions"]["controls"] = json!("gamepad"),
            "unknown controls `gamepad`",
        ),
        (
            |v| v["actions"]["trajectory"] = json!("forward*319"),
            "319 pictures, and the video has 320",
        ),
        (
            |v| v["actions"]["trajectory"] = json!("forward"),
            "no number of pictures",
        ),
        (|v| v["actions"]["trajectory"] = json!("jump*320"), "templerun"),
        (|v| v["actions"]["mood"] = json!(1), "unknown field `mood`"),
        (
            |v| v["prompts"] = json!([{"latent-frame": 0, "seconds": 0.0, "text": "a"}]),
            "has no prompts",
        ),
        (
            |v| drop(v.as_object_mut().unwrap().remove("actions")),
            "`prompts` has none",
        ),
    ];
    for (change, part) in damages {
        let mut value: Value = serde_json::from_str(&world().to_json()).unwrap();
        change(&mut value);
        let error = Recipe::from_json(&value.to_string()).unwrap_err();
        assert!(matches!(error, RecipeError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error} should say {part}");
    }
}

#[test]
fn what_is_no_recipe_is_refused() {
    for text in [
        "",
        "{}",
        "[]",
        "a calm sea",
        "{\"prompt\": {}}",
        "{\"format\": 1}",
        "null",
    ] {
        assert!(
            matches!(Recipe::from_json(text), Err(RecipeError::NotARecipe { .. })),
            "{text}"
        );
    }
    type Change = fn(&mut Value);
    let damages: &[(Change, &str)] = &[
        (|v| v["seed"] = json!(-1), "-1"),
        (|v| v["seed"] = json!(1.5), "1.5"),
        (|v| v["video"]["fps"] = json!(0), "`video.fps` is 0"),
        (|v| v["video"]["width"] = json!(u64::MAX), "`video.width`"),
        (|v| v["rollout"]["chunk"] = json!(0), "`rollout.chunk` is 0"),
        (|v| v["prompts"] = json!([]), "none at latent frame 0"),
        (|v| v["prompts"][1]["latent-frame"] = json!(0), "not in order"),
        (|v| v["start"]["latent-frames"] = json!(81), "as long as the video"),
        (
            |v| v["video"]["pictures"] = json!(322),
            "81 latent frames give 321 pictures, not 322",
        ),
        (|v| v["start"]["sha256"] = json!("\u{fffd}"), "is no SHA-256"),
        (|v| v["model"]["files"][0]["sha256"] = json!("ab"), "is no SHA-256"),
        (|v| v["model"]["decoder"] = json!("vq"), "unknown variant `vq`"),
        (
            |v| drop(v.as_object_mut().unwrap().remove("cache")),
            "missing field `cache`",
        ),
    ];
    for (change, part) in damages {
        let error = read(change).unwrap_err();
        assert!(matches!(error, RecipeError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error} should say {part}");
    }
    let named = RecipeError::NotARecipe { reason: "x".into() }.of_file(Path::new("sea.mp4"));
    assert!(named.to_string().starts_with("`sea.mp4`: "), "{named}");
}

#[test]
fn the_rollout_is_the_one_of_the_recipe() {
    let settings = example().rollout_settings().unwrap();
    assert_eq!((settings.frames, settings.height, settings.width), (63, 60, 104));
    assert_eq!(settings.seed, u64::MAX);
    let mut broken = example();
    broken.cache.sink = 20;
    assert!(matches!(broken.rollout_settings(), Err(crate::Error::Policy(_))));
}

#[test]
fn people_can_read_it() {
    let mut recipe = example();
    recipe.stopped_after(45);
    recipe.prompts[1].text = "a \u{1b}[31mstorm\nseed 7".into();
    let text = recipe.human();
    for part in [
        "model         deep-forcing, preset deep-forcing, decoder tae\n",
        "transformer   a.pt, ",
        "SHA-256 abababababab…, owner/model@bbbbbbbbbbbb…\n",
        "prompt        from 0 s (latent frame 0): a calm sea\n",
        "a \\u{1b}[31mstorm\\nseed 7\n",
        "seed          18446744073709551615\n",
        "video         832x480, 320 pictures at 16 per second = 20 s (81 latent frames)\n",
        "start         clip `sea.mp4`, 18 latent frames, SHA-256 000000000000…\n",
        "sampler       steps 1000, 750, 500, 250; shift 5, context noise 0\n",
        "cache         deep-forcing, window 21, sink 10, budget 16, recent 4, reuse limit 7, positions official, scorer both\n",
        "stopped       after 45 of 320 pictures\n",
    ] {
        assert!(text.contains(part), "{text}\nshould have {part}");
    }
    assert!(text.ends_with('\n') && !text.contains('\u{1b}'));
    assert!(!recipe.human_settings().contains("a.pt"));
}

#[test]
fn other_model_files_are_noticed() {
    let recorded = example().model;
    let mut found = recorded.clone();
    found.files[0].name = "renamed.pt".into();
    found.files[1].sha256 = None;
    assert_eq!(recorded.differences(&found), Vec::<String>::new());
    found.files[0].sha256 = Some("ef".repeat(32));
    found.files.pop();
    found.decoder = DecoderKind::Wan;
    let differences = recorded.differences(&found);
    assert_eq!(
        differences,
        [
            "transformer: no file here is `a.pt` (1000000 bytes, SHA-256 abababababab…)",
            "config: 1 file of the recipe, 0 files here",
            "decoder: tae in the recipe, wan here",
        ]
    );
    let mut shards = recorded.clone();
    shards.files = vec![file("transformer", "1", "01"), file("transformer", "2", "02")];
    let mut swapped = shards.clone();
    swapped.files.reverse();
    assert_eq!(shards.differences(&swapped), Vec::<String>::new());
}

#[test]
fn a_start_is_known_by_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("start.png");
    let start = StartFile::Image(path.clone());
    assert!(matches!(StartRecord::of(&start, 1), Err(RecipeError::Start { .. })));
    fs::write(&path, "pixels").unwrap();
    let record = StartRecord::of(&start, 1).unwrap();
    let video = folder.path().join("video.mp4");
    assert_eq!(record.file(None, &video).unwrap(), start);
    assert!(record.check(&start).is_ok());
    fs::write(&path, "other pixels").unwrap();
    assert!(matches!(record.check(&start), Err(RecipeError::StartChanged { .. })));
    let elsewhere = Path::new("other.png");
    let named = record.file(Some(elsewhere), &video).unwrap();
    assert_eq!(named, StartFile::Image(elsewhere.into()));
}

#[test]
fn a_start_is_looked_for_beside_the_recipe_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (shown, other) = (folder.path().join("shown"), folder.path().join("other"));
    for folder in [&shown, &other, &shown.join("pictures")] {
        fs::create_dir_all(folder).unwrap();
    }
    let private = other.join("private.png");
    fs::write(&private, "pixels").unwrap();
    let recipe = shown.join("video.mp4");
    let find = |name: &str| {
        let record = StartRecord {
            name: name.into(),
            ..example().start.unwrap()
        };
        record.file(None, &recipe).map(|file| file.path().to_owned())
    };
    for name in [
        private.to_str().unwrap(),
        "../other/private.png",
        "no/such.png",
        "/dev/zero",
        "..",
    ] {
        let said = find(name).unwrap_err().to_string();
        assert!(said.contains(name) && said.contains("--start FILE"), "{said}");
    }
    #[cfg(unix)]
    assert!(
        find("/dev/zero")
            .unwrap_err()
            .to_string()
            .contains("not an ordinary file")
    );
    for (name, found) in [("a.png", "a.png"), ("pictures/b.png", "pictures/b.png")] {
        fs::write(shown.join(found), "").unwrap();
        assert_eq!(find(name).unwrap(), shown.join(found));
        assert_eq!(find(&format!("/elsewhere/{found}")).is_ok(), found == "a.png");
    }
}

#[test]
fn numbers_that_do_not_go_together_are_damage() {
    type Change = fn(&mut Recipe);
    let damages: &[(Change, &str)] = &[
        (|r| r.video.width = 8, "8x480 is not possible"),
        (|r| r.video.height = 1 << 20, "not possible"),
        (|r| r.video.latent_frames = 82, "64 latent frames"),
        (|r| r.cache.sink = 20, "sink"),
        (|r| r.cache.window = usize::MAX, "is none"),
        (|r| r.sampler.steps = vec![], "steps"),
        (|r| r.video.fps = 100_000, "fps is 100000"),
        (|r| r.encoding.crf = 99, "crf is 99"),
    ];
    example().check_makable().unwrap();
    for (change, part) in damages {
        let mut recipe = example();
        change(&mut recipe);
        let error = recipe.check_makable().unwrap_err().to_string();
        assert!(
            error.contains("the recipe is damaged: ") && error.contains(part),
            "{error} should say {part}"
        );
    }
}

proptest! {
    #[test]
    fn numbers_and_texts_survive(
        seed: u64, text in ".*", shift in 1e-3f32..1e6, noise in 0u32..=100_000, latent_frame in 1usize..1_000_000,
        pictures in 1usize..=321,
    ) {
        let mut recipe = example();
        recipe.seed = seed;
        recipe.prompts[0].text = text;
        recipe.prompts[1] = prompt(latent_frame, "b");
        recipe.prompts[1].seconds = (latent_frame as f64 * 1e4 / 23.0).round() / 1e4;
        recipe.sampler.shift = shift;
        recipe.sampler.context_noise = f64::from(noise) / 100.0;
        recipe.video.pictures = pictures;
        prop_assert_eq!(Recipe::from_json(&recipe.to_json()).unwrap(), recipe);
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        prop_assert!(Recipe::from_json(&text).is_err());
    }
}
