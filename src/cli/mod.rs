//! The command line: what was typed, what it means, what is printed. Everything else is in the library.
//!
//! Results go to stdout, all else to stderr. Exit codes: 0 done, 1 failed, 2 usage, 3 part of a batch
//! failed, 130 interrupted.
//!
//! | file | what it holds |
//! |---|---|
//! | `generate/` | `deepforcing generate`: prompts, the plan of a dry run |
//! | `batch` | `deepforcing batch`: many videos in one folder |
//! | `sweep/` | `deepforcing sweep`: the same videos under many settings |
//! | `folder/` | what commands that fill a folder have in common |
//! | `bench` | `deepforcing bench`: how fast this machine is |
//! | `rerun`, `decode`, `inspect`, `convert` | the commands of these names |
//! | `policies` | `deepforcing policies`: which cache policies there are and what they cost |
//! | `prompts` | what the bundled model understands |
//! | `actions` | what the keys of a world do, random trajectories |
//! | `prompt_list` | prompt files of `generate`, `batch` and `sweep` |
//! | `metrics/` | `deepforcing metrics`: measures of videos |
//! | `report` | `deepforcing report`: a folder of videos set side by side |
//! | `trace/` | `deepforcing trace`: the page of a trace; flags that record one |
//! | `recipes` | recipes in files |
//! | `render` | what a run tells, on the screen |
//! | `models/`, `pulling` | `deepforcing models`, downloads |
//! | `cache_flags` | the flags of the cache's parameters, from their table |
//! | `flags`, `video_flags` | flags that several commands share |
//! | `config` | `deepforcing config`: settings and where they come from |
//! | `doctor` | `deepforcing doctor`: what is there and what is missing |
//! | `completions` | `deepforcing completions`, `deepforcing man` |
//! | `printer` | notes, warnings, errors, the live line |
//! | `live` | pace of a video and the text of the live line |
//! | `help` | help in two lengths |
//! | `hints` | what to do after an error |
//! | `faults` | words for signals that end the program |
//! | `foreign`, `values` | flags of other programs; words that flags take |
//! | `logging` | log messages on stderr |
//! | `preview`, `picture` | pictures in the terminal |
//! | `threads` | how many threads compute |
//! | `terminal` | what the terminal is and can do |

mod actions;
mod batch;
mod bench;
mod cache_flags;
mod completions;
mod config;
mod convert;
mod decode;
mod doctor;
mod faults;
mod flags;
mod folder;
mod foreign;
mod generate;
mod help;
mod hints;
mod inspect;
mod live;
mod logging;
mod metrics;
mod models;
mod picture;
mod policies;
mod preview;
mod printer;
mod prompt_list;
mod prompts;
mod pulling;
mod recipes;
mod render;
mod report;
mod rerun;
mod sweep;
mod terminal;
mod threads;
mod trace;
mod values;
mod video_flags;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{Error, hub::HubError, video::VideoError};

/// Name of the program.
const PROGRAM: &str = "deepforcing";

const EXAMPLES: &str = "\
Examples:
  deepforcing generate \"a red ball bouncing over green hills\" --model toy \\
    -o ball.mp4
  deepforcing models list
  deepforcing doctor
  deepforcing config show

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 part of a batch failed, 130
interrupted.";

#[derive(Parser)]
#[command(name = PROGRAM, version, about, max_term_width = help::COLUMNS, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: printer::OutputFlags,
    /// Encode and read videos with this program ffmpeg instead of the libraries that this program was built with, if it
    /// was built with any; DEEPFORCING_FFMPEG names it as well
    #[arg(
        long,
        global = true,
        help_heading = "Output",
        value_name = "PATH",
        hide_short_help = true
    )]
    ffmpeg: Option<std::path::PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Turn prompts into videos
    Generate(Box<generate::Generate>),
    /// Turn a file of prompts into a folder of videos, in a run that can be stopped and resumed
    Batch(Box<batch::Batch>),
    /// Render prompts under many cache and sampler settings and compare them
    Sweep(Box<sweep::Sweep>),
    /// Make a video again from the recipe that it carries
    Rerun(rerun::Rerun),
    /// Turn saved latents into a video
    Decode(decode::Decode),
    /// Print the recipe of a video
    Inspect(inspect::Inspect),
    /// Write a network in any layout and format as one .safetensors file
    Convert(Box<convert::Convert>),
    /// Measure flickering, drift, motion, seams and repetition of videos
    Metrics(metrics::Metrics),
    /// Set the videos of a batch or sweep side by side, in a page
    Report(report::Report),
    /// Draw what the cache kept, from a trace of `generate --trace`
    Trace(trace::TracePage),
    /// Measure how fast this machine makes videos, stage by stage
    Bench(Box<bench::Bench>),
    /// List, download, verify and remove models
    Models(models::Models),
    /// List the cache policies: what they keep, and what they cost with the model
    Policies(policies::Policies),
    /// Print example prompts and the vocabulary of the bundled model
    Prompts(prompts::Prompts),
    /// Print the keys that steer a world, or make random actions for it
    Actions(actions::Actions),
    /// Settings and where they come from
    Config(config::Config),
    /// Check what is there: processor, FFmpeg, caches, models, variables
    Doctor(doctor::Doctor),
    /// Print a script that completes commands and flags in a shell
    Completions(completions::Completions),
    /// Print a man page, or write all of them
    Man(completions::ManPages),
}

