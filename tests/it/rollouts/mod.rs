//! Properties of whole rollouts, on a tiny network with random weights: one token per latent frame, so that long videos
//! are cheap.

mod snapshots;
mod switches;

use crate::tiny;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use deepforcing::{
    Error,
    cache::{
        CacheSettings, KvCache, LayerCache, Overflow, Placement, Policy, PolicyName, Positions, RecacheSink, Scorer,
        Slot, plan::PlanError,
    },
    rollout::sampler::SamplerSettings,
    rollout::{
        Ahead, CancelToken, ChunkLoop, Cue, Director, OnSwitch, Progress, PromptChange, Rollout, RolloutSettings,
        Script, SeededNoise, Snapshot,
    },
    transformer::CausalWan,
};
use proptest::prelude::*;
use tiny::{CHANNELS, Values, model, prompt, random, values};

/// A small window, so that short videos have many events.
fn cache_settings(policy: PolicyName, positions: Positions) -> CacheSettings {
    CacheSettings {
        policy,
        window: 9,
        sink: 3,
        budget: 8,
        recent: 4,
        reuse_limit: 3,
        positions,
        ..CacheSettings::default()
    }
}

/// Every policy with every choice of positions that changes it.
fn policies(chunk: usize, frames: usize) -> Vec<Policy> {
    use PolicyName::*;
    let combinations = [
        (Global, Positions::Official),
        (Fifo, Positions::Official),
        (Sink, Positions::Official),
        (SinkRerope, Positions::Official),
        (DeepSink, Positions::Official),
        (DeepSink, Positions::Paper),
        (DeepForcing, Positions::Official),
        (DeepForcing, Positions::Paper),
    ];
    let resolve = |(policy, positions)| cache_settings(policy, positions).resolve(chunk, frames).unwrap();
    combinations.into_iter().map(resolve).collect()
}

fn deep_forcing(chunk: usize) -> Policy {
    cache_settings(PolicyName::DeepForcing, Positions::Official)
        .resolve(chunk, 0)
        .unwrap()
}

fn settings(policy: Policy, chunk: usize, frames: usize) -> RolloutSettings {
    RolloutSettings {
        frames,
        chunk,
        first_frame_alone: false,
        height: 2,
        width: 2,
        sampler: SamplerSettings {
            steps: vec![1000, 500],
            ..SamplerSettings::default()
        },
        policy,
        seed: 5,
        first_position: 0,
        fill_last: false,
    }
}

fn start(model: &Arc<CausalWan>, settings: RolloutSettings, noise: u64) -> Rollout {
    let prompts = vec![PromptChange {
        frame: 0,
        context: prompt(model, 0),
    }];
    Rollout::new(
        model.clone(),
        settings,
        prompts,
        None,
        Box::new(SeededNoise::new(noise)),
    )
    .unwrap()
}

/// The next chunk's latents.
fn next(rollout: &mut Rollout) -> Option<Values> {
    let chunk = rollout.next_chunk(&mut |_| {}).unwrap()?;
    Some(values(&chunk.latents))
}

/// All chunks' latents.
fn finish(mut rollout: Rollout) -> Vec<Values> {
    std::iter::from_fn(|| next(&mut rollout)).collect()
}

fn render(model: &Arc<CausalWan>, settings: RolloutSettings, noise: u64) -> Vec<Values> {
    finish(start(model, settings, noise))
}

/// `‖a − b‖ / ‖b‖` over all chunks.
fn distance(a: &[Values], b: &[Values]) -> f64 {
    assert_eq!(a.len(), b.len());
    let (a, b) = (a.concat(), b.concat());
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(&b).map(|(x, y)| ((x - y) as f64).powi(2)).sum();
    let norm: f64 = b.iter().map(|y| (*y as f64).powi(2)).sum();
    (difference / norm).sqrt()
}

fn all_finite(chunks: &[Values]) -> bool {
    chunks.iter().flatten().all(|value| value.is_finite())
}

#[test]
fn a_shift_of_all_positions_changes_nothing() {
    let model = model();
    for (chunk, frames) in [(3, 60), (1, 40)] {
        for policy in policies(chunk, frames) {
            let here = settings(policy, chunk, frames);
            let there = RolloutSettings {
                first_position: 100_000,
                ..here.clone()
            };
            let apart = distance(&render(&model, there, 1), &render(&model, here, 1));
            assert!(apart < 1e-4, "{policy:?}, chunks of {chunk}: {apart:.1e}");
        }
    }
}

