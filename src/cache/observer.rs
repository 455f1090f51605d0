//! Who looks on while a cache works: traces, tests and benchmarks.

use candle_core::Tensor;

use super::{LayerCache, Pass, Plan};
use crate::Result;

/// What a layer did when it made room for a chunk.
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

/// What a layer's queries attend to at the first pass of a chunk, room made and the chunk written.
pub struct Sight<'a> {
    pub layer: usize,
    pub pass: Pass,
    /// Queries of the chunk, rotated, `[tokens, heads, head_dim]`.
    pub queries: &'a Tensor,
    /// All valid keys, rotated, `[tokens, heads, head_dim]`; their slots are the cache's.
    pub keys: &'a Tensor,
    pub cache: &'a LayerCache,
}

/// A moment of writing a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

/// What an observer wants to be shown. All of it costs something on a GPU, where choices stay on the device unless
/// somebody asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interest {
    /// Every [`Event`].
    pub events: bool,
    /// A [`Sight`] of every layer at the first pass of every chunk, events or not.
    pub sights: bool,
}

/// Looks on while a cache is written; see [`super::KvCache::set_observer`].
pub trait CacheObserver: Send {
    /// What is to be shown; asked once.
    fn interest(&self) -> Interest;

    /// A layer has made room.
    fn event(&mut self, _event: Event<'_>) {}

    /// A layer is about to be attended to.
    ///
    /// # Errors
    /// What the observer cannot bear; ends the pass.
    fn sight(&mut self, _sight: Sight<'_>) -> Result<()> {
        Ok(())
    }

    /// The writing of a layer begins or ends.
    fn moment(&mut self, _moment: Moment, _pass: Pass) {}
}

/// Calls a function with every [`Event`].
pub struct OnEvent<F>(pub F);

impl<F: FnMut(Event<'_>) + Send> CacheObserver for OnEvent<F> {
    fn interest(&self) -> Interest {
        Interest {
            events: true,
            sights: false,
        }
    }

    fn event(&mut self, event: Event<'_>) {
        (self.0)(event);
    }
}
