//! How a video's latent frames are cut into chunks (docs/algorithms/self_forcing.md section 3).

use serde::{Deserialize, Serialize};

/// The loop that makes a video.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoopKind {
    /// Chunk by chunk: [`super::Rollout`].
    #[default]
    Chunks,
    /// Several chunks at different noise levels at a time: [`super::RollingRollout`].
    Rolling,
}

impl LoopKind {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How a video is cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RolloutDefaults {
    /// Latent frames of a chunk: 3 for chunk-wise models, 1 for frame-wise ones.
    pub chunk: usize,
    /// Whether the first latent frame is a chunk of its own.
    pub first_frame_alone: bool,
    /// Which loop makes the chunks.
    #[serde(rename = "loop", skip_serializing_if = "LoopKind::is_default")]
    pub kind: LoopKind,
    /// Latent frames of which the action modules of a world remember keys and values; the window of the tokens without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_window: Option<usize>,
}

impl Default for RolloutDefaults {
    fn default() -> Self {
        Self {
            chunk: 3,
            first_frame_alone: false,
            kind: LoopKind::Chunks,
            action_window: None,
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

/// Where the chunks of a video begin, however long it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spans {
    given: usize,
    chunk: usize,
    first_alone: bool,
}

impl Spans {
    /// After `given` latent frames, in chunks of `chunk`; with `first_alone` the first frame of the video is a chunk of
    /// its own.
    ///
    /// # Errors
    /// When the given frames are no whole chunks.
    pub fn new(given: usize, chunk: usize, first_alone: bool) -> Result<Self, SpanError> {
        if chunk == 0 {
            return Err(SpanError::EmptyChunk);
        }
        let alone = usize::from(first_alone && given > 0);
        if !(given - alone).is_multiple_of(chunk) {
            return Err(SpanError::Given {
                frames: given,
                chunk,
                first_alone,
            });
        }
        Ok(Self {
            given,
            chunk,
            first_alone,
        })
    }

    /// Latent frames that are given.
    pub fn given(&self) -> usize {
        self.given
    }

    /// The chunk that begins at latent frame `start`.
    pub fn at(&self, start: usize) -> ChunkPlan {
        ChunkPlan {
            start,
            frames: if self.first_alone && start == 0 { 1 } else { self.chunk },
            given: start < self.given,
        }
    }

    /// First latent frame of the chunk with this number.
    pub fn first_frame_of(&self, chunk: usize) -> usize {
        match (self.first_alone, chunk) {
            (_, 0) => 0,
            (true, _) => (chunk - 1).saturating_mul(self.chunk).saturating_add(1),
            (false, _) => chunk.saturating_mul(self.chunk),
        }
    }

    /// Latent frames of each chunk, without end.
    pub fn frames(self) -> impl Iterator<Item = usize> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let frames = self.at(start).frames;
            start += frames;
            Some(frames)
        })
    }

    /// The chunks of a video with `generated` latent frames after the given ones.
    ///
    /// # Errors
    /// When they are no whole chunks, with the nearest lengths that are.
    pub fn plans(&self, generated: usize) -> Result<Vec<ChunkPlan>, SpanError> {
        let chunk = self.chunk;
        if generated == 0 {
            return Err(SpanError::Nothing);
        }
        let alone = usize::from(self.first_alone && self.given == 0);
        let rest = generated - alone;
        if !rest.is_multiple_of(chunk) {
            let below = rest / chunk * chunk + alone;
            return Err(SpanError::Generated {
                frames: generated,
                chunk,
                first_alone: alone == 1,
                below: if below == 0 { chunk } else { below },
                above: below + chunk,
            });
        }
        let mut plans = Vec::new();
        let mut start = 0;
        while start < self.given + generated {
            let plan = self.at(start);
            start += plan.frames;
            plans.push(plan);
        }
        Ok(plans)
    }
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
    Spans::new(given, chunk, first_alone)?.plans(generated)
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
