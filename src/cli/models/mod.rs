//! `deepforcing models`: the files of models in the cache that all tools of the Hugging Face hub share.

mod list;
mod pull;
mod remove;
mod verify;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    Failure,
    printer::{Printer, print_result},
};
use crate::{
    Error, Result,
    hub::Source,
    models::preset::{Preset, Sources},
    models::{Found, Located, Locator, ModelChoice, Needs},
};
use list::List;
use pull::Pull;
use remove::Remove;
use verify::Verify;

const EXAMPLES: &str = "\
Examples:
  deepforcing models list                   what there is, here and elsewhere
  deepforcing models pull deep-forcing      download a model, or go on with it
  deepforcing models verify                 read all files, compare their hashes
  deepforcing models path deep-forcing      where the files are
  deepforcing models remove causal-forcing  delete what no other model needs

Files are kept in the cache of the Hugging Face hub, so that other tools share
them: in HF_HUB_CACHE, or in `hub` below HF_HOME (by default
~/.cache/huggingface). Honoured as well:
HF_TOKEN, HF_TOKEN_PATH, HF_ENDPOINT, HF_HUB_OFFLINE,
HF_HUB_DISABLE_PROGRESS_BARS, HF_HUB_DISABLE_IMPLICIT_TOKEN and
HF_HUB_DOWNLOAD_TIMEOUT. The model `toy` is part of the program.";

const PULL_EXAMPLES: &str = "\
Examples:
  deepforcing models pull deep-forcing
  deepforcing models pull deep-forcing --vae tae
  HF_HOME=/data/huggingface deepforcing models pull causal-forcing

A download that was interrupted goes on where it stopped.";

const REMOVE_EXAMPLES: &str = "\
Examples:
  deepforcing models remove causal-forcing
  deepforcing models remove causal-forcing --yes

Files that another downloaded model needs stay.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Models {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the models, and what of them is on this machine
    #[command(after_help = "Examples:\n  deepforcing models list\n  deepforcing models list --json")]
    List(List),
    /// Download a model into the cache
    #[command(after_help = PULL_EXAMPLES)]
    Pull(Pull),
    /// Read files and compare them with their hashes
    #[command(after_help = "Examples:\n  deepforcing models verify\n  deepforcing models verify deep-forcing --json")]
    Verify(Verify),
    /// Print where the files of a model are
    #[command(after_help = "Example:\n  deepforcing models path deep-forcing")]
    Path(Where),
    /// Delete the files of a model that no other one needs
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(Remove),
}

#[derive(Args)]
struct Where {
    /// Model: a name from `models list`, or a preset file (.toml)
    #[arg(value_name = "NAME")]
    model: String,
}

impl Models {
    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        let locator = Locator::from_env(|name| std::env::var_os(name));
        match &self.command {
            Command::List(list) => list.run(&locator),
            Command::Pull(pull) => pull.run(&locator, printer),
            Command::Verify(verify) => verify.run(&locator, printer),
            Command::Path(path) => path.run(&locator),
            Command::Remove(remove) => remove.run(&locator),
        }
    }
}

/// A line of the result.
fn print(text: &str) -> Result<(), Failure> {
    print_result(format!("{text}\n").as_bytes())
}

fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}"))
}

/// The model that a name or a preset file means.
fn named(locator: &Locator, name: &str) -> Result<Located> {
    Preset::load(name)?;
    let choice = ModelChoice {
        model: Some(name),
        preset: None,
        own: None,
    };
    locator.locate(choice, Needs::default(), &|| false)
}

/// Where a model's files are published.
fn sources_of(located: &Located) -> Result<&Sources> {
    let sources = located.preset.sources.as_ref();
    sources.ok_or_else(|| Error::NoSources {
        name: located.model.clone(),
    })
}

impl Where {
    fn run(&self, locator: &Locator) -> Result<(), Failure> {
        let located = named(locator, &self.model)?;
        let listed = match locator.files(&located, Needs::default())? {
            Found::Files(files) => files.list(Needs::default()),
            Found::Missing(missing) => {
                let missing: Vec<_> = missing.iter().map(Source::label).collect();
                return Err(Failure::Failed(anyhow!(
                    "the model `{}` is not whole: {} missing; get it with `deepforcing models pull {}`",
                    self.model,
                    missing.join(", "),
                    self.model
                )));
            }
        };
        for file in listed {
            print(&format!("{}\t{}", file.role.name(), file.path.display()))?;
        }
        Ok(())
    }
}
