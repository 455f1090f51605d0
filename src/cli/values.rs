//! Words that flags take, for completions and for slips.

use clap::{
    Command,
    builder::PossibleValuesParser,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    bench::Scale,
    cache::{Parameter, RecacheSink, parameters::Kind},
    config::{Key, PreviewMode},
    device::{DeviceChoice, DtypeChoice},
    models::{DecoderKind, preset::Preset},
    prompts::actions::Controls,
    rollout::SwitchRule,
    sweep::SweepPreset,
    text::nearest::nearest,
    video::{self, EncoderChoice, Form},
};

/// The words that the flag (without dashes) or argument of this name takes; none where any text may stand. A list may not
/// be all: presets and models can be files.
fn words(name: &str) -> Option<Vec<&'static str>> {
    let parameter = Parameter::ALL.iter().find(|parameter| parameter.name == name);
    if let Some(parameter) = parameter {
        return match parameter.kind {
            Kind::Word { names, .. } => Some(names.to_vec()),
            _ => None,
        };
    }
    Some(match name {
        "on-switch" => SwitchRule::NAMES.to_vec(),
        "recache-sink" => RecacheSink::NAMES.to_vec(),
        "device" => DeviceChoice::NAMES.to_vec(),
        "dtype" => DtypeChoice::NAMES.to_vec(),
        "encoder" => EncoderChoice::NAMES.to_vec(),
        "encoder-preset" => video::Preset::ALL.map(video::Preset::as_str).to_vec(),
        "preview" => PreviewMode::NAMES.to_vec(),
        "format" => Form::ALL.map(Form::as_str).to_vec(),
        "vae" => DecoderKind::NAMES.to_vec(),
        "controls" => Controls::ALL.map(|controls| controls.scheme().name).to_vec(),
        "naming" => vec!["index", "vbench"],
        "illegal" => vec!["skip", "refuse"],
        "scale" => Scale::NAMES.to_vec(),
        "model" | "preset" | "model-preset" => Preset::names(),
        "key" => Key::all().iter().map(|key| key.name).collect(),
        _ => return None,
    })
}

/// The definition with the words that flags take, for scripts that complete them. It parses nothing: lists of words, for
/// instance, are not among them.
pub(super) fn completed(command: Command) -> Command {
    let of_sweep = command.get_name() == "sweep";
    let command = command.mut_args(|argument| {
        let name = argument
            .get_long()
            .map_or_else(|| argument.get_id().to_string(), str::to_owned);
        let words = match (name.as_str(), of_sweep) {
            ("preset", true) => Some(SweepPreset::names().collect()),
            (name, _) => words(name),
        };
        match words {
            Some(words) if argument.get_action().takes_values() => argument
                .value_parser(PossibleValuesParser::new(words))
                .hide_possible_values(true),
            _ => argument,
        }
    });
    let names: Vec<_> = command
        .get_subcommands()
        .map(|inner| inner.get_name().to_owned())
        .collect();
    names
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, completed))
}

/// Adds the word that was probably meant to the message about one that a flag does not take.
pub(super) fn explain(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::ValueValidation {
        return error;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg).and_then(|flag| flag.split([' ', '[', '=']).next());
    let near = flag.zip(text(ContextKind::InvalidValue)).and_then(|(flag, value)| {
        let words = words(flag.trim_start_matches('-'))?;
        nearest(value, words).map(str::to_owned)
    });
    if let Some(near) = near {
        error.insert(ContextKind::SuggestedValue, ContextValue::String(near));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_in_values_are_corrected() {
        for (words, near) in [
            (&["--policy", "deepsink"][..], "deep-sink"),
            (&["--policy=fivo"], "fifo"),
            (&["--dtype", "bf61"], "bf16"),
            (&["--vae", "wam"], "wan"),
            (&["--encoder-preset", "slwo"], "slow"),
            (&["--format", "mp5"], "mp4"),
            (&["--on-switch", "recashe"], "recache"),
        ] {
            let words = [&["deepforcing", "generate", "a"], words].concat();
            let error = crate::cli::definition().try_get_matches_from(&words).unwrap_err();
            let said = explain(error).to_string();
            assert!(
                said.contains(&format!("a similar value exists: '{near}'")),
                "{words:?}: {said}"
            );
        }
    }

    #[test]
    fn every_flag_with_words_completes_them() {
        let command = completed(crate::cli::definition());
        let generate = command.find_subcommand("generate").unwrap();
        for flag in [
            "policy",
            "device",
            "vae",
            "format",
            "preset",
            "model",
            "encoder-preset",
            "preview",
            "positions",
            "scorer",
            "on-switch",
            "recache-sink",
        ] {
            let argument = generate
                .get_arguments()
                .find(|argument| argument.get_long() == Some(flag))
                .unwrap();
            assert!(!argument.get_possible_values().is_empty(), "{flag}");
        }
    }
}
