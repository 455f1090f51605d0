//! The parameters of a cache: one table, from which come [`CacheSettings`], the flags, the keys of config files and
//! sweeps, the environment variables, and what recipes, reports and messages say of them.
//!
//! A new parameter is a row of the table, and its use in a row of [`super::policy`].

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    custom::{KEEP, KeepList, MEMORY, MemoryRule},
    knobs::{CUT, Draw, LastChunk, Pooling, Roll},
    policy::{PolicyName, Positions, Scorer},
    profile::HeadProfile,
    share::Share,
};

/// A parameter of the cache, as people and programs see it.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// `reuse-limit`: in recipes, and as a flag behind two dashes.
    pub name: &'static str,
    /// `cache.reuse-limit`: as a setting.
    pub key: &'static str,
    /// What it means, in a few words.
    pub about: &'static str,
    pub kind: Kind,
    /// The field of [`CacheSettings`].
    field: &'static str,
    sentence: &'static str,
    text: fn(&CacheSettings) -> String,
    read: fn(&mut CacheChanges, &str) -> Result<(), String>,
    given: fn(&CacheChanges) -> bool,
    copy: fn(&mut CacheSettings, &CacheSettings),
}

/// Which values a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whole numbers from 0 on.
    Number { most: u64 },
    /// Numbers from 0 to 1.
    Share,
    /// A file, or what was read of it.
    File,
    /// Words in an order of their own.
    Text {
        /// For messages.
        expected: &'static str,
        /// A value that is not the default.
        example: &'static str,
    },
    /// One of a few names.
    Word {
        names: &'static [&'static str],
        /// What stands for the value in `--help`.
        placeholder: &'static str,
    },
}

impl Kind {
    /// What stands for a value in `--help`.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Number { .. } => "N",
            Self::Share => "SHARE",
            Self::File => "FILE",
            Self::Text { .. } => "LIST",
            Self::Word { placeholder, .. } => placeholder,
        }
    }

    /// What should have been written, for a message.
    fn expected(self) -> String {
        match self {
            Self::Number { most } => format!("expected a whole number from 0 to {most}"),
            Self::Share => "expected a number from 0 to 1".into(),
            Self::File => "expected a file".into(),
            Self::Text { expected, .. } => expected.into(),
            Self::Word { names, .. } => format!("expected one of {}", names.join(", ")),
        }
    }
}

/// A type of parameters.
trait Type: FromStr + fmt::Display {
    const KIND: Kind;

    fn read(text: &str) -> Result<Self, String> {
        text.trim().parse().map_err(|_| Self::KIND.expected())
    }
}

/// Makes [`CacheSettings`], [`CacheChanges`] and [`Parameter::ALL`] from one table: a sentence for `--help`, the field
/// with its type and default, the name and what it means in a few words.
macro_rules! parameters {
    ($(#[doc = $sentence:literal] $field:ident: $type:ty = $default:expr, $name:literal, $about:literal;)+) => {
        /// A policy's parameters as users give them, before the rules are checked. Parameters that a policy does not
        /// have are ignored by it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct CacheSettings {
            $(#[doc = $sentence] #[serde(rename = $name)] pub $field: $type,)+
        }

        impl Default for CacheSettings {
            /// The paper's: window 21, sink 10, budget 16, recent 4; reuse limit and positions of the released code.
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        /// The parameters that somebody gives; others stay as they are.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct CacheChanges {
            $(#[doc = $sentence] pub $field: Option<$type>,)+
        }

        impl CacheChanges {
            /// What turns `before` into `after`.
            pub fn between(before: &CacheSettings, after: &CacheSettings) -> Self {
                Self { $($field: (before.$field != after.$field).then_some(after.$field),)+ }
            }

            /// These changes, and those of `weaker` to what these leave alone.
            #[must_use]
            pub fn or(&self, weaker: &Self) -> Self {
                Self { $($field: self.$field.or(weaker.$field),)+ }
            }

            /// `settings` with these changes.
            pub fn over(&self, settings: &CacheSettings) -> CacheSettings {
                CacheSettings { $($field: self.$field.unwrap_or(settings.$field),)+ }
            }
        }

        impl From<CacheSettings> for CacheChanges {
            /// Gives every parameter.
            fn from(settings: CacheSettings) -> Self {
                Self { $($field: Some(settings.$field),)+ }
            }
        }

        impl Parameter {
            /// Every parameter, in the order in which they are listed everywhere.
            pub const ALL: &'static [Self] = &[$(Self {
                name: $name,
                key: concat!("cache.", $name),
                about: $about,
                kind: <$type as Type>::KIND,
                field: stringify!($field),
                sentence: $sentence,
                text: |settings| settings.$field.to_string(),
                read: |changes, text| {
                    changes.$field = Some(<$type as Type>::read(text)?);
                    Ok(())
                },
                given: |changes| changes.$field.is_some(),
                copy: |to, from| to.$field = from.$field,
            },)+];
        }
    };
}

