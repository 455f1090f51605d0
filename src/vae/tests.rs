//! Tests of the whole networks on random weights.

use std::{collections::HashMap, sync::Arc};

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;

/// Random tensors for everything that `build` asks of a recorder.
fn random_weights(seed: u64, build: impl Fn(&Weights)) -> Weights {
    let recorder = Weights::recorder();
    build(&recorder);
    let mut rng = StdRng::seed_from_u64(seed);
    let tensors: HashMap<_, _> = recorder
        .recorded()
        .into_iter()
        .map(|spec| {
            let count: usize = spec.shape.iter().product();
            let fan_in: usize = spec.shape[1..].iter().product();
            let bound = if fan_in > 1 { (3.0 / fan_in as f32).sqrt() } else { 1.0 };
            let values: Vec<f32> = (0..count).map(|_| rng.random_range(-bound..bound)).collect();
            (spec.name, Tensor::from_vec(values, spec.shape, &Device::Cpu).unwrap())
        })
        .collect();
    Weights::from_tensors(tensors, DType::F32, &Device::Cpu)
}

fn toy_config() -> WanVaeConfig {
    WanVaeConfig {
        dim: 8,
        dim_mult: vec![1, 3, 6, 8],
        num_res_blocks: 1,
        temporal_downsample: vec![false, true, true],
    }
}

fn toy_weights() -> Weights {
    random_weights(1, |weights| {
        WanDecoder::with_config(&toy_config(), weights).unwrap();
        WanEncoder::with_config(&toy_config(), weights).unwrap();
    })
}

fn tae_weights() -> Weights {
    let config = TaeConfig {
        widths: [12, 8, 6, 4],
        time_upscale: [1, 2, 2],
    };
    random_weights(2, |weights| {
        TaeDecoder::with_config(&config, weights).unwrap();
    })
}

fn latents(seed: u64, frames: usize, height: usize, width: usize) -> Tensor {
    let mut rng = StdRng::seed_from_u64(seed);
    let count = frames * LATENT_CHANNELS * height * width;
    let values: Vec<f32> = (0..count).map(|_| rng.random_range(-2.0..2.0)).collect();
    Tensor::from_vec(values, (frames, LATENT_CHANNELS, height, width), &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn config_is_read_from_the_tensors_of_either_half() {
    let weights = toy_weights();
    assert_eq!(WanVaeConfig::from_decoder(&weights).unwrap(), toy_config());
    assert_eq!(WanVaeConfig::from_encoder(&weights).unwrap(), toy_config());
}

#[test]
fn constructors_ask_for_every_tensor_of_the_published_sizes() {
    let specs = WanVaeConfig::wan21().expected_tensors().unwrap();
    assert_eq!(specs.len(), 194);
    assert_eq!(
        specs.iter().map(|s| s.shape.iter().product::<usize>()).sum::<usize>(),
        126_892_531
    );
    assert_eq!(TaeConfig::taew21().expected_tensors().unwrap().len(), 64);
}

#[test]
fn pictures_follow_the_latents() {
    for decoder in [
        Decoder::new(&toy_weights()).unwrap(),
        Decoder::new(&tae_weights()).unwrap(),
    ] {
        let decoder = Arc::new(decoder);
        let mut stream = decoder.stream();
        let first = stream.push(&latents(3, 2, 2, 3)).unwrap();
        assert_eq!(first.dims(), [pictures_of_latents(2), 3, 16, 24]);
        assert_eq!(stream.push(&latents(4, 1, 2, 3)).unwrap().dims(), [4, 3, 16, 24]);
        assert_eq!(stream.latents(), 3);
        // Another size within a stream, or anything that is no latent.
        assert!(stream.push(&latents(4, 1, 3, 3)).is_err());
        let wrong = Tensor::zeros((1, 4, 2, 3), DType::F32, &Device::Cpu).unwrap();
        assert!(
            decoder
                .stream()
                .push(&wrong)
                .unwrap_err()
                .to_string()
                .contains("[1, 4, 2, 3]")
        );
    }
}

#[test]
fn encoder_gives_one_latent_per_four_pictures_after_the_first() {
    let encoder = WanEncoder::new(&toy_weights()).unwrap();
    let pictures = Tensor::rand(-1f32, 1f32, (9, 3, 16, 24), &Device::Cpu).unwrap();
    let all = encoder.encode(&pictures).unwrap();
    assert_eq!(all.dims(), [3, 16, 2, 3]);
    // Causal: later pictures do not change earlier latents; what does not fill a group is dropped.
    let some = encoder.encode(&pictures.narrow(0, 0, 8).unwrap()).unwrap();
    assert_eq!(values(&some), values(&all.narrow(0, 0, 2).unwrap()));
    assert!(
        encoder
            .encode(&Tensor::zeros((1, 3, 20, 24), DType::F32, &Device::Cpu).unwrap())
            .is_err()
    );
}

#[test]
fn tiny_decoder_built_for_fewer_frames_uses_the_last_rows() {
    let weights = tae_weights();
    let config = TaeConfig {
        time_upscale: [1, 1, 1],
        ..TaeConfig::from_weights(&weights).unwrap()
    };
    let decoder = TaeDecoder::with_config(&config, &weights).unwrap();
    let pictures = decoder.decode(&mut TaeState::new(), &latents(5, 3, 2, 2)).unwrap();
    assert_eq!(pictures.dims(), [3, 3, 16, 16]);
    let too_many = TaeConfig {
        time_upscale: [2, 2, 2],
        ..config
    };
    assert!(TaeDecoder::with_config(&too_many, &weights).is_err());
}

#[test]
fn bytes_are_truncated_and_interleaved() {
    let values = vec![-1f32, 1.0, 0.0, 2.0, -3.0, f32::NAN];
    let pictures = Tensor::from_vec(values, (1, 3, 1, 2), &Device::Cpu).unwrap();
    assert_eq!(frames_to_rgb8(&pictures).unwrap(), [vec![0, 127, 0, 255, 255, 0]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_chunking_gives_the_same_pictures(
        chunks in prop::collection::vec(1usize..4, 1..4), tiny: bool, seed: u64,
        height in 1usize..4, width in 1usize..6,
    ) {
        let decoder = Decoder::new(&if tiny { tae_weights() } else { toy_weights() }).unwrap();
        let decoder = Arc::new(decoder);
        let latents = latents(seed, chunks.iter().sum(), height, width);
        let whole = decoder.stream().push(&latents).unwrap();
        let mut stream = decoder.stream();
        let mut start = 0;
        let mut parts = Vec::new();
        for frames in chunks {
            parts.push(stream.push(&latents.narrow(0, start, frames).unwrap()).unwrap());
            start += frames;
        }
        let parts = Tensor::cat(&parts, 0).unwrap();
        prop_assert_eq!(values(&parts), values(&whole));
    }
}
