//! The command line: what was typed, what it means, what is printed. Everything else is in the library.
//!
//! Results go to stdout, all else to stderr. Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted.

mod generate;
mod models;
mod printer;
mod pulling;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{Error, hub::HubError};

#[derive(Parser)]
#[command(name = "deepforcing", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Turn a prompt into a video
    Generate(Box<generate::Generate>),
    /// List, download, verify and remove models
    Models(models::Models),
}

/// Why a command did not succeed.
enum Failure {
    /// What was typed cannot be: exit code 2.
    Usage(Error),
    /// Something went wrong: exit code 1.
    Failed(anyhow::Error),
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

/// Runs the program on its command line and gives its exit code.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Generate(generate) => generate.run(),
        Command::Models(models) => models.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => {
            printer::say(&format!("error: {error}"));
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            // The library's messages tell their causes themselves.
            printer::say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
        Err(Failure::Interrupted) => ExitCode::from(130),
    }
}
