//! A policy of one's own, composed of what the others are made of ("Which policy?" among the guides).
//!
//! `keep` says what stays, in order; `memory` what becomes of the frames that leave; `positions` where attention sees it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    knobs::{MEMORIES, Merging, Policy, Pooling, Selection, Weight},
    policy::{Positions, Scorer},
    rules::PolicyError,
    share::Share,
};

/// What stays: `sink 3, memory 2, chosen 4, recent 4`, in this order. All but `recent` may be missing; without a number
/// `recent` is all that is left of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeepList {
    pub sink: usize,
    /// Frames that are averages of what has left.
    pub memory: usize,
    /// Frames' worth of tokens that recent queries attend to.
    pub chosen: usize,
    /// `None`: the rest of the window.
    pub recent: Option<usize>,
}

/// What becomes of the frames that leave: `none`; `sink 0.001`, they are taken into the sink with this weight; or `all 0.01
/// 0.1`, `cell 0.01 0.1`: their mean, over all tokens or over those of a cell, is taken into memory frames, each with its
/// weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemoryRule {
    #[default]
    None,
    Sink(Share),
    Frames {
        pooling: Pooling,
        weights: [Option<Share>; MEMORIES],
    },
}

/// How a list of what stays is written.
pub(super) const KEEP: &str =
    "expected what stays, in order, for example `sink 3, memory 2, recent` or `sink 10, chosen 2, recent 4`";
/// How a rule for what leaves is written.
pub(super) const MEMORY: &str =
    "expected none, `sink 0.001`, `all 0.01 0.1` or `cell 0.01 0.1` (weights of what leaves, 0 to 1)";

impl FromStr for KeepList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut keep = Self::default();
        let (mut before, mut last) = (0, "");
        for part in text.split(',') {
            let mut words = part.split_whitespace();
            let (Some(name), count, None) = (words.next(), words.next(), words.next()) else {
                return Err(KEEP.into());
            };
            let number = count
                .map(|count| count.parse::<usize>())
                .transpose()
                .map_err(|_| KEEP)?;
            let (place, field) = match name {
                "sink" => (1, Some(&mut keep.sink)),
                "memory" => (2, Some(&mut keep.memory)),
                "chosen" => (3, Some(&mut keep.chosen)),
                "recent" => (4, None),
                _ => return Err(KEEP.into()),
            };
            if place <= before {
                return Err(format!("`{name}` cannot come after `{last}`: {KEEP}"));
            }
            match (field, number) {
                (Some(field), Some(number)) => *field = number,
                (Some(_), None) => return Err(format!("`{name}` of how many latent frames? {KEEP}")),
                (None, number) => keep.recent = number,
            }
            (before, last) = (place, name);
        }
        if last != "recent" {
            return Err(format!(
                "the current chunk would be dropped: what stays must end with `recent`; {KEEP}"
            ));
        }
        Ok(keep)
    }
}

impl fmt::Display for KeepList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in [("sink", self.sink), ("memory", self.memory), ("chosen", self.chosen)] {
            if count > 0 {
                write!(f, "{name} {count}, ")?;
            }
        }
        match self.recent {
            Some(count) => write!(f, "recent {count}"),
            None => f.write_str("recent"),
        }
    }
}

impl FromStr for MemoryRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_whitespace();
        let kind = words.next().ok_or(MEMORY)?;
        let shares = words.map(str::parse::<Share>).collect::<Result<Vec<_>, _>>();
        let shares = shares.map_err(|_| MEMORY)?;
        let pooling = match (kind, shares.as_slice()) {
            ("none", []) => return Ok(Self::None),
            ("sink", [share]) => return Ok(Self::Sink(*share)),
            ("all", [_, ..]) => Pooling::All,
            ("cell", [_, ..]) => Pooling::Cell,
            _ => return Err(MEMORY.into()),
        };
        if shares.len() > MEMORIES {
            return Err(format!("at most {MEMORIES} memory frames, not {}", shares.len()));
        }
        let mut weights = [None; MEMORIES];
        for (weight, share) in weights.iter_mut().zip(shares) {
            *weight = Some(share);
        }
        Ok(Self::Frames { pooling, weights })
    }
}

impl fmt::Display for MemoryRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Sink(share) => write!(f, "sink {share}"),
            Self::Frames { pooling, weights } => {
                write!(f, "{pooling}")?;
                weights.iter().flatten().try_for_each(|share| write!(f, " {share}"))
            }
        }
    }
}

/// Written and read as text.
macro_rules! as_text {
    ($($type:ty),+) => {
        $(impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        })+
    };
}

as_text!(KeepList, MemoryRule);

