//! Video autoencoder: one decoded latent frame, and the convolution against other ways of computing it.
//!
//! `cargo bench --bench vae`; `benches/compare_vae.py` measures the same decoder in PyTorch.

use std::{collections::HashMap, sync::Arc};

use candle_core::{DType, Device, Tensor};
use deepforcing::{
    checkpoint::Weights,
    vae::{
        CausalConv3d, ConvSpec, DecodeStream, Decoder, History, LATENT_CHANNELS, TaeConfig, WanDecoder, WanVaeConfig,
    },
};
use divan::{Bencher, counter::ItemsCount};
use gemm::Parallelism;
use rayon::prelude::*;

fn main() {
    divan::main();
}

fn random(shape: &[usize], bound: f32) -> Tensor {
    Tensor::rand(-bound, bound, shape, &Device::Cpu).unwrap()
}

fn random_weights(specs: Vec<deepforcing::checkpoint::TensorSpec>) -> Weights {
    let tensors: HashMap<_, _> = specs
        .into_iter()
        .map(|spec| {
            let fan_in: usize = spec.shape[1..].iter().product();
            (
                spec.name,
                random(&spec.shape, if fan_in > 1 { (3.0 / fan_in as f32).sqrt() } else { 1.0 }),
            )
        })
        .collect();
    Weights::from_tensors(tensors, DType::F32, &Device::Cpu)
}

/// A stream that is past its first latents, and the next latent.
fn running(decoder: Decoder, size: usize) -> (DecodeStream, Tensor) {
    let mut stream = Arc::new(decoder).stream();
    stream.push(&random(&[3, LATENT_CHANNELS, size, size], 1.0)).unwrap();
    (stream, random(&[1, LATENT_CHANNELS, size, size], 1.0))
}

/// One latent frame of the Wan VAE (16×16 latents give four 128×128 pictures): toy, mid and real base width.
#[divan::bench(args = ["toy 8, 8x8", "8, 16x16", "16, 16x16", "96, 16x16"], max_time = 6)]
fn decode_latent(bencher: Bencher, case: &str) {
    let mult = |m: [usize; 4], blocks| (m.to_vec(), blocks);
    let (dim, size, (dim_mult, num_res_blocks)) = match case {
        "toy 8, 8x8" => (8, 8, mult([1, 3, 6, 8], 1)),
        "8, 16x16" => (8, 16, mult([1, 2, 4, 4], 2)),
        "16, 16x16" => (16, 16, mult([1, 2, 4, 4], 2)),
        _ => (96, 16, mult([1, 2, 4, 4], 2)),
    };
    let config = WanVaeConfig {
        dim,
        dim_mult,
        num_res_blocks,
        ..WanVaeConfig::wan21()
    };
    let weights = random_weights(config.expected_tensors().unwrap());
    let (mut stream, latent) = running(Decoder::Wan(WanDecoder::new(&weights).unwrap()), size);
    bencher.bench_local(|| stream.push(&latent).unwrap());
}

/// One latent frame of the tiny decoder at real widths.
#[divan::bench(max_time = 4)]
fn decode_latent_tiny(bencher: Bencher) {
    let weights = random_weights(TaeConfig::taew21().expected_tensors().unwrap());
    let (mut stream, latent) = running(Decoder::new(&weights).unwrap(), 16);
    bencher.bench_local(|| stream.push(&latent).unwrap());
}

/// Width of the layer and size of its picture, four frames; 3×3×3, as many channels out as in.
const LAYERS: [(usize, usize); 4] = [(8, 128), (16, 128), (96, 128), (384, 32)];
const FRAMES: usize = 4;

/// Counts floating-point operations as items.
fn flops((channels, size): (usize, usize)) -> ItemsCount {
    ItemsCount::new(2 * FRAMES * size * size * channels * channels * 27)
}

fn layer((channels, size): (usize, usize)) -> (Tensor, Tensor, Tensor) {
    let x = random(&[FRAMES + 2, channels, size, size], 1.0);
    (x, random(&[channels, channels, 3, 3, 3], 0.1), random(&[channels], 0.1))
}

/// The library's convolution.
#[divan::bench(args = LAYERS, max_time = 2)]
fn conv_direct(bencher: Bencher, case: (usize, usize)) {
    let (x, weight, bias) = layer(case);
    let tensors = HashMap::from([("weight".into(), weight), ("bias".into(), bias)]);
    let weights = Weights::from_tensors(tensors, DType::F32, &Device::Cpu);
    let conv = CausalConv3d::new(weights, ConvSpec::new(case.0, case.0, 3, 3)).unwrap();
    let mut history = History::default();
    conv.remember(&x.narrow(0, 0, 2).unwrap(), &mut history).unwrap();
    let x = x.narrow(0, 2, FRAMES).unwrap().force_contiguous().unwrap();
    bencher
        .counter(flops(case))
        .bench_local(|| conv.stream(&x, &mut history, None).unwrap());
}

