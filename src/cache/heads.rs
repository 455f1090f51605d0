//! Heads that see different parts of the window (docs/algorithms/policies.md sections 7 and 8).
//!
//! All layers hold the same frames; a head's class says which of them it attends to. Classes are found while a video is
//! made, or come from a profile. Without classes all heads see all, and nothing of this is done.

use std::ops::Range;

use candle_core::{D, DType, Tensor};

use super::{
    ChunkTokens, KvCache, LayerCache, Pass, Write,
    knobs::{Changed, Classing, HeadView, Heads},
    plan::Slot,
};
use crate::{Error, Result};

/// Least sum that shares are divided by.
const TINY: f64 = 1e-30;
/// Least product of norms that a similarity is divided by.
const EPSILON: f64 = 1e-8;

/// Number of a view in [`Heads::views`].
pub type Class = usize;

/// Share of attention of a head on the first keys, on those between them and the chunk, and on the chunk.
pub type Shares = [f64; 3];

/// Heads of a layer that attend to the same keys.
pub struct HeadGroup {
    /// Their numbers.
    pub heads: Vec<u32>,
    /// Rotated keys, `[tokens, heads of the group, head_dim]`.
    pub keys: Tensor,
    pub values: Tensor,
}

/// What a cache knows of its heads beside the policy.
#[derive(Default)]
pub(super) struct HeadState {
    /// By layer and head; `None` while heads are alike.
    pub(super) classes: Option<Vec<Vec<Class>>>,
    /// Of the layers so far, in the pass in which classes are found.
    shares: Vec<Vec<Shares>>,
    /// What was found, layer by layer.
    found: Vec<Vec<Shares>>,
    /// Query rows to look at in place of evenly spaced ones, layer by layer.
    rows: Option<Vec<Vec<u32>>>,
}

/// Patches of the frames that leave the recent ones.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchChoice {
    /// How alike each patch is to the same one of the next frame, frame by frame.
    pub scores: Vec<f32>,
    /// The patches that differ most, ascending.
    pub kept: Vec<usize>,
}

/// Tokens that some heads see beside the window: rotated keys and values.
pub struct ChosenPatches {
    rotated: Tensor,
    values: Tensor,
    pub slots: Vec<Slot>,
}

impl ChosenPatches {
    pub(super) fn bytes(&self) -> usize {
        2 * self.rotated.elem_count() * self.rotated.dtype().size_in_bytes()
    }
}

impl Heads {
    /// The classes that a profile gives, by layer and head; `None` where they are found.
    ///
    /// # Errors
    /// When the profile is of another model.
    pub(super) fn of_profile(&self, layers: usize, heads: usize) -> Result<Option<Vec<Vec<Class>>>> {
        let Classing::Profile(profile) = &self.classing else {
            return Ok(None);
        };
        profile.check(layers, heads)?;
        let class = |layer: usize, head: usize| usize::from(!profile.is_static(layer, head));
        let of_layer = |layer: usize| (0..heads).map(|head| class(layer, head)).collect();
        Ok(Some((0..layers).map(of_layer).collect()))
    }
}

/// Classes from shares of attention: `dummies` heads that look least at what is before the chunk; of the others those that
/// look more at the first keys, measured against all heads, and those that look more at the keys between.
pub fn classify(shares: &[Vec<Shares>], dummies: usize) -> Vec<Vec<Class>> {
    let heads = || shares.iter().flatten();
    let sum = |of: usize| heads().map(|shares| shares[of]).sum::<f64>().max(TINY);
    let (first, between) = (sum(0), sum(1));
    let relative: Vec<[f64; 2]> = heads().map(|shares| [shares[0] / first, shares[1] / between]).collect();
    let most = |head: usize| relative[head][0].max(relative[head][1]);
    let mut order: Vec<usize> = (0..relative.len()).collect();
    order.sort_by(|a, b| most(*a).total_cmp(&most(*b)));
    let mut classes: Vec<Class> = relative
        .iter()
        .map(|[first, between]| if first < between { LOCAL } else { SINK })
        .collect();
    for head in order.into_iter().take(dummies) {
        classes[head] = DUMMY;
    }
    let mut rest = classes.into_iter();
    shares
        .iter()
        .map(|layer| rest.by_ref().take(layer.len()).collect())
        .collect()
}

