//! A rollout with events on a device against the same on the CPU: small networks with the same random weights, the same
//! noise, a prompt switch, latents and selections of every chunk compared.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{BenchError, Networks, Scale};
use crate::{
    Result,
    cache::{CacheSettings, Event, OnEvent},
    device::Compute,
    models::DecoderKind,
    rollout::sampler::SamplerSettings,
    rollout::{ChunkLoop, PromptChange, Rollout, RolloutSettings, SeededNoise},
};

/// Chunks of the rollout.
const CHUNKS: usize = 12;
/// Latent frames of a chunk.
const CHUNK: usize = 3;
/// Height and width of the latents: 35 tokens a frame, no multiple of a tile.
const LATENTS: (usize, usize) = (10, 14);

/// How close a device must be to the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tolerance {
    /// Relative L2 of the latents of a chunk.
    pub latents: f64,
    /// Share of the tokens kept at an event that are the same.
    pub kept: f64,
    /// Relative L2 of the pictures.
    pub pictures: f64,
}

impl Tolerance {
    /// f32 differs by the order of sums; bf16 has 8 bits: each of some dozens of roundings in a row is 0.4 % at most, and
    /// tokens with nearly the same score change places.
    pub fn of(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Self {
                latents: 1e-3,
                kept: 1.0,
                pictures: 1e-2,
            },
            _ => Self {
                latents: 1e-1,
                kept: 0.85,
                pictures: 2e-1,
            },
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Parity {
    pub dtype: String,
    pub tolerance: Tolerance,
    /// Relative L2 of the latents, by chunk.
    pub latents: Vec<f64>,
    /// Share of the kept tokens that are the same, by event and layer.
    pub kept: Vec<f64>,
    /// Relative L2 of the pictures of both decoders: Wan, tiny.
    pub pictures: [f64; 2],
}

impl Parity {
    /// Whether all is within the tolerances.
    ///
    /// # Errors
    /// [`BenchError::Differs`] with what is not.
    pub fn check(&self) -> Result<(), BenchError> {
        let differs = |reason: String| Err(BenchError::Differs { reason });
        let Tolerance {
            latents,
            kept,
            pictures,
        } = self.tolerance;
        // NaN is not below anything.
        let beyond = |value: &f64, allowed: f64| value.is_nan() || *value > allowed;
        if let Some(chunk) = self.latents.iter().position(|distance| beyond(distance, latents)) {
            let distance = self.latents[chunk];
            return differs(format!(
                "latents of chunk {chunk} by {distance:.1e}, allowed {latents:.0e}"
            ));
        }
        if self.kept.is_empty() {
            return differs("no event was seen".into());
        }
        if let Some(share) = self.kept.iter().find(|share| **share < kept) {
            return differs(format!(
                "{share:.3} of the tokens kept at an event are the same, expected {kept}"
            ));
        }
        match self.pictures.iter().find(|distance| beyond(distance, pictures)) {
            Some(distance) => differs(format!("pictures by {distance:.1e}, allowed {pictures:.0e}")),
            None => Ok(()),
        }
    }
}

/// One rollout: latents of each chunk, and tokens kept at each event by layer.
struct Seen {
    latents: Vec<Tensor>,
    kept: Vec<Vec<usize>>,
    pictures: [Tensor; 2],
}

/// Runs the rollout on the CPU and on `compute`. `frames`: cache settings in latent frames, small enough for events.
///
/// # Errors
/// On a device failure.
pub fn measure(compute: &Compute, cache: &CacheSettings, seed: u64) -> Result<Parity> {
    let cpu = rollout(&Compute::cpu(), cache, seed, None)?;
    // Decoders are given the same latents on both.
    let device = rollout(compute, cache, seed, Some(&cpu.latents))?;
    let latents = cpu
        .latents
        .iter()
        .zip(&device.latents)
        .map(|(cpu, device)| distance(device, cpu));
    let kept = cpu.kept.iter().zip(&device.kept).map(|(cpu, device)| {
        let same = cpu.iter().filter(|index| device.binary_search(index).is_ok()).count();
        same as f64 / cpu.len().max(1) as f64
    });
    Ok(Parity {
        dtype: compute.dtype.as_str().into(),
        tolerance: Tolerance::of(compute.dtype),
        latents: latents.collect::<Result<_>>()?,
        kept: kept.collect(),
        pictures: [
            distance(&device.pictures[0], &cpu.pictures[0])?,
            distance(&device.pictures[1], &cpu.pictures[1])?,
        ],
    })
}

fn rollout(compute: &Compute, cache: &CacheSettings, seed: u64, decoded: Option<&[Tensor]>) -> Result<Seen> {
    let make = |decoder| Networks::random(Scale::Tiny.transformer(), Scale::Tiny, Some(decoder), seed, compute);
    let (networks, tiny) = (make(DecoderKind::Wan)?, make(DecoderKind::Tae)?);
    let (height, width) = LATENTS;
    let settings = RolloutSettings {
        frames: CHUNKS * CHUNK,
        chunk: CHUNK,
        first_frame_alone: false,
        height,
        width,
        sampler: SamplerSettings::default(),
        policy: cache.resolve(CHUNK, CHUNKS * CHUNK)?,
        seed,
        first_position: 0,
        fill_last: true,
    };
    let context = |embedding: &Tensor| -> Result<_> { Ok(Arc::new(networks.model.prompt_context(embedding)?)) };
    let prompts = vec![
        PromptChange {
            frame: 0,
            context: context(&networks.embedding)?,
        },
        PromptChange {
            frame: CHUNKS / 2 * CHUNK,
            context: context(&(&networks.embedding * -1.0)?)?,
        },
    ];
    let noise = Box::new(SeededNoise::new(seed));
    let mut rollout = Rollout::new(networks.model.clone(), settings, prompts, None, noise)?;
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let observer = OnEvent(move |event: Event<'_>| {
        let mut events = seen.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event.kept.to_vec());
    });
    rollout.cache_mut().set_observer(Some(Box::new(observer)));
    let mut latents = Vec::new();
    while let Some(chunk) = rollout.next_chunk(&mut |_| ())? {
        latents.push(chunk.latents.to_device(&Device::Cpu)?);
    }
    drop(rollout);
    let given = decoded.unwrap_or(&latents);
    let pictures = |networks: &Networks| -> Result<Tensor> {
        let Some(decoder) = &networks.decoder else {
            return Err(crate::Error::NoBlocks);
        };
        let mut stream = decoder.stream();
        let chunks = given
            .iter()
            .take(2)
            .map(|chunk| stream.push(&chunk.to_device(&compute.device)?));
        let pictures = chunks.collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&pictures, 0)?.to_device(&Device::Cpu)?)
    };
    let pictures = [pictures(&networks)?, pictures(&tiny)?];
    let kept = std::mem::take(&mut *events.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Seen {
        latents,
        kept,
        pictures,
    })
}