impl KeepList {
    /// The policy that keeps this in a window.
    pub(super) fn policy(self, window: usize, memory: MemoryRule, positions: Positions) -> Policy {
        let merging = match memory {
            MemoryRule::None => None,
            MemoryRule::Sink(weight) => Some(Merging::Sink { weight }),
            MemoryRule::Frames { pooling, weights } => Some(Merging::Memory {
                pooling,
                weights: weights.map(|share| share.map(Weight::Constant)),
            }),
        };
        let selection = self.recent.filter(|_| self.chosen > 0).map(|recent| Selection {
            budget: self.sink.saturating_add(self.chosen).saturating_add(recent),
            recent,
            reuse_limit: 7,
            scorer: Scorer::Both,
        });
        Policy {
            sink: self.sink,
            merging,
            selection,
            placement: positions.placement(),
            ..Policy::last(window)
        }
    }

    /// Checks that list and rule say the same of the memory, and that the parts fill the window.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(super) fn check(self, window: usize, memory: MemoryRule) -> Result<(), PolicyError> {
        let frames = match memory {
            MemoryRule::Frames { weights, .. } => weights.iter().flatten().count(),
            _ => 0,
        };
        match (self.memory, frames) {
            (kept, frames) if kept == frames => {}
            (kept, 0) => return Err(PolicyError::NeverThere { kept }),
            (kept, frames) => return Err(PolicyError::MergedIntoNothing { kept, frames }),
        }
        if matches!(memory, MemoryRule::Sink(_)) && self.sink == 0 {
            return Err(PolicyError::MergedIntoNothing { kept: 0, frames: 1 });
        }
        match self.recent {
            None if self.chosen > 0 => Err(PolicyError::RecentUnsaid),
            Some(_) if self.chosen > 0 && self.memory > 0 => Err(PolicyError::ChosenAndMerged),
            Some(recent) if self.chosen == 0 => {
                let rest = window.saturating_sub(self.sink + self.memory);
                if recent == rest {
                    return Ok(());
                }
                Err(PolicyError::RecentIsRest { recent, rest })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheSettings, PolicyName};

    fn custom(toml: &str) -> Result<Policy, String> {
        let settings: CacheSettings = toml::from_str(toml).map_err(|error| error.to_string())?;
        settings.resolve(3, 240).map_err(|error| error.to_string())
    }

    fn named(name: PolicyName) -> Policy {
        let chosen = CacheSettings {
            policy: name,
            ..CacheSettings::default()
        };
        name.released().over(&chosen).resolve(3, 240).unwrap()
    }

    /// The two worked examples of the guide: the same knobs, and so the same video to the bit.
    #[test]
    fn other_policies_can_be_written_down() {
        let page = include_str!("../../docs/policies.md");
        let examples: Vec<_> = page
            .split("```toml")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .map(|example| example.replace("[cache]", ""))
            .collect();
        let found: Vec<_> = examples.iter().map(|example| custom(example)).collect();
        assert_eq!(found, [Ok(named(PolicyName::DeepSink)), Ok(named(PolicyName::Memrope))]);
    }

    #[test]
    fn a_compression_can_be_written_down() {
        let compressing = "policy = 'custom'\nwindow = 21\nkeep = 'sink 10, chosen 2, recent 4'";
        assert_eq!(custom(compressing), Ok(named(PolicyName::DeepForcing)));
    }

    #[test]
    fn texts_are_read_as_they_are_written() {
        for text in ["recent", "sink 3, memory 2, recent", "sink 10, chosen 2, recent 4"] {
            assert_eq!(text.parse::<KeepList>().unwrap().to_string(), text);
        }
        for text in ["none", "sink 0.001", "all 0.01 0.1", "cell 0.5"] {
            assert_eq!(text.parse::<MemoryRule>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_rule() {
        for (toml, words) in [
            ("keep = 'sink 3'", "current chunk would be dropped"),
            ("keep = 'recent, sink 3'", "cannot come after"),
            ("keep = 'sink, recent'", "of how many"),
            ("keep = 'sink 3, memory 2, recent'", "was never there"),
            ("keep = 'sink 3, recent'\nmemory = 'all 0.1'", "into nothing"),
            (
                "keep = 'sink 3, memory 1, recent'\nmemory = 'all 0.1 0.2'",
                "2 memory frames",
            ),
            ("keep = 'recent'\nmemory = 'sink 0.1'", "into nothing"),
            ("keep = 'sink 3, chosen 2, recent'", "how many recent"),
            ("keep = 'sink 3, recent 4'", "recent 4"),
            ("keep = 'sink 20, recent'", "sink 20"),
            ("memory = 'all 1.5'", "weights of what leaves"),
            ("memory = 'all 0 0 0 0 0'", "at most 4"),
        ] {
            let error = custom(&format!("policy = 'custom'\nwindow = 21\n{toml}")).unwrap_err();
            assert!(error.contains(words), "{toml}: {error}");
        }
    }
}
