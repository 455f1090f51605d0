//! Convolutions on a GPU. The history comes in front of the new frames; then cuDNN (feature `cudnn`) convolves and one
//! more pass adds bias and residual, or, without it, one kernel of our own does all of it.

#[cfg(feature = "cudnn")]
use candle_core::DType;
use candle_core::{CudaStorage, Device, Layout, Result, Shape, Tensor, backend::BackendStorage};

#[cfg(feature = "cudnn")]
use super::cudnn;
use super::{CausalConv3d, ConvOp, NAME};
use crate::kernels::{
    cuda::{self, Operand},
    launch::{self, ConvPointers},
};

/// A convolution's weight as the kernels take it.
#[derive(Debug)]
pub(super) struct DeviceWeight {
    /// `[out, tap, padded in]`.
    pub packed: Tensor,
    #[cfg(feature = "cudnn")]
    pub by_library: Option<cudnn::Filter>,
}

impl DeviceWeight {
    pub(super) fn new(conv: &CausalConv3d) -> Result<Self> {
        Ok(Self {
            packed: conv.tap_major_weight(launch::CONV_DEPTH)?,
            #[cfg(feature = "cudnn")]
            by_library: cudnn::Filter::new(conv)?,
        })
    }
}

/// Runs `op` over `x`.
pub(super) fn convolve(op: &ConvOp<'_>, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
    let conv = op.conv;
    let shape = op.output_shape(layout)?;
    let weight = conv.on_device(|| DeviceWeight::new(conv))?;
    let expect = |tensor: Option<&Tensor>| match tensor {
        Some(tensor) => Operand::of(tensor, NAME)?.require(x.dtype(), NAME),
        None => Ok(0),
    };
    let (bias, residual) = (expect(conv.bias())?, expect(op.residual.as_ref())?);
    #[cfg(feature = "cudnn")]
    if x.dtype() == DType::BF16
        && let Some(filter) = &weight.by_library
        && let Some(done) = cudnn::convolve_channels_last(op, filter, x, layout, &shape, [bias, residual])?
    {
        return Ok(done);
    }
    let frames = frames_with_history(op, x, layout)?;
    let element = frames.operand.element(NAME)?;
    #[cfg(feature = "cudnn")]
    if let Some(filter) = &weight.by_library
        && let Some(done) = cudnn::convolve(conv, filter, x, &frames.operand, layout, &shape, [bias, residual])?
    {
        return Ok(done);
    }
    let packed = Operand::of(&weight.packed, NAME)?.require(frames.operand.dtype, NAME)?;
    let out_frames = shape.dims()[0];
    cuda::produce(x, x.dtype(), shape.clone(), |out| {
        let at = ConvPointers {
            out,
            x: frames.operand.at,
            weight: packed,
            bias,
            residual,
        };
        launch::conv(element, at, out_frames, conv.shape_of(layout, &shape)?)
    })
}

/// The frames to convolve, history first.
struct Frames {
    operand: Operand,
    /// Memory of the joined frames, when they had to be joined.
    _joined: Option<Tensor>,
}

fn frames_with_history(op: &ConvOp<'_>, x: &CudaStorage, layout: &Layout) -> Result<Frames> {
    let operand = Operand::new(x, layout, NAME)?;
    let wanted = op.conv.spec().history();
    if wanted == 0 {
        return Ok(Frames { operand, _joined: None });
    }
    let (frames, channels, height, width) = layout.shape().dims4()?;
    let device = Device::Cuda(x.device.clone());
    let shape = (wanted + frames, channels, height, width);
    let used = match &op.history {
        Some(history) => history.dim(0)?.min(wanted),
        None => 0,
    };
    // Zeros stand for frames before the start of the stream.
    let joined = match used == wanted {
        true => cuda::empty(shape, x.dtype(), &device)?,
        false => Tensor::zeros(shape, x.dtype(), &device)?,
    };
    if let Some(history) = &op.history {
        let last = history.narrow(0, history.dim(0)? - used, used)?;
        joined.slice_set(&last.contiguous()?, 0, wanted - used)?;
    }
    let to = Operand::of(&joined, NAME)?;
    let frame = channels * height * width;
    let bytes = operand.count * operand.dtype.size_in_bytes();
    cuda::copy(
        &x.device,
        operand.at,
        to.at + (wanted * frame * operand.dtype.size_in_bytes()) as u64,
        bytes,
    )?;
    Ok(Frames {
        operand: to,
        _joined: Some(joined),
    })
}
