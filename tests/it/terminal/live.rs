//! The live line and the preview, in a terminal that the test plays.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use rustix::{
    fs::OFlags,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::terminal::desk::{Desk, PROGRAM, TOY};

/// A terminal of 100 × 30 characters, and the program in it.
struct Terminal {
    master: File,
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Terminal {
    /// Starts the program with the terminal as stdin, stdout and stderr, and as what `/dev/tty` means.
    fn start(desk: &Desk, words: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize {
            ws_row: 30,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, rustix::fs::Mode::empty()).unwrap();
        let stdio = || OwnedFd::try_clone(&slave).unwrap();
        // `setsid` makes the terminal the one of the program's session.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", PROGRAM])
            .args(words)
            .env_clear()
            .envs(desk.variables().iter().cloned())
            .current_dir(desk.home())
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        drop(slave);
        let master = File::from(master);
        let (mut reader, (send, output)) = (master.try_clone().unwrap(), channel());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends with an error when the other end is closed.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if send.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            master,
            child,
            output,
            seen: Vec::new(),
        }
    }

    /// Answers questions as a terminal with these answers does, until the program ends; gives its exit code and all that
    /// it wrote.
    fn finish(mut self, answers: &[(&str, &str)]) -> (Option<i32>, String) {
        let (start, mut answered) = (Instant::now(), vec![0; answers.len()]);
        loop {
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(20)) {
                self.seen.extend(bytes);
                let text = String::from_utf8_lossy(&self.seen).into_owned();
                for ((question, answer), count) in answers.iter().zip(&mut answered) {
                    while text.matches(question).count() > *count {
                        *count += 1;
                        self.master.write_all(answer.as_bytes()).unwrap();
                    }
                }
                continue;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                self.seen.extend(self.output.try_iter().flatten());
                return (status.code(), String::from_utf8_lossy(&self.seen).into_owned());
            }
            if start.elapsed() > Duration::from_secs(120) {
                self.child.kill().ok();
                panic!("the program hangs: {}", String::from_utf8_lossy(&self.seen));
            }
        }
    }
}

fn desk() -> Desk {
    Desk::new().with("TERM", "xterm-256color")
}

fn generate<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let words = [
        "generate",
        "a red ball",
        "--model-dir",
        TOY,
        "--seconds",
        "2",
        "-o",
        "ball.mp4",
    ];
    [&words[..], more].concat()
}

#[test]
fn one_line_tells_the_pace_and_goes_away() {
    let (code, text) = Terminal::start(&desk(), &generate(&[])).finish(&[]);
    assert_eq!(code, Some(0), "{text}");
    let lines: Vec<_> = text
        .split(['\r', '\n'])
        .filter(|line| line.contains("chunk "))
        .collect();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("[") || line.contains("=") || line.contains("chunk 1/")),
        "{text:?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("/2.0 s") && line.contains("fps") && line.contains("left")),
        "{text:?}"
    );
    assert!(lines.iter().any(|line| line.contains(" MB")), "{text:?}");
    // The line is cleared before the summary, which stands alone.
    let mut lines = text.split(['\r', '\n']);
    let summary = lines.find(|line| line.contains("32 pictures, 2.00 s")).unwrap();
    assert_eq!(
        summary.trim_start_matches("\x1b[2K").split(',').next(),
        Some("32 pictures"),
        "{text:?}"
    );
    assert!(text.trim_end().ends_with("ball.mp4"), "{text:?}");
}

#[test]
fn quiet_and_dumb_terminals_have_no_line() {
    let (code, text) = Terminal::start(&desk(), &generate(&["-q"])).finish(&[]);
    assert_eq!((code, text.as_str()), (Some(0), "ball.mp4\r\n"));
    let dumb = Desk::new().with("TERM", "dumb");
    let (code, text) = Terminal::start(&dumb, &generate(&[])).finish(&[]);
    assert_eq!(code, Some(0));
    assert!(!text.contains('\x1b') && text.contains("32 pictures"), "{text:?}");
}

#[test]
fn messages_are_coloured_in_a_terminal_unless_unwanted() {
    let wrong = |desk: Desk| {
        let desk = desk.with("DEEPFORCING_SEED", "x");
        // What a program says that ends at once can be lost with its terminal on a busy machine.
        let mut tries = (0..5).map(|_| Terminal::start(&desk, &["config", "show"]).finish(&[]));
        let (code, text) = tries.find(|(_, text)| !text.is_empty()).unwrap();
        assert_eq!(code, Some(2));
        assert!(text.contains("error:") && text.contains("hint:"), "{text:?}");
        text.contains("\x1b[1;31merror:")
    };
    assert!(wrong(desk()));
    assert!(!wrong(desk().with("NO_COLOR", "1")));
}

