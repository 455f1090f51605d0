//! Text encoder, transformer, cache and chunk loop, with random weights.
//!
//! `cargo bench --bench networks [FILTER]`; `benches/compare_transformer.py` runs the same transformer in PyTorch.

use candle_core::Tensor;
use deepforcing::{
    cache::{ChunkTokens, KvCache, PolicyName, rope::Rope},
    kernels,
    rollout::{ChunkLoop, Rollout},
    text::{TokenizedPrompt, Umt5, Umt5Config},
    transformer::{CausalWan, Observer, PromptContext, TimeEmbedding},
};
use divan::Bencher;

#[allow(dead_code, reason = "shared with the other benchmarks")]
mod common;

use common::{CHUNK, Size, WINDOW, policy, prompt, random, random_weights, rollout, transformer};

const SIZES: [Size; 2] = [Size::Tiny, Size::Mid];
const POLICIES: [PolicyName; 2] = [PolicyName::DeepForcing, PolicyName::Fifo];

fn main() {
    divan::main();
}

/// One prompt of 64 tokens: the encoder of the parity case (dim 64, 3 blocks), and dim 256, 4 heads, ffn 1024, 8 blocks.
#[divan::bench(args = SIZES, max_time = 2)]
fn umt5_encode(bencher: Bencher, size: Size) {
    let (dim, ffn_dim, layers) = match size {
        Size::Tiny | Size::Token => (64, 160, 3),
        Size::Mid => (256, 1024, 8),
    };
    let config = Umt5Config {
        vocab: 384,
        dim,
        attention_dim: dim,
        ffn_dim,
        heads: 4,
        layers,
        ..Umt5Config::xxl()
    };
    let encoder = Umt5::new(random_weights(Umt5::expected_tensors(&config).unwrap())).unwrap();
    let ids: Vec<u32> = (0..64).map(|i| i * 5 % 384).collect();
    let prompt = TokenizedPrompt { total: ids.len(), ids };
    bencher.bench_local(|| encoder.encode(&[&prompt], 512).unwrap());
}

/// A chunk in the state in which it is denoised.
struct Chunk {
    model: std::sync::Arc<CausalWan>,
    prompt: PromptContext,
    time: TimeEmbedding,
    latents: Tensor,
    cache: KvCache,
    start: u64,
}

impl Chunk {
    /// The last chunk of `cached` latent frames, seen once.
    fn new(size: Size, cached: usize) -> Self {
        let model = transformer(size);
        let (height, width) = size.latents();
        let shape = model.cache_shape(height, width, CHUNK);
        let channels = model.config().in_channels;
        let mut chunk = Self {
            prompt: prompt(&model),
            time: model.time_embedding(&[750.0]).unwrap(),
            latents: random(&[CHUNK, channels, height, width], 1.0),
            cache: KvCache::new(policy(PolicyName::Fifo), shape, 1, model.dtype(), model.device()).unwrap(),
            model,
            start: 0,
        };
        for start in (0..cached).step_by(CHUNK) {
            chunk.start = start as u64;
            chunk.forward();
        }
        chunk
    }

    fn forward(&mut self) -> Tensor {
        let (cache, mut observer) = (&mut self.cache, Observer::silent());
        self.model
            .forward(
                &self.latents,
                &self.time,
                &self.prompt,
                self.start,
                cache,
                &mut observer,
            )
            .unwrap()
    }
}

/// A denoising step of the first chunk, which attends to itself.
#[divan::bench(args = SIZES, max_time = 4)]
fn forward_first_chunk(bencher: Bencher, size: Size) {
    let mut chunk = Chunk::new(size, CHUNK);
    bencher.bench_local(|| chunk.forward());
}

/// A denoising step with a full window.
#[divan::bench(args = SIZES, max_time = 4)]
fn forward_full_window(bencher: Bencher, size: Size) {
    let mut chunk = Chunk::new(size, WINDOW);
    bencher.bench_local(|| chunk.forward());
}

/// Self-attention of a chunk to a full window, one layer.
#[divan::bench(args = SIZES, max_time = 2)]
fn attention(bencher: Bencher, size: Size) {
    let config = size.config();
    let tokens = |frames: usize| random(&[frames * size.tokens(), config.heads, config.head_dim()], 1.0);
    let (q, k, v) = (tokens(CHUNK), tokens(WINDOW), tokens(WINDOW));
    bencher.bench_local(|| kernels::attention(&q, &k, &v, 0.125).unwrap());
}

