//! `--preview`: a small picture above the live line.
//!
//! Whether a terminal shows pictures is asked once, before the video begins, and with a limit: a terminal that does not
//! answer gets none. No answer is ever waited for later, so the preview cannot hold the video up. What is written goes
//! to stderr, as the live line does; results on stdout stay clean.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use image::RgbImage;

use super::{
    picture::{Place, Protocol, encode},
    printer::{Printer, beside_live_line, written},
    terminal::{self, TerminalSize, variable},
};
use crate::config::PreviewMode;

/// Least time between two pictures.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time that a terminal has to answer.
const ANSWER: Duration = Duration::from_millis(1000);
/// Largest picture, in characters.
const LARGEST: (u16, u16) = (48, 12);
/// Pixels of a character where the terminal does not tell: small, so that a picture does not reach below its place.
const CELL: (u16, u16) = (8, 16);

/// Device attributes, which every terminal answers.
const ATTRIBUTES: &str = "\x1b[c";
/// Whether a picture of one pixel could be shown, then the device attributes.
const KITTY: &str = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c";

/// What decides whether and how pictures are shown.
struct Facts<'a> {
    terminal: bool,
    colours: bool,
    size: Option<TerminalSize>,
    variable: &'a dyn Fn(&str) -> Option<String>,
    ask: &'a dyn Fn(&str) -> Option<String>,
}

impl Facts<'_> {
    /// The way to show pictures.
    ///
    /// # Errors
    /// Why there is none.
    fn protocol(&self, mode: PreviewMode) -> Result<Protocol, String> {
        let text = |name: &str| (self.variable)(name).unwrap_or_default();
        if !self.terminal {
            return Err("stderr is no terminal".into());
        }
        if self.size.is_some_and(|size| size.rows < 8 || size.columns < 20) {
            return Err("the terminal is smaller than 20 x 8 characters".into());
        }
        if mode == PreviewMode::Blocks {
            let depth = text("COLORTERM");
            let truecolor = depth.contains("truecolor") || depth.contains("24bit");
            return match self.colours {
                true => Ok(Protocol::Blocks { truecolor }),
                false => Err("blocks need colours, which are off".into()),
            };
        }
        let none = "this terminal shows no pictures; --preview=blocks draws them with characters";
        if ["", "dumb", "linux"].contains(&text("TERM").as_str()) {
            return Err(none.into());
        }
        let Some(attributes) = (self.ask)(ATTRIBUTES) else {
            return Err("the terminal did not answer; --preview=blocks draws pictures with characters".into());
        };
        // Multiplexers pass on only what they know, and answer for themselves.
        let inside = !text("TMUX").is_empty() || !text("STY").is_empty();
        if !inside {
            // Terminal.app prints the question.
            let asked = text("TERM_PROGRAM") != "Apple_Terminal";
            if asked && (self.ask)(KITTY).is_some_and(|answer| answer.contains("_Gi=31;OK")) {
                return Ok(Protocol::Kitty);
            }
            let program = format!("{} {}", text("TERM_PROGRAM"), text("LC_TERMINAL"));
            if ["iTerm", "WezTerm", "mintty", "rio"]
                .iter()
                .any(|name| program.contains(name))
            {
                return Ok(Protocol::Iterm);
            }
        }
        match has_sixel(&attributes) {
            true => Ok(Protocol::Sixel),
            false => Err(none.into()),
        }
    }
}

/// Whether 4, sixel graphics, is among the device attributes `ESC [ ? 62 ; 4 ; … c`.
fn has_sixel(attributes: &str) -> bool {
    let numbers = attributes.rsplit("\x1b[?").next().unwrap_or_default();
    let numbers = numbers.split('c').next().unwrap_or_default();
    // The first number is the class of the terminal.
    numbers.split(';').skip(1).any(|number| number == "4")
}

/// Shows pictures, at most one a second.
pub(super) struct Preview {
    protocol: Protocol,
    shown: Option<Instant>,
    /// Rows of the picture on screen, and what [`written`] was after it: when that has changed, something stands below.
    last: Option<(u16, u64)>,
}