parameters! {
    /// Which frames stay
    policy: PolicyName = PolicyName::DeepForcing, "policy", "which latent frames stay";
    /// Frames attended to, the current chunk included
    window: usize = 21, "window", "latent frames attended to";
    /// First frames that always stay
    sink: usize = 10, "sink", "first latent frames, which stay";
    /// Frames left by a compression
    budget: usize = 16, "budget", "latent frames left by a compression";
    /// Last frames that always stay; their queries score
    recent: usize = 4, "recent", "last latent frames, which stay";
    /// Times that a token may be chosen again, 0 for no limit
    reuse_limit: u32 = 7, "reuse-limit", "times that a token may be chosen again";
    /// Temporal positions of moved tokens
    positions: Positions = Positions::Official, "positions", "temporal positions of moved tokens";
    /// Queries that score
    scorer: Scorer = Scorer::Both, "scorer", "queries that score";
    /// Position of the first chunk after a cut, counted from the first frame held
    cut_position: usize = CUT, "cut-position", "temporal position of the first chunk of a scene";
    /// Chunks made in the model's own way first
    native_chunks: usize = 7, "native-chunks", "chunks made in the model's own way first";
    /// How the chunk before the current one is made for the window
    last_chunk: LastChunk = LastChunk::ReEncoded, "last-chunk", "how the last chunk is made for the window";
    /// Spread of the heads' temporal bases
    rope_jitter: Share = Share::thousandths(800), "rope-jitter", "spread of the heads' temporal bases";
    /// Whether layers share the bases of their heads
    jitter_draw: Draw = Draw::Shared, "jitter-draw", "whether layers share the bases of their heads";
    /// Weight of what leaves in the long memory
    alpha_long: Share = Share::thousandths(10), "alpha-long", "weight of what leaves in the long memory";
    /// Weight of what leaves in the short memory
    alpha_short: Share = Share::thousandths(100), "alpha-short", "weight of what leaves in the short memory";
    /// Which tokens that leave become one
    pooling: Pooling = Pooling::All, "pooling", "which tokens that leave become one";
    /// Weight of the old sink where a chunk leaves
    alpha: Share = Share::thousandths(999), "alpha", "weight of the old sink where a chunk leaves";
    /// Order in which the first frames are played
    roll: Roll = Roll::ToAndFro, "roll", "order in which the first frames are played";
    /// Share of the heads that see the last frame alone
    dummies: Share = Share::thousandths(500), "dummies", "share of the heads that see the last frame alone";
    /// Last frames that local heads see
    local: usize = 3, "local", "last latent frames that local heads see";
    /// Static and dynamic heads of the model: a file that lists them
    heads: HeadProfile = HeadProfile::default(), "heads", "static and dynamic heads of the model";
    /// Last frames that static heads see
    static_frames: usize = 1, "static", "last latent frames that static heads see";
    /// Changed patches that dynamic heads see, in frames
    changed: usize = 1, "changed", "latent frames' worth of changed patches for dynamic heads";
    /// Patches of a frame
    patches: usize = 6, "patches", "patches of a latent frame";
    /// What stays, in order
    keep: KeepList = KeepList::default(), "keep", "what stays, in order";
    /// What becomes of frames that leave
    memory: MemoryRule = MemoryRule::None, "memory", "what becomes of frames that leave";
    /// Number of the last chunk that all heads see alike
    split: usize = 1, "split", "last chunk that all heads see alike";
}

