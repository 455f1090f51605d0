//! The memory of a GPU: what of a video is there, and whether it fits.

use std::fmt;

use candle_core::DType;
use serde::Serialize;

use super::{PICTURES, Part, TEXT_ENCODER, When, largest, levers::Levers, needed, write_parts};
use crate::hub::human_bytes;

/// The context of CUDA, the code of kernels and libraries, and their working memory. From documentation and other
/// programs, not measured with this one.
const CONTEXT: u64 = 800_000_000;

/// The room on a GPU, and how it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuRoom {
    /// Number format of the networks.
    pub dtype: DType,
    /// Bytes that may be taken; `None` when it is not known.
    pub bytes: Option<u64>,
    /// Whether the text encoder is computed on the CPU.
    pub text_on_cpu: bool,
}

/// The estimated memory of a video on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct GpuPlan {
    /// At the highest moment.
    pub needed: u64,
    /// What may be taken; absent when it is not known.
    pub available: Option<u64>,
    /// Largest first.
    pub parts: Vec<Part>,
}

/// More memory than the GPU has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the video needs about {} of the GPU's memory, and {} may be taken; the largest parts are {largest}. {levers}; or let \
     --max-vram {} choose settings that fit; or go on all the same with --no-memory-check",
    human_bytes(*needed),
    human_bytes(*available),
    super::ByteSize(*available)
)]
pub struct GpuMemoryError {
    pub needed: u64,
    pub available: u64,
    /// The largest parts with their sizes.
    pub largest: String,
    /// What to change.
    pub levers: String,
}

impl GpuPlan {
    pub(super) fn new(mut parts: Vec<Part>, room: &GpuRoom) -> Self {
        parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
        Self {
            needed: needed(&parts),
            available: room.bytes,
            parts,
        }
    }

    /// Whether it fits; what is unknown is taken to.
    pub fn fits(&self) -> bool {
        self.available.is_none_or(|available| self.needed <= available)
    }

    pub(super) fn check(&self, levers: &Levers) -> Result<(), GpuMemoryError> {
        match self.available {
            Some(available) if available < self.needed => Err(GpuMemoryError {
                needed: self.needed,
                available,
                largest: largest(&self.parts),
                levers: levers.to_string(),
            }),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for GpuPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let available = self.available.map(|bytes| format!(" of {}", human_bytes(bytes)));
        let (needed, available) = (human_bytes(self.needed), available.unwrap_or_default());
        writeln!(f, "{:<13} about {needed}{available}", "GPU memory")?;
        write_parts(f, &self.parts)
    }
}

/// From the parts of a video on the CPU in f32 to those on the machine and on the GPU.
pub(super) fn split(parts: Vec<Part>, room: &GpuRoom) -> (Vec<Part>, Vec<Part>) {
    let number = room.dtype.size_in_bytes() as u64;
    let scaled = |part: &Part| Part {
        bytes: part.bytes / size_of::<f32>() as u64 * number,
        ..part.clone()
    };
    let (mut host, mut gpu) = (Vec::new(), Vec::new());
    gpu.push(Part {
        name: "CUDA and its libraries",
        bytes: CONTEXT,
        when: When::Always,
    });
    for part in parts {
        match part.name {
            "program" | "tokenizer" => host.push(part),
            // It computes in f32 everywhere.
            TEXT_ENCODER if room.text_on_cpu => host.push(part),
            TEXT_ENCODER => gpu.push(part),
            PICTURES => {
                gpu.push(scaled(&part));
                host.push(part);
            }
            _ => gpu.push(scaled(&part)),
        }
    }
    (host, gpu)
}
