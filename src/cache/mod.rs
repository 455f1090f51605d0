//! The key/value cache of causal self-attention, and which of its tokens stay: the subject of Deep Forcing.
//!
//! * [`policy`]: the policies by name; [`knobs`]: what they are settings of, in latent frames; [`rules`]: what these must
//!   obey.
//! * `custom`: a policy that is written down.
//! * [`parameters`]: the parameters as users give them; [`share`]: a number from 0 to 1.
//! * [`plan`]: what happens to the tokens when a chunk does not fit, as integer arithmetic without tensors; [`edit`]: what
//!   happens to their content before.
//! * [`holding`]: how many tokens are held, as counts alone.
//! * [`heads`]: heads that see different parts of the window; `profile`: which heads are static.
//! * [`context`]: passes that make finished chunks anew; [`cut`]: the begin of a scene; `bases`: a rotation for each head.
//! * [`window`]: the same for calls over a rolling window of blocks, of which the first alone is kept.
//! * [`store`]: the tensors of one layer; carries plans out.
//! * [`device`]: events that stay on a GPU.
//! * [`frames`]: keys and values of whole frames, beside those of the tokens.
//! * [`rewrite`]: the cache at a change of the prompt.
//! * [`observer`]: who looks on.
//! * [`snapshot`]: a cache at a chunk boundary, to go on from.
//! * [`score`]: Participative Compression's scores and the choice of the top C.
//! * [`rope`]: rotary position embeddings, from integer positions.
//!
//! Keys are kept un-rotated; each slot has a temporal position, and rotation is computed from it. A video owns one
//! [`KvCache`], made fresh for it.

mod bases;
pub mod context;
mod custom;
pub mod cut;
pub mod device;
pub mod edit;
pub mod frames;
pub mod heads;
pub mod holding;
pub mod knobs;
pub mod observer;
pub mod parameters;
pub mod plan;
pub mod policy;
mod profile;
pub mod rewrite;
pub mod rope;
pub mod rules;
pub mod score;
pub mod share;
pub mod snapshot;
pub mod store;
mod store_window;
pub mod window;

use candle_core::{DType, Device, Tensor};

pub use context::{Keep, Sees};
pub use custom::{KeepList, MemoryRule};
pub use frames::{FrameSnapshot, FrameWindow};
pub use heads::{HeadGroup, PatchChoice};
pub use holding::{Holding, Switch};
pub use knobs::{Overflow, Placement, Policy, Selection};
pub use observer::{CacheObserver, Event, Interest, Moment, OnEvent, Sight};
pub use parameters::{CacheChanges, CacheSettings, Parameter};
pub use plan::{Made, Plan, Slot};
pub use policy::{PolicyName, Positions, Scorer};
pub use profile::HeadProfile;
pub use rewrite::{Place, RecacheSink, Rewrite};
pub use rules::PolicyError;
pub use share::Share;
pub use snapshot::{CacheSnapshot, LayerSnapshot, ShelfSnapshot};
pub use store::LayerCache;
pub use window::Purpose;

use self::{
    bases::HeadBases,
    cut::Cut,
    device::{AngleTable, DeviceTags},
    edit::Shelf,
    heads::HeadState,
    rope::Rope,
    store::MovedAngles,
    store_window::SinkAngles,
};
use crate::Result;

/// Sizes that a cache is made for.
#[derive(Debug, Clone, Copy)]
pub struct CacheShape {
    pub layers: usize,
    pub heads: usize,
    pub head_dim: usize,
    /// Token rows of a latent frame (latent height / 2).
    pub rows: usize,
    /// Token columns of a latent frame (latent width / 2).
    pub columns: usize,
    /// Most latent frames of one chunk.
    pub chunk: usize,
}

impl CacheShape {
    /// Tokens of one latent frame.
    pub fn tokens_per_frame(&self) -> usize {
        self.rows * self.columns
    }
}

/// What a forward pass does to the cached tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// First pass over a chunk: room is made where needed and its tokens are appended.
    Append,
    /// A later pass over the chunk that came last: its tokens are replaced.
    Overwrite,
    /// The pass over the frames of a [`Rewrite`]: their tokens replace all that are there, but for a sink that is kept.
    Rewrite { sink: RecacheSink },
    /// A pass over a rolling window, whose first block alone is kept.
    FirstBlock {
        /// Whether the block is not in the cache yet.
        is_new: bool,
        purpose: Purpose,
    },
    /// A pass over a finished chunk that makes its tokens anew.
    Context { keep: Keep, sees: Sees },
}

