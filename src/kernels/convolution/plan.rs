//! cuDNN's plans of convolutions on tensor cores, within frames or over several. Descriptors, algorithm and workspace are found once per
//! shape.

#![allow(unsafe_code)]

use candle_core::{CudaDevice, Error, Result, cuda::cudarc::cudnn::result, cuda::cudarc::cudnn::sys};
use sys::{cudnnDataType_t as Data, cudnnMathType_t as Math};

use crate::kernels::{
    cudnn::{Library, aligned, failed, with},
    launch::Element,
};

/// What a plan is made for: `[batch, in, height, width]` to `[batch, out, out_height, out_width]`, or, with `time`, one
/// stretch of frames with the channels last, `[frames, height, width, in]` to `[out_frames, out_height, out_width, out]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::kernels) struct ConvolutionShape {
    pub element: Element,
    pub batch: usize,
    pub time: Option<Time>,
    pub in_channels: usize,
    pub out_channels: usize,
    pub height: usize,
    pub width: usize,
    pub out_height: usize,
    pub out_width: usize,
    pub kernel: usize,
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
}

/// Frames under the kernel; none are added before or behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::kernels) struct Time {
    pub frames: usize,
    pub out_frames: usize,
    pub kernel: usize,
    pub stride: usize,
}

/// Algorithms that want more workspace are left out.
const LARGEST_WORKSPACE: usize = 1 << 30;
/// Suggestions to ask for.
const CANDIDATES: usize = 8;

pub(in crate::kernels) struct Plan {
    descriptors: Descriptors,
    algorithm: sys::cudnnConvolutionFwdAlgo_t,
    workspace: usize,
}

struct Descriptors {
    x: sys::cudnnTensorDescriptor_t,
    filter: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: each was made once and is destroyed once; null is accepted. Nothing is left to do about failures.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.x);
            let _ = result::destroy_filter_descriptor(self.filter);
            let _ = result::destroy_tensor_descriptor(self.y);
            let _ = result::destroy_convolution_descriptor(self.convolution);
        }
    }
}

/// Convolves `x` with `filter` `[out, in, kernel, kernel]` (over time: `[out, time, kernel, kernel, in]`) into `out`; false
/// when the library has no plan for the shape, or one that fails, or when a tensor is not aligned.
///
/// # Errors
/// When the device cannot be used.
pub(in crate::kernels) fn convolve(
    device: &CudaDevice,
    shape: ConvolutionShape,
    out: u64,
    x: u64,
    filter: u64,
) -> Result<bool> {
    if !aligned([out, x, filter]) {
        return Ok(false);
    }
    let ran = with(device, |library| {
        library.plan_convolution(shape);
        let ran = library.run_convolution(shape, [out, x, filter]);
        ran.or_else(|error| {
            tracing::warn!("cuDNN fails at {shape:?}, a kernel of this program is used from now on: {error}");
            library.settle();
            library.convolutions.insert(shape, None);
            Ok(false)
        })
    })?;
    Ok(ran.unwrap_or(false))
}

impl Library {
    /// False when there is no plan.
    fn run_convolution(&mut self, shape: ConvolutionShape, tensors: [u64; 3]) -> Result<bool> {
        let workspace = match self.convolutions.get(&shape) {
            Some(Some(plan)) => plan.workspace,
            _ => return Ok(false),
        };
        let workspace = self.workspace(workspace)?;
        match self.convolutions.get(&shape) {
            Some(Some(plan)) => plan.run(self.handle, tensors, workspace).map(|()| true),
            _ => Ok(false),
        }
    }

    fn plan_convolution(&mut self, shape: ConvolutionShape) {
        let handle = self.handle;
        self.convolutions.entry(shape).or_insert_with(|| {
            Plan::make(handle, shape)
                .inspect_err(|error| {
                    tracing::warn!("no cuDNN plan for {shape:?}, a kernel of this program is used: {error}");
                })
                .ok()
        });
    }
}

fn int(size: usize) -> Result<i32> {
    i32::try_from(size).map_err(|_| Error::msg(format!("a convolution's size of {size} is more than cuDNN takes")))
}

fn ints<const N: usize>(sizes: [usize; N]) -> Result<[i32; N]> {
    let mut out = [0; N];
    for (out, size) in out.iter_mut().zip(sizes) {
        *out = int(size)?;
    }
    Ok(out)
}

impl Descriptors {
    fn new(shape: ConvolutionShape) -> Result<Self> {
        let made = Self {
            x: result::create_tensor_descriptor().map_err(failed)?,
            filter: result::create_filter_descriptor().map_err(failed)?,
            y: result::create_tensor_descriptor().map_err(failed)?,
            convolution: result::create_convolution_descriptor().map_err(failed)?,
        };
        match shape.time {
            Some(time) => made.describe_frames(shape, time)?,
            None => made.describe_batch(shape)?,
        }
        // Single precision stays what it is: no TF32.
        let math = match shape.element {
            Element::F32 => Math::CUDNN_FMA_MATH,
            Element::Bf16 => Math::CUDNN_TENSOR_OP_MATH,
        };
        // SAFETY: the descriptor was just made.
        unsafe { result::set_convolution_math_type(made.convolution, math) }.map_err(failed)?;
        Ok(made)
    }

