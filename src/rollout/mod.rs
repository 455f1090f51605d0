//! The loops that turn noise into latent frames.
//!
//! [`chunked::Rollout`] is the loop of the Self Forcing family: chunk by chunk, each denoised in a few steps against the
//! cache of earlier chunks. It is an iterator-like API: nothing here prints, and a caller may stop between chunks.

pub mod chunked;
pub mod noise;
pub mod request;
pub mod sampler;
pub mod spans;
pub mod start;

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

pub use chunked::{LatentChunk, Progress, PromptChange, Rollout, RolloutSettings};
pub use noise::{NoiseSource, RecordedNoise, SeededNoise};
pub use spans::{ChunkPlan, RolloutDefaults, SpanError, chunk_plans};

/// Asks a running rollout to stop, from any thread. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<AtomicU8>);

impl CancelToken {
    /// Ends the rollout after the chunk in work.
    pub fn after_chunk(&self) {
        self.0.fetch_max(1, Ordering::Relaxed);
    }

    /// Ends the rollout at the next denoising step; the chunk in work is lost.
    pub fn now(&self) {
        self.0.store(2, Ordering::Relaxed);
    }

    /// Whether no further chunk is wanted.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn is_urgent(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}
