//! The result of a measurement: JSON with a version for programs, a table for people.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use super::{ceiling::Ceiling, loops::LoopTimes, machine::Machine};
use crate::{cache::CacheSettings, hub::human_bytes};

/// Number of the JSON's form; rises when a key changes its meaning or goes away.
pub const FORMAT: u32 = 1;

/// A whole measurement. Times are in milliseconds unless a name says seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BenchReport {
    /// See [`FORMAT`].
    pub format: u32,
    /// Version of the program.
    #[serde(rename = "deepforcing")]
    pub version: String,
    /// Optional parts of the build.
    pub features: Vec<String>,
    pub machine: Machine,
    /// `cpu` or `cuda`.
    pub device: String,
    pub dtype: String,
    pub model: ModelFacts,
    pub video: VideoFacts,
    pub cache: CacheSettings,
    pub ceiling: Ceiling,
    pub cold_start: ColdStart,
    pub chunks: Vec<ChunkTimes>,
    /// First chunk of the steady state.
    pub steady_from: usize,
    pub steady: Steady,
    pub cache_writes: CacheWrites,
    /// All stages side by side, as `generate` runs them; absent when there are no pictures to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side_by_side: Option<SideBySide>,
    /// What other loops do; absent unless it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loops: Option<LoopTimes>,
    pub memory: Memory,
}

/// The networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelFacts {
    pub preset: String,
    pub random_weights: bool,
    pub dim: usize,
    pub heads: usize,
    pub layers: usize,
    pub ffn_dim: usize,
    /// `wan`, `tae` or `none`.
    pub vae: String,
}

/// The video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VideoFacts {
    pub width: usize,
    pub height: usize,
    /// Latent frames of a chunk.
    pub chunk: usize,
    /// Denoising steps of a chunk.
    pub steps: Vec<u32>,
    pub tokens_per_frame: usize,
}

/// What comes before the first picture, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ColdStart {
    /// Opening the device.
    pub device_seconds: f64,
    /// Loading or making the weights, and reading the prompt.
    pub load_seconds: f64,
    /// Preparing the prompt for all blocks and taking the memory of the cache.
    pub prepare_seconds: f64,
    /// From the start of the command to the first picture on the host (without pictures: to the first latents); the
    /// measurement of the ceiling is not counted.
    pub first_picture_seconds: f64,
}

/// A chunk, stage by stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ChunkTimes {
    pub chunk: usize,
    /// Whether the cache made room for it.
    pub event: bool,
    /// Latent frames that it attended to, itself included.
    pub attended: f64,
    /// Each denoising step; making room is part of the first.
    pub steps: Vec<f64>,
    /// The pass that writes the clean chunk into the cache.
    pub cache_pass: f64,
    pub decode: f64,
    /// From pictures on the device to bytes on the host.
    pub transfer: f64,
    pub encode: f64,
    pub pictures: usize,
    /// TFLOP of all passes.
    pub tflop: f64,
    /// TFLOP/s of all passes.
    pub tflops: f64,
    /// Bytes of the device that tensors take after the chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_bytes: Option<u64>,
    /// Bytes of the machine that the process takes after the chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_bytes: Option<u64>,
}

impl ChunkTimes {
    /// All passes of the transformer.
    pub fn denoise(&self) -> f64 {
        self.steps.iter().sum::<f64>() + self.cache_pass
    }

    /// All stages.
    pub fn all(&self) -> f64 {
        self.denoise() + self.decode + self.transfer + self.encode
    }
}

/// Means of the chunks from [`BenchReport::steady_from`] on.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Steady {
    pub chunks: usize,
    pub denoise: f64,
    pub decode: f64,
    pub transfer: f64,
    pub encode: f64,
    pub tflops: f64,
    /// Share of [`Ceiling::tflops`].
    pub of_ceiling: f64,
    /// Pictures per second with all stages one after the other.
    pub fps: f64,
    /// Pictures per second of denoising alone.
    pub denoise_fps: f64,
}