    fn describe_batch(&self, shape: ConvolutionShape) -> Result<()> {
        let (data, layout) = (data_type(shape), sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW);
        let x = ints([shape.batch, shape.in_channels, shape.height, shape.width])?;
        let y = ints([shape.batch, shape.out_channels, shape.out_height, shape.out_width])?;
        let filter = ints([shape.out_channels, shape.in_channels, shape.kernel, shape.kernel])?;
        let (padding, stride) = (int(shape.padding)?, int(shape.stride)?);
        // SAFETY: the descriptors were just made.
        unsafe {
            result::set_tensor4d_descriptor(self.x, layout, data, x).map_err(failed)?;
            result::set_tensor4d_descriptor(self.y, layout, data, y).map_err(failed)?;
            result::set_filter4d_descriptor(self.filter, data, layout, filter).map_err(failed)?;
            result::set_convolution2d_descriptor(self.convolution, padding, padding, stride, stride, 1, 1, MODE, SUMS)
                .map_err(failed)
        }
    }

    fn describe_frames(&self, shape: ConvolutionShape, time: Time) -> Result<()> {
        let (data, layout) = (data_type(shape), sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC);
        let x = [time.frames, shape.height, shape.width, shape.in_channels];
        let y = [time.out_frames, shape.out_height, shape.out_width, shape.out_channels];
        let filter = ints([
            shape.out_channels,
            shape.in_channels,
            time.kernel,
            shape.kernel,
            shape.kernel,
        ])?;
        let padding = ints([0, shape.padding, shape.padding])?;
        let strides = ints([time.stride, shape.stride, shape.stride])?;
        for (descriptor, sizes) in [(self.x, x), (self.y, y)] {
            let [frames, height, width, channels] = sizes;
            let dims = ints([1, channels, frames, height, width])?;
            let row = width * channels;
            let steps = ints([frames * height * row, 1, height * row, row, channels])?;
            // SAFETY: a descriptor that was just made; five sizes and steps.
            unsafe { result::set_tensornd_descriptor(descriptor, data, 5, dims.as_ptr(), steps.as_ptr()) }
                .map_err(failed)?;
        }
        // SAFETY: the descriptors were just made; five sizes of the filter, three of each of the others.
        unsafe {
            result::set_filternd_descriptor(self.filter, data, layout, 5, filter.as_ptr()).map_err(failed)?;
            result::set_convolutionnd_descriptor(
                self.convolution,
                3,
                padding.as_ptr(),
                strides.as_ptr(),
                [1; 3].as_ptr(),
                MODE,
                SUMS,
            )
            .map_err(failed)
        }
    }
}

const MODE: sys::cudnnConvolutionMode_t = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
const SUMS: Data = Data::CUDNN_DATA_FLOAT;

fn data_type(shape: ConvolutionShape) -> Data {
    match shape.element {
        Element::F32 => Data::CUDNN_DATA_FLOAT,
        Element::Bf16 => Data::CUDNN_DATA_BFLOAT16,
    }
}

impl Plan {
    fn make(handle: sys::cudnnHandle_t, shape: ConvolutionShape) -> Result<Self> {
        let descriptors = Descriptors::new(shape)?;
        let mut found = 0;
        // SAFETY: plain numbers, for which zeros are a value.
        let mut suggestions: [sys::cudnnConvolutionFwdAlgoPerf_t; CANDIDATES] = unsafe { std::mem::zeroed() };
        // SAFETY: live descriptors; room for as many suggestions as are asked for.
        unsafe {
            result::get_convolution_forward_algorithm(
                handle,
                descriptors.x,
                descriptors.filter,
                descriptors.convolution,
                descriptors.y,
                CANDIDATES as i32,
                &mut found,
                suggestions.as_mut_ptr(),
            )
            .map_err(failed)?;
        }
        let found = usize::try_from(found).unwrap_or(0).min(CANDIDATES);
        for suggestion in &suggestions[..found] {
            if suggestion.status != sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS {
                continue;
            }
            // SAFETY: as above.
            let workspace = unsafe {
                result::get_convolution_forward_workspace_size(
                    handle,
                    descriptors.x,
                    descriptors.filter,
                    descriptors.convolution,
                    descriptors.y,
                    suggestion.algo,
                )
            };
            match workspace {
                Ok(workspace) if workspace <= LARGEST_WORKSPACE => {
                    return Ok(Self {
                        descriptors,
                        algorithm: suggestion.algo,
                        workspace,
                    });
                }
                _ => {}
            }
        }
        Err(Error::msg("none of cuDNN's algorithms fits"))
    }

    fn run(&self, handle: sys::cudnnHandle_t, [out, x, filter]: [u64; 3], workspace: u64) -> Result<()> {
        let (one, zero) = (1f32, 0f32);
        let of = &self.descriptors;
        // SAFETY: addresses are those of tensors of the plan's shapes, the factors live until the call returns.
        unsafe {
            result::convolution_forward(
                handle,
                (&raw const one).cast(),
                of.x,
                x as *const _,
                of.filter,
                filter as *const _,
                of.convolution,
                self.algorithm,
                workspace as *mut _,
                self.workspace,
                (&raw const zero).cast(),
                of.y,
                out as *mut _,
            )
        }
        .map_err(failed)
    }
}
