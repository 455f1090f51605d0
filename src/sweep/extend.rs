//! A sweep in a folder that holds one already: what is finished stays, new points, prompts and seeds come after it.

use std::collections::{HashMap, HashSet};

use super::{Axis, Point, SweepPlan, SweepPrompt, axis_keys, grid::unique};

/// A plan that goes on from an earlier one.
#[derive(Debug, Clone, PartialEq)]
pub struct Extended {
    pub plan: SweepPlan,
    /// Where the points of the new plan are in it.
    pub points: Vec<usize>,
    /// The same for prompts.
    pub prompts: Vec<usize>,
}

impl Extended {
    /// A plan without an earlier one.
    pub fn new(plan: SweepPlan) -> Self {
        Self {
            points: (0..plan.points.len()).collect(),
            prompts: (0..plan.prompts.len()).collect(),
            plan,
        }
    }
}

impl SweepPlan {
    /// In what all videos of two sweeps differ, one sentence each: they cannot share a folder.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |name: &str, before: String, now: String| {
            if before != now {
                differences.push(format!("{name} was {before}, is {now}"));
            }
        };
        // Of several models, each is a point.
        if self.models().len() == 1 && now.models().len() == 1 {
            compare("model", self.model.clone(), now.model.clone());
        }
        compare("size", self.size.clone(), now.size.clone());
        compare("seconds", self.seconds.to_string(), now.seconds.to_string());
        compare("fps", self.fps.to_string(), now.fps.to_string());
        // There may be 100,000.
        let known: HashMap<&str, &SweepPrompt> = self.prompts.iter().map(|known| (known.id.as_str(), known)).collect();
        for prompt in &now.prompts {
            if let Some(before) = known.get(prompt.id.as_str()) {
                let (id, quoted) = (&prompt.id, |text: &str| format!("\"{text}\""));
                compare(&format!("prompt {id}"), quoted(&before.text), quoted(&prompt.text));
            }
        }
        differences
    }

    /// Goes on from an earlier plan: its points, prompts and seeds stay where they are and those of `self` that are not
    /// among them come last. A point is known by its settings, however its grid was written.
    #[must_use]
    pub fn after(self, earlier: Self) -> Extended {
        let mut plan = Self {
            points: earlier.points,
            prompts: earlier.prompts,
            seeds: earlier.seeds,
            preset: self.preset.or(earlier.preset),
            ..self
        };
        let mut names: HashSet<String> = plan.points.iter().map(|point| point.name.clone()).collect();
        let mut points = Vec::with_capacity(self.points.len());
        for mut point in self.points {
            match plan.points.iter().position(|known| same(known, &point)) {
                Some(at) => {
                    point.name = plan.points[at].name.clone();
                    plan.points[at] = point;
                    points.push(at);
                }
                None => {
                    point.name = unique(point.name, &mut names);
                    points.push(plan.points.len());
                    plan.points.push(point);
                }
            }
        }
        let mut places: HashMap<String, usize> = HashMap::new();
        for (at, known) in plan.prompts.iter().enumerate() {
            places.entry(known.id.clone()).or_insert(at);
        }
        let mut prompts = Vec::with_capacity(self.prompts.len());
        for prompt in self.prompts {
            match places.get(&prompt.id) {
                Some(&at) => {
                    plan.prompts[at] = prompt;
                    prompts.push(at);
                }
                None => {
                    places.insert(prompt.id.clone(), plan.prompts.len());
                    prompts.push(plan.prompts.len());
                    plan.prompts.push(prompt);
                }
            }
        }
        let mut seeds: HashSet<u64> = plan.seeds.iter().copied().collect();
        plan.seeds
            .extend(self.seeds.into_iter().filter(|seed| seeds.insert(*seed)));
        plan.axes = axes(&plan);
        Extended { plan, points, prompts }
    }
}

/// Whether two points are one.
fn same(known: &Point, point: &Point) -> bool {
    let Some(preset) = point
        .resolved
        .get("preset")
        .filter(|_| !known.resolved.contains_key("preset"))
    else {
        return known.resolved == point.resolved;
    };
    // Earlier versions did not note the preset.
    let mut resolved = known.resolved.clone();
    resolved.insert("preset".into(), preset.clone());
    resolved == point.resolved
}

