//! The tensors of one layer's cache; carries plans out.
//!
//! On the CPU a layer scores, chooses and moves its tokens one after the other. On a GPU scores, choice and moves stay on
//! the device ([`super::device`]), and the list of slots is brought up to date once for all layers
//! ([`LayerCache::settle`]).

use std::cell::RefCell;

use candle_core::{DType, Device, Tensor};

use super::{
    CacheObserver, CacheShape, ChunkTokens, Event, Pass, Write,
    bases::HeadBases,
    cut::Cut,
    device::{DeviceTags, Pending},
    edit::Shelf,
    heads::ChosenPatches,
    knobs::{Policy, Selection},
    plan::{Plan, Slot},
    policy::Scorer,
    rope::{Angles, Rope, TokenPosition},
    score::{self, QuerySums},
};
use crate::{Result, kernels};

/// What a layer needs to know beside its own tensors.
pub(super) struct Context<'a> {
    pub policy: &'a Policy,
    pub shape: &'a CacheShape,
    pub rope: &'a Rope,
    /// Table of the last event's angles, the same for all layers.
    pub angles: &'a super::device::AngleTable,
    /// Angles of a rolling window's sink, the same for all layers.
    pub sink_angles: &'a super::store_window::SinkAngles,
    /// Angles of tokens that were rotated anew, the same for all layers.
    pub moved: &'a MovedAngles,
    /// Where heads have temporal bases of their own.
    pub bases: Option<&'a HeadBases>,
    /// Number of the first latent frame of the video.
    pub origin: u64,
    pub cut: Cut,
    pub seed: u64,
    pub layer: usize,
}

/// Runs of tokens that are rotated anew in an event.
const RUNS: usize = 4;

/// Angles of the runs of tokens that were rotated anew last: the same in all layers.
#[derive(Default)]
pub(super) struct MovedAngles(RefCell<Vec<(Vec<TokenPosition>, Angles)>>);

impl Context<'_> {
    pub(super) fn per_frame(&self) -> usize {
        self.shape.tokens_per_frame()
    }

    /// Keys as they were made, `[tokens, heads, head_dim]`, rotated at the positions of their slots.
    pub(super) fn rotate(&self, raw: &Tensor, slots: &[Slot]) -> Result<Tensor> {
        let angles = self.angles(slots.iter().map(TokenPosition::from).collect(), raw.device())?;
        Ok(kernels::rotate(raw, &angles.cos, &angles.sin)?)
    }

    fn angles(&self, positions: Vec<TokenPosition>, device: &Device) -> Result<Angles> {
        if let Some(bases) = self.bases {
            return bases.angles(self.rope, self.layer, positions.into_iter(), device);
        }
        let mut runs = self.moved.0.borrow_mut();
        if let Some((_, angles)) = runs.iter().find(|(known, _)| *known == positions) {
            return Ok(angles.clone());
        }
        let angles = self.rope.angles(positions.iter().copied(), device)?;
        runs.truncate(RUNS - 1);
        runs.insert(0, (positions, angles.clone()));
        Ok(angles)
    }
}

/// Keys and values of one layer. Buffers have a fixed capacity; the first [`LayerCache::slots`] rows are valid.
pub struct LayerCache {
    /// Keys as made, `[capacity, heads, head_dim]`: every re-positioning starts from these, so nothing accumulates.
    pub(super) raw: Tensor,
    /// The same keys rotated at their slot's position, so that unchanged ones are not rotated again in every pass.
    pub(super) rotated: Tensor,
    pub(super) values: Tensor,
    pub(super) slots: Vec<Slot>,
    pub(super) queries: QuerySums,
    /// What the device knows of the slots; only where it selects by itself.
    pub(super) tags: Option<DeviceTags>,
    /// The event whose choice has not been fetched yet.
    pub(super) pending: Option<Pending>,
    /// Frames that are held outside the window.
    pub(super) shelf: Option<Shelf>,
    /// Tokens that some heads see beside the window.
    pub(super) patches: Option<ChosenPatches>,
}