/// The policies differ: what the other tests compare is not blind to the cache.
#[test]
fn every_policy_makes_another_video() {
    let model = model();
    let render = |policy| render(&model, settings(policy, 3, 60), 1);
    let videos: Vec<_> = policies(3, 60).into_iter().map(|p| (p, render(p))).collect();
    for (i, (a, video)) in videos.iter().enumerate() {
        for (b, other) in &videos[..i] {
            let apart = distance(video, other);
            // The sink that is moved along and Deep Sink by the paper are the same thing under two names.
            let same = a == b;
            assert_eq!(apart < 1e-4, same, "{a:?} and {b:?}: {apart:.1e}");
        }
    }
}

/// The reference's table of rotations ends at position 1024; ours has no end.
#[test]
fn frame_1024_is_passed_without_a_seam() {
    let (model, frames) = (model(), 1100);
    let sink = cache_settings(PolicyName::Sink, Positions::Official).resolve(1, frames);
    for policy in [deep_forcing(1), sink.unwrap()] {
        let here = settings(policy, 1, frames);
        let elsewhere = RolloutSettings {
            first_position: 512,
            ..here.clone()
        };
        let video = render(&model, here, 3);
        assert_eq!(video.len(), frames);
        assert!(all_finite(&video));
        // A video whose position 1024 is frame 512 is the same: neither has a seam there.
        let apart = distance(&render(&model, elsewhere, 3), &video);
        assert!(apart < 1e-4, "{policy:?}: {apart:.1e}");
        let (before, after) = (statistics(&video[964..1024]), statistics(&video[1024..1084]));
        let close = |a: f64, b: f64| (a - b).abs() < 0.15 * before.deviation;
        assert!(
            close(before.mean, after.mean) && close(before.deviation, after.deviation),
            "{policy:?}: {before:?}, then {after:?}"
        );
        let step = |frame: usize| distance(&video[frame..=frame], &video[frame - 1..frame]);
        let largest = (964..1084).filter(|f| *f != 1024).map(step).fold(0.0, f64::max);
        assert!(step(1024) <= largest, "{policy:?}: {} above {largest}", step(1024));
    }
}

#[derive(Debug)]
struct Statistics {
    mean: f64,
    deviation: f64,
}

fn statistics(chunks: &[Values]) -> Statistics {
    let all: Vec<f64> = chunks.iter().flatten().map(|v| *v as f64).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let variance = all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / all.len() as f64;
    Statistics {
        mean,
        deviation: variance.sqrt(),
    }
}

#[test]
fn memory_is_the_same_after_30_and_300_chunks() {
    let model = model();
    for policy in policies(3, 9).into_iter().filter(|p| p.overflow == Overflow::Drop) {
        let mut rollout = start(&model, settings(policy, 3, 900), 1);
        let (bytes, mut largest) = (rollout.cache().bytes(), 0);
        for chunk in 1..=300 {
            assert!(next(&mut rollout).is_some());
            let slots = rollout.cache().layers().iter().map(|layer| layer.slots().len());
            largest = largest.max(slots.max().unwrap());
            if chunk == 30 || chunk == 300 {
                assert_eq!(rollout.cache().bytes(), bytes, "{policy:?} after {chunk} chunks");
            }
        }
        assert!(largest <= policy.window, "{policy:?}: {largest} slots");
        assert!(next(&mut rollout).is_none());
    }
}

#[test]
fn the_seed_decides() {
    let model = model();
    let video = |seed| render(&model, settings(deep_forcing(3), 3, 30), seed);
    assert_eq!(video(1), video(1));
    assert!(distance(&video(1), &video(2)) > 0.1);
}

/// Neither a video made before nor one made at the same time leaves a trace.
#[test]
fn videos_of_one_model_do_not_know_of_each_other() {
    let model = model();
    let settings = settings(deep_forcing(3), 3, 36);
    let alone = [1, 2].map(|seed| render(&model, settings.clone(), seed));
    let again = render(&model, settings.clone(), 1);
    assert_eq!(again, alone[0], "one after the other");
    let (mut a, mut b) = (start(&model, settings.clone(), 1), start(&model, settings, 2));
    for (one, two) in alone[0].iter().zip(&alone[1]) {
        assert_eq!(next(&mut a).as_ref(), Some(one));
        assert_eq!(next(&mut b).as_ref(), Some(two));
    }
}

