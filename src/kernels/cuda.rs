//! Carries launches out on candle's CUDA device.
//!
//! The kernels are one PTX module, compiled with the program and loaded once per device. All work goes to the device's
//! one stream (see [`crate::device`]), so that it runs in the order in which it was given out, from whichever thread;
//! addresses may therefore be used without events of their own.
//!
//! Arguments, grids and arithmetic are tested in an emulator (`kernels::emulated`), and on a GPU by `device_tests`.

#![allow(unsafe_code)]

use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Layout, Result, Shape, Tensor,
    backend::BackendStorage,
    bail,
    cuda::{
        CudaStorageSlice, WrapErr,
        cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg, result::memcpy_dtod_async},
    },
};
use half::bf16;

use super::launch::{Arg, ConvShape, Element, Launch};

pub(crate) const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

// SAFETY: plain integers, laid out as `ConvShape` of conv.cu.
unsafe impl DeviceRepr for ConvShape {}

/// Puts a launch onto the device's stream.
pub(crate) fn run(device: &CudaDevice, launch: &Launch) -> Result<()> {
    if launch.is_empty() {
        return Ok(());
    }
    let function = device.get_or_load_custom_func(&launch.kernel, "deepforcing", PTX)?;
    let mut builder = function.builder();
    for arg in &launch.args {
        match arg {
            Arg::Pointer(v) => builder.arg(v),
            Arg::Int(v) => builder.arg(v),
            Arg::Unsigned(v) => builder.arg(v),
            Arg::Long(v) => builder.arg(v),
            Arg::Float(v) => builder.arg(v),
            Arg::Conv(v) => builder.arg(v),
        };
    }
    let [x, y, z] = launch.grid;
    let config = LaunchConfig {
        grid_dim: (x, y, z),
        block_dim: (launch.block, 1, 1),
        shared_mem_bytes: launch.shared,
    };
    // SAFETY: names and argument lists come from `launch`, whose tests check them against the kernels; sizes were
    // checked against the tensors by the operations.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}

/// A contiguous tensor on the device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand {
    /// Address of the first element.
    pub at: u64,
    pub dtype: DType,
    /// Number of elements.
    pub count: usize,
}

impl Operand {
    pub(crate) fn new(storage: &CudaStorage, layout: &Layout, operation: &str) -> Result<Self> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!(
                "{operation} needs contiguous tensors, got strides {:?}",
                layout.stride()
            );
        };
        let stream = storage.device.cuda_stream();
        let base = match &storage.slice {
            CudaStorageSlice::U8(slice) => slice.device_ptr(&stream).0,
            CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
            CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
            CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
            _ => bail!("{operation} does not take {:?}", storage.dtype()),
        };
        let dtype = storage.dtype();
        Ok(Self {
            at: base + (start * dtype.size_in_bytes()) as u64,
            dtype,
            count: end - start,
        })
    }

    /// Of a tensor, which must be on a CUDA device.
    pub(crate) fn of(tensor: &Tensor, operation: &str) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        match &*storage {
            candle_core::Storage::Cuda(storage) => Self::new(storage, layout, operation),
            _ => bail!("{operation}: tensors are on different devices"),
        }
    }

    /// The type of its elements, when it is one of floats.
    pub(crate) fn element(&self, operation: &str) -> Result<Element> {
        Element::of(self.dtype, operation)
    }

    pub(crate) fn require(&self, dtype: DType, operation: &str) -> Result<u64> {
        if self.dtype != dtype {
            bail!("{operation} expected {dtype:?} on the GPU, got {:?}", self.dtype);
        }
        Ok(self.at)
    }
}

/// Operands of one type: their addresses and the type.
pub(crate) fn alike<const N: usize>(
    operation: &str,
    tensors: [(&CudaStorage, &Layout); N],
) -> Result<([u64; N], Element)> {
    let mut at = [0; N];
    let mut element = None;
    for (at, (storage, layout)) in at.iter_mut().zip(tensors) {
        let operand = Operand::new(storage, layout, operation)?;
        let found = operand.element(operation)?;
        if *element.get_or_insert(found) != found {
            bail!("{operation}: tensors of different types");
        }
        *at = operand.at;
    }
    match element {
        Some(element) => Ok((at, element)),
        None => bail!("{operation}: no tensor"),
    }
}

/// New memory for a result; its contents are undefined.
pub(crate) fn allocate(device: &CudaDevice, dtype: DType, shape: &Shape) -> Result<(CudaStorage, u64)> {
    let count = shape.elem_count();
    let stream = device.cuda_stream();
    fn address<T>(slice: &CudaSlice<T>, stream: &candle_core::cuda::cudarc::driver::CudaStream) -> u64 {
        slice.device_ptr(stream).0
    }
    // SAFETY: every kernel writes all of its result before anything reads it.
    let (slice, at) = unsafe {
        match dtype {
            DType::U8 => {
                let slice = device.alloc::<u8>(count)?;
                let at = address(&slice, &stream);
                (CudaStorageSlice::U8(slice), at)
            }
            DType::U32 => {
                let slice = device.alloc::<u32>(count)?;
                let at = address(&slice, &stream);
                (CudaStorageSlice::U32(slice), at)
            }
            DType::BF16 => {
                let slice = device.alloc::<bf16>(count)?;
                let at = address(&slice, &stream);
                (CudaStorageSlice::BF16(slice), at)
            }
            DType::F32 => {
                let slice = device.alloc::<f32>(count)?;
                let at = address(&slice, &stream);
                (CudaStorageSlice::F32(slice), at)
            }
            other => bail!("no kernel gives {other:?}"),
        }
    };
    let storage = CudaStorage {
        slice,
        device: device.clone(),
    };
    Ok((storage, at))
}

/// Copies bytes within the device, on its stream.
pub(crate) fn copy(device: &CudaDevice, from: u64, to: u64, bytes: usize) -> Result<()> {
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    // SAFETY: both ranges are within tensors that live until the stream has done this: memory is given back in the
    // stream's order.
    unsafe { memcpy_dtod_async(to, from, bytes, stream.cu_stream()) }.w()
}

/// A tensor whose contents are undefined until a kernel writes them.
pub(crate) fn empty(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    // SAFETY: every caller hands it to a kernel that writes all of it before anything reads it.
    unsafe { Tensor::empty(shape, dtype, device) }
}

/// Runs `launch`, made for the address of a new result, on the device of `like`.
pub(crate) fn produce(
    like: &CudaStorage,
    dtype: DType,
    shape: impl Into<Shape>,
    launch: impl FnOnce(u64) -> Result<Launch>,
) -> Result<(CudaStorage, Shape)> {
    let shape = shape.into();
    let (storage, out) = allocate(&like.device, dtype, &shape)?;
    run(&like.device, &launch(out)?)?;
    Ok((storage, shape))
}
