//! cuDNN on candle's stream: attention through its graph interface, convolutions (`kernels::convolution`) through its
//! older one.
//!
//! Plans are made once per shape and kept for the life of the process, with one workspace for all of them: everything
//! runs on one stream, one after the other. A shape that the library has no plan for, or whose plan it fails to run, is
//! remembered, too, and left to our own kernels.
//!
//! The descriptors of attention are finalised in a test wherever libcudnn is, which
//! needs no GPU.

#![allow(unsafe_code)]

mod attention;
mod descriptor;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use candle_core::{
    CudaDevice, Error, Result,
    cuda::{
        DeviceId, WrapErr,
        cudarc::{
            cudnn::{CudnnError, result, sys},
            driver::{CudaSlice, DevicePtr},
        },
    },
};

pub(crate) use attention::{AttentionShape, attention, warm_up};

use super::convolution::plan::{self, ConvolutionShape};

/// The library on one device.
pub(super) struct Library {
    pub(super) handle: sys::cudnnHandle_t,
    device: CudaDevice,
    attention: HashMap<AttentionShape, Option<attention::Plan>>,
    pub(super) convolutions: HashMap<ConvolutionShape, Option<plan::Plan>>,
    workspace: Option<CudaSlice<u8>>,
}

// SAFETY: the library allows a handle and its descriptors to be used by any thread, by one at a time: `with` locks.
unsafe impl Send for Library {}

/// Devices used so far; `None` where the library could not be opened.
static LIBRARIES: Mutex<Vec<(DeviceId, Option<Library>)>> = Mutex::new(Vec::new());

/// Calls `work` with the library on the device; `None` when there is no usable library.
pub(super) fn with<T>(device: &CudaDevice, work: impl FnOnce(&mut Library) -> Result<T>) -> Result<Option<T>> {
    // The library works on the calling thread's device.
    device.cuda_stream().context().bind_to_thread().w()?;
    let mut known = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
    let index = match known.iter().position(|(id, _)| *id == device.id()) {
        Some(index) => index,
        None => {
            let library = Library::open(device)
                .inspect_err(|error| tracing::warn!("cuDNN cannot be used, kernels of this program are: {error}"));
            known.push((device.id(), library.ok()));
            known.len() - 1
        }
    };
    match known.get_mut(index).and_then(|(_, library)| library.as_mut()) {
        Some(library) => work(library).map(Some),
        None => Ok(None),
    }
}

impl Library {
    fn open(device: &CudaDevice) -> Result<Self> {
        let handle = result::create_handle().map_err(failed)?;
        let library = Self {
            handle,
            device: device.clone(),
            attention: HashMap::new(),
            convolutions: HashMap::new(),
            workspace: None,
        };
        // SAFETY: the handle was just made; a stream of the driver is one of the runtime, too.
        unsafe { result::set_stream(handle, device.cuda_stream().cu_stream().cast()) }.map_err(failed)?;
        Ok(library)
    }

    /// Waits for what was asked of the device, so that a plan may be given up. A failure shows at the next call.
    pub(super) fn settle(&self) {
        let _ = self.device.cuda_stream().synchronize();
    }

    /// Address of at least `bytes` bytes, which the next call on the stream may use; 0 for none.
    pub(super) fn workspace(&mut self, bytes: usize) -> Result<u64> {
        if bytes == 0 {
            return Ok(0);
        }
        let stream = self.device.cuda_stream();
        if self.workspace.as_ref().is_none_or(|held| held.len() < bytes) {
            // The old one is given back in the stream's order, after the work that uses it.
            self.workspace = None;
            // SAFETY: plans write their workspace before they read it.
            self.workspace = Some(unsafe { stream.alloc::<u8>(bytes) }.w()?);
        }
        Ok(self.workspace.as_ref().map_or(0, |held| held.device_ptr(&stream).0))
    }
}

/// Whether tensors lie as the library's kernels want them, which read 16 bytes at once.
pub(super) fn aligned<const N: usize>(tensors: [u64; N]) -> bool {
    tensors.iter().all(|at| at.is_multiple_of(16))
}

pub(super) fn failed(error: CudnnError) -> Error {
    Error::msg(format!("cuDNN (version {}): {error:?}", result::get_version()))
}
