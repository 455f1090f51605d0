//! How fast the device multiplies matrices: what the networks are measured against.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::clock::Clock;
use crate::{Result, device::Compute};

/// Side of the matrices on a GPU and on the CPU.
const SIDES: (usize, usize) = (8192, 1536);
/// Products that are timed together, on a GPU and on the CPU.
const TOGETHER: (usize, usize) = (16, 1);
const ROUNDS: usize = 4;

/// The fastest matrix product seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ceiling {
    /// Side of the square matrices.
    pub side: usize,
    pub dtype: String,
    /// TFLOP/s.
    pub tflops: f64,
}

/// Multiplies square matrices of random numbers (zeros draw less power and run faster).
///
/// # Errors
/// On a device failure.
pub fn measure(compute: &Compute) -> Result<Ceiling> {
    let gpu = !compute.device.is_cpu();
    let (side, together) = match gpu {
        true => (SIDES.0, TOGETHER.0),
        false => (SIDES.1, TOGETHER.1),
    };
    let matrix = || Tensor::randn(0f32, 1f32, (side, side), &compute.device)?.to_dtype(compute.dtype);
    let (a, b) = (matrix()?, matrix()?);
    // The first products choose algorithms and load code.
    drop(a.matmul(&b)?);
    let mut clock = Clock::start(compute)?;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        for _ in 0..together {
            drop(a.matmul(&b)?);
        }
        best = best.min(clock.lap()?.as_secs_f64() / together as f64);
    }
    Ok(Ceiling {
        side,
        dtype: compute.dtype.as_str().into(),
        tflops: 2.0 * (side as f64).powi(3) / best / 1e12,
    })
}