/// The chunk that a forward pass works on, and what the pass does to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// First latent frame of the chunk, counted from the start of the video.
    pub start: u64,
    /// Latent frames of the chunk.
    pub frames: usize,
    pub write: Write,
    /// Temporal position of the first frame's queries and keys; the others follow.
    pub position: i64,
    /// Whether its latents are those of the finished chunk.
    pub clean: bool,
}

impl Pass {
    /// Whether it is the first pass over its chunk.
    pub fn is_first(self) -> bool {
        matches!(self.write, Write::Append | Write::FirstBlock { is_new: true, .. })
    }

    /// The chunk as plans see it.
    fn span(self) -> plan::ChunkSpan {
        plan::ChunkSpan {
            start: self.start,
            frames: self.frames,
        }
    }
}

/// Fails where the allocation itself would end the process: a GPU reports what it cannot give, and what the host has is
/// nothing to it.
fn check_memory(factors: [usize; 6], of_host: bool) -> Result<()> {
    let bytes = factors.into_iter().fold(1, usize::saturating_mul);
    // Beyond that no size of a tensor can be counted.
    let countable = isize::try_from(bytes).is_ok();
    if !countable || (of_host && Vec::<u8>::new().try_reserve_exact(bytes).is_err()) {
        Err(crate::Error::CacheMemory { bytes })
    } else {
        Ok(())
    }
}

/// Keys and values of all layers, for one video.
pub struct KvCache {
    policy: Policy,
    shape: CacheShape,
    rope: Rope,
    angles: AngleTable,
    sink_angles: SinkAngles,
    moved: MovedAngles,
    bases: Option<HeadBases>,
    layers: Vec<LayerCache>,
    /// Those of each layer; none in models without actions.
    frames: Vec<Vec<FrameWindow>>,
    end: Option<u64>,
    /// Number of the first latent frame of the video.
    origin: Option<u64>,
    cut: Cut,
    heads: HeadState,
    seed: u64,
    observer: Option<Observed>,
}

/// An observer and what it asked for.
struct Observed {
    who: Box<dyn CacheObserver>,
    interest: Interest,
}

