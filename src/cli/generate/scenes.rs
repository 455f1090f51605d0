//! From prompts on the command line, in a file or on standard input to the videos to make.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{
    Error, Result,
    cli::{printer::Printer, prompt_list},
    config::Layers,
    prompts::{Scene, SwitchError, actions::ActionSource, parse_switch},
    text::check_prompt,
};

/// What the videos show.
#[derive(Args)]
pub(super) struct PromptFlags {
    /// What the video shows, in quotes. Several prompts make several videos; `-` reads prompts from standard input. A
    /// world has none: it begins with --image
    #[arg(value_name = "PROMPT", required_unless_present_any = ["prompt_file", "actions", "image"])]
    prompts: Vec<String>,
    /// Prompts from a file: .txt with one per line, .jsonl with one video per line (keys prompt or prompts, switch,
    /// on_switch, seed, seconds, id, image, actions), or .csv with these as columns. Lines that begin with # are comments
    #[arg(long, value_name = "FILE", conflicts_with = "prompts")]
    prompt_file: Option<PathBuf>,
    /// From TIME on another prompt, for example '12s: a storm comes'; TIME is 12s, 1:30, or 40f for latent frame 40.
    /// Takes effect at the next chunk. 'TIME recache: PROMPT' says what becomes of the cache (as --on-switch). May be
    /// given several times
    #[arg(long = "switch", value_name = "TIME: PROMPT")]
    switches: Vec<String>,
    /// What keys and mouse do in a world: ACTION*PICTURES, one after the other, for example 'w*48, w+turn-left*24, none*';
    /// the last may last to the end. Or a file with these words (.txt), or with rows of action and frames (.jsonl, .csv).
    /// Without --seconds, the video is as long as its actions. `deepforcing actions --model NAME` prints the keys
    #[arg(long, value_name = "TEXT|FILE")]
    actions: Option<String>,
}

impl PromptFlags {
    /// The videos, each with at least one prompt that has words.
    ///
    /// # Errors
    /// What is wrong with a prompt, a switch or a prompt file.
    pub fn scenes(&self, printer: &Printer) -> Result<Vec<Scene>> {
        let mut scenes = match &self.prompt_file {
            Some(path) => prompt_list::read(path, printer)?,
            None => {
                let mut scenes = Vec::new();
                for prompt in &self.prompts {
                    match prompt.as_str() {
                        "-" => scenes.extend(prompt_list::read(Path::new("-"), printer)?),
                        prompt => scenes.push(Scene::of_prompt(prompt)),
                    }
                }
                if self.prompts.is_empty() {
                    // A world, unless the model says otherwise.
                    scenes.push(Scene::default());
                }
                scenes
            }
        };
        if let Some(actions) = &self.actions {
            let actions = ActionSource::new(actions, Path::new(""));
            for scene in &mut scenes {
                scene.actions.get_or_insert_with(|| actions.clone());
            }
        }
        self.tell_unquoted(printer);
        self.add_switches(&mut scenes)?;
        for segment in scenes.iter().flat_map(|scene| &scene.segments) {
            check_prompt(&segment.text)?;
        }
        Ok(scenes)
    }

    /// The layers with the settings that the prompt file has.
    ///
    /// # Errors
    /// As [`prompt_list::with_settings`].
    pub fn with_settings(&self, layers: Layers, scenes: &[Scene], printer: &Printer) -> Result<Layers> {
        match &self.prompt_file {
            Some(file) => prompt_list::with_settings(layers, scenes, file, printer),
            None => Ok(layers),
        }
    }

    /// `generate a red ball` makes three videos, which nobody means.
    fn tell_unquoted(&self, printer: &Printer) {
        let word = |prompt: &String| prompt != "-" && !prompt.trim().contains(char::is_whitespace);
        let count = self.prompts.len();
        if count > 1 && self.prompts.iter().all(word) {
            printer.warning(&format!(
                "{count} videos, one for each word: a prompt of several words stands in quotes: \"{}\"",
                self.prompts.join(" ")
            ));
        }
    }

    fn add_switches(&self, scenes: &mut [Scene]) -> Result<()> {
        if self.switches.is_empty() {
            return Ok(());
        }
        let [scene] = scenes else {
            return Err(Error::SwitchForMany { videos: scenes.len() });
        };
        if scene.segments.is_empty() {
            return Err(SwitchError::NoPrompt.into());
        }
        if scene.segments.len() > 1 {
            return Err(Error::SwitchTwice);
        }
        for switch in &self.switches {
            scene.segments.push(parse_switch(switch)?);
        }
        Ok(())
    }
}
