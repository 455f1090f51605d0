//! Denoising, decoding and encoding at the same time: three threads joined by bounded channels.
//!
//! ```text
//! rollout ─ latents ─► decoder ─ pictures ─► the caller's thread
//! ```
//!
//! The first error stops all three; what was rendered before it has been handed over by then.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use candle_core::Tensor;

use crate::{
    Error, Result,
    rollout::{CancelToken, ChunkLoop, LatentChunk, Progress, Snapshot},
    vae::{DecodeStream, frames_to_rgb8},
};

/// How far a stage may run ahead of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Chunks of latents that may wait for the decoder.
    pub chunks: usize,
    /// Updates that may wait for the caller.
    pub updates: usize,
}

impl Default for Bounds {
    /// One chunk, and the updates of four: neither denoising nor decoding waits for an encoder that is slow for a moment
    /// (58 MB of pictures at 480×832).
    fn default() -> Self {
        Self { chunks: 1, updates: 24 }
    }
}

/// What is kept beside the video on the way, so that a run that ends early can be continued.
pub trait Keeping: Send {
    /// A chunk's latents are done; all are shown, in order.
    fn latents(&mut self, chunk: &LatentChunk);

    /// Whether a snapshot after this chunk is wanted; `last`: the run ends here, before the video does.
    fn wants_snapshot(&mut self, last: bool) -> bool;

    /// The snapshot that was wanted.
    fn snapshot(&mut self, snapshot: Snapshot);
}

/// Chunks of an earlier run, in order.
pub struct Before<'a>(pub Box<dyn Iterator<Item = Result<LatentChunk>> + Send + 'a>);

impl Default for Before<'_> {
    fn default() -> Self {
        Self(Box::new(std::iter::empty()))
    }
}

/// A run of the pipeline.
pub struct Run<'a> {
    pub rollout: Box<dyn ChunkLoop>,
    pub decoder: DecodeStream,
    /// Pictures that are handed over at most; `None`: all that the rollout gives.
    pub pictures: Option<usize>,
    pub bounds: Bounds,
    /// Latents of the chunks before those of the rollout, which goes on from them: they are decoded again, in order.
    pub before: Before<'a>,
    pub keeping: Option<Box<dyn Keeping + 'a>>,
}

impl Run<'_> {
    /// A video from its beginning, with nothing kept beside it.
    pub fn new(rollout: Box<dyn ChunkLoop>, decoder: DecodeStream, pictures: Option<usize>) -> Self {
        Self {
            rollout,
            decoder,
            pictures,
            bounds: Bounds::default(),
            before: Before::default(),
            keeping: None,
        }
    }
}

/// What the caller hears while a video is made.
pub enum Update {
    /// A denoising step of a chunk is done (`step` counts from 0).
    Step { chunk: usize, step: usize, steps: usize },
    /// A chunk's latents are done.
    Latents(LatentsDone),
    /// The next pictures of the video, in order.
    Pictures(Pictures),
}

/// A chunk whose latents are done.
pub struct LatentsDone {
    pub chunk: usize,
    /// `[frames, channels, height, width]`, to be kept or looked at; decoding goes on without the caller.
    pub latents: Tensor,
    /// Time that denoising and the cache pass before it took; nothing for chunks of an earlier run.
    pub took: Duration,
}

