//! Events that stay on the device against those that pass through the host: the same tokens at the same positions.

use candle_core::{DType, Device, Tensor};

use super::{
    CacheSettings, CacheShape, ChunkTokens, Event, HeadProfile, KvCache, OnEvent, Placement, Policy, PolicyName,
};
use crate::{cache::rope::Rope, kernels};

const SHAPE: CacheShape = CacheShape {
    layers: 3,
    heads: 2,
    head_dim: 16,
    rows: 2,
    columns: 3,
    chunk: 3,
};

fn cache(policy: &Policy, selecting: bool) -> KvCache {
    let mut cache = KvCache::new(*policy, SHAPE, 5, DType::F32, &Device::Cpu).unwrap();
    let capacity = (policy.window + SHAPE.chunk) * SHAPE.tokens_per_frame();
    cache.allocate(capacity, DType::F32, &Device::Cpu, selecting).unwrap();
    cache
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Runs `chunks` chunks of two passes through both caches and compares them after every layer and pass.
fn compare(policy: Policy, chunks: u64, probed: bool) {
    let (mut host, mut device) = (cache(&policy, false), cache(&policy, true));
    let (seen_by, events) = std::sync::mpsc::channel();
    if probed {
        for cache in [&mut host, &mut device] {
            let seen = seen_by.clone();
            cache.set_observer(Some(Box::new(OnEvent(move |event: Event<'_>| {
                let what = (event.layer, event.kept.to_vec(), event.cache.slots().to_vec());
                seen.send((what, event.scores.map(<[f32]>::to_vec))).unwrap();
            }))));
        }
    }
    let rope = Rope::new(SHAPE.head_dim);
    let tokens = 3 * SHAPE.tokens_per_frame();
    for start in (0..chunks).map(|chunk| 3 * chunk) {
        let angles = rope
            .chunk_angles(start as i64, 3, SHAPE.rows, SHAPE.columns, &Device::Cpu)
            .unwrap();
        for _ in 0..2 {
            let pass = host.begin(start, 3).unwrap();
            assert_eq!(device.begin(start, 3).unwrap(), pass);
            for layer in 0..SHAPE.layers {
                let random = || Tensor::randn(0f32, 1f32, (tokens, 2, 16), &Device::Cpu).unwrap();
                let (queries, keys, new) = (random(), random(), random());
                let rotated = kernels::rotate(&keys, &angles.cos, &angles.sin).unwrap();
                let update = |cache: &mut KvCache| {
                    let tokens = ChunkTokens {
                        queries: &queries,
                        keys: &keys,
                        rotated: &rotated,
                        values: &new,
                    };
                    let (k, v) = cache.update(layer, pass, tokens).unwrap();
                    (values(&k), values(&v))
                };
                assert_eq!(
                    update(&mut host),
                    update(&mut device),
                    "{policy:?}: layer {layer} at {start}"
                );
            }
            host.end_pass().unwrap();
            device.end_pass().unwrap();
            for (host, device) in host.layers().iter().zip(device.layers()) {
                assert_eq!(host.slots(), device.slots(), "{policy:?} at {start}");
            }
        }
    }
    drop((seen_by, host, device));
    // Each layer's event is seen from the host's cache first.
    let events: Vec<_> = events.iter().collect();
    assert!(!probed || !events.is_empty());
    for both in events.chunks(2) {
        assert_eq!(both[0], both[1]);
    }
}

/// A chunk of random tokens for every layer, in two passes, written into all `caches` alike.
fn write_chunk(caches: &mut [&mut KvCache], start: u64) {
    let rope = Rope::new(SHAPE.head_dim);
    let tokens = 3 * SHAPE.tokens_per_frame();
    let angles = rope
        .chunk_angles(start as i64, 3, SHAPE.rows, SHAPE.columns, &Device::Cpu)
        .unwrap();
    for _ in 0..2 {
        let passes: Vec<_> = caches.iter_mut().map(|cache| cache.begin(start, 3).unwrap()).collect();
        for layer in 0..SHAPE.layers {
            let random = || Tensor::randn(0f32, 1f32, (tokens, 2, 16), &Device::Cpu).unwrap();
            let (queries, keys, new) = (random(), random(), random());
            let rotated = kernels::rotate(&keys, &angles.cos, &angles.sin).unwrap();
            for (cache, pass) in caches.iter_mut().zip(&passes) {
                let tokens = ChunkTokens {
                    queries: &queries,
                    keys: &keys,
                    rotated: &rotated,
                    values: &new,
                };
                cache.update(layer, *pass, tokens).unwrap();
            }
        }
        caches.iter_mut().for_each(|cache| cache.end_pass().unwrap());
    }
}

