//! The key/value cache of causal self-attention, and which of its tokens stay: the subject of Deep Forcing.
//!
//! * [`policy`]: the policies and their parameters, in latent frames, and the rules they must obey.
//! * [`plan`]: what happens to the tokens when a chunk does not fit, as integer arithmetic without tensors.
//! * [`store`]: the tensors of one layer; carries plans out.
//! * [`device`]: events that stay on a GPU.
//! * [`score`]: Participative Compression's scores and the choice of the top C.
//! * [`rope`]: rotary position embeddings, from integer positions.
//!
//! Keys are kept un-rotated; each slot has a temporal position, and rotation is computed from it. A video owns one
//! [`KvCache`], made fresh for it.

pub mod device;
pub mod plan;
pub mod policy;
pub mod rope;
pub mod score;
pub mod store;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

pub use plan::{Plan, Slot};
pub use policy::{CacheSettings, Overflow, Placement, Policy, PolicyError, PolicyName, Positions, Scorer, Selection};
pub use store::LayerCache;

use self::device::{AngleTable, DeviceTags};
use crate::{Result, cache::rope::Rope};

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

/// The chunk that a forward pass works on, and whether the cache has seen it already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// First latent frame of the chunk, counted from the start of the video.
    pub start: u64,
    /// Latent frames of the chunk.
    pub frames: usize,
    /// First denoising step of the chunk: room is made and its tokens are appended. Later passes overwrite them.
    pub first: bool,
}

impl Pass {
    /// The chunk as plans see it.
    fn span(self) -> plan::ChunkSpan {
        plan::ChunkSpan {
            start: self.start,
            frames: self.frames,
        }
    }
}

/// What a layer did when it made room for a chunk; see [`KvCache::set_probe`].
pub struct Event<'a> {
    pub layer: usize,
    pub pass: Pass,
    /// Tokens before, the incoming chunk included.
    pub total: usize,
    pub plan: &'a Plan,
    /// Score of each candidate, when candidates were scored.
    pub scores: Option<&'a [f32]>,
    /// Indices into `[cached ++ incoming]` that stayed, ascending.
    pub kept: &'a [usize],
    /// The layer after the event.
    pub cache: &'a LayerCache,
}

/// Observer of cache events.
pub type Probe = Box<dyn FnMut(Event<'_>) + Send>;

/// What a layer's queries attend to at the first pass of a chunk, room made and the chunk written; see
/// [`KvCache::set_watch`].
pub struct Sight<'a> {
    pub layer: usize,
    pub pass: Pass,
    /// Queries of the chunk, rotated, `[tokens, heads, head_dim]`.
    pub queries: &'a Tensor,
    /// All valid keys, rotated, `[tokens, heads, head_dim]`; their slots are the cache's.
    pub keys: &'a Tensor,
    pub cache: &'a LayerCache,
}

/// Observer of the first pass of every chunk; its error ends the pass.
pub type Watch = Box<dyn FnMut(Sight<'_>) -> Result<()> + Send>;

/// Called before and after each layer is written in a forward pass; see [`KvCache::set_stopwatch`].
pub type Stopwatch = Box<dyn FnMut(Moment, Pass) + Send>;

/// A moment of writing a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
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
    layers: Vec<LayerCache>,
    end: Option<u64>,
    seed: u64,
    probe: Option<Probe>,
    watch: Option<Watch>,
    stopwatch: Option<Stopwatch>,
}

