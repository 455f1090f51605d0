//! The live line: what is known about the pace of a video, and the text that says it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::render::{InWork, pipeline::Update};

/// The video that is being made.
#[derive(Debug, Clone, Copy)]
pub(super) struct VideoWork {
    pub video: InWork,
    pub chunks: usize,
    /// When the first video of the run was begun, after loading.
    pub begun: Instant,
}

/// Pictures, and the time that a stage took for them.
#[derive(Debug, Clone, Copy, Default)]
struct Stage {
    pictures: usize,
    took: Duration,
}

impl Stage {
    fn rate(&self) -> String {
        match self.took.is_zero() {
            true => "–".into(),
            false => rate_text(self.pictures as f64 / self.took.as_secs_f64()),
        }
    }
}

/// How far a video is and how fast it goes.
pub(super) struct Pace {
    work: VideoWork,
    /// When rendering began, without loading.
    begun: Instant,
    /// The chunk in work, from 0, with its step and number of steps.
    step: (usize, usize, usize),
    pictures: usize,
    /// Times of chunks that are denoised and not yet decoded.
    denoised: VecDeque<Duration>,
    denoise: Stage,
    decode: Stage,
    encode: Stage,
    memory: Memory,
}

impl Pace {
    pub(super) fn new(work: VideoWork, begun: Instant) -> Self {
        Self {
            work,
            begun,
            step: (0, 0, 0),
            pictures: 0,
            denoised: VecDeque::new(),
            denoise: Stage::default(),
            decode: Stage::default(),
            encode: Stage::default(),
            memory: Memory::default(),
        }
    }

    pub(super) fn pictures(&self) -> usize {
        self.pictures
    }

    pub(super) fn update(&mut self, update: &Update) {
        match update {
            Update::Step { chunk, step, steps } => self.step = (*chunk, step + 1, *steps),
            Update::Latents(done) => self.denoised.push_back(done.took),
            Update::Pictures(pictures) => {
                let count = pictures.frames.len();
                self.pictures += count;
                self.decode.pictures += count;
                self.decode.took += pictures.took;
                if let Some(took) = self.denoised.pop_front() {
                    self.denoise.pictures += count;
                    self.denoise.took += took;
                }
            }
        }
    }

    /// The pictures handed over last took this long to encode.
    pub(super) fn encoded(&mut self, took: Duration) {
        self.encode.pictures = self.pictures;
        self.encode.took += took;
    }

    /// The line, at most `width` characters wide: what matters least is left out first.
    pub(super) fn line(&mut self, now: Instant, stages: bool, width: Option<usize>) -> String {
        let memory = self.memory.resident(now);
        let mut parts = self.parts(now, stages, memory);
        let length = |parts: &[(u8, String)]| parts.iter().map(|(_, text)| text.chars().count() + 2).sum::<usize>();
        while let Some(width) = width
            && length(&parts).saturating_sub(2) > width
            && let Some(least) = parts.iter().map(|(rank, _)| *rank).max().filter(|rank| *rank > 0)
        {
            parts.retain(|(rank, _)| *rank != least);
        }
        let texts: Vec<_> = parts.into_iter().map(|(_, text)| text).collect();
        texts.join(", ")
    }

    /// Parts of the line with their ranks; 0 matters most.
    fn parts(&self, now: Instant, stages: bool, memory: Option<u64>) -> Vec<(u8, String)> {
        let (work, video) = (&self.work, &self.work.video);
        let seconds = |pictures: usize| pictures as f64 / f64::from(video.fps.max(1));
        let mut parts = Vec::new();
        if video.number.1 > 1 {
            parts.push((0, format!("video {}/{}", video.number.0, video.number.1)));
        }
        let (chunk, step, steps) = self.step;
        parts.push((
            0,
            format!("chunk {}/{}", (chunk + 1).min(work.chunks.max(1)), work.chunks),
        ));
        if steps > 0 {
            parts.push((6, format!("step {step}/{steps}")));
        }
        parts.push((
            0,
            format!("{:.1}/{:.1} s", seconds(self.pictures), seconds(video.pictures)),
        ));
        if self.pictures > 0 {
            let elapsed = now.saturating_duration_since(self.begun).as_secs_f64().max(1e-3);
            let rate = self.pictures as f64 / elapsed;
            parts.push((3, format!("{} fps", rate_text(rate))));
            if stages {
                let (denoise, decode, encode) = (self.denoise.rate(), self.decode.rate(), self.encode.rate());
                parts.push((5, format!("denoise {denoise}, decode {decode}, encode {encode} fps")));
            }
            let left = video.pictures.saturating_sub(self.pictures);
            if left > 0 {
                parts.push((1, format!("{} left", clock(left as f64 / rate))));
            }
        }
        let made = work.video.done + self.pictures;
        if work.video.number.1 > 1 && made > 0 {
            let elapsed = now.saturating_duration_since(work.begun).as_secs_f64();
            let left = elapsed / made as f64 * work.video.all.saturating_sub(made) as f64;
            parts.push((2, format!("{} left for all", clock(left))));
        }
        if let Some(bytes) = memory {
            parts.push((4, bytes_text(bytes)));
        }
        parts
    }
}

