//! Convolutions of the video autoencoders: causal in time with a streaming history, or within frames only.

#[cfg(any(test, feature = "cuda"))]
mod device;

use std::sync::OnceLock;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor, bail};

use super::conv_cpu;
#[cfg(feature = "cuda")]
use super::cuda::{self, DeviceWeight};
use crate::checkpoint::{CheckpointError, Weights};

/// Zeros around a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// None.
    Valid,
    /// As many on each side as keep the size at stride 1.
    Same,
    /// One row below and one column right.
    BottomRight,
}

impl Padding {
    /// Rows above (columns left).
    pub(super) fn before(self, kernel: usize) -> usize {
        if self == Self::Same { kernel / 2 } else { 0 }
    }

    fn total(self, kernel: usize) -> usize {
        match self {
            Self::Valid => 0,
            Self::Same => kernel / 2 * 2,
            Self::BottomRight => 1,
        }
    }
}

/// Everything about a convolution but its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvSpec {
    pub in_channels: usize,
    pub out_channels: usize,
    /// Kernel size in time; the last tap is the current frame.
    pub time_kernel: usize,
    pub time_stride: usize,
    /// Kernel size in rows and columns.
    pub kernel: usize,
    /// Stride in rows and columns.
    pub stride: usize,
    pub padding: Padding,
    /// Double rows and columns (nearest neighbour) before convolving.
    pub upsample: bool,
    /// `max(0, ·)` at the end, after the residual.
    pub relu: bool,
}

impl ConvSpec {
    /// A `time × kernel × kernel` convolution of stride 1 that keeps rows and columns.
    pub fn new(in_channels: usize, out_channels: usize, time_kernel: usize, kernel: usize) -> Self {
        Self {
            in_channels,
            out_channels,
            time_kernel,
            time_stride: 1,
            kernel,
            stride: 1,
            padding: if kernel == 1 { Padding::Valid } else { Padding::Same },
            upsample: false,
            relu: false,
        }
    }

    /// Nearest-neighbour doubling of rows and columns first.
    pub fn upsampled(self) -> Self {
        Self { upsample: true, ..self }
    }

    /// Halves rows and columns: stride 2, zeros below and right only.
    pub fn downsampled(self) -> Self {
        Self {
            stride: 2,
            padding: Padding::BottomRight,
            ..self
        }
    }

    /// ReLU at the end.
    pub fn with_relu(self) -> Self {
        Self { relu: true, ..self }
    }

    /// Weights per pair of channels.
    pub(super) fn taps(&self) -> usize {
        self.time_kernel * self.kernel * self.kernel
    }

    /// Rows and columns of the output; zero when the input is smaller than the kernel.
    pub(super) fn output_size(&self, height: usize, width: usize) -> (usize, usize) {
        let size = |n: usize| {
            let n = if self.upsample { 2 * n } else { n } + self.padding.total(self.kernel);
            if n < self.kernel {
                0
            } else {
                (n - self.kernel) / self.stride + 1
            }
        };
        (size(height), size(width))
    }

    /// Frames to remember between calls.
    pub(super) fn history(&self) -> usize {
        self.time_kernel.saturating_sub(self.time_stride)
    }
}

/// How a weight of a convolution lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WeightOrder {
    /// `[out, in, time, rows, columns]`, oldest frame first.
    Plain,
    /// `[out, time · in, rows, columns]`, current frame first: a 2-D convolution over concatenated frames.
    NewestFirst,
}

/// The frames that a causal convolution remembers of its input stream: `[frames, channels, height, width]`.
///
/// Kept apart from the weights, so that several streams share one model. A missing frame is zeros.
#[derive(Debug, Clone, Default)]
pub struct History(Option<Tensor>);

/// A convolution with its weights, over `[frames, channels, height, width]`.
#[derive(Debug)]
pub struct CausalConv3d {
    spec: ConvSpec,
    weight: Tensor,
    bias: Option<Tensor>,
    order: WeightOrder,
    /// Made at the first call on the CPU: constructors must not touch weights.
    packed: OnceLock<Packed>,
    /// The same on a GPU.
    #[cfg(feature = "cuda")]
    on_device: OnceLock<DeviceWeight>,
}