/// The parameters in which points differ, with their values: numbers by size, others as they come.
fn axes(plan: &SweepPlan) -> Vec<Axis> {
    let mut axes = Vec::new();
    for key in axis_keys() {
        let mut values: Vec<String> = Vec::new();
        for value in plan.points.iter().filter_map(|point| point.resolved.get(key.name)) {
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
        let numbers: Option<Vec<f64>> = values.iter().map(|value| value.parse().ok()).collect();
        if numbers.is_some() {
            let number = |value: &String| value.parse().unwrap_or(0.0);
            values.sort_by(|a, b| f64::total_cmp(&number(a), &number(b)));
        }
        if values.len() > 1 {
            let key = key.name.into();
            axes.push(Axis { key, values });
        }
    }
    axes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, sink: &str, window: &str) -> Point {
        let resolved = [("cache.sink", sink), ("cache.window", window), ("model", "toy")];
        Point {
            name: name.into(),
            label: name.into(),
            settings: [("cache.sink".to_string(), sink.to_string())].into(),
            resolved: resolved.map(|(key, value)| (key.to_string(), value.to_string())).into(),
            skipped: None,
        }
    }

    fn plan(points: Vec<Point>, prompts: &[(&str, &str)], seeds: &[u64]) -> SweepPlan {
        let prompt = |(id, text): &(&str, &str)| SweepPrompt {
            id: id.to_string(),
            text: text.to_string(),
        };
        SweepPlan {
            format: super::super::FORMAT,
            deepforcing: "1.0.0".into(),
            command: Vec::new(),
            preset: None,
            model: "toy".into(),
            seconds: 60.0,
            size: "96x96".into(),
            fps: 16.0,
            axes: Vec::new(),
            points,
            prompts: prompts.iter().map(prompt).collect(),
            seeds: seeds.to_vec(),
        }
    }

    #[test]
    fn what_is_there_keeps_its_place() {
        let earlier = plan(
            vec![point("sink-9", "9", "21"), point("sink-14", "14", "21")],
            &[("a", "a"), ("b", "b")],
            &[0, 1],
        );
        let now = plan(
            vec![
                point("sink-4-window-21", "4", "21"),
                point("sink-9-window-21", "9", "21"),
                point("sink-9", "9", "24"),
            ],
            &[("c", "c"), ("a", "a")],
            &[1, 7],
        );
        assert!(earlier.differences(&now).is_empty());
        let Extended { plan, points, prompts } = now.after(earlier);
        let names: Vec<_> = plan.points.iter().map(|point| point.name.as_str()).collect();
        assert_eq!(names, ["sink-9", "sink-14", "sink-4-window-21", "sink-9-2"]);
        assert_eq!((points, prompts), (vec![2, 0, 3], vec![2, 0]));
        assert_eq!(plan.seeds, [0, 1, 7]);
        let axes: Vec<_> = plan
            .axes
            .iter()
            .map(|axis| (axis.key.as_str(), axis.values.join(" ")))
            .collect();
        assert_eq!(
            axes,
            [
                ("cache.window", "21 24".to_string()),
                ("cache.sink", "4 9 14".to_string())
            ]
        );
    }

    #[test]
    fn models_are_points() {
        let of = |name: &str, model: &str, preset: Option<&str>| {
            let mut point = point(name, "9", "21");
            point.resolved.insert("model".into(), model.into());
            let preset = preset.map(|preset| ("preset".to_string(), preset.to_string()));
            point.resolved.extend(preset);
            point
        };
        // As earlier versions wrote it, without the preset.
        let earlier = plan(vec![of("deep-forcing", "toy", None)], &[], &[]);
        let now = SweepPlan {
            model: "toy, longlive".into(),
            ..plan(
                vec![
                    of("longlive", "longlive", Some("longlive")),
                    of("toy", "toy", Some("toy")),
                ],
                &[],
                &[],
            )
        };
        assert!(earlier.differences(&now).is_empty());
        let Extended { plan, points, .. } = now.after(earlier);
        assert_eq!((plan.points.len(), points), (2, vec![1, 0]));
        assert_eq!(plan.points[0].resolved["preset"], "toy");
        assert_eq!(plan.axes[0].values, ["toy", "longlive"]);
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let earlier = plan(vec![], &[("a", "a"), ("b", "b")], &[]);
        let now = SweepPlan {
            seconds: 30.0,
            model: "other".into(),
            ..plan(vec![], &[("b", "c"), ("d", "d")], &[])
        };
        assert_eq!(
            earlier.differences(&now),
            [
                "model was toy, is other",
                "seconds was 60, is 30",
                "prompt b was \"b\", is \"c\""
            ]
        );
    }

    #[test]
    fn a_plan_reads_back_and_damaged_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(SweepPlan::read(folder.path()), Ok(None));
        let mut plan = plan(vec![point("sink-9", "9", "21")], &[("a", "a")], &[0]);
        plan.write(folder.path()).unwrap();
        assert_eq!(SweepPlan::read(folder.path()), Ok(Some(plan.clone())));
        plan.format = 2;
        plan.write(folder.path()).unwrap();
        let error = SweepPlan::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("sweep.json") && error.contains("format 2"), "{error}");
        plan.format = 1;
        for name in ["../../X", "/abs/X", "a/b", "..", ""] {
            for of in ["point", "prompt"] {
                let mut hostile = plan.clone();
                match of {
                    "point" => hostile.points[0].name = name.into(),
                    _ => hostile.prompts[0].id = name.into(),
                }
                hostile.write(folder.path()).unwrap();
                let error = SweepPlan::read(folder.path()).unwrap_err().to_string();
                let says = format!("`{name}` cannot be the name of a {of}");
                assert!(error.contains("sweep.json") && error.contains(&says), "{error}");
            }
        }
        std::fs::write(folder.path().join("sweep.json"), "{").unwrap();
        let error = SweepPlan::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("sweep.json") && error.contains("remove it"), "{error}");
        let none = plan.write(&folder.path().join("none")).unwrap_err().to_string();
        assert!(none.contains("cannot write"), "{none}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
