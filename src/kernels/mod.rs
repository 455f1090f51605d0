//! CPU kernels that candle lacks or does slowly: activations, norms, rotation, attention.
//!
//! Each is vectorised for the machine it runs on and, where networks need it, a candle custom operation, so that a
//! device implementation can be added beside the CPU one.

mod activation;
mod attention;
mod linear;
mod modulation;
mod rotation;

pub use activation::{gelu_tanh, gelu_tanh_in_place, silu, silu_in_place};
pub use attention::attention;
pub use linear::linear;
pub use modulation::{gated_residual, modulated_norm};
pub use rotation::rotate;

use candle_core::{CpuStorage, Layout, Result, backend::BackendStorage, bail};

/// The elements of a contiguous f32 tensor.
fn f32_slice<'a>(storage: &'a CpuStorage, layout: &Layout, operation: &str) -> Result<&'a [f32]> {
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
