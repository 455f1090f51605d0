//! What happens to the content of slots before some of them are dropped: frames are put aside, copied and averaged.
//!
//! [`Edit`]s are integer arithmetic without tensors, the same in all layers (docs/algorithms/policies.md sections 3 and
//! 4); [`LayerCache::edit`] carries them out on keys as they were made, and on values.

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::{
    knobs::{Merging, Policy, Pooling, Roll, Weight},
    plan::{ChunkSpan, Made, Plan, Slot},
    store::{Context, LayerCache},
};
use crate::{Result, kernels};

/// A change of slots' content, in tokens of `[cached ++ incoming]`; all ranges are whole latent frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Frames are put aside, the first of them with number `frame`.
    Store { from: Range<usize>, frame: u64 },
    /// A frame that was put aside takes the place of a frame; its positions stay.
    Copy { into: Range<usize>, frame: u64 },
    /// A frame takes in the mean of others.
    Merge {
        into: Range<usize>,
        from: Range<usize>,
        pooling: Pooling,
        /// Of what is taken in; `None`: it takes the whole place.
        weight: Option<Weight>,
        /// What the frame then is.
        made: Made,
    },
}

/// What edits depend on beside the policy.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// Slots of `[cached ++ incoming]`.
    pub slots: &'a [Slot],
    /// Numbers of the frames that were put aside.
    pub stored: &'a [u64],
    /// Number of the first frame of the video.
    pub origin: u64,
    pub chunk: ChunkSpan,
    pub per_frame: usize,
}

/// The edits that come before `plan`, in order.
pub fn edits(policy: &Policy, plan: &Plan, scene: Scene<'_>) -> Vec<Edit> {
    let mut edits = match &policy.merging {
        Some(merging) => merges(policy, merging, plan, scene),
        None => Vec::new(),
    };
    if let Some(roll) = policy.replay {
        edits.extend(copies(policy, roll, plan, scene));
    }
    edits
}

fn merges(policy: &Policy, merging: &Merging, plan: &Plan, scene: Scene<'_>) -> Vec<Edit> {
    let per_frame = scene.per_frame;
    let leaving = plan.candidates.clone();
    let frame = |start: usize, i: usize| start + i * per_frame..start + (i + 1) * per_frame;
    match merging {
        Merging::Sink { weight } => {
            let count = policy.sink.min(leaving.len() / per_frame.max(1));
            let merge = |i: usize| Edit::Merge {
                into: frame(0, i),
                from: frame(leaving.start, i),
                pooling: Pooling::Cell,
                weight: Some(Weight::Constant(*weight)),
                made: Made::Average,
            };
            (0..count).map(merge).collect()
        }
        Merging::Memory { pooling, weights } => {
            let first = policy.sink * per_frame;
            let exists = matches!(scene.slots.get(first), Some(slot) if matches!(slot.made, Made::Memory(_)));
            let merge = |(i, weight): (usize, &Weight)| Edit::Merge {
                into: frame(first, i),
                from: leaving.clone(),
                pooling: *pooling,
                weight: exists.then_some(*weight),
                made: Made::Memory(i as u8),
            };
            weights.iter().flatten().enumerate().map(merge).collect()
        }
    }
}

/// The frames that stand for those of the past: all but those of the last chunk.
fn copies(policy: &Policy, roll: Roll, plan: &Plan, scene: Scene<'_>) -> Vec<Edit> {
    let Scene { chunk, per_frame, .. } = scene;
    let period = policy.window.saturating_sub(chunk.frames);
    let mut edits = Vec::new();
    if scene.stored.is_empty() {
        edits.push(Edit::Store {
            from: 0..period * per_frame,
            frame: scene.origin,
        });
    }
    let past = chunk.start.saturating_sub(chunk.frames as u64) as i64;
    let starts = (plan.candidates.end..plan.total).step_by(per_frame.max(1));
    for start in starts {
        let Some(slot) = scene.slots.get(start).filter(|slot| slot.position < past) else {
            break;
        };
        let place = u64::try_from(slot.position - scene.origin as i64).unwrap_or(0);
        let frame = scene.origin + roll.frame(place, period as u64);
        if slot.frame != frame {
            edits.push(Edit::Copy {
                into: start..start + per_frame,
                frame,
            });
        }
    }
    edits
}

