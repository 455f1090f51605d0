//! What the terminal is: whether stderr is one, how wide, whether colours are wanted, what it answers.

use std::{
    env,
    io::{self, IsTerminal},
    time::Duration,
};

use clap::ValueEnum;

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ColorChoice {
    /// Coloured in terminals, unless NO_COLOR is set
    #[default]
    Auto,
    /// Coloured
    Always,
    /// Plain
    Never,
}

impl ColorChoice {
    /// Whether a stream that is a terminal, or not, gets colours. `variable` reads the environment.
    pub(super) fn colours(self, terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
        let given = |name| variable(name).filter(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if given("NO_COLOR").is_some() => false,
            Self::Auto if given("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
            Self::Auto if given("CLICOLOR").is_some_and(|value| value == "0") => false,
            Self::Auto => terminal && given("TERM").is_none_or(|value| value != "dumb"),
        }
    }
}

/// A variable of the environment as text.
pub(super) fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Whether stderr is a terminal that can redraw a line.
pub(super) fn is_live() -> bool {
    io::stderr().is_terminal() && variable("TERM").is_none_or(|value| value != "dumb")
}

/// What a part of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Error,
    Warning,
    Hint,
    Note,
}

impl Role {
    /// The word before the message, coloured or not: output says the same in both cases.
    pub(super) fn label(self, colours: bool) -> String {
        let (word, code) = match self {
            Self::Error => ("error", "1;31"),
            Self::Warning => ("warning", "1;33"),
            Self::Hint => ("hint", "36"),
            Self::Note => ("note", "1"),
        };
        match colours {
            true => format!("\x1b[{code}m{word}:\x1b[0m"),
            false => format!("{word}:"),
        }
    }
}

/// Size of the terminal behind stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TerminalSize {
    pub columns: u16,
    pub rows: u16,
    /// Pixels of a character, where the terminal tells.
    pub cell: Option<(u16, u16)>,
}

#[cfg(unix)]
pub(super) fn size() -> Option<TerminalSize> {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
    let (columns, rows) = (size.ws_col, size.ws_row);
    if columns == 0 || rows == 0 {
        return None;
    }
    let cell = (size.ws_xpixel / columns, size.ws_ypixel / rows);
    Some(TerminalSize {
        columns,
        rows,
        cell: (cell.0 > 0 && cell.1 > 0).then_some(cell),
    })
}

#[cfg(not(unix))]
pub(super) fn size() -> Option<TerminalSize> {
    None
}

/// What the terminal answers to a question, up to the end of its device attributes (`ESC [ ? … c`), which the question
/// must ask for last: every terminal answers that one, if it answers at all. `None` when it does not within `limit`.
///
/// Nothing is echoed, the terminal is as it was afterwards, and a process in the background does not ask: it would be
/// stopped.
#[cfg(unix)]
pub(super) fn ask(question: &str, limit: Duration) -> Option<String> {
    use std::{
        fs::File,
        io::{Read, Write},
        time::Instant,
    };

    use rustix::{
        process::{Signal, getpgrp, getpid, kill_process},
        termios::{
            LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, tcflush, tcgetattr, tcgetpgrp, tcsetattr,
        },
    };

    /// Puts the terminal back as it was.
    struct Restore(File, rustix::termios::Termios);
    impl Drop for Restore {
        fn drop(&mut self) {
            let _ = tcsetattr(&self.0, OptionalActions::Now, &self.1);
        }
    }

    let tty = File::options().read(true).write(true).open("/dev/tty").ok()?;
    if tcgetpgrp(&tty).ok()? != getpgrp() {
        return None;
    }
    let before = tcgetattr(&tty).ok()?;
    let mut quiet = before.clone();
    quiet.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
    quiet.special_codes[SpecialCodeIndex::VMIN] = 0;
    // Tenths of a second that one read waits.
    quiet.special_codes[SpecialCodeIndex::VTIME] = 1;
    tcsetattr(&tty, OptionalActions::Now, &quiet).ok()?;
    let restore = Restore(tty, before);
    let mut tty = &restore.0;

    tty.write_all(question.as_bytes()).ok()?;
    let (start, mut answer, mut bytes) = (Instant::now(), Vec::new(), [0; 256]);
    let answered = loop {
        let count = tty.read(&mut bytes).unwrap_or(0);
        answer.extend_from_slice(&bytes[..count]);
        if ends_with_attributes(&answer) {
            break true;
        }
        if start.elapsed() >= limit {
            break false;
        }
    };
    let interrupted = answer.contains(&3);
    if !answered {
        // What comes too late must not stand on the user's command line.
        let _ = tcflush(&restore.0, QueueSelector::IFlush);
    }
    drop(restore);
    if interrupted {
        // Ctrl-C that was read as a character.
        let _ = kill_process(getpid(), Signal::INT);
    }
    answered.then(|| String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(not(unix))]
pub(super) fn ask(_question: &str, _limit: Duration) -> Option<String> {
    None
}

/// Whether the device attributes `ESC [ ? numbers c` are among the bytes.
#[cfg_attr(not(unix), allow(dead_code))]
fn ends_with_attributes(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    text.match_indices("\x1b[?").any(|(at, start)| {
        let rest = &text[at + start.len()..];
        let numbers = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        numbers.starts_with('c')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colours(choice: ColorChoice, terminal: bool, variables: &[(&str, &str)]) -> bool {
        choice.colours(terminal, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn flag_then_variables_then_terminal_decide_on_colours() {
        use ColorChoice::*;
        type Variables = &'static [(&'static str, &'static str)];
        let cases: [(ColorChoice, bool, Variables, bool); 11] = [
            (Auto, true, &[], true),
            (Auto, false, &[], false),
            (Auto, true, &[("NO_COLOR", "1")], false),
            (Auto, true, &[("NO_COLOR", "")], true),
            (Auto, false, &[("CLICOLOR_FORCE", "1")], true),
            (Auto, false, &[("CLICOLOR_FORCE", "0")], false),
            (Auto, true, &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], false),
            (Auto, true, &[("CLICOLOR", "0")], false),
            (Auto, true, &[("TERM", "dumb")], false),
            (Always, false, &[("NO_COLOR", "1")], true),
            (Never, true, &[("CLICOLOR_FORCE", "1")], false),
        ];
        for (choice, terminal, variables, expected) in cases {
            assert_eq!(
                colours(choice, terminal, variables),
                expected,
                "{choice:?} {terminal} {variables:?}"
            );
        }
    }

    #[test]
    fn a_label_says_the_same_without_colour() {
        for role in [Role::Error, Role::Warning, Role::Hint, Role::Note] {
            let plain = role.label(false);
            assert!(role.label(true).contains(&plain));
            assert!(!plain.contains('\x1b'));
        }
    }

    #[test]
    fn device_attributes_are_recognised() {
        for (answer, complete) in [
            ("", false),
            ("\x1b[?62;4", false),
            ("\x1b[?62;4c", true),
            ("\x1b[?6c", true),
            ("abc\x1b[?1;2c", true),
            ("\x1b_Gi=31;OK\x1b\\\x1b[?62;c", true),
            ("\x1b_Gi=31;OK\x1b\\", false),
            ("c", false),
        ] {
            assert_eq!(ends_with_attributes(answer.as_bytes()), complete, "{answer:?}");
        }
    }
}
