//! `deepforcing actions`: the keys that steer a world, and random trajectories for it.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use super::{
    Failure,
    config::table,
    printer::{Printer, print_result},
    video_flags::parse_seconds,
};
use crate::{
    Error, Result, files,
    models::{Located, Locator, ModelChoice, Needs},
    prompts::actions::{ActionError, Controls, Effect, Key, Trajectory, random},
    rollout::request::VideoLength,
};

const EXAMPLES: &str = "\
Examples:
  deepforcing actions --controls universal
  deepforcing actions --controls gta_drive --json
  deepforcing actions --controls universal --random --seed 7 --pictures 597 \\
    -o walk.jsonl
  deepforcing generate --image start.png --actions walk.jsonl \\
    --model matrix-game-2

Keys are written in `generate --actions` as ACTION*PICTURES, joined by + where
several are pressed: 'w*48, w+turn-left*24, none*'. The last action may last to
the end. A movement of the mouse takes a strength: turn-left=0.05.

Random trajectories: the first picture has an action of its own, then each lasts
12 pictures; actions are drawn from the mixture that Matrix-Game publishes for
the controls. The same seed gives the same actions, and a longer trajectory
begins with the shorter one.";

#[derive(Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("whose").required(true).args(["model", "controls"]))]
pub(super) struct Actions {
    /// The model that is steered: a name or a folder
    #[arg(long, value_name = "NAME|DIR")]
    model: Option<String>,
    /// The controls themselves: universal, gta_drive or templerun
    #[arg(long, value_name = "NAME")]
    controls: Option<Controls>,
    /// Make random actions
    #[arg(long)]
    random: bool,
    /// Seed of the random actions
    #[arg(long, value_name = "N", default_value_t = 0, requires = "random")]
    seed: u64,
    /// How long they are, in seconds or as 90s, 1:30, 1m30s, at the model's rate [default: 5]
    #[arg(
        long,
        value_name = "TIME",
        allow_negative_numbers = true,
        value_parser = parse_seconds,
        requires_all = ["random", "model"],
        conflicts_with = "pictures"
    )]
    seconds: Option<f64>,
    /// How many pictures they are for
    #[arg(
        long,
        value_name = "N",
        requires = "random",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pictures: Option<u32>,
    /// File for the random actions, .jsonl or .txt; without it they are printed
    #[arg(short, long, value_name = "FILE", requires = "random")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "output")]
    overwrite: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Actions {
    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        let located = match &self.model {
            Some(model) => Some(located(model)?),
            None => None,
        };
        let controls = match (self.controls, &located) {
            (Some(controls), _) => Some(controls),
            (None, Some(located)) => Some(controls_of(located)?),
            (None, None) => None,
        };
        // One of the two is required by the parser.
        let Some(controls) = controls else { return Ok(()) };
        if !self.random {
            let text = match self.json {
                true => format!("{:#}\n", as_json(controls)),
                false => as_text(controls),
            };
            return print_result(text.as_bytes());
        }
        let pictures = self.pictures(located.as_ref())?;
        let trajectory = random(controls, self.seed, pictures).map_err(|problem| {
            let place = String::new();
            Error::from(ActionError::Text { place, problem })
        })?;
        self.write(&trajectory, controls, printer)
    }

    /// Pictures of a random trajectory.
    fn pictures(&self, located: Option<&Located>) -> Result<usize> {
        /// Length of a video by default.
        const SECONDS: f64 = 5.0;
        match (self.pictures, located) {
            (Some(pictures), _) => Ok(pictures as usize),
            (None, Some(located)) => {
                let (video, rollout) = (located.preset.video, located.preset.rollout);
                let seconds = self.seconds.unwrap_or(SECONDS);
                let length = VideoLength::of_seconds(seconds, video.fps, rollout.chunk, rollout.first_frame_alone)?;
                Ok(length.pictures)
            }
            (None, None) => Err(ActionError::NoLength.into()),
        }
    }

    fn write(&self, trajectory: &Trajectory, controls: Controls, printer: &Printer) -> Result<(), Failure> {
        let Some(path) = &self.output else {
            return print_result(trajectory.json_lines(controls).as_bytes());
        };
        let text = match ending(path).as_str() {
            "jsonl" | "ndjson" => trajectory.json_lines(controls),
            "txt" => trajectory.text(controls) + "\n",
            _ => return Err(Error::from(ActionError::Ending { path: path.clone() }).into()),
        };
        let unwritten = |reason: &str| anyhow!("cannot write `{}`: {reason}", path.display());
        if !self.overwrite && path.symlink_metadata().is_ok() {
            return Err(unwritten("it exists; give another name, or replace it with --overwrite").into());
        }
        files::replace(path, text.as_bytes()).map_err(|error| unwritten(&error.to_string()))?;
        printer.note(&format!(
            "actions for {} pictures: `{}`",
            trajectory.pictures(),
            path.display()
        ));
        Ok(())
    }
}

