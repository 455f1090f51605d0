//! Recipes in files: inside videos, as JSON beside them, in saved latents.

use std::{fs, path::Path};

use crate::{Error, Result, recipe::Recipe, video::latents::LatentReader, video::read_metadata};

/// The recipe that a file holds: a video, numbered pictures' first one, a `.json` sidecar or saved latents.
///
/// # Errors
/// When the file cannot be read or holds no recipe.
pub(super) fn recipe_of(path: &Path) -> Result<Recipe> {
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let text = match extension.as_deref() {
        Some("json") => fs::read_to_string(path).map_err(|error| Error::config(path, error))?,
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