impl LayerCache {
    /// `tags` where the device selects by itself.
    pub(super) fn new(
        capacity: usize,
        heads: usize,
        head_dim: usize,
        dtype: DType,
        device: &Device,
        tags: Option<DeviceTags>,
    ) -> Result<Self> {
        let buffer = || Tensor::zeros((capacity, heads, head_dim), dtype, device);
        Ok(Self {
            raw: buffer()?,
            rotated: buffer()?,
            values: buffer()?,
            slots: Vec::with_capacity(capacity),
            queries: QuerySums::default(),
            tags,
            pending: None,
            shelf: None,
            patches: None,
        })
    }

    /// The valid tokens, in order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Rotated keys and values of the valid tokens, `[tokens, heads, head_dim]`; views, not copies.
    ///
    /// # Errors
    /// On a device failure.
    pub fn view(&self) -> Result<(Tensor, Tensor)> {
        let tokens = self.slots.len();
        Ok((self.rotated.narrow(0, 0, tokens)?, self.values.narrow(0, 0, tokens)?))
    }

    /// Keys of the valid tokens as they were made, un-rotated, `[tokens, heads, head_dim]`; a view, not a copy.
    ///
    /// # Errors
    /// On a device failure.
    pub fn raw_keys(&self) -> Result<Tensor> {
        Ok(self.raw.narrow(0, 0, self.slots.len())?)
    }

    /// Bytes of its buffers, valid tokens or not.
    pub fn bytes(&self) -> usize {
        let shelf = self.shelf.as_ref().map_or(0, Shelf::bytes);
        let patches = self.patches.as_ref().map_or(0, ChosenPatches::bytes);
        3 * self.raw.elem_count() * self.raw.dtype().size_in_bytes() + shelf + patches
    }

    /// Appends the chunk after making room, or overwrites it when it is there already.
    pub(super) fn write(
        &mut self,
        context: &Context<'_>,
        pass: Pass,
        tokens: &ChunkTokens<'_>,
        observer: Option<&mut dyn CacheObserver>,
    ) -> Result<()> {
        match pass.write {
            Write::Rewrite { sink } => return self.rewrite(context, pass, sink, tokens),
            Write::Context { keep, .. } => return self.write_context(context, pass, keep, tokens),
            _ => {}
        }
        let incoming = pass.frames * context.shape.tokens_per_frame();
        if !pass.is_first() {
            let at = self.slots.len().saturating_sub(incoming);
            self.write_tokens(at, context, pass, tokens)?;
            return self.remember_queries(context, pass, tokens);
        }
        let cached = self.slots.len();
        let plan = Plan::make(context.policy, cached, incoming, context.shape.tokens_per_frame())?;
        self.write_tokens(cached, context, pass, tokens)?;
        match plan {
            Some(plan) => {
                let edited = self.edit(context, &plan, pass.span())?;
                if self.tags.is_some() {
                    self.make_room_on_device(context, pass, tokens, plan, edited, observer)?;
                } else {
                    self.make_room(context, pass, tokens, (&plan, &edited), observer)?;
                }
            }
            None => self.remember_queries(context, pass, tokens)?,
        }
        match context.cut {
            Cut::Held { .. } => self.move_past(context, incoming, -1),
            _ => Ok(()),
        }
    }

    /// Writes the chunk's tokens from slot `at` on; slots that are there are replaced.
    pub(super) fn write_tokens(
        &mut self,
        at: usize,
        context: &Context<'_>,
        pass: Pass,
        tokens: &ChunkTokens<'_>,
    ) -> Result<()> {
        kernels::write_rows(&self.raw, tokens.keys, at)?;
        kernels::write_rows(&self.rotated, tokens.rotated, at)?;
        kernels::write_rows(&self.values, tokens.values, at)?;
        self.describe(at, context, pass.start, pass.frames)
    }

    /// Notes which tokens are from slot `at` on: all of `frames` latent frames.
    pub(super) fn describe(&mut self, at: usize, context: &Context<'_>, start: u64, frames: usize) -> Result<()> {
        if let Some(tags) = &self.tags {
            tags.write(at, frames * context.shape.tokens_per_frame())?;
        }
        self.slots.truncate(at);
        let (rows, columns) = (context.shape.rows as u32, context.shape.columns as u32);
        for frame in start..start + frames as u64 {
            for row in 0..rows {
                self.slots
                    .extend((0..columns).map(|column| Slot::of_frame(frame, row, column)));
            }
        }
        Ok(())
    }