/// Why a command did not succeed.
enum Failure {
    /// What was typed cannot be: exit code 2.
    Usage(Error),
    /// Something went wrong: exit code 1.
    Failed(anyhow::Error),
    /// The command has said itself what is wrong: exit code 1.
    Told,
    /// Part of a batch failed; the command has said so: exit code 3.
    Partly,
    /// The user stopped it: exit code 130.
    Interrupted,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Cancelled | Error::Hub(HubError::Cancelled) => Self::Interrupted,
            usage if usage.is_usage() => Self::Usage(usage),
            other => Self::Failed(other.into()),
        }
    }
}

impl From<VideoError> for Failure {
    fn from(error: VideoError) -> Self {
        Error::from(error).into()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// All commands and flags.
fn definition() -> clap::Command {
    help::shaped(Cli::command())
}

/// What was typed; help, version and wrong usage end the program here.
fn parse() -> Cli {
    let words: Vec<_> = std::env::args_os().collect();
    // The parser's own messages are printed before there is anything parsed.
    let color = words.windows(2).find_map(|pair| match pair {
        [flag, value] if flag == "--color" => value.to_str(),
        [_, word] => word.to_str()?.strip_prefix("--color="),
        _ => None,
    });
    let color = match color {
        Some("always") => clap::ColorChoice::Always,
        Some("never") => clap::ColorChoice::Never,
        _ => clap::ColorChoice::Auto,
    };
    let matches = definition().color(color).try_get_matches_from(words);
    let matches = matches.unwrap_or_else(|error| values::explain(foreign::explain(error)).exit());
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Runs the program on its command line and gives its exit code.
pub fn main() -> ExitCode {
    faults::explain();
    let cli = parse();
    let printer = printer::Printer::new(&cli.output);
    logging::start(&printer);
    if let Some(path) = &cli.ffmpeg
        && let Err(error) = crate::video::use_program(path)
    {
        printer.error(&Error::from(error));
        return ExitCode::from(2);
    }
    let result = match cli.command {
        Command::Generate(generate) => generate.run(&printer),
        Command::Batch(batch) => batch.run(&printer),
        Command::Sweep(sweep) => sweep.run(&printer),
        Command::Rerun(rerun) => rerun.run(&printer),
        Command::Decode(decode) => decode.run(&printer),
        Command::Inspect(inspect) => inspect.run(),
        Command::Convert(convert) => convert.run(&printer),
        Command::Metrics(metrics) => metrics.run(&printer),
        Command::Report(report) => report.run(&printer),
        Command::Trace(trace) => trace.run(&printer),
        Command::Bench(bench) => bench.run(&printer),
        Command::Models(models) => models.run(&printer),
        Command::Policies(policies) => policies.run(&printer),
        Command::Prompts(prompts) => prompts.run(),
        Command::Actions(actions) => actions.run(&printer),
        Command::Config(config) => config.run(&printer),
        Command::Doctor(doctor) => doctor.run(&printer),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => {
            printer.error(&error);
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            printer.error(error.as_ref());
            ExitCode::FAILURE
        }
        Err(Failure::Partly) => ExitCode::from(3),
        Err(Failure::Told) => ExitCode::FAILURE,
        Err(Failure::Interrupted) => ExitCode::from(130),
    }
}
