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
/// the other. [`Item::scene`], [`Item::point`] and [`Item::sample`] are the numbers of prompt, point and seed in the plan.
pub fn items(extended: &Extended, seeds: &[u64]) -> Vec<Item> {
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
    items
}
