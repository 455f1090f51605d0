//! Properties of whole rollouts, on a tiny network with random weights: one token per latent frame, so that long videos
//! are cheap.

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

/// Slots and un-rotated keys of each layer.
type Tokens = Vec<(Vec<Slot>, Vec<Vec<f32>>)>;

fn tokens(cache: &KvCache) -> Tokens {
    let layer = |layer: &LayerCache| {
        let keys = layer.raw_keys().unwrap().flatten_from(1).unwrap();
        (layer.slots().to_vec(), keys.to_vec2().unwrap())
    };
    cache.layers().iter().map(layer).collect()
}

/// The cache before and after each change of the prompt, with the first frame of the chunk before which it is.
fn changes(policy: Policy, prompts: &[u64], on_switch: OnSwitch) -> Vec<(u64, Tokens, Tokens)> {
    let mut rollout = switching(&model(), policy, prompts, on_switch);
    let bytes = rollout.cache().bytes();
    let (mut seen, mut start) = (Vec::new(), 0);
    loop {
        rollout.write_back(&mut |_| ()).unwrap();
        let before = tokens(rollout.cache());
        let mut after = None;
        let mut listen = |progress: Progress<'_>| {
            if let Progress::Switched { cache, .. } = progress {
                after = Some(tokens(cache));
            }
        };
        let Some(chunk) = rollout.next_chunk(&mut listen).unwrap() else {
            break;
        };
        seen.extend(after.map(|after| (start, before, after)));
        start += chunk.plan.frames as u64;
        assert_eq!(rollout.cache().bytes(), bytes);
    }
    seen
}

fn frames(slots: &[Slot]) -> Vec<u64> {
    slots.iter().map(|slot| slot.frame).collect()
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// What is in the cache, and where, after it was encoded again: for every policy and sink, wherever prompts change.
    #[test]
    fn a_cache_that_is_encoded_again_is_as_the_rule_says(
        policy in 0usize..8,
        rule in 2usize..5,
        prompts in prop::collection::vec(0u64..2, 2..12),
    ) {
        let policy = policies(3, 36)[policy];
        let OnSwitch::Recache { sink } = rules()[rule] else { unreachable!() };
        let seen = changes(policy, &prompts, rules()[rule]);
        prop_assert_eq!(seen.len(), prompts.windows(2).filter(|pair| pair[0] != pair[1]).count());
        for (start, before, after) in seen {
            let slots = after[0].0.clone();
            prop_assert!(after.iter().all(|(of_layer, _)| *of_layer == slots), "layers differ");
            prop_assert!(slots.len() <= policy.window && slots.iter().all(|slot| slot.reuses == 0));
            let whole: Vec<Slot> = before[0].0.iter().copied().filter(|slot| slot.reuses == 0).collect();
            let dropped = frames(&whole) != (start - whole.len() as u64..start).collect::<Vec<_>>();
            let kept = if dropped && sink == RecacheSink::Keep { policy.sink } else { 0 };
            if sink == RecacheSink::Renew {
                prop_assert_eq!(frames(&slots), (start - whole.len() as u64..start).collect::<Vec<_>>());
                prop_assert!(slots.iter().all(|slot| slot.position == slot.frame as i64));
            } else {
                prop_assert_eq!(&slots, &whole, "frames and positions are those that were there");
            }
            for (layer, ((_, new), (old_slots, old))) in after.iter().zip(&before).enumerate() {
                for (i, slot) in slots.iter().enumerate() {
                    let Some(at) = old_slots.iter().position(|old| old.frame == slot.frame && old.reuses == 0) else {
                        continue;
                    };
                    let moved = apart(&new[i], &old[at]);
                    // Keys of the first layer know nothing of the prompt, and those of a sink that stays are the same.
                    prop_assert!(layer > 0 || moved < 1e-4, "frame {}: {moved}", slot.frame);
                    prop_assert!(i >= kept || moved == 0.0, "the sink at {i}: {moved}");
                    prop_assert!(i < kept || layer == 0 || moved > 1e-6, "frame {} was not encoded again", slot.frame);
                }
            }
        }
    }

    /// Sink and last chunk are left, the sink directly before the chunk where it moves along.
    #[test]
    fn a_flushed_cache_holds_sink_and_last_chunk(policy in 0usize..8, chunks in 1usize..10) {
        let policy = policies(3, 36)[policy];
        let prompts: Vec<u64> = (0..=chunks).map(|chunk| u64::from(chunk == chunks)).collect();
        let seen = changes(policy, &prompts, OnSwitch::Flush);
        prop_assert_eq!(seen.len(), 1);
        let (start, before, after) = &seen[0];
        for ((slots, keys), (old_slots, old)) in after.iter().zip(before) {
            let sink = policy.sink.min(old_slots.len());
            let last = (start - 3).max(sink as u64)..*start;
            prop_assert_eq!(frames(slots), (0..sink as u64).chain(last).collect::<Vec<_>>());
            prop_assert!(slots[sink..].iter().all(|slot| slot.position == slot.frame as i64));
            if slots.len() < old_slots.len() && policy.placement == Placement::Consecutive {
                prop_assert_eq!(slots[0].position, *start as i64 - 3 - sink as i64);
            }
            if policy.placement == Placement::Origin {
                prop_assert!(slots.iter().all(|slot| slot.position == slot.frame as i64));
            }
            for (slot, keys) in slots.iter().zip(keys) {
                let at = old_slots.iter().position(|old| old.frame == slot.frame && old.reuses == 0).unwrap();
                prop_assert_eq!(keys, &old[at]);
            }
        }
    }
}

