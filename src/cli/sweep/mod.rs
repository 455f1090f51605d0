//! `deepforcing sweep`: the same videos under many settings.
//!
//! | file | what it holds |
//! |---|---|
//! | `grid` | the grid, from flags and a preset |
//! | `systems` | the models of the points |

mod grid;
mod systems;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;

use self::{
    grid::{GridFlags, Spec, SystemFlags},
    systems::Systems,
};
use super::{
    Failure,
    flags::{EncodingFlags, LoraFlags, NetworkFlags, RunFlags},
    folder::{self, FolderFlags},
    printer::Printer,
    prompt_list, prompts as prompts_of_toy,
    render::{Screen, interrupt_on_ctrl_c},
    report,
    threads::use_threads,
    video_flags::parse_seconds,
};
use crate::{
    Error, Result,
    batch::{self, Manifest, PointSettings, Shard},
    cache::CacheSettings,
    config::{Environment, Layer, Layers},
    models::Locator,
    prompts::{Scene, actions::ActionSource},
    render::{Event, session::Session},
    rollout::CancelToken,
    rollout::request::PictureSize,
    rollout::sampler::SamplerSettings,
    sweep::{
        self, Extended, Points, SweepError, SweepPlan, SweepPreset, items, prompts, read_trajectories,
        with_trajectories,
    },
};

const EXAMPLES: &str = "\
Examples:
  deepforcing sweep prompts.txt -o sinks --policy deep-sink \\
    --sink 0,4,9,12,14,18 --seconds 60
  deepforcing sweep prompts.txt -o sinks --preset paper-sink --seed 0..4
  deepforcing sweep prompts.txt -o parts --preset paper-components --model toy
  deepforcing sweep prompts.txt -o grid --window 18..24..3 --sink 4,10 \\
    --scorer both,random
  deepforcing sweep prompts.txt -o grid --preset my-sweep.toml --dry-run
  deepforcing sweep prompts.txt -o systems --preset paper-systems
  deepforcing sweep prompts.txt -o systems --model self-forcing,longlive \\
    --size 416x240
  deepforcing sweep starts.jsonl -o worlds --model matrix-game-2 \\
    --policy fifo,deep-sink --actions 'w*' --actions 'j*60, l*'

Every prompt is rendered with every seed at every point of the grid, which is
the product of all lists. A range holds both of its ends, as in a shell: 0..4 is
0,1,2,3,4 and 0..20..5 is 0,5,10,15,20. Points that break a cache rule are
listed before anything runs and left out (--illegal refuse: the sweep does not
run). A parameter that a policy does not have makes no further points of it:
--policy fifo,deep-sink --sink 4,9 are three points. The noise depends on the
seed and the chunk alone, so that videos of one seed can be compared.

Of several models (--model A,B) all videos of one are made before those of the
next, and each is loaded once. --model-preset A,B gives one model the loop,
sampler and cache of several presets.

Presets of the paper: paper-sink (depth of the sink), paper-components (first
in, first out; Deep Sink; with Participative Compression), paper-scorer (which
queries score), paper-systems (CausVid, Self Forcing, Rolling Forcing, LongLive,
Deep Forcing; with --model, all on its weights). policies: all cache policies at
the values of their releases. Or a .toml file:
  seed = \"0..4\"
  [cache]
  policy = \"deep-sink\"
  sink = [0, 4, 9]

The folder has sweep.json (points, prompts, seeds), POINT/PROMPT-seedS.mp4 and
manifest.jsonl with the measures of every video. Stop it at any moment, run the
same command again, and it goes on; with more values it adds what is missing.
What cannot be made is skipped, and its prompts are listed in failed.jsonl,
which is a prompt file: the same command with it in place of PROMPTS tries only
them again. At the end a report on the folder is written: see `deepforcing
report --help`.

Exit codes: 0 all is made, 1 failed, 2 wrong usage, 3 some videos could not be
made, 130 interrupted.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Sweep {
    /// Prompts: .txt, .jsonl or .csv, or - for standard input; seeds in it do not count, --seed does
    #[arg(value_name = "PROMPTS")]
    file: PathBuf,
    /// A sweep that is written down: paper-sink, paper-components, paper-scorer, paper-systems, policies, or a .toml file;
    /// flags go before it
    #[arg(long, value_name = "NAME|FILE")]
    preset: Option<String>,
    /// What becomes of points that break a rule: they are left out, or the sweep is refused
    #[arg(long, value_name = "skip|refuse", default_value = "skip")]
    illegal: Illegal,
    /// Write no report
    #[arg(long)]
    no_report: bool,
    #[command(flatten)]
    folder: FolderFlags,
    #[command(flatten)]
    grid: GridFlags,
    #[command(flatten)]
    video: LengthFlags,
    #[command(flatten)]
    worlds: WorldFlags,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    lora: LoraFlags,
    /// Settings of another preset of models, by name or .toml file; a list makes a point of each [default: the model's
    /// own]
    #[arg(long, value_name = "NAME|FILE", help_heading = "Model")]
    model_preset: Option<String>,
    #[command(flatten)]
    encoding: EncodingFlags,
    #[command(flatten)]
    running: RunFlags,
}

