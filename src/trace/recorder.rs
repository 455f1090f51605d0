//! Records a video's cache while it is made.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Every, FORMAT, TraceError, TraceOptions, attended,
    attention::chosen_heads,
    check_output,
    format::{Attention, Chunk, End, Header, Held, Line, RoomMade, Scores, Selected, Shape},
    line_file::LineFile,
    pack::{self, runs},
};
use crate::{
    Result,
    cache::{CacheObserver, Event, Interest, KvCache, Made, Pass, Sight, Slot},
    recipe::Recipe,
};

/// A trace in the making, beside its place as [`partial_of`](super::partial_of). Dropped without [`Tracing::finish`], the
/// file stays there as it is, whole lines and no last one.
pub struct Tracing(Arc<Mutex<Recorder>>);

impl Tracing {
    /// Begins the file and looks at `cache` from now on. `video`: the name of the video, unless it is a stream.
    ///
    /// # Errors
    /// When the file cannot be created or may not be replaced, or a layer or head does not exist.
    pub fn start(
        options: &TraceOptions,
        recipe: &Recipe,
        video: Option<&Path>,
        overwrite: bool,
        cache: &mut KvCache,
    ) -> Result<Self, TraceError> {
        let shape = shape(cache, recipe);
        let heads = chosen_heads(&options.attention, shape.layers, shape.heads)?;
        check_output(&options.path, overwrite)?;
        let header = Header {
            format: FORMAT,
            deepforcing: env!("CARGO_PKG_VERSION").into(),
            recipe: recipe.clone(),
            video: video.map(|path| path.to_string_lossy().into()),
            shape,
            attention_heads: (!options.attention.is_empty()).then(|| heads.clone()),
        };
        let mut file = LineFile::create(&options.path)?;
        file.push(&Line::Header(header.into()));
        file.flush();
        let recorder = Arc::new(Mutex::new(Recorder {
            file,
            shape,
            heads,
            every: options.every,
            chunk: None,
            chunks: 0,
            selected: vec![0; shape.layers],
        }));
        cache.set_observer(Some(Box::new(Recording(recorder.clone()))));
        Ok(Self(recorder))
    }

    /// Ends the file and gives it its name; `complete`: whether the video is.
    ///
    /// # Errors
    /// When the disk did not take all of it; whole lines of the first chunks stay beside its place.
    pub fn finish(self, complete: bool) -> Result<(), TraceError> {
        let mut recorder = lock(&self.0);
        let chunks = recorder.chunks;
        recorder.file.push(&Line::End(End { chunks, complete }));
        recorder.file.flush();
        recorder.file.finish()
    }
}

/// The recorder, as the cache knows it.
struct Recording(Arc<Mutex<Recorder>>);

impl CacheObserver for Recording {
    fn interest(&self) -> Interest {
        Interest {
            events: true,
            sights: true,
        }
    }

    fn event(&mut self, event: Event<'_>) {
        lock(&self.0).room_made(&event);
    }

    fn sight(&mut self, sight: Sight<'_>) -> Result<()> {
        lock(&self.0).see(&sight)
    }
}

