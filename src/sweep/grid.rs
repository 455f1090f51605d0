//! From lists of values to points: the product of the lists, without what differs in nothing, and which rules it breaks.

use std::collections::{BTreeMap, HashSet};

use super::{Axis, Point, PointSettings, SweepError};
use crate::{
    cache::{Parameter, PolicyName},
    config::Key,
    rollout::{RolloutDefaults, rolling::Asked},
};

/// Most points of a grid.
const MOST: usize = 10_000;
/// Points whose broken rules a message lists.
const LISTED: usize = 3;

/// The parameters of a grid, which can take several values, the slowest first: those of the cache, then the sampler's.
pub fn parameters() -> impl Iterator<Item = &'static Key> {
    let of_grid = |key: &&Key| key.cache_parameter().is_some() || key.name.starts_with("sampler.");
    Key::all().iter().filter(of_grid)
}

/// Model and preset of models, which can take several values as well: a point of its own each, before all parameters.
pub fn systems() -> impl Iterator<Item = &'static Key> {
    ["model", "preset"].into_iter().filter_map(Key::find)
}

/// All that a point may set, the slowest first.
pub fn axis_keys() -> impl Iterator<Item = &'static Key> {
    systems().chain(parameters())
}

/// Whether a parameter has a meaning under a policy.
pub fn has_meaning(policy: PolicyName, key: &Key) -> bool {
    key.cache_parameter().is_none_or(|parameter| policy.has(parameter))
}

/// Values by parameter, as in the config file.
pub type Assignments = BTreeMap<String, String>;

/// A point with a name of its own, in place of values that are combined.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NamedPoint {
    pub label: String,
    pub settings: Assignments,
}

/// What is combined.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Grid {
    /// Each with one value at least, in the order of [`axis_keys`].
    pub axes: Vec<Axis>,
    /// Points that are given one by one; each is combined with all values of the axes.
    pub named: Vec<NamedPoint>,
}

/// What a point comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    pub settings: PointSettings,
    /// Name or folder of the model.
    pub model: String,
    /// The preset that its loop and its other settings are from.
    pub preset: String,
    pub rollout: RolloutDefaults,
}

/// A grid, worked out.
#[derive(Debug, Clone, PartialEq)]
pub struct Points {
    /// Those that break a rule have [`Point::skipped`].
    pub points: Vec<(Point, PointSettings)>,
    /// Combinations that were left out because they differ from a point in nothing that has a meaning there.
    pub merged: usize,
}

impl Grid {
    /// The values that differ between points.
    pub fn differing(&self) -> impl Iterator<Item = &Axis> {
        self.axes.iter().filter(|axis| axis.values.len() > 1)
    }

    /// All points. `resolve` gives model, cache and sampler with the values of a point in place of the model's own.
    ///
    /// # Errors
    /// When there are too many, or `resolve` fails.
    pub fn points<E: From<SweepError>>(
        &self,
        mut resolve: impl FnMut(&Assignments) -> Result<Resolved, E>,
    ) -> Result<Points, E> {
        let mut points: Vec<(Point, PointSettings)> = Vec::new();
        let (mut known, mut names) = (HashSet::new(), HashSet::new());
        let mut merged = 0;
        for (label, assignments) in self.combinations()? {
            let found = resolve(&assignments)?;
            let resolved = described(&found);
            if !known.insert(resolved.clone()) {
                merged += 1;
                continue;
            }
            let (name, label) = self.name(label, &assignments, &found.settings);
            let point = Point {
                name: unique(name, &mut names),
                label,
                settings: set(&assignments, &resolved),
                resolved,
                skipped: broken(&found),
            };
            let settings = found.settings;
            // What a video is made with must not depend on the lists that its point was found by.
            let cache = settings.cache.without_idle();
            points.push((point, PointSettings { cache, ..settings }));
        }
        Ok(Points { points, merged })
    }