#[test]
fn a_terminal_that_does_not_answer_gets_no_picture_and_no_rubbish() {
    let started = Instant::now();
    let (code, text) = Terminal::start(&desk(), &generate(&["--preview"])).finish(&[]);
    assert_eq!(code, Some(0), "{text:?}");
    assert!(
        text.contains("note:") && text.contains("no preview: the terminal did not answer"),
        "{text:?}"
    );
    assert!(!text.contains("\x1b_G") && !text.contains("\x1bP"), "{text:?}");
    assert!(started.elapsed() < Duration::from_secs(100));
}

#[test]
fn a_terminal_that_answers_gets_its_kind_of_picture() {
    // A terminal answers both questions of the second query at once, here under the first of them.
    let kitty = [
        ("a=q,t=d,f=24;AAAA\x1b\\", "\x1b_Gi=31;OK\x1b\\"),
        ("\x1b[c", "\x1b[?62;c"),
    ];
    let (code, text) = Terminal::start(&desk(), &generate(&["--preview"])).finish(&kitty);
    assert_eq!(code, Some(0), "{text:?}");
    assert!(text.contains("\x1b_Ga=T,f=24,") && text.contains("q=2"), "{text:?}");
    assert!(text.trim_end().ends_with("ball.mp4"), "{text:?}");

    let sixel = [("\x1b[c", "\x1b[?62;4;22c")];
    let (code, text) = Terminal::start(&desk(), &generate(&["--preview"])).finish(&sixel);
    assert_eq!(code, Some(0), "{text:?}");
    assert!(text.contains("\x1bP"), "{text:?}");
    // What the terminal answered was not echoed.
    assert!(!text.contains("62;4;22"), "{text:?}");

    let none = [("\x1b[c", "\x1b[?62c")];
    let (code, text) = Terminal::start(&desk(), &generate(&["--preview"])).finish(&none);
    assert_eq!(code, Some(0), "{text:?}");
    assert!(text.contains("this terminal shows no pictures"), "{text:?}");
}

#[test]
fn blocks_are_drawn_when_asked_for() {
    let (code, text) = Terminal::start(&desk(), &generate(&["--preview=blocks"])).finish(&[]);
    assert_eq!(code, Some(0), "{text:?}");
    // 12 rows of 24 half blocks, each with two colours.
    assert!(text.matches('▀').count() >= 12 * 24, "{}", text.matches('▀').count());
    let plain = desk().with("NO_COLOR", "1");
    let (_, text) = Terminal::start(&plain, &generate(&["--preview=blocks"])).finish(&[]);
    assert!(!text.contains('▀') && text.contains("blocks need colours"), "{text:?}");
}

#[test]
fn a_terminal_that_is_closed_costs_no_video() {
    let desk = desk();
    let words = [
        "generate",
        "a red ball",
        "--model-dir",
        TOY,
        "--seconds",
        "60",
        "-o",
        "ball.mp4",
    ];
    let mut terminal = Terminal::start(&desk, &words);
    let start = Instant::now();
    while !String::from_utf8_lossy(&terminal.seen).contains(" fps") {
        terminal
            .seen
            .extend(terminal.output.recv_timeout(Duration::from_secs(60)).unwrap());
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    let Terminal {
        master,
        mut child,
        output,
        ..
    } = terminal;
    drop(output);
    drop(master);
    // The reading thread lets go of the terminal when it has something to hand on; then the program is hung up, which
    // is as good as an interrupt: what is there becomes a proper video.
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "the program hangs");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(130));
    let clip = deepforcing::video::read_frames(&desk.home().join("ball.mp4"), usize::MAX).unwrap();
    assert!((9..960).contains(&clip.frames.len()), "{}", clip.frames.len());
}

#[test]
fn the_toy_model_stands_in_where_somebody_watches() {
    let desk = desk().with("HF_HUB_OFFLINE", "1");
    let words = [
        "generate",
        "a red ball bouncing over green hills",
        "--seconds",
        "0.5",
        "-o",
        "a.mp4",
        "--json",
    ];
    let (code, text) = Terminal::start(&desk, &words).finish(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("bundled model `toy`") && text.contains("with the toy model"),
        "{text}"
    );
    assert!(text.contains("\"fallback\":true"), "{text}");
}
