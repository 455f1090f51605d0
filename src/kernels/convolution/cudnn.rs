//! Convolutions by cuDNN.
//!
//! In bf16 the frames are first written with the channels of a position side by side, as tensor cores want them, history
//! in front and rows and columns doubled on the way; the way back adds bias and residual. Left to itself the library
//! goes there and back, too, and with every frame as often as the kernel has frames.
//!
//! Else, or where it has no plan for that: frames lie one after the other with their channels, so that the frames under a
//! kernel of several frames are one frame with more channels: a convolution in time and space is a plain one per result
//! frame. Doubled rows and columns are written out first.

use candle_core::{CudaStorage, DType, Device, Layout, Result, Shape, Tensor};

use super::{
    CausalConv3d, ConvOp, ConvSpec, NAME, Padding,
    plan::{self, ConvolutionShape, Time},
};
use crate::kernels::{
    cuda::{self, Operand},
    launch::{self, Element, Frames},
};

/// A weight for the library.
#[derive(Debug)]
pub(super) struct Filter {
    /// `[out, time · in, rows, columns]`, oldest frame first.
    planes: Tensor,
    /// `[out, time, rows, columns, in]`, where the channels are such that it is of use.
    channels_last: Option<Tensor>,
}

impl Filter {
    /// `None` for convolutions that the library does not know: those padded on one side.
    pub(super) fn new(conv: &CausalConv3d) -> Result<Option<Self>> {
        let spec = conv.spec();
        if spec.padding == Padding::BottomRight {
            return Ok(None);
        }
        let fits = [spec.in_channels, spec.out_channels]
            .iter()
            .all(|n| Frames::fits(*n, 2));
        let channels_last = match fits && conv.dtype() == DType::BF16 {
            true => Some(conv.tap_major_weight(1)?),
            false => None,
        };
        Ok(Some(Self {
            planes: conv.frame_major_weight()?,
            channels_last,
        }))
    }
}

/// Convolves with the channels last. `None` where sizes or type do not allow it, or when the library has no plan.
pub(super) fn convolve_channels_last(
    op: &ConvOp<'_>,
    filter: &Filter,
    x: &CudaStorage,
    layout: &Layout,
    shape: &Shape,
    added: [u64; 2],
) -> Result<Option<(CudaStorage, Shape)>> {
    let Some(weight) = &filter.channels_last else {
        return Ok(None);
    };
    let spec = op.conv.spec();
    let (frames, channels, height, width) = layout.shape().dims4()?;
    let (out_frames, out_channels, out_height, out_width) = shape.dims4()?;
    let scale = if spec.upsample { 2 } else { 1 };
    let (height, width) = (scale * height, scale * width);
    let positions = out_height * out_width;
    if !Frames::fits(channels, height * width) || !Frames::fits(out_channels, positions) {
        return Ok(None);
    }
    let device = Device::Cuda(x.device.clone());
    let history = spec.history();
    let known = op
        .history
        .as_ref()
        .map(|history| history.dim(0))
        .transpose()?
        .unwrap_or(0);
    let used = known.min(history);
    let remembered = match &op.history {
        Some(all) => Operand::of(&all.narrow(0, known - used, used)?, NAME)?.require(DType::BF16, NAME)?,
        None => 0,
    };
    let fresh = Operand::new(x, layout, NAME)?.require(DType::BF16, NAME)?;
    let of = Frames {
        fresh: frames,
        history,
        missing: history - used,
        channels,
        height,
        width,
        doubled: spec.upsample,
    };
    let together = cuda::empty((history + frames, height * width, channels), DType::BF16, &device)?;
    let together_at = Operand::of(&together, NAME)?.at;
    cuda::run(&x.device, &launch::channels_last(together_at, [remembered, fresh], of)?)?;

    let of = ConvolutionShape {
        element: Element::Bf16,
        batch: 1,
        time: Some(Time {
            frames: history + frames,
            out_frames,
            kernel: spec.time_kernel,
            stride: spec.time_stride,
        }),
        in_channels: channels,
        out_channels,
        height,
        width,
        out_height,
        out_width,
        kernel: spec.kernel,
        stride: spec.stride,
        padding: spec.padding.before(spec.kernel),
    };
    let result = cuda::empty((out_frames, positions, out_channels), DType::BF16, &device)?;
    let result_at = Operand::of(&result, NAME)?.at;
    let weight = Operand::of(weight, NAME)?.require(DType::BF16, NAME)?;
    if !plan::convolve(&x.device, of, result_at, together_at, weight)? {
        return Ok(None);
    }
    drop(together);
    let sizes = [out_frames, out_channels, positions];
    let done = cuda::produce(x, DType::BF16, shape.clone(), |out| {
        launch::channels_first(out, result_at, added, sizes, spec.relu)
    })?;
    Ok(Some(done))
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
    let filter = Operand::of(&filter.planes, NAME)?.require(frames.dtype, NAME)?;
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
        time: None,
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
        if !plan::convolve(&x.device, of, to, from, filter)? {
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