/// Writing the keys and values of a chunk into the cache of all layers.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CacheWrites {
    /// Where room is made first: scores, selection, moving what stays.
    pub with_event: Option<f64>,
    /// Where the chunk fits.
    pub without_event: Option<f64>,
    /// A later pass over the same chunk.
    pub again: Option<f64>,
}

/// All stages side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SideBySide {
    /// Pictures per second from the first chunk of the steady state on.
    pub fps: f64,
    pub pictures: usize,
    pub seconds: f64,
    /// The video encoder; absent when pictures are dropped.
    pub encoder: Option<String>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Memory {
    /// Most that the process has taken of the machine.
    pub host_peak: Option<u64>,
    /// Most that tensors have taken of the device.
    pub device_peak: Option<u64>,
    /// Most that the process has taken from the driver for tensors.
    pub device_reserved_peak: Option<u64>,
    /// How much more tensors take of the device after the last chunk than after the first of the steady state.
    pub device_growth: Option<i64>,
    /// The same for the process and the machine.
    pub host_growth: Option<i64>,
    /// Bytes of the key/value cache.
    pub cache: u64,
}

impl BenchReport {
    /// JSON for people and programs, without a line end at the end.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Chunks that tell the story: the first, the last before room is made, the first two that made room with what comes
    /// between and after them, the last two.
    pub fn telling(&self) -> Vec<&ChunkTimes> {
        let events = self.chunks.iter().filter(|chunk| chunk.event).map(|chunk| chunk.chunk);
        let mut wanted = vec![0, 1];
        for event in events.take(2) {
            wanted.extend([event.saturating_sub(1), event, event + 1]);
        }
        let last = self.chunks.len().saturating_sub(1);
        wanted.extend([last.saturating_sub(1), last]);
        self.chunks
            .iter()
            .filter(|chunk| wanted.contains(&chunk.chunk))
            .collect()
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_facts(f, self)?;
        let start = &self.cold_start;
        writeln!(
            f,
            "{:<13} device {:.2} s, weights and prompt {:.2} s, cache {:.2} s; first picture after {:.2} s",
            "cold start", start.device_seconds, start.load_seconds, start.prepare_seconds, start.first_picture_seconds
        )?;
        write_chunks(f, self)?;
        write_steady(f, self)?;
        if let Some(loops) = &self.loops {
            write_loops(f, loops)?;
        }
        write_memory(f, &self.memory)
    }
}

fn write_facts(f: &mut fmt::Formatter<'_>, report: &BenchReport) -> fmt::Result {
    let machine = &report.machine;
    let mut text = format!("{}, {} threads", machine.processor, machine.threads);
    if let Some(gpu) = &machine.gpu {
        let _ = write!(
            text,
            "; {gpu}, driver {}",
            machine.driver.as_deref().unwrap_or("unknown")
        );
    }
    writeln!(f, "{:<13} {text}", "machine")?;
    let (model, video) = (&report.model, &report.video);
    let weights = if model.random_weights {
        "random weights"
    } else {
        "weights from files"
    };
    writeln!(
        f,
        "{:<13} {}, {weights}: dim {}, {} heads, {} layers, ffn {}; vae {}",
        "model", model.preset, model.dim, model.heads, model.layers, model.ffn_dim, model.vae
    )?;
    let steps = video.steps.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    writeln!(
        f,
        "{:<13} {}x{}, chunks of {} latent frames of {} tokens, steps {steps}",
        "video", video.width, video.height, video.chunk, video.tokens_per_frame
    )?;
    let cache = &report.cache;
    writeln!(f, "{:<13} {}, window {}", "cache", cache.policy, cache.window)?;
    let ceiling = &report.ceiling;
    writeln!(
        f,
        "{:<13} {}, {}; {} for a matrix product of {} squared",
        "device",
        report.device,
        report.dtype,
        rate(ceiling.tflops),
        ceiling.side
    )
}

