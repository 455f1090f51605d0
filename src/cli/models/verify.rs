//! `deepforcing models verify`.

use std::collections::BTreeSet;

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

use super::{Failure, named, print, print_json, sources_of};
use crate::{
    Error, Result,
    cli::printer::{Printer, say},
    hub::{Hub, HubError, Source, Verified, human_bytes},
    models::bundled,
    models::preset::{Preset, Sources},
    models::{Located, Locator, ModelLocation, Role},
};

#[derive(Args)]
pub(super) struct Verify {
    /// Model: a name from `models list`, or a preset file (.toml) [default: all files that are there]
    #[arg(value_name = "NAME")]
    model: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(&self, locator: &Locator, printer: &Printer) -> Result<(), Failure> {
        let located = self.model.as_deref().map(|name| named(locator, name)).transpose()?;
        if let Some(located) = located
            .as_ref()
            .filter(|located| located.location == ModelLocation::Bundled)
        {
            return self.bundled(locator, &located.model);
        }
        let hub = locator.hub().map_err(Error::from)?;
        let sources = match &located {
            Some(located) => of_model(located, hub)?,
            None => cached(hub)?,
        };
        if sources.is_empty() {
            say("no model file is in the cache");
        }
        let mut reports = Vec::new();
        for source in sources {
            let size = hub.find(&source).and_then(|path| std::fs::metadata(path).ok());
            if let Some(size) = size.filter(|_| !self.json) {
                printer.stage(&format!("reading {} ({})", source.label(), human_bytes(size.len())));
            }
            reports.push((hub.verify(&source), source));
        }
        match self.json {
            true => print_json(
                &reports
                    .iter()
                    .map(|(result, source)| report_json(result, source))
                    .collect(),
            )?,
            false => reports
                .iter()
                .try_for_each(|(result, source)| print(&report(result, source)))?,
        }
        match reports.iter().filter(|(result, _)| result.is_err()).count() {
            0 => Ok(()),
            count => Err(Failure::Failed(anyhow!(
                "{count} of {} files are not as they should be",
                reports.len()
            ))),
        }
    }

    /// The bundled model: unpacking compares every byte, and mends what is wrong.
    fn bundled(&self, locator: &Locator, model: &str) -> Result<(), Failure> {
        let folder = bundled::unpack(locator.own_cache()).map_err(Error::from)?;
        match self.json {
            true => print_json(&json!([{ "model": model, "path": folder, "state": "ok" }])),
            false => print(&format!("ok       {}", folder.display())),
        }
    }
}

/// The files of a model; the tiny decoder only if it is there.
fn of_model(located: &Located, hub: &Hub) -> Result<BTreeSet<Source>> {
    let all = sources_of(located)?.all().into_iter();
    let wanted = all.filter(|(role, source)| *role != Role::TinyDecoder || hub.find(source).is_some());
    Ok(wanted.map(|(_, source)| source.clone()).collect())
}

/// The files of all models that are there, each once.
fn cached(hub: &Hub) -> Result<BTreeSet<Source>> {
    let mut there = BTreeSet::new();
    for name in Preset::names() {
        let preset = Preset::load(name)?;
        let all = preset.sources.iter().flat_map(Sources::all);
        there.extend(
            all.filter(|(_, source)| hub.find(source).is_some())
                .map(|(_, source)| source.clone()),
        );
    }
    Ok(there)
}

fn report(result: &Result<Verified, HubError>, source: &Source) -> String {
    let file = source.label();
    match result {
        Ok(Verified::Hash(sha256)) => format!("ok       {file}  {sha256}"),
        Ok(Verified::Size { sha256 }) => format!("ok       {file}  {sha256} (size only, no hash is stated)"),
        Ok(Verified::Unknown { sha256 }) => format!("unknown  {file}  {sha256} (neither size nor hash is stated)"),
        Err(HubError::NotCached { .. }) => format!("missing  {file}"),
        Err(error) => format!("damaged  {error}"),
    }
}

fn report_json(result: &Result<Verified, HubError>, source: &Source) -> Value {
    let (state, sha256, error) = match result {
        Ok(Verified::Hash(sha256)) => ("ok", Some(sha256), None),
        Ok(Verified::Size { sha256 }) => ("size-only", Some(sha256), None),
        Ok(Verified::Unknown { sha256 }) => ("unknown", Some(sha256), None),
        Err(HubError::NotCached { .. }) => ("missing", None, None),
        Err(HubError::WrongHash { found, .. }) => ("damaged", Some(found), result.as_ref().err()),
        Err(error) => ("damaged", None, Some(error)),
    };
    json!({
        "repo": source.repo,
        "file": source.file,
        "revision": source.revision,
        "state": state,
        "sha256": sha256,
        "error": error.map(ToString::to_string),
    })
}
