//! A rolling window of blocks over the cache: which block is kept, and what a call attends to, as integer arithmetic
//! without tensors (docs/algorithms/rolling_forcing.md section 3).
//!
//! A call works on the blocks of a window, of which the first alone is kept. The cache holds a block more than a call may
//! attend to.

use std::ops::Range;

use super::knobs::Policy;

/// What a call over a rolling window is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// All blocks of the window are denoised.
    Denoise,
    /// The first block is clean, as far as it is known, and replaces what is kept of it.
    Update,
}

/// What a call does to the cache of a layer and what its queries attend to, in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowPlan {
    /// Tokens directly behind the sink that are dropped first.
    pub dropped: usize,
    /// Tokens of the sink that stay.
    pub sink: usize,
    /// First slot of the block that is kept, after that.
    pub at: usize,
    pub view: View,
}

/// The keys that a call's queries see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// Those of the call alone.
    Own,
    /// Slots of the sink, moved to lie directly before the history; slots of the history; all keys of the call.
    Window { sink: usize, history: Range<usize> },
    /// Slots as they are, the block that the call has written among them.
    Cached(Range<usize>),
}

/// Sizes that a plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct WindowCall {
    /// Tokens in the cache.
    pub cached: usize,
    /// Latent frames of a block.
    pub block: usize,
    /// Latent frames of the call.
    pub frames: usize,
    /// Tokens of a latent frame.
    pub per_frame: usize,
    /// Whether the first block is not in the cache yet.
    pub is_new: bool,
    pub purpose: Purpose,
}

/// Latent frames that a cache for a rolling window holds.
pub fn capacity(policy: &Policy, block: usize) -> usize {
    policy.window.saturating_add(block)
}

impl WindowPlan {
    /// The plan of a call.
    pub fn make(policy: &Policy, call: WindowCall) -> Self {
        let WindowCall { per_frame, .. } = call;
        let (block, span) = (call.block * per_frame, policy.window * per_frame);
        let sink = (policy.sink * per_frame).min(call.cached);
        let end = call.cached + if call.is_new { block } else { 0 };
        let dropped = end
            .saturating_sub(capacity(policy, call.block) * per_frame)
            .min(call.cached - sink);
        let end = end - dropped;
        let at = end.saturating_sub(block);
        let view = match call.purpose {
            _ if at == 0 => View::Own,
            Purpose::Denoise => {
                let sink = sink.min(at);
                let history = span.saturating_sub(call.frames * per_frame + policy.sink * per_frame);
                View::Window {
                    sink,
                    history: at.saturating_sub(history).max(sink)..at,
                }
            }
            // A sink of which a part is out of reach is not seen at all.
            Purpose::Update => match end.saturating_sub(span) {
                0 => View::Cached(0..end),
                first => View::Cached(first.max(sink).min(at)..end),
            },
        };
        Self {
            dropped,
            sink,
            at,
            view,
        }
    }

    /// Keys that the call of `tokens` tokens attends to.
    pub fn keys(&self, tokens: usize) -> usize {
        match &self.view {
            View::Own => tokens,
            View::Window { sink, history } => sink + history.len() + tokens,
            View::Cached(range) => range.len(),
        }
    }
}

/// Queries and keys, in tokens, of the calls of a video whose windows have `levels` blocks of `block` latent frames, each
/// pair once: what a device can prepare for. Enough blocks are looked at to fill the cache and to run out.
pub fn window_sizes(policy: &Policy, block: usize, levels: usize, per_frame: usize) -> Vec<(usize, usize)> {
    let (mut sizes, mut cached) = (Vec::new(), 0);
    let blocks = capacity(policy, block).div_ceil(block.max(1)) + 2 * levels + 1;
    for window in 0..blocks + levels.saturating_sub(1) {
        let first = (window + 1).saturating_sub(levels);
        let last = window.min(blocks - 1);
        let calls = [(Purpose::Denoise, (last + 1 - first) * block), (Purpose::Update, block)];
        for (purpose, frames) in calls {
            let is_new = purpose == Purpose::Denoise && (window == 0 || first > 0);
            let plan = WindowPlan::make(
                policy,
                WindowCall {
                    cached,
                    block,
                    frames,
                    per_frame,
                    is_new,
                    purpose,
                },
            );
            cached = plan.at + block * per_frame;
            let size = (frames * per_frame, plan.keys(frames * per_frame));
            if !sizes.contains(&size) {
                sizes.push(size);
            }
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The released sizes, one token a frame.
    fn plan(cached: usize, frames: usize, is_new: bool, purpose: Purpose) -> WindowPlan {
        let policy = Policy {
            sink: 3,
            ..Policy::last(21)
        };
        let call = WindowCall {
            cached,
            block: 3,
            frames,
            per_frame: 1,
            is_new,
            purpose,
        };
        WindowPlan::make(&policy, call)
    }

    #[test]
    fn the_first_block_sees_the_call_alone() {
        for (cached, frames, is_new) in [(0, 3, true), (3, 15, false)] {
            let found = plan(cached, frames, is_new, Purpose::Denoise);
            assert_eq!((found.dropped, found.at, found.view), (0, 0, View::Own));
        }
        assert_eq!(plan(3, 3, false, Purpose::Update).view, View::Own);
    }

    #[test]
    fn a_full_window_sees_a_block_of_history_and_those_of_the_end_more() {
        for (frames, history) in [(15, 21..24), (12, 18..24), (9, 15..24), (6, 12..24), (3, 9..24)] {
            let found = plan(24, frames, true, Purpose::Denoise);
            assert_eq!((found.dropped, found.at), (3, 21), "{frames}");
            let (start, end) = (history.start - 3, history.end - 3);
            let expected = View::Window {
                sink: 3,
                history: start..end,
            };
            assert_eq!(found.view, expected, "{frames}");
            assert_eq!(found.keys(frames), 21);
        }
        let early = plan(3, 15, true, Purpose::Denoise);
        assert_eq!((early.at, early.keys(15)), (3, 18), "no history yet");
    }

    #[test]
    fn updates_lose_the_sink_when_the_cache_is_full() {
        assert_eq!(plan(21, 3, false, Purpose::Update).view, View::Cached(0..21));
        assert_eq!(plan(24, 3, false, Purpose::Update).view, View::Cached(3..24));
    }

    #[test]
    fn the_sizes_of_a_video_are_few() {
        let policy = Policy {
            sink: 3,
            ..Policy::last(21)
        };
        let sizes = window_sizes(&policy, 3, 5, 2);
        for size in [(6, 6), (30, 30), (30, 36), (30, 42), (24, 42), (6, 42), (6, 36)] {
            assert!(sizes.contains(&size), "{size:?} in {sizes:?}");
        }
        assert!(sizes.len() < 20, "{sizes:?}");
    }
}
