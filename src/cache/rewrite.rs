//! What becomes of the cache when the prompt changes (docs/algorithms/longlive.md): it is written anew from clean
//! latents under the new prompt, or all but its sink and its last chunk is dropped.
//!
//! [`Rewrite`] says which frames are encoded again and where, as integer arithmetic without tensors.

use serde::{Deserialize, Serialize};

use super::{
    ChunkTokens, KvCache, LayerCache, Pass, Plan, Policy, Slot, Write,
    knobs::Ends,
    plan::{ChunkSpan, Made},
    policy::names,
    store::Context,
};
use crate::{Result, kernels};

/// What a cache that is written anew has as its sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecacheSink {
    /// The sink stays as it is, made under the prompt before; as long as nothing was dropped all is written anew
    /// (LongLive's global sink).
    #[default]
    Keep,
    /// The first of the frames that are written anew become the sink (LongLive without a global sink).
    Renew,
    /// The sink's frames are encoded again from their latents and stay where they are (ours, for Deep Sink and Deep
    /// Forcing).
    Encode,
}

names!(RecacheSink:
    "keep" => RecacheSink::Keep,
    "renew" => RecacheSink::Renew,
    "encode" => RecacheSink::Encode,
);

/// A latent frame of the cache, and where attention sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Counted from the start of the video.
    pub frame: u64,
    /// Temporal position of its keys.
    pub position: i64,
}

/// How a cache is written anew. Tokens that Participative Compression has chosen are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// Tokens at the front that stay as they are.
    pub kept: usize,
    /// Frames that are encoded again; their tokens follow those that stay and are the last ones.
    pub places: Vec<Place>,
}

impl Rewrite {
    /// What is written anew of a layer with these slots, at `per_frame` tokens per latent frame; `None` when there is
    /// nothing.
    pub fn plan(policy: &Policy, slots: &[Slot], per_frame: usize, sink: RecacheSink) -> Option<Self> {
        let held = whole_frames(slots, per_frame);
        let (oldest, newest) = (*held.first()?, *held.last()?);
        let is_whole = newest.frame - oldest.frame + 1 == held.len() as u64;
        let rewrite = match sink {
            RecacheSink::Keep if !is_whole => {
                let kept = policy.sink.min(held.len());
                Self {
                    kept: kept * per_frame,
                    places: held[kept..].to_vec(),
                }
            }
            RecacheSink::Keep | RecacheSink::Encode => Self { kept: 0, places: held },
            RecacheSink::Renew => Self {
                kept: 0,
                places: (0..held.len() as u64)
                    .rev()
                    .map(|back| Place {
                        frame: newest.frame - back,
                        position: newest.position - back as i64,
                    })
                    .collect(),
            },
        };
        (!rewrite.places.is_empty()).then_some(rewrite)
    }

    /// The slots after it, from those of before.
    pub(super) fn carry_out(&self, slots: &[Slot], rows: u32, columns: u32) -> Vec<Slot> {
        let mut after = slots[..self.kept].to_vec();
        for place in &self.places {
            for row in 0..rows {
                after.extend((0..columns).map(|column| Slot {
                    position: place.position,
                    ..Slot::of_frame(place.frame, row, column)
                }));
            }
        }
        after
    }
}

/// The frames that are there with all of their tokens: all but chosen tokens and memories.
pub(crate) fn whole_frames(slots: &[Slot], per_frame: usize) -> Vec<Place> {
    let is_memory = |slot: &Slot| matches!(slot.made, Made::Memory(_));
    let whole = slots.iter().filter(|slot| slot.reuses == 0 && !is_memory(slot));
    let first_tokens = whole.step_by(per_frame.max(1));
    first_tokens
        .map(|slot| Place {
            frame: slot.frame,
            position: slot.position,
        })
        .collect()
}

impl KvCache {
    /// The pass that writes the cache anew, and the frames that it needs; `None` when the cache is empty. The pass goes
    /// through all layers as any other.
    pub fn rewrite(&self, sink: RecacheSink) -> Option<(Pass, Vec<Place>)> {
        let slots = self.layers.first()?.slots();
        let rewrite = Rewrite::plan(&self.policy, slots, self.shape.tokens_per_frame(), sink)?;
        let first = rewrite.places.first()?;
        let pass = Pass {
            start: first.frame,
            frames: rewrite.places.len(),
            write: Write::Rewrite { sink },
            position: first.position,
            clean: true,
        };
        Some((pass, rewrite.places))
    }

    /// The latent frames that are in the cache with all of their tokens, oldest first.
    pub fn whole_frames(&self) -> Vec<u64> {
        let slots = self.layers.first().map(LayerCache::slots).unwrap_or_default();
        let places = whole_frames(slots, self.shape.tokens_per_frame());
        places.into_iter().map(|place| place.frame).collect()
    }

    /// Drops all but the sink and the last `frames` latent frames, or but what the policy says that a flush keeps. A sink
    /// that moves along then lies directly before those that are left.
    ///
    /// # Errors
    /// On a device failure.
    pub fn flush(&mut self, frames: usize) -> Result<()> {
        self.end_pass()?;
        self.undo_cut()?;
        for layer in 0..self.layers.len() {
            let (cache, context, _) = self.parts(layer);
            cache.flush(&context, frames)?;
        }
        Ok(())
    }
}

