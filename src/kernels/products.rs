//! Products with bias and GELU in the same kernel, by cuBLASLt; bf16 alone.
//!
//! What the library refuses is computed by cuBLAS and a pass of our own.

#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Error, Result, Storage, Tensor, bail,
    cuda::{
        DeviceId,
        cudarc::{
            cublaslt::{Activation, CudaBlasLT, Matmul, MatmulConfig},
            driver::CudaView,
        },
    },
    op::BackpropOp,
};
use half::bf16;

use super::cuda::Operand;

/// The library by device; `None` where it could not be opened or has refused a product.
static LIBRARIES: Mutex<Vec<(DeviceId, Option<Arc<CudaBlasLT>>)>> = Mutex::new(Vec::new());

fn library(device: &CudaDevice) -> Option<Arc<CudaBlasLT>> {
    let mut known = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, library)) = known.iter().find(|(id, _)| *id == device.id()) {
        return library.clone();
    }
    let library = open(device)
        .inspect_err(|error| tracing::warn!("cuBLASLt cannot be used: {error}"))
        .ok()
        .map(Arc::new);
    known.push((device.id(), library.clone()));
    library
}

/// Of tensors, as the library expects it unless it is told otherwise.
const ALIGNMENT: u64 = 256;

/// What cudarc takes as the library's workspace at most.
const WORKSPACE: usize = 32 << 20;

fn open(device: &CudaDevice) -> Result<CudaBlasLT> {
    // Shows that there is room for the workspace, for want of which cudarc panics, and makes the device that of this
    // thread, for which the library is opened.
    // SAFETY: nothing reads it.
    drop(unsafe { device.alloc::<u8>(WORKSPACE)? });
    CudaBlasLT::new(device.cuda_stream()).map_err(|error| Error::msg(format!("{error:?}")))
}

fn forget(device: &CudaDevice) {
    let mut known = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
    known
        .iter_mut()
        .filter(|(id, _)| *id == device.id())
        .for_each(|(_, library)| *library = None);
}

/// `x·weightᵀ + bias`, then GELU in its tanh form if asked for: `x` `[rows, in]`, `weight` `[out, in]`, `bias` `[out]`, all
/// contiguous. `None` where the library cannot do it.
///
/// # Errors
/// When shapes disagree, or without memory.
pub(super) fn product(x: &Tensor, weight: &Tensor, bias: &Tensor, gelu: bool) -> Result<Option<Tensor>> {
    let Device::Cuda(device) = x.device() else {
        return Ok(None);
    };
    if x.dtype() != DType::BF16 {
        return Ok(None);
    }
    let Some(library) = library(device) else {
        return Ok(None);
    };
    for tensor in [x, weight, bias] {
        if !Operand::of(tensor, "linear")?.at.is_multiple_of(ALIGNMENT) {
            return Ok(None);
        }
    }
    let ((rows, inputs), (outputs, weight_inputs)) = (x.dims2()?, weight.dims2()?);
    if weight_inputs != inputs || bias.dims() != [outputs] {
        bail!(
            "linear: x {:?}, weight {:?}, bias {:?} do not go together",
            x.dims(),
            weight.dims(),
            bias.dims()
        );
    }
    let (x_held, weight_held, bias_held) = (
        x.storage_and_layout(),
        weight.storage_and_layout(),
        bias.storage_and_layout(),
    );
    let (x, weight, bias) = (
        view(&x_held.0, x_held.1)?,
        view(&weight_held.0, weight_held.1)?,
        view(&bias_held.0, bias_held.1)?,
    );
    // The library counts by columns: the result is `[out, rows]` to it, weightᵀ (stored `[in, out]`) times `[in, rows]`.
    let config = MatmulConfig {
        transa: true,
        transb: false,
        transc: false,
        m: outputs as u64,
        n: rows as u64,
        k: inputs as u64,
        alpha: 1.0,
        beta: 0.0,
        lda: inputs as i64,
        ldb: inputs as i64,
        ldc: outputs as i64,
        stride_a: None,
        stride_b: None,
        stride_c: None,
        stride_bias: None,
        batch_size: None,
    };
    let activation = gelu.then_some(Activation::Gelu);
    // SAFETY: the product writes all of it.
    let mut out = unsafe { device.alloc::<bf16>(rows * outputs)? };
    // SAFETY: sizes and strides are those of the views, checked above.
    let done = unsafe { library.matmul(config, &weight, &x, &mut out, Some(&bias), activation.as_ref()) };
    if let Err(error) = done {
        tracing::warn!("cuBLASLt refuses a product of {rows}×{inputs} and {inputs}×{outputs}: {error:?}");
        forget(device);
        return Ok(None);
    }
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(out, device.clone()));
    let shape = (rows, outputs);
    Ok(Some(Tensor::from_storage(storage, shape, BackpropOp::none(), false)))
}

fn view<'a>(storage: &'a Storage, layout: &candle_core::Layout) -> Result<CudaView<'a, bf16>> {
    match (storage, layout.contiguous_offsets()) {
        (Storage::Cuda(storage), Some((start, end))) => Ok(storage.as_cuda_slice::<bf16>()?.slice(start..end)),
        _ => bail!("linear needs contiguous tensors on one device"),
    }
}