/// Classes of [`Classing::Found`].
pub const SINK: Class = 0;
pub const LOCAL: Class = 1;
pub const DUMMY: Class = 2;

/// The patches of lowest score, ascending; equal ones go to the earlier.
pub fn most_changed(scores: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    order.truncate(count);
    order.sort_unstable();
    order
}

impl HeadView {
    /// Ranges of slots that it sees of a window of `held` tokens, the last `chunk` of which are the chunk's.
    fn ranges(&self, held: usize, chunk: usize, per_frame: usize) -> Vec<Range<usize>> {
        let past = held.saturating_sub(chunk);
        let sink = (self.sink * per_frame).min(past);
        let last = past.saturating_sub(self.last * per_frame).max(sink);
        if sink == last {
            return std::iter::once(0..held).collect();
        }
        let mut ranges = vec![0..sink, last..held];
        ranges.retain(|range| !range.is_empty());
        ranges
    }
}

impl KvCache {
    /// Number of the chunk that begins at latent frame `start`.
    fn chunk_number(&self, start: u64) -> usize {
        let before = start.saturating_sub(self.origin.unwrap_or(0)) as usize;
        before.checked_div(self.shape.chunk).unwrap_or(0)
    }

    /// The groups of heads of a layer that attend to different keys in `pass`, after [`KvCache::update`]; `None` where all
    /// attend to all that it gave.
    ///
    /// # Errors
    /// On a device failure.
    pub fn head_groups(&self, layer: usize, pass: Pass) -> Result<Option<Vec<HeadGroup>>> {
        let Some(heads) = &self.policy.heads else {
            return Ok(None);
        };
        let (Some(classes), true) = (
            &self.heads.classes,
            matches!(pass.write, Write::Append | Write::Overwrite),
        ) else {
            return Ok(None);
        };
        if layer < heads.alike || self.chunk_number(pass.start) <= heads.split {
            return Ok(None);
        }
        let cache = &self.layers[layer];
        let chunk = pass.frames * self.shape.tokens_per_frame();
        let mut groups = Vec::new();
        for (class, view) in heads.views.iter().enumerate() {
            let of_class = |head: &usize| classes[layer][*head] == class;
            let numbers: Vec<u32> = (0..self.shape.heads).filter(of_class).map(|head| head as u32).collect();
            if !numbers.is_empty() {
                groups.push(cache.group(view, numbers, chunk, self.shape.tokens_per_frame())?);
            }
        }
        Ok(Some(groups))
    }

    /// The slots that a head of a layer sees while the last chunk is worked on; `None` where it sees all of the window.
    pub fn head_slots(&self, layer: usize, head: usize) -> Option<Vec<Slot>> {
        let (heads, classes) = (self.policy.heads?, self.heads.classes.as_ref()?);
        let start = self.end?.saturating_sub(self.shape.chunk as u64);
        if layer < heads.alike || self.chunk_number(start) <= heads.split {
            return None;
        }
        let view = heads.views[*classes.get(layer)?.get(head)?];
        let (cache, per_frame) = (&self.layers[layer], self.shape.tokens_per_frame());
        let ranges = view.ranges(cache.slots.len(), self.shape.chunk * per_frame, per_frame);
        let mut slots = Vec::new();
        for (i, range) in ranges.into_iter().enumerate() {
            slots.extend_from_slice(&cache.slots[range]);
            if let Some(patches) = cache.patches.as_ref().filter(|_| i == 0 && view.chosen) {
                slots.extend_from_slice(&patches.slots);
            }
        }
        Some(slots)
    }

