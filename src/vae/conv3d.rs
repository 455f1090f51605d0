//! Convolutions of the video autoencoders: causal in time with a streaming history, or within frames only.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor, bail};

use super::conv_cpu;
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
    fn history(&self) -> usize {
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
        }
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
mod tests {
    use std::collections::HashMap;

    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;

    /// The definition, one output element after the other, in f64; `x` includes the history.
    fn reference(conv: &CausalConv3d, x: &Tensor, residual: Option<&Tensor>) -> Vec<f64> {
        let spec = &conv.spec;
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (frames, channels, height, width) = x.dims4().unwrap();
        let (x, weight, bias) = (values(x), values(&conv.weight), conv.bias.as_ref().map(values));
        let scale = if spec.upsample { 2 } else { 1 };
        let at = |frame: usize, channel: usize, row: usize, column: usize| {
            let before = spec.padding.before(spec.kernel);
            let (Some(row), Some(column)) = (row.checked_sub(before), column.checked_sub(before)) else {
                return 0.0;
            };
            if row >= height * scale || column >= width * scale {
                return 0.0;
            }
            x[((frame * channels + channel) * height + row / scale) * width + column / scale] as f64
        };
        let (rows, columns) = spec.output_size(height, width);
        let mut out = Vec::new();
        for frame in 0..(frames - spec.time_kernel) / spec.time_stride + 1 {
            for channel in 0..spec.out_channels {
                for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                    let mut sum = bias.as_ref().map_or(0.0, |bias| bias[channel] as f64);
                    for tap in 0..spec.taps() * channels {
                        let (input, tap) = (tap / spec.taps(), tap % spec.taps());
                        let (dt, area) = (tap / (spec.kernel * spec.kernel), tap % (spec.kernel * spec.kernel));
                        let (dy, dx) = (area / spec.kernel, area % spec.kernel);
                        let weight = weight[(channel * channels + input) * spec.taps() + tap] as f64;
                        let (row, column) = (row * spec.stride + dy, column * spec.stride + dx);
                        sum += weight * at(frame * spec.time_stride + dt, input, row, column);
                    }
                    out.push(sum);
                }
            }
        }
        for (out, residual) in out.iter_mut().zip(residual.map(values).unwrap_or_default()) {
            *out += residual as f64;
        }
        out.into_iter()
            .map(|v| if spec.relu { v.max(0.0) } else { v })
            .collect()
    }

    fn check(spec: ConvSpec, frames: usize, (height, width): (usize, usize), with_residual: bool) {
        let random = |shape: &[usize]| Tensor::rand(-1f32, 1f32, shape, &Device::Cpu).unwrap();
        let shape = [
            spec.out_channels,
            spec.in_channels,
            spec.time_kernel,
            spec.kernel,
            spec.kernel,
        ];
        let tensors = HashMap::from([
            ("weight".to_string(), random(&shape)),
            ("bias".to_string(), random(&[spec.out_channels])),
        ]);
        let weights = Weights::from_tensors(tensors, candle_core::DType::F32, &Device::Cpu);
        let conv = CausalConv3d::new(weights, spec.clone()).unwrap();
        let x = random(&[frames, spec.in_channels, height, width]);
        let zeros = Tensor::zeros(
            (spec.history(), spec.in_channels, height, width),
            x.dtype(),
            &Device::Cpu,
        )
        .unwrap();
        let from_zeros = Tensor::cat(&[&zeros, &x], 0).unwrap();
        let (rows, columns) = spec.output_size(height, width);
        let out_frames = (frames + spec.history() - spec.time_kernel) / spec.time_stride + 1;
        let residual = with_residual.then(|| random(&[out_frames, spec.out_channels, rows, columns]));
        let got = conv.stream(&x, &mut History::default(), residual.as_ref()).unwrap();
        assert_eq!(got.dims(), [out_frames, spec.out_channels, rows, columns]);
        let want = reference(&conv, &from_zeros, residual.as_ref());
        let size = (spec.in_channels * spec.taps()) as f64;
        for (got, want) in got
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
            .into_iter()
            .zip(want)
        {
            // Terms are of order 1; their rounding errors add up like a random walk over sums of that size.
            assert!(
                (got as f64 - want).abs() < 1e-6 + 2e-7 * size,
                "{got} instead of {want}: {spec:?}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn agrees_with_the_definition(
            in_channels in 1usize..12, out_channels in 1usize..20, frames in 3usize..6,
            height in 2usize..24, width in 2usize..24, with_residual: bool, relu: bool, kind in 0usize..7,
        ) {
            let of = |time, kernel| ConvSpec { relu, ..ConvSpec::new(in_channels, out_channels, time, kernel) };
            let spec = match kind {
                0 => of(3, 3),
                1 => of(1, 3),
                2 => of(1, 1),
                3 => of(3, 1),
                4 => of(1, 3).upsampled(),
                5 => of(1, 3).downsampled(),
                _ => ConvSpec { time_stride: 2, ..of(3, 1) },
            };
            check(spec, frames, (height, width), with_residual);
        }
    }

    #[test]
    fn agrees_with_the_definition_when_tiled_in_every_direction() {
        check(ConvSpec::new(3, 5, 3, 3), 5, (21, 401), true);
        check(ConvSpec::new(3, 5, 1, 3).upsampled(), 1, (9, 211), false);
        check(ConvSpec::new(3, 5, 1, 3).downsampled(), 1, (18, 662), false);
        // Many input channels, and more sums than one task holds.
        check(ConvSpec::new(300, 9, 3, 3), 3, (9, 30), false);
        check(ConvSpec::new(2, 300, 3, 3), 9, (32, 30), true);
    }

    #[test]
    fn a_short_history_is_completed_with_zeros_and_filled_up() {
        let spec = ConvSpec::new(2, 2, 3, 3);
        let tensors = HashMap::from([
            (
                "weight".to_string(),
                Tensor::rand(-1f32, 1f32, (2, 2, 3, 3, 3), &Device::Cpu).unwrap(),
            ),
            (
                "bias".to_string(),
                Tensor::zeros(2, candle_core::DType::F32, &Device::Cpu).unwrap(),
            ),
        ]);
        let conv = CausalConv3d::new(
            Weights::from_tensors(tensors, candle_core::DType::F32, &Device::Cpu),
            spec,
        )
        .unwrap();
        let x = Tensor::rand(-1f32, 1f32, (6, 2, 4, 5), &Device::Cpu).unwrap();
        let whole = conv.stream(&x, &mut History::default(), None).unwrap();
        let mut history = History::default();
        for (start, count) in [(0, 1), (1, 1), (2, 1), (3, 3)] {
            let part = conv
                .stream(&x.narrow(0, start, count).unwrap(), &mut history, None)
                .unwrap();
            let want = whole.narrow(0, start, count).unwrap();
            let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&part), values(&want));
        }
        assert_eq!(history.0.unwrap().dims(), [2, 2, 4, 5]);
        assert!(
            conv.forward(&Tensor::zeros((1, 3, 4, 5), candle_core::DType::F32, &Device::Cpu).unwrap())
                .is_err()
        );
    }
}