impl Roll {
    /// Which of the first `period` frames stands at `place`, both counted from the start of the video.
    pub fn frame(self, place: u64, period: u64) -> u64 {
        let period = period.max(1);
        let (round, rest) = (place / period, place % period);
        match self {
            Self::ToAndFro if round % 2 == 1 => period - 1 - rest,
            _ => rest,
        }
    }
}

impl Edit {
    /// The tokens whose content is another afterwards.
    pub fn changed(&self) -> Range<usize> {
        match self {
            Self::Store { .. } => 0..0,
            Self::Copy { into, .. } | Self::Merge { into, .. } => into.clone(),
        }
    }

    /// Notes in `slots` what their content then is.
    pub(super) fn note(&self, slots: &mut [Slot]) {
        match self {
            Self::Store { .. } => {}
            Self::Copy { into, frame } => {
                for slot in &mut slots[into.clone()] {
                    (slot.frame, slot.made) = (*frame, Made::Copy);
                }
            }
            Self::Merge {
                into,
                from,
                made: made @ Made::Memory(_),
                ..
            } => {
                let newest = slots[from.end - 1].frame;
                for slot in &mut slots[into.clone()] {
                    (slot.frame, slot.made, slot.reuses) = (newest, *made, 0);
                }
            }
            Self::Merge { into, made, .. } => {
                for slot in &mut slots[into.clone()] {
                    slot.made = *made;
                }
            }
        }
    }
}

/// Frames that are held outside the window: keys as they were made, and values.
pub struct Shelf {
    /// `[frames·per_frame, heads, head_dim]`, both.
    pub(super) raw: Tensor,
    pub(super) values: Tensor,
    /// Numbers of the frames in their places, in the order in which they came.
    pub(super) frames: Vec<u64>,
    per_frame: usize,
}

impl Shelf {
    /// Room for `frames` frames, of tensors like `like`.
    pub(super) fn new(frames: usize, per_frame: usize, like: &Tensor) -> Result<Self> {
        let (_, heads, head_dim) = like.dims3()?;
        let buffer = || Tensor::zeros((frames * per_frame, heads, head_dim), like.dtype(), like.device());
        Ok(Self {
            raw: buffer()?,
            values: buffer()?,
            frames: Vec::with_capacity(frames),
            per_frame,
        })
    }

    fn room(&self) -> usize {
        self.raw.dims().first().map_or(0, |rows| rows / self.per_frame.max(1))
    }

    /// Puts frames aside, the first with number `frame`: keys as made and values, `[tokens, heads, head_dim]` both. A frame
    /// that is there already is replaced; where there is no room, the oldest leaves.
    pub(super) fn put(&mut self, frame: u64, raw: &Tensor, values: &Tensor) -> Result<()> {
        let count = raw.dim(0)? / self.per_frame.max(1);
        for (i, frame) in (0..count).zip(frame..) {
            let oldest = || (0..self.frames.len()).min_by_key(|place| self.frames[*place]);
            let known = self.frames.iter().position(|known| *known == frame);
            let place = match known {
                Some(place) => place,
                None if self.frames.len() < self.room() => {
                    self.frames.push(frame);
                    self.frames.len() - 1
                }
                None => match oldest() {
                    Some(place) => place,
                    None => return Ok(()),
                },
            };
            self.frames[place] = frame;
            let rows = |tensor: &Tensor| tensor.narrow(0, i * self.per_frame, self.per_frame);
            kernels::write_rows(&self.raw, &rows(raw)?, place * self.per_frame)?;
            kernels::write_rows(&self.values, &rows(values)?, place * self.per_frame)?;
        }
        Ok(())
    }

    /// Keys as made and values of a frame, `[per_frame, heads, head_dim]`; `None` when it is not there.
    pub(super) fn get(&self, frame: u64) -> Result<Option<(Tensor, Tensor)>> {
        let Some(place) = self.frames.iter().position(|known| *known == frame) else {
            return Ok(None);
        };
        let rows = |tensor: &Tensor| tensor.narrow(0, place * self.per_frame, self.per_frame);
        Ok(Some((rows(&self.raw)?, rows(&self.values)?)))
    }

    /// Bytes of its buffers.
    pub(super) fn bytes(&self) -> usize {
        2 * self.raw.elem_count() * self.raw.dtype().size_in_bytes()
    }
}

/// Least number that a largest change is divided by.
const EPSILON: f64 = 1e-8;

