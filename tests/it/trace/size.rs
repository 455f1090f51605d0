//! How large the trace of a large model is, and what it costs: the planning and scoring of the 1.3B model at 480×832
//! with tokens of a few random numbers.

use std::{path::Path, time::Instant};

use candle_core::{DType, Device, Tensor};
use deepforcing::{
    cache::{CacheSettings, CacheShape, ChunkTokens, KvCache},
    models::DecoderKind,
    recipe::{ModelRecord, Recipe},
    trace::{Trace, TraceOptions, Tracing},
};
use tempfile::tempdir;

const CHUNKS: u64 = 25;
const LAYERS: usize = 30;

/// The first passes of a video and their clean passes; gives the seconds that they took.
fn run(cache: &mut KvCache) -> f64 {
    let shape = *cache.shape();
    let tokens = shape.chunk * shape.tokens_per_frame();
    let random = || Tensor::randn(0f32, 1f32, (tokens, shape.heads, shape.head_dim), &Device::Cpu).unwrap();
    let few: Vec<Tensor> = (0..7).map(|_| random()).collect();
    let begun = Instant::now();
    for chunk in 0..CHUNKS {
        for _ in 0..2 {
            let pass = cache.begin(chunk * shape.chunk as u64, shape.chunk).unwrap();
            for layer in 0..shape.layers {
                let of = |at: usize| &few[(chunk as usize * 3 + layer * 5 + at) % few.len()];
                let tokens = ChunkTokens {
                    queries: of(0),
                    keys: of(1),
                    rotated: of(2),
                    values: of(3),
                };
                cache.update(layer, pass, tokens).unwrap();
            }
        }
    }
    begun.elapsed().as_secs_f64()
}

fn cache() -> KvCache {
    let shape = CacheShape {
        layers: LAYERS,
        heads: 1,
        head_dim: 8,
        rows: 30,
        columns: 52,
        chunk: 3,
    };
    let policy = CacheSettings::default().resolve(3, 240).unwrap();
    KvCache::new(policy, shape, 0, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn a_minute_of_a_large_model_is_a_few_megabytes() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("trace.jsonl");
    let model = ModelRecord {
        model: None,
        preset: "deep-forcing".into(),
        decoder: DecoderKind::Wan,
        files: Vec::new(),
    };
    let options = TraceOptions {
        path: path.clone(),
        ..TraceOptions::default()
    };
    let mut traced = cache();
    let recipe = Recipe::new(model);
    let video = Path::new("video.mp4");
    let tracing = Tracing::start(&options, &recipe, Some(video), false, &mut traced).unwrap();
    let with = run(&mut traced);
    tracing.finish(true).unwrap();
    let without = run(&mut cache());

    let bytes = path.metadata().unwrap().len() as f64;
    let trace = Trace::read(&path).unwrap();
    assert_eq!(trace.damage, None);
    let events = trace.events.len() / LAYERS;
    assert_eq!(events, 9);
    // 80 chunks a minute, and 37 events.
    let minute = bytes * 37.0 / events as f64;
    let cost = (with - without) / CHUNKS as f64;
    println!(
        "{:.1} MB a minute; {:.1} ms a chunk of {:.1}",
        minute / 1e6,
        1e3 * cost,
        1e3 * without / CHUNKS as f64
    );
    assert!(minute < 25e6, "{minute} bytes");
    assert!(cost < 1.0, "{cost} seconds for each chunk");
}
