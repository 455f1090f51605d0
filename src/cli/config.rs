//! `deepforcing config`: what the settings are and where they come from.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Failure,
    printer::{Printer, print_result},
};
use crate::{
    Error, Result,
    config::{ConfigFile, Environment, Layer, Layers, Settings, variable},
    models::preset::Preset,
    models::{ModelChoice, OwnFiles, preset_of_choice},
};

const EXAMPLES: &str = "\
Examples:
  deepforcing config show
  deepforcing config show --preset self-forcing --json
  DEEPFORCING_CACHE_SINK=14 deepforcing config show
  deepforcing config set cache.sink 14
  deepforcing config unset cache.sink
  deepforcing config init && $EDITOR \"$(deepforcing config path)\"

A value is taken from the first of these that gives it:
  1. flags of the command, for example --sink 14
  2. environment variables, for example DEEPFORCING_CACHE_SINK=14,
     DEEPFORCING_SAMPLER_STEPS=1000,500
  3. the config file: $XDG_CONFIG_HOME/deepforcing/config.toml
     (~/.config/deepforcing/config.toml), or the file that DEEPFORCING_CONFIG
     names
  4. the preset
  5. the built-in default

A config file:
  seed = 7
  size = \"480x272\"
  [cache]
  policy = \"deep-sink\"
  sink = 14
  [sampler]
  steps = [1000, 750, 500, 250]";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Config {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print every setting with the place that it comes from
    #[command(after_help = EXAMPLES)]
    Show(Show),
    /// Print where the config file is, or would be
    #[command(
        after_help = "Example:\n  deepforcing config path\n\nDEEPFORCING_CONFIG names another file than the usual one."
    )]
    Path,
    /// Write a setting into the config file, which is made if need be; the rest of it stays as it is
    #[command(
        after_help = "Examples:\n  deepforcing config set seconds 30\n  deepforcing config set sampler.steps 1000,500"
    )]
    Set {
        /// Setting, as `config show` names it
        key: String,
        /// Value, as the flag of the setting takes it
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Take a setting out of the config file
    #[command(after_help = "Example:\n  deepforcing config unset seconds")]
    Unset {
        /// Setting, as `config show` names it
        key: String,
    },
    /// Write a config file in which every setting stands as a comment with its default
    #[command(after_help = "Example:\n  deepforcing config init")]
    Init,
}

#[derive(Args)]
struct Show {
    /// Model whose preset is shown: a preset name or a folder of model files
    #[arg(long, alias = "model-dir", value_name = "NAME|DIR")]
    model: Option<String>,
    /// Preset: a name or a .toml file [default: the model's]
    #[arg(long, value_name = "NAME|FILE")]
    preset: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Config {
    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        let environment = Environment::of_process();
        match &self.command {
            ConfigCommand::Show(show) => show.run(&environment, printer),
            ConfigCommand::Path => {
                let file = config_file(&environment)?;
                print_result(format!("{}\n", file.path.display()).as_bytes())
            }
            ConfigCommand::Set { key, value } => {
                let file = config_file(&environment)?;
                let value = file.set(key, value).map_err(Error::from)?;
                printer.note(&format!("{key} is {value} in `{}`", file.path.display()));
                tell_conflict(&environment, printer)
            }
            ConfigCommand::Unset { key } => {
                let file = config_file(&environment)?;
                let path = file.path.display();
                match file.unset(key).map_err(Error::from)? {
                    true => printer.note(&format!("{key} is no longer set in `{path}`")),
                    false => printer.note(&format!("{key} was not set in `{path}`")),
                }
                tell_conflict(&environment, printer)
            }
            ConfigCommand::Init => {
                let file = config_file(&environment)?;
                file.init().map_err(Error::from)?;
                print_result(format!("{}\n", file.path.display()).as_bytes())
            }
        }
    }
}

fn config_file(environment: &Environment) -> Result<ConfigFile, Failure> {
    let file = ConfigFile::locate(environment).map_err(Error::from)?;
    file.ok_or_else(|| {
        Failure::Failed(anyhow::anyhow!(
            "there is no home folder to look for a config file in: set HOME, or name a file with DEEPFORCING_CONFIG"
        ))
    })
}

/// Warns when what is set now cannot be used together, before a run refuses it.
fn tell_conflict(environment: &Environment, printer: &Printer) -> Result<(), Failure> {
    let layers = Layers::load(Layer::default(), environment).map_err(Error::from)?;
    let (name, preset) = effective_preset(&layers)?;
    if let Err(error) = layers.resolve(&name, &preset).check(&preset) {
        printer.warning(&format!(
            "with the preset `{name}`, these settings cannot be used: {error}"
        ));
    }
    Ok(())
}

impl Show {
    fn run(&self, environment: &Environment, printer: &Printer) -> Result<(), Failure> {
        let flags = Layer {
            model: self.model.clone(),
            preset: self.preset.clone(),
            ..Layer::default()
        };
        let layers = Layers::load(flags, environment).map_err(Error::from)?;
        for warning in &layers.warnings {
            printer.warning(warning);
        }
        let (name, preset) = effective_preset(&layers)?;
        let settings = layers.resolve(&name, &preset);
        let text = match self.json {
            true => format!("{:#}\n", as_json(&settings, &layers)),
            false => as_table(&settings),
        };
        print_result(text.as_bytes())?;
        Ok(settings.check(&preset)?)
    }
}

/// The preset asked for, for the model asked for; or the model's, or the default one.
pub(super) fn effective_preset(layers: &Layers) -> Result<(String, Preset)> {
    let (model, preset) = (layers.model(), layers.preset());
    let own = OwnFiles::given(&layers.own_files(), layers.vae())?;
    preset_of_choice(ModelChoice {
        model: model.as_deref(),
        preset: preset.as_deref(),
        own: Some(&own),
    })
}

/// Setting, value, origin, in columns.
fn as_table(settings: &Settings) -> String {
    let rows: Vec<[String; 3]> = settings
        .entries()
        .into_iter()
        .map(|entry| {
            let value = entry.text.unwrap_or_else(|| "–".into());
            [entry.key.into(), value, entry.origin.to_string()]
        })
        .collect();
    table(&rows)
}

/// Characters of the widest column; longer cells push what follows to the right.
const WIDEST: usize = 60;
/// Characters of the longest cell; what is longer was never meant to be read.
const LONGEST: usize = 2000;

/// Columns as wide as their widest cell; the last one ends where its text ends.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| shortened(cell)))
        .collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0).min(WIDEST)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A cell, cut where it goes on and on.
fn shortened(cell: &str) -> String {
    match cell.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &cell[..end]),
        None => cell.into(),
    }
}

fn as_json(settings: &Settings, layers: &Layers) -> serde_json::Value {
    let entries = settings.entries().into_iter().map(|entry| {
        let value = json!({
            "value": entry.value,
            "origin": entry.origin,
            "variable": variable(entry.key),
        });
        (entry.key.to_string(), value)
    });
    let file = layers.file.as_ref().map(|file| file.path.display().to_string());
    json!({
        "config-file": file,
        "settings": entries.collect::<serde_json::Map<_, _>>(),
        "warnings": layers.warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_cells_are_cut_and_do_not_widen_the_others() {
        let row = |a: &str, b: &str| [a.to_string(), b.to_string()];
        // More than the formatter's largest width.
        let text = table(&[row("a", "b"), row(&"ü".repeat(70_000), "c")]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], format!("a{}b", " ".repeat(WIDEST + 1)));
        assert!(lines[1].ends_with("ü…  c") && lines[1].chars().count() < LONGEST + 9);
    }
}
