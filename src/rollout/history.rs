//! Clean latents that a cache can be encoded again from when the prompt changes.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::{
    Error, Result,
    cache::{KvCache, Place},
};

/// The latent frames of the window and of the sink.
#[derive(Default)]
pub(super) struct History {
    /// `[channels, height, width]` each, by number.
    frames: BTreeMap<u64, Tensor>,
}

/// A [`History`] at a chunk boundary, on the host.
#[derive(Debug, Clone)]
pub struct HistorySnapshot {
    /// Numbers of the latent frames, in order.
    pub frames: Vec<u64>,
    /// `[frames, channels, height, width]`, f32.
    pub latents: Tensor,
}

impl History {
    /// Takes a chunk whose first frame has the number `start`: latents `[frames, channels, height, width]`.
    pub(super) fn push(&mut self, start: u64, latents: &Tensor) -> Result<()> {
        for (number, frame) in (start..).zip(0..latents.dim(0)?) {
            self.frames.insert(number, latents.get(frame)?);
        }
        Ok(())
    }

    /// Forgets what `cache`, up to date, cannot be encoded again from.
    pub(super) fn forget(&mut self, cache: &KvCache) {
        let Some((newest, _)) = self.frames.last_key_value() else {
            return;
        };
        let first = (newest + 1).saturating_sub(cache.policy().window as u64);
        let held = cache.whole_frames();
        // The frames of the sink are the only ones that are held from before the window.
        let sink = &held[..held.len().min(cache.policy().sink)];
        self.frames
            .retain(|number, _| *number >= first || sink.contains(number));
    }

    /// Latents at `places`, `[places, channels, height, width]`.
    ///
    /// # Errors
    /// When one is missing.
    pub(super) fn at(&self, places: &[Place]) -> Result<Tensor> {
        let of = |place: &Place| {
            self.frames.get(&place.frame).ok_or_else(|| Error::Recache {
                reason: format!("the latents of frame {} are not there", place.frame),
            })
        };
        let frames = places.iter().map(of).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::stack(&frames, 0)?)
    }

    /// Latents of `frames` frames from number `first` on, `[frames, channels, height, width]`.
    ///
    /// # Errors
    /// When one is missing.
    pub(super) fn frames(&self, first: u64, frames: usize) -> Result<Tensor> {
        let places: Vec<Place> = (first..first + frames as u64)
            .map(|frame| Place {
                frame,
                position: frame as i64,
            })
            .collect();
        self.at(&places)
    }

    /// What is held; `None` before the first chunk.
    ///
    /// # Errors
    /// On a device failure.
    pub(super) fn snapshot(&self) -> Result<Option<HistorySnapshot>> {
        if self.frames.is_empty() {
            return Ok(None);
        }
        let latents: Vec<&Tensor> = self.frames.values().collect();
        Ok(Some(HistorySnapshot {
            frames: self.frames.keys().copied().collect(),
            latents: Tensor::stack(&latents, 0)?.to_device(&Device::Cpu)?,
        }))
    }

    /// Becomes what `snapshot` was taken of, where that fits `cache`, restored before: latent frames of `shape`, on
    /// `device`.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn restore(
        &mut self,
        snapshot: Option<&HistorySnapshot>,
        shape: [usize; 3],
        cache: &KvCache,
        device: &Device,
    ) -> Result<()> {
        let wrong = |reason: String| Error::Snapshot { reason };
        self.frames.clear();
        if let Some(HistorySnapshot { frames, latents }) = snapshot {
            let expected = [frames.len(), shape[0], shape[1], shape[2]];
            if latents.dims() != expected {
                let found = latents.dims();
                return Err(wrong(format!(
                    "its clean latents have shape {found:?}, expected {expected:?}"
                )));
            }
            let latents = latents.to_device(device)?;
            for (i, number) in frames.iter().enumerate() {
                self.frames.insert(*number, latents.get(i)?);
            }
        }
        let missing = |number: &&u64| !self.frames.contains_key(number);
        match cache.whole_frames().iter().find(missing) {
            Some(number) => Err(wrong(format!(
                "it lacks the clean latents of frame {number}, which a change of the prompt needs"
            ))),
            None => Ok(()),
        }
    }
}
