//! A cache at a chunk boundary, to go on from later: on the host, apart from the cache that it was taken of.

use candle_core::{DType, Device, Tensor};

use super::{CacheShape, FrameSnapshot, FrameWindow, KvCache, LayerCache, Slot, cut::Cut};
use crate::{Error, Result, kernels};

/// All layers of a cache between two passes.
#[derive(Debug, Clone)]
pub struct CacheSnapshot {
    /// Latent frame after the last one that was written; `None` before the first pass.
    pub end: Option<u64>,
    /// Number of the first latent frame that was ever written; `None` before the first pass, or where it is not known.
    pub origin: Option<u64>,
    /// Latent frames of the last chunk, where it began a scene and what was before it lies far in the past.
    pub cut: Option<usize>,
    /// Class of each head, layer by layer, where they were found.
    pub head_classes: Option<Vec<Vec<usize>>>,
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
    /// Frames that are held outside the window.
    pub shelf: Option<ShelfSnapshot>,
}

/// Frames of a layer that are held outside the window.
#[derive(Debug, Clone)]
pub struct ShelfSnapshot {
    /// Their numbers.
    pub frames: Vec<u64>,
    /// Keys as made, `[tokens, heads, head_dim]`.
    pub raw: Tensor,
    /// `[tokens, heads, head_dim]`.
    pub values: Tensor,
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
        let per_frame = self.shape.tokens_per_frame();
        let layers = self.layers.iter().map(|layer| layer.snapshot(per_frame));
        Ok(CacheSnapshot {
            end: self.end,
            origin: self.origin,
            cut: self.cut.held(),
            head_classes: self.heads.classes.clone(),
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
        if snapshot.cut.is_some_and(|frames| frames == 0 || frames > shape.chunk) {
            return Err(other(format!(
                "its last scene began with {:?} latent frames",
                snapshot.cut
            )));
        }
        self.restore_classes(snapshot)?;
        self.end = snapshot.end;
        self.origin = snapshot.origin.or(snapshot.end.map(|_| 0));
        self.cut = Cut::restored(snapshot.cut);
        Ok(())
    }
}

impl KvCache {
    fn restore_classes(&mut self, snapshot: &CacheSnapshot) -> Result<()> {
        let Some(heads) = &self.policy.heads else {
            return Ok(());
        };
        // Those of a profile are the policy's.
        if self.heads.classes.is_some() {
            return Ok(());
        }
        if let Some(classes) = &snapshot.head_classes {
            let fits = classes.len() == self.shape.layers
                && classes.iter().all(|layer| layer.len() == self.shape.heads)
                && classes.iter().flatten().all(|class| *class < heads.views.len());
            if !fits {
                return Err(other("its classes of heads are of another model".into()));
            }
            self.heads.classes = Some(classes.clone());
        }
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
        if let Some(shelf) = &self.shelf {
            shelf.check(shape, layer)?;
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

impl ShelfSnapshot {
    fn check(&self, shape: &CacheShape, layer: &LayerCache) -> Result<(), String> {
        let room = layer.shelf.as_ref().map_or(0, |shelf| shelf.raw.dims()[0]);
        let tokens = self.frames.len().saturating_mul(shape.tokens_per_frame());
        if tokens > room {
            return Err(format!("{tokens} tokens are put aside, where {room} have room"));
        }
        let (dims, dtype) = ([tokens, shape.heads, shape.head_dim], layer.raw.dtype());
        for tensor in [&self.raw, &self.values] {
            if tensor.dims() != dims || tensor.dtype() != dtype {
                let (found, of) = (tensor.dims(), tensor.dtype());
                return Err(format!(
                    "what is put aside is {found:?} in {of:?}, expected {dims:?} in {dtype:?}"
                ));
            }
        }
        Ok(())
    }
}

impl LayerCache {
    fn snapshot(&self, per_frame: usize) -> Result<LayerSnapshot> {
        let tokens = self.slots.len();
        let copy = |buffer: &Tensor, tokens: usize| -> Result<Tensor> {
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
            raw: copy(&self.raw, tokens)?,
            rotated: copy(&self.rotated, tokens)?,
            values: copy(&self.values, tokens)?,
            queries: sums.collect::<Result<_>>()?,
            shelf: match &self.shelf {
                Some(shelf) => {
                    let tokens = shelf.frames.len() * per_frame;
                    Some(ShelfSnapshot {
                        frames: shelf.frames.clone(),
                        raw: copy(&shelf.raw, tokens)?,
                        values: copy(&shelf.values, tokens)?,
                    })
                }
                None => None,
            },
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
        if let Some(shelf) = &mut self.shelf {
            shelf.frames.clear();
            if let Some(kept) = snapshot.shelf.as_ref().filter(|kept| !kept.frames.is_empty()) {
                kernels::write_rows(&shelf.raw, &kept.raw.to_device(&device)?, 0)?;
                kernels::write_rows(&shelf.values, &kept.values.to_device(&device)?, 0)?;
                shelf.frames.clone_from(&kept.frames);
            }
        }
        self.slots.clone_from(&snapshot.slots);
        self.pending = None;
        Ok(())
    }
}
