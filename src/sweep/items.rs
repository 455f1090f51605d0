//! The videos of a plan.

use std::collections::HashMap;

use super::{Extended, SweepPrompt};
use crate::{
    batch::{BatchError, Item, Naming, items as batch_items},
    prompts::Scene,
};

/// The prompts of a sweep, by the names of their videos.
///
/// # Errors
/// When two have one name.
pub fn prompts(scenes: &[Scene], extension: &str) -> Result<Vec<SweepPrompt>, BatchError> {
    // Named as in a batch. Seeds do not matter here, and those of the scenes could be too large for nothing.
    let named = batch_items(scenes, 1, Naming::Index, extension, 0)?.items;
    let prompt = |item: Item| SweepPrompt {
        text: scenes[item.scene].title().into(),
        id: item.stem,
    };
    Ok(named.into_iter().map(prompt).collect())
}

/// The videos of a sweep with `seeds`: prompt by prompt, seed by seed, so that what is to be compared is made one after
/// the other; but what is loaded for some points (`load` gives it a number for the place of a point in the plan) is loaded
/// once, so that all videos of these follow each other. [`Item::scene`], [`Item::point`] and [`Item::sample`] are the
/// numbers of prompt, point and seed in the plan.
pub fn items(extended: &Extended, seeds: &[u64], load: impl Fn(usize) -> usize) -> Vec<Item> {
    let plan = &extended.plan;
    let numbers: HashMap<u64, u32> = plan.seeds.iter().copied().zip(0..).collect();
    let mut items = Vec::new();
    for &prompt in &extended.prompts {
        for seed in seeds {
            for &at in &extended.points {
                let point = &plan.points[at];
                if point.skipped.is_some() {
                    continue;
                }
                items.push(Item {
                    scene: prompt,
                    sample: numbers.get(seed).copied().unwrap_or(0),
                    seed: *seed,
                    point: Some(at),
                    stem: format!("{}/{}-seed{seed}", point.name, plan.prompts[prompt].id),
                });
            }
        }
    }
    items.sort_by_key(|item| item.point.map(&load));
    items
}

#[cfg(test)]
mod tests {
    use super::super::{FORMAT, Point, SweepPlan};
    use super::*;

    #[test]
    fn what_is_loaded_is_loaded_once() {
        let point = |name: &str| Point {
            name: name.into(),
            label: name.into(),
            settings: Default::default(),
            resolved: Default::default(),
            skipped: None,
        };
        let prompt = |id: &str| SweepPrompt {
            id: id.into(),
            text: id.into(),
        };
        let plan = SweepPlan {
            format: FORMAT,
            deepforcing: String::new(),
            command: Vec::new(),
            preset: None,
            model: String::new(),
            seconds: 5.0,
            size: "96x96".into(),
            fps: 16.0,
            axes: Vec::new(),
            points: ["self", "rolling", "deep"].map(point).into(),
            prompts: ["a", "b"].map(prompt).into(),
            seeds: vec![0],
        };
        // The first and the last have the same weights.
        let items = items(&Extended::new(plan), &[0], |point| [0, 1, 0][point]);
        let stems: Vec<_> = items.iter().map(|item| item.stem.as_str()).collect();
        assert_eq!(
            stems,
            [
                "self/a-seed0",
                "deep/a-seed0",
                "self/b-seed0",
                "deep/b-seed0",
                "rolling/a-seed0",
                "rolling/b-seed0"
            ]
        );
    }
}
