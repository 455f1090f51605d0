//! Weights of the convolutions, as the files of the autoencoders name and order them.

use candle_core::Tensor;

use crate::{
    checkpoint::{CheckpointError, Weights},
    kernels::convolution::{CausalConv3d, ConvSpec, WeightOrder},
};

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
        let spec = ConvSpec::new(in_channels, out_channels, 1, 1);
        Self::from_tensors(spec, weight, None, WeightOrder::NewestFirst)
    }
}
