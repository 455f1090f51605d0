//! The videos of a batch and their file names.

use std::{collections::HashMap, str::FromStr};

use super::BatchError;
use crate::prompts::{Scene, safe_file_name};

/// Longest file name of usual file systems, in bytes.
const LONGEST: usize = 255;
/// Digits of an index: names stay when a list grows.
const DIGITS: usize = 5;

/// How files are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// The id or number of a prompt in its file (from 0), and the number of the sample when there are several.
    #[default]
    Index,
    /// `{prompt}-{sample}`, as VBench looks for videos.
    Vbench,
}

impl FromStr for Naming {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "index" => Ok(Self::Index),
            "vbench" => Ok(Self::Vbench),
            _ => Err("expected index or vbench".into()),
        }
    }
}

/// A video of a batch or sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Number of the prompt in its file, from 0.
    pub scene: usize,
    /// Number of the sample, from 0.
    pub sample: u32,
    pub seed: u64,
    /// Number of the point of a sweep, from 0.
    pub point: Option<usize>,
    /// File name without extension; a point's folder stands before it.
    pub stem: String,
}

impl Item {
    /// The name of the file.
    pub fn file(&self, extension: &str) -> String {
        format!("{}.{extension}", self.stem)
    }

    /// What the item's prompt is called in a sweep: its file's name without folder and seed.
    pub(super) fn prompt_id(&self) -> Option<&str> {
        self.point?;
        let (_, name) = self.stem.split_once('/')?;
        name.strip_suffix(&format!("-seed{}", self.seed))
    }
}

/// The videos of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Items {
    pub items: Vec<Item>,
    /// Scenes that are as an earlier one in every way, with that one; they are no items.
    pub repeats: Vec<(usize, usize)>,
}

impl Items {
    /// What the user should be told of the repeats.
    pub fn note(&self, scenes: &[Scene]) -> Option<String> {
        /// Repeats that are named.
        const SHOWN: usize = 5;
        let label = |index: usize| scenes.get(index).map_or_else(String::new, |scene| scene.label(index));
        let named: Vec<_> = self.repeats.iter().take(SHOWN).collect();
        let named = named
            .iter()
            .map(|(first, again)| format!("{} is as {}", label(*again), label(*first)));
        let named = named.collect::<Vec<_>>().join("; ");
        let more = if self.repeats.len() > SHOWN { "; …" } else { "" };
        match self.repeats.len() {
            0 => None,
            1 => Some(format!(
                "a prompt stands in the list twice and is rendered once: {named}"
            )),
            count => Some(format!(
                "{count} prompts stand in the list before and are rendered once: {named}{more}"
            )),
        }
    }
}

/// All videos of `scenes`, `samples` of each with seeds that follow each other; `seed` is that of scenes without one.
///
/// A scene that would make the same video under the same name as an earlier one (benchmark lists repeat prompts) is left
/// out.
///
/// # Errors
/// When two different videos would get one name, or a seed would be too large.
pub fn items(scenes: &[Scene], samples: u32, naming: Naming, extension: &str, seed: u64) -> Result<Items, BatchError> {
    let mut items = Vec::with_capacity(scenes.len() * samples as usize);
    let mut repeats = Vec::new();
    let mut taken: HashMap<String, usize> = HashMap::new();
    'scenes: for (index, scene) in scenes.iter().enumerate() {
        let first = scene.seed.unwrap_or(seed);
        if first.checked_add(u64::from(samples.saturating_sub(1))).is_none() {
            return Err(BatchError::Seed {
                item: scene.label(index),
                seed: first,
                samples,
            });
        }
        for sample in 0..samples {
            let item = Item {
                scene: index,
                sample,
                seed: first + u64::from(sample),
                point: None,
                stem: stem(scene, index, sample, samples, naming, extension),
            };
            if let Some(other) = taken.insert(compared(&item.stem), index) {
                if naming == Naming::Vbench && is_repeat(&scenes[other], scene, seed) {
                    repeats.push((other, index));
                    // The first stays the one that later ones are compared with.
                    taken.insert(compared(&item.stem), other);
                    continue 'scenes;
                }
                return Err(BatchError::Collision {
                    first: scenes[other].label(other),
                    second: scene.label(index),
                    name: item.file(extension),
                    advice: match naming {
                        Naming::Index => "give them different ids",
                        Naming::Vbench => "leave one of them out, or name files by --naming index",
                    },
                });
            }
            items.push(item);
        }
    }
    Ok(Items { items, repeats })
}

/// Whether two scenes make the same video; `seed` is that of scenes without one.
fn is_repeat(one: &Scene, other: &Scene, seed: u64) -> bool {
    one.segments == other.segments
        && one.seed.unwrap_or(seed) == other.seed.unwrap_or(seed)
        && one.seconds == other.seconds
        && one.image == other.image
        && one.actions == other.actions
}