impl Type for usize {
    const KIND: Kind = Kind::Number { most: Self::MAX as u64 };
}

impl Type for u32 {
    const KIND: Kind = Kind::Number { most: Self::MAX as u64 };
}

impl Type for KeepList {
    const KIND: Kind = Kind::Text {
        expected: KEEP,
        example: "sink 3, recent",
    };

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

impl Type for MemoryRule {
    const KIND: Kind = Kind::Text {
        expected: MEMORY,
        example: "all 0.5",
    };

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

impl Type for HeadProfile {
    const KIND: Kind = Kind::File;

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

impl Type for Share {
    const KIND: Kind = Kind::Share;
}

/// Types that are one of a few names.
macro_rules! words {
    ($($type:ty: $placeholder:literal),+ $(,)?) => {
        $(impl Type for $type {
            const KIND: Kind = Kind::Word {
                names: Self::NAMES,
                placeholder: $placeholder,
            };
        })+
    };
}

words! {
    PolicyName: "NAME",
    Positions: "RULE",
    Scorer: "NAME",
    LastChunk: "RULE",
    Draw: "RULE",
    Pooling: "RULE",
    Roll: "ORDER",
}

impl Parameter {
    /// The parameter whose [`Parameter::key`] this is.
    pub fn of_key(key: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|parameter| parameter.key == key)
    }

    /// The name as words of a sentence: `reuse limit`.
    pub fn words(&self) -> String {
        self.name.replace('-', " ")
    }

    /// For `--help`: what it is, which names it takes, and whose it is unless half of the policies have it.
    pub fn help(&self) -> String {
        let mut help = self.sentence.trim().to_owned();
        if let Kind::Word { names, .. } = self.kind {
            help += &format!(": {}", alternatives(names));
        }
        let having = PolicyName::ALL.iter().filter(|policy| policy.has(self));
        let having: Vec<_> = having.map(PolicyName::to_string).collect();
        if 2 * having.len() < PolicyName::ALL.len() {
            help += &format!(" ({})", having.join(", "));
        }
        help
    }

    /// The value as it is written everywhere.
    pub fn text(&self, settings: &CacheSettings) -> String {
        (self.text)(settings)
    }

    /// The value that `text` means, as it is written everywhere.
    ///
    /// # Errors
    /// What was expected instead of the text.
    pub fn normal(&self, text: &str) -> Result<String, String> {
        let mut changes = CacheChanges::default();
        changes.read(self, text)?;
        Ok(self.text(&changes.over(&CacheSettings::default())))
    }
}

/// Names in a sentence: `a, b or c`.
fn alternatives(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        names => names.concat(),
    }
}

impl PolicyName {
    /// Whether a parameter has a meaning under this policy.
    pub fn has(self, parameter: &Parameter) -> bool {
        parameter.field == "policy" || self.fields().contains(&parameter.field)
    }

    /// The parameters that have a meaning under this policy, but for the policy itself.
    pub fn parameters(self) -> impl Iterator<Item = &'static Parameter> {
        let own = move |parameter: &&Parameter| self.fields().contains(&parameter.field);
        Parameter::ALL.iter().filter(own)
    }
}

impl CacheChanges {
    /// Gives a parameter the value that `text` means.
    ///
    /// # Errors
    /// What was expected instead of the text.
    pub fn read(&mut self, parameter: &Parameter, text: &str) -> Result<(), String> {
        (parameter.read)(self, text)
    }

    /// Whether it gives a parameter.
    pub fn gives(&self, parameter: &Parameter) -> bool {
        (parameter.given)(self)
    }
}