    /// Looks at the attention of a clean pass, in the one in which classes are found.
    pub(super) fn look_at_heads(
        &mut self,
        layer: usize,
        pass: Pass,
        tokens: &ChunkTokens<'_>,
        keys: &Tensor,
    ) -> Result<()> {
        let Some(Heads {
            classing: Classing::Found { dummies },
            split,
            ..
        }) = self.policy.heads
        else {
            return Ok(());
        };
        if !pass.clean || self.heads.classes.is_some() || self.chunk_number(pass.start) != split {
            return Ok(());
        }
        let per_frame = self.shape.tokens_per_frame();
        let chunk = pass.frames * per_frame;
        let first = if split == 1 { per_frame } else { chunk };
        let rows = match &self.heads.rows {
            Some(rows) => rows.get(layer).cloned().unwrap_or_default(),
            None => evenly_spaced(chunk, first / 3),
        };
        if layer == 0 {
            self.heads.shares.clear();
        }
        let shares = attention_shares(tokens.queries, keys, &rows, first, chunk)?;
        self.heads.shares.push(shares);
        if self.heads.shares.len() == self.shape.layers {
            let all = self.shape.layers * self.shape.heads;
            let dummies = (dummies.get() * all as f64).round() as usize;
            self.heads.classes = Some(classify(&self.heads.shares, dummies));
            self.heads.found = std::mem::take(&mut self.heads.shares);
        }
        Ok(())
    }

    /// Class of each head, layer by layer, once they are known.
    pub fn head_classes(&self) -> Option<&[Vec<Class>]> {
        self.heads.classes.as_deref()
    }

    /// Shares of attention that classes were found by, by layer and head; empty before.
    pub fn head_shares(&self) -> &[Vec<Shares>] {
        &self.heads.found
    }

    /// Takes these query rows of the chunk, layer by layer, in place of evenly spaced ones to find classes by.
    pub fn set_head_rows(&mut self, rows: Vec<Vec<u32>>) {
        self.heads.rows = Some(rows);
    }

    /// The patches that dynamic heads will see of the frames that leave their recent ones with the next chunk: the last
    /// chunk is in the cache, clean. `None` where there are none to choose.
    ///
    /// # Errors
    /// On a device failure.
    pub fn patch_choice(&self) -> Result<Option<PatchChoice>> {
        let Some((changed, layer, heads)) = self.changing() else {
            return Ok(None);
        };
        let cache = &self.layers[layer];
        let scores = cache.patch_similarities(&changed, &heads, self.shape.chunk, self.shape.tokens_per_frame())?;
        let kept = most_changed(&scores, changed.kept);
        Ok(Some(PatchChoice { scores, kept }))
    }

    /// What is chosen by, in which layer, from which of its heads, where patches are to be chosen after the last chunk.
    fn changing(&self) -> Option<(Changed, usize, Vec<u32>)> {
        let heads = self.policy.heads?;
        let (changed, classes) = (heads.changed?, self.heads.classes.as_ref()?);
        let last = self.chunk_number(self.end?.saturating_sub(self.shape.chunk as u64));
        // After a flush there may be too few frames.
        let needed = (self.shape.chunk + changed.recent) * self.shape.tokens_per_frame();
        let held = self.layers.first().map_or(0, |layer| layer.slots().len());
        if last <= heads.split || held < needed {
            return None;
        }
        (heads.alike..self.shape.layers).find_map(|layer| {
            let dynamic = |(head, class): (usize, &Class)| (*class == 1).then_some(head as u32);
            let dynamic: Vec<u32> = classes[layer].iter().enumerate().filter_map(dynamic).collect();
            (!dynamic.is_empty()).then_some((changed, layer, dynamic))
        })
    }