impl Preview {
    /// A preview, if one is wanted and the terminal can show it; says so if not.
    pub(super) fn open(mode: PreviewMode, printer: &Printer) -> Option<Self> {
        if mode == PreviewMode::Off {
            return None;
        }
        let facts = Facts {
            terminal: printer.is_terminal(),
            colours: printer.colours(),
            size: terminal::size(),
            variable: &variable,
            ask: &|question| terminal::ask(question, ANSWER),
        };
        match facts.protocol(mode) {
            Ok(protocol) => {
                tracing::info!("showing pictures in the terminal: {}", protocol.name());
                Some(Self {
                    protocol,
                    shown: None,
                    last: None,
                })
            }
            Err(reason) => {
                printer.note(&format!("no preview: {reason}"));
                None
            }
        }
    }

    /// Shows a picture of `width` × `height` pixels, RGB, unless the last one is less than a second old. A picture that
    /// cannot be shown is passed over.
    pub(super) fn show(&mut self, rgb: &[u8], width: usize, height: usize) {
        if self.shown.is_some_and(|shown| shown.elapsed() < INTERVAL) {
            return;
        }
        self.shown = Some(Instant::now());
        let picture = RgbImage::from_raw(width as u32, height as u32, rgb.to_vec());
        let Some(picture) = picture else { return };
        let size = terminal::size().unwrap_or(TerminalSize {
            columns: 80,
            rows: 24,
            cell: None,
        });
        let (columns, rows) = (LARGEST.0.min(size.columns), LARGEST.1.min(size.rows / 2));
        let cell = match self.protocol {
            // Half blocks are as wide as they are high.
            Protocol::Blocks { .. } => (1, 2),
            _ => size.cell.unwrap_or(CELL),
        };
        let place = Place::fit(width as u32, height as u32, columns, rows, cell);
        let Ok(bytes) = encode(&picture, place, self.protocol) else {
            return;
        };
        let over = self.last.filter(|(_, then)| *then == written()).map(|(rows, _)| rows);
        let framed = framed(&bytes, place.rows, over);
        beside_live_line(|| {
            let _ = io::stderr().lock().write_all(&framed);
        });
        self.last = Some((place.rows, written()));
    }
}