#[test]
fn what_a_change_does_to_the_cache_shows_from_its_chunk_on() {
    let model = model();
    for policy in policies(3, 36) {
        let prompts: Vec<u64> = (0..12).map(|chunk| u64::from(chunk >= 6)).collect();
        let videos = rules().map(|rule| finish(switching(&model, policy, &prompts, rule)));
        for (i, video) in videos.iter().enumerate() {
            assert!(all_finite(video));
            assert_eq!(video[..6], videos[0][..6], "{policy:?}, {:?}", rules()[i]);
            for (other, earlier) in videos.iter().enumerate().take(i) {
                // Without a sink that is kept, or before anything was dropped, the rules for it are one.
                let one = other >= 2 && (policy.sink == 0 || policy.overflow == Overflow::Full);
                // Nothing but the sink and the last chunk was there.
                let flushed = i == 1 && policy.selection.is_none() && policy.window == policy.sink + 6;
                let same = one || flushed || (policy.overflow == Overflow::Full && other >= 2);
                let apart = distance(&video[6..], &earlier[6..]);
                assert_eq!(
                    apart < 1e-4,
                    same,
                    "{policy:?}, {:?} and {:?}: {apart:.1e}",
                    rules()[i],
                    rules()[other]
                );
            }
        }
    }
}

/// The same change gives the same video wherever the video begins, long after the window has moved on.
#[test]
fn a_cache_is_encoded_again_without_a_last_position() {
    let model = model();
    for rule in &rules()[2..] {
        let video = |first_position| {
            let prompts = [(0, 0), (30, 1), (45, 2)].map(|(frame, seed)| PromptChange {
                frame,
                context: prompt(&model, seed),
            });
            let settings = RolloutSettings {
                first_position,
                ..settings(deep_forcing(3), 3, 60)
            };
            let script = Script::new(60, prompts.into()).unwrap().on_switch(vec![*rule; 2]);
            let noise = Box::new(SeededNoise::new(1));
            finish(Rollout::directed(model.clone(), settings, Box::new(script), None, noise).unwrap())
        };
        let apart = distance(&video(5000), &video(0));
        assert!(apart < 1e-4, "{rule:?}: {apart:.1e}");
    }
}

