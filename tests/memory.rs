//! The memory estimates against what is really allocated: networks with random weights of several sizes, and a counting
//! allocator. One test, so that nothing else allocates meanwhile.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use candle_core::{DType, Device, Tensor};
use deepforcing::{
    cache::CacheSettings,
    checkpoint::{TensorSpec, Weights},
    memory::estimate,
    rollout::sampler::SamplerSettings,
    rollout::{ChunkLoop, PromptChange, Rollout, RolloutSettings, SeededNoise},
    text::{TokenizedPrompt, Umt5, Umt5Config},
    transformer::{CausalWan, TransformerConfig},
    vae::{Decoder, TaeConfig, WanEncoder, WanVaeConfig},
};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn count(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes by which `work` raises what is allocated, at its highest moment.
fn peak_of<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    ((PEAK.load(Ordering::Relaxed) - before) as u64, result)
}

fn random_weights(specs: Vec<TensorSpec>) -> Weights {
    let tensor = |spec: TensorSpec| {
        let fan_in: usize = spec.shape[1..].iter().product();
        let bound = if fan_in > 1 { (3.0 / fan_in as f32).sqrt() } else { 1.0 };
        let tensor = Tensor::rand(-bound, bound, spec.shape, &Device::Cpu).unwrap();
        (spec.name, tensor)
    };
    let tensors: HashMap<_, _> = specs.into_iter().map(tensor).collect();
    Weights::from_tensors(tensors, DType::F32, &Device::Cpu)
}

/// Scratch of threads and small things that no formula counts.
fn small() -> u64 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    ((4 + 2 * threads) << 20) as u64
}

/// An estimate may be too high by half, and hardly too low.
fn compare(what: &str, estimated: u64, measured: u64) {
    let (e, m) = (estimated as f64 / 1e6, measured as f64 / 1e6);
    println!("{what}: estimated {e:.1} MB, measured {m:.1} MB, ratio {:.2}", e / m);
    assert!(
        measured <= estimated + estimated / 50 + small(),
        "{what} needs more than estimated"
    );
    assert!(
        estimated <= measured + measured / 2 + small(),
        "{what} is overestimated"
    );
}

fn transformer(dim: usize, ffn_dim: usize, height: usize, width: usize, policy: &str) {
    let config = TransformerConfig {
        dim,
        heads: dim / 64,
        layers: 2,
        ffn_dim,
        context_dim: 64,
        context_len: 32,
        ..TransformerConfig::wan_1_3b()
    };
    let weights = random_weights(CausalWan::expected_tensors(config.clone()).unwrap());
    let model = Arc::new(CausalWan::new(config.clone(), weights).unwrap());
    let policy = CacheSettings {
        policy: policy.parse().unwrap(),
        window: 12,
        sink: 4,
        budget: 9,
        ..CacheSettings::default()
    };
    let policy = policy.resolve(3, 15).unwrap();
    let shape = model.cache_shape(height, width, 3);
    let settings = RolloutSettings {
        frames: 15,
        chunk: 3,
        first_frame_alone: false,
        height,
        width,
        sampler: SamplerSettings {
            steps: vec![1000, 500],
            ..SamplerSettings::default()
        },
        policy,
        seed: 0,
        first_position: 0,
        fill_last: false,
    };
    let embedding = Tensor::rand(-1f32, 1f32, (8, 64), &Device::Cpu).unwrap();
    let (measured, ()) = peak_of(|| {
        let context = Arc::new(model.prompt_context(&embedding).unwrap());
        let prompts = vec![PromptChange { frame: 0, context }];
        let noise = Box::new(SeededNoise::new(0));
        let mut rollout = Rollout::new(model.clone(), settings, prompts, None, noise).unwrap();
        while rollout.next_chunk(&mut |_| ()).unwrap().is_some() {}
    });
    let estimated = estimate::cache(&policy, &shape, usize::MAX)
        + estimate::transformer_pass(&config, &policy, &shape)
        + estimate::prompt(&config);
    compare(
        &format!("transformer {dim}/{ffn_dim}, latents {height}x{width}, {policy:?}"),
        estimated,
        measured,
    );
}

