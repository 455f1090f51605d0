//! The video autoencoders on a GPU, but for their convolutions: norm, attention, pictures as bytes. The kernels are
//! tested in the emulator (`vae::emulated_tests`).

#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{
    CudaStorage, DType, Device, Layout, Result, Shape, Storage, Tensor,
    backend::BackendStorage,
    bail,
    cuda::{
        WrapErr,
        cudarc::driver::{CudaContext, PinnedHostSlice, sys::CUevent_flags},
    },
};

use crate::kernels::{
    cuda::{self, Operand},
    launch,
};

/// `x / max(‖x‖₂, 1e-12) · √C · gamma` over the channels, then SiLU if asked for.
pub(super) fn channel_norm(
    x: &CudaStorage,
    layout: &Layout,
    gamma: &Tensor,
    silu: bool,
) -> Result<(CudaStorage, Shape)> {
    let (frames, channels, height, width) = layout.shape().dims4()?;
    let operand = Operand::new(x, layout, "channel-norm")?;
    let gamma = Operand::of(gamma, "channel-norm")?.require(operand.dtype, "channel-norm")?;
    cuda::produce(x, x.dtype(), layout.shape(), |out| {
        let element = operand.element("channel-norm")?;
        launch::channel_norm(
            element,
            out,
            operand.at,
            gamma,
            [frames, channels, height * width],
            silu,
        )
    })
}

/// Attention within each frame: `[frames, 3·C, height, width]` to `[frames, C, height, width]`. The scores of one frame
/// exist at a time (78 MB in bf16 for 60×104 positions); products are cuBLAS's, which beats tiles of 384 channels.
pub(super) fn frame_attention(qkv: &Tensor) -> Result<Tensor> {
    let (frames, channels, height, width) = qkv.dims4()?;
    if channels % 3 != 0 {
        bail!("attention needs queries, keys and values, got {channels} channels");
    }
    let (channels, positions) = (channels / 3, height * width);
    let qkv = qkv.reshape((frames, 3, channels, positions))?;
    let frame = |index: usize| -> Result<Tensor> {
        let of_frame = qkv.get(index)?;
        let (q, k, v) = (of_frame.get(0)?, of_frame.get(1)?, of_frame.get(2)?);
        let scores = q.t()?.matmul(&k)?;
        softmax_in_place(&scores, 1.0 / (channels as f32).sqrt())?;
        v.matmul(&scores.t()?)
    };
    let out = (0..frames).map(frame).collect::<Result<Vec<_>>>()?;
    Tensor::stack(&out, 0)?.reshape((frames, channels, height, width))
}

fn softmax_in_place(scores: &Tensor, scale: f32) -> Result<()> {
    let (rows, width) = scores.dims2()?;
    let operand = Operand::of(scores, "softmax")?;
    let launch = launch::softmax_rows(operand.element("softmax")?, operand.at, rows, width, scale)?;
    match scores.device() {
        Device::Cuda(device) => cuda::run(device, &launch),
        _ => bail!("softmax: the scores are not on a GPU"),
    }
}

/// Pictures `[T, 3, H, W]` in −1…1 as bytes `[T, H, W, 3]`, still on the device.
pub(super) fn pictures_to_bytes(pictures: &Tensor) -> Result<Tensor> {
    let (frames, _, height, width) = pictures.dims4()?;
    let pictures = pictures.contiguous()?;
    let bytes = cuda::empty((frames, height, width, 3), DType::U8, pictures.device())?;
    let from = Operand::of(&pictures, "pictures_to_bytes")?;
    let to = Operand::of(&bytes, "pictures_to_bytes")?;
    let launch = launch::pictures_to_bytes(
        from.element("pictures_to_bytes")?,
        to.at,
        from.at,
        frames,
        height * width,
    )?;
    match pictures.device() {
        Device::Cuda(device) => cuda::run(device, &launch)?,
        _ => bail!("pictures_to_bytes: the pictures are not on a GPU"),
    }
    Ok(bytes)
}

/// Page-locked memory that pictures are copied to, kept between calls: making it takes milliseconds.
static PINNED: Mutex<Option<PinnedHostSlice<u8>>> = Mutex::new(None);

/// Bytes of a u8 tensor `[frames, …]`, by frame, copied through page-locked memory, which the copy engine reaches
/// without a detour, or plainly where the system gives none, as in some containers. Waits for the device.
pub(super) fn download(bytes: &Tensor) -> Result<Vec<Vec<u8>>> {
    let frame = bytes.elem_count() / bytes.dim(0)?.max(1);
    let (storage, layout) = bytes.storage_and_layout();
    let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        bail!("download: expected a contiguous tensor on a GPU");
    };
    let slice = storage.as_cuda_slice::<u8>()?.slice(start..end);
    let by_frame = |bytes: &[u8]| bytes.chunks(frame.max(1)).map(<[u8]>::to_vec).collect();
    let stream = storage.device.cuda_stream();
    let mut kept = PINNED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(pinned) = page_locked(&mut kept, slice.len(), stream.context()) else {
        return Ok(by_frame(&stream.clone_dtoh(&slice).w()?));
    };
    stream.memcpy_dtoh(&slice, pinned).w()?;
    // Waits for the copy alone, not for what other threads have queued behind it. The memory's own event would not do:
    // it is not recorded on a device without event tracking (see `crate::device`).
    let copied = stream.record_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC)).w()?;
    copied.synchronize().w()?;
    Ok(by_frame(pinned.as_slice().w()?))
}

/// `bytes` bytes of page-locked memory; `None` where there are none to be had.
fn page_locked<'a>(
    kept: &'a mut Option<PinnedHostSlice<u8>>,
    bytes: usize,
    context: &Arc<CudaContext>,
) -> Option<&'a mut PinnedHostSlice<u8>> {
    let fits = |pinned: &PinnedHostSlice<u8>| pinned.len() == bytes && Arc::ptr_eq(pinned.context(), context);
    if !kept.as_ref().is_some_and(fits) {
        // Not write-combined, which cudarc's plain `alloc_pinned` takes: the host reads this memory.
        // SAFETY: it is written by a copy before it is read.
        *kept = unsafe { context.alloc_pinned_with_flags(bytes, 0) }
            .inspect_err(|error| tracing::debug!("pictures are copied to ordinary memory: {error:?}"))
            .ok();
    }
    kept.as_mut()
}
