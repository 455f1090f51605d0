//! Help in two lengths: `-h` is a screen of what is mostly needed, `--help` is everything.

use clap::{Arg, Command, builder::StyledStr};

/// Columns of help: no terminal breaks its lines.
pub(super) const COLUMNS: usize = 80;

/// Arguments and flags that `-h` shows, of commands that have more than a screen of them.
const SHORT: &[(&str, &[&str])] = &[
    (
        "generate",
        &[
            "prompts",
            "prompt-file",
            "output",
            "overwrite",
            "image",
            "extend",
            "seconds",
            "seed",
            "size",
            "num-steps",
            "model",
            "device",
            "policy",
            "max-vram",
            "dry-run",
        ],
    ),
    (
        "batch",
        &[
            "file",
            "output",
            "samples",
            "naming",
            "shard",
            "overwrite",
            "seconds",
            "seed",
            "size",
            "model",
            "device",
            "policy",
            "max-vram",
            "dry-run",
        ],
    ),
    (
        "sweep",
        &[
            "file", "output", "preset", "policy", "sink", "window", "steps", "seed", "seconds", "size", "model",
            "device", "shard", "dry-run",
        ],
    ),
    (
        "rerun",
        &[
            "file",
            "output",
            "overwrite",
            "model",
            "start",
            "lora",
            "trace",
            "device",
            "json",
        ],
    ),
    (
        "decode",
        &["file", "output", "format", "overwrite", "model", "vae", "device", "crf"],
    ),
    (
        "bench",
        &[
            "model",
            "random-weights",
            "vae",
            "chunks",
            "parity",
            "compare",
            "json",
            "device",
            "dtype",
        ],
    ),
];
/// Lines of examples that `-h` shows.
const EXAMPLES: usize = 3;

/// Gives every command both lengths.
pub(super) fn shaped(command: Command) -> Command {
    let name = command.get_name().to_owned();
    let shown = SHORT.iter().find(|(known, _)| *known == name).map(|(_, shown)| *shown);
    let command = command.mut_args(|argument| {
        let hidden = shown.is_some_and(|shown| !shown.contains(&name_of(&argument)));
        let hidden = hidden || argument.is_hide_short_help_set();
        in_both_lengths(argument).hide_short_help(hidden)
    });
    let command = match command.get_after_help().map(StyledStr::to_string) {
        Some(all) => {
            let short = examples(&all, shown.is_some(), &name);
            command.after_long_help(all).after_help(short)
        }
        None => command,
    };
    let names: Vec<_> = command
        .get_subcommands()
        .map(|inner| inner.get_name().to_owned())
        .collect();
    names
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, shaped))
}

/// A flag without dashes, or what an argument is called.
fn name_of(argument: &Arg) -> &str {
    argument.get_long().unwrap_or_else(|| argument.get_id().as_str())
}

fn in_both_lengths(argument: Arg) -> Arg {
    let Some(all) = argument.get_help().map(StyledStr::to_string) else {
        return argument;
    };
    let short = shortened(&all);
    match argument.get_long_help().map(StyledStr::to_string) {
        Some(all) => argument.help(short).long_help(all),
        None if short == all => argument,
        None => argument.help(short).long_help(all),
    }
}

/// The first statement, and the default at the end.
fn shortened(text: &str) -> String {
    let mut depth = 0i32;
    let mut end = text.len();
    for (at, sign) in text.char_indices() {
        match sign {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '.' | ';' | ':' if depth == 0 && text[at + 1..].starts_with(' ') => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let default = text.rfind("[default:").filter(|at| *at > end).map(|at| &text[at..]);
    match default {
        Some(default) => format!("{} {default}", &text[..end]),
        None => text[..end].to_owned(),
    }
}

/// The first examples, and where to find more.
fn examples(text: &str, shortened: bool, name: &str) -> String {
    let first = text.split("\n\n").next().unwrap_or_default();
    let mut lines = Vec::new();
    let mut count = 0;
    for line in first.lines() {
        let begins = line.starts_with("  deepforcing") || line.starts_with("  $") || line.starts_with("  DEEP");
        count += usize::from(begins);
        if count > EXAMPLES {
            break;
        }
        lines.push(line);
    }
    let short = lines.join("\n");
    match shortened || short != text {
        true => format!(
            "{short}\n\nAll flags and more about {}: --help",
            if name == super::PROGRAM { "it" } else { &name }
        ),
        false => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(command: &Command, look: &mut impl FnMut(&Command)) {
        look(command);
        command.get_subcommands().for_each(|inner| each(inner, look));
    }

    #[test]
    fn the_first_statement_stays() {
        for (all, short) in [
            (
                "Seed of the noise: the same seed gives the same video [default: 0]",
                "Seed of the noise [default: 0]",
            ),
            ("Print JSON", "Print JSON"),
            (
                "Quality, 0 (best; slow) to 51. More is less [default: 18]",
                "Quality, 0 (best; slow) to 51 [default: 18]",
            ),
            ("A file (.txt, .csv)", "A file (.txt, .csv)"),
            ("See `a.b`; else c", "See `a.b`"),
        ] {
            assert_eq!(shortened(all), short);
        }
    }

    #[test]
    fn help_fits_a_terminal_of_80_columns() {
        let mut command = crate::cli::definition();
        command.build();
        each(&command, &mut |command| {
            let mut command = command.clone();
            for text in [
                command.render_help().to_string(),
                command.render_long_help().to_string(),
            ] {
                for line in text.lines() {
                    // A usage that names every flag is broken by the parser where it likes.
                    let fits = line.chars().count() <= COLUMNS || line.starts_with("Usage:");
                    assert!(fits, "{}: {line}", command.get_name());
                }
            }
            // What is wider would be broken in the middle of an example.
            let after = command.get_after_long_help().map(StyledStr::to_string);
            for line in after.unwrap_or_default().lines() {
                assert!(line.chars().count() <= COLUMNS, "{}: {line}", command.get_name());
            }
        });
    }

    #[test]
    fn short_help_is_a_screen() {
        let mut command = crate::cli::definition();
        command.build();
        each(&command, &mut |command| {
            let lines = command.clone().render_help().to_string().lines().count();
            assert!(lines <= 50, "{} has {lines} lines", command.get_name());
        });
        for (name, shown) in SHORT {
            let inner = command.find_subcommand(name).unwrap();
            for known in *shown {
                let found = inner.get_arguments().any(|argument| name_of(argument) == *known);
                assert!(found, "{name} has no {known}");
            }
        }
    }

    #[test]
    fn flags_stand_under_their_headings() {
        let command = crate::cli::definition();
        for name in ["generate", "batch"] {
            let inner = command.find_subcommand(name).unwrap();
            let heading = |id: &str| {
                let argument = inner.get_arguments().find(|argument| argument.get_id() == id);
                argument.and_then(|argument| argument.get_help_heading().map(str::to_owned))
            };
            assert_eq!(heading("preset").as_deref(), Some("Model"), "{name}");
            assert_eq!(heading("device").as_deref(), Some("Device"), "{name}");
            assert_eq!(heading("seed").as_deref(), Some("Video"), "{name}");
        }
    }
}