    /// Labels of named points, and values.
    fn combinations(&self) -> Result<Vec<(Option<&str>, Assignments)>, SweepError> {
        let mut all: Vec<(Option<&str>, Assignments)> = match self.named.as_slice() {
            [] => vec![(None, Assignments::new())],
            named => {
                let named = named
                    .iter()
                    .map(|point| (Some(point.label.as_str()), point.settings.clone()));
                named.collect()
            }
        };
        let count = self
            .axes
            .iter()
            .fold(all.len(), |count, axis| count.saturating_mul(axis.values.len()));
        if count > MOST {
            return Err(SweepError::TooManyPoints {
                points: count,
                most: MOST,
            });
        }
        for axis in &self.axes {
            let with = |(label, known): &(Option<_>, Assignments), value: &String| {
                let mut assignments = known.clone();
                // What a named point sets itself holds there.
                assignments.entry(axis.key.clone()).or_insert_with(|| value.clone());
                (*label, assignments)
            };
            all = all
                .iter()
                .flat_map(|known| axis.values.iter().map(move |value| with(known, value)))
                .collect();
        }
        Ok(all)
    }

    /// Name and label of a point, from what tells it apart.
    fn name(&self, label: Option<&str>, assignments: &Assignments, settings: &PointSettings) -> (String, String) {
        let mut names: Vec<String> = label.map(folder_name).into_iter().collect();
        let mut labels: Vec<String> = label.map(str::to_owned).into_iter().collect();
        for axis in self.differing() {
            if Key::find(&axis.key).is_some_and(|key| !has_meaning(settings.cache.policy, key)) {
                continue;
            }
            let Some(value) = assignments.get(&axis.key) else {
                continue;
            };
            let short = axis.key.rsplit('.').next().unwrap_or(&axis.key);
            match short {
                // What says by itself what it is of.
                "policy" | "model" | "preset" => {
                    names.push(folder_name(value));
                    labels.push(value.clone());
                }
                _ => {
                    names.push(format!("{short}-{}", folder_name(value)));
                    labels.push(format!("{} {value}", short.replace('-', " ")));
                }
            }
        }
        if names.is_empty() {
            let policy = settings.cache.policy.to_string();
            return (policy.clone(), policy);
        }
        (names.join("-"), labels.join(", "))
    }
}

impl Points {
    /// Refuses a grid without a legal point, and one with an illegal point if `strict`.
    ///
    /// # Errors
    /// With the rules that are broken.
    pub fn check(&self, strict: bool) -> Result<(), SweepError> {
        let illegal: Vec<_> = self
            .points
            .iter()
            .filter_map(|(point, _)| Some(format!("{} ({})", point.label, point.skipped.as_deref()?)))
            .collect();
        let (points, count) = (self.points.len(), illegal.len());
        let mut reasons = illegal[..count.min(LISTED)].join("; ");
        if count > LISTED {
            reasons.push_str(&format!("; and {} more", count - LISTED));
        }
        match count {
            0 => Ok(()),
            _ if count == points => Err(SweepError::NoLegalPoint { points, reasons }),
            illegal if strict => Err(SweepError::Illegal {
                illegal,
                points,
                reasons,
            }),
            _ => Ok(()),
        }
    }
}

/// Every setting of a point that has a meaning there.
fn described(found: &Resolved) -> Assignments {
    let PointSettings { cache, sampler, .. } = &found.settings;
    let own = Parameter::ALL.iter().filter(|parameter| cache.policy.has(parameter));
    let mut described: Assignments = own
        .map(|parameter| (parameter.key.to_owned(), parameter.text(cache)))
        .collect();
    let steps: Vec<_> = sampler.steps.iter().map(u32::to_string).collect();
    described.insert("sampler.steps".into(), steps.join(","));
    described.insert("sampler.shift".into(), sampler.shift.to_string());
    described.insert("model".into(), found.model.clone());
    described.insert("preset".into(), found.preset.clone());
    described
}

