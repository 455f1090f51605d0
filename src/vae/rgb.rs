//! Pictures as bytes.

use candle_core::{DType, Device, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{PICTURE_CHANNELS, check_frames};
use crate::Result;

/// Pictures `[T, 3, H, W]` in −1…1 to T buffers of H · W · 3 bytes (rows, columns, red-green-blue): `clamp(v/2 + 1/2,
/// 0, 1) · 255`, truncated. NaN becomes 0.
///
/// # Errors
/// When the shape is not that of pictures.
pub fn frames_to_rgb8(pictures: &Tensor) -> Result<Vec<Vec<u8>>> {
    check_frames("pictures", pictures, PICTURE_CHANNELS, 1)?;
    #[cfg(feature = "cuda")]
    if pictures.device().is_cuda() {
        return Ok(super::cuda::download(&super::cuda::pictures_to_bytes(pictures)?)?);
    }
    let frame = pictures.elem_count() / pictures.dim(0)?;
    let values = pictures
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    let mut frames = vec![vec![0u8; frame]; pictures.dim(0)?];
    frames
        .par_iter_mut()
        .zip(values.par_chunks(frame))
        .for_each(|(bytes, planes)| interleave(planes, bytes));
    Ok(frames)
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx2", "x86_64+avx2"))]
fn interleave(planes: &[f32], bytes: &mut [u8]) {
    let (red, rest) = planes.split_at(planes.len() / 3);
    let (green, blue) = rest.split_at(red.len());
    // A float cast to an integer saturates and takes NaN to 0; the clamp is the cast's.
    let byte = |v: f32| ((v * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0) as u8;
    for (((pixel, &r), &g), &b) in bytes.chunks_exact_mut(3).zip(red).zip(green).zip(blue) {
        pixel.copy_from_slice(&[byte(r), byte(g), byte(b)]);
    }
}