    /// Chooses the patches of the chunk that came last, in all layers; before the next one is begun.
    pub(super) fn choose_patches(&mut self) -> Result<()> {
        let (Some(choice), Some((changed, ..))) = (self.patch_choice()?, self.changing()) else {
            self.layers.iter_mut().for_each(|layer| layer.patches = None);
            return Ok(());
        };
        let alike = self.policy.heads.map_or(0, |heads| heads.alike);
        let (chunk, per_frame) = (self.shape.chunk, self.shape.tokens_per_frame());
        for layer in self.layers.iter_mut().skip(alike) {
            layer.take_patches(&changed, &choice.kept, chunk, per_frame)?;
        }
        Ok(())
    }
}

/// `count` rows of `of`.
fn evenly_spaced(of: usize, count: usize) -> Vec<u32> {
    (0..count).map(|i| (i * of / count.max(1)) as u32).collect()
}

/// Mean share of the attention of `rows` of the queries on the first `first` keys, on those between and on the last
/// `chunk`, for each head.
fn attention_shares(queries: &Tensor, keys: &Tensor, rows: &[u32], first: usize, chunk: usize) -> Result<Vec<Shares>> {
    let (held, heads, dim) = keys.dims3()?;
    if rows.is_empty() {
        return Ok(vec![[0.0; 3]; heads]);
    }
    let rows = Tensor::new(rows, queries.device())?;
    let queries = queries.index_select(&rows, 0)?.to_dtype(DType::F32)?;
    let last = held.saturating_sub(chunk);
    let first = first.min(last);
    let scale = 1.0 / (dim as f64).sqrt();
    // Head by head: the weights of all would be large.
    let shares = |head: usize| -> Result<Shares> {
        let of_head = |all: &Tensor| all.narrow(1, head, 1)?.squeeze(1)?.contiguous();
        let keys = of_head(&keys.narrow(0, 0, held)?)?.to_dtype(DType::F32)?;
        let scores = (of_head(&queries)?.matmul(&keys.t()?)? * scale)?;
        let weights = candle_nn::ops::softmax(&scores, D::Minus1)?.mean(0)?;
        let weights = weights.to_vec1::<f32>()?;
        let sum = |range: Range<usize>| weights[range].iter().map(|weight| f64::from(*weight)).sum();
        Ok([sum(0..first), sum(first..last), sum(last..held)])
    };
    (0..heads).map(shares).collect()
}

impl LayerCache {
    /// Keys and values that the heads `numbers` see.
    fn group(&self, view: &HeadView, numbers: Vec<u32>, chunk: usize, per_frame: usize) -> Result<HeadGroup> {
        let heads = Tensor::new(numbers.as_slice(), self.raw.device())?;
        let ranges = view.ranges(self.slots.len(), chunk, per_frame);
        let chosen = self.patches.as_ref().filter(|_| view.chosen);
        let part = |buffer: &Tensor, chosen: Option<&Tensor>| -> Result<Tensor> {
            let mut parts = Vec::with_capacity(3);
            for range in &ranges {
                parts.push(buffer.narrow(0, range.start, range.len())?.index_select(&heads, 1)?);
            }
            if let Some(chosen) = chosen {
                // The order of keys means nothing to attention, but for who compares.
                let at = usize::from(view.sink > 0).min(parts.len());
                parts.insert(at, chosen.index_select(&heads, 1)?);
            }
            Ok(Tensor::cat(&parts, 0)?)
        };
        Ok(HeadGroup {
            keys: part(&self.rotated, chosen.map(|chosen| &chosen.rotated))?,
            values: part(&self.values, chosen.map(|chosen| &chosen.values))?,
            heads: numbers,
        })
    }

    /// First slot of the frames that leave the recent ones: as many as a chunk has, and one more follows.
    fn leaving(&self, changed: &Changed, chunk: usize, per_frame: usize) -> usize {
        self.slots.len().saturating_sub((chunk + changed.recent) * per_frame)
    }