#[derive(Debug)]
struct Packed {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl CausalConv3d {
    /// `weight` `[out, in, time, rows, columns]` and `bias` `[out]`, as Wan's three-dimensional convolutions.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(weights: Weights, spec: ConvSpec) -> Result<Self, CheckpointError> {
        let shape = [
            spec.out_channels,
            spec.in_channels,
            spec.time_kernel,
            spec.kernel,
            spec.kernel,
        ];
        let weight = weights.get(shape, "weight")?;
        let bias = Some(weights.get([spec.out_channels], "bias")?);
        Ok(Self::from_tensors(spec, weight, bias, WeightOrder::Plain))
    }

    /// `weight` `[out, time · in, rows, columns]` of a two-dimensional convolution (over the current and, if
    /// `spec.time_kernel` > 1, previous frames concatenated along the channels) and, if `bias`, `bias` `[out]`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new_2d(weights: Weights, spec: ConvSpec, bias: bool) -> Result<Self, CheckpointError> {
        let shape = [
            spec.out_channels,
            spec.time_kernel * spec.in_channels,
            spec.kernel,
            spec.kernel,
        ];
        let weight = weights.get(shape, "weight")?;
        let bias = if bias {
            Some(weights.get([spec.out_channels], "bias")?)
        } else {
            None
        };
        Ok(Self::from_tensors(spec, weight, bias, WeightOrder::NewestFirst))
    }

    /// A 1×1 convolution without bias from its weight `[out, in, 1, 1]`.
    pub(super) fn pointwise(weight: Tensor, in_channels: usize, out_channels: usize) -> Self {
        Self::from_tensors(
            ConvSpec::new(in_channels, out_channels, 1, 1),
            weight,
            None,
            WeightOrder::NewestFirst,
        )
    }

    fn from_tensors(spec: ConvSpec, weight: Tensor, bias: Option<Tensor>, order: WeightOrder) -> Self {
        Self {
            spec,
            weight,
            bias,
            order,
            packed: OnceLock::new(),
            #[cfg(feature = "cuda")]
            on_device: OnceLock::new(),
        }
    }

    /// Type of the weights, which inputs must have, too.
    pub fn dtype(&self) -> DType {
        self.weight.dtype()
    }

    /// Channels, kernel, strides.
    pub fn spec(&self) -> &ConvSpec {
        &self.spec
    }

    /// Frame by frame; only for a kernel of one frame.
    ///
    /// # Errors
    /// When shapes or device do not fit.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.run(x, None, None)
    }

    /// As [`Self::forward`], plus `residual` of the output's shape (before the ReLU, if any).
    ///
    /// # Errors
    /// When shapes or device do not fit.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> candle_core::Result<Tensor> {
        self.run(x, None, Some(residual))
    }

    /// The next frames of a stream: `[frames, in, h, w]` to `[frames / time stride, out, h', w']`.
    ///
    /// # Errors
    /// When shapes or device do not fit; the history is then unchanged.
    pub fn stream(&self, x: &Tensor, history: &mut History, residual: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let out = self.run(x, history.0.as_ref(), residual)?;
        self.remember(x, history)?;
        Ok(out)
    }

    /// Puts frames into the history without computing anything.
    ///
    /// # Errors
    /// When the copy fails.
    pub fn remember(&self, x: &Tensor, history: &mut History) -> candle_core::Result<()> {
        let (new, keep) = (x.dim(0)?, self.spec.history());
        if keep == 0 {
            return Ok(());
        }
        history.0 = Some(match &history.0 {
            // A copy, so that the history does not keep the other frames alive.
            _ if new > keep => x.narrow(0, new - keep, keep)?.force_contiguous()?,
            Some(old) if new < keep => {
                let kept = old.dim(0)?.min(keep - new);
                Tensor::cat(&[&old.narrow(0, old.dim(0)? - kept, kept)?, x], 0)?
            }
            _ => x.clone(),
        });
        Ok(())
    }

    fn run(&self, x: &Tensor, history: Option<&Tensor>, residual: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let contiguous = |t: Option<&Tensor>| t.map(Tensor::contiguous).transpose();
        let op = ConvOp {
            conv: self,
            history: contiguous(history)?,
            residual: contiguous(residual)?,
        };
        x.contiguous()?.apply_op1_no_bwd(&op)
    }

    fn packed(&self) -> candle_core::Result<&Packed> {
        if let Some(packed) = self.packed.get() {
            return Ok(packed);
        }
        let spec = &self.spec;
        let (area, taps) = (spec.kernel * spec.kernel, spec.taps());
        let weight = self.weight.flatten_all()?.to_vec1::<f32>()?;
        let weight = match self.order {
            WeightOrder::Plain => conv_cpu::pack_weight(spec, &weight, |out, input, tap| {
                (out * spec.in_channels + input) * taps + tap
            }),
            WeightOrder::NewestFirst => conv_cpu::pack_weight(spec, &weight, |out, input, tap| {
                let age = spec.time_kernel - 1 - tap / area;
                ((out * spec.time_kernel + age) * spec.in_channels + input) * area + tap % area
            }),
        };
        let bias = self.bias.as_ref().map(Tensor::to_vec1::<f32>).transpose()?;
        Ok(self.packed.get_or_init(|| Packed { weight, bias }))
    }
}

