//! Models that are there, whether they are whole, and whether the one that would be used can be.

use std::path::Path;

use super::{Report, Section};
use crate::{
    config::{Environment, Layer, Layers},
    hub::{Hub, HubError, Source},
    models::bundled,
    models::preset::Preset,
    models::{Found, Locator, ModelChoice, Needs, OwnFiles},
};

/// Sizes are compared, not hashes: reading gigabytes takes minutes, and `models verify` does it.
pub(super) fn models_section(environment: &Environment, report: &mut Report) {
    let locator = Locator::from_env(|name| environment.get(name).cloned());
    let mut section = Section::new("models");
    for name in Preset::names() {
        let state = match name == Preset::BUNDLED {
            true if bundled::IS_AVAILABLE => "part of the program".into(),
            true => "not built into this program".into(),
            false => in_cache(name, locator.hub().ok(), report),
        };
        section.row(name, state);
    }
    report.sections.push(section);
    // A config that cannot be read is told elsewhere.
    if let Ok(layers) = Layers::load(Layer::default(), environment) {
        chosen(&layers, &locator, report);
    }
}

/// How many of a model's files are in the cache of the hub.
fn in_cache(name: &str, hub: Option<&Hub>, report: &mut Report) -> String {
    let sources = Preset::load(name).ok().and_then(|preset| preset.sources);
    let (Some(hub), Some(sources)) = (hub, sources) else {
        return "not there".into();
    };
    let (mut there, mut missing) = (0, 0);
    for (_, source) in sources.with_one_decoder(|source| hub.find(source).is_some()) {
        match hub.find(source) {
            Some(_) => there += 1,
            None if of_any_size(hub, source) => {
                missing += 1;
                report.problem(
                    false,
                    format!(
                        "`{}` of the model `{name}` has the wrong size: it is damaged",
                        source.label()
                    ),
                    format!(
                        "get it again with `deepforcing models remove {name}` and `deepforcing models pull {name}`"
                    ),
                );
            }
            None => missing += 1,
        }
    }
    match (there, missing) {
        (0, _) => "not there".into(),
        (_, 0) => "whole (sizes are right; `models verify` compares hashes)".into(),
        _ => format!("{there} of {} files are there", there + missing),
    }
}

fn of_any_size(hub: &Hub, source: &Source) -> bool {
    let bytes = None;
    hub.find(&Source {
        bytes,
        ..source.clone()
    })
    .is_some()
}

/// Whether the model that the settings choose can be had, without asking the network.
fn chosen(layers: &Layers, locator: &Locator, report: &mut Report) {
    let model = layers.model();
    if let Some(path) = model
        .as_deref()
        .filter(|path| Path::new(path).exists() && !path.ends_with(".toml"))
    {
        return on_disk(path, layers, locator, report);
    }
    let name = model
        .or_else(|| layers.preset())
        .unwrap_or_else(|| Preset::DEFAULT.into());
    let sources = match Preset::load(&name) {
        Ok(preset) => preset.sources,
        Err(error) => {
            return report.problem(
                true,
                error.to_string(),
                "`deepforcing config show` prints where the model comes from",
            );
        }
    };
    let Some(sources) = sources.filter(|_| name != Preset::BUNDLED) else {
        return;
    };
    // The toy model stands in for the default one.
    let replaced = bundled::IS_AVAILABLE && layers.model().is_none() && layers.preset().is_none();
    match locator.hub() {
        Ok(hub) => {
            let files = sources.with_one_decoder(|source| hub.find(source).is_some());
            let whole = files.into_iter().all(|(_, source)| hub.find(source).is_some());
            if !whole && hub.settings().offline.value {
                report.problem(
                    !replaced,
                    format!("the model `{name}` is not there whole, and HF_HUB_OFFLINE forbids to download it"),
                    "unset HF_HUB_OFFLINE, or choose another model with --model",
                );
            }
        }
        Err(HubError::NoHome) if !replaced => report.problem(
            true,
            format!("there is no place to download the model `{name}` to"),
            "set HOME or HF_HUB_CACHE, or choose another model with --model",
        ),
        // Variables that cannot be are told with the folders.
        Err(_) => {}
    }
}

/// A model that is a file or a folder.
fn on_disk(path: &str, layers: &Layers, locator: &Locator, report: &mut Report) {
    const ADVICE: &str = "put the file there, or choose another model with --model";
    let needs = Needs {
        decoder: layers.vae(),
        ..Needs::default()
    };
    let found = || {
        let (own, preset) = (OwnFiles::given(&layers.own_files(), needs.decoder)?, layers.preset());
        let choice = ModelChoice {
            model: Some(path),
            preset: preset.as_deref(),
            own: Some(&own),
        };
        locator.files(&locator.locate(choice, needs, &|| false)?, needs)
    };
    match found() {
        Ok(Found::Files(_)) => {}
        Ok(Found::Missing(missing)) => {
            let files: Vec<_> = missing.iter().map(Source::label).collect();
            let files = files.join(", ");
            report.problem(false, format!("beside `{path}` there are no files for {files}"), ADVICE);
        }
        Err(error) => report.problem(true, error.to_string(), ADVICE),
    }
}
