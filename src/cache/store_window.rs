//! The tensors of one layer under a rolling window; carries [`WindowPlan`]s out.

use std::{cell::RefCell, ops::Range};

use candle_core::{Device, Tensor};

use super::{
    CacheObserver, CacheShape, ChunkTokens, Event, Pass, Plan,
    rope::{Angles, Rope},
    store::{Context, LayerCache},
    window::{Purpose, View, WindowCall, WindowPlan},
};
use crate::{Result, kernels};

/// The angles of the sink where it was put last, by its first position and its frames: the same in all layers.
#[derive(Default)]
pub(super) struct SinkAngles(RefCell<Option<((i64, usize), Angles)>>);

impl SinkAngles {
    fn get(&self, of: (i64, usize), rope: &Rope, shape: &CacheShape, device: &Device) -> Result<Angles> {
        let mut last = self.0.borrow_mut();
        if let Some((known, angles)) = &*last
            && *known == of
        {
            return Ok(angles.clone());
        }
        let angles = rope.chunk_angles(of.0, of.1, shape.rows, shape.columns, device)?;
        *last = Some((of, angles.clone()));
        Ok(angles)
    }
}

impl LayerCache {
    /// Keeps the first block of a window's `tokens`, and returns the rotated keys and the values that the call attends
    /// to; `kept`: whether the block is new, and what the call is for.
    pub(super) fn write_window(
        &mut self,
        context: &Context<'_>,
        pass: Pass,
        kept: (bool, Purpose),
        tokens: &ChunkTokens<'_>,
        observer: Option<&mut dyn CacheObserver>,
    ) -> Result<(Tensor, Tensor)> {
        let (block, per_frame) = (context.shape.chunk, context.per_frame());
        let call = WindowCall {
            cached: self.slots.len(),
            block,
            frames: pass.frames,
            per_frame,
            is_new: kept.0,
            purpose: kept.1,
        };
        let plan = WindowPlan::make(context.policy, call);
        let before = self.slots.len();
        if plan.dropped > 0 {
            self.drop_behind(plan.sink, plan.dropped)?;
        }
        let first = |all: &Tensor| all.narrow(0, 0, block * per_frame);
        for (buffer, rows) in [
            (&self.raw, tokens.keys),
            (&self.rotated, tokens.rotated),
            (&self.values, tokens.values),
        ] {
            kernels::write_rows(buffer, &first(rows)?, plan.at)?;
        }
        self.describe(plan.at, context, pass.start, block)?;
        if let Some(observer) = observer.filter(|_| plan.dropped > 0) {
            let total = before + block * per_frame;
            let made = Plan {
                sink: plan.sink,
                candidates: plan.sink..plan.sink + plan.dropped,
                select: 0,
                total,
            };
            observer.event(Event {
                layer: context.layer,
                pass,
                total,
                plan: &made,
                scores: None,
                kept: &made.kept(&[]),
                cache: self,
            });
        }
        self.seen(context, pass, &plan.view, tokens)
    }

    /// Drops `count` tokens directly behind the sink.
    fn drop_behind(&mut self, sink: usize, count: usize) -> Result<()> {
        let kept = kernels::Kept {
            stay: sink,
            chosen: None,
            tail: sink + count,
            rows: self.slots.len(),
        };
        kernels::keep_chosen_rows(&[&self.raw, &self.rotated, &self.values], kept)?;
        if let Some(tags) = &self.tags {
            tags.keep(kept)?;
        }
        self.slots.drain(sink..sink + count);
        Ok(())
    }

    fn seen(
        &self,
        context: &Context<'_>,
        pass: Pass,
        view: &View,
        tokens: &ChunkTokens<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let part = |buffer: &Tensor, range: &Range<usize>| buffer.narrow(0, range.start, range.len());
        let (sink, history) = match view {
            View::Own => return Ok((tokens.rotated.clone(), tokens.values.clone())),
            View::Cached(range) => return Ok((part(&self.rotated, range)?, part(&self.values, range)?)),
            View::Window { sink, history } => (*sink, history),
        };
        let mut keys = Vec::with_capacity(3);
        let mut values = Vec::with_capacity(3);
        if sink > 0 {
            let frames = |tokens: usize| tokens / context.per_frame();
            let at = pass.position - (frames(history.len()) + frames(sink)) as i64;
            let device = self.raw.device();
            let angles = context
                .sink_angles
                .get((at, frames(sink)), context.rope, context.shape, device)?;
            let raw = self.raw.narrow(0, 0, sink)?;
            keys.push(kernels::rotate(&raw, &angles.cos, &angles.sin)?);
            values.push(self.values.narrow(0, 0, sink)?);
        }
        if !history.is_empty() {
            keys.push(part(&self.rotated, history)?);
            values.push(part(&self.values, history)?);
        }
        keys.push(tokens.rotated.clone());
        values.push(tokens.values.clone());
        Ok((Tensor::cat(&keys, 0)?, Tensor::cat(&values, 0)?))
    }
}
