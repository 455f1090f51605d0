//! Times of what a device does.

use std::time::{Duration, Instant};

use crate::{Result, device::Compute};

/// A stopwatch that waits for the device before it is read.
pub struct Clock<'a> {
    compute: &'a Compute,
    last: Instant,
}

impl<'a> Clock<'a> {
    /// Waits for the device and starts.
    ///
    /// # Errors
    /// When something that the device was asked before has failed.
    pub fn start(compute: &'a Compute) -> Result<Self> {
        compute.synchronize()?;
        Ok(Self {
            compute,
            last: Instant::now(),
        })
    }

    /// Time since the start or the last lap, with all that the device was asked for.
    ///
    /// # Errors
    /// When something that it was asked for has failed.
    pub fn lap(&mut self) -> Result<Duration> {
        self.compute.synchronize()?;
        let now = Instant::now();
        let took = now - self.last;
        self.last = now;
        Ok(took)
    }
}

/// In milliseconds, to a thousandth.
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