/// Pictures of one chunk.
pub struct Pictures {
    pub chunk: usize,
    /// RGB, `height·width·3` bytes each, rows from the top.
    pub frames: Vec<Vec<u8>>,
    /// Time that decoding took.
    pub took: Duration,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rendered {
    /// Pictures handed over.
    pub pictures: usize,
    /// Whether all that was asked for was made; false after a cancellation.
    pub complete: bool,
}

/// Makes a video and hands it to `receive`, chunk by chunk, on the calling thread.
///
/// An error of `receive` stops the run and is returned.
///
/// # Errors
/// The first error of any stage.
pub fn run(run: Run<'_>, cancel: &CancelToken, mut receive: impl FnMut(Update) -> Result<()>) -> Result<Rendered> {
    let Run {
        mut rollout,
        decoder: mut stream,
        pictures,
        bounds,
        before,
        mut keeping,
    } = run;
    rollout.set_cancel(cancel.clone());
    thread::scope(|scope| {
        let (latents_out, latents_in) = sync_channel(bounds.chunks);
        let (updates_out, updates_in) = sync_channel(bounds.updates);
        let steps_out = updates_out.clone();
        let denoiser = scope.spawn(move || {
            let onward = Onward {
                latents: latents_out,
                updates: steps_out,
            };
            onward.repeat(before.0, cancel)?;
            onward.denoise(rollout.as_mut(), &mut keeping, cancel)
        });
        let decoder = scope.spawn(move || decode(&mut stream, pictures, latents_in, updates_out));
        let received = receive_all(updates_in, &mut receive);
        if received.is_err() {
            cancel.now();
        }
        let denoised = join(denoiser, "denoising");
        let decoded = join(decoder, "decoding");
        let pictures_made = received?;
        // A stage that stops because its neighbour did reports nothing of its own.
        decoded?;
        denoised?;
        Ok(Rendered {
            pictures: pictures_made,
            complete: pictures.is_none_or(|wanted| wanted == pictures_made),
        })
    })
}

fn receive_all(updates: Receiver<Update>, receive: &mut impl FnMut(Update) -> Result<()>) -> Result<usize> {
    let mut pictures = 0;
    for update in updates {
        if let Update::Pictures(batch) = &update {
            pictures += batch.frames.len();
        }
        receive(update)?;
    }
    Ok(pictures)
}

/// Where chunks of latents go.
struct Onward {
    latents: SyncSender<LatentChunk>,
    updates: SyncSender<Update>,
}

impl Onward {
    /// Sends a chunk on; false when nobody waits for it any more.
    fn send(&self, chunk: LatentChunk, took: Duration) -> bool {
        let done = LatentsDone {
            chunk: chunk.index,
            latents: chunk.latents.clone(),
            took,
        };
        self.updates.send(Update::Latents(done)).is_ok() && self.latents.send(chunk).is_ok()
    }

    /// Hands over what an earlier run made.
    fn repeat(&self, before: impl Iterator<Item = Result<LatentChunk>>, cancel: &CancelToken) -> Result<()> {
        for chunk in before {
            if cancel.is_cancelled() || !self.send(chunk?, Duration::ZERO) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn denoise(
        &self,
        rollout: &mut dyn ChunkLoop,
        keeping: &mut Option<Box<dyn Keeping + '_>>,
        cancel: &CancelToken,
    ) -> Result<()> {
        loop {
            let start = Instant::now();
            let mut report = |progress: Progress<'_>| {
                if let Progress::Step { chunk, step, steps, .. } = progress {
                    // A caller that has gone is noticed when the latents are sent.
                    let _ = self.updates.send(Update::Step { chunk, step, steps });
                }
            };
            let Some(chunk) = rollout.next_chunk(&mut report)? else {
                return match keeping {
                    Some(keeping) if cancel.is_cancelled() => snapshot(rollout, keeping.as_mut(), true),
                    _ => Ok(()),
                };
            };
            let took = start.elapsed();
            if let Some(keeping) = keeping {
                keeping.latents(&chunk);
            }
            if !self.send(chunk, took) {
                return Ok(());
            }
            if let Some(keeping) = keeping {
                snapshot(rollout, keeping.as_mut(), false)?;
            }
        }
    }
}

fn snapshot(rollout: &mut dyn ChunkLoop, keeping: &mut dyn Keeping, last: bool) -> Result<()> {
    if keeping.wants_snapshot(last) {
        keeping.snapshot(rollout.snapshot()?);
    }
    Ok(())
}

fn decode(
    stream: &mut DecodeStream,
    pictures: Option<usize>,
    latents: Receiver<LatentChunk>,
    updates: SyncSender<Update>,
) -> Result<()> {
    let mut left = pictures.unwrap_or(usize::MAX);
    for chunk in latents {
        let start = Instant::now();
        check_finite(&chunk)?;
        let mut frames = frames_to_rgb8(&stream.push(&chunk.latents)?)?;
        frames.truncate(left);
        left -= frames.len();
        let pictures = Pictures {
            chunk: chunk.index,
            frames,
            took: start.elapsed(),
        };
        if updates.send(Update::Pictures(pictures)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// A broken model shows as an error, not as black pictures.
fn check_finite(chunk: &LatentChunk) -> Result<()> {
    let magnitude = chunk.latents.abs()?.sum_all()?.to_scalar::<f32>()?;
    match magnitude.is_finite() {
        true => Ok(()),
        false => Err(Error::NotFinite { chunk: chunk.index }),
    }
}

fn join(stage: ScopedJoinHandle<'_, Result<()>>, name: &'static str) -> Result<()> {
    stage.join().unwrap_or(Err(Error::StagePanicked { stage: name }))
}
