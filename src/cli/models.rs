//! `deepforcing models`: the files of models in the cache that all tools of the Hugging Face hub share.

use std::{
    collections::BTreeSet,
    io::{BufRead, IsTerminal, Write},
};

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{
    Failure,
    printer::{Printer, say},
    pulling::pull_missing,
};
use crate::{
    Error, Result, bundled,
    hub::{Hub, HubError, Source, Verified, human_bytes},
    models::{DecoderKind, Found, Located, Locator, ModelChoice, ModelLocation, Needs, Role},
    preset::{Preset, Sources},
    rollout::CancelToken,
};

const EXAMPLES: &str = "\
Examples:
  deepforcing models list                      what there is, and what of it is on this machine
  deepforcing models pull deep-forcing         download a model, or go on with a download
  deepforcing models verify                    read all files and compare their hashes
  deepforcing models path deep-forcing         where the files are
  deepforcing models remove causal-forcing     delete what no other model needs

Files are kept in the cache of the Hugging Face hub, so that other tools share them: HF_HUB_CACHE, or `hub` in HF_HOME
(by default ~/.cache/huggingface). HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE, HF_HUB_DISABLE_PROGRESS_BARS and
HF_HUB_DOWNLOAD_TIMEOUT are honoured. The model `toy` is part of the program.";

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
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Pull {
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
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Decoders {
    Wan,
    Tae,
    Both,
}

#[derive(Args)]
struct Verify {
    /// Model: a name from `models list`, or a preset file (.toml) [default: all files that are there]
    #[arg(value_name = "NAME")]
    model: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Where {
    /// Model: a name from `models list`, or a preset file (.toml)
    #[arg(value_name = "NAME")]
    model: String,
}

#[derive(Args)]
struct Remove {
    /// Model: a name from `models list`, or a preset file (.toml)
    #[arg(value_name = "NAME")]
    model: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Models {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let locator = Locator::from_env(|name| std::env::var_os(name));
        match &self.command {
            Command::List(list) => list.run(&locator),
            Command::Pull(pull) => pull.run(&locator),
            Command::Verify(verify) => verify.run(&locator),
            Command::Path(path) => path.run(&locator),
            Command::Remove(remove) => remove.run(&locator),
        }
    }
}

/// A result on stdout. A reader that has gone away is no error.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn print_json(value: &Value) {
    print(&format!("{value:#}"));
}

/// The model that a name or a preset file means.
fn named(locator: &Locator, name: &str) -> Result<Located> {
    Preset::load(name)?;
    let choice = ModelChoice {
        model: Some(name),
        preset: None,
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

impl List {
    fn run(&self, locator: &Locator) -> Result<(), Failure> {
        let mut models = Vec::new();
        for name in Preset::names() {
            models.push(Listed::new(name, locator)?);
        }
        if self.json {
            print_json(&models.iter().map(Listed::json).collect());
            return Ok(());
        }
        let width = models.iter().map(|model| model.name.len()).max().unwrap_or_default();
        for model in &models {
            print(&format!(
                "{:width$}  {:38}  {}",
                model.name,
                model.state(),
                model.preset.description
            ));
        }
        Ok(())
    }
}

/// A model, with what of it is there.
struct Listed {
    name: &'static str,
    preset: Preset,
    /// Each file with its path, if it is there.
    files: Vec<(Role, Source, Option<std::path::PathBuf>)>,
}

impl Listed {
    fn new(name: &'static str, locator: &Locator) -> Result<Self> {
        let preset = Preset::load(name)?;
        // Without a place for a cache nothing is there; a variable that cannot be is an error.
        let hub = match locator.hub() {
            Ok(hub) => Some(hub),
            Err(HubError::NoHome) => None,
            Err(error) => return Err(error.into()),
        };
        let all = preset.sources.iter().flat_map(Sources::all);
        let files = all.map(|(role, source)| (role, source.clone(), hub.and_then(|hub| hub.find(source))));
        Ok(Self {
            name,
            files: files.collect(),
            preset,
        })
    }

    fn is_bundled(&self) -> bool {
        self.name == Preset::BUNDLED
    }

    /// Files of which one decoder is enough.
    fn needed(&self) -> impl Iterator<Item = &(Role, Source, Option<std::path::PathBuf>)> {
        let there = |role: Role| {
            self.files
                .iter()
                .any(|(known, _, path)| *known == role && path.is_some())
        };
        let unneeded = match there(Role::TinyDecoder) && !there(Role::Vae) {
            true => Role::Vae,
            false => Role::TinyDecoder,
        };
        self.files.iter().filter(move |(role, ..)| *role != unneeded)
    }

    fn is_there(&self) -> bool {
        match self.is_bundled() {
            true => bundled::IS_AVAILABLE,
            false => self.needed().all(|(.., path)| path.is_some()),
        }
    }

    /// Bytes that are there, and those that are missing and known.
    fn bytes(&self) -> (u64, u64) {
        let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let there = self.needed().filter_map(|(.., path)| path.as_deref()).map(size).sum();
        let missing = self.needed().filter(|(.., path)| path.is_none());
        (there, missing.filter_map(|(_, source, _)| source.bytes).sum())
    }

    fn state(&self) -> String {
        let (there, missing) = self.bytes();
        let unknown = self
            .needed()
            .any(|(_, source, path)| path.is_none() && source.bytes.is_none());
        let missing = match unknown {
            true => format!("more than {}", human_bytes(missing)),
            false => human_bytes(missing),
        };
        match (self.is_bundled(), self.is_there()) {
            (true, true) => "part of the program".into(),
            (true, false) => "not built into this program".into(),
            (false, true) => format!("there ({})", human_bytes(there)),
            (false, false) if there > 0 => format!("{} there, {missing} missing", human_bytes(there)),
            (false, false) => format!("not there ({missing})"),
        }
    }

    fn json(&self) -> Value {
        let (there, missing) = self.bytes();
        let files = self.files.iter().map(|(role, source, path)| {
            json!({
                "role": role.name(),
                "repo": source.repo,
                "file": source.file,
                "revision": source.revision,
                "bytes": source.bytes,
                "sha256": source.sha256,
                "path": path,
            })
        });
        json!({
            "name": self.name,
            "description": self.preset.description,
            "location": if self.is_bundled() { "bundled" } else { "hub" },
            "present": self.is_there(),
            "bytes_present": there,
            "bytes_missing": missing,
            "files": files.collect::<Vec<_>>(),
        })
    }
}

impl Pull {
    fn run(&self, locator: &Locator) -> Result<(), Failure> {
        let located = named(locator, &self.model)?;
        if located.location == ModelLocation::Bundled {
            let folder = bundled::unpack(locator.own_cache()).map_err(Error::from)?;
            print(&folder.display().to_string());
            return Ok(());
        }
        let needed = self.sources(sources_of(&located)?)?;
        let printer = Printer::new(self.quiet);
        let cancel = CancelToken::default();
        interrupt_on_ctrl_c(&cancel);
        let hub = locator.hub().map_err(Error::from)?;
        let sources: Vec<Source> = needed.iter().map(|(_, source)| source.clone()).collect();
        pull_missing(hub, &self.model, &sources, &printer, self.quiet, &cancel)?;
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
        };
        let needed = sources.needed(needs)?;
        Ok(needed
            .into_iter()
            .map(|(role, source)| (role, source.clone()))
            .collect())
    }
}

/// `role<TAB>path`, for scripts.
fn print_path(hub: &Hub, role: Role, source: &Source) -> Result<()> {
    let path = hub
        .find(source)
        .ok_or_else(|| HubError::NotCached { file: source.label() })?;
    print(&format!("{}\t{}", role.name(), path.display()));
    Ok(())
}

/// Ctrl-C stops the download, which can be gone on with; a second one stops the program.
fn interrupt_on_ctrl_c(cancel: &CancelToken) {
    let cancel = cancel.clone();
    let handler = move || {
        if cancel.is_cancelled() {
            std::process::exit(130);
        }
        cancel.now();
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C will stop the program at once: {error}");
    }
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
            print(&format!("{}\t{}", file.role.name(), file.path.display()));
        }
        Ok(())
    }
}