/// What all videos have in common.
#[derive(Args)]
#[command(next_help_heading = "Video")]
struct LengthFlags {
    /// Length of each video, in seconds or as 90s, 1:30, 1m30s [default: 5]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = parse_seconds)]
    seconds: Option<f64>,
    /// Picture size in pixels, multiples of 16 [default: the model's]
    #[arg(long, value_name = "WxH")]
    size: Option<PictureSize>,
}

/// What is done in worlds.
#[derive(Args)]
#[command(next_help_heading = "Worlds")]
struct WorldFlags {
    /// A trajectory, as in `generate --actions`: text or a file. May be given several times: every line of PROMPTS without
    /// `actions` of its own is rendered with each of them
    #[arg(long, value_name = "TEXT|FILE")]
    actions: Vec<String>,
    /// Trajectories from a list: one in each line, as text or as the name of a file beside the list
    #[arg(long, value_name = "FILE")]
    actions_list: Option<PathBuf>,
}

impl WorldFlags {
    /// What was typed, or what the preset says.
    fn over(&self, preset: &[String]) -> Result<Vec<ActionSource>, SweepError> {
        let source = |text: &String| ActionSource::new(text, Path::new(""));
        let mut typed: Vec<_> = self.actions.iter().map(source).collect();
        if let Some(list) = &self.actions_list {
            typed.extend(read_trajectories(list)?);
        }
        if typed.is_empty() {
            typed.extend(preset.iter().map(source));
        }
        Ok(typed)
    }
}

/// What becomes of points that break a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Illegal {
    Skip,
    Refuse,
}

impl FromStr for Illegal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "skip" => Ok(Self::Skip),
            "refuse" => Ok(Self::Refuse),
            _ => Err("expected skip or refuse".into()),
        }
    }
}

impl Sweep {
    fn spec(&self) -> Result<Spec, SweepError> {
        let preset = match &self.preset {
            Some(name) => SweepPreset::load(name)?,
            None => SweepPreset::default(),
        };
        let systems = SystemFlags {
            model: self.network.model.clone(),
            preset: self.model_preset.clone(),
        };
        let name = self.preset.as_deref().unwrap_or_default();
        let mut spec = self.grid.over(preset, name, &systems)?;
        spec.seconds = self.video.seconds.or(spec.seconds);
        Ok(spec)
    }

    fn layer(&self, spec: &Spec) -> Layer {
        let typed = self.network.layer(self.model_preset.as_ref());
        // A list is no name: its models and presets are those of the points.
        let listed = |key: &str| spec.grid.axes.iter().any(|axis| axis.key == key);
        let layer = Layer {
            seconds: spec.seconds,
            size: self.video.size,
            model: typed.model.filter(|_| !listed("model")),
            preset: typed.preset.filter(|_| !listed("preset")),
            ..typed
        };
        self.encoding.over(self.lora.over(layer))
    }

