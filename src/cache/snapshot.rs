//! A cache at a chunk boundary, to go on from later: on the host, apart from the cache that it was taken of.

use candle_core::{DType, Device, Tensor};

use super::{CacheShape, FrameSnapshot, FrameWindow, KvCache, LayerCache, Slot};
use crate::{Error, Result, kernels};

/// All layers of a cache between two passes.
#[derive(Debug, Clone)]
pub struct CacheSnapshot {
    /// Latent frame after the last one that was written; `None` before the first pass.
    pub end: Option<u64>,
    pub layers: Vec<LayerSnapshot>,
    /// The windows of frames of each layer: as many as layers.
    pub frames: Vec<Vec<FrameSnapshot>>,
}

/// Valid tokens of a layer, in order.
#[derive(Debug, Clone)]
pub struct LayerSnapshot {
    pub slots: Vec<Slot>,
    /// Keys as made, `[tokens, heads, head_dim]`.
    pub raw: Tensor,
    /// The same keys rotated. Rotating them again might round otherwise on a GPU.
    pub rotated: Tensor,
    /// `[tokens, heads, head_dim]`.
    pub values: Tensor,
    /// Sums of queries of the last latent frames of each pass, `[heads·head_dim]` each, newest last.
    pub queries: Vec<Tensor>,
}

/// Positions beyond this are of no video: a day has 350 thousand latent frames.
const FARTHEST: u64 = 1 << 40;

impl KvCache {
    /// Everything that later chunks depend on.
    ///
    /// # Errors
    /// On a device failure.
    pub fn snapshot(&mut self) -> Result<CacheSnapshot> {
        self.end_pass()?;
        let layers = self.layers.iter().map(LayerCache::snapshot);
        Ok(CacheSnapshot {
            end: self.end,
            layers: layers.collect::<Result<_>>()?,
            frames: self
                .frames
                .iter()
                .map(|windows| windows.iter().map(FrameWindow::snapshot).collect())
                .collect::<Result<_>>()?,
        })
    }

    /// Makes this cache what `snapshot` was taken of, to the bit.
    ///
    /// # Errors
    /// When it is of another model, size or number format, contradicts itself, or on a device failure. The cache is
    /// then of no more use.
    pub fn restore(&mut self, snapshot: &CacheSnapshot) -> Result<()> {
        if snapshot.layers.len() != self.layers.len() {
            return Err(other(format!(
                "it has {} layers, the model {}",
                snapshot.layers.len(),
                self.layers.len()
            )));
        }
        let shape = self.shape;
        for (index, (layer, kept)) in self.layers.iter_mut().zip(&snapshot.layers).enumerate() {
            kept.check(&shape, layer, snapshot.end)
                .map_err(|reason| other(format!("layer {index}: {reason}")))?;
            layer.restore(kept, &shape)?;
        }
        self.restore_frames(&snapshot.frames)?;
        self.end = snapshot.end;
        Ok(())
    }

    fn restore_frames(&mut self, kept: &[Vec<FrameSnapshot>]) -> Result<()> {
        for (index, windows) in self.frames.iter_mut().enumerate() {
            let kept = kept.get(index).map_or(&[][..], Vec::as_slice);
            if kept.len() != windows.len() {
                return Err(other(format!(
                    "layer {index} has {} windows of frames, the model {}",
                    kept.len(),
                    windows.len()
                )));
            }
            for (window, kept) in windows.iter_mut().zip(kept) {
                window.restore(kept)?;
            }
        }
        Ok(())
    }
}

fn other(reason: String) -> Error {
    Error::Snapshot { reason }
}

impl LayerSnapshot {
    /// What contradicts the layer that it is meant for, or itself.
    fn check(&self, shape: &CacheShape, layer: &LayerCache, end: Option<u64>) -> Result<(), String> {
        let tokens = self.slots.len();
        let room = layer.raw.dim(0).unwrap_or(0);
        if tokens > room {
            return Err(format!("{tokens} tokens, more than the {room} that the cache holds"));
        }
        let (dims, dtype) = ([tokens, shape.heads, shape.head_dim], layer.raw.dtype());
        for (name, tensor) in [
            ("keys", &self.raw),
            ("rotated keys", &self.rotated),
            ("values", &self.values),
        ] {
            if tensor.dims() != dims || tensor.dtype() != dtype {
                return Err(format!(
                    "{name} are {:?} in {:?}, expected {dims:?} in {dtype:?}",
                    tensor.dims(),
                    tensor.dtype()
                ));
            }
        }
        let width = shape.heads * shape.head_dim;
        let sums = self.queries.iter();
        if let Some(sum) = sums
            .clone()
            .find(|sum| sum.dims() != [width] || sum.dtype() != DType::F32)
        {
            return Err(format!(
                "a sum of queries has shape {:?}, expected [{width}]",
                sum.dims()
            ));
        }
        let end = end.unwrap_or(0);
        let wrong = |slot: &&Slot| {
            slot.row as usize >= shape.rows
                || slot.column as usize >= shape.columns
                || slot.frame >= end
                || slot.position.unsigned_abs() > FARTHEST
        };
        match self.slots.iter().find(wrong) {
            Some(slot) => Err(format!("there is no token like {slot:?}")),
            None => Ok(()),
        }
    }
}

impl LayerCache {
    fn snapshot(&self) -> Result<LayerSnapshot> {
        let tokens = self.slots.len();
        let copy = |buffer: &Tensor| -> Result<Tensor> {
            let valid = buffer.narrow(0, 0, tokens)?;
            // The buffers are written in place: on the CPU, too, a copy is needed.
            Ok(if valid.device().is_cpu() {
                valid.copy()?
            } else {
                valid.to_device(&Device::Cpu)?
            })
        };
        let sums = self
            .queries
            .frames()
            .map(|sum| Ok(sum.to_device(&Device::Cpu)?.copy()?));
        Ok(LayerSnapshot {
            slots: self.slots.clone(),
            raw: copy(&self.raw)?,
            rotated: copy(&self.rotated)?,
            values: copy(&self.values)?,
            queries: sums.collect::<Result<_>>()?,
        })
    }

    /// `snapshot` has been checked.
    fn restore(&mut self, snapshot: &LayerSnapshot, shape: &CacheShape) -> Result<()> {
        let device = self.raw.device().clone();
        if !snapshot.slots.is_empty() {
            for (buffer, kept) in [
                (&self.raw, &snapshot.raw),
                (&self.rotated, &snapshot.rotated),
                (&self.values, &snapshot.values),
            ] {
                kernels::write_rows(buffer, &kept.to_device(&device)?, 0)?;
            }
            if let Some(tags) = &self.tags {
                tags.restore(&snapshot.slots, shape.columns)?;
            }
        }
        let sums = snapshot.queries.iter().map(|sum| Ok(sum.to_device(&device)?));
        self.queries.replace(sums.collect::<Result<_>>()?);
        self.slots.clone_from(&snapshot.slots);
        self.pending = None;
        Ok(())
    }
}