/// Whether two caches hold the same, to the bit.
fn same(a: &KvCache, b: &KvCache) -> bool {
    a.layers().iter().zip(b.layers()).all(|(a, b)| {
        let ((ak, av), (bk, bv)) = (a.view().unwrap(), b.view().unwrap());
        a.slots() == b.slots() && values(&ak) == values(&bk) && values(&av) == values(&bv)
    })
}

/// A cache that selects by itself goes on from a snapshot as one that was not interrupted; so does one that does not,
/// from the same snapshot.
#[test]
fn snapshots_hold_what_the_device_knows() {
    for (name, positions) in [
        ("deep-forcing", "official"),
        ("deep-forcing", "paper"),
        ("deep-sink", "official"),
    ] {
        let policy = policy(name, positions);
        let mut whole = cache(&policy, true);
        for chunk in 0..11 {
            write_chunk(&mut [&mut whole], 3 * chunk);
        }
        let snapshot = whole.snapshot().unwrap();
        let (mut device, mut host) = (cache(&policy, true), cache(&policy, false));
        device.restore(&snapshot).unwrap();
        host.restore(&snapshot).unwrap();
        assert!(same(&whole, &device), "{name} {positions}");
        for chunk in 11..20 {
            write_chunk(&mut [&mut whole, &mut device, &mut host], 3 * chunk);
            assert!(same(&whole, &device), "{name} {positions}, chunk {chunk}");
            assert!(same(&whole, &host), "{name} {positions}, chunk {chunk} on the host");
        }
    }
}

fn settings(policy: &str, positions: &str) -> CacheSettings {
    CacheSettings {
        policy: policy.parse().unwrap(),
        positions: positions.parse().unwrap(),
        ..CacheSettings::default()
    }
}

fn policy(name: &str, positions: &str) -> Policy {
    settings(name, positions).resolve(3, 240).unwrap()
}

#[test]
fn participative_compression_stays_the_same() {
    for positions in ["official", "paper"] {
        compare(policy("deep-forcing", positions), 14, false);
    }
    for shift in [-5, 4] {
        let policy = Policy {
            placement: Placement::Official { shift },
            ..policy("deep-forcing", "official")
        };
        compare(policy, 14, false);
    }
}

#[test]
fn limits_of_reuse_and_all_scorers_stay_the_same() {
    for scorer in ["past", "denoising", "both", "random"] {
        let settings = CacheSettings {
            reuse_limit: 1,
            scorer: scorer.parse().unwrap(),
            ..settings("deep-forcing", "paper")
        };
        compare(settings.resolve(3, 240).unwrap(), 14, false);
    }
}

#[test]
fn policies_without_a_choice_stay_the_same() {
    for name in ["fifo", "sink", "deep-sink", "sink-rerope"] {
        compare(policy(name, "official"), 12, false);
    }
}

/// Merged, copied and moved tokens, at the values of the releases.
#[test]
fn published_policies_stay_the_same() {
    for name in PolicyName::ALL {
        let chosen = CacheSettings {
            policy: *name,
            heads: HeadProfile::of(&[vec![0], vec![1], vec![]], 2).unwrap(),
            patches: 3,
            ..CacheSettings::default()
        };
        let policy = name.released().over(&chosen).resolve(3, 240).unwrap();
        if policy.selection.is_none() {
            compare(policy, 12, false);
        }
    }
}

#[test]
fn an_onlooker_sees_the_same_events() {
    compare(policy("deep-forcing", "official"), 10, true);
}

#[test]
#[cfg(feature = "cuda")]
fn rotation_of_slots_on_a_gpu() {
    let rope = Rope::new(32);
    let (rows, columns, times) = (3, 4, [7i64, 8, 9]);
    let table = Tensor::new(rope.table(&times, rows, columns), &Device::Cpu).unwrap();
    let tags: Vec<u32> = (0..40u32).flat_map(|i| [i * 5 % 12, 0]).collect();
    let tags = Tensor::from_vec(tags, (40, 2), &Device::Cpu).unwrap();
    let run = kernels::SlotRun {
        first: 3,
        slots: 30,
        per_frame: 12,
        frames: 3,
        rows,
        columns,
        pairs: rope.pairs(),
    };
    kernels::device_tests::compare(
        "rotate_slots",
        &[kernels::device_tests::uniform(&[40, 2, 32], 50), table],
        1,
        [1e-5, 8e-3],
        |t| {
            let rotated = t[0].copy()?;
            kernels::rotate_slots(&rotated, &t[0], &tags.to_device(t[0].device())?, &t[1], run)?;
            Ok(rotated)
        },
    );
}
