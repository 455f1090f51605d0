//! Properties of rollouts in a rolling window, on a tiny network with random weights: one token per latent frame.

use crate::tiny;

use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Tensor};
use deepforcing::{
    Error,
    cache::{CacheSettings, PolicyName, Purpose},
    rollout::sampler::SamplerSettings,
    rollout::{
        Ahead, CancelToken, ChunkLoop, Cue, Director, OnSwitch, Progress, PromptChange, RollingError, RollingRollout,
        RolloutSettings, SeededNoise, Snapshot,
    },
    transformer::{CausalWan, PromptContext},
};
use proptest::prelude::*;
use tiny::{CHANNELS, Values, model, prompt, values};

/// Sizes of a rolling window.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    chunk: usize,
    levels: usize,
    /// Chunks of history that the full window sees beside the sink.
    history: usize,
}

const SMALL: Sizes = Sizes {
    chunk: 2,
    levels: 3,
    history: 1,
};

impl Sizes {
    fn window(self) -> usize {
        self.chunk * (self.levels + self.history + 1)
    }

    fn cache(self) -> CacheSettings {
        CacheSettings {
            policy: PolicyName::SinkRerope,
            window: self.window(),
            sink: self.chunk,
            ..CacheSettings::default()
        }
    }

    fn settings(self, blocks: usize) -> RolloutSettings {
        let frames = blocks * self.chunk;
        RolloutSettings {
            frames,
            chunk: self.chunk,
            first_frame_alone: false,
            height: 2,
            width: 2,
            sampler: SamplerSettings {
                steps: (0..self.levels).map(|i| 1000 - 150 * i as u32).collect(),
                ..SamplerSettings::default()
            },
            policy: self.cache().resolve(self.chunk, frames).unwrap(),
            seed: 5,
            first_position: 0,
            fill_last: false,
        }
    }
}

fn start(model: &Arc<CausalWan>, settings: RolloutSettings) -> Result<RollingRollout, Error> {
    let prompts = vec![PromptChange {
        frame: 0,
        context: prompt(model, 0),
    }];
    RollingRollout::new(model.clone(), settings, prompts, Box::new(SeededNoise::new(1)))
}

fn next(rollout: &mut RollingRollout) -> Option<Values> {
    let chunk = rollout.next_chunk(&mut |_| {}).unwrap()?;
    Some(values(&chunk.latents))
}

fn finish(mut rollout: RollingRollout) -> Vec<Values> {
    std::iter::from_fn(|| next(&mut rollout)).collect()
}

fn distance(a: &[Values], b: &[Values]) -> f64 {
    let pairs = || a.iter().flatten().zip(b.iter().flatten());
    let apart: f64 = pairs().map(|(x, y)| f64::from(x - y).powi(2)).sum();
    let norm: f64 = pairs().map(|(_, y)| f64::from(*y).powi(2)).sum();
    (apart / norm).sqrt()
}

/// A director that tells the end when it is reached, under one prompt, and remembers what it was asked.
struct Open {
    context: Arc<PromptContext>,
    blocks: usize,
    asked: Arc<Mutex<Vec<usize>>>,
}

impl Director for Open {
    fn direct(&mut self, ahead: Ahead) -> deepforcing::Result<Option<Cue>> {
        self.asked.lock().unwrap().push(ahead.chunk);
        let cue = Cue {
            number: 0,
            context: self.context.clone(),
            on_switch: OnSwitch::Keep,
        };
        Ok((ahead.chunk < self.blocks).then_some(cue))
    }
}

fn open(model: &Arc<CausalWan>, sizes: Sizes, blocks: usize) -> (RollingRollout, Arc<Mutex<Vec<usize>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let director = Box::new(Open {
        context: prompt(model, 0),
        blocks,
        asked: asked.clone(),
    });
    let noise = Box::new(SeededNoise::new(1));
    let rollout = RollingRollout::directed(model.clone(), sizes.settings(0), director, noise).unwrap();
    (rollout, asked)
}

fn any_sizes() -> impl Strategy<Value = Sizes> {
    (1usize..4, 1usize..6, 0usize..3).prop_map(|(chunk, levels, history)| Sizes { chunk, levels, history })
}