/// Three digits that matter.
fn rate_text(rate: f64) -> String {
    match rate {
        rate if rate < 1.0 => format!("{rate:.2}"),
        rate if rate < 100.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

/// `0:07`, `12:34`, `1:02:03`.
pub(super) fn clock(seconds: f64) -> String {
    // A day-long video on a slow machine is still a number.
    let all = seconds.clamp(0.0, 1e9).ceil() as u64;
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// `812 MB`, `4.6 GB`.
pub(super) fn bytes_text(bytes: u64) -> String {
    match bytes as f64 / 1e6 {
        megabytes if megabytes < 1000.0 => format!("{megabytes:.0} MB"),
        megabytes => format!("{:.1} GB", megabytes / 1e3),
    }
}

/// Memory that this process holds, looked at once in a while.
#[derive(Default)]
struct Memory {
    system: System,
    looked: Option<Instant>,
    resident: Option<u64>,
}

/// Time between two looks at the memory.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);

impl Memory {
    fn resident(&mut self, now: Instant) -> Option<u64> {
        let fresh = |looked| now.saturating_duration_since(looked) < MEMORY_INTERVAL;
        if !self.looked.is_some_and(fresh) {
            self.looked = Some(now);
            self.resident = own_memory().or_else(|| self.of_system());
        }
        self.resident
    }

    /// With mapped files, on systems that do not tell them apart.
    fn of_system(&mut self) -> Option<u64> {
        let pid = Pid::from_u32(std::process::id());
        let what = ProcessRefreshKind::nothing().with_memory();
        self.system
            .refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
        self.system.process(pid).map(|process| process.memory())
    }
}

/// What this process holds of the memory by itself. Pages of mapped model files are left out: the system takes them back
/// when it needs room.
fn own_memory() -> Option<u64> {
    own_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// From the text of `/proc/self/status`.
fn own_of(status: &str) -> Option<u64> {
    let kilobytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    Some((kilobytes("RssAnon:")? + kilobytes("RssShmem:").unwrap_or(0)) * 1024)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::render::pipeline::{LatentsDone, Pictures};

    /// A video at 16 pictures per second.
    fn work(number: (usize, usize), chunks: usize, pictures: usize) -> VideoWork {
        let video = InWork {
            number,
            pictures,
            done: (number.0 - 1) * pictures,
            all: number.1 * pictures,
            fps: 16,
            width: 16,
            height: 16,
        };
        let begun = Instant::now();
        VideoWork { video, chunks, begun }
    }

    /// The second of three videos: 5 s in 7 chunks; the first chunk is done after 4 s.
    fn pace() -> (Pace, Instant) {
        let begun = Instant::now();
        let mut pace = Pace::new(work((2, 3), 7, 80), begun);
        let latents = Tensor::zeros((3, 16, 1, 1), DType::F32, &Device::Cpu).unwrap();
        let took = Duration::from_secs(3);
        pace.update(&Update::Latents(LatentsDone {
            chunk: 0,
            latents,
            took,
        }));
        pace.update(&Update::Step {
            chunk: 1,
            step: 0,
            steps: 4,
        });
        let (frames, took) = (vec![Vec::new(); 8], Duration::from_millis(500));
        pace.update(&Update::Pictures(Pictures { chunk: 0, frames, took }));
        pace.encoded(Duration::from_millis(10));
        (pace, begun + Duration::from_secs(4))
    }

    #[test]
    fn the_line_says_where_how_fast_and_how_long() {
        let (mut pace, now) = pace();
        let line = pace.line(now, false, None);
        assert!(
            line.starts_with("video 2/3, chunk 2/7, step 1/4, 0.5/5.0 s, 2.0 fps, 0:36 left"),
            "{line}"
        );
        assert!(line.ends_with("MB") || line.ends_with("GB"), "{line}");
        let line = pace.line(now, true, None);
        assert!(line.contains("denoise 2.7, decode 16.0, encode 800 fps"), "{line}");
    }

    #[test]
    fn a_narrow_line_keeps_what_matters_most() {
        let (mut pace, now) = pace();
        for width in 0..140 {
            let line = pace.line(now, true, Some(width));
            assert!(line.chars().count() <= width.max(35), "{width}: {line}");
            assert!(line.starts_with("video 2/3, chunk 2/7"), "{line}");
            assert!(line.contains("0.5/5.0 s"), "{line}");
        }
        assert!(pace.line(now, true, Some(50)).contains("0:36 left"));
    }

    #[test]
    fn a_run_of_several_videos_tells_when_all_are_made() {
        let (mut pace, now) = pace();
        pace.work.begun = now - Duration::from_secs(44);
        // 88 pictures in 44 s, and 152 to come.
        let line = pace.line(now, false, None);
        assert!(line.contains("0:36 left, 1:16 left for all"), "{line}");
        assert!(pace.line(now, false, Some(62)).contains("1:16 left for all"));
    }

    #[test]
    fn mapped_files_are_no_memory_of_the_program() {
        let status = "VmRSS:\t 15800000 kB\nRssAnon:\t 5900000 kB\nRssFile:\t 9900000 kB\nRssShmem:\t 16 kB\n";
        assert_eq!(own_of(status), Some(5_900_016 * 1024));
        assert_eq!(own_of("VmRSS:\t 15800000 kB\n"), None);
    }

    #[test]
    fn nothing_is_promised_before_the_first_picture() {
        let begun = Instant::now();
        let line = Pace::new(work((1, 1), 1, 9), begun).line(begun, true, None);
        assert!(line.starts_with("chunk 1/1, 0.0/0.6 s"), "{line}");
        assert!(!line.contains("fps") && !line.contains("left"), "{line}");
    }

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!([clock(0.2), clock(754.0), clock(3723.0)], ["0:01", "12:34", "1:02:03"]);
        assert_eq!(clock(f64::INFINITY), clock(1e9));
        assert_eq!(
            [bytes_text(811_600_000), bytes_text(4_600_000_000)],
            ["812 MB", "4.6 GB"]
        );
    }
}
