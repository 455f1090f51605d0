//! Tests of presets: they are legal, as published, and read back as they are written.

use super::*;
use crate::{
    cache::PolicyName,
    models::Role,
    rollout::{LoopKind, request::PictureSize},
};

#[test]
fn the_embedded_presets_are_legal() {
    for name in Preset::names() {
        let preset = Preset::load(name).unwrap();
        preset.sampler.validate().unwrap();
        preset.cache.resolve(preset.rollout.chunk, 240).unwrap();
        let size = PictureSize {
            width: preset.video.width,
            height: preset.video.height,
        };
        assert_eq!(size.checked(), Ok(size), "{name}");
    }
}

#[test]
fn an_unknown_preset_names_the_known_ones() {
    for name in ["deepforcing", "wan2.1-1.3b"] {
        let error = Preset::load(name).unwrap_err().to_string();
        assert!(error.contains("deep-forcing") && !error.contains("are wan"), "{error}");
    }
}

/// Chunk, steps, steps of the first chunk, policy, window, transformer and state dict of a preset.
type Facts = (
    usize,
    &'static [u32],
    Option<&'static [u32]>,
    PolicyName,
    &'static str,
    Option<&'static str>,
);

#[test]
fn the_causal_forcing_presets_are_as_published() {
    const FOUR: &[u32] = &[1000, 750, 500, 250];
    let (fifo, deep) = (PolicyName::Fifo, PolicyName::DeepForcing);
    let (chunkwise, plain, ema) = ("chunkwise/causal_forcing.pt", Some("generator"), Some("generator_ema"));
    let frame = "framewise/causal_forcing.pt";
    let (two, one) = (
        "causal-forcing++/framewise-2step.pt",
        "causal-forcing++/framewise-1step.pt",
    );
    let expected: [(&str, Facts); 5] = [
        ("causal-forcing", (3, FOUR, None, fifo, chunkwise, plain)),
        ("causal-forcing-deep", (3, FOUR, None, deep, chunkwise, plain)),
        ("causal-forcing-frame", (1, FOUR, None, fifo, frame, ema)),
        (
            "causal-forcing-frame-2step",
            (1, &[1000, 500], Some(FOUR), fifo, two, ema),
        ),
        ("causal-forcing-frame-1step", (1, &[1000], Some(FOUR), fifo, one, ema)),
    ];
    for (name, (chunk, steps, first, policy, file, state_dict)) in expected {
        let preset = Preset::load(name).unwrap();
        assert_eq!(preset.rollout.chunk, chunk, "{name}");
        assert_eq!(preset.sampler.steps, steps, "{name}");
        assert_eq!(preset.sampler.first_chunk_steps.as_deref(), first, "{name}");
        assert_eq!((preset.sampler.shift, preset.sampler.warp), (5.0, true), "{name}");
        assert_eq!((preset.cache.policy, preset.cache.window), (policy, 21), "{name}");
        assert_eq!(preset.files.state_dict.as_deref(), state_dict, "{name}");
        let sources = preset.sources.unwrap();
        let transformer = sources.of(Role::Transformer).unwrap();
        assert_eq!(
            (transformer.repo.as_str(), transformer.file.as_str()),
            ("zhuhz22/Causal-Forcing", file)
        );
        let names = preset.files.of(Role::Transformer);
        let own = file.rsplit('/').next().unwrap();
        let converted = Role::Transformer.published_names();
        assert_eq!(names, [&[file, own][..], converted].concat(), "{name}");
    }
}

