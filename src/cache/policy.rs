//! Cache policies and their parameters. All sizes are latent frames.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Which temporal positions re-positioned tokens get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// As the released code computes them: the sink ends one chunk before the contiguous place, chosen tokens keep the
    /// position of the frame they come from.
    #[default]
    Official,
    /// As the paper says: sink, chosen tokens and recent frames occupy consecutive positions.
    Paper,
    /// As the released code, its bookkeeping included: the first event moves the sink by a constant, later ones by how
    /// far its place moved. Differs from [`Positions::Official`] by a constant in configurations that the release was
    /// not made for; here for comparison with it, not offered to users.
    #[serde(skip)]
    Released { first_shift: i64 },
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

/// A policy with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Every token stays; the cache is full after `capacity` frames.
    Global { capacity: usize },
    /// The last `window` frames stay.
    Fifo { window: usize },
    /// The first `sink` frames stay as well, at their own positions (LongLive's sink).
    Sink { window: usize, sink: usize },
    /// The sink moves along, directly before the other frames (Rolling Forcing's sink).
    SinkRerope { window: usize, sink: usize },
    /// A sink of about half the window that moves along (paper section 3.2).
    DeepSink {
        window: usize,
        sink: usize,
        positions: Positions,
    },
    /// Deep Sink, and between sink and recent frames only the tokens that recent queries attend to (section 3.3).
    DeepForcing {
        window: usize,
        sink: usize,
        budget: usize,
        recent: usize,
        /// Times that a token may be chosen again; 0: no limit.
        reuse_limit: u32,
        scorer: Scorer,
        positions: Positions,
    },
}

impl Policy {
    /// Most latent frames that queries attend to, the current chunk included.
    pub fn window(&self) -> usize {
        match *self {
            Self::Global { capacity } => capacity,
            Self::Fifo { window }
            | Self::Sink { window, .. }
            | Self::SinkRerope { window, .. }
            | Self::DeepSink { window, .. }
            | Self::DeepForcing { window, .. } => window,
        }
    }

    /// Latent frames that are never dropped.
    pub fn sink(&self) -> usize {
        match *self {
            Self::Global { .. } | Self::Fifo { .. } => 0,
            Self::Sink { sink, .. }
            | Self::SinkRerope { sink, .. }
            | Self::DeepSink { sink, .. }
            | Self::DeepForcing { sink, .. } => sink,
        }
    }
}

/// Names of the policies, as users write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    Global,
    Fifo,
    Sink,
    SinkRerope,
    DeepSink,
    #[default]
    DeepForcing,
}

/// A policy's parameters as users give them, before the rules are checked. Parameters that a policy does not have are
/// ignored by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CacheSettings {
    pub policy: PolicyName,
    /// Frames attended to, the current chunk included.
    pub window: usize,
    /// First frames that always stay.
    pub sink: usize,
    /// Frames left by a compression.
    pub budget: usize,
    /// Last frames that always stay; also the frames of queries that score.
    pub recent: usize,
    /// Times that a token may be chosen again; 0: no limit.
    pub reuse_limit: u32,
    pub positions: Positions,
    pub scorer: Scorer,
}

impl Default for CacheSettings {
    /// The paper's: window 21, sink 10, budget 16, recent 4; reuse limit and positions of the released code.
    fn default() -> Self {
        Self {
            policy: PolicyName::DeepForcing,
            window: 21,
            sink: 10,
            budget: 16,
            recent: 4,
            reuse_limit: 7,
            positions: Positions::Official,
            scorer: Scorer::Both,
        }
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

/// Largest window that is taken for meant.
const WINDOW_LIMIT: usize = 4096;

impl CacheSettings {
    /// Checks the rules for chunks of `chunk` frames and a video of `frames` latent frames.
    ///
    /// # Errors
    /// The first rule that is broken, with its values.
    pub fn resolve(&self, chunk: usize, frames: usize) -> Result<Policy, PolicyError> {
        let Self {
            policy,
            window,
            sink,
            budget,
            recent,
            reuse_limit,
            positions,
            scorer,
        } = *self;
        if chunk == 0 {
            return Err(PolicyError::EmptyChunk);
        }
        if policy == PolicyName::Global {
            return Ok(Policy::Global {
                capacity: frames.max(chunk),
            });
        }
        if window > WINDOW_LIMIT {
            return Err(PolicyError::WindowTooLarge {
                window,
                limit: WINDOW_LIMIT,
            });
        }
        if window < chunk {
            return Err(PolicyError::WindowBelowChunk { window, chunk });
        }
        if policy == PolicyName::Fifo {
            return Ok(Policy::Fifo { window });
        }
        if sink.saturating_add(chunk) > window {
            return Err(PolicyError::SinkAboveWindow { sink, chunk, window });
        }
        Ok(match policy {
            PolicyName::Global | PolicyName::Fifo => Policy::Fifo { window },
            PolicyName::Sink => Policy::Sink { window, sink },
            PolicyName::SinkRerope => Policy::SinkRerope { window, sink },
            PolicyName::DeepSink => Policy::DeepSink {
                window,
                sink,
                positions,
            },
            PolicyName::DeepForcing => {
                if recent < chunk {
                    return Err(PolicyError::RecentBelowChunk { recent, chunk });
                }
                if budget > window {
                    return Err(PolicyError::BudgetAboveWindow { budget, window });
                }
                if sink.saturating_add(recent) > budget {
                    return Err(PolicyError::SinkAndRecentAboveBudget { sink, recent, budget });
                }
                Policy::DeepForcing {
                    window,
                    sink,
                    budget,
                    recent,
                    reuse_limit,
                    scorer,
                    positions,
                }
            }
        })
    }
}

/// Gives an enum the names that its serde form uses, for command lines and messages.
macro_rules! names {
    ($type:ident: $($name:literal => $value:expr),+ $(,)?) => {
        impl $type {
            /// Names accepted on a command line.
            pub const NAMES: &'static [&'static str] = &[$($name),+];
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok($value),)+
                    _ => Err(format!("expected one of {}", Self::NAMES.join(", "))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(if *self == $value { return f.write_str($name); })+
                write!(f, "{self:?}")
            }
        }
    };
}

names!(PolicyName:
    "global" => PolicyName::Global,
    "fifo" => PolicyName::Fifo,
    "sink" => PolicyName::Sink,
    "sink-rerope" => PolicyName::SinkRerope,
    "deep-sink" => PolicyName::DeepSink,
    "deep-forcing" => PolicyName::DeepForcing,
);
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
        assert_eq!((policy.window(), policy.sink()), (21, 10));
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
