//! `deepforcing inspect`: the recipe of a video.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, printer::print_result, recipes::recipe_of};

const EXAMPLES: &str = "\
Examples:
  deepforcing inspect storm.mp4
  deepforcing inspect storm.mp4 --json | jq .seed
  deepforcing inspect latents.safetensors";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Inspect {
    /// A video of this program, its .json sidecar, or saved latents
    file: PathBuf,
    /// Print the recipe as JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let recipe = recipe_of(&self.file)?;
        let text = match self.json {
            true => recipe.to_json_pretty() + "\n",
            false => recipe.human(),
        };
        print_result(text.as_bytes())
    }
}
