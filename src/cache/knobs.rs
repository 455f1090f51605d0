//! The knobs that policies are settings of. All sizes are latent frames.

use serde::{Deserialize, Serialize};

use super::{policy::Scorer, profile::HeadProfile, share::Share};

/// What a cache keeps of a video, and where attention sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Most latent frames that queries attend to, the current chunk included.
    pub window: usize,
    /// First latent frames of the video, which are never dropped.
    pub sink: usize,
    /// What happens to a chunk that does not fit into the window.
    pub overflow: Overflow,
    /// Temporal positions of what stays when room is made.
    pub placement: Placement,
    /// Which tokens between sink and recent frames stay; without it the oldest are dropped, as many as must be.
    pub selection: Option<Selection>,
    /// What the frames that leave leave behind.
    pub merging: Option<Merging>,
    /// Which frames take the place of those of the past.
    pub replay: Option<Roll>,
    /// Whether heads rotate with bases of their own.
    pub jitter: Option<Jitter>,
    /// How finished chunks are made anew for the window.
    pub context: Option<Context>,
    /// Whether heads see different parts of the window.
    pub heads: Option<Heads>,
    /// What a flush keeps; without it the sink and the last chunk.
    pub flush: Option<Ends>,
    /// Temporal position of a chunk that begins a new scene, counted from the first frame that is held.
    pub cut: usize,
}

/// Position of the first chunk of a scene in the release of Infinity-RoPE.
pub const CUT: usize = 45;

/// What happens to a chunk that does not fit into the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// Room is made for it.
    Drop,
    /// It is an error: the window was made for the whole video.
    Full,
}

/// Temporal positions of the tokens that stay when room is made (docs/algorithms/deep_forcing.md sections 1 to 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// All keep the position of the frame they come from: no key is rotated anew.
    Origin,
    /// Sink, selected tokens and recent frames occupy consecutive positions.
    Consecutive,
    /// The sink ends one chunk before its consecutive place; selected tokens keep the position of the frame they come
    /// from.
    Official {
        /// Latent frames that the sink lies after that place: 0, but where the release is compared with in
        /// configurations that it was not made for, in which its bookkeeping is off by a constant.
        shift: i64,
    },
}

/// Participative Compression: of the tokens between sink and recent frames those stay that recent queries attend to
/// most (docs/algorithms/deep_forcing.md section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// Latent frames left when room was made.
    pub budget: usize,
    /// Last latent frames, which always stay; also the frames of queries that score.
    pub recent: usize,
    /// Times that a token may be chosen again; 0: no limit.
    pub reuse_limit: u32,
    pub scorer: Scorer,
}

/// What the frames that leave leave behind (docs/algorithms/policies.md section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merging {
    /// A frame of the sink takes in the frame that leaves at its place, cell by cell.
    Sink {
        /// Weight of what leaves.
        weight: Share,
    },
    /// Frames behind the sink, which come from no frame of the video, take in the mean of all frames that leave.
    Memory {
        pooling: Pooling,
        /// Of each of these frames, how what leaves is weighted.
        weights: [Option<Weight>; MEMORIES],
    },
}

/// Most memory frames.
pub const MEMORIES: usize = 4;

/// Which tokens are averaged into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// All tokens of all frames that leave.
    #[default]
    All,
    /// Those of one cell of the frames.
    Cell,
}

/// Weight of what is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    Constant(Share),
    /// From a tenth of the share where a cell changes least to five times the share where it changes most.
    ByChange(Share),
}

/// Which of the first frames stands for a frame of the past (docs/algorithms/policies.md section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Roll {
    /// They are played forwards and backwards.
    #[default]
    ToAndFro,
    /// They are played forwards, again and again.
    Forward,
}

/// A temporal base of its own for every head (docs/algorithms/policies.md section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter {
    /// The base is the common one times 1 + sigma·ε, ε uniform from −1 to 1.
    pub sigma: Share,
    pub draw: Draw,
}

/// Whether layers share a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Draw {
    /// A head of a number has the same base in all layers.
    #[default]
    Shared,
    /// Every head of every layer has its own.
    PerLayer,
}

/// How finished chunks are made anew for the window (docs/algorithms/policies.md section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Chunks that are made as the model was trained, before it begins.
    pub native: usize,
    pub last: LastChunk,
}

/// How the last chunk before the current one is made for the window; the others see themselves alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastChunk {
    /// It sees the chunk before it as well, and is made before every chunk.
    #[default]
    ReEncoded,
    /// It sees itself alone.
    SelfCached,
}