#[test]
fn cancelling_after_the_chunk_ends_with_a_whole_chunk() {
    let model = model();
    let whole = render(&model, settings(deep_forcing(3), 3, 30), 1);
    let mut rollout = start(&model, settings(deep_forcing(3), 3, 30), 1);
    let cancel = CancelToken::default();
    rollout.set_cancel(cancel.clone());
    let mut made = Vec::new();
    loop {
        let mut listen = |progress: Progress<'_>| {
            if matches!(progress, Progress::Step { chunk: 2, step: 0, .. }) {
                cancel.after_chunk();
            }
        };
        match rollout.next_chunk(&mut listen).unwrap() {
            Some(chunk) => made.push(values(&chunk.latents)),
            None => break,
        }
    }
    assert_eq!(made, whole[..3]);
}

#[test]
fn cancelling_now_loses_the_chunk_in_work() {
    let model = model();
    let mut rollout = start(&model, settings(deep_forcing(3), 3, 30), 1);
    let cancel = CancelToken::default();
    rollout.set_cancel(cancel.clone());
    assert!(next(&mut rollout).is_some());
    let mut steps = 0;
    let result = rollout.next_chunk(&mut |progress| {
        if matches!(progress, Progress::Step { .. }) {
            steps += 1;
            cancel.now();
        }
    });
    assert!(matches!(result, Err(Error::Cancelled)));
    assert_eq!(steps, 1, "no further step");
    assert!(next(&mut rollout).is_none(), "it stays cancelled");
}

#[test]
fn a_prompt_takes_over_at_the_first_chunk_from_its_frame_on() {
    let model = model();
    let settings = settings(deep_forcing(3), 3, 36);
    let plain = render(&model, settings.clone(), 1);
    // A change in the middle of a chunk waits for the next one.
    for (frame, first_changed) in [(18, 6), (17, 6), (19, 7), (0, 0)] {
        let changes = [(0, 0), (frame, 1)];
        let prompts = changes.map(|(frame, seed)| PromptChange {
            frame,
            context: prompt(&model, seed),
        });
        let noise = Box::new(SeededNoise::new(1));
        let rollout = Rollout::new(model.clone(), settings.clone(), prompts.into(), None, noise).unwrap();
        let changed = finish(rollout);
        assert_eq!(changed[..first_changed], plain[..first_changed], "before frame {frame}");
        for chunk in first_changed..plain.len() {
            let apart = distance(&changed[chunk..=chunk], &plain[chunk..=chunk]);
            assert!(apart > 1e-3, "change at frame {frame}, chunk {chunk}: {apart:.1e}");
        }
    }
}

#[test]
fn the_first_generated_chunk_may_have_steps_of_its_own() {
    let model = model();
    let with = |steps: &[u32], first: Option<&[u32]>| {
        let mut settings = settings(deep_forcing(3), 3, 9);
        settings.sampler.steps = steps.to_vec();
        settings.sampler.first_chunk_steps = first.map(<[u32]>::to_vec);
        settings
    };
    let (few, many) = ([1000, 500], [1000, 750, 500, 250]);
    let mixed = render(&model, with(&few, Some(&many)), 1);
    assert_eq!(mixed[0], render(&model, with(&many, None), 1)[0]);
    assert_ne!(mixed[0], render(&model, with(&few, None), 1)[0]);

    // Behind given frames the first generated chunk is not the first of the video.
    let given = random(77, &[3, CHANNELS, 2, 2], 1.0, 0.0);
    let prompts = vec![PromptChange {
        frame: 0,
        context: prompt(&model, 0),
    }];
    let noise = Box::new(SeededNoise::new(1));
    let mut rollout = Rollout::new(
        model.clone(),
        with(&few, Some(&many)),
        prompts,
        Some(given.clone()),
        noise,
    )
    .unwrap();
    assert_eq!(next(&mut rollout), Some(values(&given)));
    let mut steps = Vec::new();
    for _ in 0..3 {
        let mut count = 0;
        let mut listen = |progress: Progress<'_>| count += usize::from(matches!(progress, Progress::Step { .. }));
        rollout.next_chunk(&mut listen).unwrap().unwrap();
        steps.push(count);
    }
    assert_eq!(steps, [4, 2, 2]);
}