impl LayerCache {
    /// Carries out the edits that come before `plan`; `[cached ++ incoming]` is in the buffers. Returns which tokens have
    /// another content now; empty where none has.
    pub(super) fn edit(&mut self, context: &Context<'_>, plan: &Plan, chunk: ChunkSpan) -> Result<Vec<bool>> {
        let policy = context.policy;
        if policy.merging.is_none() && policy.replay.is_none() {
            return Ok(Vec::new());
        }
        let scene = Scene {
            slots: &self.slots,
            stored: self
                .shelf
                .as_ref()
                .map(|shelf| shelf.frames.as_slice())
                .unwrap_or_default(),
            origin: context.origin,
            chunk,
            per_frame: context.per_frame(),
        };
        let edits = edits(policy, plan, scene);
        let mut changed = vec![false; self.slots.len()];
        for edit in &edits {
            self.carry_out_edit(edit, context.per_frame())?;
            edit.note(&mut self.slots);
            changed[edit.changed()].fill(true);
        }
        Ok(changed)
    }

    fn carry_out_edit(&mut self, edit: &Edit, per_frame: usize) -> Result<()> {
        match edit {
            Edit::Store { from, frame } => {
                let rows = |buffer: &Tensor| buffer.narrow(0, from.start, from.len());
                let (raw, values) = (rows(&self.raw)?, rows(&self.values)?);
                match &mut self.shelf {
                    Some(shelf) => shelf.put(*frame, &raw, &values),
                    None => Ok(()),
                }
            }
            Edit::Copy { into, frame } => {
                let (raw, values) = self.shelved(*frame)?;
                kernels::write_rows(&self.raw, &raw, into.start)?;
                Ok(kernels::write_rows(&self.values, &values, into.start)?)
            }
            Edit::Merge {
                into,
                from,
                pooling,
                weight,
                ..
            } => self.merge(into.clone(), from.clone(), *pooling, *weight, per_frame),
        }
    }

    /// Keys as made and values of a frame that was put aside.
    ///
    /// # Errors
    /// When it was not.
    pub(super) fn shelved(&self, frame: u64) -> Result<(Tensor, Tensor)> {
        let found = match &self.shelf {
            Some(shelf) => shelf.get(frame)?,
            None => None,
        };
        found.ok_or(crate::Error::NotPutAside { frame })
    }

    /// `into` takes in the mean of `from`, in f32.
    fn merge(
        &mut self,
        into: Range<usize>,
        from: Range<usize>,
        pooling: Pooling,
        weight: Option<Weight>,
        per_frame: usize,
    ) -> Result<()> {
        let wide = |buffer: &Tensor, of: &Range<usize>| -> Result<Tensor> {
            Ok(buffer.narrow(0, of.start, of.len())?.to_dtype(DType::F32)?)
        };
        let (_, heads, dim) = self.raw.dims3()?;
        let mean = |buffer: &Tensor| -> Result<Tensor> {
            let rows = wide(buffer, &from)?;
            let mean = match pooling {
                Pooling::All => rows.mean_keepdim(0)?.broadcast_as((per_frame, heads, dim))?,
                Pooling::Cell => rows.reshape((from.len() / per_frame, per_frame, heads, dim))?.mean(0)?,
            };
            Ok(mean.contiguous()?)
        };
        let keys = mean(&self.raw)?;
        let weights = match weight {
            None => None,
            Some(Weight::Constant(share)) => Some(Tensor::full(share.get() as f32, (1, 1, 1), keys.device())?),
            Some(Weight::ByChange(share)) => Some(change(&keys, &wide(&self.raw, &into)?, share.get())?),
        };
        for (buffer, mean) in [(&self.raw, keys), (&self.values, mean(&self.values)?)] {
            let merged = match &weights {
                None => mean,
                Some(weights) => {
                    let old = wide(buffer, &into)?.broadcast_mul(&(1.0 - weights)?)?;
                    (old + mean.broadcast_mul(weights)?)?
                }
            };
            kernels::write_rows(buffer, &merged.to_dtype(buffer.dtype())?, into.start)?;
        }
        Ok(())
    }
}