/// Heads that see different parts of the window (docs/algorithms/policies.md sections 7 and 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    pub classing: Classing,
    /// What the heads of each class see.
    pub views: HeadViews,
    /// Number of the last chunk that all heads see alike.
    pub split: usize,
    /// First layers whose heads see alike for ever.
    pub alike: usize,
    /// Which patches the heads of class 1 see beside the window.
    pub changed: Option<Changed>,
}

/// Views of the classes.
pub type HeadViews = [HeadView; 3];

/// Where the classes of the heads come from.
// A policy is copied, so that a profile cannot be put elsewhere; there is one of it in a video.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classing {
    /// From attention in the clean pass of the last chunk that all see alike: a share of the heads is of class 2, the
    /// others of class 0 or 1.
    Found { dummies: Share },
    /// Static heads are of class 0, dynamic ones of class 1.
    Profile(HeadProfile),
}

/// What a head sees beside the chunk in work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadView {
    /// First frames of the window.
    pub sink: usize,
    /// Last frames before the chunk.
    pub last: usize,
    /// Whether it sees chosen patches.
    pub chosen: bool,
}

/// Which patches are seen beside the window: of the frames that leave the recent ones with a chunk, those that differ most
/// from the next frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// Patches of a frame.
    pub patches: usize,
    /// Patches that are chosen.
    pub kept: usize,
    /// Last frames that are seen anyway.
    pub recent: usize,
}

/// First and last frames of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    pub first: usize,
    pub last: usize,
}

impl Policy {
    /// The last `window` frames stay, where they were.
    pub fn last(window: usize) -> Self {
        Self {
            window,
            sink: 0,
            overflow: Overflow::Drop,
            placement: Placement::Origin,
            selection: None,
            merging: None,
            replay: None,
            jitter: None,
            context: None,
            heads: None,
            flush: None,
            cut: CUT,
        }
    }

    /// All of the video's `frames` stay.
    pub fn whole(frames: usize) -> Self {
        Self {
            overflow: Overflow::Full,
            ..Self::last(frames)
        }
    }

    /// Whether keys get other temporal positions when room is made.
    pub fn moves_keys(&self) -> bool {
        self.placement != Placement::Origin
    }

    /// Whether selected tokens get the positions of their places instead of keeping those that they have.
    pub fn places_selected(&self) -> bool {
        self.selection.is_some() && self.placement == Placement::Consecutive
    }

    /// Most latent frames that are left when room was made.
    pub fn left(&self) -> usize {
        self.selection.map_or(self.window, |selection| selection.budget)
    }

    /// Frames between sink and recent frames that come from no frame of the video.
    pub fn memory(&self) -> usize {
        match &self.merging {
            Some(Merging::Memory { weights, .. }) => weights.iter().flatten().count(),
            _ => 0,
        }
    }

    /// Latent frames at the front that are never dropped: sink and memory.
    pub fn front(&self) -> usize {
        self.sink.saturating_add(self.memory())
    }

    /// Latent frames that are held outside the window, for chunks of `chunk` frames.
    pub fn stored(&self, chunk: usize) -> usize {
        let replayed = self.replay.map_or(0, |_| self.window.saturating_sub(chunk));
        let context = match self.context {
            Some(Context {
                last: LastChunk::ReEncoded,
                ..
            }) => 2 * chunk,
            _ => 0,
        };
        replayed.max(context)
    }

    /// Whether the tokens of all frames that are held can be made again from clean latents, but for those of the sink.
    pub fn can_be_encoded_again(&self) -> bool {
        self.memory() == 0 && self.replay.is_none()
    }

    /// Whether there is nothing to it but window, sink, overflow and placement.
    pub fn is_plain(&self) -> bool {
        let plain = Self {
            sink: self.sink,
            overflow: self.overflow,
            placement: self.placement,
            flush: self.flush,
            cut: self.cut,
            ..Self::last(self.window)
        };
        *self == plain
    }

    /// Whether the window may be any number of frames, as far as the other knobs leave room in it.
    pub fn takes_any_window(&self) -> bool {
        self.merging.is_none() && self.replay.is_none() && self.context.is_none() && self.heads.is_none()
    }

    /// The smallest window that the other knobs allow for chunks of `chunk` frames; `None` where the video decides.
    pub fn least_window(&self, chunk: usize) -> Option<usize> {
        match (self.overflow, self.selection) {
            (Overflow::Full, _) => None,
            (Overflow::Drop, Some(selection)) => Some(selection.budget),
            (Overflow::Drop, None) => Some(self.front().saturating_add(chunk)),
        }
    }
}
