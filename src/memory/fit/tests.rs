use super::*;
use crate::{
    models::preset::Preset,
    prompts::PromptSpan,
    recipe::{ModelRecord, VideoRecord},
    rollout::LoopKind,
};

const GB: u64 = 1_000_000_000;
const ALL: Free = Free {
    decoder: true,
    cache: true,
    size: true,
};

/// A minute with a preset's settings.
fn recipe(preset: &str, decoder: DecoderKind) -> Recipe {
    let name = preset;
    let preset = Preset::load(preset).unwrap();
    let model = ModelRecord {
        model: None,
        preset: name.into(),
        decoder,
        files: Vec::new(),
    };
    Recipe {
        cache: preset.cache,
        rollout: preset.rollout,
        sampler: preset.sampler,
        prompts: vec![PromptSpan {
            text: "a".repeat(511),
            latent_frame: 0,
            seconds: 0.0,
            on_switch: Default::default(),
        }],
        video: VideoRecord {
            width: preset.video.width,
            height: preset.video.height,
            fps: 16,
            pictures: 957,
            latent_frames: 240,
        },
        ..Recipe::new(model)
    }
}

fn fitted(preset: &str, free: Free, bytes: u64) -> Fit {
    let sizes = Sizes::published(DecoderKind::Wan).unwrap();
    fit(&sizes, &recipe(preset, DecoderKind::Wan), free, DType::BF16, bytes).unwrap()
}

/// What cards of these sizes run: the settings that the README states.
#[test]
fn cards_of_known_sizes_run_stated_settings() {
    // A little of a card is never free.
    let table: [(u64, &[&str]); 4] = [
        (23 * GB, &[]),
        (15_500_000_000, &["the tiny decoder (--vae tae)"]),
        (
            11_500_000_000,
            &[
                "the tiny decoder (--vae tae)",
                "a smaller cache (--window 12 --sink 6 --budget 12)",
            ],
        ),
        (
            7_500_000_000,
            &[
                "the tiny decoder (--vae tae)",
                "a smaller cache (--window 9 --sink 4 --budget 9)",
                "smaller pictures (--size 640x368)",
            ],
        ),
    ];
    for (bytes, changes) in table {
        let fit = fitted("deep-forcing", ALL, bytes);
        assert!(fit.fits(), "{bytes}: {}", fit.plan);
        assert_eq!(fit.changes, changes, "{bytes}: {}", fit.plan);
        fit.cache.resolve(3, 240).unwrap();
    }
}

#[test]
fn the_default_stays_below_24_gb() {
    let fit = fitted("deep-forcing", ALL, 24 * GB);
    let needed = fit.plan.gpu.unwrap().needed;
    assert!((10 * GB..20 * GB).contains(&needed), "{needed}");
}

#[test]
fn what_was_given_is_not_changed() {
    let none = Free {
        decoder: false,
        cache: false,
        size: false,
    };
    let fit = fitted("deep-forcing", none, 12 * GB);
    assert!(!fit.fits());
    let base = recipe("deep-forcing", DecoderKind::Wan);
    assert_eq!((fit.decoder, fit.cache), (DecoderKind::Wan, base.cache));
    let summary = fit.summary(12 * GB, none);
    for part in [
        "no known settings fit into 12.00 GB",
        "the decoder, the cache, the size of the pictures",
    ] {
        assert!(summary.contains(part), "{summary} should say {part}");
    }
    let size_alone = Free { size: true, ..none };
    let fit = fitted("deep-forcing", size_alone, 12 * GB);
    assert_eq!(fit.changes, ["smaller pictures (--size 512x288)"]);
}

#[test]
fn every_preset_fits_eight_gigabytes_with_legal_settings() {
    for name in Preset::names() {
        let base = recipe(name, DecoderKind::Wan);
        let sizes = Sizes::published(DecoderKind::Wan).unwrap();
        // A rolling window needs all of its cache.
        let rolling = base.rollout.kind == LoopKind::Rolling;
        let free = Free { cache: !rolling, ..ALL };
        let fit = fit(&sizes, &base, free, DType::BF16, 8 * GB).unwrap();
        assert!(fit.fits() || rolling, "{name}: {}", fit.plan);
        fit.cache.resolve(base.rollout.chunk, 240).unwrap();
        assert_eq!(fit.size.checked(), Ok(fit.size), "{name}");
    }
}

#[test]
fn upright_pictures_stay_upright() {
    let mut base = recipe("deep-forcing", DecoderKind::Wan);
    (base.video.width, base.video.height) = (480, 832);
    let sizes = Sizes::published(DecoderKind::Wan).unwrap();
    let fit = fit(&sizes, &base, ALL, DType::BF16, 7 * GB).unwrap();
    assert!(fit.size.height > fit.size.width, "{:?}", fit.size);
}

#[test]
fn a_limit_that_nothing_fits_is_told() {
    let fit = fitted("deep-forcing", ALL, GB);
    assert!(!fit.fits());
    assert!(
        fit.summary(GB, ALL)
            .starts_with("no known settings fit into 1.00 GB: the smallest need")
    );
}