/// The cache of all layers under Deep Forcing in steady state: chunks are appended, every second one is an event.
struct Cache {
    cache: KvCache,
    size: Size,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    next: u64,
}

impl Cache {
    fn new(size: Size, name: PolicyName) -> Self {
        let model = transformer(size);
        let (height, width) = size.latents();
        let shape = model.cache_shape(height, width, CHUNK);
        let tokens = || random(&[CHUNK * size.tokens(), shape.heads, shape.head_dim], 1.0);
        let mut cache = Self {
            cache: KvCache::new(policy(name), shape, 1, model.dtype(), model.device()).unwrap(),
            size,
            queries: tokens(),
            keys: tokens(),
            values: tokens(),
            next: 0,
        };
        for _ in 0..3 * WINDOW / CHUNK {
            cache.append();
        }
        cache
    }

    /// What the first pass of the next chunk does to the cache.
    fn append(&mut self) {
        let pass = self.cache.begin(self.next, CHUNK).unwrap();
        self.next += CHUNK as u64;
        for layer in 0..self.size.config().layers {
            let tokens = ChunkTokens {
                queries: &self.queries,
                keys: &self.keys,
                rotated: &self.keys,
                values: &self.values,
            };
            self.cache.update(layer, pass, tokens).unwrap();
        }
    }

    fn frames(&self) -> usize {
        self.cache.layers()[0].slots().len() / self.size.tokens()
    }
}

/// Appending a chunk to the caches of all layers with a Participative Compression event: scores, choice, gather, and
/// the rotation of what moved. What the event adds is the difference to `append_without_event`.
#[divan::bench(args = SIZES, max_time = 2, sample_size = 1, sample_count = 200)]
fn append_with_event(bencher: Bencher, size: Size) {
    bench_append(bencher, Cache::new(size, PolicyName::DeepForcing), true);
}

/// The same chunk when it fits: three frames of keys and values are written, queries are summed.
#[divan::bench(args = SIZES, max_time = 2, sample_size = 1, sample_count = 200)]
fn append_without_event(bencher: Bencher, size: Size) {
    bench_append(bencher, Cache::new(size, PolicyName::DeepForcing), false);
}

/// The same under FIFO, where every chunk moves the whole window.
#[divan::bench(args = SIZES, max_time = 2, sample_size = 1, sample_count = 200)]
fn append_fifo(bencher: Bencher, size: Size) {
    let mut cache = Cache::new(size, PolicyName::Fifo);
    bencher.bench_local(|| cache.append());
}

fn bench_append(bencher: Bencher, cache: Cache, event: bool) {
    let cache = std::cell::RefCell::new(cache);
    let overflows = || cache.borrow().frames() + CHUNK > WINDOW;
    bencher
        .with_inputs(|| {
            while overflows() != event {
                cache.borrow_mut().append();
            }
        })
        .bench_local_values(|()| cache.borrow_mut().append());
}

/// Rotation angles of a chunk.
#[divan::bench(args = SIZES, max_time = 1)]
fn chunk_angles(bencher: Bencher, size: Size) {
    let rope = Rope::new(size.config().head_dim());
    let (height, width) = size.latents();
    let device = candle_core::Device::Cpu;
    bencher.bench_local(|| rope.chunk_angles(1000, CHUNK, height / 2, width / 2, &device).unwrap());
}

/// A whole chunk in steady state: four denoising steps and the pass that writes it into the cache. A sample is two
/// chunks, because a compression happens in every second one.
#[divan::bench(args = SIZES, consts = [0, 1], max_time = 12, sample_size = 2)]
fn whole_chunk<const POLICY: usize>(bencher: Bencher, size: Size) {
    let mut rollout = rollout(size, POLICIES[POLICY], 100_000);
    let next = |rollout: &mut Rollout| rollout.next_chunk(&mut |_| ()).unwrap().unwrap();
    for _ in 0..2 * WINDOW / CHUNK {
        next(&mut rollout);
    }
    bencher.bench_local(|| next(&mut rollout));
}
