//! Prompt files of commands.

use std::{io, path::Path};

use super::printer::Printer;
use crate::{
    Error, Result,
    config::{ConfigError, Key, Layer, Layers},
    prompts::{Format, PromptList, Scene, read_prompts, read_prompts_from},
    text::nearest::hint,
};

/// The videos of a prompt file, or of standard input when it is `-`. Says what is left out.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn read(file: &Path, printer: &Printer) -> Result<Vec<Scene>> {
    let list = match file == Path::new("-") {
        true => from_stdin()?,
        false => read_prompts(file)?,
    };
    if let Some(note) = list.note() {
        printer.note(&note);
    }
    tell_seeds(&list.scenes, printer);
    Ok(list.scenes)
}

/// The layers with the settings that the lines of a file have, under flags and over all else. Only all videos of a run can
/// have settings of their own.
///
/// # Errors
/// When lines differ in their settings, or name a setting that is none or does not accept its value.
pub(super) fn with_settings(layers: Layers, scenes: &[Scene], file: &Path, printer: &Printer) -> Result<Layers> {
    let Some(first) = scenes.first() else { return Ok(layers) };
    if let Some(at) = scenes.iter().position(|scene| scene.settings != first.settings) {
        return Err(Error::SettingsDiffer {
            path: file.into(),
            first: first.label(0),
            other: scenes[at].label(at),
        });
    }
    if first.settings.is_empty() {
        return Ok(layers);
    }
    if let Some(name) = first.settings.keys().find(|name| Key::find(name).is_none()) {
        return Err(ConfigError::NoSetting {
            name: name.clone(),
            hint: hint(name, Key::all().iter().map(|key| key.name)),
        }
        .into());
    }
    let texts: Vec<_> = first
        .settings
        .iter()
        .map(|(name, text)| format!("{name} = {text}"))
        .collect();
    printer.note(&format!("settings of `{}`: {}", file.display(), texts.join(", ")));
    Ok(layers.under_flags(Layer::of_values(&first.settings)?, file.into()))
}

fn from_stdin() -> Result<PromptList> {
    let input = io::stdin().lock();
    Ok(read_prompts_from(
        input,
        "standard input",
        Format::Detect,
        Path::new(""),
    )?)
}

/// Says which seeds were drawn.
fn tell_seeds(scenes: &[Scene], printer: &Printer) {
    /// Seeds that are named.
    const SHOWN: usize = 5;
    let drawn = || scenes.iter().enumerate().filter(|(_, scene)| scene.seed_drawn);
    let count = drawn().count();
    let named = drawn().take(SHOWN).filter_map(|(index, scene)| {
        let seed = scene.seed?;
        Some(format!("{seed} for {}", scene.label(index)))
    });
    let named = named.collect::<Vec<_>>().join(", ");
    match count {
        0 => {}
        1 => printer.note(&format!("drawn seed: {named}")),
        count => {
            let more = if count > SHOWN { ", …" } else { "" };
            printer.note(&format!("{count} drawn seeds: {named}{more}"));
        }
    }
}
