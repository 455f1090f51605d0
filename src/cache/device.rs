//! Events where the device selects by itself: no scores, choices or tokens pass through the host.
//!
//! The device has a slot's cell and how often it was chosen (its tags) and makes the choice; which slots there are after
//! the event is known to it alone until the host fetches the choices of all layers in one go. Meanwhile the host knows
//! how many there are and at which positions, for neither depends on the choice: sink and selected tokens get positions
//! by their place, recent ones keep theirs.
//!
//! The same code runs on the CPU by the kernels' twins, which is how it is tested.

use std::cell::RefCell;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::{
    CacheObserver, CacheShape, ChunkTokens, Event, KvCache, Pass,
    knobs::{Policy, Selection},
    plan::{Outcome, Plan, Slot},
    store::{Context, LayerCache},
};
use crate::{Error, Result, cache::rope::Rope, kernels};

/// Cell and number of choices of each slot, u32 `[capacity, 2]`.
pub struct DeviceTags {
    tags: Tensor,
    /// Tags of a chunk that was just made, `[tokens, 2]`; shared by the layers.
    fresh: Tensor,
}

impl DeviceTags {
    /// For every layer of a cache.
    pub(super) fn of_layers(shape: &CacheShape, capacity: usize, device: &Device) -> Result<Vec<Self>> {
        let cells = 0..shape.tokens_per_frame() as u32;
        let fresh: Vec<u32> = (0..shape.chunk)
            .flat_map(|_| cells.clone().flat_map(|cell| [cell, 0]))
            .collect();
        let fresh = Tensor::from_vec(fresh, (shape.chunk * shape.tokens_per_frame(), 2), device)?;
        let layer = |_| {
            Ok(Self {
                tags: Tensor::zeros((capacity, 2), DType::U32, device)?,
                fresh: fresh.clone(),
            })
        };
        (0..shape.layers).map(layer).collect()
    }

    /// Writes the tags of all valid slots anew; `columns`: tokens in a row of a frame.
    pub(super) fn restore(&self, slots: &[Slot], columns: usize) -> Result<()> {
        let tags = slots
            .iter()
            .flat_map(|slot| [slot.row * columns as u32 + slot.column, slot.reuses]);
        let tags = Tensor::from_vec(tags.collect::<Vec<u32>>(), (slots.len(), 2), self.tags.device())?;
        Ok(self.tags.slice_set(&tags, 0, 0)?)
    }

    /// Keeps the tags of the slots that stay.
    pub(super) fn keep(&self, kept: kernels::Kept<'_>) -> Result<()> {
        Ok(kernels::keep_chosen_rows(&[&self.tags], kept)?)
    }

    /// Tags of `tokens` new tokens from slot `at` on.
    pub(super) fn write(&self, at: usize, tokens: usize) -> Result<()> {
        Ok(self.tags.slice_set(&self.fresh.narrow(0, 0, tokens)?, 0, at)?)
    }
}

/// An event whose choice is still on the device.
pub(super) struct Pending {
    plan: Plan,
    /// Indices into `[cached ++ incoming]`, u32; `None` when nothing was to be chosen.
    chosen: Option<Tensor>,
    /// `[cached ++ incoming]` before the event.
    slots: Vec<Slot>,
    pass: Pass,
}

/// The angles of an event on the device, by the temporal positions they are for: the same in all layers.
#[derive(Default)]
pub(super) struct AngleTable(RefCell<Option<(Vec<i64>, Tensor)>>);

impl AngleTable {
    fn get(&self, times: Vec<i64>, rope: &Rope, shape: &CacheShape, device: &Device) -> Result<Tensor> {
        let mut known = self.0.borrow_mut();
        if let Some((of, table)) = &*known
            && *of == times
        {
            return Ok(table.clone());
        }
        let table = Tensor::new(rope.table(&times, shape.rows, shape.columns), device)?;
        *known = Some((times, table.clone()));
        Ok(table)
    }
}

impl KvCache {
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
}

impl LayerCache {
    /// As `make_room`, without waiting for the device unless somebody looks on.
    pub(super) fn make_room_on_device(
        &mut self,
        context: &Context<'_>,
        pass: Pass,
        tokens: &ChunkTokens<'_>,
        plan: Plan,
        edited: Vec<bool>,
        observer: Option<&mut dyn CacheObserver>,
    ) -> Result<()> {
        let scores = self.scores(context, pass, tokens, &plan)?;
        let chosen = match &scores {
            Some(scores) => self.choose(context, scores, &plan)?,
            None => None,
        };
        if let Some(tags) = &self.tags {
            let kept = kernels::Kept {
                stay: plan.sink,
                chosen: chosen.as_ref(),
                tail: plan.candidates.end,
                rows: plan.total,
            };
            kernels::keep_chosen_rows(&[&self.raw, &self.rotated, &self.values], kept)?;
            kernels::keep_chosen_rows(&[&tags.tags], kept)?;
        }
        let slots = std::mem::take(&mut self.slots);
        // Any candidates stand for the chosen ones until those are known.
        let count = chosen.as_ref().map_or(0, Tensor::elem_count);
        let stand_ins: Vec<usize> = plan.candidates.clone().take(count).collect();
        let mut after = plan.carry_out(context.policy, &slots, &stand_ins, pass.span(), context.per_frame());
        if count == 0 && (context.bases.is_some() || !edited.is_empty()) {
            // Nothing was chosen: the host knows all slots.
            after.note_edited(&plan.kept(&[]), &edited);
            self.slots.clone_from(&after.slots);
            self.rotate_moved(&after.before, context)?;
        } else {
            self.rotate_by_place(context, plan.sink, count, &after)?;
        }
        self.slots = after.slots;
        self.pending = Some(Pending {
            plan,
            chosen,
            slots,
            pass,
        });
        if let Some(observer) = observer {
            self.show(context, scores, observer)?;
        }
        Ok(())
    }

