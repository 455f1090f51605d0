//! Rollouts that go on from a snapshot.

use super::*;

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