/// Planes with their border of zeros, `[frames, channels, size + 2, size + 2]`.
fn padded(x: &Tensor) -> Vec<f32> {
    let x = x.pad_with_zeros(2, 1, 1).unwrap().pad_with_zeros(3, 1, 1).unwrap();
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// Rejected: rows of four lines are gathered as a matrix `[27·channels, positions]`, then one gemm.
#[divan::bench(args = LAYERS, max_time = 2)]
fn conv_im2col_gemm(bencher: Bencher, case: (usize, usize)) {
    const ROWS: usize = 4;
    let (channels, size) = case;
    let (x, weight, _) = layer(case);
    let weight = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    bencher.counter(flops(case)).bench_local(|| {
        let padded = padded(&x);
        let (pitch, k, n) = (size + 2, 27 * channels, ROWS * size);
        let plane = pitch * pitch;
        let tiles: Vec<Vec<f32>> = (0..FRAMES * size / ROWS)
            .into_par_iter()
            .map_init(
                || vec![0f32; k * n],
                |columns, tile| {
                    let (frame, row) = (tile / (size / ROWS), tile % (size / ROWS) * ROWS);
                    for (index, line) in columns.chunks_exact_mut(size).enumerate() {
                        let (row, tap, channel) = (row + index % ROWS, index / ROWS % 27, index / ROWS / 27);
                        let from =
                            ((frame + tap / 9) * channels + channel) * plane + (row + tap / 3 % 3) * pitch + tap % 3;
                        line.copy_from_slice(&padded[from..from + size]);
                    }
                    let mut out = vec![0f32; channels * n];
                    // SAFETY: weight is channels × k, columns k × n, out channels × n, all row-major.
                    unsafe {
                        gemm::gemm(
                            channels,
                            n,
                            k,
                            out.as_mut_ptr(),
                            1,
                            n as isize,
                            false,
                            weight.as_ptr(),
                            1,
                            k as isize,
                            columns.as_ptr(),
                            1,
                            n as isize,
                            0.0,
                            1.0,
                            false,
                            false,
                            false,
                            Parallelism::None,
                        );
                    }
                    out
                },
            )
            .collect();
        tiles
    });
}

/// Rejected: 27 accumulated gemms over shifted planes, in bands of four lines.
#[divan::bench(args = LAYERS, max_time = 2)]
fn conv_shifted_gemm(bencher: Bencher, case: (usize, usize)) {
    const ROWS: usize = 4;
    let (channels, size) = case;
    let (x, weight, _) = layer(case);
    let weight = weight
        .permute((2, 3, 4, 0, 1))
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    bencher.counter(flops(case)).bench_local(|| {
        let padded = padded(&x);
        let pitch = size + 2;
        let plane = pitch * pitch;
        let n = (ROWS - 1) * pitch + size;
        let tiles: Vec<Vec<f32>> = (0..FRAMES * size / ROWS)
            .into_par_iter()
            .map(|tile| {
                let (frame, row) = (tile / (size / ROWS), tile % (size / ROWS) * ROWS);
                let mut out = vec![0f32; channels * n];
                for tap in 0..27 {
                    let from = (frame + tap / 9) * channels * plane + (row + tap / 3 % 3) * pitch + tap % 3;
                    let (input, weight) = (&padded[from..], &weight[tap * channels * channels..]);
                    // SAFETY: weight is channels × channels, input channels rows of n with distance `plane`, out
                    // channels × n.
                    unsafe {
                        gemm::gemm(
                            channels,
                            n,
                            channels,
                            out.as_mut_ptr(),
                            1,
                            n as isize,
                            tap > 0,
                            weight.as_ptr(),
                            1,
                            channels as isize,
                            input.as_ptr(),
                            1,
                            plane as isize,
                            1.0,
                            1.0,
                            false,
                            false,
                            false,
                            Parallelism::None,
                        );
                    }
                }
                out
            })
            .collect();
        tiles
    });
}

/// Rejected: candle's conv2d for each of the three frames of the kernel.
#[divan::bench(args = LAYERS, max_time = 2)]
fn conv_candle_conv2d(bencher: Bencher, case: (usize, usize)) {
    let (x, weight, _) = layer(case);
    let taps: Vec<_> = (0..3)
        .map(|t| {
            weight
                .narrow(2, t, 1)
                .unwrap()
                .squeeze(2)
                .unwrap()
                .contiguous()
                .unwrap()
        })
        .collect();
    bencher.counter(flops(case)).bench_local(|| {
        let tap = |t: usize| x.narrow(0, t, FRAMES).unwrap().conv2d(&taps[t], 1, 1, 1, 1).unwrap();
        ((tap(0) + tap(1)).unwrap() + tap(2)).unwrap()
    });
}