impl KvCache {
    /// An empty cache. `seed` feeds what a policy draws: the scores of scorer `random`, the bases of the heads.
    ///
    /// The memory of the whole video is taken here: window + chunk latent frames per layer, keys twice (as made, and
    /// rotated) and values once, and the frames that the policy puts aside.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn new(policy: Policy, shape: CacheShape, seed: u64, dtype: DType, device: &Device) -> Result<Self> {
        let capacity = (policy.window + shape.chunk).saturating_mul(shape.tokens_per_frame());
        let stored = policy.stored(shape.chunk).saturating_mul(shape.tokens_per_frame());
        let factors = [
            3,
            shape.layers,
            capacity.saturating_add(stored),
            shape.heads,
            shape.head_dim,
            dtype.size_in_bytes(),
        ];
        check_memory(factors, device.is_cpu())?;
        let rope = Rope::new(shape.head_dim);
        let mut cache = Self {
            policy,
            shape,
            bases: policy
                .jitter
                .map(|jitter| HeadBases::draw(jitter, shape.layers, shape.heads, &rope, seed)),
            rope,
            angles: AngleTable::default(),
            sink_angles: SinkAngles::default(),
            moved: MovedAngles::default(),
            layers: Vec::new(),
            frames: (0..shape.layers).map(|_| Vec::new()).collect(),
            end: None,
            origin: None,
            cut: Cut::None,
            heads: HeadState::default(),
            seed,
            observer: None,
        };
        if let Some(heads) = &policy.heads {
            cache.heads.classes = heads.of_profile(shape.layers, shape.heads)?;
        }
        cache.allocate(capacity, dtype, device, !device.is_cpu())?;
        Ok(cache)
    }

    /// Makes the layers; `selecting` where the device selects by itself.
    fn allocate(&mut self, capacity: usize, dtype: DType, device: &Device, selecting: bool) -> Result<()> {
        let shape = &self.shape;
        let mut tags = match selecting {
            true => DeviceTags::of_layers(shape, capacity, device)?.into_iter(),
            false => Vec::new().into_iter(),
        };
        self.layers = (0..shape.layers)
            .map(|_| LayerCache::new(capacity, shape.heads, shape.head_dim, dtype, device, tags.next()))
            .collect::<Result<_>>()?;
        let stored = self.policy.stored(shape.chunk);
        let per_frame = shape.tokens_per_frame();
        for layer in self.layers.iter_mut().filter(|_| stored > 0) {
            layer.shelf = Some(Shelf::new(stored, per_frame, &layer.raw)?);
        }
        Ok(())
    }

    /// Shows what the cache does to `observer`, in place of the one before; costs nothing when there is none.
    pub fn set_observer(&mut self, observer: Option<Box<dyn CacheObserver>>) {
        self.observer = observer.map(|who| Observed {
            interest: who.interest(),
            who,
        });
    }

    /// Tells the cache which chunk the coming forward pass works on.
    ///
    /// # Errors
    /// When the chunk is neither the last one again nor one after it.
    pub fn begin(&mut self, start: u64, frames: usize) -> Result<Pass> {
        let end = start + frames as u64;
        let write = match self.end {
            Some(known) if known == end => Write::Overwrite,
            Some(known) if start < known => {
                return Err(crate::Error::ChunkOrder { start, frames, known });
            }
            _ => Write::Append,
        };
        if frames > self.shape.chunk {
            return Err(crate::Error::ChunkOrder {
                start,
                frames,
                known: self.end.unwrap_or(0),
            });
        }
        self.origin.get_or_insert(start);
        if write == Write::Append {
            self.undo_cut()?;
            self.choose_patches()?;
            if self.cut == Cut::Ahead {
                self.cut = Cut::Held { frames };
            }
        }
        self.end = Some(end);
        Ok(Pass {
            start,
            frames,
            write,
            position: start as i64,
            clean: false,
        })
    }

    /// As [`KvCache::begin`], for a pass over the finished chunk.
    ///
    /// # Errors
    /// As [`KvCache::begin`].
    pub fn begin_clean(&mut self, start: u64, frames: usize) -> Result<Pass> {
        let pass = self.begin(start, frames)?;
        Ok(Pass { clean: true, ..pass })
    }

    /// Tells the cache which window the coming forward pass works on: `frames` latent frames from `start` on, in blocks of
    /// the chunk that the cache was made for. The first block is kept.
    ///
    /// # Errors
    /// When the first block is neither the last one again nor the one after it.
    pub fn begin_window(&mut self, start: u64, frames: usize, purpose: Purpose) -> Result<Pass> {
        let end = start + self.shape.chunk as u64;
        let is_new = match self.end {
            Some(known) if known == end => false,
            Some(known) if known != start => return Err(crate::Error::ChunkOrder { start, frames, known }),
            _ => true,
        };
        self.end = Some(end);
        Ok(Pass {
            start,
            frames,
            write: Write::FirstBlock { is_new, purpose },
            position: start as i64,
            clean: purpose == Purpose::Update,
        })
    }

    /// Latent frame after the last one that was written; `None` before the first pass.
    pub fn end(&self) -> Option<u64> {
        self.end
    }

    /// Writes the chunk's tokens into a layer, making room first if needed, and returns what its queries attend to:
    /// rotated keys and values, `[tokens, heads, head_dim]`.
    ///
    /// `queries` and `rotated` are rotated at the chunk's positions, `keys` are not.
    ///
    /// # Errors
    /// When policy `global` has no room left, on a device failure, or an error of the observer.
    pub fn update(&mut self, layer: usize, pass: Pass, tokens: ChunkTokens<'_>) -> Result<(Tensor, Tensor)> {
        self.tell(Moment::Before, pass);
        let (cache, context, observer) = self.parts(layer);
        if let Write::FirstBlock { is_new, purpose } = pass.write {
            let seen = cache.write_window(&context, pass, (is_new, purpose), &tokens, observer)?;
            self.tell(Moment::After, pass);
            return Ok(seen);
        }
        cache.write(&context, pass, &tokens, observer)?;
        if let Write::Context { sees, .. } = pass.write {
            let seen = cache.seen_by(&context, sees, &tokens)?;
            self.tell(Moment::After, pass);
            return Ok(seen);
        }
        let (keys, values) = cache.view()?;
        self.look_at_heads(layer, pass, &tokens, &keys)?;
        self.tell(Moment::After, pass);
        if pass.is_first() && self.observer.as_ref().is_some_and(|observer| observer.interest.sights) {
            // Who looks on sees the slots as they are.
            self.end_pass()?;
            if let Some(observer) = &mut self.observer {
                observer.who.sight(Sight {
                    layer,
                    pass,
                    queries: tokens.queries,
                    keys: &keys,
                    cache: &self.layers[layer],
                })?;
            }
        }
        Ok((keys, values))
    }

    fn tell(&mut self, moment: Moment, pass: Pass) {
        if let Some(observer) = &mut self.observer {
            observer.who.moment(moment, pass);
        }
    }

    /// A layer, what it needs to know, and who wants to see events.
    fn parts(&mut self, layer: usize) -> (&mut LayerCache, store::Context<'_>, Option<&mut dyn CacheObserver>) {
        let context = store::Context {
            policy: &self.policy,
            shape: &self.shape,
            rope: &self.rope,
            angles: &self.angles,
            sink_angles: &self.sink_angles,
            moved: &self.moved,
            bases: self.bases.as_ref(),
            origin: self.origin.unwrap_or(0),
            cut: self.cut,
            seed: self.seed,
            layer,
        };
        let observer: Option<&mut dyn CacheObserver> = match &mut self.observer {
            Some(observer) if observer.interest.events => Some(observer.who.as_mut()),
            _ => None,
        };
        (&mut self.layers[layer], context, observer)
    }

    /// The layers, for inspection.
    pub fn layers(&self) -> &[LayerCache] {
        &self.layers
    }

    /// The sizes that it was made for.
    pub fn shape(&self) -> &CacheShape {
        &self.shape
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Gives a layer one more window of the last `window` latent frames, of `items` keys of `head_dim` channels each.
    ///
    /// # Errors
    /// When a chunk is longer than the window, the layer does not exist, or the device cannot hold it.
    pub fn add_frame_window(&mut self, layer: usize, window: usize, [items, head_dim]: [usize; 2]) -> Result<()> {
        let frames = self.shape.chunk;
        let (Some(windows), Some(tokens)) = (self.frames.get_mut(layer), self.layers.get(layer)) else {
            return Err(crate::Error::NoBlocks);
        };
        if window < frames {
            return Err(crate::Error::FrameWindow { window, frames });
        }
        let (dtype, device) = (tokens.raw.dtype(), tokens.raw.device());
        windows.push(FrameWindow::new(window, items, head_dim, dtype, device)?);
        Ok(())
    }

    /// The windows of frames of a layer, in the order in which they were added.
    pub fn frame_windows(&self, layer: usize) -> &[FrameWindow] {
        self.frames.get(layer).map_or(&[], Vec::as_slice)
    }

    /// The same, to be written.
    pub fn frame_windows_mut(&mut self, layer: usize) -> &mut [FrameWindow] {
        self.frames.get_mut(layer).map_or(&mut [], Vec::as_mut_slice)
    }

    /// Bytes held by all layers.
    pub fn bytes(&self) -> usize {
        let frames = self.frames.iter().flatten().map(FrameWindow::bytes);
        self.layers.iter().map(LayerCache::bytes).chain(frames).sum()
    }
}

/// Queries, keys and values of the current chunk, each `[tokens, heads, head_dim]`.
pub struct ChunkTokens<'a> {
    pub queries: &'a Tensor,
    /// Keys after their norm, un-rotated.
    pub keys: &'a Tensor,
    /// The same keys, rotated at the chunk's positions.
    pub rotated: &'a Tensor,
    pub values: &'a Tensor,
}

#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod emulated_tests;
#[cfg(test)]
mod policy_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_host_is_no_limit_to_a_gpu() {
        // No machine has 2⁶² bytes, and an allocator says so at once.
        let huge = [1 << 10, 1 << 10, 1 << 10, 1 << 10, 1 << 10, 1 << 12];
        assert!(check_memory(huge, true).is_err());
        assert!(check_memory(huge, false).is_ok());
        assert!(check_memory([usize::MAX, 2, 1, 1, 1, 1], false).is_err());
        assert!(check_memory([1; 6], true).is_ok());
    }
}
