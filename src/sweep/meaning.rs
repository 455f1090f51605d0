//! Which parameters have a meaning under which policy.

use super::{Assignments, PointSettings};
use crate::cache::{CacheSettings, PolicyName};

/// Whether a parameter has a meaning under a policy.
pub(super) fn has_meaning(policy: PolicyName, key: &str) -> bool {
    let parameters: &[&str] = match policy {
        PolicyName::Global => &[],
        PolicyName::Fifo => &["window"],
        PolicyName::Sink | PolicyName::SinkRerope => &["window", "sink"],
        PolicyName::DeepSink => &["window", "sink", "positions"],
        PolicyName::DeepForcing => &[
            "window",
            "sink",
            "budget",
            "recent",
            "reuse-limit",
            "positions",
            "scorer",
        ],
    };
    match key.strip_prefix("cache.") {
        Some("policy") | None => true,
        Some(parameter) => parameters.contains(&parameter),
    }
}

/// Settings without a meaning under their policy as if nobody had set them: what a video is made with must not depend
/// on the lists that its point was found by.
pub(super) fn meant(cache: CacheSettings) -> CacheSettings {
    let has = |key| has_meaning(cache.policy, key);
    let plain = CacheSettings::default();
    CacheSettings {
        policy: cache.policy,
        window: if has("cache.window") {
            cache.window
        } else {
            plain.window
        },
        sink: if has("cache.sink") { cache.sink } else { plain.sink },
        budget: if has("cache.budget") {
            cache.budget
        } else {
            plain.budget
        },
        recent: if has("cache.recent") {
            cache.recent
        } else {
            plain.recent
        },
        reuse_limit: if has("cache.reuse-limit") {
            cache.reuse_limit
        } else {
            plain.reuse_limit
        },
        positions: if has("cache.positions") {
            cache.positions
        } else {
            plain.positions
        },
        scorer: if has("cache.scorer") {
            cache.scorer
        } else {
            plain.scorer
        },
    }
}

/// Every setting of a point that has a meaning there.
pub(super) fn described(settings: &PointSettings) -> Assignments {
    let PointSettings { cache, sampler } = settings;
    let steps: Vec<_> = sampler.steps.iter().map(u32::to_string).collect();
    let all = [
        ("cache.policy", cache.policy.to_string()),
        ("cache.window", cache.window.to_string()),
        ("cache.sink", cache.sink.to_string()),
        ("cache.budget", cache.budget.to_string()),
        ("cache.recent", cache.recent.to_string()),
        ("cache.reuse-limit", cache.reuse_limit.to_string()),
        ("cache.positions", cache.positions.to_string()),
        ("cache.scorer", cache.scorer.to_string()),
        ("sampler.steps", steps.join(",")),
        ("sampler.shift", sampler.shift.to_string()),
    ];
    let meant = all.into_iter().filter(|(key, _)| has_meaning(cache.policy, key));
    meant.map(|(key, value)| (key.to_owned(), value)).collect()
}