    /// How alike each patch of the frames that leave is to the same one of the next frame: mean over its tokens of the
    /// cosine between their rotated keys, those of `heads` joined.
    fn patch_similarities(&self, changed: &Changed, heads: &[u32], chunk: usize, per_frame: usize) -> Result<Vec<f32>> {
        let first = self.leaving(changed, chunk, per_frame);
        let heads = Tensor::new(heads, self.raw.device())?;
        let keys = |from: usize| -> Result<Tensor> {
            let rows = self.rotated.narrow(0, from, chunk * per_frame)?;
            Ok(rows.index_select(&heads, 1)?.flatten_from(1)?.to_dtype(DType::F32)?)
        };
        let (own, next) = (keys(first)?, keys(first + per_frame)?);
        let product = (&own * &next)?.sum(1)?;
        let norm = |keys: &Tensor| keys.sqr()?.sum(1)?.sqrt();
        let norms = (norm(&own)? * norm(&next)?)?.maximum(EPSILON)?;
        let patches = chunk * changed.patches;
        let cosines = (product / norms)?.reshape((patches, per_frame / changed.patches))?;
        Ok(cosines.mean(1)?.to_vec1::<f32>()?)
    }

    /// Copies the patches `kept` of the frames that leave.
    fn take_patches(&mut self, changed: &Changed, kept: &[usize], chunk: usize, per_frame: usize) -> Result<()> {
        let first = self.leaving(changed, chunk, per_frame);
        let tokens = per_frame / changed.patches;
        let indices: Vec<u32> = kept
            .iter()
            .flat_map(|patch| first + patch * tokens..first + (patch + 1) * tokens)
            .map(|slot| slot as u32)
            .collect();
        let slots = indices.iter().map(|slot| self.slots[*slot as usize]).collect();
        let indices = Tensor::new(indices, self.raw.device())?;
        self.patches = Some(ChosenPatches {
            rotated: self.rotated.index_select(&indices, 0)?,
            values: self.values.index_select(&indices, 0)?,
            slots,
        });
        Ok(())
    }

    /// Tokens that some heads see beside the window.
    pub fn patches(&self) -> Option<&ChosenPatches> {
        self.patches.as_ref()
    }
}

impl super::HeadProfile {
    /// Checks that the profile is of a model of so many layers and heads.
    ///
    /// # Errors
    /// [`Error::HeadProfile`].
    pub fn check(&self, layers: usize, heads: usize) -> Result<()> {
        let (own_layers, own_heads) = self.size();
        if (own_layers, own_heads) == (layers, heads) {
            return Ok(());
        }
        Err(Error::HeadProfile {
            own_layers,
            own_heads,
            layers,
            heads,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_relative_to_all_heads() {
        let shares = vec![
            vec![[0.5, 0.1, 0.4], [0.1, 0.2, 0.7]],
            vec![[0.2, 0.5, 0.3], [0.0, 0.05, 0.95]],
        ];
        assert_eq!(classify(&shares, 1), [[SINK, LOCAL], [LOCAL, DUMMY]]);
        assert_eq!(classify(&shares, 2), [[SINK, DUMMY], [LOCAL, DUMMY]]);
        assert_eq!(classify(&shares, 0)[1][1], LOCAL);
    }

    #[test]
    fn the_most_changed_patches_come_in_order() {
        assert_eq!(most_changed(&[0.9, 0.1, 0.5, 0.1], 2), [1, 3]);
        assert_eq!(most_changed(&[0.9], 2), [0]);
        assert_eq!(evenly_spaced(12, 3), [0, 4, 8]);
    }

    #[test]
    fn views_are_of_the_window() {
        let view = |sink, last| HeadView {
            sink,
            last,
            chosen: false,
        };
        // Frame 0, three local ones, a chunk of three; two tokens a frame.
        let seen = |sink, last| -> Vec<_> {
            let ranges = view(sink, last).ranges(14, 6, 2);
            ranges.iter().map(|range| (range.start, range.end)).collect()
        };
        assert_eq!(seen(1, 0), [(0, 2), (8, 14)]);
        assert_eq!(seen(0, 3), [(2, 14)]);
        assert_eq!(seen(0, 1), [(6, 14)]);
        assert_eq!(seen(1, 3), [(0, 14)]);
    }
}