/// Those of the settings that the grid sets.
fn set(assignments: &Assignments, resolved: &Assignments) -> Assignments {
    let set = resolved.iter().filter(|(key, _)| assignments.contains_key(*key));
    set.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The rule that the settings break.
fn broken(found: &Resolved) -> Option<String> {
    let PointSettings { cache, sampler, .. } = &found.settings;
    let check = || -> crate::Result<()> {
        // Of the length of a video, rules ask no more than that as many chunks as steps fit into it.
        let chunk = found.rollout.chunk;
        let frames = chunk.saturating_mul(sampler.steps.len().max(1));
        let policy = cache.resolve(chunk, frames)?;
        sampler.validate()?;
        let asked = Asked {
            rollout: found.rollout,
            sampler,
            policy: &policy,
            name: cache.policy,
            frames,
            prompts: 1,
            given: 0,
        };
        Ok(asked.check()?)
    };
    check().err().map(|error| error.to_string())
}

/// A value or label as part of the name of a folder.
pub(super) fn folder_name(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        match c {
            c if c.is_alphanumeric() => name.extend(c.to_lowercase()),
            '.' if !name.is_empty() => name.push('.'),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    name.trim_end_matches(['-', '.']).chars().take(100).collect()
}

/// The name, or with a number behind it if it is taken.
pub(super) fn unique(name: String, taken: &mut HashSet<String>) -> String {
    let name = if name.is_empty() { "point".into() } else { name };
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut free = std::iter::once(name.clone())
        .chain(numbered)
        .filter(|name| !taken.contains(name));
    let name = free.next().unwrap_or(name);
    taken.insert(name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::CacheSettings;
    use crate::config::{Environment, Layer, Layers};
    use crate::models::preset::Preset;

    fn grid(axes: &[(&str, &[&str])]) -> Grid {
        let axis = |(key, values): &(&str, &[&str])| Axis {
            key: key.to_string(),
            values: values.iter().map(|value| value.to_string()).collect(),
        };
        Grid {
            axes: axes.iter().map(axis).collect(),
            named: Vec::new(),
        }
    }

    fn resolve(assignments: &Assignments) -> Result<Resolved, SweepError> {
        let name = assignments.get("preset").map_or("toy", String::as_str);
        let preset = Preset::load(name).unwrap();
        let environment: Environment = [("DEEPFORCING_CONFIG".into(), "/dev/null".into())]
            .into_iter()
            .collect();
        let layer = Layer::of_values(assignments).unwrap();
        let settings = Layers::load(layer, &environment).unwrap().resolve(name, &preset);
        Ok(Resolved {
            settings: PointSettings {
                session: 0,
                cache: settings.cache(),
                sampler: settings.sampler(&preset.sampler),
            },
            model: "toy".into(),
            preset: name.into(),
            rollout: preset.rollout,
        })
    }

    fn points(grid: &Grid) -> Points {
        grid.points(resolve).unwrap()
    }

    fn names(points: &Points) -> Vec<&str> {
        points.points.iter().map(|(point, _)| point.name.as_str()).collect()
    }

    #[test]
    fn a_grid_is_the_product_of_its_lists() {
        let points = points(&grid(&[("cache.window", &["18", "21"]), ("cache.sink", &["0", "10"])]));
        assert_eq!(
            names(&points),
            [
                "window-18-sink-0",
                "window-18-sink-10",
                "window-21-sink-0",
                "window-21-sink-10"
            ]
        );
        let (point, settings) = &points.points[1];
        assert_eq!(point.label, "window 18, sink 10");
        assert_eq!((settings.cache.window, settings.cache.sink), (18, 10));
        assert_eq!(point.settings.len(), 2);
        assert_eq!(point.resolved["cache.budget"], "16");
        assert_eq!(points.check(true), Ok(()));
    }

    #[test]
    fn what_has_no_meaning_does_not_multiply_points() {
        let policies = &["fifo", "sink", "deep-sink", "deep-forcing", "global"][..];
        let points = points(&grid(&[
            ("cache.policy", policies),
            ("cache.sink", &["4", "9"]),
            ("cache.scorer", &["both", "past"]),
            ("cache.positions", &["official"]),
        ]));
        assert_eq!(
            names(&points),
            [
                "fifo",
                "sink-sink-4",
                "sink-sink-9",
                "deep-sink-sink-4",
                "deep-sink-sink-9",
                "deep-forcing-sink-4-scorer-both",
                "deep-forcing-sink-4-scorer-past",
                "deep-forcing-sink-9-scorer-both",
                "deep-forcing-sink-9-scorer-past",
                "global",
            ]
        );
        assert_eq!(points.merged, 20 - 10);
        // The video of a point does not depend on what its policy leaves alone.
        assert_eq!(points.points[0].1.cache.sink, CacheSettings::default().sink);
        assert_eq!(points.points[1].1.cache.sink, 4);
        assert!(!points.points[0].0.settings.contains_key("cache.sink"));
        assert!(points.points[3].0.settings.contains_key("cache.positions"));
    }

    #[test]
    fn illegal_points_are_listed_and_refused_as_asked() {
        let found = points(&grid(&[("cache.sink", &["0", "13", "14"])]));
        let skipped: Vec<_> = found.points.iter().map(|(point, _)| point.skipped.is_some()).collect();
        assert_eq!(skipped, [false, true, true]);
        assert_eq!(found.check(false), Ok(()));
        let error = found.check(true).unwrap_err().to_string();
        for part in [
            "2 of 3 points",
            "sink 13 + recent 4 > budget 16",
            "sink 14 (",
            "--illegal skip",
        ] {
            assert!(error.contains(part), "{error}");
        }
        let none = points(&grid(&[("cache.sink", &["13"])])).check(false).unwrap_err();
        assert!(
            none.to_string()
                .contains("its only point breaks a rule: deep-forcing (sink 13"),
            "{none}"
        );
        let many: Vec<String> = (13..33).map(|sink| sink.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let error = points(&grid(&[("cache.sink", &many)]))
            .check(false)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("all 20 break a rule") && error.contains("and 17 more"),
            "{error}"
        );
    }

    #[test]
    fn named_points_are_combined_with_the_axes() {
        let named = |label: &str, policy: &str| NamedPoint {
            label: label.into(),
            settings: [("cache.policy".to_string(), policy.to_string())].into(),
        };
        let grid = Grid {
            named: vec![
                named("Self Forcing", "fifo"),
                named("+ Deep Sink", "deep-sink"),
                named("deep sink!", "sink"),
            ],
            ..grid(&[("sampler.shift", &["5", "7.5"])])
        };
        let found = points(&grid);
        assert_eq!(names(&found)[..2], ["self-forcing-shift-5", "self-forcing-shift-7.5"]);
        assert_eq!(
            names(&found)[2..5],
            ["deep-sink-shift-5", "deep-sink-shift-7.5", "deep-sink-shift-5-2"]
        );
        assert_eq!(found.points[3].0.label, "+ Deep Sink, shift 7.5");
    }

    #[test]
    fn models_and_presets_are_points_and_loops_have_rules() {
        let found = points(&grid(&[
            ("preset", &["longlive", "rolling-forcing"]),
            ("cache.policy", &["sink-rerope", "fifo"]),
        ]));
        assert_eq!(
            names(&found),
            [
                "longlive-sink-rerope",
                "longlive-fifo",
                "rolling-forcing-sink-rerope",
                "rolling-forcing-fifo"
            ]
        );
        let (point, settings) = &found.points[2];
        assert_eq!(
            (point.resolved["model"].as_str(), point.resolved["preset"].as_str()),
            ("toy", "rolling-forcing")
        );
        assert_eq!(
            (point.settings["preset"].as_str(), settings.cache.window),
            ("rolling-forcing", 21)
        );
        // A rolling window drops no single frames.
        let skipped: Vec<_> = found.points.iter().map(|(point, _)| point.skipped.as_deref()).collect();
        assert_eq!(skipped[..3], [None; 3]);
        assert!(skipped[3].unwrap().contains("policy `fifo`"), "{skipped:?}");
    }

    #[test]
    fn a_grid_of_millions_is_refused_before_it_is_made() {
        let many: Vec<String> = (0..5000).map(|value| value.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let error = grid(&[("cache.sink", &many), ("cache.window", &many)])
            .points(resolve)
            .unwrap_err();
        assert!(matches!(error, SweepError::TooManyPoints { points: 25_000_000, .. }));
    }
}
