//! Convolutions of video: causal in time with a streaming history, or within frames only.
//!
//! | file | what it holds |
//! |---|---|
//! | `spec` | sizes, strides, padding |
//! | `cpu`, `inner_loop` | on the CPU: packed tiles, and the loop over them in registers |
//! | `device` | weights and sizes as a GPU takes them |
//! | `cuda` | on a GPU: history in front of the frames, then cuDNN or the kernel of `cuda/conv.cu` |
//! | `cudnn`, `plan` | the layouts that cuDNN is given, and its plans for them |
//!
//! Launches of the kernels are in `launch::convolution`. Weights come as tensors: how they are named in a file is known
//! to `crate::vae`.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cudnn")]
mod cudnn;
#[cfg(any(test, feature = "cuda"))]
mod device;
#[cfg(all(test, feature = "cuda"))]
mod device_tests;
mod inner_loop;
#[cfg(feature = "cudnn")]
pub(in crate::kernels) mod plan;
mod spec;

use std::sync::OnceLock;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor, bail};

pub use spec::{ConvSpec, Padding};

#[cfg(feature = "cuda")]
use cuda::DeviceWeight;

use super::{f32_slice, f32_tensor_slice};

/// As errors call the operation.
const NAME: &str = "causal-conv3d";

/// How a weight lies in its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeightOrder {
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
    /// `weight` as `order` says, and `bias` `[out]`, both of the sizes of `spec`.
    pub(crate) fn from_tensors(spec: ConvSpec, weight: Tensor, bias: Option<Tensor>, order: WeightOrder) -> Self {
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
            WeightOrder::Plain => cpu::pack_weight(spec, &weight, |out, input, tap| {
                (out * spec.in_channels + input) * taps + tap
            }),
            WeightOrder::NewestFirst => cpu::pack_weight(spec, &weight, |out, input, tap| {
                let age = spec.time_kernel - 1 - tap / area;
                ((out * spec.time_kernel + age) * spec.in_channels + input) * area + tap % area
            }),
        };
        let bias = self.bias.as_ref().map(Tensor::to_vec1::<f32>).transpose()?;
        Ok(self.packed.get_or_init(|| Packed { weight, bias }))
    }
}

/// One call of a [`CausalConv3d`].
struct ConvOp<'a> {
    conv: &'a CausalConv3d,
    history: Option<Tensor>,
    residual: Option<Tensor>,
}

impl ConvOp<'_> {
    /// Shape of the output, after checking the inputs.
    fn output_shape(&self, x: &Layout) -> candle_core::Result<Shape> {
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
        NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let spec = &self.conv.spec;
        let shape = self.output_shape(layout)?;
        let (_, _, height, width) = layout.shape().dims4()?;
        let packed = self.conv.packed()?;
        let history = self.history.as_ref().map(|t| t.storage_and_layout());
        let residual = self.residual.as_ref().map(|t| t.storage_and_layout());
        let x = f32_slice(storage, layout, NAME)?;
        let history = match &history {
            Some((storage, layout)) => f32_tensor_slice(storage, layout, NAME)?,
            None => &[],
        };
        let residual = residual
            .as_ref()
            .map(|(storage, layout)| f32_tensor_slice(storage, layout, NAME))
            .transpose()?;
        let frame = (spec.in_channels * height * width).max(1);
        let known = history.len() / frame;
        let frames: Vec<Option<&[f32]>> = std::iter::repeat_n(None, spec.history() - known.min(spec.history()))
            .chain(history.chunks(frame).map(Some))
            .chain(x.chunks(frame).map(Some))
            .collect();
        let mut out = vec![0f32; shape.elem_count()];
        let call = cpu::Call {
            spec,
            weight: &packed.weight,
            bias: packed.bias.as_deref(),
            frames: &frames,
            height,
            width,
            residual,
        };
        cpu::convolve(&call, &mut out);
        Ok((CpuStorage::F32(out), shape))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        cuda::convolve(self, storage, layout)
    }
}

#[cfg(test)]
mod tests;
