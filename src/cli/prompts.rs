//! `deepforcing prompts`: what the bundled model understands.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{
    Failure,
    config::table,
    printer::{Printer, print_result},
};
use crate::{Error, models::preset::Preset, prompts::Scene, render::session::Session};

const EXAMPLES: &str = "\
Examples:
  deepforcing prompts
  deepforcing prompts --json
  deepforcing generate \"$(deepforcing prompts --json | jq -r '.examples[0]')\" \\
    --model toy

The large models understand free descriptions; these words are those of the
bundled model `toy`.";

/// Written down beside the model.
const TOY: &str = include_str!("../../weights/toy/prompts.toml");

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Prompts {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    examples: Vec<String>,
    vocabulary: BTreeMap<String, Vec<String>>,
}

/// Words that join the others.
const JOINING: [&str; 14] = [
    "a", "an", "the", "and", "with", "of", "its", "it", "that", "which", "is", "to", "at", "noon",
];
/// Unknown words that a message names.
const SHOWN: usize = 8;

/// Says what a run asks of the toy model that it was not trained for: words that it does not know, another size.
pub(super) fn tell_toy(scenes: &[Scene], session: &Session, printer: &Printer) {
    if !is_toy(session) {
        return;
    }
    let (size, trained) = (session.settings.size.value, session.located.preset.video);
    if (size.width, size.height) != (trained.width, trained.height) {
        printer.warning(&format!(
            "the toy model is trained at {}x{}: at {}x{} its pictures come out wrong",
            trained.width, trained.height, size.width, size.height
        ));
    }
    let Ok(known) = toml::from_str::<Known>(TOY) else {
        return;
    };
    let texts = scenes.iter().flat_map(|scene| &scene.segments);
    let unknown = known.unknown(texts.map(|segment| segment.text.as_str()));
    if unknown.is_empty() {
        return;
    }
    let named: Vec<_> = unknown.iter().take(SHOWN).map(|word| format!("`{word}`")).collect();
    let more = if unknown.len() > SHOWN { ", …" } else { "" };
    printer.warning(&format!(
        "the toy model does not know {}{more}: it shows a small world of simple shapes; `deepforcing prompts` lists its words",
        named.join(", ")
    ));
}

/// Whether the weights are those of the toy, whatever preset they are run with.
pub(super) fn is_toy(session: &Session) -> bool {
    let located = &session.located;
    located.preset.sized_by().unwrap_or(&located.preset_name) == Preset::BUNDLED
}

/// Parts of a prompt in the order in which they are usually said.
const ORDER: [&str; 7] = ["size", "colour", "shape", "motion", "place", "time", "camera"];

impl Prompts {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let known: Known = toml::from_str(TOY).map_err(|error| Error::config("prompts.toml".as_ref(), error))?;
        let text = match self.json {
            true => format!("{}\n", serde_json::json!(known)),
            false => known.as_text(),
        };
        print_result(text.as_bytes())
    }
}

impl Known {
    /// Words of `texts` that stand in no example and in no vocabulary, each once.
    fn unknown<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Vec<String> {
        let words = |text: &str| -> Vec<String> {
            let words = text
                .split(|c: char| !c.is_alphanumeric())
                .filter(|word| !word.is_empty());
            words.map(str::to_lowercase).collect()
        };
        let said = self.examples.iter().chain(self.vocabulary.values().flatten());
        let mut known: BTreeSet<String> = said.flat_map(|text| words(text)).collect();
        known.extend(JOINING.map(String::from));
        let mut unknown = Vec::new();
        for word in texts.flat_map(words) {
            if !known.contains(&word) && !unknown.contains(&word) {
                unknown.push(word);
            }
        }
        unknown
    }

    fn as_text(&self) -> String {
        let mut text = String::from("Prompts for the bundled model (--model toy), for example:\n");
        for example in &self.examples {
            text.push_str(&format!("  {example}\n"));
        }
        text.push_str("\nIts words, in this order or with the time first; size, time and camera may be left out:\n");
        let rows = ORDER.iter().filter_map(|part| {
            let words = self.vocabulary.get(*part)?;
            Some([format!("  {part}"), words.join(", ")])
        });
        text.push_str(&table(&rows.collect::<Vec<_>>()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_the_model_does_not_know_are_found() {
        let known: Known = toml::from_str(TOY).unwrap();
        let unknown = |text: &str| known.unknown([text].into_iter());
        for example in &known.examples {
            assert_eq!(unknown(example), [""; 0], "{example}");
        }
        assert_eq!(unknown("A small RED beach ball, jumping over the sea"), [""; 0]);
        assert_eq!(
            unknown("a dragon over a red castle; the dragon roars"),
            ["dragon", "castle", "roars"]
        );
    }

    #[test]
    fn the_examples_are_made_of_the_vocabulary() {
        let known: Known = toml::from_str(TOY).unwrap();
        assert!(ORDER.iter().all(|part| known.vocabulary.contains_key(*part)));
        assert_eq!(known.vocabulary.len(), ORDER.len());
        for example in &known.examples {
            for part in ["colour", "shape", "motion", "place", "time"] {
                let said = known.vocabulary[part]
                    .iter()
                    .any(|words| example.contains(words.as_str()));
                // Noon is what is meant when no time is said.
                assert!(said || part == "time", "`{example}` has no {part}");
            }
        }
    }
}
