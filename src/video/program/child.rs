//! One run of the program: bytes in, bytes out, what it says, and an end.
//!
//! A program that hangs is ended: while this side waits for it, it must take bytes, give some, say something or compute.
//! It is the leader of a process group of its own, so that Ctrl-C in a terminal reaches only this program, which still
//! needs it to finish the video, and so that whatever it started ends with it.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Time without any sign of work after which the program counts as hung.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 30 });
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Lines that are kept of what it says, and bytes of a line.
const LINES: usize = 6;
const LINE: u64 = 4096;

/// Whether reading is to stop.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Ends all reading of videos in this process, now and later.
pub(in super::super) fn stop_reading() {
    STOPPED.store(true, Ordering::Relaxed);
}

/// What the program reads on its standard input.
pub(super) enum Input {
    None,
    /// What [`Running::write`] gives it.
    Pipe,
    /// A file of others; reading it ends when the user wants to stop.
    File(File),
}

/// Takes a line of what the program says, if it is for it.
pub(super) type OnLine = Box<dyn FnMut(&str) -> bool + Send>;

/// A run of the program.
pub(super) struct Running {
    shared: Arc<Shared>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    said: Option<JoinHandle<VecDeque<String>>>,
}

struct Shared {
    process: Mutex<process::Child>,
    /// Whether this side waits for the program.
    waiting: AtomicBool,
    /// Signs of life.
    moved: AtomicU64,
    hung: AtomicBool,
    stops: bool,
    /// Whether it has ended and was waited for: its number may be another's.
    ended: AtomicBool,
}

impl Running {
    /// Starts the program; `on_line` is given what it says on standard error.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path, arguments: &[OsString], input: Input, on_line: Option<OnLine>) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("AV_LOG_FORCE_NOCOLOR", "1")
            // It would write its report into the current folder.
            .env_remove("FFREPORT")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let stops = matches!(input, Input::File(_));
        command.stdin(match input {
            Input::None => Stdio::null(),
            Input::Pipe => Stdio::piped(),
            Input::File(file) => file.into(),
        });
        let mut process = spawn(&mut command)?;
        let (stdin, stdout, stderr) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let shared = Arc::new(Shared {
            process: Mutex::new(process),
            waiting: AtomicBool::new(false),
            moved: AtomicU64::new(0),
            hung: AtomicBool::new(false),
            stops,
            ended: AtomicBool::new(false),
        });
        let said = stderr.map(|stderr| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || listen(stderr, on_line, &shared))
        });
        let watched = Arc::clone(&shared);
        thread::spawn(move || watched.watch());
        Ok(Self {
            shared,
            stdin,
            stdout,
            said,
        })
    }

    /// Gives it bytes.
    ///
    /// # Errors
    /// When it does not take them: it has ended, or hangs.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _waiting = Waiting::begin(&self.shared);
        let Some(stdin) = &mut self.stdin else {
            return Err(io::Error::other("its input has ended"));
        };
        // In pieces, so that a slow program shows that it works.
        for piece in bytes.chunks(1 << 16) {
            stdin.write_all(piece)?;
            self.shared.moves();
        }
        Ok(())
    }

    /// Ends its input.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Takes its output away, to be read elsewhere.
    pub fn output(&mut self) -> Option<Output> {
        let stdout = self.stdout.take()?;
        let shared = Arc::clone(&self.shared);
        Some(Output { stdout, shared })
    }

    /// All that it writes, up to `most` bytes.
    ///
    /// # Errors
    /// When it writes more.
    pub fn read_to_end(&mut self, most: u64) -> io::Result<Vec<u8>> {
        let _waiting = Waiting::begin(&self.shared);
        match self.output() {
            Some(output) => output.all(most),
            None => Ok(Vec::new()),
        }
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// Why it did not do its work: its exit code and what it said, or that it hung.
    pub fn end(mut self) -> Result<Said, String> {
        self.end_input();
        let status = {
            let _waiting = Waiting::begin(&self.shared);
            self.shared.wait()
        };
        let lines = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        let said = Said(lines.into());
        if self.shared.hung.load(Ordering::Relaxed) {
            return Err(if self.shared.stops && STOPPED.load(Ordering::Relaxed) {
                "reading was stopped".to_owned()
            } else {
                let seconds = PATIENCE.as_secs();
                format!(
                    "ffmpeg hung: it did nothing for {seconds} seconds and was ended{}",
                    said.behind()
                )
            });
        }
        match status {
            Ok(status) if status.success() => Ok(said),
            Ok(status) => Err(format!("ffmpeg ended with {}{}", told(status), said.behind())),
            Err(error) => Err(format!("ffmpeg cannot be waited for: {error}")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing happens to one that has ended.
        self.shared.kill();
        self.shared.wait().ok();
    }
}

/// A file that was just written may still be open for writing in a child of another thread, until that one has started.
fn spawn(command: &mut Command) -> io::Result<process::Child> {
    for _ in 0..20 {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => thread::sleep(LOOK),
            other => return other,
        }
    }
    command.spawn()
}

fn told(status: process::ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

/// The last lines of what the program said.
pub(super) struct Said(Vec<String>);

impl Said {
    /// The lines that are errors.
    pub fn errors(&self) -> String {
        let errors: Vec<&str> = self.0.iter().filter_map(|line| error_in(line)).collect();
        errors.join("; ")
    }

    /// For the end of a message.
    fn behind(&self) -> String {
        let errors = self.errors();
        let all = if errors.is_empty() { self.0.join("; ") } else { errors };
        if all.is_empty() { all } else { format!(": {all}") }
    }
}

/// What stands behind the level, and the part of the program that says it, in a line like
/// `[libx264 @ 0x55] [error] broken`.
fn error_in(line: &str) -> Option<&str> {
    ["[error] ", "[fatal] ", "[panic] "]
        .iter()
        .find_map(|level| line.split_once(level))
        .map(|(_, text)| text.trim())
}

/// What the program writes.
pub(super) struct Output {
    stdout: ChildStdout,
    shared: Arc<Shared>,
}

impl Output {
    /// Everything, up to `most` bytes.
    ///
    /// # Errors
    /// When there is more.
    pub fn all(mut self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.stdout.read(&mut buffer)? {
                0 => return Ok(bytes),
                read if (bytes.len() + read) as u64 > most => {
                    self.shared.kill();
                    return Err(io::Error::other(format!("it gives more than {most} bytes")));
                }
                read => bytes.extend_from_slice(&buffer[..read]),
            }
            self.shared.moves();
        }
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let _waiting = Waiting::begin(&self.shared);
        let read = self.stdout.read(buffer)?;
        self.shared.moves();
        Ok(read)
    }
}

fn listen(stderr: impl Read, mut on_line: Option<OnLine>, shared: &Shared) -> VecDeque<String> {
    let mut lines = VecDeque::new();
    let mut stderr = BufReader::new(stderr);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match stderr.by_ref().take(LINE).read_until(b'\n', &mut bytes) {
            Ok(read) if read > 0 => {}
            _ => return lines,
        }
        shared.moves();
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end();
        if line.is_empty() || on_line.as_mut().is_some_and(|on_line| on_line(line)) {
            continue;
        }
        if lines.len() == LINES {
            lines.pop_front();
        }
        // It comes from files of others and goes to a terminal.
        lines.push_back(line.chars().filter(|letter| !letter.is_control()).collect());
    }
}

