//! Log messages on stderr: warnings always, more with `-v`, what a filter asks for when there is one.

use tracing_subscriber::{EnvFilter, fmt};

use super::{
    printer::{Level, LogWriter, Printer},
    terminal::variable,
};

/// Variables with a filter, the stronger one first.
const FILTERS: [&str; 2] = ["DEEPFORCING_LOG", "RUST_LOG"];

/// Starts logging. A filter that is none is told and passed over: it must not cost the video.
pub(super) fn start(printer: &Printer) {
    let mut filter = None;
    for name in FILTERS {
        let Some(text) = variable(name).filter(|text| !text.is_empty()) else {
            continue;
        };
        match EnvFilter::try_new(&text) {
            Ok(given) => {
                filter = Some(given);
                break;
            }
            Err(error) => printer.warning(&format!(
                "{name} is `{text}`, which is no filter of log messages ({error}); write for example deepforcing=debug"
            )),
        }
    }
    let filter = filter.unwrap_or_else(|| EnvFilter::new(by_level(printer.level())));
    let coloured = printer.colours();
    let subscriber = fmt()
        .with_env_filter(filter)
        .with_writer(move || LogWriter { coloured })
        .with_ansi(coloured)
        .with_target(printer.level() == Level::Debug)
        .without_time()
        .finish();
    // Fails only if a program that embeds this one has its own.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn by_level(level: Level) -> &'static str {
    match level {
        Level::Quiet => "deepforcing=error",
        Level::Normal => "deepforcing=warn",
        Level::Verbose => "deepforcing=info",
        Level::Debug => "deepforcing=debug",
    }
}