impl Verify {
    fn run(&self, locator: &Locator) -> Result<(), Failure> {
        let hub = locator.hub().map_err(Error::from)?;
        let printer = Printer::new(self.json);
        let mut reports = Vec::new();
        for source in self.sources(locator, hub)? {
            let size = hub.find(&source).and_then(|path| std::fs::metadata(path).ok());
            if let Some(size) = size {
                printer.stage(&format!("reading {} ({})", source.label(), human_bytes(size.len())));
            }
            reports.push((hub.verify(&source), source));
        }
        let bad: Vec<_> = reports.iter().filter_map(|(result, _)| result.as_ref().err()).collect();
        match self.json {
            true => print_json(
                &reports
                    .iter()
                    .map(|(result, source)| report_json(result, source))
                    .collect(),
            ),
            false => reports
                .iter()
                .for_each(|(result, source)| print(&report(result, source))),
        }
        match bad.len() {
            0 => Ok(()),
            count => Err(Failure::Failed(anyhow!(
                "{count} of {} files are not as they should be",
                reports.len()
            ))),
        }
    }

    /// The files to look at, each once.
    fn sources(&self, locator: &Locator, hub: &Hub) -> Result<BTreeSet<Source>> {
        if let Some(name) = &self.model {
            let located = named(locator, name)?;
            if located.location == ModelLocation::Bundled {
                // Unpacking compares every byte.
                bundled::unpack(locator.own_cache())?;
                return Ok(BTreeSet::new());
            }
            let all = sources_of(&located)?.all();
            let wanted = all
                .into_iter()
                .filter(|(role, source)| *role != Role::TinyDecoder || hub.find(source).is_some());
            return Ok(wanted.map(|(_, source)| source.clone()).collect());
        }
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

impl Remove {
    fn run(&self, locator: &Locator) -> Result<(), Failure> {
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
        self.confirm(removal.bytes)?;
        hub.remove(&removal).map_err(Error::from)?;
        print(&format!(
            "removed `{}`, {} free",
            self.model,
            human_bytes(removal.bytes)
        ));
        Ok(())
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

/// Files of other models that are whole and not the same model under another name.
fn kept(hub: &Hub, removed: &Sources) -> Result<Vec<Source>> {
    let mut kept = Vec::new();
    for name in Preset::names() {
        let Some(sources) = Preset::load(name)?.sources else {
            continue;
        };
        let decoders = [DecoderKind::Wan, DecoderKind::Tae].map(|decoder| Needs {
            decoder,
            encoder: false,
        });
        let is_there = decoders.into_iter().filter_map(|needs| sources.needed(needs).ok());
        let is_there = is_there
            .into_iter()
            .any(|files| files.iter().all(|(_, source)| hub.find(source).is_some()));
        if is_there && sources.transformer != removed.transformer {
            kept.extend(sources.all().into_iter().map(|(_, source)| source.clone()));
        }
    }
    Ok(kept)
}