fn latents(frames: usize, height: usize, width: usize) -> Tensor {
    Tensor::rand(-1f32, 1f32, (frames, 16, height, width), &Device::Cpu).unwrap()
}

fn bytes(weights: &[TensorSpec], prefixes: &[&str]) -> u64 {
    let mine = weights
        .iter()
        .filter(|spec| prefixes.iter().any(|prefix| spec.name.starts_with(prefix)));
    mine.map(|spec| 4 * spec.shape.iter().product::<usize>() as u64).sum()
}

fn wan(dim: usize, height: usize, width: usize) {
    let config = WanVaeConfig {
        dim,
        ..WanVaeConfig::wan21()
    };
    let specs = config.expected_tensors().unwrap();
    let weights = random_weights(specs.clone());
    let decoder = Arc::new(Decoder::new(&weights).unwrap());
    let input = latents(3, height, width);
    // The weights are packed at the first call: the second copy.
    let (measured, ()) = peak_of(|| {
        let mut stream = decoder.stream();
        (0..2).for_each(|_| drop(stream.push(&input).unwrap()));
    });
    let pictures = 4 * 3 * 3 * (64 * height * width) as u64 * 4 * 3;
    let estimated = bytes(&specs, &["decoder.", "conv2."]) + estimate::wan_decoder(&config, height, width) + pictures;
    compare(
        &format!("Wan decoder of {dim}, latents {height}x{width}"),
        estimated,
        measured,
    );

    let encoder = WanEncoder::new(&weights).unwrap();
    let pictures = Tensor::rand(-1f32, 1f32, (9, 3, 8 * height, 8 * width), &Device::Cpu).unwrap();
    let (measured, _) = peak_of(|| encoder.encode(&pictures).unwrap());
    let estimated = bytes(&specs, &["encoder.", "conv1."]) + estimate::wan_encoder(&config, height, width);
    compare(
        &format!("Wan encoder of {dim}, latents {height}x{width}"),
        estimated,
        measured,
    );
}

fn tae(height: usize, width: usize) {
    let config = TaeConfig::taew21();
    let specs = config.expected_tensors().unwrap();
    let decoder = Arc::new(Decoder::new(&random_weights(specs.clone())).unwrap());
    let input = latents(3, height, width);
    let (measured, ()) = peak_of(|| {
        let mut stream = decoder.stream();
        (0..2).for_each(|_| drop(stream.push(&input).unwrap()));
    });
    let pictures = 4 * 3 * 3 * (64 * height * width) as u64 * 4 * 3;
    let estimated = bytes(&specs, &["decoder."]) + estimate::tae_decoder(&config, height, width) + pictures;
    compare(&format!("tiny decoder, latents {height}x{width}"), estimated, measured);
}

fn text(dim: usize, ffn_dim: usize, heads: usize, tokens: usize) {
    let config = Umt5Config {
        vocab: 100,
        dim,
        attention_dim: dim,
        ffn_dim,
        heads,
        layers: 2,
        ..Umt5Config::xxl()
    };
    let weights = random_weights(Umt5::expected_tensors(&config).unwrap());
    let encoder = Umt5::new(weights).unwrap();
    let prompt = TokenizedPrompt {
        ids: (0..tokens as u32).map(|id| id % 100).collect(),
        total: tokens,
    };
    let (measured, _) = peak_of(|| encoder.encode(&[&prompt], 512).unwrap());
    // Weights in memory are handed out, not read: only the activations are compared.
    let block = 4 * (4 * dim * dim + 3 * dim * ffn_dim) as u64;
    let estimated = estimate::text_encoder(&config, tokens) - block;
    compare(
        &format!("text encoder {dim}/{ffn_dim}, {tokens} tokens"),
        estimated,
        measured,
    );
}

#[test]
fn estimates_are_near_what_is_allocated() {
    transformer(256, 1024, 40, 60, "deep-forcing");
    transformer(256, 1490, 30, 52, "deep-sink");
    transformer(128, 512, 40, 60, "fifo");
    transformer(128, 1024, 30, 52, "global");
    wan(16, 24, 40);
    wan(48, 8, 12);
    tae(16, 24);
    text(512, 1280, 8, 512);
    text(256, 640, 16, 300);
}
