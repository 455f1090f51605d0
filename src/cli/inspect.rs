//! `deepforcing inspect`: the recipe of a video, or what files of weights are.

use std::{fmt::Write, path::PathBuf};

use clap::Args;
use serde_json::json;

use super::{Failure, printer::print_result, recipes::recipe_of};
use crate::{
    hub::human_bytes,
    models::{InspectedFile, InspectedNetwork, Locator, inspect, is_weights},
};

const EXAMPLES: &str = "\
Examples:
  deepforcing inspect storm.mp4
  deepforcing inspect storm.mp4 --json | jq .seed
  deepforcing inspect latents.safetensors";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Inspect {
    /// A video of this program, its .json sidecar, or saved latents; or weights: a file (.safetensors, .pt, .pth, …) or
    /// a folder
    file: PathBuf,
    /// Print the recipe, or what the weights are, as JSON
    #[arg(long)]
    json: bool,
    /// List every tensor of weights: its name in the file and in the network, its type and shape
    #[arg(long)]
    tensors: bool,
}

impl Inspect {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if is_weights(&self.file) {
            return self.weights();
        }
        let recipe = recipe_of(&self.file)?;
        let text = match self.json {
            true => recipe.to_json_pretty() + "\n",
            false => recipe.human(),
        };
        print_result(text.as_bytes())
    }

    fn weights(&self) -> Result<(), Failure> {
        let locator = Locator::of_process();
        let files = inspect(&self.file, self.tensors, locator.own_cache())?;
        if self.json {
            return print_result(format!("{:#}\n", json!({ "files": files })).as_bytes());
        }
        let mut text = String::new();
        for file in &files {
            tell_file(&mut text, file);
        }
        if files.is_empty() {
            text = format!("no model files in `{}`\n", self.file.display());
        }
        print_result(text.as_bytes())
    }
}

/// What is known of a file, for people. Writing to text cannot fail.
fn tell_file(text: &mut String, file: &InspectedFile) {
    let _ = writeln!(text, "{} ({})", file.path.display(), human_bytes(file.bytes));
    if let Some(refusal) = &file.refusal {
        let _ = writeln!(text, "  cannot be read: {refusal}");
    } else if file.networks.is_empty() {
        let like = file
            .looks_like
            .map_or(String::new(), |like| format!("; it looks like {like}"));
        let _ = writeln!(text, "  no network that is run here{like}");
    }
    for network in &file.networks {
        tell_network(text, network);
    }
}

fn tell_network(text: &mut String, network: &InspectedNetwork) {
    let _ = writeln!(text, "  {}", network.role);
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "    {name:<12} {value}");
    };
    if let Some(description) = &network.description {
        row("layout", description.to_string());
        let of_type = |(name, bytes): (&&str, &u64)| format!("{name} {}", human_bytes(*bytes));
        row("parameters", description.parameters.to_string());
        row(
            "types",
            description.types.iter().map(of_type).collect::<Vec<_>>().join(", "),
        );
    }
    if !network.sizes.is_empty() {
        let sizes = network.sizes.iter().map(|(name, value)| format!("{name} {value}"));
        row("sizes", sizes.collect::<Vec<_>>().join(", "));
    }
    if let Some((causal, reason)) = &network.causal {
        let word = match *causal {
            "causal" => "yes",
            "base" => "probably not, it is a base model, which gives noise here",
            _ => "cannot be told",
        };
        row("causal", format!("{word} ({reason})"));
    }
    if !network.presets.is_empty() {
        row("presets", network.presets.join(", "));
    }
    if let Some(refusal) = &network.refusal {
        row("cannot run", refusal.replace('\n', "\n    "));
    }
    for tensor in &network.list {
        let name = tensor.name.escape_debug();
        let own = match tensor.name == tensor.model_name {
            true => String::new(),
            false => format!(" = {}", tensor.model_name.escape_debug()),
        };
        let _ = writeln!(text, "      {name}{own}  {} {:?}", tensor.dtype, tensor.shape);
    }
}
