//! Recipes in files: inside videos, as JSON beside them, in saved latents.

use std::path::Path;

use crate::{
    Error, Result, files, models::preset::Preset, recipe::Recipe, video::latents::LatentReader, video::read_metadata,
};

/// The recipe that a file holds: a video, numbered pictures' first one, a `.json` sidecar or saved latents.
///
/// # Errors
/// When the file cannot be read or holds no recipe.
pub(super) fn recipe_of(path: &Path) -> Result<Recipe> {
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let text = match extension.as_deref() {
        Some("json") => files::read_text(path, files::LONGEST_TEXT).map_err(|error| Error::config(path, error))?,
        Some("safetensors") => {
            let text = LatentReader::open(path)?.recipe().map(str::to_owned);
            text.ok_or_else(|| Error::NoRecipe { path: path.into() })?
        }
        _ => read_metadata(path)?
            .comment
            .ok_or_else(|| Error::NoRecipe { path: path.into() })?,
    };
    // Videos of other programs have comments as well.
    if !text.trim_start().starts_with('{') {
        return Err(Error::NoRecipe { path: path.into() });
    }
    Ok(Recipe::from_json(&text).map_err(|error| error.of_file(path))?)
}

/// The model that a recipe in `path` names: a known one, or a preset file beside it. A recipe may come from anybody, so
/// files elsewhere are not looked at; `None` when it names none.
///
/// # Errors
/// When it names anything else.
pub(super) fn model_of(recipe: &Recipe, path: &Path) -> Result<Option<String>> {
    let Some(name) = &recipe.model.model else {
        return Ok(None);
    };
    if Preset::names().contains(&name.as_str()) {
        return Ok(Some(name.clone()));
    }
    let file = Path::new(name);
    let is_preset = file.extension().is_some_and(|extension| extension == "toml");
    if !is_preset && files::is_single_name(name) {
        return Err(Error::UnknownModel {
            name: name.clone(),
            known: Preset::names().join(", "),
        });
    }
    let beside = file
        .file_name()
        .filter(|_| is_preset)
        .map(|name| path.with_file_name(name));
    match beside.filter(|beside| beside.is_file()) {
        Some(beside) => Ok(Some(beside.to_string_lossy().into_owned())),
        None => Err(Error::ModelElsewhere {
            name: name.clone(),
            file: path.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{models::DecoderKind, recipe::ModelRecord};

    #[test]
    fn a_recipe_names_known_models_and_presets_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("video.mp4");
        let of = |name: &str| {
            let recipe = Recipe::new(ModelRecord {
                model: Some(name.into()),
                preset: "toy".into(),
                decoder: DecoderKind::Wan,
                files: Vec::new(),
            });
            model_of(&recipe, &path)
        };
        assert_eq!(of("toy").unwrap().as_deref(), Some("toy"));
        assert!(matches!(of("unknown"), Err(Error::UnknownModel { .. })));
        let elsewhere = tempfile::tempdir().unwrap();
        let preset = elsewhere.path().join("own.toml");
        std::fs::write(&preset, "").unwrap();
        let absolute = preset.display().to_string();
        for name in [absolute.as_str(), "/dev/zero", "../own.toml", "a/folder"] {
            let said = of(name).unwrap_err().to_string();
            assert!(said.contains(name) && said.contains("--model"), "{said}");
        }
        std::fs::write(folder.path().join("own.toml"), "").unwrap();
        let beside = folder.path().join("own.toml").display().to_string();
        assert_eq!(of(&absolute).unwrap(), Some(beside));
    }
}