impl KvCache {
    /// An empty cache. `seed` feeds the scorer `random` alone.
    ///
    /// The memory of the whole video is taken here: window + chunk latent frames per layer, keys twice (as made, and
    /// rotated) and values once.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn new(policy: Policy, shape: CacheShape, seed: u64, dtype: DType, device: &Device) -> Result<Self> {
        let capacity = (policy.window + shape.chunk).saturating_mul(shape.tokens_per_frame());
        let factors = [
            3,
            shape.layers,
            capacity,
            shape.heads,
            shape.head_dim,
            dtype.size_in_bytes(),
        ];
        check_memory(factors, device.is_cpu())?;
        let mut cache = Self {
            policy,
            shape,
            rope: Rope::new(shape.head_dim),
            angles: AngleTable::default(),
            layers: Vec::new(),
            end: None,
            seed,
            probe: None,
            watch: None,
            stopwatch: None,
        };
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
        Ok(())
    }

    /// Shows every event to `probe`; costs nothing when none is set.
    pub fn set_probe(&mut self, probe: Probe) {
        self.probe = Some(probe);
    }

    /// Shows every layer to `watch` at the first pass of every chunk, events or not; costs nothing when none is set.
    pub fn set_watch(&mut self, watch: Watch) {
        self.watch = Some(watch);
    }

    /// Calls `stopwatch` around the writing of each layer, to measure it; costs nothing when none is set.
    pub fn set_stopwatch(&mut self, stopwatch: Option<Stopwatch>) {
        self.stopwatch = stopwatch;
    }

    /// Tells the cache which chunk the coming forward pass works on.
    ///
    /// # Errors
    /// When the chunk is neither the last one again nor one after it.
    pub fn begin(&mut self, start: u64, frames: usize) -> Result<Pass> {
        let end = start + frames as u64;
        let first = match self.end {
            Some(known) if known == end => false,
            Some(known) if start < known => {
                return Err(crate::Error::ChunkOrder { start, frames, known });
            }
            _ => true,
        };
        if frames > self.shape.chunk {
            return Err(crate::Error::ChunkOrder {
                start,
                frames,
                known: self.end.unwrap_or(0),
            });
        }
        self.end = Some(end);
        Ok(Pass { start, frames, first })
    }

    /// Writes the chunk's tokens into a layer, making room first if needed, and returns what its queries attend to:
    /// rotated keys and values, `[tokens, heads, head_dim]`.
    ///
    /// `queries` and `rotated` are rotated at the chunk's positions, `keys` are not.
    ///
    /// # Errors
    /// When policy `global` has no room left, on a device failure, or an error of the watch.
    pub fn update(&mut self, layer: usize, pass: Pass, tokens: ChunkTokens<'_>) -> Result<(Tensor, Tensor)> {
        if let Some(stopwatch) = &mut self.stopwatch {
            stopwatch(Moment::Before, pass);
        }
        let (cache, context, probe) = self.parts(layer);
        cache.write(&context, pass, &tokens, probe)?;
        let (keys, values) = cache.view()?;
        if let Some(stopwatch) = &mut self.stopwatch {
            stopwatch(Moment::After, pass);
        }
        if self.watch.is_some() && pass.first {
            // Who looks on sees the slots as they are.
            self.end_pass()?;
        }
        if let Some(watch) = self.watch.as_mut().filter(|_| pass.first) {
            watch(Sight {
                layer,
                pass,
                queries: tokens.queries,
                keys: &keys,
                cache: &self.layers[layer],
            })?;
        }
        Ok((keys, values))
    }

    /// A layer, what it needs to know, and who looks on.
    fn parts(&mut self, layer: usize) -> (&mut LayerCache, store::Context<'_>, Option<&mut Probe>) {
        let context = store::Context {
            policy: &self.policy,
            shape: &self.shape,
            rope: &self.rope,
            angles: &self.angles,
            seed: self.seed,
            layer,
        };
        (&mut self.layers[layer], context, self.probe.as_mut())
    }

    /// Ends a pass over all layers: fetches what the device chose, of all layers at once. Does nothing unless the pass
    /// made room on a GPU. Until then [`LayerCache::slots`] of selected tokens are stand-ins.
    ///
    /// # Errors
    /// On a device failure.
    pub fn end_pass(&mut self) -> Result<()> {
        if self.layers.iter().all(|layer| layer.pending.is_none()) {
            return Ok(());
        }
        let chosen: Vec<&Tensor> = self.layers.iter().filter_map(LayerCache::unsettled).collect();
        let all = match chosen.is_empty() {
            true => Vec::new(),
            false => Tensor::cat(&chosen, 0)?.to_vec1::<u32>()?,
        };
        let mut rest = all.as_slice();
        let mut waiting = Vec::with_capacity(self.layers.len());
        for (layer, cache) in self.layers.iter_mut().enumerate() {
            let (own, others) = rest.split_at(cache.unsettled().map_or(0, Tensor::elem_count));
            waiting.push((layer, cache, own));
            rest = others;
        }
        // The device waits meanwhile: tens of thousands of slots in each layer.
        let (policy, shape) = (&self.policy, &self.shape);
        waiting
            .into_par_iter()
            .try_for_each(|(layer, cache, own)| cache.settle(policy, shape, layer, own))
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

    /// Bytes held by all layers.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(LayerCache::bytes).sum()
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
