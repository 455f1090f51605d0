//! Cache policies: what stays in the cache, as knobs that do not depend on each other, and the names that users know
//! settings of the knobs by. All sizes are latent frames.
//!
//! A new policy is a row of the table of names below; if it moves keys in a way of its own, also a [`Placement`] and
//! its arm in [`super::plan::reposition`].

use serde::{Deserialize, Serialize};

use super::{parameters::CacheSettings, rewrite::RecacheSink};

/// Where re-positioned tokens get their temporal positions from, as users choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// As the released code computes them: [`Placement::Official`].
    #[default]
    Official,
    /// As the paper says: [`Placement::Consecutive`].
    Paper,
}

impl Positions {
    fn placement(self) -> Placement {
        match self {
            Self::Official => Placement::Official { shift: 0 },
            Self::Paper => Placement::Consecutive,
        }
    }
}

/// Which queries score the candidates of Participative Compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scorer {
    /// The last `recent` frames of queries, those of the current chunk's first step among them.
    #[default]
    Both,
    /// The last `recent` frames of queries before the current chunk.
    Past,
    /// The queries of the current chunk's first step alone.
    Denoising,
    /// Standard normal numbers instead of scores.
    Random,
}

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
}

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

impl Policy {
    /// The last `window` frames stay, where they were.
    pub fn last(window: usize) -> Self {
        Self {
            window,
            sink: 0,
            overflow: Overflow::Drop,
            placement: Placement::Origin,
            selection: None,
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

    /// The smallest window that the other knobs allow for chunks of `chunk` frames; `None` where the video decides.
    pub fn least_window(&self, chunk: usize) -> Option<usize> {
        match (self.overflow, self.selection) {
            (Overflow::Full, _) => None,
            (Overflow::Drop, Some(selection)) => Some(selection.budget),
            (Overflow::Drop, None) => Some(self.sink.saturating_add(chunk)),
        }
    }

    /// Checks the rules for chunks of `chunk` frames.
    ///
    /// # Errors
    /// The first rule that is broken, with its values.
    fn check(&self, chunk: usize) -> Result<(), PolicyError> {
        let Self { window, sink, .. } = *self;
        if self.overflow == Overflow::Full {
            return Ok(());
        }
        if window > WINDOW_LIMIT {
            let limit = WINDOW_LIMIT;
            return Err(PolicyError::WindowTooLarge { window, limit });
        }
        if window < chunk {
            return Err(PolicyError::WindowBelowChunk { window, chunk });
        }
        if sink.saturating_add(chunk) > window {
            return Err(PolicyError::SinkAboveWindow { sink, chunk, window });
        }
        let Some(Selection { budget, recent, .. }) = self.selection else {
            return Ok(());
        };
        if recent < chunk {
            return Err(PolicyError::RecentBelowChunk { recent, chunk });
        }
        if budget > window {
            return Err(PolicyError::BudgetAboveWindow { budget, window });
        }
        if sink.saturating_add(recent) > budget {
            return Err(PolicyError::SinkAndRecentAboveBudget { sink, recent, budget });
        }
        Ok(())
    }
}

/// A rule that the parameters break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("the chunk must have at least 1 latent frame")]
    EmptyChunk,
    #[error("window {window} < chunk {chunk}: the window must hold the current chunk; raise the window")]
    WindowBelowChunk { window: usize, chunk: usize },
    #[error(
        "sink {sink} + chunk {chunk} > window {window}: sink and current chunk must fit into the window; lower the sink \
         or raise the window"
    )]
    SinkAboveWindow { sink: usize, chunk: usize, window: usize },
    #[error(
        "recent {recent} < chunk {chunk}: the recent frames must hold the current chunk, or its tokens would overwrite \
         chosen ones; raise recent"
    )]
    RecentBelowChunk { recent: usize, chunk: usize },
    #[error(
        "sink {sink} + recent {recent} > budget {budget}: the budget must hold both; raise the budget or lower the sink"
    )]
    SinkAndRecentAboveBudget { sink: usize, recent: usize, budget: usize },
    #[error("budget {budget} > window {window}: a compression cannot leave more than the window; lower the budget")]
    BudgetAboveWindow { budget: usize, window: usize },
    #[error("window {window} is absurd: at most {limit} latent frames; lower the window")]
    WindowTooLarge { window: usize, limit: usize },
}

/// Largest window that is accepted; the video is checked before any of its memory is taken.
const WINDOW_LIMIT: usize = 4096;

impl CacheSettings {
    /// The knobs, checked against the rules for chunks of `chunk` frames and a video of `frames` latent frames.
    ///
    /// # Errors
    /// The first rule that is broken, with its values.
    pub fn resolve(&self, chunk: usize, frames: usize) -> Result<Policy, PolicyError> {
        if chunk == 0 {
            return Err(PolicyError::EmptyChunk);
        }
        let policy = self.knobs(frames.max(chunk));
        policy.check(chunk)?;
        Ok(policy)
    }
}

