//! Page-locked buffers and copies of a CUDA device.
//!
//! **Never run with files of full size so far**; the turns that the buffers take are tested in `staging`.

#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{
    CudaDevice, Result,
    cuda::{
        WrapErr,
        cudarc::driver::{
            CudaContext, CudaEvent, CudaStream, PinnedHostSlice, result::memcpy_htod_async, sys::CUevent_flags,
        },
    },
};
use half::bf16;

use super::{
    staging::{BUFFER, Staged, Staging, pass},
    stored::Bad,
};
use crate::kernels::cuda::{self, Operand};

/// Types of tensors that come this way.
pub(super) trait Element: Copy {
    const DTYPE: candle_core::DType;
}

impl Element for f32 {
    const DTYPE: candle_core::DType = candle_core::DType::F32;
}

impl Element for bf16 {
    const DTYPE: candle_core::DType = candle_core::DType::BF16;
}

/// Two buffers, kept between tensors: making them takes milliseconds.
struct Buffers {
    pinned: [PinnedHostSlice<u8>; 2],
    /// Recorded behind the last copy of each.
    copied: [CudaEvent; 2],
}

static BUFFERS: Mutex<Option<Buffers>> = Mutex::new(None);

impl Buffers {
    fn new(context: &Arc<CudaContext>) -> Result<Self> {
        // Not write-combined: what is converted may be read again.
        // SAFETY: every byte that is copied was written before.
        let pinned = || unsafe { context.alloc_pinned_with_flags(BUFFER, 0) }.w();
        let copied = || context.new_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC)).w();
        Ok(Self {
            pinned: [pinned()?, pinned()?],
            copied: [copied()?, copied()?],
        })
    }
}

impl Drop for Buffers {
    /// Nothing may be copied from memory that is given back. The memory's own events are not recorded by these copies.
    fn drop(&mut self) {
        for copied in &self.copied {
            // A device that fails copies nothing any more.
            let _ = copied.synchronize();
        }
    }
}

/// The buffers on their way to one tensor.
struct Way<'a> {
    buffers: &'a mut Buffers,
    stream: Arc<CudaStream>,
    /// Address of the tensor.
    to: u64,
}

impl<T: Element> Staging<T> for Way<'_> {
    fn len(&self) -> usize {
        BUFFER / size_of::<T>()
    }

    fn free(&mut self, buffer: usize) -> Result<&mut [T]> {
        // An event that was never recorded is done.
        self.buffers.copied[buffer].synchronize().w()?;
        let bytes = self.buffers.pinned[buffer].as_mut_ptr().w()?;
        // SAFETY: page-locked memory begins at a page, and any bytes are numbers; nothing else uses it until it is sent.
        Ok(unsafe { std::slice::from_raw_parts_mut(bytes.cast::<T>(), BUFFER / size_of::<T>()) })
    }

    fn send(&mut self, buffer: usize, count: usize, to: usize) -> Result<()> {
        let bytes = count * size_of::<T>();
        let from = self.buffers.pinned[buffer].as_ptr().w()?;
        let at = self.to + (to * size_of::<T>()) as u64;
        // SAFETY: the first `bytes` bytes of the buffer were filled and stay until `free` has waited for the event; the
        // tensor has room for them.
        unsafe { memcpy_htod_async(at, std::slice::from_raw_parts(from, bytes), self.stream.cu_stream()) }.w()?;
        self.buffers.copied[buffer].record(&self.stream).w()
    }
}

/// As [`super::staging::upload`].
pub(super) fn upload<T: Element>(
    shape: &[usize],
    device: &CudaDevice,
    fill: impl Fn(usize, &mut [T]) -> std::result::Result<(), Bad>,
) -> std::result::Result<Staged, Bad> {
    let mut held = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(buffers) = of_device(&mut held, device) else {
        return Ok(Staged::No);
    };
    let on_device = candle_core::Device::Cuda(device.clone());
    let tensor = cuda::empty(shape, T::DTYPE, &on_device).map_err(Bad::Device)?;
    let to = Operand::of(&tensor, "upload").map_err(Bad::Device)?.at;
    let stream = device.cuda_stream();
    let mut way = Way { buffers, stream, to };
    pass(shape.iter().product(), &mut way, fill)?;
    Ok(Staged::Yes(tensor))
}

/// The buffers of this device; `None` where the system gives no page-locked memory, as in some containers.
fn of_device<'a>(held: &'a mut Option<Buffers>, device: &CudaDevice) -> Option<&'a mut Buffers> {
    let stream = device.cuda_stream();
    let context = stream.context();
    if held
        .as_ref()
        .is_none_or(|held| !Arc::ptr_eq(held.pinned[0].context(), context))
    {
        *held = Buffers::new(context)
            .inspect_err(|error| tracing::debug!("weights are copied from ordinary memory: {error}"))
            .ok();
    }
    held.as_mut()
}
