//! Kernels that candle lacks or does slowly: activations, norms, rotation, attention, events of the cache.
//!
//! Each is vectorised for the machine it runs on and, where networks need it, a candle custom operation with a CUDA
//! kernel beside it (`cuda/*.cu`; feature `cuda`), so that networks are the same code on both. On a GPU elements are f32
//! or bf16; statistics, softmax, sums and angles are f32.
//!
//! Launches: all work of a device goes to its one stream, from whichever thread, so that the decoder's work runs between
//! denoising steps without synchronisation, and copies to the host wait for their own event alone. A forward pass of the
//! 1.3B model is about 1100 launches of some microseconds on the host against 67 to 84 ms on an H100 (3 frames, 16 to 21
//! attended to): the device is not waited upon, and capturing passes as CUDA graphs is left until smaller chunks
//! need it. What would save more: norm and rotation of queries and keys in
//! one pass, the norm and SiLU of the Wan decoder in the layout of its convolutions.
//!
//! ```text
//!   attention, convolution, linear, norm, rows, …      an operation: checks its tensors, asks the device
//!        │                        │
//!        │ on the CPU             │ on a GPU: addresses and sizes
//!        ▼                        ▼
//!   vectorised loops           launch                 a kernel's name, grid and arguments; touches no device
//!   in the same file              │
//!        │                 ┌──────┴───────┐
//!        │                 ▼              ▼
//!        │               cuda          emulated       one puts it onto the device's stream, the other (in tests)
//!        │                 │              │           runs it thread by thread
//!        │                 ▼              ▼
//!        │            cuda/*.cu as    cuda/*.cu as    the same sources
//!        │            PTX on a GPU    C++ on the CPU
//!        │                 │              │
//!        └──────── device_tests      emulated/*       compare with the loops of the CPU
//! ```

mod activation;
mod attention;
pub(crate) mod convolution;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(feature = "cudnn")]
pub(crate) mod cudnn;
#[cfg(all(test, feature = "cuda"))]
pub(crate) mod device_tests;
#[cfg(test)]
pub(crate) mod emulated;
#[cfg(any(test, feature = "cuda"))]
pub(crate) mod launch;
mod linear;
mod low_rank;
mod modulation;
mod norm;
#[cfg(feature = "cuda")]
mod products;
mod rotation;
mod rows;
mod selection;

pub(crate) use activation::exp;
pub use activation::{gelu_tanh, gelu_tanh_in_place, silu, silu_in_place};
pub use attention::{attention, warm_up_attention};
pub use linear::{linear, linear_gelu};
pub use low_rank::add_low_rank;
pub use modulation::{gated_residual, modulated_norm};
pub use norm::{layer_norm, rms_norm};
pub use rotation::rotate;
pub use rows::{keep_rows, sum_rows, write_rows};
pub use selection::{Kept, SlotRun, best, choose_on_device, keep_chosen_rows, rotate_slots, token_scores};

use candle_core::{CpuStorage, Layout, Result, Storage, backend::BackendStorage, bail};
use rayon::prelude::*;

/// Elements below which waking other threads costs more than it saves.
const SERIAL: usize = 1 << 16;
/// Least elements given to one thread at a time.
const GRAIN: usize = 1 << 13;

/// The elements of a contiguous f32 tensor.
pub(crate) fn f32_slice<'a>(storage: &'a CpuStorage, layout: &Layout, operation: &str) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else {
        bail!("{operation} needs f32, got {:?}", storage.dtype());
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!(
            "{operation} needs contiguous tensors, got strides {:?}",
            layout.stride()
        ),
    }
}

/// As [`f32_slice`], for a tensor's storage of any device.
pub(crate) fn f32_tensor_slice<'a>(storage: &'a Storage, layout: &Layout, operation: &str) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => f32_slice(storage, layout, operation),
        _ => bail!("{operation}: tensors are on different devices"),
    }
}

/// Calls `work` with the number and the elements of every row of `width` elements, on all threads when there is enough
/// to do.
fn for_rows(out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if width == 0 {
        return;
    }
    if out.len() < SERIAL {
        out.chunks_mut(width)
            .enumerate()
            .for_each(|(index, row)| work(index, row));
    } else {
        out.par_chunks_mut(width)
            .enumerate()
            .with_min_len(GRAIN.div_ceil(width))
            .for_each(|(index, row)| work(index, row));
    }
}
