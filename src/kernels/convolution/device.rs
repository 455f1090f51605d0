//! Weights and sizes of a convolution as a GPU takes them.

use candle_core::{Layout, Result, Shape, Tensor, bail};

#[cfg(feature = "cuda")]
use super::cuda::DeviceWeight;
use super::{CausalConv3d, WeightOrder};
use crate::kernels::launch::{CONV_DEPTH, ConvShape};

impl CausalConv3d {
    /// `[out, time · in, rows, columns]`, oldest frame first, at the start of its memory.
    pub(in crate::kernels) fn frame_major_weight(&self) -> Result<Tensor> {
        let spec = &self.spec;
        let (out, channels, time) = (spec.out_channels, spec.in_channels, spec.time_kernel);
        let area = spec.kernel * spec.kernel;
        let by_frame = match self.order {
            WeightOrder::Plain => self
                .weight
                .reshape((out, channels, time, area))?
                .transpose(1, 2)?
                .contiguous()?,
            WeightOrder::NewestFirst => {
                let newest_first = self.weight.reshape((out, time, channels, area))?;
                let frames = (0..time).rev().map(|age| newest_first.narrow(1, age, 1));
                Tensor::cat(&frames.collect::<Result<Vec<_>>>()?, 1)?
            }
        };
        at_start(by_frame.reshape((out, time * channels, spec.kernel, spec.kernel))?)
    }

    /// `[out, taps, channels]`, taps ordered time (oldest first), row, column; channels filled up with zeros to a
    /// multiple of `depth`. At the start of its memory.
    pub(in crate::kernels) fn tap_major_weight(&self, depth: usize) -> Result<Tensor> {
        let spec = &self.spec;
        let (out, channels, time) = (spec.out_channels, spec.in_channels, spec.time_kernel);
        let area = spec.kernel * spec.kernel;
        let missing = channels.next_multiple_of(depth) - channels;
        self.frame_major_weight()?
            .reshape((out, time, channels, area))?
            .transpose(2, 3)?
            .contiguous()?
            .reshape((out, time * area, channels))?
            .pad_with_zeros(2, 0, missing)?
            .contiguous()
    }

    /// Sizes for the kernels: `x` as given, without history.
    pub(in crate::kernels) fn shape_of(&self, x: &Layout, out: &Shape) -> Result<ConvShape> {
        let spec = &self.spec;
        let (_, _, height, width) = x.shape().dims4()?;
        let (_, _, out_height, out_width) = out.dims4()?;
        let int = |size: usize| match i32::try_from(size) {
            Ok(size) => Ok(size),
            Err(_) => bail!("a convolution's size of {size} is more than a kernel takes"),
        };
        int(out_height.saturating_mul(out_width))?;
        Ok(ConvShape {
            in_channels: int(spec.in_channels)?,
            padded: int(spec.in_channels.next_multiple_of(CONV_DEPTH))?,
            out_channels: int(spec.out_channels)?,
            height: int(height)?,
            width: int(width)?,
            out_height: int(out_height)?,
            out_width: int(out_width)?,
            time_kernel: int(spec.time_kernel)?,
            time_stride: int(spec.time_stride)?,
            kernel: int(spec.kernel)?,
            stride: int(spec.stride)?,
            before: int(spec.padding.before(spec.kernel))?,
            upsample: if spec.upsample { 2 } else { 1 },
            relu: spec.relu.into(),
        })
    }
}

/// A contiguous tensor at the start of its memory, where it is aligned: weights may be views that begin anywhere, and
/// tensor cores are fed 16 bytes at once.
fn at_start(tensor: Tensor) -> Result<Tensor> {
    match tensor.layout().start_offset() {
        0 => Ok(tensor),
        _ => tensor.force_contiguous(),
    }
}

#[cfg(feature = "cuda")]
impl CausalConv3d {
    pub(super) fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The weight on the device, made by `make` the first time.
    pub(super) fn on_device(&self, make: impl FnOnce() -> Result<DeviceWeight>) -> Result<&DeviceWeight> {
        if let Some(weight) = self.on_device.get() {
            return Ok(weight);
        }
        let weight = make()?;
        Ok(self.on_device.get_or_init(|| weight))
    }
}
