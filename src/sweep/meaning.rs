//! Which parameters have a meaning under which policy.

use super::{Assignments, PointSettings};
use crate::cache::{CacheSettings, PolicyName};

/// Whether a parameter has a meaning under a policy.
pub(super) fn has_meaning(policy: PolicyName, key: &str) -> bool {
    match key.strip_prefix("cache.") {
        Some("policy") | None => true,
        Some(parameter) => policy.fields().contains(&parameter.replace('-', "_").as_str()),
    }
}

/// Settings without a meaning under their policy as if nobody had set them: what a video is made with must not depend
/// on the lists that its point was found by.
pub(super) fn meant(mut cache: CacheSettings) -> CacheSettings {
    let plain = CacheSettings::default();
    let policy = cache.policy;
    let lacks = |key| !has_meaning(policy, key);
    if lacks("cache.window") {
        cache.window = plain.window;
    }
    if lacks("cache.sink") {
        cache.sink = plain.sink;
    }
    if lacks("cache.budget") {
        cache.budget = plain.budget;
    }
    if lacks("cache.recent") {
        cache.recent = plain.recent;
    }
    if lacks("cache.reuse-limit") {
        cache.reuse_limit = plain.reuse_limit;
    }
    if lacks("cache.positions") {
        cache.positions = plain.positions;
    }
    if lacks("cache.scorer") {
        cache.scorer = plain.scorer;
    }
    cache
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
