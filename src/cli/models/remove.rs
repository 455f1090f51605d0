//! `deepforcing models remove`.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::anyhow;
use clap::Args;

use super::{Failure, named, print, sources_of};
use crate::{
    Error, Result,
    cli::printer::say,
    hub::{Hub, Source, human_bytes},
    models::preset::{Preset, Sources},
    models::{DecoderKind, Locator, ModelLocation, Needs, Role},
};

#[derive(Args)]
pub(super) struct Remove {
    /// Model: a name from `models list`, or a preset file (.toml)
    #[arg(value_name = "NAME")]
    model: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Remove {
    pub(super) fn run(&self, locator: &Locator) -> Result<(), Failure> {
        let located = named(locator, &self.model)?;
        if located.location == ModelLocation::Bundled {
            return Err(Failure::Failed(anyhow!(
                "the model `{}` is part of the program",
                self.model
            )));
        }
        let sources = sources_of(&located)?;
        let hub = locator.hub().map_err(Error::from)?;
        let all: Vec<Source> = sources.all().into_iter().map(|(_, source)| source.clone()).collect();
        let removal = hub.plan_removal(&all, &kept(hub, sources)?);
        if removal.is_empty() {
            say(&format!("no file of `{}` can be removed", self.model));
            return Ok(());
        }
        for file in removal.files() {
            say(&format!("  {}", file.display()));
        }
        let twins = twins(&self.model, sources)?;
        if !twins.is_empty() {
            say(&format!("these files are also the model {}", twins.join(", ")));
        }
        self.confirm(removal.bytes)?;
        hub.remove(&removal).map_err(Error::from)?;
        print(&format!(
            "removed `{}`, {} free",
            self.model,
            human_bytes(removal.bytes)
        ))
    }

    fn confirm(&self, bytes: u64) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::Failed(anyhow!(
                "nothing was removed: say --yes where nobody can be asked"
            )));
        }
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "remove these files ({})? [y/N] ", human_bytes(bytes));
        let _ = stderr.flush();
        let mut answer = String::new();
        let _ = std::io::stdin().lock().read_line(&mut answer);
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::Failed(anyhow!("nothing was removed"))),
        }
    }
}

/// Other names of the same model: presets with other settings.
fn twins(name: &str, removed: &Sources) -> Result<Vec<String>> {
    let mut twins = Vec::new();
    for other in Preset::names().into_iter().filter(|other| *other != name) {
        let sources = Preset::load(other)?.sources;
        if sources.is_some_and(|sources| is_same_model(&sources, removed)) {
            twins.push(format!("`{other}`"));
        }
    }
    Ok(twins)
}

fn is_same_model(one: &Sources, other: &Sources) -> bool {
    let same = |role: Role| one.of(role) == other.of(role);
    same(Role::Transformer) && same(Role::Lora)
}

/// Files of other models that are whole and not the same model under another name.
fn kept(hub: &Hub, removed: &Sources) -> Result<Vec<Source>> {
    let mut kept = Vec::new();
    for name in Preset::names() {
        let Some(sources) = Preset::load(name)?.sources else {
            continue;
        };
        let decoders = [DecoderKind::Wan, DecoderKind::Tae].map(|decoder| Needs {
            decoder,
            ..Needs::default()
        });
        let is_there = decoders.into_iter().filter_map(|needs| sources.needed(needs).ok());
        let is_there = is_there
            .into_iter()
            .any(|files| files.iter().all(|(_, source)| hub.find(source).is_some()));
        if is_there && !is_same_model(&sources, removed) {
            kept.extend(sources.all().into_iter().map(|(_, source)| source.clone()));
        }
    }
    Ok(kept)
}