fn ending(path: &Path) -> String {
    let ending = path.extension().unwrap_or_default();
    ending.to_string_lossy().to_ascii_lowercase()
}

fn located(model: &str) -> Result<Located> {
    let choice = ModelChoice {
        model: Some(model),
        preset: None,
        own: None,
    };
    Locator::of_process().locate(choice, Needs::default(), &|| false)
}

fn controls_of(located: &Located) -> Result<Controls> {
    let controls = located.preset.controls;
    Ok(controls.ok_or_else(|| ActionError::NoControls {
        model: located.model.clone(),
    })?)
}

/// What a key does, for people.
fn does(key: &Key, controls: Controls) -> String {
    let scheme = controls.scheme();
    match key.effect {
        Effect::Press(keys) => {
            let columns = scheme.columns.iter().enumerate();
            let pressed = columns.filter(|(column, _)| (keys >> column) & 1 == 1);
            let pressed: Vec<_> = pressed
                .map(|(column, name)| format!("{name} (column {column})"))
                .collect();
            pressed.join(" and ")
        }
        Effect::Turn([up, right]) => {
            let step = scheme.mouse.as_ref().map_or(0.0, |mouse| mouse.step);
            let of = |steps: i8| f32::from(steps) * step;
            format!("mouse {} vertically, {} horizontally", of(up), of(right))
        }
        Effect::Rest(_) => "nothing".into(),
    }
}

fn as_text(controls: Controls) -> String {
    let scheme = controls.scheme();
    let rows = scheme
        .keys
        .iter()
        .map(|key| [format!("  {}", key.letter), key.names.join(", "), does(key, controls)]);
    let mut text = format!("{}: {}\n", scheme.name, scheme.about);
    text += &table(&rows.collect::<Vec<_>>());
    let none: Vec<_> = controls.columns(scheme.none).iter().map(f32::to_string).collect();
    text += &format!("nothing pressed: keyboard {}", none.join(" "));
    text += match scheme.mouse {
        Some(_) => ", mouse 0 0\n",
        None => ", no mouse\n",
    };
    if scheme.one_key {
        text += "one key at a time\n";
    }
    text
}

fn as_json(controls: Controls) -> Value {
    let scheme = controls.scheme();
    let keys = scheme.keys.iter().map(|key| {
        let mut object = json!({"names": key.names});
        if !key.letter.is_empty() {
            object["key"] = json!(key.letter);
        }
        match key.effect {
            Effect::Press(keys) => object["keyboard"] = json!(controls.columns(keys)),
            Effect::Turn(steps) => object["mouse-steps"] = json!(steps),
            Effect::Rest(_) => object["rests"] = json!(true),
        }
        object
    });
    json!({
        "controls": scheme.name,
        "about": scheme.about,
        "columns": scheme.columns,
        "none": controls.columns(scheme.none),
        "one-key": scheme.one_key,
        "mouse": scheme.mouse.as_ref().map(|mouse| json!({"step": mouse.step, "most": mouse.most})),
        "keys": keys.collect::<Vec<_>>(),
        "mixture": scheme.mixture.iter().map(|(action, weight)| json!([action, weight])).collect::<Vec<_>>(),
    })
}
