//! The loops that turn noise into latent frames.
//!
//! | file | what it holds |
//! |---|---|
//! | `actions` | rows of actions, one per picture, and the rows that a latent frame sees |
//! | `action_buffer` | the rows of a world that is steered while it is made |
//! | `director` | who is asked before each chunk for the prompt, and whether there is a chunk |
//! | `chunked` | the loop of the Self Forcing family: chunk by chunk, each denoised in a few steps against the cache |
//! | `rolling` | the loop of Rolling Forcing: a window of chunks at different noise levels moves through the video |
//! | `history` | clean latents that the cache can be encoded again from |
//! | `spans` | where chunks begin and end |
//! | `sampler` | flow-matching schedule, few-step denoising |
//! | `noise` | Gaussian noise, a stream per latent frame |
//! | `world` | the image that a world begins with, frame by frame |
//! | `request`, `start` | sizes and lengths that users ask for, images and clips that a video begins with |
//!
//! Every loop has one face, [`ChunkLoop`]. Nothing here prints, and a caller may stop between chunks, or take a
//! [`Snapshot`] there and go on from it later.

pub mod action_buffer;
pub mod actions;
pub mod chunked;
pub mod director;
pub mod history;
pub mod noise;
pub mod request;
pub mod rolling;
pub mod sampler;
pub mod spans;
pub mod start;
pub mod world;

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use candle_core::Tensor;

use crate::{
    Error, Result,
    cache::{CacheSnapshot, KvCache},
};

pub use action_buffer::{ActionBuffer, ActionRow};
pub use actions::{ActionRows, ActionRowsError, ActionWindow};
pub use chunked::{Rollout, RolloutSettings};
pub use director::{Ahead, Cue, Director, OnSwitch, PromptChange, Script, SwitchRule, prompt_at};
pub use history::HistorySnapshot;
pub use noise::{NoiseSource, RecordedNoise, SeededNoise};
pub use rolling::{RollingError, RollingRollout};
pub use spans::{ChunkPlan, LoopKind, RolloutDefaults, SpanError, chunk_plans};
pub use world::{EncodedImage, ImageLatents, RecordedImage, World};

/// A finished chunk.
pub struct LatentChunk {
    /// Number of the chunk.
    pub index: usize,
    pub plan: ChunkPlan,
    /// `[frames, channels, height, width]`.
    pub latents: Tensor,
}

/// What happens inside a chunk.
pub enum Progress<'a> {
    /// A denoising step is done; `x0` is its clean estimate. In a rolling window it is that of all its chunks, of which
    /// `chunk` is the first.
    Step {
        chunk: usize,
        step: usize,
        steps: usize,
        x0: &'a Tensor,
    },
    /// The chunk was written into the cache.
    Cached { chunk: usize },
    /// The prompt has changed before this chunk; the cache is what that left of it.
    Switched { chunk: usize, cache: &'a KvCache },
}

/// A rollout at a chunk boundary. Going on from it gives what not having stopped gives, to the bit.
///
/// Noise depends on the seed and the latent frame alone and has no state ([`SeededNoise`]).
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Chunks made.
    pub chunk: usize,
    /// Latent frames made, given ones included.
    pub frame: usize,
    /// Number of the last chunk's prompt, as the director counts them.
    pub prompt: Option<usize>,
    pub cache: CacheSnapshot,
    /// Clean latents, where the cache may be encoded again from them.
    pub history: Option<HistorySnapshot>,
    /// Noisy latents of the chunks after those that are made, `[frames, channels, height, width]`: where a loop works on
    /// several at a time.
    pub window: Option<Tensor>,
    /// Rows of the pictures before the next chunk that it still sees: where actions steer the video.
    pub actions: Option<ActionRows>,
}

/// A loop that makes a video chunk by chunk.
pub trait ChunkLoop: Send {
    /// Makes the next chunk; `None` after the last one or when the rollout was cancelled. The chunk leaves before it is
    /// written into the cache: that pass belongs to the next call, or to [`ChunkLoop::write_back`].
    ///
    /// # Errors
    /// On a device failure, an error of the director, or [`crate::Error::Cancelled`] when [`CancelToken::now`] was
    /// called. The rollout cannot go on after an error.
    fn next_chunk(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Option<LatentChunk>>;

    /// Writes the last chunk into the cache, unless it is there already.
    ///
    /// # Errors
    /// On a device failure.
    fn write_back(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<()>;

    /// Lets `cancel` stop this rollout.
    fn set_cancel(&mut self, cancel: CancelToken);

    /// Chunks of the whole video, given ones included; `None` when its end is decided later.
    fn chunks(&self) -> Option<usize>;

    /// The cache, for inspection.
    fn cache(&self) -> &KvCache;

    /// The cache, to set an observer.
    fn cache_mut(&mut self) -> &mut KvCache;

    /// What later chunks depend on, on the host. Writes the last chunk into the cache first.
    ///
    /// # Errors
    /// On a device failure.
    fn snapshot(&mut self) -> Result<Snapshot>;

    /// Goes on from `snapshot`, taken of a rollout of the same model, settings, seed and prompts.
    ///
    /// # Errors
    /// When it does not fit, or on a device failure. The rollout is then of no more use.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<()>;
}

/// Checks that a snapshot was taken where a chunk begins that has `expected` as its first latent frame.
fn check_boundary(snapshot: &Snapshot, expected: usize, first_position: u64) -> Result<()> {
    let (chunk, frame) = (snapshot.chunk, snapshot.frame);
    if expected != frame {
        return Err(Error::Snapshot {
            reason: format!("chunk {chunk} begins at latent frame {expected}, in the state at {frame}"),
        });
    }
    let end = (frame > 0).then(|| first_position + frame as u64);
    if snapshot.cache.end != end {
        return Err(Error::Snapshot {
            reason: format!(
                "its cache ends at latent frame {:?}, expected {end:?}",
                snapshot.cache.end
            ),
        });
    }
    Ok(())
}

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