/// A picture in a place of `rows` rows: over the last one, which had `over` rows and stands right above, or below all
/// that was written. The cursor ends in the line below the place, wherever the terminal would have left it.
fn framed(picture: &[u8], rows: u16, over: Option<u16>) -> Vec<u8> {
    let mut out = Vec::with_capacity(picture.len() + 64);
    if let Some(over) = over {
        // Up to the last picture, and away with it.
        out.extend_from_slice(format!("\r\x1b[{over}A\x1b[J").as_bytes());
    }
    // Rows first: at the end of the screen they scroll, and a saved position does not scroll with them.
    out.extend("\r\n".repeat(rows.into()).bytes());
    out.extend_from_slice(format!("\x1b[{rows}A\x1b7").as_bytes());
    out.extend_from_slice(picture);
    out.extend_from_slice(format!("\x1b8\x1b[{rows}B\r").as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// The decision, and the questions that were asked for it.
    fn decide(
        mode: PreviewMode,
        variables: &[(&str, &str)],
        answers: &[(&str, &str)],
    ) -> (Result<Protocol, String>, Vec<String>) {
        let asked = RefCell::new(Vec::new());
        let find = |list: &[(&str, &str)], name: &str| {
            let found = list.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        };
        let facts = Facts {
            terminal: true,
            colours: true,
            size: None,
            variable: &|name| find(variables, name),
            ask: &|question| {
                asked.borrow_mut().push(question.to_string());
                find(answers, question)
            },
        };
        let protocol = facts.protocol(mode);
        (protocol, asked.into_inner())
    }

    const TERM: (&str, &str) = ("TERM", "xterm-256color");

    #[test]
    fn terminals_get_what_they_can_show() {
        use PreviewMode::Auto;
        let kitty = (KITTY, "\x1b_Gi=31;OK\x1b\\\x1b[?62;c");
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        let cases: [(Pairs<'_>, Pairs<'_>, Protocol); 4] = [
            (&[TERM], &[(ATTRIBUTES, "\x1b[?62;c"), kitty], Protocol::Kitty),
            (
                &[TERM, ("TERM_PROGRAM", "iTerm.app")],
                &[(ATTRIBUTES, "\x1b[?62;4c")],
                Protocol::Iterm,
            ),
            (
                &[TERM],
                &[(ATTRIBUTES, "\x1b[?62;4;22c"), (KITTY, "\x1b[?62;4;22c")],
                Protocol::Sixel,
            ),
            // tmux within iTerm2, seen from afar.
            (
                &[TERM, ("TMUX", "/tmp/x"), ("LC_TERMINAL", "iTerm2")],
                &[(ATTRIBUTES, "\x1b[?1;2;4c"), kitty],
                Protocol::Sixel,
            ),
        ];
        for (variables, answers, expected) in cases {
            assert_eq!(decide(Auto, variables, answers).0, Ok(expected), "{variables:?}");
        }
    }

    #[test]
    fn others_get_no_picture_and_no_question_that_they_would_print() {
        use PreviewMode::Auto;
        // A terminal that does not answer is asked one harmless question.
        let (none, asked) = decide(Auto, &[TERM], &[]);
        assert!(none.unwrap_err().contains("did not answer"));
        assert_eq!(asked, [ATTRIBUTES]);
        for term in ["dumb", "linux", ""] {
            let (none, asked) = decide(Auto, &[("TERM", term)], &[(ATTRIBUTES, "\x1b[?62;4c")]);
            assert!(none.unwrap_err().contains("--preview=blocks"));
            assert!(asked.is_empty(), "{term}");
        }
        let apple = [TERM, ("TERM_PROGRAM", "Apple_Terminal")];
        let (none, asked) = decide(Auto, &apple, &[(ATTRIBUTES, "\x1b[?1;2c")]);
        assert!(none.is_err());
        assert_eq!(asked, [ATTRIBUTES]);
        // tmux without sixel, inside kitty.
        let tmux = [TERM, ("TMUX", "/tmp/x"), ("KITTY_WINDOW_ID", "1")];
        let (none, asked) = decide(Auto, &tmux, &[(ATTRIBUTES, "\x1b[?1;2c")]);
        assert!(none.is_err());
        assert_eq!(asked, [ATTRIBUTES]);
    }

    #[test]
    fn blocks_need_no_answer_but_colours() {
        let (blocks, asked) = decide(PreviewMode::Blocks, &[TERM, ("COLORTERM", "truecolor")], &[]);
        assert_eq!(blocks, Ok(Protocol::Blocks { truecolor: true }));
        assert!(asked.is_empty());
        let facts = Facts {
            terminal: true,
            colours: false,
            size: None,
            variable: &|_| None,
            ask: &|_| panic!("asked"),
        };
        assert!(facts.protocol(PreviewMode::Blocks).unwrap_err().contains("colours"));
        let facts = Facts {
            terminal: false,
            ..facts
        };
        assert!(facts.protocol(PreviewMode::Blocks).unwrap_err().contains("no terminal"));
    }

    #[test]
    fn sixel_is_an_attribute_and_not_a_class() {
        for (answer, expected) in [
            ("\x1b[?62;4c", true),
            ("\x1b[?64;1;2;4;6c", true),
            ("\x1b[?4c", false),
            ("\x1b[?62;14;40c", false),
            ("", false),
        ] {
            assert_eq!(has_sixel(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_picture_stands_over_the_last_one() {
        let first = String::from_utf8(framed(b"P", 3, None)).unwrap();
        assert_eq!(first, "\r\n\r\n\r\n\x1b[3A\x1b7P\x1b8\x1b[3B\r");
        let next = String::from_utf8(framed(b"P", 3, Some(3))).unwrap();
        assert_eq!(next, format!("\r\x1b[3A\x1b[J{first}"));
    }
}
