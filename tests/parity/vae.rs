//! The Wan VAE: decoding whole and in chunks, histories kept or cleared, encoding, activations.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use deepforcing::{
    checkpoint::{Checkpoint, Weights},
    vae::{DecoderState, LATENT_MEAN, LATENT_STD, Probe, WanDecoder, WanEncoder, WanVaeConfig},
};

use super::{Case, relative_l2};

pub fn run(case: &Case) -> Result<()> {
    let weights = stored_weights(case)?;
    check_config(case, &weights)?;
    let mut activations = Activations::load(case)?;
    check_decode(case, &WanDecoder::new(&weights)?, &mut activations)?;
    check_encode(case, &WanEncoder::new(&weights)?, &mut activations)?;
    activations.finish(case);
    Ok(())
}

/// The weights file that `meta.json` names.
pub fn stored_weights(case: &Case) -> Result<Weights> {
    let files = case.meta["files"].as_object().context("meta.json names no files")?;
    let name = files
        .keys()
        .find(|name| name.starts_with("weights"))
        .context("no weights among the files")?;
    let checkpoint = Checkpoint::open(&case.file(name))?;
    Ok(Weights::from_checkpoint(
        checkpoint,
        case.compute.dtype,
        &case.compute.device,
    ))
}

/// Relative L2 allowed for a tensor.
pub fn tolerance(case: &Case, name: &str) -> f64 {
    let of = |key: &str| case.meta["tolerance"][key]["rel_l2"].as_f64();
    of(name).or_else(|| of("default")).unwrap_or(1e-4)
}

/// `activations.safetensors`: what is stored, and what the network has shown of it.
pub struct Activations {
    stored: HashMap<String, Tensor>,
    seen: BTreeMap<String, Vec<Tensor>>,
}

impl Activations {
    pub fn load(case: &Case) -> Result<Self> {
        let path: PathBuf = case.file("activations.safetensors");
        let stored = match path.is_file() {
            true => candle_core::safetensors::load(path, &Device::Cpu)?,
            false => HashMap::new(),
        };
        Ok(Self {
            stored,
            seen: BTreeMap::new(),
        })
    }

    /// Keeps a shown activation if it is stored.
    pub fn see(&mut self, name: &str, value: &Tensor) {
        let name = format!("act.{name}");
        if self.stored.contains_key(&name) {
            self.seen.entry(name).or_default().push(value.clone());
        }
    }

    pub fn stored(&self) -> &HashMap<String, Tensor> {
        &self.stored
    }

    pub fn seen(&self, name: &str) -> &[Tensor] {
        self.seen.get(name).map_or(&[], Vec::as_slice)
    }

    /// Compares everything that is stored, `[1, channels, frames, height, width]`.
    fn finish(&self, case: &Case) {
        for (name, want) in &self.stored {
            match self.seen(name).first().map(to_reference_layout) {
                Some(Ok(got)) => case.close_to(name, &got, want, tolerance(case, name)),
                Some(Err(error)) => case.fail(format!("{name}: {error}")),
                None => case.fail(format!("{name}: stored but never computed")),
            }
        }
    }
}

/// `[frames, channels, height, width]` to `[1, channels, frames, height, width]`.
fn to_reference_layout(x: &Tensor) -> candle_core::Result<Tensor> {
    x.transpose(0, 1)?.contiguous()?.unsqueeze(0)
}

fn integers(value: &serde_json::Value) -> Result<Vec<usize>> {
    serde_json::from_value(value.clone()).with_context(|| format!("{value} is no list of counts"))
}

fn check_config(case: &Case, weights: &Weights) -> Result<()> {
    let meta = &case.meta["config"];
    let expected = WanVaeConfig {
        dim: meta["dim"].as_u64().context("config.dim")? as usize,
        dim_mult: integers(&meta["dim_mult"])?,
        num_res_blocks: meta["num_res_blocks"].as_u64().context("config.num_res_blocks")? as usize,
        temporal_downsample: serde_json::from_value(meta["temperal_downsample"].clone())?,
    };
    for (half, found) in [
        ("decoder", WanVaeConfig::from_decoder(weights)?),
        ("encoder", WanVaeConfig::from_encoder(weights)?),
    ] {
        case.check(
            format!("config from the {half}: {found:?}, expected {expected:?}"),
            found == expected,
        );
    }
    let constants = |name: &str| -> Result<Vec<f32>> { Ok(serde_json::from_value(case.meta[name].clone())?) };
    case.check("latent mean", constants("mean")? == LATENT_MEAN);
    case.check("latent standard deviation", constants("std")? == LATENT_STD);
    Ok(())
}

