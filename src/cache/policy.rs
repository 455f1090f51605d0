//! Cache policies: the names that users know settings of the knobs ([`super::knobs`]) by. All sizes are latent frames.
//!
//! A new policy is a row of the table of names below. If it moves keys in a way of its own, also a [`Placement`] and
//! its arm in [`super::plan::reposition`]; if it does something else that none of the knobs says, also a knob.

use serde::{Deserialize, Serialize};

use super::{
    knobs::{
        Changed, Classing, Context, Draw, Ends, HeadView, Heads, Jitter, LastChunk, MEMORIES, Merging, Placement,
        Policy, Pooling, Roll, Selection, Weight,
    },
    parameters::{CacheChanges, CacheSettings},
    profile::HeadProfile,
    rewrite::RecacheSink,
    rules::{CONTEXT_CHUNKS, PolicyError},
    share::Share,
};

/// Where re-positioned tokens get their temporal positions from, as users choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// As the released code computes them: [`Placement::Official`].
    #[default]
    Official,
    /// As the paper says: [`Placement::Consecutive`].
    Paper,
    /// Where the frames are that they come from: [`Placement::Origin`].
    Own,
}

impl Positions {
    pub(super) fn placement(self) -> Placement {
        match self {
            Self::Own => Placement::Origin,
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

impl CacheSettings {
    /// The knobs, checked against the rules for chunks of `chunk` frames and a video of `frames` latent frames.
    ///
    /// # Errors
    /// The first rule that is broken, with its values.
    pub fn resolve(&self, chunk: usize, frames: usize) -> Result<Policy, PolicyError> {
        if chunk == 0 {
            return Err(PolicyError::EmptyChunk);
        }
        let policy = self.knobs(chunk, frames.max(chunk));
        if self.policy == PolicyName::Custom {
            self.keep.check(policy.window, self.memory)?;
        }
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

/// What is known of a policy beside its knobs.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// What it keeps, in a few words.
    pub keeps: &'static str,
    /// Where it was published.
    pub source: &'static str,
    pub year: u32,
    /// Models that were trained with it; all policies do without.
    pub trained: Option<&'static str>,
}

/// Makes [`PolicyName`] and the knobs of each policy from one table. A row says the name, what it keeps, where it was
/// published and when, in brackets the parameters that the policy has (no others can be used by its knobs, and none must
/// be left unused) with the values of its release where the common defaults are others, between bars the latent frames
/// of a chunk and of the video, then the knobs.
macro_rules! policies {
    ($($(#[$doc:meta])* $policy:ident = $name:literal ($keeps:literal, $source:literal, $year:literal)
        [$($parameter:ident $(= $own:expr)?),*] |$chunk:pat_param, $frames:pat_param| $knobs:expr;)+) => {
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

            /// What is known of it beside its knobs.
            pub fn about(self) -> About {
                let trained = self.trained();
                match self {
                    $(Self::$policy => About { keeps: $keeps, source: $source, year: $year, trained },)+
                }
            }

            /// The parameters of its release that are not the common defaults.
            pub fn released(self) -> CacheChanges {
                match self {
                    $(Self::$policy => CacheChanges {
                        $($($parameter: Some($own),)?)*
                        ..CacheChanges::default()
                    },)+
                }
            }
        }

        impl CacheSettings {
            /// The knobs for a video of `frames` latent frames in chunks of `chunk`, before the rules are checked.
            pub fn knobs(&self, chunk: usize, frames: usize) -> Policy {
                match self.policy {
                    $(PolicyName::$policy => {
                        $(let $parameter = self.$parameter;)*
                        let ($chunk, $frames) = (chunk, frames);
                        $knobs
                    })+
                }
            }
        }
    };
}

policies! {
    /// Every frame stays.
    Global = "global" ("every frame", "Self Forcing (2506.08009)", 2025) [] |_, frames| Policy::whole(frames);
    /// The last frames stay.
    Fifo = "fifo" ("the last frames", "Self Forcing (2506.08009)", 2025) [window] |_, _| Policy::last(window);
    /// The first frames stay as well, at their own positions (LongLive's sink).
    Sink = "sink" ("first and last frames", "LongLive (2509.22622)", 2025) [window, sink] |_, _| Policy {
        sink,
        ..Policy::last(window)
    };
    /// The sink moves along, directly before the other frames (Rolling Forcing's sink).
    SinkRerope = "sink-rerope" ("first and last frames, the first ones moved along", "Rolling Forcing (2509.25161)", 2025)
        [window, sink] |_, _| Policy {
            sink,
            placement: Placement::Consecutive,
            ..Policy::last(window)
        };
    /// A sink of about half the window that moves along (paper section 3.2).
    DeepSink = "deep-sink" ("a deep sink and the last frames", "Deep Forcing (2512.05081)", 2025)
        [window, sink, positions] |_, _| Policy {
            sink,
            placement: positions.placement(),
            ..Policy::last(window)
        };
    /// Deep Sink, and between sink and recent frames only the tokens that recent queries attend to (paper
    /// section 3.3).
    DeepForcing = "deep-forcing" ("a deep sink, chosen tokens, the last frames", "Deep Forcing (2512.05081)", 2025)
        [window, sink, budget, recent, reuse_limit, positions, scorer] |_, _| Policy {
            sink,
            placement: positions.placement(),
            selection: Some(Selection { budget, recent, reuse_limit, scorer }),
            ..Policy::last(window)
        };
    /// `sink-rerope` with a small window; a flush keeps the first and the last two frames, and a cut moves what is kept
    /// far into the past for a chunk.
    InfinityRope = "infinity-rope"
        ("first and last frames, the first ones moved along; scenes can be cut", "Infinity-RoPE (2511.20649)", 2025)
        [window = 6, sink = 1, cut_position] |_, _| Policy {
            sink,
            placement: Placement::Consecutive,
            flush: Some(Ends { first: 1, last: 2 }),
            cut: cut_position,
            ..Policy::last(window)
        };
    /// The sink and two chunks that were made anew, so that keys and values are such as the model was trained with.
    IdForcing = "id-forcing" ("the first chunk, two chunks made anew", "ID-Forcing (2610.03120)", 2026)
        [native_chunks, last_chunk] |chunk, _| Policy {
            sink: chunk,
            placement: Placement::Consecutive,
            context: Some(Context { native: native_chunks, last: last_chunk }),
            ..Policy::last(last_chunk.window(native_chunks).saturating_mul(chunk))
        };
    /// `sink`, each head with a temporal base of its own, so that they do not fall back to the sink together.
    Lol = "lol" ("first and last frames, at a base of its own for each head", "LoL (2601.16914)", 2026)
        [window = 12, sink = 3, rope_jitter, jitter_draw] |_, _| Policy {
            sink,
            jitter: Some(Jitter { sigma: rope_jitter, draw: jitter_draw }),
            ..Policy::last(window)
        };
    /// Behind the sink two frames that are moving averages of all frames that left.
    Memrope = "memrope" ("first frames, two averages of what left, last frames", "MemRoPE (2603.12513)", 2026)
        [window = 12, sink = 3, alpha_long, alpha_short, pooling] |_, _| Policy {
            sink,
            placement: Placement::Consecutive,
            merging: Some(Merging::memrope(pooling, alpha_long, alpha_short)),
            ..Policy::last(window)
        };
    /// The sink is a moving average of the frames that left.
    EmaSink = "ema-sink" ("averages of first frames and what left, last frames", "Reward Forcing (2512.04678)", 2025)
        [window = 9, sink = 3, alpha] |_, _| Policy {
            sink,
            placement: Placement::Consecutive,
            merging: Some(Merging::Sink { weight: alpha.rest() }),
            ..Policy::last(window)
        };
    /// The first frames, played forwards and backwards, in place of those of the past.
    RollingSink = "rolling-sink" ("the first frames, to and fro, and the last chunk", "Rolling Sink (2602.07775)", 2026)
        [window, roll] |_, _| Policy { replay: Some(roll), ..Policy::last(window) };
    /// Heads see the first frame, the last one or the last chunk, by what they looked at in the second chunk.
    DummyForcing = "dummy-forcing"
        ("by head: the first frame, the last one, or the last chunk", "Dummy Forcing (2601.20499)", 2026)
        [dummies, local, split] |chunk, _| Policy {
            sink: 1,
            heads: Some(Heads::found(dummies, local, split)),
            ..Policy::last(local.saturating_add(1).saturating_add(chunk))
        };
    /// Static heads see the last frame, dynamic ones also the patches that change most.
    ForcingKv = "forcing-kv"
        ("first and last frames, and for dynamic heads what changes", "Forcing-KV (2605.09681)", 2026)
        [heads, sink = 1, static_frames, recent = 1, changed, patches, split] |chunk, _| Policy {
            sink,
            heads: Some(Heads::profiled(heads, [sink, static_frames, recent], (changed, patches), split)),
            ..Policy::last(static_frames.max(recent).saturating_add(sink).saturating_add(chunk))
        };
    /// What is written down, in the terms of the others.
    Custom = "custom" ("what you write down", "a policy of your own", 0)
        [window, keep, memory, positions] |_, _| keep.policy(window, memory, positions);
}

impl PolicyName {
    /// Models that were trained with this policy.
    fn trained(self) -> Option<&'static str> {
        match self {
            Self::Global => Some("Self Forcing, Causal Forcing"),
            Self::Sink => Some("LongLive"),
            Self::SinkRerope => Some("Rolling Forcing, LongLive"),
            Self::EmaSink => Some("Reward Forcing"),
            _ => None,
        }
    }

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

impl Merging {
    /// A memory over all time and one over the last seconds. With means of cells the second follows what changes.
    fn memrope(pooling: Pooling, long: Share, short: Share) -> Self {
        let short = match pooling {
            Pooling::All => Weight::Constant(short),
            Pooling::Cell => Weight::ByChange(short),
        };
        let mut weights = [None; MEMORIES];
        (weights[0], weights[1]) = (Some(Weight::Constant(long)), Some(short));
        Self::Memory { pooling, weights }
    }
}

impl Heads {
    fn found(dummies: Share, local: usize, split: usize) -> Self {
        let view = |sink, last| HeadView {
            sink,
            last,
            chosen: false,
        };
        Self {
            classing: Classing::Found { dummies },
            views: [view(1, 0), view(0, local), view(0, 1)],
            split,
            alike: 0,
            changed: None,
        }
    }

    fn profiled(
        profile: HeadProfile,
        [sink, fixed, recent]: [usize; 3],
        (changed, patches): (usize, usize),
        split: usize,
    ) -> Self {
        let view = |last, chosen| HeadView { sink, last, chosen };
        Self {
            classing: Classing::Profile(profile),
            views: [view(fixed, false), view(recent, true), HeadView::default()],
            split,
            alike: 1,
            changed: Some(Changed {
                patches,
                kept: changed.saturating_mul(patches),
                recent,
            }),
        }
    }
}

impl LastChunk {
    /// Chunks of the window when the model's own way is gone for `native` chunks.
    fn window(self, native: usize) -> usize {
        match self {
            Self::ReEncoded => native.max(CONTEXT_CHUNKS),
            Self::SelfCached => CONTEXT_CHUNKS,
        }
    }
}

names!(Pooling: "all" => Pooling::All, "cell" => Pooling::Cell);
names!(Roll: "to-and-fro" => Roll::ToAndFro, "forward" => Roll::Forward);
names!(Draw: "shared" => Draw::Shared, "per-layer" => Draw::PerLayer);
names!(LastChunk: "re-encoded" => LastChunk::ReEncoded, "self-cached" => LastChunk::SelfCached);
names!(Positions: "official" => Positions::Official, "paper" => Positions::Paper, "own" => Positions::Own);
names!(Scorer:
    "both" => Scorer::Both,
    "past" => Scorer::Past,
    "denoising" => Scorer::Denoising,
    "random" => Scorer::Random,
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Parameter;

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

    /// The released values of each policy are legal, and each is one that the policy has.
    #[test]
    fn released_values_are_legal() {
        for policy in PolicyName::ALL {
            let chosen = CacheSettings {
                policy: *policy,
                ..CacheSettings::default()
            };
            let released = policy.released();
            let mut settings = released.over(&chosen);
            settings.heads = "1x4:5".parse().unwrap();
            settings
                .resolve(3, 240)
                .unwrap_or_else(|error| panic!("{policy}: {error}"));
            for parameter in Parameter::ALL.iter().filter(|parameter| released.gives(parameter)) {
                assert!(policy.has(parameter), "{policy} {}", parameter.name);
            }
        }
    }

    #[test]
    fn rules_of_merged_copied_and_jittered_tokens_are_named() {
        let broken = |name: &str, change: fn(&mut CacheSettings)| {
            let chosen = CacheSettings {
                policy: name.parse().unwrap(),
                ..CacheSettings::default()
            };
            let mut settings = chosen.policy.released().over(&chosen);
            change(&mut settings);
            settings.resolve(3, 240).unwrap_err().to_string()
        };
        for (name, change, words) in [
            (
                "rolling-sink",
                (|s| s.window = 20) as fn(&mut CacheSettings),
                "no multiple of chunk 3",
            ),
            ("rolling-sink", |s| s.window = 3, "raise the window to 6"),
            ("ema-sink", |s| s.window = 10, "take 9 or 12"),
            ("ema-sink", |s| s.sink = 2, "take sink 3"),
            ("memrope", |s| s.sink = 8, "sink 8 + memory 2 + chunk 3 > window 12"),
            (
                "memrope",
                |s| (s.pooling, s.alpha_short) = (Pooling::Cell, Share::thousandths(201)),
                "take at most 0.2",
            ),
            ("forcing-kv", |_| (), "--heads FILE"),
            (
                "forcing-kv",
                |s| (s.heads, s.recent) = ("1x4:5".parse().unwrap(), 4),
                "recent 4",
            ),
            ("dummy-forcing", |s| s.local = 4, "take 6"),
            ("dummy-forcing", |s| s.split = 0, "split 0"),
            ("lol", |s| s.rope_jitter = Share::thousandths(1000), "take less than 1"),
            ("id-forcing", |s| s.native_chunks = 1, "take 2 to"),
            (
                "id-forcing",
                |s| (s.last_chunk, s.native_chunks) = (LastChunk::SelfCached, 5),
                "take 1 to 4",
            ),
        ] {
            let found = broken(name, change);
            assert!(found.contains(words), "{name}: {found}");
        }
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
