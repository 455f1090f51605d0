//! Videos that begin from pictures: through the VAE's encoder into the rollout, and out through the decoder.

use std::{path::Path, sync::Arc};

use candle_core::{DType, Device, Tensor};
use deepforcing::{
    Error,
    cache::CacheSettings,
    checkpoint::{Checkpoint, Weights},
    rollout::sampler::SamplerSettings,
    rollout::start::encode_start,
    rollout::{ChunkLoop, PromptChange, Rollout, RolloutSettings, SeededNoise},
    transformer::{CausalWan, TransformerConfig, WanConfigFile},
    vae::{Decoder, WanEncoder},
};

/// Latents of 4×6: pictures of 48×32.
const LATENT: (usize, usize) = (4, 6);

fn weights(file: &str) -> Weights {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    Weights::from_checkpoint(Checkpoint::open(&path).unwrap(), DType::F32, &Device::Cpu)
}

fn transformer() -> Arc<CausalWan> {
    let weights = weights("weights/tiny_h2_d64.safetensors");
    let file = WanConfigFile {
        num_heads: Some(2),
        text_len: Some(16),
        ..WanConfigFile::default()
    };
    let config = TransformerConfig::from_weights(&weights, &file).unwrap();
    Arc::new(CausalWan::new(config, weights).unwrap())
}

fn pictures(count: usize) -> Tensor {
    let values = (0..count * 3 * 32 * 48).map(|i| ((i * 7919) % 2001) as f32 / 1000.0 - 1.0);
    Tensor::from_vec(values.collect(), (count, 3, 32, 48), &Device::Cpu).unwrap()
}

/// Latents of a whole video that starts with `given`.
fn continue_video(given: Tensor, generated: usize, first_frame_alone: bool) -> Result<Tensor, Error> {
    let model = transformer();
    let embedding = Tensor::ones((5, model.config().context_dim), DType::F32, &Device::Cpu)?;
    let context = Arc::new(model.prompt_context(&embedding)?);
    let settings = RolloutSettings {
        frames: generated,
        chunk: 3,
        first_frame_alone,
        height: LATENT.0,
        width: LATENT.1,
        sampler: SamplerSettings::default(),
        policy: CacheSettings::default().resolve(3, generated)?,
        seed: 0,
        first_position: 0,
        fill_last: false,
    };
    let prompts = vec![PromptChange { frame: 0, context }];
    let mut rollout = Rollout::new(model, settings, prompts, Some(given), Box::new(SeededNoise::new(3)))?;
    let mut chunks = Vec::new();
    while let Some(chunk) = rollout.next_chunk(&mut |_| {})? {
        chunks.push(chunk.latents);
    }
    Ok(Tensor::cat(&chunks, 0)?)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_clip_is_continued_and_shows_first() {
    let encoder = WanEncoder::new(&weights("vae/weights.pth")).unwrap();
    let decoder = Arc::new(Decoder::new(&weights("vae/weights.pth")).unwrap());
    let given = encode_start(&encoder, &pictures(11), 3, false, 18).unwrap();
    assert_eq!(given.dims(), [3, 16, 4, 6], "9 of 11 pictures make the chunk");
    assert_eq!(
        values(&given),
        values(&encoder.encode(&pictures(11).narrow(0, 2, 9).unwrap()).unwrap())
    );

    let latents = continue_video(given.clone(), 6, false).unwrap();
    assert_eq!(latents.dims(), [9, 16, 4, 6]);
    let video = decoder.stream().push(&latents).unwrap();
    let start = decoder.stream().push(&given).unwrap();
    assert_eq!(video.dims(), [33, 3, 32, 48]);
    assert_eq!(values(&video.narrow(0, 0, 9).unwrap()), values(&start));
}

#[test]
fn what_is_given_changes_what_follows() {
    let encoder = WanEncoder::new(&weights("vae/weights.pth")).unwrap();
    let given = encode_start(&encoder, &pictures(9), 3, false, 18).unwrap();
    let other = (&given * 0.5).unwrap();
    let tail = |latents: Tensor| values(&latents.narrow(0, 3, 3).unwrap());
    let (first, second) = (
        continue_video(given, 3, false).unwrap(),
        continue_video(other, 3, false).unwrap(),
    );
    assert_ne!(tail(first), tail(second));
}

#[test]
fn an_image_starts_a_model_whose_first_frame_is_alone_and_no_other() {
    let encoder = WanEncoder::new(&weights("vae/weights.pth")).unwrap();
    let given = encode_start(&encoder, &pictures(1), 3, true, 18).unwrap();
    assert_eq!(continue_video(given.clone(), 6, true).unwrap().dims(), [7, 16, 4, 6]);
    let refused = continue_video(given, 6, false).unwrap_err().to_string();
    assert!(refused.contains("a multiple of 3"), "{refused}");
    let short = encode_start(&encoder, &pictures(8), 3, false, 18)
        .unwrap_err()
        .to_string();
    assert!(short.contains("8 pictures") && short.contains("at least 9"), "{short}");
}

#[test]
fn latents_of_another_size_are_refused() {
    let given = Tensor::zeros((3, 16, 4, 4), DType::F32, &Device::Cpu).unwrap();
    assert!(matches!(
        continue_video(given, 3, false),
        Err(Error::GivenLatents { .. })
    ));
}
