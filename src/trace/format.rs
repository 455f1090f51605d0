//! The lines of a trace; see [`super`].

use serde::{Deserialize, Serialize};

use super::pack;
pub use super::pack::Run;
use crate::{cache::PolicyName, recipe::Recipe};

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Line {
    Header(Box<Header>),
    Event(RoomMade),
    Attention(Attention),
    Chunk(Chunk),
    End(End),
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Header {
    /// See [`super::FORMAT`].
    pub format: u32,
    /// Version of the program that wrote it.
    pub deepforcing: String,
    pub recipe: Recipe,
    /// The video, as it was named; absent when it went to standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<String>,
    pub shape: Shape,
    /// Heads whose attention is recorded, for each layer; absent when none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_heads: Option<Vec<Vec<usize>>>,
}

/// Sizes of model and cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shape {
    pub layers: usize,
    pub heads: usize,
    pub head_dim: usize,
    /// Tokens of a latent frame are `rows · columns`.
    pub rows: usize,
    pub columns: usize,
    /// Most latent frames of a chunk.
    pub chunk: usize,
    pub policy: PolicyName,
    /// Most latent frames attended to, the chunk included.
    pub window: usize,
    /// First latent frames that always stay.
    pub sink: usize,
    /// Bytes of one token in one layer: its key as made and rotated, and its value.
    pub bytes_per_token: usize,
    /// Bytes that the cache holds from start to end, whatever is in it.
    pub cache_bytes: usize,
}

impl Shape {
    /// Tokens of one latent frame.
    pub fn tokens_per_frame(&self) -> usize {
        self.rows * self.columns
    }
}

/// A layer that made room for a chunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RoomMade {
    /// Number of the chunk, from 0.
    pub chunk: u64,
    /// Its first latent frame.
    pub start: u64,
    pub layer: usize,
    /// Tokens before, the chunk included.
    pub total: usize,
    /// Tokens at the front that stay.
    pub sink: usize,
    /// First and one after the last slot of those that could be dropped.
    pub candidates: (usize, usize),
    /// How many candidates the policy wanted to keep; fewer are kept when too many have reached the reuse limit.
    pub select: usize,
    /// Tokens afterwards.
    pub kept: usize,
    /// Bytes of these.
    pub bytes: usize,
    /// Candidates that were selected, as bits over all of them; empty when none was.
    pub slots: String,
    /// The selected tokens, in the order of their slots.
    pub selected: Vec<Selected>,
    /// Runs of the temporal positions of all tokens that stayed, in order: sink, selected, recent and the chunk.
    pub positions: Vec<Run<i64>>,
    /// Absent when nothing was scored, or scores were not finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Scores>,
}

impl RoomMade {
    /// Slots of the selected tokens, ascending.
    ///
    /// # Errors
    /// When the bits are not those of the candidates; a trace that was read has been checked.
    pub fn chosen_slots(&self) -> Result<Vec<usize>, String> {
        let (first, last) = self.candidates;
        if self.slots.is_empty() {
            return Ok(Vec::new());
        }
        let chosen = pack::set_bits(&self.slots, last.saturating_sub(first))?;
        Ok(chosen.into_iter().map(|slot| first + slot).collect())
    }
}

/// Selected tokens of one latent frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Selected {
    pub frame: u64,
    pub tokens: usize,
    /// How often they have been selected, this time included.
    pub reuses: u32,
    /// Where they are in the frame, as gaps.
    pub cells: String,
}

impl Selected {
    /// Numbers of the tokens in the frame, which has `per_frame`.
    ///
    /// # Errors
    /// When they are not of such a frame; a trace that was read has been checked.
    pub fn cells(&self, per_frame: usize) -> Result<Vec<usize>, String> {
        pack::cells(&self.cells, per_frame)
    }
}

/// The scores of an event's candidates. Weights are scores above the lowest one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scores {
    pub lowest: f64,
    pub median: f64,
    pub mean: f64,
    pub highest: f64,
    /// Lowest and highest of those that were selected.
    pub kept_lowest: f64,
    pub kept_highest: f64,
    /// Share of the selected in the sum of weights.
    pub share: f64,
    /// Entropy of the weights over that of equal ones: 0 all in one candidate, 1 all alike.
    pub entropy: f64,
    /// Level of each selected token.
    pub levels: String,
}

/// Where the attention of a chunk's queries goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attention {
    pub chunk: u64,
    pub start: u64,
    pub layer: usize,
    pub heads: Vec<usize>,
    /// Runs of origin frames of all slots.
    pub frames: Vec<Run<u64>>,
    /// Share of each run for each head, on average over the queries; rounded to a millionth.
    pub shares: Vec<Vec<f64>>,
}

/// What the cache holds while a chunk is denoised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Chunk {
    pub chunk: u64,
    pub start: u64,
    /// Latent frames of the chunk.
    pub frames: usize,
    /// Whether room was made for it.
    pub event: bool,
    /// Bytes of the tokens of all layers.
    pub bytes: usize,
    /// One for each layer, or a single one when all layers hold the same.
    pub layers: Vec<Held>,
}

/// What a layer holds: runs of origin frames.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Held {
    pub sink: Vec<Run<u64>>,
    /// Of the sink: frames that have taken in frames that left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub averaged: Vec<Run<u64>>,
    /// Averages of frames that left, by the last one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<Run<u64>>,
    pub selected: Vec<Run<u64>>,
    /// Frames that stand in the place of others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copied: Vec<Run<u64>>,
    pub recent: Vec<Run<u64>>,
    /// The chunk itself.
    pub current: Vec<Run<u64>>,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct End {
    pub chunks: u64,
    /// Whether all that was asked for was made.
    pub complete: bool,
}