/// Weight of each cell, `[cells, 1, 1]`: the more its key changes from `old` to `new`, `[cells, heads, head_dim]` both, the
/// higher.
fn change(new: &Tensor, old: &Tensor, share: f64) -> Result<Tensor> {
    let distance = (new - old)?.sqr()?.sum(2)?.sqrt()?.mean(1)?;
    let largest = (distance.max(0)? + EPSILON)?;
    let relative = distance.broadcast_div(&largest)?;
    let (least, most) = (0.1 * share, 5.0 * share);
    let cells = relative.dim(0)?;
    Ok(relative.affine(most - least, least)?.reshape((cells, 1, 1))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frames_are_played_to_and_fro() {
        let frames: Vec<u64> = (0..10).map(|place| Roll::ToAndFro.frame(place, 3)).collect();
        assert_eq!(frames, [0, 1, 2, 2, 1, 0, 0, 1, 2, 2]);
        let frames: Vec<u64> = (0..7).map(|place| Roll::Forward.frame(place, 3)).collect();
        assert_eq!(frames, [0, 1, 2, 0, 1, 2, 0]);
    }

    fn slots(frames: Range<u64>) -> Vec<Slot> {
        frames.map(|frame| Slot::of_frame(frame, 0, 0)).collect()
    }

    /// The worked example of docs/algorithms/policies.md section 4: 18 frames to and fro.
    #[test]
    fn copies_are_those_of_the_worked_example() {
        let policy = Policy {
            replay: Some(Roll::ToAndFro),
            ..Policy::last(21)
        };
        let of = |slots: &[Slot], start: u64, stored: &[u64]| {
            let plan = Plan::make(&policy, 21, 3, 1).unwrap().unwrap();
            let chunk = ChunkSpan { start, frames: 3 };
            let scene = Scene {
                slots,
                stored,
                origin: 0,
                chunk,
                per_frame: 1,
            };
            edits(&policy, &plan, scene)
        };
        assert_eq!(of(&slots(0..24), 21, &[]), [Edit::Store { from: 0..18, frame: 0 }]);
        let copied: Vec<_> = [(15, 17), (16, 16), (17, 15)]
            .map(|(at, frame)| Edit::Copy {
                into: at..at + 1,
                frame,
            })
            .into();
        assert_eq!(of(&slots(3..27), 24, &[0]), copied);
    }

    #[test]
    fn a_memory_begins_with_the_mean_and_then_moves() {
        let share = super::super::share::Share::thousandths(100);
        let mut weights = [None; super::super::knobs::MEMORIES];
        weights[0] = Some(Weight::Constant(share));
        weights[1] = Some(Weight::Constant(share));
        let policy = Policy {
            sink: 3,
            merging: Some(Merging::Memory {
                pooling: Pooling::All,
                weights,
            }),
            ..Policy::last(12)
        };
        let plan = Plan::make(&policy, 12, 3, 1).unwrap().unwrap();
        assert_eq!((plan.sink, plan.candidates.clone()), (5, 5..8));
        let mut held = slots(0..15);
        let of = |slots: &[Slot]| {
            let chunk = ChunkSpan { start: 12, frames: 3 };
            let scene = Scene {
                slots,
                stored: &[],
                origin: 0,
                chunk,
                per_frame: 1,
            };
            edits(&policy, &plan, scene)
        };
        let first = of(&held);
        assert!(
            first
                .iter()
                .all(|edit| matches!(edit, Edit::Merge { weight: None, .. }))
        );
        first.iter().for_each(|edit| edit.note(&mut held));
        assert_eq!((held[3].made, held[4].made), (Made::Memory(0), Made::Memory(1)));
        assert_eq!(held[3].frame, 7);
        let later = of(&held);
        assert!(
            later
                .iter()
                .all(|edit| matches!(edit, Edit::Merge { weight: Some(_), .. }))
        );
    }

    #[test]
    fn a_shelf_replaces_the_oldest() {
        let like = Tensor::zeros((1, 1, 2), DType::F32, &candle_core::Device::Cpu).unwrap();
        let mut shelf = Shelf::new(2, 1, &like).unwrap();
        let row = |value: f32| Tensor::full(value, (1, 1, 2), &candle_core::Device::Cpu).unwrap();
        for frame in [4u64, 5, 6, 5] {
            shelf.put(frame, &row(frame as f32), &row(-(frame as f32))).unwrap();
        }
        assert_eq!(shelf.frames, [6, 5]);
        assert!(shelf.get(4).unwrap().is_none());
        let (raw, values) = shelf.get(6).unwrap().unwrap();
        assert_eq!(raw.max_all().unwrap().to_scalar::<f32>().unwrap(), 6.0);
        assert_eq!(values.max_all().unwrap().to_scalar::<f32>().unwrap(), -6.0);
    }
}
