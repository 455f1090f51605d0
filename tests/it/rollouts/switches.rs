//! What a change of the prompt does to the cache.

use super::*;

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
