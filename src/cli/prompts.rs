//! `deepforcing prompts`: what the bundled model understands.

use std::collections::BTreeMap;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Failure, config::table, printer::print_result};
use crate::Error;

const EXAMPLES: &str = "\
Examples:
  deepforcing prompts
  deepforcing prompts --json
  deepforcing generate \"$(deepforcing prompts --json | jq -r '.examples[0]')\" --model toy

The large models understand free descriptions; these words are those of the bundled model `toy`.";

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
