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
    rollout::{CancelToken, LatentChunk, Progress, Rollout},
    vae::{DecodeStream, frames_to_rgb8},
};

/// Chunks of latents that may wait for the decoder.
const WAITING_CHUNKS: usize = 1;
/// Updates that may wait for the caller: those of four chunks, so that neither denoising nor decoding waits for an
/// encoder that is slow for a moment (58 MB of pictures at 480×832).
const WAITING_UPDATES: usize = 24;

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
    /// Time that denoising and the cache pass took.
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

/// Makes a video of at most `pictures` pictures and hands it to `receive`, chunk by chunk, on the calling thread.
///
/// An error of `receive` stops the run and is returned.
///
/// # Errors
/// The first error of any stage.
pub fn run(
    mut rollout: Rollout,
    mut stream: DecodeStream,
    pictures: usize,
    cancel: &CancelToken,
    mut receive: impl FnMut(Update) -> Result<()>,
) -> Result<Rendered> {
    rollout.set_cancel(cancel.clone());
    thread::scope(|scope| {
        let (latents_out, latents_in) = sync_channel(WAITING_CHUNKS);
        let (updates_out, updates_in) = sync_channel(WAITING_UPDATES);
        let steps_out = updates_out.clone();
        let denoiser = scope.spawn(move || denoise(&mut rollout, latents_out, steps_out));
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
            complete: pictures_made == pictures,
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

fn denoise(rollout: &mut Rollout, latents: SyncSender<LatentChunk>, updates: SyncSender<Update>) -> Result<()> {
    loop {
        let start = Instant::now();
        let mut report = |progress: Progress<'_>| {
            if let Progress::Step { chunk, step, steps, .. } = progress {
                // A caller that has gone is noticed when the latents are sent.
                let _ = updates.send(Update::Step { chunk, step, steps });
            }
        };
        let Some(chunk) = rollout.next_chunk(&mut report)? else {
            return Ok(());
        };
        let done = LatentsDone {
            chunk: chunk.index,
            latents: chunk.latents.clone(),
            took: start.elapsed(),
        };
        if updates.send(Update::Latents(done)).is_err() || latents.send(chunk).is_err() {
            return Ok(());
        }
    }
}

fn decode(
    stream: &mut DecodeStream,
    pictures: usize,
    latents: Receiver<LatentChunk>,
    updates: SyncSender<Update>,
) -> Result<()> {
    let mut left = pictures;
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