fn write_chunks(f: &mut fmt::Formatter<'_>, report: &BenchReport) -> fmt::Result {
    writeln!(
        f,
        "\n chunk  attends  step 1 + others  cache pass   decode  transfer   encode      all   of the ceiling"
    )?;
    for chunk in report.telling() {
        let first = chunk.steps.first().copied().unwrap_or(0.0);
        let others = chunk.steps.iter().skip(1).sum::<f64>();
        let mark = if chunk.event { '*' } else { ' ' };
        writeln!(
            f,
            "{:>5}{mark} {:>8.1} {:>16} {:>11.1} {:>8.1} {:>9.1} {:>8.1} {:>8.1}   {:>5.1} %",
            chunk.chunk,
            chunk.attended,
            format!("{first:.1} + {others:.1}"),
            chunk.cache_pass,
            chunk.decode,
            chunk.transfer,
            chunk.encode,
            chunk.all(),
            100.0 * chunk.tflops / report.ceiling.tflops
        )?;
    }
    writeln!(f, "milliseconds; latent frames attended to; * made room in the cache\n")
}

fn write_steady(f: &mut fmt::Formatter<'_>, report: &BenchReport) -> fmt::Result {
    let steady = &report.steady;
    writeln!(
        f,
        "{:<13} {:.2} pictures/s of denoising alone, {:.2} with all stages one after the other (from chunk {} on)",
        "steady", steady.denoise_fps, steady.fps, report.steady_from
    )?;
    if let Some(run) = &report.side_by_side {
        let encoder = run.encoder.as_deref().unwrap_or("dropped pictures");
        writeln!(
            f,
            "{:<13} {:.2} pictures/s with all stages side by side ({encoder})",
            "", run.fps
        )?;
    }
    writeln!(
        f,
        "{:<13} {}, {:.1} % of the ceiling",
        "transformer",
        rate(steady.tflops),
        100.0 * steady.of_ceiling
    )?;
    let writes = &report.cache_writes;
    let text = |time: Option<f64>| time.map_or("–".into(), |time| format!("{time:.2} ms"));
    writeln!(
        f,
        "{:<13} writing a chunk {} with an event, {} without, {} again",
        "cache",
        text(writes.with_event),
        text(writes.without_event),
        text(writes.again)
    )
}

fn write_loops(f: &mut fmt::Formatter<'_>, loops: &LoopTimes) -> fmt::Result {
    let (recache, window, lora) = (&loops.recache, &loops.window, &loops.lora);
    writeln!(
        f,
        "{:<13} {:.1} ms for {} of {} latent frames, {} (a chunk there: {:.1} ms, its steps {})",
        "re-cache",
        recache.time,
        recache.frames,
        recache.held,
        rate(recache.tflops),
        recache.chunk,
        rate(recache.chunk_tflops)
    )?;
    writeln!(
        f,
        "{:<13} {:.1} ms for a pass of {} latent frames that attend to {}, {}; {:.1} ms into the cache",
        "rolling",
        window.time,
        window.frames,
        window.attended,
        rate(window.tflops),
        window.cache_pass
    )?;
    writeln!(
        f,
        "{:<13} rank {}: {:.0} ms for {} blocks without, {:.0} ms with it ({:+.1} %)",
        "LoRA",
        lora.rank,
        lora.load,
        lora.blocks,
        lora.merged,
        100.0 * lora.share()
    )
}

fn write_memory(f: &mut fmt::Formatter<'_>, memory: &Memory) -> fmt::Result {
    let bytes = |bytes: Option<u64>| bytes.map_or("unknown".into(), human_bytes);
    write!(f, "{:<13} {} at most", "memory", bytes(memory.host_peak))?;
    if memory.device_peak.is_some() {
        write!(
            f,
            "; device {} at most ({} reserved)",
            bytes(memory.device_peak),
            bytes(memory.device_reserved_peak)
        )?;
    }
    let growth = memory.device_growth.or(memory.host_growth);
    let growth = growth.map_or("unknown".into(), |bytes| format!("{:+.1} MB", bytes as f64 / 1e6));
    writeln!(
        f,
        "; {growth} over the steady state; cache {}",
        human_bytes(memory.cache)
    )
}

/// TFLOP/s, or GFLOP/s where that is easier to read.
fn rate(tflops: f64) -> String {
    match tflops >= 10.0 {
        true => format!("{tflops:.0} TFLOP/s"),
        false => format!("{:.0} GFLOP/s", tflops * 1e3),
    }
}