impl LayerCache {
    /// Writes the tokens of a [`Rewrite`] over those that are there.
    pub(super) fn rewrite(
        &mut self,
        context: &Context<'_>,
        pass: Pass,
        sink: RecacheSink,
        tokens: &ChunkTokens<'_>,
    ) -> Result<()> {
        let per_frame = context.per_frame();
        let planned = Rewrite::plan(context.policy, &self.slots, per_frame, sink);
        let Some(rewrite) = planned.filter(|rewrite| rewrite.places.len() == pass.frames) else {
            return Err(crate::Error::Recache {
                reason: format!("layer {} holds other frames than the first one", context.layer),
            });
        };
        for (buffer, rows) in [
            (&self.raw, tokens.keys),
            (&self.rotated, tokens.rotated),
            (&self.values, tokens.values),
        ] {
            kernels::write_rows(buffer, rows, rewrite.kept)?;
        }
        let (rows, columns) = (context.shape.rows as u32, context.shape.columns as u32);
        self.slots = rewrite.carry_out(&self.slots, rows, columns);
        if let Some(tags) = &self.tags {
            tags.restore(&self.slots, context.shape.columns)?;
        }
        self.remember_queries(context, pass, tokens)
    }

    /// Drops all but the sink and the last `frames` latent frames.
    fn flush(&mut self, context: &Context<'_>, frames: usize) -> Result<()> {
        let (per_frame, total) = (context.per_frame(), self.slots.len());
        let Ends { first, last: frames } = context.policy.flush.unwrap_or(Ends {
            first: context.policy.sink,
            last: frames,
        });
        let sink = (first * per_frame).min(total);
        let tail = total.saturating_sub(frames * per_frame).max(sink);
        let Some(last) = self.slots.last().filter(|_| sink < tail) else {
            return Ok(());
        };
        let span = ChunkSpan {
            start: (last.frame + 1).saturating_sub(frames as u64),
            frames,
        };
        let plan = Plan {
            sink,
            candidates: sink..tail,
            select: 0,
            total,
        };
        let rows = kernels::Kept {
            stay: sink,
            chosen: None,
            tail,
            rows: total,
        };
        kernels::keep_chosen_rows(&[&self.raw, &self.rotated, &self.values], rows)?;
        let after = plan.carry_out(context.policy, &self.slots, &[], span, per_frame);
        self.slots = after.slots;
        if let Some(tags) = &self.tags {
            tags.restore(&self.slots, context.shape.columns)?;
        }
        self.rotate_moved(&after.before, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots of one token per frame, each at the position of its frame; a frame with a sign was chosen.
    fn slots(frames: &[i64]) -> Vec<Slot> {
        let slot = |frame: &i64| Slot {
            reuses: u32::from(*frame < 0),
            ..Slot::of_frame(frame.unsigned_abs(), 0, 0)
        };
        frames.iter().map(slot).collect()
    }

    fn planned(sink: usize, held: &[i64], rule: RecacheSink) -> (usize, Vec<u64>) {
        let policy = Policy {
            sink,
            ..Policy::last(12)
        };
        let rewrite = Rewrite::plan(&policy, &slots(held), 1, rule).unwrap();
        assert!(rewrite.places.iter().all(|place| place.position == place.frame as i64));
        (rewrite.kept, rewrite.places.iter().map(|place| place.frame).collect())
    }

    /// The table of docs/algorithms/longlive.md.
    #[test]
    fn the_sink_stays_once_frames_were_dropped() {
        let early: Vec<i64> = (0..9).collect();
        for rule in [RecacheSink::Keep, RecacheSink::Renew, RecacheSink::Encode] {
            assert_eq!(planned(3, &early, rule), (0, (0..9).collect()), "{rule}");
        }
        let late: Vec<i64> = (0..3).chain(15..24).collect();
        assert_eq!(planned(3, &late, RecacheSink::Keep), (3, (15..24).collect()));
        assert_eq!(planned(3, &late, RecacheSink::Renew), (0, (12..24).collect()));
        assert_eq!(
            planned(3, &late, RecacheSink::Encode),
            (0, (0..3).chain(15..24).collect())
        );
        assert_eq!(planned(0, &(12..24).collect::<Vec<_>>(), RecacheSink::Keep).0, 0);
    }

    #[test]
    fn chosen_tokens_are_dropped() {
        let held = [0, 1, 2, -5, -9, 20, 21, 22, 23];
        assert_eq!(planned(3, &held, RecacheSink::Keep), (3, vec![20, 21, 22, 23]));
        assert_eq!(
            planned(3, &held, RecacheSink::Encode),
            (0, vec![0, 1, 2, 20, 21, 22, 23])
        );
        assert_eq!(planned(3, &held, RecacheSink::Renew), (0, (17..24).collect()));
    }

    #[test]
    fn an_empty_cache_is_not_written_anew() {
        assert_eq!(Rewrite::plan(&Policy::last(12), &[], 1, RecacheSink::Keep), None);
    }
}