fn lock(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shape(cache: &KvCache, recipe: &Recipe) -> Shape {
    let (shape, policy) = (cache.shape(), cache.policy());
    let capacity = shape.layers * (policy.window + shape.chunk) * shape.tokens_per_frame();
    Shape {
        layers: shape.layers,
        heads: shape.heads,
        head_dim: shape.head_dim,
        rows: shape.rows,
        columns: shape.columns,
        chunk: shape.chunk,
        policy: recipe.cache.policy,
        window: policy.window,
        sink: policy.sink,
        bytes_per_token: cache.bytes() / capacity.max(1),
        cache_bytes: cache.bytes(),
    }
}

/// Turns what the cache shows into lines.
struct Recorder {
    file: LineFile,
    shape: Shape,
    /// Heads of each layer whose attention is recorded.
    heads: Vec<Vec<usize>>,
    every: Every,
    /// The chunk in work.
    chunk: Option<InWork>,
    /// Chunks begun.
    chunks: u64,
    /// Selected tokens that each layer holds.
    selected: Vec<usize>,
}

/// A chunk whose first pass is under way.
struct InWork {
    number: u64,
    start: u64,
    event: bool,
    bytes: usize,
    layers: Vec<Held>,
}

impl Recorder {
    /// The chunk of `pass`, begun if it is a new one.
    fn in_work(&mut self, pass: Pass) -> &mut InWork {
        let chunk = self.chunk.take().filter(|chunk| chunk.start == pass.start);
        let chunk = chunk.unwrap_or_else(|| {
            self.chunks += 1;
            InWork {
                number: self.chunks - 1,
                start: pass.start,
                event: false,
                bytes: 0,
                layers: Vec::with_capacity(self.shape.layers),
            }
        });
        self.chunk.insert(chunk)
    }

    fn room_made(&mut self, event: &Event<'_>) {
        let chunk = self.in_work(event.pass);
        chunk.event = true;
        let number = chunk.number;
        let (plan, slots) = (event.plan, event.cache.slots());
        let kept = event.kept.get(plan.sink..).unwrap_or_default();
        let chosen: Vec<usize> = kept
            .iter()
            .filter(|slot| plan.candidates.contains(slot))
            .map(|slot| slot - plan.candidates.start)
            .collect();
        let selected = &slots[plan.sink..plan.sink + chosen.len()];
        self.selected[event.layer] = chosen.len();
        let slots_bits = match chosen.is_empty() {
            true => String::new(),
            false => pack::bits(chosen.iter().copied(), plan.candidates.len()),
        };
        self.file.push(&Line::Event(RoomMade {
            chunk: number,
            start: event.pass.start,
            layer: event.layer,
            total: event.total,
            sink: plan.sink,
            candidates: (plan.candidates.start, plan.candidates.end),
            select: plan.select,
            kept: slots.len(),
            bytes: slots.len() * self.shape.bytes_per_token,
            slots: slots_bits,
            selected: by_frame(selected, self.shape.columns),
            positions: runs(slots.iter().map(|slot| slot.position)),
            scores: event.scores.and_then(|scores| summary(scores, &chosen)),
        }));
    }

    /// A layer with the chunk in it; the last layer ends the chunk.
    fn see(&mut self, sight: &Sight<'_>) -> Result<()> {
        let (slots, layer) = (sight.cache.slots(), sight.layer);
        let per_frame = self.shape.tokens_per_frame();
        if slots.iter().all(|slot| slot.reuses == 0) {
            // A change of the prompt drops chosen tokens.
            self.selected[layer] = 0;
        }
        let held = held(
            slots,
            self.shape.sink * per_frame,
            self.selected[layer],
            sight.pass.frames * per_frame,
        );
        let bytes = slots.len() * self.shape.bytes_per_token;
        let chunk = self.in_work(sight.pass);
        chunk.layers.push(held);
        chunk.bytes += bytes;
        let (number, start, event) = (chunk.number, chunk.start, chunk.event);
        let heads = &self.heads[layer];
        if !heads.is_empty() && self.every.wants(number, event) {
            let runs = attended::frame_runs(slots);
            let shares = attended::attention_by_frame(sight.queries, sight.keys, &runs, heads)?;
            self.file.push(&Line::Attention(Attention {
                chunk: number,
                start,
                layer,
                heads: heads.clone(),
                frames: runs.into_iter().map(|(frame, tokens)| (frame, tokens as u64)).collect(),
                shares: shares
                    .iter()
                    .map(|of_head| of_head.iter().map(rounded).collect())
                    .collect(),
            }));
        }
        if layer + 1 == self.shape.layers
            && let Some(chunk) = self.chunk.take()
        {
            self.chunk_done(chunk, sight.pass.frames);
        }
        Ok(())
    }

    fn chunk_done(&mut self, chunk: InWork, frames: usize) {
        let mut layers = chunk.layers;
        if layers.windows(2).all(|pair| pair[0] == pair[1]) {
            layers.truncate(1);
        }
        self.file.push(&Line::Chunk(Chunk {
            chunk: chunk.number,
            start: chunk.start,
            frames,
            event: chunk.event,
            bytes: chunk.bytes,
            layers,
        }));
        self.file.flush();
        self.file.chunks += u64::from(self.file.failure.is_none());
    }
}

/// To a millionth, which is short in the file.
fn rounded(share: &f32) -> f64 {
    (f64::from(*share) * 1e6).round() / 1e6
}

/// Splits the slots of a layer into what they are there for.
fn held(slots: &[Slot], sink: usize, selected: usize, current: usize) -> Held {
    let (before, current) = slots.split_at(slots.len().saturating_sub(current));
    let (sink, rest) = before.split_at(sink.min(before.len()));
    let is_memory = |slot: &Slot| matches!(slot.made, Made::Memory(_));
    let (memory, rest) = rest.split_at(rest.partition_point(is_memory));
    let (selected, rest) = rest.split_at(selected.min(rest.len()));
    let frames = |slots: &[Slot]| runs(slots.iter().map(|slot| slot.frame));
    let made = |slots: &[Slot], made: Made, so: bool| {
        let those = slots.iter().filter(|slot| (slot.made == made) == so);
        runs(those.map(|slot| slot.frame))
    };
    Held {
        sink: made(sink, Made::Average, false),
        averaged: made(sink, Made::Average, true),
        memory: runs(memory.iter().map(|slot| slot.frame)),
        selected: frames(selected),
        copied: made(rest, Made::Copy, true),
        recent: made(rest, Made::Copy, false),
        current: frames(current),
    }
}

/// Selected tokens by origin frame.
fn by_frame(slots: &[Slot], columns: usize) -> Vec<Selected> {
    let of_frame = slots.chunk_by(|a, b| (a.frame, a.reuses) == (b.frame, b.reuses));
    let selected = of_frame.map(|slots| {
        let cell = |slot: &Slot| slot.row as usize * columns + slot.column as usize;
        let cells: Vec<usize> = slots.iter().map(cell).collect();
        Selected {
            frame: slots[0].frame,
            tokens: slots.len(),
            reuses: slots[0].reuses,
            cells: pack::gaps(&cells),
        }
    });
    selected.collect()
}

/// Sums up the scores of the candidates, of which `chosen` were selected.
fn summary(scores: &[f32], chosen: &[usize]) -> Option<Scores> {
    if chosen.is_empty() || !scores.iter().all(|score| score.is_finite()) {
        return None;
    }
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let (lowest, highest) = (*sorted.first()?, *sorted.last()?);
    let median = *sorted.get(sorted.len() / 2)?;
    let kept = || chosen.iter().filter_map(|candidate| scores.get(*candidate).copied());
    let (kept_lowest, kept_highest) = kept().fold((highest, lowest), |(low, high), score| {
        (low.min(score), high.max(score))
    });
    let weight = |score: f32| f64::from(score) - f64::from(lowest);
    let weights: f64 = scores.iter().map(|score| weight(*score)).sum();
    // Equal scores weigh nothing: none stands out.
    let (share, entropy) = match weights > 0.0 && scores.len() > 1 {
        true => {
            let entropy: f64 = scores
                .iter()
                .map(|score| weight(*score) / weights)
                .filter(|share| *share > 0.0)
                .map(|share| -share * share.ln())
                .sum();
            let share = kept().map(weight).sum::<f64>() / weights;
            (share, entropy / (scores.len() as f64).ln())
        }
        false => (chosen.len() as f64 / scores.len() as f64, 1.0),
    };
    Some(Scores {
        lowest: lowest.into(),
        median: median.into(),
        mean: scores.iter().map(|score| f64::from(*score)).sum::<f64>() / scores.len() as f64,
        highest: highest.into(),
        kept_lowest: kept_lowest.into(),
        kept_highest: kept_highest.into(),
        share,
        entropy,
        levels: pack::levels(kept(), kept_lowest, kept_highest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_summed_up() {
        let scores = summary(&[1.0, 5.0, 3.0, 1.0], &[1, 2]).unwrap();
        assert_eq!(
            (scores.lowest, scores.median, scores.mean, scores.highest),
            (1.0, 3.0, 2.5, 5.0)
        );
        assert_eq!((scores.kept_lowest, scores.kept_highest, scores.share), (3.0, 5.0, 1.0));
        // Weights 0, 4, 2, 0: shares 2/3 and 1/3.
        let entropy = -(2.0 / 3.0 * f64::ln(2.0 / 3.0) + 1.0 / 3.0 * f64::ln(1.0 / 3.0)) / f64::ln(4.0);
        assert!((scores.entropy - entropy).abs() < 1e-12);
        assert_eq!(pack::unpack_levels(&scores.levels), Ok(vec![255, 0]));

        let equal = summary(&[2.0; 4], &[0]).unwrap();
        assert_eq!((equal.share, equal.entropy), (0.25, 1.0));
        assert_eq!(summary(&[1.0, f32::NAN], &[0]), None);
        assert_eq!(summary(&[1.0, 2.0], &[]), None);
    }

    #[test]
    fn what_is_held_is_split_from_the_end() {
        let slots: Vec<Slot> = (0..6).map(|frame| Slot::of_frame(frame, 0, 0)).collect();
        let counts = |held: Held| [held.sink, held.selected, held.recent, held.current].map(|runs| runs.len());
        assert_eq!(
            counts(held(&slots[..3], 4, 0, 3)),
            [0, 0, 0, 3],
            "the chunk in work is not sink yet"
        );
        assert_eq!(counts(held(&slots, 2, 1, 2)), [2, 1, 1, 2]);
    }
}
