//! Which model a checkpoint holds, told from its tensors, and whether the preset is the one that belongs to it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Preset, Role};
use crate::{
    Error, Result,
    checkpoint::{Checkpoint, Weights},
    prompts::actions::Controls,
    rollout::world::BESIDE_CHANNELS,
    transformer::{ContextKind, TransformerConfig},
    vae::LATENT_CHANNELS,
};

/// Refuses a network that is steered in another way than its preset says.
pub(super) fn check_controls(told: Option<Controls>, config: &TransformerConfig, weights: &Weights) -> Result<()> {
    let reads = config.actions.as_ref().map(|actions| (actions.keys, actions.mouse));
    let told = told.map(columns_of);
    if reads == told {
        return Ok(());
    }
    let suiting = |name: &&str| Preset::load(name).is_ok_and(|preset| preset.controls.map(columns_of) == reads);
    Err(Error::OtherControls {
        origin: weights.origin(),
        reads: steering_words(reads),
        told: steering_words(told),
        preset: Preset::names().into_iter().find(suiting).unwrap_or(Preset::DEFAULT),
    })
}

/// Keys of a control scheme, and whether it has a mouse.
pub(crate) fn columns_of(controls: Controls) -> (usize, bool) {
    (controls.scheme().columns.len(), controls.has_mouse())
}

/// How a model is steered, in words.
fn steering_words(steering: Option<(usize, bool)>) -> String {
    match steering {
        None => "prompts".into(),
        Some((keys, true)) => format!("{keys} keys and a mouse"),
        Some((keys, false)) => format!("{keys} keys"),
    }
}

/// Refuses networks whose latents are not those of the Wan VAE.
pub(super) fn check_channels(config: &TransformerConfig, weights: &Weights) -> Result<()> {
    let (takes, gives) = (config.in_channels, config.out_channels);
    let (kind, beside) = match config.context {
        ContextKind::Text => ("a text-to-video model", 0),
        ContextKind::Image => ("a model of a world", BESIDE_CHANNELS),
    };
    let expected = LATENT_CHANNELS + beside;
    if (takes, gives) == (expected, LATENT_CHANNELS) {
        return Ok(());
    }
    let has = match beside {
        0 => format!("{LATENT_CHANNELS} of both"),
        _ => format!("{expected} and {LATENT_CHANNELS}"),
    };
    Err(Error::not_a_transformer(
        weights.origin(),
        format!("it takes {takes} latent channels and gives {gives}; {kind} has {has}"),
    ))
}

/// The preset of the world whose transformer is in `folder`, told from its tensors: how many keys there are, and whether
/// there is a mouse.
pub(super) fn world_of_folder(folder: &Path) -> Result<Option<&'static str>> {
    let mut known: BTreeMap<PathBuf, Option<(usize, bool)>> = BTreeMap::new();
    for name in Preset::names() {
        let preset = Preset::load(name)?;
        let Some(controls) = preset.controls else { continue };
        let names = preset.files.of(Role::Transformer).into_iter();
        for path in names.map(|name| folder.join(name)).filter(|path| path.is_file()) {
            let found = known.entry(path).or_insert_with_key(|path| steering(path));
            if *found == Some(columns_of(controls)) {
                return Ok(Some(name));
            }
        }
    }
    Ok(None)
}

/// Keys of the world that the file at `path` holds, and whether it has a mouse (docs/algorithms/matrix_game_2.md section
/// 1). What is wrong with a file is told when it is loaded.
fn steering(path: &Path) -> Option<(usize, bool)> {
    let file = Checkpoint::open(path).ok()?;
    let keys = file.shape("blocks.0.action_model.keyboard_embed.0.weight")?;
    let mouse = file.shape("blocks.0.action_model.mouse_mlp.0.weight").is_some();
    Some((*keys.get(1)?, mouse))
}