/// Start, purpose and timesteps of a call, and the end of the cache after it.
type Seen = (usize, Purpose, Vec<f64>, u64);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every block takes each level once, the noisiest first, leaves clean exactly once, in order, and is written clean
    /// into the cache once more before a later one is.
    #[test]
    fn every_block_leaves_clean_once_and_in_order(sizes in any_sizes(), more in 0usize..12) {
        let (model, blocks) = (model(), sizes.levels + more);
        let mut rollout = start(&model, RolloutSettings { fill_last: true, ..sizes.settings(blocks) }).unwrap();
        prop_assert_eq!(rollout.chunks(), Some(blocks));
        let calls: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = calls.clone();
        rollout.listen(Box::new(move |call| {
            let seen = (call.start, call.purpose, call.timesteps.to_vec(), call.cache.end().unwrap());
            log.lock().unwrap().push(seen);
        }));
        let (mut left, mut held) = (Vec::new(), 0);
        while let Some(chunk) = rollout.next_chunk(&mut |_| {}).unwrap() {
            left.push((chunk.index, chunk.plan.start, chunk.latents.dims()[0]));
            held = held.max(rollout.cache().layers()[0].slots().len());
        }
        let expected: Vec<_> = (0..blocks).map(|block| (block, block * sizes.chunk, sizes.chunk)).collect();
        prop_assert_eq!(left, expected);
        prop_assert!(held <= sizes.window() + sizes.chunk, "{} slots", held);

        let calls = calls.lock().unwrap();
        prop_assert_eq!(calls.len(), 2 * (blocks + sizes.levels - 1));
        let mut taken: Vec<Vec<f64>> = vec![Vec::new(); blocks];
        for (number, (start, purpose, timesteps, end)) in calls.iter().enumerate() {
            let first = start / sizes.chunk;
            prop_assert_eq!(first, (number / 2 + 1).saturating_sub(sizes.levels));
            prop_assert_eq!(*end, (start + sizes.chunk) as u64, "the first block alone is kept");
            let is_update = *purpose == Purpose::Update;
            prop_assert_eq!(is_update, number % 2 == 1);
            if is_update {
                prop_assert_eq!(timesteps, &vec![0.0; sizes.chunk]);
                continue;
            }
            for (i, of_block) in timesteps.chunks(sizes.chunk).enumerate() {
                prop_assert!(of_block.iter().all(|timestep| *timestep == of_block[0]));
                taken[first + i].push(of_block[0]);
            }
        }
        for levels in &taken {
            prop_assert_eq!(levels.len(), sizes.levels);
            prop_assert!(levels[0] == 1000.0 && levels.windows(2).all(|pair| pair[1] < pair[0]), "{:?}", levels);
        }
    }

    /// Stops and snapshots at any chunks, with an end that is known before or not: what goes on in a new rollout equals
    /// what was not interrupted, to the bit.
    #[test]
    fn continued_rollouts_equal_unbroken_ones(
        sizes in any_sizes(),
        more in 0usize..9,
        is_open in any::<bool>(),
        stops in prop::collection::vec(0usize..14, 0..4),
    ) {
        let (model, blocks) = (model(), sizes.levels + more);
        let begin = || if is_open {
            open(&model, sizes, blocks).0
        } else {
            start(&model, sizes.settings(blocks)).unwrap()
        };
        let whole = finish(begin());
        prop_assert_eq!(whole.len(), blocks);
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
fn the_director_is_asked_when_a_block_enters_the_window() {
    let model = model();
    let (mut rollout, asked) = open(&model, SMALL, 6);
    assert_eq!(rollout.chunks(), None);
    assert!(next(&mut rollout).is_some());
    assert_eq!(*asked.lock().unwrap(), [0, 1, 2]);
    assert!(next(&mut rollout).is_some());
    assert_eq!(*asked.lock().unwrap(), [0, 1, 2, 3]);
    let rest = finish(rollout);
    assert_eq!(rest.len(), 4);
    assert_eq!(asked.lock().unwrap().last(), Some(&6), "the end is asked for once");
    let whole = finish(start(&model, SMALL.settings(6)).unwrap());
    assert_eq!(rest, whole[2..]);
}

/// Somebody may end an open video before the window was full once.
#[test]
fn an_open_video_may_end_early() {
    let model = model();
    for blocks in 0..SMALL.levels {
        let made = finish(open(&model, SMALL, blocks).0);
        assert_eq!(made.len(), blocks);
        assert!(made.iter().flatten().all(|value| value.is_finite()));
    }
}

#[test]
fn only_differences_of_positions_matter_and_there_is_no_last_frame() {
    let model = model();
    let blocks = 560;
    let here = SMALL.settings(blocks);
    let there = RolloutSettings {
        first_position: 100_000,
        ..here.clone()
    };
    let mut rollout = start(&model, here).unwrap();
    let mut elsewhere = start(&model, there).unwrap();
    let bytes = rollout.cache().bytes();
    for block in 0..blocks {
        let (a, b) = (next(&mut rollout).unwrap(), next(&mut elsewhere).unwrap());
        assert!(a.iter().all(|value| value.is_finite()), "block {block}");
        let apart = distance(&[a], &[b]);
        assert!(apart < 1e-3, "block {block}: {apart:.1e}");
        let held = rollout.cache().layers()[0].slots().len();
        assert!(held <= SMALL.window() + SMALL.chunk, "{held} slots");
    }
    assert!(next(&mut rollout).is_none());
    assert_eq!(rollout.cache().bytes(), bytes, "memory is flat");
}

#[test]
fn a_chunk_leaves_before_it_is_in_the_cache() {
    let model = model();
    let mut rollout = start(&model, SMALL.settings(4)).unwrap();
    let mut seen = Vec::new();
    let mut listen = |progress: Progress<'_>| {
        seen.push(match progress {
            Progress::Step { chunk, step, steps, .. } => (chunk, Some((step, steps))),
            Progress::Cached { chunk } => (chunk, None),
            Progress::Switched { .. } => panic!("no prompt changes"),
        });
    };
    rollout.next_chunk(&mut listen).unwrap().unwrap();
    rollout.next_chunk(&mut listen).unwrap().unwrap();
    rollout.write_back(&mut listen).unwrap();
    rollout.write_back(&mut listen).unwrap();
    let steps = |chunk, step, steps| (chunk, Some((step, steps)));
    let expected = [
        steps(0, 0, 3),
        steps(0, 1, 3),
        steps(0, 2, 3),
        (0, None),
        steps(1, 0, 1),
        (1, None),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn cancelling_ends_after_the_chunk_or_at_once() {
    let model = model();
    let whole = finish(start(&model, SMALL.settings(6)).unwrap());
    for urgent in [false, true] {
        let mut rollout = start(&model, SMALL.settings(6)).unwrap();
        let cancel = CancelToken::default();
        rollout.set_cancel(cancel.clone());
        let result = rollout.next_chunk(&mut |progress| {
            if let Progress::Step { step: 0, .. } = progress {
                if urgent { cancel.now() } else { cancel.after_chunk() }
            }
        });
        match result {
            Ok(chunk) => assert_eq!((urgent, values(&chunk.unwrap().latents)), (false, whole[0].clone())),
            Err(error) => assert!(urgent && matches!(error, Error::Cancelled), "{error}"),
        }
        assert!(next(&mut rollout).is_none(), "it stays cancelled");
    }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut RolloutSettings)) -> RollingError {
    let mut settings = SMALL.settings(6);
    change(&mut settings);
    match start(&model(), settings) {
        Err(Error::Rolling(error)) => error,
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn what_a_rolling_window_cannot_make_is_refused() {
    let few = refused(|s| s.frames = 4);
    assert!(
        matches!(
            few,
            RollingError::FewBlocks {
                blocks: 2,
                levels: 3,
                ..
            }
        ),
        "{few}"
    );
    assert!(
        few.to_string().contains("at least 6 latent frames (21 pictures)"),
        "{few}"
    );
    let error = refused(|s| s.sampler.first_chunk_steps = Some(vec![1000]));
    assert_eq!(error, RollingError::FirstSteps);
    assert_eq!(refused(|s| s.first_frame_alone = true), RollingError::FirstFrame);
    let error = refused(|s| s.policy.window = 7);
    assert!(
        matches!(error, RollingError::Window { window: 7, sink: 2, .. }),
        "{error}"
    );
    for policy in [
        PolicyName::Fifo,
        PolicyName::Sink,
        PolicyName::DeepForcing,
        PolicyName::Global,
    ] {
        let settings = CacheSettings {
            policy,
            budget: 9,
            ..SMALL.cache()
        };
        let error = refused(|s| s.policy = settings.resolve(2, 12).unwrap());
        assert!(matches!(error, RollingError::Policy { .. }), "{policy}: {error}");
    }
    let model = model();
    let prompts = [0, 4].map(|frame| PromptChange {
        frame,
        context: prompt(&model, frame as u64),
    });
    let noise = Box::new(SeededNoise::new(1));
    let switched = RollingRollout::new(model.clone(), SMALL.settings(6), prompts.into(), noise);
    assert!(matches!(switched.err(), Some(Error::Rolling(RollingError::Switch))));
}

#[test]
fn snapshots_of_something_else_are_refused() {
    let model = model();
    let mut rollout = start(&model, SMALL.settings(8)).unwrap();
    for _ in 0..3 {
        next(&mut rollout);
    }
    let good = rollout.snapshot().unwrap();
    assert_eq!(good.window.as_ref().unwrap().dims(), [4, CHANNELS, 2, 2]);
    let refused = |what: &str, change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = good.clone();
        change(&mut snapshot);
        let error = start(&model, SMALL.settings(8)).unwrap().restore(&snapshot);
        assert!(matches!(error, Err(Error::Snapshot { .. })), "{what}: {error:?}");
    };
    let zeros = |dims: &[usize], dtype| Some(Tensor::zeros(dims, dtype, &Device::Cpu).unwrap());
    refused("no window", &|s| s.window = None);
    refused("a block less", &|s| s.window = zeros(&[2, CHANNELS, 2, 2], DType::F32));
    refused("a block more", &|s| s.window = zeros(&[6, CHANNELS, 2, 2], DType::F32));
    refused("half a block", &|s| s.window = zeros(&[3, CHANNELS, 2, 2], DType::F32));
    refused("size", &|s| s.window = zeros(&[4, CHANNELS, 3, 2], DType::F32));
    refused("a number", &|s| s.window = zeros(&[], DType::F32));
    refused("whole numbers", &|s| s.window = zeros(&[4, CHANNELS, 2, 2], DType::U32));
    refused("prompt", &|s| s.prompt = Some(1));
    refused("frame", &|s| s.frame += 1);
    refused("end", &|s| s.cache.end = None);
    let mut again = start(&model, SMALL.settings(8)).unwrap();
    again.restore(&good).unwrap();
    assert_eq!(finish(again), finish(rollout));
}
