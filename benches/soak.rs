//! A day in minutes: `make soak` makes the chunks of 86,400 s of video with one token a frame, and a batch of 100,000 tiny
//! videos. It fails when memory or open files grow, or when positions and counters are not right at the end (Linux).
//!
//! `SOAK_SECONDS` and `SOAK_VIDEOS` make it shorter.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, ExitCode, Stdio},
    time::Instant,
};

use deepforcing::{cache::PolicyName, rollout::ChunkLoop};

#[allow(dead_code, reason = "shared with the other benchmarks")]
mod common;

use common::{CHUNK, Size, WINDOW, rollout};

/// Frames of a latent frame, and of a second.
const FRAMES_PER_LATENT: usize = 4;
const FPS: usize = 16;
/// How much more memory than after a tenth of the way is allowed.
const GROWTH: f64 = 0.01;

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    kilobytes: u64,
    files: usize,
}

impl Held {
    fn of(process: &str) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS"))?;
        Some(Self {
            kilobytes: line.split_whitespace().nth(1)?.parse().ok()?,
            files: fs::read_dir(format!("/proc/{process}/fd")).ok()?.count(),
        })
    }
}

/// What was held at each tenth of the way.
struct Curve {
    name: String,
    of: usize,
    begun: Instant,
    points: Vec<Held>,
}

impl Curve {
    fn new(name: impl ToString, of: usize) -> Self {
        Self {
            name: name.to_string(),
            of,
            begun: Instant::now(),
            points: Vec::new(),
        }
    }

    /// Looks at `process` when another tenth is done.
    fn see(&mut self, done: usize, process: &str) {
        if done * 10 < self.of * (self.points.len() + 1) {
            return;
        }
        let Some(held) = Held::of(process) else { return };
        let (name, seconds) = (&self.name, self.begun.elapsed().as_secs_f64());
        let Held { kilobytes, files } = held;
        println!(
            "{name}: {done:6} of {}: {kilobytes} kB, {files} files, {seconds:.0} s",
            self.of
        );
        self.points.push(held);
    }

    /// Whether what is held at the end is what was held after a tenth.
    fn is_flat(&self) -> bool {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else {
            println!("{}: nothing was measured", self.name);
            return false;
        };
        let growth = last.kilobytes as f64 / first.kilobytes as f64 - 1.0;
        println!(
            "{}: {:+.2} % memory, {} to {} files",
            self.name,
            100.0 * growth,
            first.files,
            last.files
        );
        growth <= GROWTH && last.files <= first.files
    }
}

fn number(variable: &str, default: usize) -> usize {
    let value = std::env::var(variable).ok();
    value.and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// The chunks of a day, and what the cache says of itself afterwards.
fn day(policy: PolicyName) -> bool {
    let chunks = number("SOAK_SECONDS", 86_400) * FPS / FRAMES_PER_LATENT / CHUNK;
    let mut rollout = rollout(Size::Token, policy, chunks);
    let mut curve = Curve::new(policy, chunks);
    for chunk in 1..=chunks {
        rollout.next_chunk(&mut |_| ()).unwrap().unwrap();
        curve.see(chunk, "self");
    }
    let over = rollout.next_chunk(&mut |_| ()).unwrap().is_none();
    let frames = (chunks * CHUNK) as u64;
    let cache = rollout.cache_mut();
    let slots = cache.layers()[0].slots().to_vec();
    let ordered = slots.windows(2).all(|pair| pair[0].position < pair[1].position);
    let right = over && cache.end() == Some(frames) && slots.len() <= WINDOW && ordered;
    println!(
        "{policy}: {frames} latent frames, {} slots, in order: {ordered}, counters right: {right}",
        slots.len()
    );
    curve.is_flat() && right
}

/// A batch of tiny videos, from outside.
fn batch() -> bool {
    let videos = number("SOAK_VIDEOS", 100_000);
    let folder = std::env::temp_dir().join(format!("deepforcing-soak-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mut list = fs::File::create(folder.join("prompts.txt")).unwrap();
    for index in 0..videos {
        writeln!(list, "a red ball number {index}").unwrap();
    }
    let mut child: Child = Command::new(env!("CARGO_BIN_EXE_deepforcing"))
        .args([
            "batch",
            "prompts.txt",
            "--model",
            "toy",
            "-o",
            "videos",
            "--format",
            "y4m",
            "--json",
        ])
        .args(["--size", "32x32", "--frames", "1", "--no-metrics", "--no-state"])
        .current_dir(&folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = child.id().to_string();
    let mut curve = Curve::new("batch", videos);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let made = lines.map_while(Result::ok).enumerate().fold(0, |_, (index, _)| {
        curve.see(index + 1, &process);
        index + 1
    });
    let success = child.wait().unwrap().success();
    fs::remove_dir_all(&folder).unwrap();
    println!("batch: {made} of {videos} videos, success: {success}");
    curve.is_flat() && success && made == videos
}

fn main() -> ExitCode {
    let days = [PolicyName::DeepForcing, PolicyName::Fifo].map(day);
    match days.into_iter().all(|flat| flat) & batch() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