impl CacheSettings {
    /// The same where parameters that have no meaning under the policy are as if nobody had set them: what a video is
    /// made with must not depend on them.
    #[must_use]
    pub fn without_idle(mut self) -> Self {
        let plain = Self::default();
        let policy = self.policy;
        for parameter in Parameter::ALL.iter().filter(|parameter| !policy.has(parameter)) {
            (parameter.copy)(&mut self, &plain);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> &'static Parameter {
        Parameter::ALL.iter().find(|parameter| parameter.name == name).unwrap()
    }

    /// A value that is not the default.
    fn other(parameter: &Parameter) -> String {
        let default = parameter.text(&CacheSettings::default());
        match parameter.kind {
            Kind::Number { .. } => (default.parse::<u64>().unwrap() + 1).to_string(),
            Kind::Share => "0.3125".into(),
            Kind::File => "1x4:5".into(),
            Kind::Text { example, .. } => example.into(),
            Kind::Word { names, .. } => names.iter().find(|name| **name != default).unwrap().to_string(),
        }
    }

    fn changed(parameter: &Parameter) -> CacheSettings {
        let mut changes = CacheChanges::default();
        assert!(!changes.gives(parameter));
        changes.read(parameter, &other(parameter)).unwrap();
        let gives: Vec<_> = Parameter::ALL.iter().filter(|any| changes.gives(any)).collect();
        assert_eq!((gives.len(), gives[0].name), (1, parameter.name));
        changes.over(&CacheSettings::default())
    }

    #[test]
    fn every_parameter_is_read_written_and_compared_alone() {
        let default = CacheSettings::default();
        for parameter in Parameter::ALL {
            let settings = changed(parameter);
            for any in Parameter::ALL {
                let differs = any.text(&settings) != any.text(&default);
                assert_eq!(
                    differs,
                    any.name == parameter.name,
                    "{} and {}",
                    any.name,
                    parameter.name
                );
            }
            let changes = CacheChanges::between(&default, &settings);
            assert!(changes.gives(parameter));
            assert_eq!(changes.over(&default), settings);
            assert_eq!(CacheChanges::from(settings).over(&default), settings);
            assert_eq!(
                parameter.normal(&format!(" {} ", other(parameter))).unwrap(),
                other(parameter)
            );
            // In files by the same name, as a number or a text.
            let json = serde_json::to_value(settings).unwrap();
            let written = &json[parameter.name];
            let text = written.as_str().map_or_else(|| written.to_string(), str::to_owned);
            assert_eq!(text, other(parameter));
            assert_eq!(serde_json::from_value::<CacheSettings>(json).unwrap(), settings);
        }
    }

    #[test]
    fn values_that_are_none_are_refused_by_what_was_expected() {
        let refused = |name: &str, text: &str| named(name).normal(text).unwrap_err();
        assert_eq!(
            refused("reuse-limit", "-1"),
            "expected a whole number from 0 to 4294967295"
        );
        assert_eq!(
            refused("reuse-limit", "4294967296"),
            "expected a whole number from 0 to 4294967295"
        );
        assert!(refused("window", "a").contains("whole number from 0 to"));
        assert_eq!(refused("positions", "here"), "expected one of official, paper, own");
    }

    #[test]
    fn help_says_which_names_and_whose() {
        let policies = named("policy").help();
        assert!(policies.starts_with("Which frames stay: global, fifo, "), "{policies}");
        assert!(policies.contains(" or "), "{policies}");
        assert_eq!(named("sink").help(), "First frames that always stay");
        assert_eq!(named("budget").help(), "Frames left by a compression (deep-forcing)");
        assert_eq!(
            named("positions").help(),
            "Temporal positions of moved tokens: official, paper or own (deep-sink, deep-forcing, custom)"
        );
        assert_eq!(alternatives(&["alone"]), "alone");
    }

    /// What is said to have no meaning changes nothing, and what is said to have one does.
    #[test]
    fn meanings_are_those_of_the_policies() {
        for policy in PolicyName::ALL {
            let base = CacheSettings {
                policy: *policy,
                ..CacheSettings::default()
            };
            for parameter in Parameter::ALL.iter().filter(|parameter| parameter.name != "policy") {
                let mut changes = CacheChanges::default();
                changes.read(parameter, &other(parameter)).unwrap();
                let settings = changes.over(&base);
                let differs = settings.knobs(3, 30) != base.knobs(3, 30);
                assert_eq!(differs, policy.has(parameter), "{policy} {}", parameter.name);
                assert_eq!(settings.without_idle() == base, !differs, "{policy} {}", parameter.name);
            }
        }
    }

    #[test]
    fn every_field_of_a_policy_is_a_parameter() {
        for policy in PolicyName::ALL {
            assert_eq!(policy.parameters().count(), policy.fields().len(), "{policy}");
        }
    }
}
