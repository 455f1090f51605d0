//! How a video's latent frames are cut into chunks (self_forcing.md section 3).

use serde::{Deserialize, Serialize};

/// How a video is cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RolloutDefaults {
    /// Latent frames of a chunk: 3 for chunk-wise models, 1 for frame-wise ones.
    pub chunk: usize,
    /// Whether the first latent frame is a chunk of its own.
    pub first_frame_alone: bool,
}

impl Default for RolloutDefaults {
    fn default() -> Self {
        Self {
            chunk: 3,
            first_frame_alone: false,
        }
    }
}

/// One chunk of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlan {
    /// First latent frame, counted from the start of the video.
    pub start: usize,
    /// Latent frames.
    pub frames: usize,
    /// Whether its latents are given: they fill the cache and are not denoised.
    pub given: bool,
}

/// Lengths that cannot be cut into chunks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    #[error("nothing to generate: the number of latent frames is 0")]
    Nothing,
    #[error("chunks of 0 latent frames; use 3 (chunk-wise models) or 1 (frame-wise models)")]
    EmptyChunk,
    #[error(
        "{frames} latent frames cannot be generated in chunks of {chunk}{}; the nearest lengths are {below} and {above}",
        if *first_alone { " after a first frame alone" } else { "" }
    )]
    Generated {
        frames: usize,
        chunk: usize,
        first_alone: bool,
        below: usize,
        above: usize,
    },
    #[error(
        "{frames} given latent frames cannot start this model: it needs {}",
        if *first_alone {
            format!("1 frame, or 1 + a multiple of {chunk}")
        } else {
            format!("a multiple of {chunk}")
        }
    )]
    Given {
        frames: usize,
        chunk: usize,
        first_alone: bool,
    },
}

/// Cuts `given` + `generated` latent frames into chunks of `chunk`; with `first_alone` the first frame of the video is a
/// chunk of its own.
///
/// # Errors
/// When a count is not what the chunks need.
pub fn chunk_plans(
    given: usize,
    generated: usize,
    chunk: usize,
    first_alone: bool,
) -> Result<Vec<ChunkPlan>, SpanError> {
    if chunk == 0 {
        return Err(SpanError::EmptyChunk);
    }
    if generated == 0 {
        return Err(SpanError::Nothing);
    }
    let given_alone = usize::from(first_alone && given > 0);
    if !(given - given_alone).is_multiple_of(chunk) {
        return Err(SpanError::Given {
            frames: given,
            chunk,
            first_alone,
        });
    }
    let generated_alone = usize::from(first_alone && given == 0);
    let rest = generated - generated_alone;
    if !rest.is_multiple_of(chunk) {
        let below = rest / chunk * chunk + generated_alone;
        return Err(SpanError::Generated {
            frames: generated,
            chunk,
            first_alone: generated_alone == 1,
            below: if below == 0 { chunk } else { below },
            above: below + chunk,
        });
    }
    let mut plans = Vec::new();
    let mut start = 0;
    let mut push = |frames: usize, given: bool| {
        plans.push(ChunkPlan { start, frames, given });
        start += frames;
    };
    for (alone, total, is_given) in [(given_alone, given, true), (generated_alone, generated, false)] {
        if alone == 1 {
            push(1, is_given);
        }
        (0..(total - alone) / chunk).for_each(|_| push(chunk, is_given));
    }
    Ok(plans)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(given: usize, generated: usize, chunk: usize, first_alone: bool) -> Vec<(usize, bool)> {
        let plans = chunk_plans(given, generated, chunk, first_alone).unwrap();
        plans.iter().map(|p| (p.frames, p.given)).collect()
    }

    #[test]
    fn the_variants_of_the_reference() {
        assert_eq!(frames(0, 6, 3, false), [(3, false), (3, false)]);
        assert_eq!(frames(0, 2, 1, false), [(1, false), (1, false)]);
        assert_eq!(frames(0, 7, 3, true), [(1, false), (3, false), (3, false)]);
        assert_eq!(frames(1, 6, 3, true), [(1, true), (3, false), (3, false)]);
        assert_eq!(frames(6, 3, 3, false), [(3, true), (3, true), (3, false)]);
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused_with_the_nearest() {
        let error = chunk_plans(0, 20, 3, false).unwrap_err();
        assert!(error.to_string().contains("18 and 21"), "{error}");
        assert!(
            chunk_plans(1, 6, 3, false).is_err(),
            "a chunk-wise model cannot start from one frame"
        );
        assert_eq!(chunk_plans(0, 0, 3, false), Err(SpanError::Nothing));
    }
}
