use super::*;
use crate::{
    cache::{CacheSettings, PolicyName},
    models::DecoderKind,
    recipe::{ModelRecord, VideoRecord},
};

const GB: u64 = 1_000_000_000;

fn recipe(policy: PolicyName, decoder: DecoderKind) -> Recipe {
    let model = ModelRecord {
        model: None,
        preset: "toy".into(),
        decoder,
        files: Vec::new(),
    };
    Recipe {
        cache: CacheSettings {
            policy,
            ..CacheSettings::default()
        },
        video: VideoRecord {
            width: 64,
            height: 64,
            fps: 16,
            pictures: 81,
            latent_frames: 21,
        },
        ..Recipe::new(model)
    }
}

fn plan(policy: PolicyName, decoder: DecoderKind) -> MemoryPlan {
    let mut plan = MemoryPlan::empty(&recipe(policy, decoder));
    let mut add = |name, bytes, when| plan.parts.push(Part { name, bytes, when });
    add("transformer weights", 5 * GB, When::Always);
    add("text encoder, block by block", 7 * GB, When::ReadingPrompts);
    add("key/value cache", 4 * GB, When::Rendering);
    add("decoder at work", 2 * GB, When::Rendering);
    add("encoder at work", GB, When::EncodingStart);
    plan.finish();
    plan
}

#[test]
fn moments_are_not_added_to_each_other() {
    let mut plan = plan(PolicyName::Fifo, DecoderKind::Wan);
    assert_eq!(plan.needed, 12 * GB);
    assert_eq!(plan.parts[0].name, "text encoder, block by block");
    plan.parts.push(Part {
        name: "pictures",
        bytes: 3 * GB,
        when: When::Rendering,
    });
    plan.finish();
    assert_eq!(plan.needed, 14 * GB);
}

#[test]
fn a_refusal_names_parts_and_levers() {
    let mut fifo = plan(PolicyName::Fifo, DecoderKind::Wan);
    assert_eq!(fifo.check(), Ok(()), "what is unknown is not refused");
    let limit = Limit::ControlGroup;
    fifo.available = Some(Available { bytes: 12 * GB, limit });
    assert_eq!(fifo.check(), Ok(()));
    fifo.available = Some(Available {
        bytes: 12 * GB - 1,
        limit,
    });
    let message = fifo.check().unwrap_err().to_string();
    for part in [
        "needs about 12.00 GB",
        "limit of this container",
        "text encoder, block by block (7.00 GB), transformer weights (5.00 GB), key/value cache (4.00 GB)",
        "--size",
        "--window below 21,",
        "--vae tae",
        "--no-memory-check",
    ] {
        assert!(message.contains(part), "{message} should say {part}");
    }
    let mut global = plan(PolicyName::Global, DecoderKind::Tae);
    global.available = Some(Available {
        bytes: GB,
        limit: Limit::Machine,
    });
    let message = global.check().unwrap_err().to_string();
    assert!(
        message.contains("another --policy") && !message.contains("--vae tae"),
        "{message}"
    );
    let mut tight = recipe(PolicyName::DeepForcing, DecoderKind::Wan);
    tight.cache.budget = 21;
    let levers = MemoryPlan::empty(&tight).levers.to_string();
    assert!(levers.contains("smaller --sink and --budget"), "{levers}");
}

#[test]
fn the_plan_is_printed_line_by_line() {
    let mut plan = plan(PolicyName::Fifo, DecoderKind::Wan);
    plan.available = Some(Available {
        bytes: 20 * GB,
        limit: Limit::Machine,
    });
    plan.parts.push(Part {
        name: "nothing",
        bytes: 0,
        when: When::Always,
    });
    plan.finish();
    assert_eq!(
        plan.to_string(),
        "memory        about 12.00 GB of 20.00 GB available\n\
         \x20    7.00 GB  text encoder, block by block, while prompts are read\n\
         \x20    5.00 GB  transformer weights\n\
         \x20    4.00 GB  key/value cache\n\
         \x20    2.00 GB  decoder at work\n\
         \x20    1.00 GB  encoder at work, while the start is encoded\n"
    );
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["needed"], 12 * GB);
    assert_eq!(json["parts"][0]["when"], "reading-prompts");
    assert_eq!(json["available"]["limit"], "machine");
}

#[test]
fn the_bundled_model_needs_little() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/toy");
    let preset = crate::models::preset::Preset::load("toy").unwrap();
    let files = ModelFiles::find(&folder, &preset.files, DecoderKind::Wan).unwrap();
    let plan = MemoryPlan::of(&files, &recipe(PolicyName::DeepForcing, DecoderKind::Wan)).unwrap();
    assert!((100_000_000..600_000_000).contains(&plan.needed), "{plan}");
    let mut large = recipe(PolicyName::DeepForcing, DecoderKind::Wan);
    (large.video.width, large.video.height) = (4096, 4096);
    let large = MemoryPlan::of(&files, &large).unwrap();
    assert!(large.needed > 50 * plan.needed, "{large}");
}
