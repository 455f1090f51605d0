//! What happens to the cached tokens when a chunk does not fit: integer arithmetic, without tensors.
//!
//! A [`Plan`] splits `[cached ++ incoming]` into sink, candidates and recent tokens; candidates are dropped, or all but
//! the best `select` of them are. [`reposition`] then gives the survivors their temporal positions
//! (docs/algorithms/deep_forcing.md sections 1 to 4).

use std::ops::Range;

use super::{
    knobs::{Overflow, Placement, Policy, Selection},
    rules::PolicyError,
};

/// One cached token: where it came from and where attention sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Latent frame in which it was made, counted from the start of the video; of a memory the last one taken in.
    pub frame: u64,
    pub row: u32,
    pub column: u32,
    /// Temporal position of its key's rotation.
    pub position: i64,
    /// Times that Participative Compression has chosen it.
    pub reuses: u32,
    pub made: Made,
}

/// Where the content of a token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Made {
    /// From its frame alone.
    #[default]
    Frame,
    /// From its frame alone, which stands in the place of another.
    Copy,
    /// An average of its frame and of frames that have left.
    Average,
    /// An average of frames that have left: memory frame of this number.
    Memory(u8),
}

impl Slot {
    /// A token of a frame, at the frame's own position.
    pub fn of_frame(frame: u64, row: u32, column: u32) -> Self {
        Self {
            frame,
            row,
            column,
            position: frame as i64,
            reuses: 0,
            made: Made::Frame,
        }
    }
}

/// How room is made for a chunk, in tokens of `[cached ++ incoming]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Tokens at the front that stay: the sink, and the memory behind it.
    pub sink: usize,
    /// Tokens that stay only if they are selected.
    pub candidates: Range<usize>,
    /// How many candidates are selected by score; 0: all are dropped, nothing is scored.
    pub select: usize,
    /// All tokens, the incoming chunk included; those after the candidates stay.
    pub total: usize,
}

impl Plan {
    /// The plan for `incoming` tokens when `cached` are there, at `per_frame` tokens per latent frame; `None` when they
    /// fit.
    ///
    /// # Errors
    /// [`PlanError::Full`] when policy `global` has no room.
    pub fn make(policy: &Policy, cached: usize, incoming: usize, per_frame: usize) -> Result<Option<Self>, PlanError> {
        let total = cached + incoming;
        let window = policy.window * per_frame;
        if total <= window {
            return Ok(None);
        }
        if policy.overflow == Overflow::Full {
            let capacity = policy.window;
            return Err(PlanError::Full { capacity });
        }
        let sink = (policy.front() * per_frame).min(cached);
        let (candidates, select) = match policy.selection {
            None => (sink..sink + (total - window), 0),
            Some(Selection { budget, recent, .. }) => {
                let recent = recent * per_frame;
                let left = (budget * per_frame).min(window).max(sink + recent).min(total);
                (sink..(total - recent).max(sink), left.saturating_sub(sink + recent))
            }
        };
        Ok(Some(Self {
            sink,
            candidates,
            select,
            total,
        }))
    }

    /// Indices that stay, ascending, given the candidates that were selected (ascending).
    pub fn kept(&self, selected: &[usize]) -> Vec<usize> {
        let mut kept: Vec<usize> = (0..self.sink).collect();
        kept.extend_from_slice(selected);
        kept.extend(self.candidates.end..self.total);
        kept
    }

    /// The slots after the event, from those of `[cached ++ incoming]`, given the candidates that were selected
    /// (ascending). Counts the choice of those and gives all their new positions.
    pub fn carry_out(
        &self,
        policy: &Policy,
        slots: &[Slot],
        selected: &[usize],
        chunk: ChunkSpan,
        per_frame: usize,
    ) -> Outcome {
        let mut after: Vec<Slot> = self.kept(selected).into_iter().map(|i| slots[i]).collect();
        for slot in &mut after[self.sink..self.sink + selected.len()] {
            slot.reuses += 1;
        }
        let before = after.iter().map(|slot| slot.position).collect();
        reposition(policy, &mut after, self.sink, selected.len(), chunk, per_frame);
        Outcome { slots: after, before }
    }
}

/// What a plan makes of the slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub slots: Vec<Slot>,
    /// Temporal position of each before the event.
    pub before: Vec<i64>,
}

impl Outcome {
    /// Notes that tokens have another content, so that what they were rotated at is of no use: `edited` of
    /// `[cached ++ incoming]`, of which `kept` stayed.
    pub fn note_edited(&mut self, kept: &[usize], edited: &[bool]) {
        for (before, index) in self.before.iter_mut().zip(kept) {
            if edited.get(*index).is_some_and(|edited| *edited) {
                *before = i64::MIN;
            }
        }
    }
}

/// Why no plan could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Policy `global` is full.
    #[error("the cache of policy `global` is full after {capacity} latent frames; choose a policy with a window")]
    Full { capacity: usize },
    /// Parameters that break a rule.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// The chunk for which room was made.
#[derive(Debug, Clone, Copy)]
pub struct ChunkSpan {
    /// First latent frame, counted from the start of the video.
    pub start: u64,
    /// Latent frames.
    pub frames: usize,
}