/// One call of a [`CausalConv3d`].
pub(super) struct ConvOp<'a> {
    pub(super) conv: &'a CausalConv3d,
    pub(super) history: Option<Tensor>,
    pub(super) residual: Option<Tensor>,
}

impl ConvOp<'_> {
    /// Shape of the output, after checking the inputs.
    pub(super) fn output_shape(&self, x: &Layout) -> candle_core::Result<Shape> {
        let spec = &self.conv.spec;
        let (frames, channels, height, width) = x.shape().dims4()?;
        if channels != spec.in_channels {
            bail!("convolution of {} channels was given {channels}", spec.in_channels);
        }
        if let Some(history) = &self.history
            && history.dims()[1..] != x.dims()[1..]
        {
            bail!(
                "the stream's frames are {:?}, now {:?}: start a new stream",
                &history.dims()[1..],
                &x.dims()[1..]
            );
        }
        // The history is complete or, at the start of a stream, completed with zeros.
        let frames = frames + spec.history();
        if frames < spec.time_kernel {
            bail!("convolution over {} frames was given {frames}", spec.time_kernel);
        }
        let (height, width) = spec.output_size(height, width);
        let shape = Shape::from((
            (frames - spec.time_kernel) / spec.time_stride + 1,
            spec.out_channels,
            height,
            width,
        ));
        if let Some(residual) = &self.residual
            && residual.shape() != &shape
        {
            bail!("residual of shape {:?}, expected {shape:?}", residual.shape());
        }
        Ok(shape)
    }
}

impl CustomOp1 for ConvOp<'_> {
    fn name(&self) -> &'static str {
        "causal-conv3d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let spec = &self.conv.spec;
        let shape = self.output_shape(layout)?;
        let (_, _, height, width) = layout.shape().dims4()?;
        let packed = self.conv.packed()?;
        let history = self.history.as_ref().map(|t| t.storage_and_layout());
        let residual = self.residual.as_ref().map(|t| t.storage_and_layout());
        let x = cpu_slice(storage, layout)?;
        let history = match &history {
            Some((storage, layout)) => cpu_tensor_slice(storage, layout)?,
            None => &[],
        };
        let residual = residual
            .as_ref()
            .map(|(storage, layout)| cpu_tensor_slice(storage, layout))
            .transpose()?;
        let frame = (spec.in_channels * height * width).max(1);
        let known = history.len() / frame;
        let frames: Vec<Option<&[f32]>> = std::iter::repeat_n(None, spec.history() - known.min(spec.history()))
            .chain(history.chunks(frame).map(Some))
            .chain(x.chunks(frame).map(Some))
            .collect();
        let mut out = vec![0f32; shape.elem_count()];
        let call = conv_cpu::Call {
            spec,
            weight: &packed.weight,
            bias: packed.bias.as_deref(),
            frames: &frames,
            height,
            width,
            residual,
        };
        conv_cpu::convolve(&call, &mut out);
        Ok((CpuStorage::F32(out), shape))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        cuda::convolve(self, storage, layout)
    }
}

/// The values of a contiguous f32 tensor on the CPU.
pub(super) fn cpu_slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else {
        bail!("the video autoencoder computes in f32 on the CPU, was given another type");
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("expected a contiguous tensor, got strides {:?}", layout.stride()),
    }
}

/// As [`cpu_slice`], for a tensor's storage of any device.
pub(super) fn cpu_tensor_slice<'a>(
    storage: &'a candle_core::Storage,
    layout: &Layout,
) -> candle_core::Result<&'a [f32]> {
    match storage {
        candle_core::Storage::Cpu(storage) => cpu_slice(storage, layout),
        _ => bail!("expected a tensor on the CPU"),
    }
}

#[cfg(test)]
mod tests;