    /// Carries out a plan over `[cached ++ incoming]`, which is already in the buffers and of which tokens may have been
    /// `edited`.
    fn make_room(
        &mut self,
        context: &Context<'_>,
        pass: Pass,
        tokens: &ChunkTokens<'_>,
        (plan, edited): (&Plan, &[bool]),
        observer: Option<&mut dyn CacheObserver>,
    ) -> Result<()> {
        let scores = match self.scores(context, pass, tokens, plan)? {
            Some(scores) => Some(scores.to_vec1::<f32>()?),
            None => None,
        };
        let selected = match (&scores, context.policy.selection) {
            (Some(scores), Some(Selection { reuse_limit, .. })) => {
                let candidates = &self.slots[plan.candidates.clone()];
                score::choose(scores, candidates, plan.candidates.start, plan.select, reuse_limit)
            }
            _ => Vec::new(),
        };
        let kept = plan.kept(&selected);
        for buffer in [&self.raw, &self.rotated, &self.values] {
            kernels::keep_rows(buffer, &kept)?;
        }
        let mut after = plan.carry_out(context.policy, &self.slots, &selected, pass.span(), context.per_frame());
        after.note_edited(&kept, edited);
        self.slots = after.slots;
        self.rotate_moved(&after.before, context)?;
        if let Some(observer) = observer {
            observer.event(Event {
                layer: context.layer,
                pass,
                total: plan.total,
                plan,
                scores: scores.as_deref(),
                kept: &kept,
                cache: self,
            });
        }
        Ok(())
    }

    /// Scores of the plan's candidates, when the policy selects by score; remembers the pass's queries on the way.
    pub(super) fn scores(
        &mut self,
        context: &Context<'_>,
        pass: Pass,
        tokens: &ChunkTokens<'_>,
        plan: &Plan,
    ) -> Result<Option<Tensor>> {
        let Some(Selection { scorer, recent, .. }) = context.policy.selection else {
            return Ok(None);
        };
        let current = QuerySums::of_pass(tokens.queries, pass.frames)?;
        let queries = match scorer {
            Scorer::Past => self.queries.total()?,
            Scorer::Denoising => score::sum(current.iter())?,
            Scorer::Both | Scorer::Random => None,
        };
        self.queries.push(current, recent);
        let queries = match scorer {
            Scorer::Both => self.queries.total()?,
            _ => queries,
        };
        let count = plan.candidates.len();
        if scorer == Scorer::Random {
            let scores = score::random_scores(count, context.seed, context.layer, pass.start);
            return Ok(Some(Tensor::new(scores, self.raw.device())?));
        }
        let keys = self.rotated.narrow(0, plan.candidates.start, count)?;
        match queries {
            Some(queries) if count > 0 => Ok(Some(score::scores(&keys, &queries)?)),
            _ => Ok(Some(Tensor::zeros(count, DType::F32, self.raw.device())?)),
        }
    }

    pub(super) fn remember_queries(
        &mut self,
        context: &Context<'_>,
        pass: Pass,
        tokens: &ChunkTokens<'_>,
    ) -> Result<()> {
        if let Some(Selection { recent, .. }) = context.policy.selection {
            let sums = QuerySums::of_pass(tokens.queries, pass.frames)?;
            self.queries.push(sums, recent);
        }
        Ok(())
    }

    /// Rotates the keys anew whose position is not the one they had.
    pub(super) fn rotate_moved(&mut self, before: &[i64], context: &Context<'_>) -> Result<()> {
        let mut at = 0;
        while at < self.slots.len() {
            let moved = |i: usize| self.slots[i].position != before[i];
            if !moved(at) {
                at += 1;
                continue;
            }
            let end = (at..self.slots.len()).find(|i| !moved(*i)).unwrap_or(self.slots.len());
            let raw = self.raw.narrow(0, at, end - at)?;
            let rotated = context.rotate(&raw, &self.slots[at..end])?;
            kernels::write_rows(&self.rotated, &rotated, at)?;
            at = end;
        }
        Ok(())
    }
}

impl From<&Slot> for TokenPosition {
    fn from(slot: &Slot) -> Self {
        Self {
            time: slot.position,
            row: slot.row,
            column: slot.column,
        }
    }
}
