//! Weights of model files: how fast the block types of GGUF are decoded, alone on one core and as a tensor is read.
//!
//! `cargo bench --bench checkpoint [FILTER]`; items are values.

use candle_core::{DType, Device};
use deepforcing::checkpoint::{Checkpoint, KeyMap, OpenOptions, gguf::BlockType};
use divan::{Bencher, black_box, counter::ItemsCount};

/// Values of a matrix that stays in the second cache when it is encoded, and of one of UMT5-XXL.
const SMALL: usize = 1 << 16;
const LARGE: usize = 4096 * 10_240;

fn main() {
    divan::main();
}

fn names() -> Vec<&'static str> {
    BlockType::all().map(BlockType::name).collect()
}

/// Blocks of codes of all kinds; every half of a block's bytes is an ordinary number as f16.
fn blocks(kind: &BlockType, values: usize) -> Vec<u8> {
    let count = values / kind.values() * kind.bytes();
    (0..count).map(|at| (at * 37 % 59) as u8).collect()
}

/// Blocks that are decoded to f32 again and again.
#[divan::bench(args = names(), max_time = 1)]
fn decode(bencher: Bencher, name: &str) {
    let kind = BlockType::named(name).unwrap();
    let (blocks, mut out) = (blocks(kind, SMALL), vec![0f32; SMALL]);
    bencher.counter(ItemsCount::new(SMALL)).bench_local(|| {
        kind.decode(black_box(&blocks), black_box(&mut out));
    });
}

/// A matrix of the text encoder, from a mapped file to a tensor of bf16, on all threads.
#[divan::bench(args = names(), max_time = 3)]
fn read_bf16(bencher: Bencher, name: &str) {
    let kind = BlockType::named(name).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("matrix.gguf");
    std::fs::write(&path, gguf(kind)).unwrap();
    let options = OpenOptions {
        key_map: KeyMap::Verbatim,
        ..OpenOptions::default()
    };
    let file = Checkpoint::open_with(&path, &options).unwrap();
    bencher
        .counter(ItemsCount::new(LARGE))
        .bench_local(|| file.tensor("w", DType::BF16, &Device::Cpu).unwrap());
}

/// A file with one matrix.
fn gguf(kind: &BlockType) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend([1u64, 0, 1].into_iter().flat_map(u64::to_le_bytes));
    file.extend(b"w");
    file.extend(2u32.to_le_bytes());
    file.extend([10_240u64, 4096].into_iter().flat_map(u64::to_le_bytes));
    file.extend([&kind.number().to_le_bytes()[..], &0u64.to_le_bytes()].concat());
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(blocks(kind, LARGE));
    file
}
