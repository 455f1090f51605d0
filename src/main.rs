//! The command `deepforcing`: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    deepforcing::cli::main()
}