/// While it lives, the program is waited for.
struct Waiting(Arc<Shared>);

impl Waiting {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.moves();
        shared.waiting.store(true, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.store(false, Ordering::Relaxed);
    }
}

impl Shared {
    fn moves(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    fn process(&self) -> std::sync::MutexGuard<'_, process::Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it and what it started.
    fn kill(&self) {
        let mut process = self.process();
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        #[cfg(unix)]
        if let Some(group) = i32::try_from(process.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
        }
        process.kill().ok();
    }

    /// Its exit status, when there is one. Without holding the lock meanwhile: it may have to be killed.
    fn wait(&self) -> io::Result<process::ExitStatus> {
        let mut pause = Duration::from_millis(1);
        loop {
            {
                let mut process = self.process();
                if let Some(status) = process.try_wait()? {
                    self.ended.store(true, Ordering::Relaxed);
                    return Ok(status);
                }
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Kills it when it shows no sign of work for too long, or the user wants no more of it.
    fn watch(&self) {
        let mut last = (0, 0);
        let mut since = Instant::now();
        while !self.ended.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
            let now = (self.moved.load(Ordering::Relaxed), self.ticks());
            if now != last || !self.waiting.load(Ordering::Relaxed) {
                (last, since) = (now, Instant::now());
            }
            let unwanted = self.stops && STOPPED.load(Ordering::Relaxed);
            if unwanted || since.elapsed() > PATIENCE {
                self.hung.store(true, Ordering::Relaxed);
                self.kill();
                return;
            }
        }
    }

    /// Time that it computed, in the system's ticks; 0 where that cannot be told.
    fn ticks(&self) -> u64 {
        let id = self.process().id();
        let Ok(text) = std::fs::read_to_string(format!("/proc/{id}/stat")) else {
            return 0;
        };
        // Behind the name, which may hold anything, are 11 other fields.
        let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
        let times = fields.split_whitespace().skip(11).take(2);
        times.filter_map(|time| time.parse::<u64>().ok()).sum()
    }
}
