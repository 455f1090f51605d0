//! Passes over finished chunks that make keys and values anew for the window (docs/algorithms/policies.md section 6).
//!
//! [`before`] and [`after`] say which there are, as integer arithmetic without tensors; the chunk loop has the latents.

use candle_core::Tensor;

use super::{
    ChunkTokens, KvCache, LayerCache, Pass, Write,
    knobs::{Context as Rule, LastChunk},
    store::Context,
};
use crate::{Result, kernels};

/// What is done around a chunk to make the window of the next ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing but the sink stays in the window; a chunk that was put aside follows it.
    Assemble { chunk: Option<usize> },
    /// A clean pass over a chunk.
    Pass { chunk: usize, keep: Keep, sees: Sees },
}

/// Where a pass leaves its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Outside the window.
    Aside,
    /// At the end of the window.
    Append,
    /// In place of the chunk that came last.
    Replace,
}

/// What the queries of such a pass attend to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// The chunk itself.
    Own,
    /// The chunk itself, and what is in the window behind the sink.
    BehindSink,
}

/// What comes before chunk `chunk` is denoised. `rebuild`: chunks that were made anew are made once more, under another
/// prompt.
pub fn before(rule: Rule, chunk: usize, rebuild: bool) -> Vec<Step> {
    let begins = chunk == rule.native;
    let own = |chunk: usize, keep: Keep| Step::Pass {
        chunk,
        keep,
        sees: Sees::Own,
    };
    let mut steps = Vec::new();
    match rule.last {
        _ if chunk < rule.native => {}
        LastChunk::ReEncoded => {
            // At least two chunks were made in the model's own way.
            let (older, newer) = (chunk.saturating_sub(2), chunk.saturating_sub(1));
            if begins || rebuild {
                steps.extend([own(older, Keep::Aside), own(newer, Keep::Aside)]);
            }
            steps.push(Step::Assemble { chunk: Some(older) });
            steps.push(Step::Pass {
                chunk: newer,
                keep: Keep::Append,
                sees: Sees::BehindSink,
            });
        }
        LastChunk::SelfCached if (begins && chunk > 1) || rebuild => {
            steps.push(Step::Assemble { chunk: None });
            // The first chunk is the sink.
            let last = chunk.saturating_sub(2).max(1)..chunk;
            steps.extend(last.map(|chunk| own(chunk, Keep::Append)));
        }
        LastChunk::SelfCached => {}
    }
    steps
}

/// The pass over finished chunk `chunk` in place of the one that sees the window; `None` where that is made.
pub fn after(rule: Rule, chunk: usize) -> Option<(Keep, Sees)> {
    let keep = match rule.last {
        LastChunk::ReEncoded => Keep::Aside,
        LastChunk::SelfCached => Keep::Replace,
    };
    (chunk >= rule.native).then_some((keep, Sees::Own))
}

impl KvCache {
    /// Tells the cache of a pass over the finished chunk of `frames` latent frames at `start`.
    ///
    /// # Errors
    /// On a device failure.
    pub fn begin_context(&mut self, start: u64, frames: usize, keep: Keep, sees: Sees) -> Result<Pass> {
        self.undo_cut()?;
        if keep != Keep::Aside {
            self.end = Some(start + frames as u64);
        }
        self.origin.get_or_insert(start);
        Ok(Pass {
            start,
            frames,
            write: Write::Context { keep, sees },
            position: start as i64,
            clean: true,
        })
    }

    /// Leaves the sink alone in the window, directly before the frame at `next`, and puts the `frames` frames from `next`
    /// on behind it that were put aside.
    ///
    /// # Errors
    /// When they were not, or on a device failure.
    pub fn assemble(&mut self, next: u64, frames: usize) -> Result<()> {
        self.end_pass()?;
        self.undo_cut()?;
        self.end = Some(next + frames as u64);
        for layer in 0..self.layers.len() {
            let (cache, context, _) = self.parts(layer);
            cache.assemble(&context, next, frames)?;
        }
        Ok(())
    }
}