#[test]
fn every_scorer_makes_a_finite_video_of_its_own() {
    let model = model();
    for positions in [Positions::Official, Positions::Paper] {
        let render = |scorer, seed| {
            let cache = CacheSettings {
                scorer,
                ..cache_settings(PolicyName::DeepForcing, positions)
            };
            let policy = cache.resolve(3, 60).unwrap();
            let settings = RolloutSettings {
                seed,
                ..settings(policy, 3, 60)
            };
            render(&model, settings, 1)
        };
        let scorers = [Scorer::Both, Scorer::Past, Scorer::Denoising, Scorer::Random];
        let videos = scorers.map(|scorer| render(scorer, 5));
        for (i, video) in videos.iter().enumerate() {
            assert!(all_finite(video), "{:?}", scorers[i]);
            assert!(videos[..i].iter().all(|other| other != video), "{:?}", scorers[i]);
        }
        assert_eq!(render(Scorer::Random, 5), videos[3]);
        assert_ne!(render(Scorer::Random, 6), videos[3]);
        assert_eq!(render(Scorer::Both, 6), videos[0], "the seed is for `random` alone");
    }
}

#[test]
fn a_global_cache_ends_with_an_error_beyond_its_capacity_alone() {
    let model = model();
    let mut rollout = start(&model, settings(Policy::whole(6), 3, 9), 1);
    assert!(next(&mut rollout).is_some() && next(&mut rollout).is_some());
    let error = rollout.next_chunk(&mut |_| {}).err();
    assert!(
        matches!(error, Some(Error::Plan(PlanError::Full { capacity: 6 }))),
        "{error:?}"
    );
    let sized = CacheSettings {
        policy: PolicyName::Global,
        ..CacheSettings::default()
    };
    let run = settings(sized.resolve(3, 90).unwrap(), 3, 90);
    assert_eq!(render(&model, run, 1).len(), 30);
}

/// A director that follows a list: the prompt of each chunk, and how many there are.
struct Listed {
    model: Arc<CausalWan>,
    prompts: Vec<u64>,
    on_switch: OnSwitch,
}

impl Director for Listed {
    fn direct(&mut self, ahead: Ahead) -> deepforcing::Result<Option<Cue>> {
        let Some(number) = self.prompts.get(ahead.chunk) else {
            return Ok(None);
        };
        Ok(Some(Cue {
            number: *number as usize,
            context: prompt(&self.model, *number),
            on_switch: self.on_switch,
        }))
    }

    fn may_recache(&self) -> bool {
        self.on_switch.recaches()
    }
}

fn directed(model: &Arc<CausalWan>, policy: Policy, prompts: &[u64]) -> Rollout {
    switching(model, policy, prompts, OnSwitch::Keep)
}

/// The same where every change of the prompt does something to the cache.
fn switching(model: &Arc<CausalWan>, policy: Policy, prompts: &[u64], on_switch: OnSwitch) -> Rollout {
    let director = Listed {
        model: model.clone(),
        prompts: prompts.to_vec(),
        on_switch,
    };
    let settings = settings(policy, 3, 0);
    Rollout::directed(
        model.clone(),
        settings,
        Box::new(director),
        None,
        Box::new(SeededNoise::new(1)),
    )
    .unwrap()
}

#[test]
fn a_rollout_may_be_open_ended() {
    let model = model();
    let rollout = directed(&model, deep_forcing(3), &[0; 12]);
    assert_eq!(rollout.chunks(), None);
    assert_eq!(finish(rollout), render(&model, settings(deep_forcing(3), 3, 36), 1));
}

#[test]
fn a_chunk_leaves_before_it_is_in_the_cache() {
    let model = model();
    let mut rollout = start(&model, settings(deep_forcing(3), 3, 9), 1);
    let mut seen = Vec::new();
    let mut listen = |progress: Progress<'_>| seen.push(matches!(progress, Progress::Cached { .. }));
    rollout.next_chunk(&mut listen).unwrap().unwrap();
    rollout.write_back(&mut listen).unwrap();
    rollout.write_back(&mut listen).unwrap();
    assert_eq!(seen, [false, false, true]);
}

/// All that a change of the prompt can do.
fn rules() -> [OnSwitch; 5] {
    let recache = |sink| OnSwitch::Recache { sink };
    [
        OnSwitch::Keep,
        OnSwitch::Flush,
        recache(RecacheSink::Keep),
        recache(RecacheSink::Renew),
        recache(RecacheSink::Encode),
    ]
}