fn stem(scene: &Scene, index: usize, sample: u32, samples: u32, naming: Naming, extension: &str) -> String {
    match naming {
        Naming::Index => {
            let name = scene
                .id
                .as_deref()
                .map_or_else(|| format!("{index:0DIGITS$}"), safe_file_name);
            match samples {
                1 => name,
                _ => format!("{name}-{sample}"),
            }
        }
        Naming::Vbench => {
            let end = format!("-{sample}");
            let room = LONGEST.saturating_sub(end.len() + 1 + extension.len());
            format!("{}{end}", vbench_name(scene.title(), room))
        }
    }
}

/// The prompt as it is, save what cannot be in a file name (or would hide the file), in at most `room` bytes.
fn vbench_name(prompt: &str, room: usize) -> String {
    let replaced = prompt.chars().map(|c| match c {
        '/' => '_',
        c if c.is_control() => '_',
        c => c,
    });
    let mut name: String = replaced.collect();
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    while name.len() > room {
        name.pop();
    }
    name
}

/// The form in which names are equal; two systems ignore case.
fn compared(name: &str) -> String {
    match cfg!(any(target_os = "macos", windows)) {
        true => name.to_lowercase(),
        false => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(prompts: &[&str], samples: u32, naming: Naming) -> Result<Vec<String>, String> {
        let scenes: Vec<_> = prompts.iter().map(|prompt| Scene::of_prompt(*prompt)).collect();
        let items = items(&scenes, samples, naming, "mp4", 5).map_err(|error| error.to_string())?;
        Ok(items.items.iter().map(|item| item.file("mp4")).collect())
    }

    #[test]
    fn names_are_numbers_or_prompts() {
        assert_eq!(
            names(&["a", "b"], 1, Naming::Index).unwrap(),
            ["00000.mp4", "00001.mp4"]
        );
        assert_eq!(
            names(&["a b", "c/d?", ".x"], 2, Naming::Vbench).unwrap(),
            [
                "a b-0.mp4",
                "a b-1.mp4",
                "c_d?-0.mp4",
                "c_d?-1.mp4",
                "_x-0.mp4",
                "_x-1.mp4"
            ]
        );
        let scene = Scene {
            id: Some("x/y".into()),
            seed: Some(9),
            ..Scene::of_prompt("a")
        };
        let found = items(&[scene], 2, Naming::Index, "gif", 5).unwrap().items;
        let found: Vec<_> = found.iter().map(|item| (item.file("gif"), item.seed)).collect();
        assert_eq!(found, [("x_y-0.gif".into(), 9), ("x_y-1.gif".into(), 10)]);
    }

    #[test]
    fn long_prompts_fit_into_names() {
        let long = "é".repeat(400);
        let [name] = names(&[&long], 1, Naming::Vbench).unwrap().try_into().unwrap();
        assert!(
            name.len() <= 255 && name.len() > 252 && name.ends_with("é-0.mp4"),
            "{name}"
        );
    }

    #[test]
    fn repeated_prompts_are_one_video() {
        let scene = |prompt: &str, line, seed| Scene {
            line: Some(line),
            seed,
            ..Scene::of_prompt(prompt)
        };
        let scenes = [
            scene("a", 1, None),
            scene("b", 2, None),
            scene("a", 3, Some(5)),
            scene("b", 4, None),
            scene("a", 5, None),
        ];
        let found = items(&scenes, 2, Naming::Vbench, "mp4", 5).unwrap();
        assert_eq!(found.repeats, [(0, 2), (1, 3), (0, 4)]);
        let stems: Vec<_> = found.items.iter().map(|item| item.stem.as_str()).collect();
        assert_eq!(stems, ["a-0", "a-1", "b-0", "b-1"]);
        let note = found.note(&scenes).unwrap();
        assert!(
            note.starts_with("3 prompts") && note.contains("the prompt of line 3 is as the prompt of line 1"),
            "{note}"
        );
        // Under another seed it is another video, and numbers keep all.
        let other = [scene("a", 1, None), scene("a", 2, Some(6))];
        assert!(items(&other, 1, Naming::Vbench, "mp4", 5).is_err());
        let numbered = items(&scenes, 1, Naming::Index, "mp4", 5).unwrap();
        assert_eq!((numbered.items.len(), numbered.note(&scenes)), (5, None));
    }

    #[test]
    fn one_name_for_two_videos_is_refused() {
        let said = names(&["a/b", "a_b"], 1, Naming::Vbench).unwrap_err();
        assert!(
            said.contains("`a_b-0.mp4`") && said.contains("--naming index"),
            "{said}"
        );
        let scene = |id: &str| Scene {
            id: Some(id.into()),
            ..Scene::of_prompt("a")
        };
        assert!(items(&[scene("a:b"), scene("a?b")], 1, Naming::Index, "mp4", 0).is_err());
        assert!(items(&[Scene::of_prompt("a"), scene("00000")], 1, Naming::Index, "mp4", 0).is_err());
        let last = Scene {
            seed: Some(u64::MAX),
            ..Scene::of_prompt("a")
        };
        assert!(items(std::slice::from_ref(&last), 1, Naming::Index, "mp4", 0).is_ok());
        assert!(matches!(
            items(&[last], 2, Naming::Index, "mp4", 0),
            Err(BatchError::Seed { .. })
        ));
    }
}
