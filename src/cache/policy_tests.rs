//! What holds for every policy, on random tokens: never more than the window, order, memory, seeds, snapshots, and that
//! only differences of positions matter.

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

use super::{
    CacheSettings, CacheShape, ChunkTokens, HeadProfile, KvCache, Made, Pass, Policy, PolicyName,
    context::{self, Step},
    rope::Rope,
};
use crate::kernels;

const SHAPE: CacheShape = CacheShape {
    layers: 2,
    heads: 4,
    head_dim: 16,
    rows: 2,
    columns: 3,
    chunk: 3,
};

/// Every policy at the values of its release.
fn policies() -> Vec<(PolicyName, Policy)> {
    let released = |name: &PolicyName| {
        let chosen = CacheSettings {
            policy: *name,
            heads: HeadProfile::of(&[vec![0], vec![1, 3]], 4).unwrap(),
            patches: 2,
            ..CacheSettings::default()
        };
        (*name, name.released().over(&chosen).resolve(SHAPE.chunk, 900).unwrap())
    };
    PolicyName::ALL.iter().map(released).collect()
}

/// A chunk loop without a network: tokens are drawn from `seed`, layer and frame.
struct Loop {
    cache: KvCache,
    first: u64,
    chunk: usize,
}

impl Loop {
    fn new(policy: Policy, first: u64) -> Self {
        let cache = KvCache::new(policy, SHAPE, 3, DType::F32, &Device::Cpu).unwrap();
        Self { cache, first, chunk: 0 }
    }

    fn start(&self, chunk: usize) -> u64 {
        self.first + (chunk * SHAPE.chunk) as u64
    }

    /// What the layers attend to gives, for the chunk's first pass.
    fn chunk(&mut self) -> Vec<f32> {
        let rule = self.cache.policy().context;
        for step in rule.map_or(Vec::new(), |rule| context::before(rule, self.chunk, false)) {
            match step {
                Step::Assemble { chunk: Some(chunk) } => self.cache.assemble(self.start(chunk), SHAPE.chunk).unwrap(),
                Step::Assemble { chunk: None } => {
                    let next = self.start(self.chunk.saturating_sub(2).max(1));
                    self.cache.assemble(next, 0).unwrap();
                }
                Step::Pass { chunk, keep, sees } => {
                    let pass = self.cache.begin_context(self.start(chunk), SHAPE.chunk, keep, sees);
                    self.pass(pass.unwrap(), 2);
                }
            }
        }
        let start = self.start(self.chunk);
        let pass = self.cache.begin(start, SHAPE.chunk).unwrap();
        let attended = self.pass(pass, 0);
        let pass = match rule.and_then(|rule| context::after(rule, self.chunk)) {
            Some((keep, sees)) => self.cache.begin_context(start, SHAPE.chunk, keep, sees),
            None => self.cache.begin_clean(start, SHAPE.chunk),
        };
        self.pass(pass.unwrap(), 1);
        self.chunk += 1;
        attended
    }

