//! Keys and values that belong to whole latent frames, beside those of the tokens: what the action modules of a world
//! attend to (docs/algorithms/matrix_game_2.md section 3).
//!
//! The last frames stay, without a sink and whatever the policy of the tokens is: how long they are is a property of the
//! trained model.

use candle_core::{DType, Device, Tensor};

use super::{Pass, Write, check_memory};
use crate::{Error, Result, kernels};

/// Keys and values of the last `window` latent frames, `[frames, items, head_dim]` each.
pub struct FrameWindow {
    keys: Tensor,
    values: Tensor,
    held: usize,
}

/// Keys and values at a chunk boundary, on the host.
#[derive(Debug, Clone)]
pub struct FrameSnapshot {
    /// `[frames, items, head_dim]`, oldest first.
    pub keys: Tensor,
    pub values: Tensor,
}

impl FrameWindow {
    /// An empty one.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn new(window: usize, items: usize, head_dim: usize, dtype: DType, device: &Device) -> Result<Self> {
        check_memory([2, window, items, head_dim, dtype.size_in_bytes(), 1], device.is_cpu())?;
        let buffer = || Tensor::zeros((window, items, head_dim), dtype, device);
        Ok(Self {
            keys: buffer()?,
            values: buffer()?,
            held: 0,
        })
    }

    /// Latent frames that it has room for.
    pub fn window(&self) -> usize {
        self.keys.dim(0).unwrap_or(0)
    }

    /// Writes the frames of a chunk, `[frames, items, head_dim]`: the first pass over it appends them, for which the oldest
    /// frames leave, later ones write them anew. Returns what is held, the chunk included.
    ///
    /// # Errors
    /// When the chunk is longer than the window, the pass is none of the chunk loop's, or on a device failure.
    pub fn write(&mut self, pass: Pass, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        let (frames, window) = (keys.dim(0)?, self.window());
        if frames > window {
            return Err(Error::FrameWindow { window, frames });
        }
        let start = match pass.write {
            Write::Append => {
                let kept = self.held.min(window - frames);
                self.keep_last(kept)?;
                kept
            }
            Write::Overwrite if self.held >= frames => self.held - frames,
            _ => {
                return Err(Error::FrameWrite {
                    held: self.held,
                    frames,
                });
            }
        };
        kernels::write_rows(&self.keys, &keys.contiguous()?, start)?;
        kernels::write_rows(&self.values, &values.contiguous()?, start)?;
        self.held = start + frames;
        self.view()
    }

    /// Moves the last `kept` frames to the front.
    fn keep_last(&self, kept: usize) -> Result<()> {
        let gone = self.held - kept;
        if gone == 0 || kept == 0 {
            return Ok(());
        }
        for buffer in [&self.keys, &self.values] {
            let rows = buffer.narrow(0, gone, kept)?.copy()?;
            kernels::write_rows(buffer, &rows, 0)?;
        }
        Ok(())
    }

    /// Keys and values that are held, oldest frame first: `[frames, items, head_dim]`.
    ///
    /// # Errors
    /// On a device failure.
    pub fn view(&self) -> Result<(Tensor, Tensor)> {
        Ok((self.keys.narrow(0, 0, self.held)?, self.values.narrow(0, 0, self.held)?))
    }

    /// Bytes of both buffers.
    pub fn bytes(&self) -> usize {
        2 * self.keys.elem_count() * self.keys.dtype().size_in_bytes()
    }

    pub(super) fn snapshot(&self) -> Result<FrameSnapshot> {
        let (keys, values) = self.view()?;
        let copy = |rows: Tensor| -> Result<Tensor> {
            // The buffers are written in place: on the CPU, too, a copy is needed.
            Ok(if rows.device().is_cpu() {
                rows.copy()?
            } else {
                rows.to_device(&Device::Cpu)?
            })
        };
        Ok(FrameSnapshot {
            keys: copy(keys)?,
            values: copy(values)?,
        })
    }

    /// Becomes what `snapshot` was taken of.
    pub(super) fn restore(&mut self, snapshot: &FrameSnapshot) -> Result<()> {
        let (window, items, head_dim) = self.keys.dims3()?;
        for kept in [&snapshot.keys, &snapshot.values] {
            let fits = matches!(*kept.dims(), [frames, a, b] if frames <= window && (a, b) == (items, head_dim));
            if !fits || kept.dtype() != self.keys.dtype() || kept.dims() != snapshot.keys.dims() {
                return Err(Error::Snapshot {
                    reason: format!(
                        "keys and values of frames are {:?} in {:?}, expected at most [{window}, {items}, {head_dim}] in {:?}",
                        kept.dims(),
                        kept.dtype(),
                        self.keys.dtype()
                    ),
                });
            }
        }
        self.held = snapshot.keys.dim(0)?;
        if self.held > 0 {
            let device = self.keys.device();
            kernels::write_rows(&self.keys, &snapshot.keys.to_device(device)?, 0)?;
            kernels::write_rows(&self.values, &snapshot.values.to_device(device)?, 0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pass(start: usize, frames: usize, write: Write) -> Pass {
        Pass {
            start: start as u64,
            frames,
            write,
            position: start as i64,
            clean: false,
        }
    }

    /// Frame `n` of pass `turn` holds `n + turn / 8`, its values the negative of that.
    fn frames(start: usize, count: usize, turn: usize) -> (Tensor, Tensor) {
        let of = |n: usize| (start + n) as f32 + turn as f32 / 8.0;
        let keys: Vec<f32> = (0..count).flat_map(|n| [of(n); 6]).collect();
        let keys = Tensor::from_vec(keys, (count, 2, 3), &Device::Cpu).unwrap();
        let values = keys.neg().unwrap();
        (keys, values)
    }

    fn held(window: &FrameWindow) -> Vec<f32> {
        let (keys, values) = window.view().unwrap();
        let first = |rows: Tensor| -> Vec<f32> {
            let rows = rows.flatten_from(1).unwrap().narrow(1, 0, 1).unwrap();
            rows.flatten_all().unwrap().to_vec1().unwrap()
        };
        let (keys, values) = (first(keys), first(values));
        assert!(keys.iter().zip(&values).all(|(key, value)| *key == -value));
        keys
    }

    proptest! {
        /// Whatever the chunks and the window: the last frames are held, each as the last pass over it left it, and a
        /// snapshot goes on alike.
        #[test]
        fn the_last_frames_stay(room in 0usize..4, sizes in proptest::collection::vec(1usize..4, 1..10), passes in 1usize..4) {
            let window = sizes.iter().max().unwrap() + room;
            let mut cache = FrameWindow::new(window, 2, 3, DType::F32, &Device::Cpu).unwrap();
            let mut start = 0;
            for frames_of_chunk in sizes {
                for turn in 0..passes {
                    let write = if turn == 0 { Write::Append } else { Write::Overwrite };
                    let (keys, values) = frames(start, frames_of_chunk, turn);
                    cache.write(pass(start, frames_of_chunk, write), &keys, &values).unwrap();
                }
                start += frames_of_chunk;
                let last = (passes - 1) as f32 / 8.0;
                let expected: Vec<f32> = (start.saturating_sub(window)..start).map(|n| n as f32 + last).collect();
                prop_assert_eq!(&held(&cache), &expected);
                let kept = cache.snapshot().unwrap();
                let mut other = FrameWindow::new(window, 2, 3, DType::F32, &Device::Cpu).unwrap();
                other.restore(&kept).unwrap();
                prop_assert_eq!(held(&other), expected);
                cache = other;
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut cache = FrameWindow::new(4, 2, 3, DType::F32, &Device::Cpu).unwrap();
        let (keys, values) = frames(0, 5, 0);
        let too_long = cache.write(pass(0, 5, Write::Append), &keys, &values);
        assert!(matches!(too_long, Err(Error::FrameWindow { window: 4, frames: 5 })));
        let (keys, values) = frames(0, 3, 0);
        let unknown = cache.write(pass(0, 3, Write::Overwrite), &keys, &values);
        assert!(matches!(unknown, Err(Error::FrameWrite { held: 0, .. })));
        let wrong = FrameSnapshot {
            keys: Tensor::zeros((5, 2, 3), DType::F32, &Device::Cpu).unwrap(),
            values: Tensor::zeros((5, 2, 3), DType::F32, &Device::Cpu).unwrap(),
        };
        assert!(matches!(cache.restore(&wrong), Err(Error::Snapshot { .. })));
    }
}
