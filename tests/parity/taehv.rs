//! The tiny decoder: whole, in chunks with exact memory, in overlapping blocks, activations.

use std::collections::HashMap;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use deepforcing::{
    checkpoint::Weights,
    vae::{Probe, TaeConfig, TaeDecoder, TaeState, pictures_of_latents},
};

use super::{
    Case,
    vae::{Activations, stored_weights, tolerance},
};

/// Latents that the interactive front end decodes again before each new block.
const OVERLAP: usize = 3;

pub fn run(case: &Case) -> Result<()> {
    let weights = match case.meta["weights"]["kind"].as_str() {
        Some("formula") => formula_weights(case)?,
        _ => stored_weights(case)?,
    };
    let widths: [usize; 4] = serde_json::from_value(case.meta["widths"].clone()).context("widths")?;
    case.check(
        "widths from the tensors",
        TaeConfig::from_weights(&weights)?.widths == widths,
    );
    let decoder = TaeDecoder::new(&weights)?;
    let z = case.input("z")?.squeeze(0)?;
    let mut activations = Activations::load(case)?;
    let mut look = |name: &str, value: &Tensor| activations.see(name, value);
    let all = decoder.decode_all(&mut TaeState::new(), &z, &mut Probe::new(&mut look))?;
    case.close("decode_all", &all.unsqueeze(0)?, tolerance(case, "decode_all"));
    check_activations(case, &activations)?;
    check_chunks(case, &decoder, &z)?;
    check_demo_blocks(case, &decoder, &z)
}

/// The first items along the axis of all frames.
fn check_activations(case: &Case, activations: &Activations) -> Result<()> {
    for (name, want) in activations.stored() {
        let seen = activations.seen(name);
        if seen.is_empty() {
            case.fail(format!("{name}: stored but never computed"));
            continue;
        }
        let got = Tensor::cat(seen, 0)?.narrow(0, 0, want.dim(0)?)?;
        case.close_to(name, &got, want, tolerance(case, name));
    }
    Ok(())
}

/// Chunks with memory kept give the pictures of the whole, without the first three.
fn check_chunks(case: &Case, decoder: &TaeDecoder, z: &Tensor) -> Result<()> {
    let frames = z.dim(0)?;
    let want = case.input("decode_all")?.squeeze(0)?;
    let want = want.narrow(0, 3, want.dim(0)? - 3)?;
    for size in 1..=frames {
        let mut state = TaeState::new();
        let mut pictures = Vec::new();
        for start in (0..frames).step_by(size) {
            pictures.push(decoder.decode(&mut state, &z.narrow(0, start, size.min(frames - start))?)?);
        }
        let pictures = Tensor::cat(&pictures, 0)?;
        case.check("picture count", pictures.dim(0)? == pictures_of_latents(frames));
        case.close_to(
            &format!("chunks of {size}"),
            &pictures,
            &want,
            tolerance(case, "decode_all"),
        );
    }
    Ok(())
}

/// The front end's blocks: previous latents decoded again from no memory, their pictures dropped.
fn check_demo_blocks(case: &Case, decoder: &TaeDecoder, z: &Tensor) -> Result<()> {
    let blocks: Vec<usize> = serde_json::from_value(case.meta["blocks_demo"].clone()).context("blocks_demo")?;
    let mut start = 0;
    for (index, count) in blocks.into_iter().enumerate() {
        let context = start.min(OVERLAP);
        let latents = z.narrow(0, start - context, context + count)?;
        let pictures = decoder.decode_all(&mut TaeState::new(), &latents, &mut Probe::none())?;
        let skip = if context == 0 { 3 } else { 4 * context };
        let pictures = pictures.narrow(0, skip, pictures.dim(0)? - skip)?.affine(2.0, -1.0)?;
        let name = format!("demo_block{index}");
        case.close(&name, &pictures.unsqueeze(0)?, tolerance(case, &name));
        start += count;
    }
    Ok(())
}

/// Weights from the integer formula of `meta.json` (splitmix64 over tensor and element index).
fn formula_weights(case: &Case) -> Result<Weights> {
    let meta = &case.meta["weights"];
    let seed = meta["seed"].as_u64().context("weights.seed")?;
    let names: Vec<String> = serde_json::from_value(meta["key_order"].clone()).context("weights.key_order")?;
    let mut tensors = HashMap::new();
    for (index, name) in names.into_iter().enumerate() {
        let shape: Vec<usize> = serde_json::from_value(meta["shapes"][&name].clone()).context("weights.shapes")?;
        let bound = meta["bounds"][&name].as_f64().context("weights.bounds")?;
        let values: Vec<f32> = (0..shape.iter().product::<usize>() as u64)
            .map(|element| {
                let mut x = seed.wrapping_add((index as u64) << 32).wrapping_add(element);
                x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
                x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                x ^= x >> 31;
                let unit = (x >> 40) as f64 / (1u64 << 24) as f64;
                ((2.0 * unit - 1.0) * bound) as f32
            })
            .collect();
        if let Some(first) = meta["first_three_values"][&name].as_array() {
            let same = first
                .iter()
                .zip(&values)
                .all(|(want, got)| want.as_f64().is_some_and(|w| w as f32 == *got));
            case.check(format!("{name}: formula"), same);
        }
        tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
    }
    Ok(Weights::from_tensors(tensors, case.compute.dtype, &case.compute.device))
}