/// Gives an enum the names that its serde form uses, for command lines and messages.
macro_rules! names {
    ($type:ident: $($name:literal => $value:expr),+ $(,)?) => {
        impl $type {
            /// Names accepted on a command line.
            pub const NAMES: &'static [&'static str] = &[$($name),+];
        }

        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($name => Ok($value),)+
                    _ => Err(format!("expected one of {}", Self::NAMES.join(", "))),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $(if *self == $value { return f.write_str($name); })+
                write!(f, "{self:?}")
            }
        }
    };
}

pub(crate) use names;

/// Makes [`PolicyName`] and the knobs of each policy from one table. A row says the name, in brackets the parameters
/// that the policy has (no others can be used by its knobs, and none must be left unused), between bars the latent
/// frames of the video, then the knobs.
macro_rules! policies {
    ($($(#[$doc:meta])* $policy:ident = $name:literal [$($parameter:ident),*] |$frames:pat_param| $knobs:expr;)+) => {
        /// Names of the policies, as users write them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum PolicyName {
            $($(#[$doc])* #[serde(rename = $name)] $policy,)+
        }

        names!(PolicyName: $($name => PolicyName::$policy),+);

        impl PolicyName {
            /// Every policy.
            pub const ALL: &'static [Self] = &[$(Self::$policy),+];

            /// The fields of [`CacheSettings`] that have a meaning under this policy.
            pub(super) fn fields(self) -> &'static [&'static str] {
                match self {
                    $(Self::$policy => &[$(stringify!($parameter)),*],)+
                }
            }
        }

        impl CacheSettings {
            /// The knobs for a video of `frames` latent frames, before the rules are checked.
            pub fn knobs(&self, frames: usize) -> Policy {
                match self.policy {
                    $(PolicyName::$policy => {
                        $(let $parameter = self.$parameter;)*
                        let $frames = frames;
                        $knobs
                    })+
                }
            }
        }
    };
}

policies! {
    /// Every frame stays.
    Global = "global" [] |frames| Policy::whole(frames);
    /// The last frames stay.
    Fifo = "fifo" [window] |_| Policy::last(window);
    /// The first frames stay as well, at their own positions (LongLive's sink).
    Sink = "sink" [window, sink] |_| Policy { sink, ..Policy::last(window) };
    /// The sink moves along, directly before the other frames (Rolling Forcing's sink).
    SinkRerope = "sink-rerope" [window, sink] |_| Policy {
        sink,
        placement: Placement::Consecutive,
        ..Policy::last(window)
    };
    /// A sink of about half the window that moves along (paper section 3.2).
    DeepSink = "deep-sink" [window, sink, positions] |_| Policy {
        sink,
        placement: positions.placement(),
        ..Policy::last(window)
    };
    /// Deep Sink, and between sink and recent frames only the tokens that recent queries attend to (paper
    /// section 3.3).
    DeepForcing = "deep-forcing" [window, sink, budget, recent, reuse_limit, positions, scorer] |_| Policy {
        sink,
        placement: positions.placement(),
        selection: Some(Selection { budget, recent, reuse_limit, scorer }),
        ..Policy::last(window)
    };
}

impl PolicyName {
    /// What the sink becomes where a cache of this policy is encoded again, unless something else is asked for: the
    /// large sinks of Deep Sink and Deep Forcing are most of what is seen, and would go on showing the prompt before.
    pub fn recache_sink(self) -> RecacheSink {
        if matches!(self, Self::DeepSink | Self::DeepForcing) {
            RecacheSink::Encode
        } else {
            RecacheSink::Keep
        }
    }
}

names!(Positions: "official" => Positions::Official, "paper" => Positions::Paper);
names!(Scorer:
    "both" => Scorer::Both,
    "past" => Scorer::Past,
    "denoising" => Scorer::Denoising,
    "random" => Scorer::Random,
);

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(change: impl FnOnce(&mut CacheSettings)) -> PolicyError {
        let mut settings = CacheSettings::default();
        change(&mut settings);
        settings.resolve(3, 240).unwrap_err()
    }

    #[test]
    fn the_defaults_are_legal() {
        let policy = CacheSettings::default().resolve(3, 240).unwrap();
        assert_eq!((policy.window, policy.sink), (21, 10));
    }

    #[test]
    fn each_broken_rule_is_named() {
        assert!(matches!(broken(|s| s.recent = 2), PolicyError::RecentBelowChunk { .. }));
        assert!(matches!(
            broken(|s| s.sink = 13),
            PolicyError::SinkAndRecentAboveBudget { .. }
        ));
        assert!(matches!(
            broken(|s| s.budget = 22),
            PolicyError::BudgetAboveWindow { .. }
        ));
        assert!(matches!(broken(|s| s.window = 2), PolicyError::WindowBelowChunk { .. }));
        assert!(matches!(broken(|s| s.sink = 19), PolicyError::SinkAboveWindow { .. }));
        assert!(matches!(
            broken(|s| s.window = 1 << 20),
            PolicyError::WindowTooLarge { .. }
        ));
        assert_eq!(CacheSettings::default().resolve(0, 9), Err(PolicyError::EmptyChunk));
    }

    #[test]
    fn names_round_trip() {
        for name in PolicyName::NAMES {
            assert_eq!(name.parse::<PolicyName>().unwrap().to_string(), *name);
        }
        assert!(
            "deepforcing"
                .parse::<PolicyName>()
                .unwrap_err()
                .contains("deep-forcing")
        );
    }
}
