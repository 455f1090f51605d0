//! Convolutions of the video autoencoders by cuDNN.
//!
//! Frames lie one after the other with their channels, so that the frames under a kernel of several frames are one frame
//! with more channels: a convolution in time and space is a plain one per result frame, without copies. Doubled rows and
//! columns are written out first.

use candle_core::{CudaStorage, Device, Layout, Result, Shape, Tensor};

use super::conv3d::{CausalConv3d, ConvSpec, Padding};
use crate::kernels::{
    cuda::{self, Operand},
    cudnn::{self, ConvolutionShape},
    launch,
};

const NAME: &str = "causal-conv3d";

/// A weight for the library, `[out, time · in, rows, columns]`, oldest frame first.
#[derive(Debug)]
pub(super) struct Filter(Tensor);

impl Filter {
    /// `None` for convolutions that the library does not know: those padded on one side.
    pub(super) fn new(conv: &CausalConv3d) -> Result<Option<Self>> {
        if conv.spec().padding == Padding::BottomRight {
            return Ok(None);
        }
        Ok(Some(Self(conv.frame_major_weight()?)))
    }
}

/// Convolves the frames (history first) at `frames`, then adds bias and residual (addresses, 0 for none). `None` when the
/// library has no plan.
pub(super) fn convolve(
    conv: &CausalConv3d,
    filter: &Filter,
    x: &CudaStorage,
    frames: &Operand,
    layout: &Layout,
    shape: &Shape,
    [bias, residual]: [u64; 2],
) -> Result<Option<(CudaStorage, Shape)>> {
    let spec = conv.spec();
    let element = frames.element(NAME)?;
    let (_, _, height, width) = layout.shape().dims4()?;
    let (out_frames, _, out_height, out_width) = shape.dims4()?;
    let filter = Operand::of(&filter.0, NAME)?.require(frames.dtype, NAME)?;
    let doubled = match spec.upsample {
        true => Some(double(x, frames, spec, height, width)?),
        false => None,
    };
    let (from, height, width) = match &doubled {
        Some(doubled) => (Operand::of(doubled, NAME)?.at, 2 * height, 2 * width),
        None => (frames.at, height, width),
    };
    // Without time all frames are one batch.
    let batch = if spec.time_kernel == 1 && spec.time_stride == 1 {
        out_frames
    } else {
        1
    };
    let of = ConvolutionShape {
        element,
        batch,
        in_channels: spec.time_kernel * spec.in_channels,
        out_channels: spec.out_channels,
        height,
        width,
        out_height,
        out_width,
        kernel: spec.kernel,
        stride: spec.stride,
        padding: spec.padding.before(spec.kernel),
    };
    let (storage, out) = cuda::allocate(&x.device, frames.dtype, shape)?;
    let bytes = |elements: usize| (elements * element.bytes()) as u64;
    let in_step = bytes(spec.time_stride * spec.in_channels * height * width);
    let out_step = bytes(spec.out_channels * out_height * out_width);
    for frame in (0..out_frames as u64).step_by(batch.max(1)) {
        let (to, from) = (out + frame * out_step, from + frame * in_step);
        if !cudnn::convolve(&x.device, of, to, from, filter)? {
            return Ok(None);
        }
    }
    if bias != 0 || residual != 0 || spec.relu {
        let sizes = [out_frames, spec.out_channels, out_height * out_width];
        let launch = launch::conv_finish(element, out, bias, residual, sizes, spec.relu)?;
        cuda::run(&x.device, &launch)?;
    }
    Ok(Some((storage, shape.clone())))
}

/// The frames with rows and columns doubled.
fn double(x: &CudaStorage, frames: &Operand, spec: &ConvSpec, height: usize, width: usize) -> Result<Tensor> {
    let planes = frames.count / (height * width).max(1);
    let device = Device::Cuda(x.device.clone());
    let shape = (
        planes / spec.in_channels.max(1),
        spec.in_channels,
        2 * height,
        2 * width,
    );
    let doubled = cuda::empty(shape, frames.dtype, &device)?;
    let to = Operand::of(&doubled, NAME)?;
    let launch = launch::upsample(frames.element(NAME)?, to.at, frames.at, planes, height, width)?;
    cuda::run(&x.device, &launch)?;
    Ok(doubled)
}