impl LayerCache {
    /// Keeps the tokens of a pass over a finished chunk.
    pub(super) fn write_context(
        &mut self,
        context: &Context<'_>,
        pass: Pass,
        keep: Keep,
        tokens: &ChunkTokens<'_>,
    ) -> Result<()> {
        let held = self.slots.len();
        match keep {
            Keep::Aside => match &mut self.shelf {
                Some(shelf) => shelf.put(pass.start, tokens.keys, tokens.values),
                None => Ok(()),
            },
            Keep::Append => self.write_tokens(held, context, pass, tokens),
            Keep::Replace => {
                let incoming = pass.frames * context.per_frame();
                self.write_tokens(held.saturating_sub(incoming), context, pass, tokens)
            }
        }
    }

    /// Rotated keys and values that such a pass attends to.
    pub(super) fn seen_by(
        &self,
        context: &Context<'_>,
        sees: Sees,
        tokens: &ChunkTokens<'_>,
    ) -> Result<(Tensor, Tensor)> {
        match sees {
            Sees::Own => Ok((tokens.rotated.clone(), tokens.values.clone())),
            Sees::BehindSink => {
                let sink = (context.policy.sink * context.per_frame()).min(self.slots.len());
                let rest = self.slots.len() - sink;
                Ok((self.rotated.narrow(0, sink, rest)?, self.values.narrow(0, sink, rest)?))
            }
        }
    }

    fn assemble(&mut self, context: &Context<'_>, next: u64, frames: usize) -> Result<()> {
        let per_frame = context.per_frame();
        let sink = (context.policy.sink * per_frame).min(self.slots.len());
        let mut before: Vec<i64> = self.slots[..sink].iter().map(|slot| slot.position).collect();
        for (i, frame) in (0..frames).zip(next..) {
            let (raw, values) = self.shelved(frame)?;
            kernels::write_rows(&self.raw, &raw, sink + i * per_frame)?;
            kernels::write_rows(&self.values, &values, sink + i * per_frame)?;
        }
        self.slots.truncate(sink);
        if frames > 0 {
            self.describe(sink, context, next, frames)?;
        }
        let first = next as i64 - (sink / per_frame.max(1)) as i64;
        for (i, slot) in self.slots[..sink].iter_mut().enumerate() {
            slot.position = first + (i / per_frame.max(1)) as i64;
        }
        before.resize(self.slots.len(), i64::MIN);
        self.rotate_moved(&before, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(chunk: usize, keep: Keep, sees: Sees) -> Step {
        Step::Pass { chunk, keep, sees }
    }

    /// The tables of docs/algorithms/policies.md section 6.
    #[test]
    fn passes_are_those_of_the_two_forms() {
        let encoded = Rule {
            native: 7,
            last: LastChunk::ReEncoded,
        };
        assert_eq!(before(encoded, 6, false), []);
        let later = [
            Step::Assemble { chunk: Some(6) },
            pass(7, Keep::Append, Sees::BehindSink),
        ];
        assert_eq!(before(encoded, 8, false), later);
        let first = before(encoded, 7, false);
        assert_eq!(
            first[..2],
            [pass(5, Keep::Aside, Sees::Own), pass(6, Keep::Aside, Sees::Own)]
        );
        assert_eq!(first.len(), 4);
        assert_eq!(before(encoded, 8, true).len(), 4);
        assert_eq!(
            (after(encoded, 6), after(encoded, 7)),
            (None, Some((Keep::Aside, Sees::Own)))
        );

        let own = |native| Rule {
            native,
            last: LastChunk::SelfCached,
        };
        assert_eq!(before(own(1), 1, false), []);
        assert_eq!(after(own(1), 1), Some((Keep::Replace, Sees::Own)));
        let taken_over = [Step::Assemble { chunk: None }, pass(1, Keep::Append, Sees::Own)];
        assert_eq!(before(own(2), 2, false), taken_over);
        assert_eq!(before(own(4), 4, false).len(), 3);
        assert_eq!(before(own(1), 9, true).len(), 3);
        assert_eq!(before(own(1), 9, false), []);
    }
}
