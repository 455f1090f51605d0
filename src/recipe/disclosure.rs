//! How much of its recipe a video carries.

use std::path::Path;

use super::{ModelRecord, Recipe};

/// What a video and the files beside it tell of how the video was made (SECURITY.md, "What a shared video reveals").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Disclosure {
    /// The whole recipe.
    #[default]
    Full,
    /// The recipe with names of files in place of their paths.
    WithoutPaths,
    /// Neither recipe nor prompt.
    Nothing,
}

impl Disclosure {
    /// What may be told of `recipe`.
    pub fn of(self, recipe: &Recipe) -> Option<Recipe> {
        match self {
            Self::Full => Some(recipe.clone()),
            Self::WithoutPaths => Some(without_paths(recipe.clone())),
            Self::Nothing => None,
        }
    }
}

fn without_paths(mut recipe: Recipe) -> Recipe {
    if let Some(start) = &mut recipe.start {
        keep_name(&mut start.name);
    }
    let ModelRecord {
        model, preset, files, ..
    } = &mut recipe.model;
    keep_name(preset);
    files.iter_mut().for_each(|file| keep_name(&mut file.name));
    // The name of a model on the hub looks like a path, and is none.
    if model.as_ref().is_some_and(|name| Path::new(name).is_absolute()) {
        *model = None;
    }
    recipe
}

/// Leaves the last part of a path.
fn keep_name(path: &mut String) {
    if let Some(name) = Path::new(path.as_str()).file_name() {
        *path = name.to_string_lossy().into_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{StartKind, StartRecord, tests::example};

    fn with_paths() -> Recipe {
        let mut recipe = example();
        recipe.start = Some(StartRecord {
            kind: StartKind::Image,
            name: "/home/someone/pictures/start.png".into(),
            sha256: "0".repeat(64),
            latent_frames: 3,
        });
        recipe.model.files[0].name = "loras/someone/style.safetensors".into();
        recipe
    }

    #[test]
    fn names_stay_and_folders_go() {
        let recipe = with_paths();
        let told = Disclosure::WithoutPaths.of(&recipe).unwrap();
        assert_eq!(told.start.as_ref().unwrap().name, "start.png");
        assert_eq!(told.model.files[0].name, "style.safetensors");
        assert!(!told.to_json().contains("someone"), "{}", told.to_json());
        assert_eq!(
            (&told.prompts, told.seed, &told.model.model),
            (&recipe.prompts, recipe.seed, &recipe.model.model)
        );
    }

    #[test]
    fn all_or_nothing() {
        let recipe = with_paths();
        assert_eq!(Disclosure::Full.of(&recipe), Some(recipe.clone()));
        assert_eq!(Disclosure::Nothing.of(&recipe), None);
    }
}