    /// A pass over all layers; `number` tells the passes over a chunk apart.
    fn pass(&mut self, pass: Pass, number: u64) -> Vec<f32> {
        let (tokens, place) = (pass.frames * SHAPE.tokens_per_frame(), pass.start - self.first);
        let mut attended = Vec::new();
        for layer in 0..SHAPE.layers {
            let drawn = |of: u64| {
                let stream = ((place * 8 + number) * 8 + of) * 8 + layer as u64;
                let numbers = super::score::random_scores(tokens * SHAPE.heads * SHAPE.head_dim, 1, 0, stream);
                Tensor::from_vec(numbers, (tokens, SHAPE.heads, SHAPE.head_dim), &Device::Cpu).unwrap()
            };
            let places = pass.position..pass.position + pass.frames as i64;
            let angles = self.cache.head_angles(layer, places).unwrap().unwrap_or_else(|| {
                let rope = Rope::new(SHAPE.head_dim);
                let (rows, columns) = (SHAPE.rows, SHAPE.columns);
                rope.chunk_angles(pass.position, pass.frames, rows, columns, &Device::Cpu)
                    .unwrap()
            });
            let turned = |raw: &Tensor| kernels::rotate(raw, &angles.cos, &angles.sin).unwrap();
            let (keys, values) = (drawn(1), drawn(2));
            let queries = turned(&drawn(0));
            let tokens = ChunkTokens {
                queries: &queries,
                keys: &keys,
                rotated: &turned(&keys),
                values: &values,
            };
            let (keys, values) = self.cache.update(layer, pass, tokens).unwrap();
            let attend = |q: &Tensor, k: &Tensor, v: &Tensor| {
                let out = kernels::attention(q, k, v, 0.25).unwrap();
                out.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            match self.cache.head_groups(layer, pass).unwrap() {
                None => attended.extend(attend(&queries, &keys, &values)),
                Some(groups) => {
                    for group in groups {
                        let heads = Tensor::new(group.heads.as_slice(), &Device::Cpu).unwrap();
                        let queries = queries.index_select(&heads, 1).unwrap();
                        attended.extend(attend(&queries, &group.keys, &group.values));
                    }
                }
            }
        }
        self.cache.end_pass().unwrap();
        attended
    }
}

#[test]
fn the_window_is_never_exceeded_and_the_chunk_comes_last() {
    for (name, policy) in policies() {
        let mut run = Loop::new(policy, 0);
        for chunk in 0..40 {
            run.chunk();
            let per_frame = SHAPE.tokens_per_frame();
            for layer in run.cache.layers() {
                let slots = layer.slots();
                assert!(slots.len() <= policy.window * per_frame, "{name}");
                let frames: Vec<_> = slots
                    .iter()
                    .step_by(per_frame)
                    .map(|slot| (slot.made, slot.position))
                    .collect();
                // Frames that come from the video lie in order, the chunk in work last.
                let own = frames.iter().filter(|(made, _)| !matches!(made, Made::Memory(_)));
                let selected = policy.selection.is_some();
                let positions: Vec<_> = own.map(|(_, position)| *position).collect();
                assert!(
                    selected || positions.windows(2).all(|pair| pair[0] < pair[1]),
                    "{name}: {positions:?}"
                );
                assert_eq!(frames.last().map(|(_, at)| *at), Some(3 * chunk + 2), "{name}");
            }
        }
    }
}

#[test]
fn memory_stays_the_same_over_ten_times_the_length() {
    for (name, policy) in policies() {
        if name == PolicyName::Global {
            continue;
        }
        let mut run = Loop::new(policy, 0);
        let mut largest = [0; 2];
        for (part, chunks) in [(0, 12), (1, 120)] {
            for _ in 0..chunks {
                run.chunk();
                let slots: usize = run.cache.layers().iter().map(|layer| layer.slots().len()).sum();
                largest[part] = largest[part].max(run.cache.bytes() + slots);
            }
        }
        // Before its first event Deep Forcing holds more than ever after.
        assert!(largest[1] <= largest[0], "{name}: {largest:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_and_a_snapshot_goes_on_alike() {
    for (name, policy) in policies() {
        let (mut once, mut again) = (Loop::new(policy, 0), Loop::new(policy, 0));
        let run = |run: &mut Loop, chunks: usize| (0..chunks).map(|_| run.chunk()).collect::<Vec<_>>();
        assert_eq!(run(&mut once, 11), run(&mut again, 11), "{name}");
        let snapshot = once.cache.snapshot().unwrap();
        let mut resumed = Loop::new(policy, 0);
        resumed.cache.restore(&snapshot).unwrap();
        resumed.chunk = once.chunk;
        let rest = run(&mut once, 9);
        assert_eq!(rest, run(&mut resumed, 9), "{name}");
        assert_ne!(rest[0], rest[1], "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    /// Where a video begins to count means nothing.
    #[test]
    fn only_differences_of_positions_matter(shift in 1u64..600) {
        for (name, policy) in policies() {
            let (mut here, mut there) = (Loop::new(policy, 0), Loop::new(policy, shift));
            for chunk in 0..14 {
                let (a, b) = (here.chunk(), there.chunk());
                let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // Chosen tokens with nearly the same score may change places.
                let bound = if policy.selection.is_some() { 2.0 } else { 2e-4 };
                prop_assert!(worst < bound, "{} chunk {}: {}", name, chunk, worst);
            }
        }
    }
}

/// A scene moves what came before by the same for all tokens, and back.
#[test]
fn a_cut_moves_the_past_for_one_chunk() {
    for (name, policy) in policies() {
        if policy.context.is_some() {
            continue;
        }
        let mut run = Loop::new(policy, 0);
        let mut plain = Loop::new(policy, 0);
        for chunk in 0..10 {
            if chunk == 7 {
                run.cache.cut().unwrap();
            }
            let (cut, other) = (run.chunk(), plain.chunk());
            let positions =
                |run: &Loop| -> Vec<i64> { run.cache.layers()[0].slots().iter().map(|slot| slot.position).collect() };
            let moved = positions(&run) != positions(&plain);
            assert_eq!(moved, chunk == 7 && policy.cut > 3 * chunk, "{name} chunk {chunk}");
            if chunk != 7 && policy.selection.is_none() {
                let worst = cut.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-5, "{name} chunk {chunk}: {worst}");
            }
        }
    }
}