/// On a device, convolutions of other sizes may sum in another order.
fn same(case: &Case, a: &Tensor, b: &Tensor) -> Result<bool> {
    if !case.compute.device.is_cpu() {
        return Ok(a.dims() == b.dims() && relative_l2(a, b)? <= if case.inexact() { 2e-2 } else { 1e-5 });
    }
    let bits = |t: &Tensor| -> Result<Vec<u32>> {
        Ok(t.flatten_all()?
            .to_vec1::<f32>()?
            .into_iter()
            .map(f32::to_bits)
            .collect())
    };
    Ok(a.dims() == b.dims() && bits(a)? == bits(b)?)
}

fn check_decode(case: &Case, decoder: &WanDecoder, activations: &mut Activations) -> Result<()> {
    let z = case.input("z")?.squeeze(0)?;
    let z_second = case.input("z_second")?.squeeze(0)?;
    let mut state = DecoderState::new();
    let mut look = |name: &str, value: &Tensor| activations.see(name, value);
    let whole = decoder.decode_observed(&mut state, &z, &mut Probe::new(&mut look))?;
    case.close(
        "decode_raw",
        &to_reference_layout(&whole)?,
        tolerance(case, "decode_raw"),
    );
    let clamped = decoder.decode(&mut DecoderState::new(), &z)?;
    case.check(
        "decode is decode_raw, clamped",
        same(case, &clamped, &whole.clamp(-1f32, 1f32)?)?,
    );

    check_chunkings(case, decoder, &z, &whole)?;

    // The next video in the history of the first, and in a fresh one.
    let name = "decode_second_first_latent_without_clear_raw";
    let continued = decoder.decode_raw(&mut state, &z_second.narrow(0, 0, 1)?)?;
    case.close(name, &to_reference_layout(&continued)?, tolerance(case, name));
    let name = "decode_second_raw_first9";
    let second = decoder.decode_raw(&mut DecoderState::new(), &z_second)?;
    let frames = case.input(name)?.dim(2)?;
    case.close(
        name,
        &to_reference_layout(&second.narrow(0, 0, frames)?)?,
        tolerance(case, name),
    );

    let name = "demo_zero_cache_pixel_first3latents";
    let mut state = DecoderState::zero_history();
    let first = decoder.decode(&mut state, &z.narrow(0, 0, 2)?)?;
    let first = first.narrow(0, 3, first.dim(0)? - 3)?;
    let rest = decoder.decode(&mut state, &z.narrow(0, 2, 1)?)?;
    case.close(
        name,
        &Tensor::cat(&[first, rest], 0)?.unsqueeze(0)?,
        tolerance(case, name),
    );
    Ok(())
}

fn check_chunkings(case: &Case, decoder: &WanDecoder, z: &Tensor, whole: &Tensor) -> Result<()> {
    let chunkings = case.meta["streaming"]["chunkings"]
        .as_object()
        .context("streaming.chunkings")?;
    let want = case.input("decode_raw")?;
    for (name, chunking) in chunkings {
        let latents = integers(&chunking["latent_chunks"])?;
        let pictures = integers(&chunking["pixel_frames_per_chunk"])?;
        ensure!(
            latents.len() == pictures.len(),
            "chunking {name}: lists of different lengths"
        );
        let mut state = DecoderState::new();
        let (mut latent, mut picture) = (0, 0);
        for (latents, pictures) in latents.into_iter().zip(pictures) {
            let got = decoder.decode_raw(&mut state, &z.narrow(0, latent, latents)?)?;
            let what = format!("chunking {name} from latent {latent}");
            let expected = want.narrow(2, picture, pictures)?.contiguous()?;
            case.close_to(
                &what,
                &to_reference_layout(&got)?,
                &expected,
                tolerance(case, "decode_raw"),
            );
            case.check(
                format!("{what} differs from decoding at once"),
                same(case, &got, &whole.narrow(0, picture, pictures)?)?,
            );
            (latent, picture) = (latent + latents, picture + pictures);
        }
    }
    Ok(())
}

fn check_encode(case: &Case, encoder: &WanEncoder, activations: &mut Activations) -> Result<()> {
    let pictures = case.input("encode_pixel")?.squeeze(0)?.transpose(0, 1)?.contiguous()?;
    let mut look = |name: &str, value: &Tensor| activations.see(name, value);
    let latents = encoder.encode_observed(&pictures, &mut Probe::new(&mut look))?;
    case.close(
        "encode_latent",
        &latents.unsqueeze(0)?,
        tolerance(case, "encode_latent"),
    );
    let name = "encode_latent_1frame";
    let one = encoder.encode(&pictures.narrow(0, 0, 1)?)?;
    case.close(name, &one.unsqueeze(0)?, tolerance(case, name));
    if let Some(count) = case.meta["streaming"]["checks"]["encode_t_minus_1_latents"].as_u64() {
        let shorter = encoder.encode(&pictures.narrow(0, 0, pictures.dim(0)? - 1)?)?;
        case.check(
            "pictures that fill no group are dropped",
            shorter.dim(0)? == count as usize,
        );
        case.check(
            "one picture less is a prefix",
            same(case, &shorter, &latents.narrow(0, 0, count as usize)?)?,
        );
    }
    Ok(())
}
