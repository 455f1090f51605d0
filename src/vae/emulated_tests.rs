//! The GPU's norm, softmax and pictures in the emulator, against the CPU.

use std::collections::HashMap;

use candle_core::{DType, Device};

use crate::{
    checkpoint::Weights,
    kernels::{
        emulated::{BOTH, Memory, assert_close, flat, numbers, run, tensor},
        launch,
    },
};

#[test]
fn the_norm_over_channels_equals_the_cpus() {
    for (e, width) in BOTH.into_iter().flat_map(|e| [12, 13].map(|width| (e, width))) {
        for silu in [false, true] {
            let (frames, channels, height) = (2, 24, 5);
            let x = numbers(e, frames * channels * height * width, 44);
            let gamma = numbers(e, channels, 45);
            let (mx, mgamma) = (Memory::of(e, &x), Memory::of(e, &gamma));
            let out = Memory::new(x.len() * e.bytes());
            let sizes = [frames, channels, height * width];
            run(&launch::channel_norm(e, out.at(), mx.at(), mgamma.at(), sizes, silu).unwrap());
            let weights = HashMap::from([("gamma".to_string(), tensor(&gamma, &[channels, 1]))]);
            let weights = Weights::from_tensors(weights, DType::F32, &Device::Cpu);
            let norm = super::norm::ChannelNorm::new(weights, channels, 1, silu).unwrap();
            let want = norm.forward(&tensor(&x, &[frames, channels, height, width])).unwrap();
            assert_close("channel_norm", e, &out.values(e), &flat(&want), 1e-5);
        }
    }
}

#[test]
fn softmax_equals_candles() {
    for e in BOTH {
        let (rows, width) = (5, 700);
        let x = numbers(e, rows * width, 46);
        let memory = Memory::of(e, &x);
        run(&launch::softmax_rows(e, memory.at(), rows, width, 3.0).unwrap());
        let scaled = (tensor(&x, &[rows, width]) * 3.0).unwrap();
        let want = candle_nn::ops::softmax_last_dim(&scaled).unwrap();
        assert_close("softmax", e, &memory.values(e), &flat(&want), 1e-6);
    }
}

#[test]
fn pictures_become_the_same_bytes() {
    let (frames, height, width) = (2, 5, 63);
    for e in BOTH {
        let mut x = numbers(e, frames * 3 * height * width, 16);
        x[7] = f32::NAN;
        x[8] = f32::INFINITY;
        x[9] = f32::NEG_INFINITY;
        let mx = Memory::of(e, &x);
        let out = Memory::new(x.len());
        run(&launch::pictures_to_bytes(e, out.at(), mx.at(), frames, height * width).unwrap());
        let want = super::frames_to_rgb8(&tensor(&x, &[frames, 3, height, width])).unwrap();
        assert_eq!(out.data(), want.concat());
    }
}