/// Gives the tokens that stayed their temporal positions.
///
/// `slots` are the survivors in order: `sink` tokens of the sink, `selected` selected ones, then the recent ones with the
/// incoming chunk, which keep theirs.
pub fn reposition(
    policy: &Policy,
    slots: &mut [Slot],
    sink: usize,
    selected: usize,
    chunk: ChunkSpan,
    per_frame: usize,
) {
    let sink_frames = (sink / per_frame.max(1)) as i64;
    let start = match policy.placement {
        Placement::Origin => return,
        Placement::Consecutive => {
            let Some(first_recent) = slots.get(sink + selected) else {
                return;
            };
            let first_selected = first_recent.position - selected.div_ceil(per_frame) as i64;
            place(&mut slots[sink..sink + selected], first_selected, per_frame);
            first_selected - sink_frames
        }
        Placement::Official { shift } => {
            let tail = (slots.len() - sink) / per_frame;
            chunk.start as i64 - tail as i64 - sink_frames + shift
        }
    };
    place(&mut slots[..sink], start, per_frame);
}

/// Gives tokens consecutive positions, `per_frame` of them each, from `start` on.
fn place(slots: &mut [Slot], start: i64, per_frame: usize) {
    for (i, slot) in slots.iter_mut().enumerate() {
        slot.position = start + (i / per_frame) as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::CacheSettings;

    /// Runs `chunks` chunks of three one-token frames, always selecting the first candidates.
    fn positions_after(policy: Policy, chunks: u64) -> Vec<i64> {
        let mut slots: Vec<Slot> = Vec::new();
        for chunk in 0..chunks {
            let start = chunk * 3;
            let plan = Plan::make(&policy, slots.len(), 3, 1).unwrap();
            slots.extend((start..start + 3).map(|frame| Slot::of_frame(frame, 0, 0)));
            if let Some(plan) = plan {
                let selected: Vec<_> = plan.candidates.clone().take(plan.select).collect();
                let span = ChunkSpan { start, frames: 3 };
                slots = plan.carry_out(&policy, &slots, &selected, span, 1).slots;
            }
        }
        slots.iter().map(|slot| slot.position).collect()
    }

    fn policy(name: &str, positions: &str) -> Policy {
        let settings = CacheSettings {
            policy: name.parse().unwrap(),
            positions: positions.parse().unwrap(),
            ..CacheSettings::default()
        };
        settings.resolve(3, 240).unwrap()
    }

    /// The worked example of docs/algorithms/deep_forcing.md section 4.
    #[test]
    fn deep_sink_moves_as_in_the_worked_example() {
        let official = positions_after(policy("deep-sink", "official"), 9);
        assert_eq!(official[..10], (3..13).collect::<Vec<i64>>());
        assert_eq!(official[10..], (16..27).collect::<Vec<i64>>());
        let paper = positions_after(policy("deep-sink", "paper"), 9);
        assert_eq!(paper, (6..27).collect::<Vec<i64>>());
    }

    #[test]
    fn deep_forcing_moves_as_in_the_worked_example() {
        let official = positions_after(policy("deep-forcing", "official"), 8);
        assert_eq!(official[..10], (5..15).collect::<Vec<i64>>());
        assert_eq!(official[10..], [10, 11, 20, 21, 22, 23]);
        assert_eq!(positions_after(policy("deep-forcing", "official"), 9).len(), 19);
        let paper = positions_after(policy("deep-forcing", "paper"), 10);
        assert_eq!(paper, (14..30).collect::<Vec<i64>>());
    }

    #[test]
    fn a_shift_moves_the_sink_alone() {
        let official = positions_after(policy("deep-sink", "official"), 9);
        let shifted = Policy {
            placement: Placement::Official { shift: -2 },
            ..policy("deep-sink", "official")
        };
        let shifted = positions_after(shifted, 9);
        assert_eq!(shifted[..10], (1..11).collect::<Vec<i64>>());
        assert_eq!(shifted[10..], official[10..]);
    }

    #[test]
    fn a_sink_without_rotation_stays_where_it_was() {
        let slots = positions_after(policy("sink", "official"), 12);
        assert_eq!(slots[..10], (0..10).collect::<Vec<i64>>());
        assert_eq!(slots[10..], (25..36).collect::<Vec<i64>>());
    }

    #[test]
    fn a_full_global_cache_is_an_error() {
        let policy = Policy::whole(6);
        assert_eq!(Plan::make(&policy, 3, 3, 1), Ok(None));
        assert_eq!(Plan::make(&policy, 6, 3, 1), Err(PlanError::Full { capacity: 6 }));
    }

    #[test]
    fn a_window_that_is_no_multiple_of_the_chunk_drops_what_overflows() {
        let policy = Policy::last(7);
        let plan = Plan::make(&policy, 6, 3, 1).unwrap().unwrap();
        assert_eq!(plan.candidates, 0..2);
        assert_eq!(plan.kept(&[]), [2, 3, 4, 5, 6, 7, 8]);
    }
}