#[test]
fn a_snapshot_without_the_latents_that_a_change_needs_is_refused() {
    let model = model();
    let rule = rules()[2];
    let begin = || switching(&model, deep_forcing(3), &[0, 0, 0, 1, 1, 1], rule);
    let mut rollout = begin();
    for _ in 0..3 {
        next(&mut rollout);
    }
    let good = rollout.snapshot().unwrap();
    assert!(good.history.is_some());
    begin().restore(&good).unwrap();
    let mut without = good.clone();
    without.history = None;
    let mut shorter = good.clone();
    if let Some(history) = &mut shorter.history {
        history.frames.pop();
    }
    for snapshot in [without, shorter] {
        let error = begin().restore(&snapshot);
        assert!(matches!(error, Err(Error::Snapshot { .. })), "{error:?}");
    }
    // Where no change needs them, none are kept.
    let mut keeping = directed(&model, deep_forcing(3), &[0; 6]);
    next(&mut keeping);
    assert!(keeping.snapshot().unwrap().history.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Prompt changes, stops and snapshots at any chunk boundaries, under every policy and whatever a change does to the
    /// cache: what is continued in a new
    /// rollout equals what was not interrupted, to the bit.
    #[test]
    fn continued_rollouts_equal_unbroken_ones(
        policy in 0usize..8,
        rule in 0usize..5,
        prompts in prop::collection::vec(0u64..3, 2..14),
        stops in prop::collection::vec(0usize..14, 0..4),
    ) {
        let model = model();
        let policy = policies(3, 42)[policy];
        let begin = || switching(&model, policy, &prompts, rules()[rule]);
        let whole = finish(begin());
        prop_assert_eq!(whole.len(), prompts.len());
        let mut rollout = begin();
        let mut made = Vec::new();
        loop {
            if stops.contains(&made.len()) {
                let snapshot = rollout.snapshot().unwrap();
                // What goes on in the old one is not seen by the snapshot.
                let _ = next(&mut rollout);
                rollout = begin();
                rollout.restore(&snapshot).unwrap();
            }
            match next(&mut rollout) {
                Some(chunk) => made.push(chunk),
                None => break,
            }
        }
        prop_assert_eq!(made, whole);
    }
}

#[test]
fn snapshots_of_something_else_are_refused() {
    let model = model();
    let mut rollout = directed(&model, deep_forcing(3), &[0; 6]);
    for _ in 0..4 {
        next(&mut rollout);
    }
    let good = rollout.snapshot().unwrap();
    let refused = |what: &str, change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = good.clone();
        change(&mut snapshot);
        let error = directed(&model, deep_forcing(3), &[0; 6]).restore(&snapshot);
        assert!(matches!(error, Err(Error::Snapshot { .. })), "{what}: {error:?}");
    };
    refused("frame", &|s| s.frame += 1);
    refused("end", &|s| s.cache.end = None);
    refused("layers", &|s| drop(s.cache.layers.pop()));
    refused("row", &|s| s.cache.layers[0].slots[0].row = 7);
    refused("future", &|s| s.cache.layers[0].slots[0].frame = 99);
    refused("far", &|s| s.cache.layers[1].slots[2].position = i64::MIN);
    refused("fewer slots", &|s| s.cache.layers[1].slots.truncate(2));
    refused("keys", &|s| {
        s.cache.layers[1].raw = Tensor::zeros((1, 2, 8), DType::F32, &Device::Cpu).unwrap()
    });
    refused("sums", &|s| {
        s.cache.layers[0].queries[0] = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap()
    });
    // Of another size: its window is longer than what this cache holds.
    let longer = CacheSettings {
        window: 15,
        ..cache_settings(PolicyName::Fifo, Positions::Official)
    };
    let mut other = directed(&model, longer.resolve(3, 60).unwrap(), &[0; 12]);
    while next(&mut other).is_some() {}
    let error = directed(&model, deep_forcing(3), &[0; 12]).restore(&other.snapshot().unwrap());
    assert!(matches!(error, Err(Error::Snapshot { .. })), "{error:?}");
}