/// Loop, shift, warp, steps, policy, sink, repository, transformer and state dict of a preset.
type Others = (
    LoopKind,
    (f32, bool, &'static [u32]),
    (PolicyName, usize),
    [&'static str; 3],
);

#[test]
fn the_presets_of_other_systems_are_as_published() {
    const FOUR: &[u32] = &[1000, 750, 500, 250];
    const FIVE: &[u32] = &[1000, 800, 600, 400, 200];
    let (rolling, chunks) = (LoopKind::Rolling, LoopKind::Chunks);
    let (sink, fifo) = (PolicyName::SinkRerope, PolicyName::Fifo);
    let dmd = "checkpoints/rolling_forcing_dmd.pt";
    let (causvid, warp4) = (
        "autoregressive_checkpoint/model.pt",
        "autoregressive_checkpoint_warp_4step_cfg2/model.pt",
    );
    let expected: [(&str, Others); 4] = [
        (
            "rolling-forcing",
            (
                rolling,
                (5.0, true, FIVE),
                (sink, 3),
                ["TencentARC/RollingForcing", dmd, "generator_ema"],
            ),
        ),
        (
            "causal-forcing-long",
            (
                rolling,
                (5.0, true, FOUR),
                (sink, 3),
                ["zhuhz22/Causal-Forcing", "chunkwise/longvideo.pt", "generator_ema"],
            ),
        ),
        (
            "causvid",
            (
                chunks,
                (8.0, false, &[1000, 757, 522]),
                (fifo, 0),
                ["tianweiy/CausVid", causvid, "generator"],
            ),
        ),
        (
            "causvid-warp4",
            (
                chunks,
                (8.0, true, FOUR),
                (fifo, 0),
                ["tianweiy/CausVid", warp4, "generator"],
            ),
        ),
    ];
    for (name, (kind, sampler, cache, [repo, file, state_dict])) in expected {
        let preset = Preset::load(name).unwrap();
        assert_eq!((preset.rollout.kind, preset.rollout.chunk), (kind, 3), "{name}");
        let own = &preset.sampler;
        assert_eq!((own.shift, own.warp, own.steps.as_slice()), sampler, "{name}");
        let policy = preset.cache.resolve(3, 240).unwrap();
        assert_eq!((preset.cache.policy, policy.sink), cache, "{name}");
        assert_eq!(policy.window, 21, "{name}");
        let sources = preset.sources.unwrap();
        let transformer = sources.of(Role::Transformer).unwrap();
        assert_eq!((transformer.repo.as_str(), transformer.file.as_str()), (repo, file));
        assert_eq!(preset.files.state_dict.as_deref(), Some(state_dict), "{name}");
    }
}

#[test]
fn frame_wise_models_have_presets_for_long_videos() {
    for base in ["", "-2step", "-1step"].map(|steps| format!("causal-forcing-frame{steps}")) {
        let [deep, own] = [format!("{base}-deep"), base].map(|name| Preset::load(&name).unwrap());
        assert_eq!(deep.cache, CacheSettings::default());
        assert_eq!((deep.files, deep.sampler), (own.files, own.sampler));
        assert_eq!((deep.rollout, deep.rollout.chunk), (own.rollout, 1));
    }
}

#[test]
fn the_longlive_presets_are_as_published() {
    for (name, policy) in [
        ("longlive", PolicyName::Sink),
        ("longlive-infinity", PolicyName::SinkRerope),
    ] {
        let preset = Preset::load(name).unwrap();
        let cache = preset.cache;
        assert_eq!((cache.policy, cache.window, cache.sink), (policy, 12, 3), "{name}");
        assert_eq!(
            (preset.on_switch, preset.recache_sink),
            (SwitchRule::Recache, None),
            "{name}"
        );
        assert_eq!(policy.recache_sink(), RecacheSink::Keep, "{name}");
        assert_eq!(preset.sampler, SamplerSettings::default(), "{name}");
        assert_eq!(preset.files.state_dict.as_deref(), Some("generator"), "{name}");
        let sources = preset.sources.unwrap();
        let transformer = sources.of(Role::Transformer).unwrap();
        assert_eq!(transformer.repo, "Efficient-Large-Model/LongLive-1.3B");
        assert_eq!(transformer.file, "models/longlive_base.pt");
    }
    let others = Preset::names().into_iter().filter(|name| !name.starts_with("longlive"));
    for name in others {
        let expected = if name == "infinity-rope" {
            SwitchRule::Flush
        } else {
            SwitchRule::Keep
        };
        assert_eq!(Preset::load(name).unwrap().on_switch, expected, "{name}");
    }
}

#[test]
fn the_matrix_game_presets_are_as_published() {
    const THREE: &[u32] = &[1000, 666, 333];
    const FOUR: &[u32] = &[1000, 750, 500, 250];
    let expected: [(&str, Controls, usize, &[u32], &str); 3] = [
        (
            "matrix-game-2",
            Controls::Universal,
            6,
            THREE,
            "base_distilled_model/base_distill.safetensors",
        ),
        (
            "matrix-game-2-gta",
            Controls::GtaDrive,
            4,
            THREE,
            "gta_distilled_model/gta_keyboard2dim.safetensors",
        ),
        (
            "matrix-game-2-temple",
            Controls::Templerun,
            6,
            FOUR,
            "templerun_distilled_model/templerun_7dim_onlykey.safetensors",
        ),
    ];
    for (name, controls, window, steps, file) in expected {
        let own = Preset::load(name).unwrap();
        let deep = Preset::load(&format!("{name}-deep")).unwrap();
        assert_eq!((own.controls, own.rollout.chunk), (Some(controls), 3), "{name}");
        assert_eq!(
            (own.cache.policy, own.cache.window),
            (PolicyName::Fifo, window),
            "{name}"
        );
        assert_eq!(
            (own.sampler.steps.as_slice(), own.sampler.shift),
            (steps, 5.0),
            "{name}"
        );
        let video = (own.video.width, own.video.height, own.video.fps);
        assert_eq!(video, (640, 352, 12), "{name}");
        let sources = own.sources.clone().unwrap();
        let transformer = sources.of(Role::Transformer).unwrap();
        assert_eq!(
            (transformer.repo.as_str(), transformer.file.as_str()),
            ("Skywork/Matrix-Game-2.0", file)
        );
        assert_eq!(deep.cache.policy, PolicyName::DeepForcing, "{name}");
        // The window of the actions is that of the training, whatever that of the tokens is.
        assert_eq!(own.rollout.action_window, Some(window), "{name}");
        assert_eq!((deep.rollout, &deep.sampler), (own.rollout, &own.sampler), "{name}");
        assert_eq!((deep.controls, deep.sources), (own.controls, own.sources), "{name}");
    }
}

#[test]
fn deep_forcing_is_self_forcing_with_the_cache_of_the_paper() {
    let [deep, own] = ["deep-forcing", "self-forcing"].map(|name| Preset::load(name).unwrap());
    assert_eq!(deep.cache, CacheSettings::default());
    assert_eq!((own.cache.policy, own.cache.window), (PolicyName::Fifo, 21));
    assert_eq!((&deep.files, &deep.sources), (&own.files, &own.sources));
    assert_eq!((deep.video, deep.rollout), (own.video, own.rollout));
    assert_eq!(
        (deep.sampler, own.sampler),
        (SamplerSettings::default(), SamplerSettings::default())
    );
}

#[test]
fn all_presets_share_the_pinned_files_of_wan() {
    let known = Preset::load(Preset::DEFAULT).unwrap().sources.unwrap();
    for role in [Role::Vae, Role::Config, Role::TextEncoder, Role::Tokenizer] {
        let source = known.of(role).unwrap();
        assert!(source.bytes.is_some() && source.sha256.is_some(), "{source:?}");
        assert_eq!(source.revision, "37ec512624d61f7aa208f7ea8140a131f93afc9a");
    }
    for name in Preset::names() {
        let Some(sources) = Preset::load(name).unwrap().sources else {
            assert_eq!(name, Preset::BUNDLED);
            continue;
        };
        let own = [Role::Transformer, Role::ImageEncoder, Role::Lora];
        // Worlds read no prompts.
        let unread: &[Role] = match sources.of(Role::ImageEncoder) {
            Some(_) => &[Role::Config, Role::TextEncoder, Role::Tokenizer],
            None => &[],
        };
        for role in Role::ALL.iter().filter(|role| !own.contains(role)) {
            let expected = known.of(*role).filter(|_| !unread.contains(role));
            assert_eq!(sources.of(*role), expected, "{role} of {name}");
        }
    }
}

#[test]
fn a_preset_is_read_back_as_it_is_written() {
    for name in Preset::names() {
        let mut preset = Preset::load(name).unwrap();
        let text = toml::to_string(&preset).unwrap();
        preset.inherited.clear();
        assert_eq!(toml::from_str::<Preset>(&text).unwrap(), preset, "{name}");
    }
}