    fn scenes(&self, spec: &Spec, printer: &Printer) -> Result<Vec<Scene>> {
        let mut scenes = prompt_list::read(&self.file, printer)?;
        if let Some(limit) = self.folder.limit {
            scenes.truncate(limit as usize);
        }
        if scenes.iter().any(|scene| scene.seed.is_some()) {
            printer
                .note("seeds in the prompt file do not count in a sweep: every prompt is rendered with every --seed");
        }
        Ok(with_trajectories(scenes, &self.worlds.over(&spec.actions)?))
    }

    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        // Everything that can be refused is refused before anything slow.
        self.folder.check_form().map_err(Error::from)?;
        let shard = self.folder.part(printer)?;
        let mut spec = self.spec().map_err(Error::from)?;
        let scenes = self.scenes(&spec, printer)?;
        let layers = Layers::load(self.layer(&spec), &Environment::of_process()).map_err(Error::from)?;
        layers.warnings.iter().for_each(|warning| printer.warning(warning));
        let cancel = CancelToken::default();
        let encoder = scenes.iter().any(|scene| scene.image.is_some());
        let mut screen = Screen::new(printer);
        let mut observe = |event: Event<'_>| screen.see(event);
        let mut systems = Systems::new(Locator::of_process(), layers, encoder, cancel.clone());
        let mut points = systems.points(&spec.grid, &mut observe)?;
        points.check(self.illegal == Illegal::Refuse).map_err(Error::from)?;
        tell(&points, printer);
        let sessions = systems.used(&mut points).map_err(Error::from)?;
        let [session, ..] = &sessions[..] else {
            return Err(Error::from(SweepError::NoPoints).into());
        };
        if let Some(toy) = sessions.iter().find(|session| prompts_of_toy::is_toy(session)) {
            prompts_of_toy::tell_toy(&scenes, toy, printer);
        }
        if spec.seeds.is_empty() {
            spec.seeds.push(session.settings.seed.value);
        }
        let plan = self.plan(&points, &scenes, &spec, &sessions)?;
        let extended = self.extended(plan, shard)?;
        let points = settings_in_places(&extended, points);
        let loads = batch::loads(&sessions);
        let mut items = items(&extended, &spec.seeds, |point| loads[points[point].session]);
        printer.detail(&format!("{} videos", items.len()));
        self.folder.take_part(&mut items, shard);
        let unused = Scene::default();
        let scenes = in_places(&extended.prompts, scenes, &unused, extended.plan.prompts.len());
        let list = self
            .folder
            .list(session, &sessions, &scenes, &points, shard, &self.running);
        list.check_settings(&mut observe)?;
        if self.running.dry_run {
            return folder::show(&list, &items, self.running.json, printer);
        }
        interrupt_on_ctrl_c(&cancel);
        use_threads(session.settings.threads.value);
        let output = &self.folder.output;
        let begin = || write_plan(&extended.plan, output);
        let result = folder::run(&list, &items, self.running.json, begin, &cancel, printer);
        match result {
            Ok(()) => Ok(self.report(&cancel, printer)?),
            // What is there is worth a look, and the failures were told already.
            Err(Failure::Partly) => {
                if let Err(error) = self.report(&cancel, printer) {
                    printer.warning(&error.to_string());
                }
                result
            }
            other => other,
        }
    }

    fn plan(&self, points: &Points, scenes: &[Scene], spec: &Spec, sessions: &[Session]) -> Result<SweepPlan> {
        let mut models: Vec<&str> = Vec::new();
        for session in sessions {
            if !models.contains(&session.located.model.as_str()) {
                models.push(&session.located.model);
            }
        }
        let Some(Session { settings, .. }) = sessions.first() else {
            return Err(SweepError::NoPoints.into());
        };
        let size = settings.size.value;
        Ok(SweepPlan {
            format: sweep::FORMAT,
            deepforcing: env!("CARGO_PKG_VERSION").into(),
            command: std::env::args_os().map(|word| word.to_string_lossy().into()).collect(),
            preset: self.preset.clone(),
            model: models.join(", "),
            seconds: settings.seconds.value,
            size: format!("{}x{}", size.width, size.height),
            fps: settings.fps.value.into(),
            axes: spec.grid.differing().cloned().collect(),
            points: points.points.iter().map(|(point, _)| point.clone()).collect(),
            prompts: prompts(scenes, self.folder.format.as_str())?,
            seeds: spec.seeds.clone(),
        })
    }

    /// The plan, after that of a sweep that is in the folder.
    fn extended(&self, plan: SweepPlan, shard: Shard) -> Result<Extended> {
        let folder = &self.folder.output;
        let Some(earlier) = SweepPlan::read(folder)? else {
            return Ok(Extended::new(plan));
        };
        let changes = earlier.differences(&plan);
        if changes.is_empty() || self.folder.skip_existing {
            return Ok(plan.after(earlier));
        }
        if self.folder.overwrite || Manifest::read(folder, shard)?.is_empty() {
            return Ok(Extended::new(plan));
        }
        Err(Error::Sweep(SweepError::OtherSweep {
            folder: folder.clone(),
            changes: changes.join(", "),
        }))
    }

    /// Writes the report of the folder.
    fn report(&self, cancel: &CancelToken, printer: &Printer) -> Result<()> {
        if self.no_report {
            return Ok(());
        }
        printer.stage("writing the report");
        let written = report::write(&self.folder.output, true, cancel, printer)?;
        let page = written.page.display();
        printer.note(&format!("{} {page}", report::summary(&written)));
        Ok(())
    }
}

/// Says which points are left out.
fn tell(points: &Points, printer: &Printer) {
    for (point, _) in &points.points {
        if let Some(reason) = &point.skipped {
            printer.warning(&format!("point {} is skipped: {reason}", point.label));
        }
    }
    if points.merged > 0 {
        printer.note(&format!(
            "{} of {} combinations are left out: what they differ in means nothing under their policy",
            points.merged,
            points.merged + points.points.len()
        ));
    }
}

/// Writes the plan, unless the folder has the same one made by another command (a part of the sweep).
fn write_plan(plan: &SweepPlan, folder: &Path) -> Result<()> {
    let same = |there: SweepPlan| {
        let command = plan.command.clone();
        SweepPlan { command, ..there } == *plan
    };
    match SweepPlan::read(folder)?.is_some_and(same) {
        true => Ok(()),
        false => Ok(plan.write(folder)?),
    }
}

fn settings_in_places(extended: &Extended, points: Points) -> Vec<PointSettings> {
    let unused = PointSettings {
        session: 0,
        cache: CacheSettings::default(),
        sampler: SamplerSettings::default(),
    };
    let settings = points.points.into_iter().map(|(_, settings)| settings);
    in_places(&extended.points, settings, &unused, extended.plan.points.len())
}

/// Puts `things` where `places` says, among `count`; the others are not used.
fn in_places<T: Clone>(places: &[usize], things: impl IntoIterator<Item = T>, unused: &T, count: usize) -> Vec<T> {
    let mut all = vec![unused.clone(); count];
    for (place, thing) in places.iter().zip(things) {
        if let Some(at) = all.get_mut(*place) {
            *at = thing;
        }
    }
    all
}