/// `‖a − b‖ / ‖b‖`.
fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (a, b) = (wide(a)?, wide(b)?);
    let difference: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    let norm: f64 = b.iter().map(|b| b * b).sum();
    Ok((difference / norm.max(f64::MIN_POSITIVE)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(seed: u64) -> Parity {
        let cache = CacheSettings {
            window: 12,
            sink: 4,
            budget: 9,
            ..CacheSettings::default()
        };
        measure(&Compute::cpu(), &cache, seed).unwrap()
    }

    #[test]
    fn the_cpu_agrees_with_itself_and_other_weights_do_not() {
        let parity = cache(5);
        assert_eq!(parity.check(), Ok(()));
        assert_eq!(parity.latents, [0.0; CHUNKS]);
        assert!(parity.kept.len() >= 6 && parity.kept.iter().all(|share| *share == 1.0));
        let mut broken = parity.clone();
        broken.latents[3] = f64::NAN;
        assert!(broken.check().unwrap_err().to_string().contains("chunk 3"));
        let mut broken = parity.clone();
        broken.kept[1] = 0.99;
        assert!(broken.check().unwrap_err().to_string().contains("0.990 of the tokens"));
        let mut broken = parity.clone();
        broken.pictures[1] = 0.5;
        assert!(broken.check().is_err());
        let mut broken = parity;
        broken.kept.clear();
        assert!(broken.check().unwrap_err().to_string().contains("no event"));
    }
}