    /// The slots that the device chooses; as many as the plan wants or are eligible, which the host knows.
    fn choose(&self, context: &Context<'_>, scores: &Tensor, plan: &Plan) -> Result<Option<Tensor>> {
        let (Some(tags), Some(Selection { reuse_limit: limit, .. })) = (&self.tags, context.policy.selection) else {
            return Ok(None);
        };
        let candidates = &self.slots[plan.candidates.clone()];
        let eligible = candidates.iter().filter(|slot| limit == 0 || slot.reuses < limit);
        let count = plan.select.min(eligible.count());
        if count == 0 {
            return Ok(None);
        }
        let tags = tags.tags.narrow(0, plan.candidates.start, candidates.len())?;
        let chosen = kernels::choose_on_device(scores, &tags, count, limit, plan.candidates.start)?;
        Ok(Some(chosen))
    }

    /// Rotates sink and selected tokens whose positions are not what they were.
    fn rotate_by_place(&self, context: &Context<'_>, sink: usize, selected: usize, after: &Outcome) -> Result<()> {
        let sink_moved = (0..sink).any(|i| after.slots[i].position != after.before[i]);
        // Where the chosen tokens were is not known here.
        let by_place = context.policy.places_selected();
        for (moved, first, slots) in [(sink_moved, 0, sink), (by_place, sink, selected)] {
            let Some(tags) = self.tags.as_ref().filter(|_| moved && slots > 0) else {
                continue;
            };
            let per_frame = context.shape.tokens_per_frame();
            let times: Vec<i64> = (first..first + slots)
                .step_by(per_frame)
                .map(|i| after.slots[i].position)
                .collect();
            let run = kernels::SlotRun {
                first,
                slots,
                per_frame,
                frames: times.len(),
                rows: context.shape.rows,
                columns: context.shape.columns,
                pairs: context.rope.pairs(),
            };
            let angles = context
                .angles
                .get(times, context.rope, context.shape, self.raw.device())?;
            kernels::rotate_slots(&self.rotated, &self.raw, &tags.tags, &angles, run)?;
        }
        Ok(())
    }

    /// Shows the event to `observer`, for which its choice must be fetched now.
    fn show(&mut self, context: &Context<'_>, scores: Option<Tensor>, observer: &mut dyn CacheObserver) -> Result<()> {
        let Some((pass, plan)) = self.pending.as_ref().map(|p| (p.pass, p.plan.clone())) else {
            return Ok(());
        };
        let selected = match self.pending.as_ref().and_then(|p| p.chosen.as_ref()) {
            Some(chosen) => chosen.to_vec1::<u32>()?,
            None => Vec::new(),
        };
        self.settle(context.policy, context.shape, context.layer, &selected)?;
        let selected: Vec<usize> = selected.iter().map(|i| *i as usize).collect();
        let scores = scores.map(|scores| scores.to_vec1::<f32>()).transpose()?;
        observer.event(Event {
            layer: context.layer,
            pass,
            total: plan.total,
            plan: &plan,
            scores: scores.as_deref(),
            kept: &plan.kept(&selected),
            cache: self,
        });
        Ok(())
    }

    /// Choice of the event that is not settled yet.
    pub(super) fn unsettled(&self) -> Option<&Tensor> {
        self.pending.as_ref().and_then(|pending| pending.chosen.as_ref())
    }

    /// Brings the slots up to date after an event, given what the device chose; `layer` is for errors.
    pub(super) fn settle(&mut self, policy: &Policy, shape: &CacheShape, layer: usize, selected: &[u32]) -> Result<()> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let selected: Vec<usize> = selected.iter().map(|i| *i as usize).collect();
        let rises = selected.windows(2).all(|pair| pair[0] < pair[1]);
        if !rises || selected.iter().any(|i| !pending.plan.candidates.contains(i)) {
            return Err(Error::DeviceChoice { layer });
        }
        let (plan, slots, span) = (&pending.plan, &pending.slots, pending.pass.span());
        let after = plan.carry_out(policy, slots, &selected, span, shape.tokens_per_frame());
        self.slots = after.slots;
        Ok(())
    }
}
