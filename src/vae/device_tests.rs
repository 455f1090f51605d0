//! The video autoencoders on a GPU against the CPU. Without a GPU each test says that it was skipped.

use std::{collections::HashMap, sync::Arc};

use candle_core::{DType, Device, Tensor};

use super::{
    Decoder, TaeConfig, TaeDecoder, WanDecoder, WanVaeConfig, attention::frame_attention, frames_to_rgb8,
    norm::ChannelNorm,
};
use crate::{
    checkpoint::Weights,
    kernels::device_tests::{compare, gpu, uniform},
};

#[test]
fn norm_and_attention() {
    for width in [12, 13] {
        let tensors = [uniform(&[2, 24, 5, width], 4), uniform(&[24, 1], 5)];
        compare("channel norm", &tensors, 2, [1e-5, 8e-3], |t| {
            let weights = HashMap::from([("gamma".into(), t[1].clone())]);
            let weights = Weights::from_tensors(weights, t[1].dtype(), t[1].device());
            let norm = ChannelNorm::new(weights, 24, 1, true).map_err(candle_core::Error::wrap)?;
            norm.forward(&t[0])
        });
        let qkv = [uniform(&[2, 48, 5, width], 6)];
        compare("frame attention", &qkv, 1, [1e-5, 2e-2], |t| frame_attention(&t[0]));
    }
}

/// Random tensors for all that `build` asks for, of about unit gain.
fn weights(build: impl Fn(&Weights)) -> HashMap<String, Tensor> {
    let recorder = Weights::recorder();
    build(&recorder);
    let specs = recorder.recorded().into_iter().zip(10..);
    specs
        .map(|(spec, seed)| {
            let fan_in = spec.shape[1..].iter().product::<usize>().max(1) as f64;
            (spec.name, (uniform(&spec.shape, seed) * (0.7 / fan_in.sqrt())).unwrap())
        })
        .collect()
}

/// Decodes three latents in two calls on the CPU and on the GPU, in f32, to bytes.
fn decode_on_both(tensors: HashMap<String, Tensor>) {
    let Some(gpu) = gpu() else { return };
    let latents = uniform(&[3, 16, 6, 8], 9);
    let decode = |device: &Device| {
        let weights = Weights::from_tensors(tensors.clone(), DType::F32, device);
        let mut stream = Arc::new(Decoder::new(&weights).unwrap()).stream();
        let latents = latents.to_device(device).unwrap();
        let parts =
            [(0, 2), (2, 1)].map(|(from, count)| stream.push(&latents.narrow(0, from, count).unwrap()).unwrap());
        parts
            .map(|pictures| frames_to_rgb8(&pictures).unwrap())
            .concat()
            .concat()
    };
    let (got, want) = (decode(&gpu), decode(&Device::Cpu));
    assert_eq!(got.len(), want.len());
    let worst = got.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(1), "bytes differ by up to {worst:?}");
}

#[test]
fn the_wan_decoder() {
    let config = WanVaeConfig {
        dim: 8,
        dim_mult: vec![1, 3, 6, 8],
        num_res_blocks: 1,
        temporal_downsample: vec![false, true, true],
    };
    decode_on_both(weights(|weights| {
        WanDecoder::with_config(&config, weights).unwrap();
    }));
}

#[test]
fn the_tiny_decoder() {
    let config = TaeConfig {
        widths: [12, 8, 6, 4],
        time_upscale: [1, 2, 2],
    };
    decode_on_both(weights(|weights| {
        TaeDecoder::with_config(&config, weights).unwrap();
    }));
}
