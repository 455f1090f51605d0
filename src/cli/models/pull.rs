//! `deepforcing models pull`.

use clap::{Args, ValueEnum};

use super::{Failure, named, print, sources_of};
use crate::{
    Error, Result,
    cli::{printer::Printer, pulling::pull_missing, render::interrupt_on_ctrl_c},
    hub::{Hub, HubError, Source},
    models::bundled,
    models::preset::Sources,
    models::{DecoderKind, Locator, ModelLocation, Needs, Role},
    rollout::CancelToken,
};

#[derive(Args)]
pub(super) struct Pull {
    /// Model: a name from `models list`, or a preset file (.toml)
    #[arg(value_name = "NAME")]
    model: String,
    /// Decoder to download: the Wan VAE (508 MB), the tiny TAEW2.1, or both (a start from an image needs the Wan VAE)
    #[arg(
        long,
        value_name = "wan|tae|both",
        default_value = "wan",
        hide_possible_values = true
    )]
    vae: Decoders,
}

#[derive(Clone, Copy, ValueEnum)]
enum Decoders {
    Wan,
    Tae,
    Both,
}

impl Pull {
    pub(super) fn run(&self, locator: &Locator, printer: &Printer) -> Result<(), Failure> {
        let located = named(locator, &self.model)?;
        if located.location == ModelLocation::Bundled {
            let folder = bundled::unpack(locator.own_cache()).map_err(Error::from)?;
            return print(&folder.display().to_string());
        }
        let needed = self.sources(sources_of(&located)?)?;
        let cancel = CancelToken::default();
        interrupt_on_ctrl_c(&cancel);
        let hub = locator.hub().map_err(Error::from)?;
        let sources: Vec<Source> = needed.iter().map(|(_, source)| source.clone()).collect();
        pull_missing(hub, &self.model, &sources, printer, &cancel)?;
        for (role, source) in &needed {
            print_path(hub, *role, source)?;
        }
        Ok(())
    }

    fn sources(&self, sources: &Sources) -> Result<Vec<(Role, Source)>> {
        let needs = Needs {
            decoder: match self.vae {
                Decoders::Wan => DecoderKind::Wan,
                Decoders::Tae | Decoders::Both => DecoderKind::Tae,
            },
            encoder: matches!(self.vae, Decoders::Both),
            ..Needs::default()
        };
        let needed = sources.needed(needs)?;
        Ok(needed
            .into_iter()
            .map(|(role, source)| (role, source.clone()))
            .collect())
    }
}

/// `role<TAB>path`, for scripts.
fn print_path(hub: &Hub, role: Role, source: &Source) -> Result<(), Failure> {
    let path = hub
        .find(source)
        .ok_or_else(|| HubError::NotCached { file: source.label() })
        .map_err(Error::from)?;
    print(&format!("{}\t{}", role.name(), path.display()))
}
