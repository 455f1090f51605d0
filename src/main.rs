//! The command `deepforcing`: parse, run, exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    deepforcing::cli::main()
}
