//! CPU kernels that candle lacks or does slowly: activations, norms, attention.
//!
//! Each is a plain function over slices (vectorised for the machine it runs on) and, where networks need it, a candle
//! custom operation, so that a device implementation can be added beside the CPU one.

mod activation;

pub use activation::{gelu_tanh_in_place, silu_in_place};
