//! Videos that begin from given pictures: image to video, and the extension of a clip (self_forcing.md section 3).

use candle_core::Tensor;

use crate::{
    Error, Result,
    vae::{TEMPORAL_FACTOR, WanEncoder, pictures_of_latents},
};

/// Encodes the pictures `[T, 3, H, W]` (−1…1) that a video begins with into latents `[F, 16, H/8, W/8]` for
/// [`crate::rollout::Rollout::new`].
///
/// The video goes on from the end of the pictures, so the last ones are taken: as many as make whole chunks of `chunk`
/// latent frames, at most `most` of them (more than the window would be forgotten at once). With `first_alone` the first
/// latent frame is a chunk of its own, so that one picture is enough.
///
/// # Errors
/// When there are fewer pictures than one chunk needs, or the VAE does not take them.
pub fn encode_start(
    encoder: &WanEncoder,
    pictures: &Tensor,
    chunk: usize,
    first_alone: bool,
    most: usize,
) -> Result<Tensor> {
    let found = pictures.dim(0)?;
    let latents = start_latents(found, chunk, first_alone, most).ok_or_else(|| Error::ShortStart {
        found,
        needed: pictures_of_latents(if first_alone { 1 } else { chunk }),
        chunk,
    })?;
    let taken = pictures_of_latents(latents);
    encoder.encode(&pictures.narrow(0, found - taken, taken)?)
}

/// Latent frames that `pictures` pictures give in whole chunks, at most `most`; `None` when they do not fill one.
pub fn start_latents(pictures: usize, chunk: usize, first_alone: bool, most: usize) -> Option<usize> {
    let available = match pictures {
        0 => 0,
        _ => 1 + (pictures - 1) / TEMPORAL_FACTOR,
    };
    let available = available.min(most);
    let alone = usize::from(first_alone && available > 0);
    let latents = alone + (available - alone) / chunk.max(1) * chunk;
    (latents > 0).then_some(latents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_chunks_are_taken() {
        assert_eq!(start_latents(1, 3, true, 21), Some(1));
        assert_eq!(start_latents(1, 3, false, 21), None);
        assert_eq!(start_latents(9, 3, false, 21), Some(3));
        assert_eq!(start_latents(8, 3, false, 21), None);
        assert_eq!(start_latents(1000, 3, false, 18), Some(18));
        assert_eq!(start_latents(1000, 3, true, 18), Some(16));
        assert_eq!(start_latents(0, 1, true, 21), None);
    }
}
