//! Linear layers.

use candle_core::Tensor;

use crate::{Result, checkpoint::Weights, kernels};

/// A linear layer with bias; weight `[out, in]` as stored.
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub(super) fn new(inputs: usize, outputs: usize, weights: Weights) -> Result<Self> {
        Ok(Self {
            weight: weights.get([outputs, inputs], "weight")?,
            bias: weights.get([outputs], "bias")?,
        })
    }

    /// The same without a bias in the file: it is zero.
    pub(super) fn without_bias(inputs: usize, outputs: usize, weights: Weights) -> Result<Self> {
        Ok(Self {
            weight: weights.get([outputs, inputs], "weight")?,
            bias: Tensor::zeros(outputs, weights.dtype(), weights.device())?,
        })
    }

    /// The same with a weight stored under another shape (a convolution whose kernel equals its stride).
    pub(super) fn from_patches(stored: [usize; 5], weights: Weights) -> Result<Self> {
        let inputs = stored[1..].iter().product();
        Ok(Self {
            weight: weights.get_as(stored, "weight", [stored[0], inputs])?,
            bias: weights.get([stored[0]], "bias")?,
        })
    }

    /// A layer from its weight `[out, in]`, without bias.
    pub(super) fn from_weight(weight: Tensor) -> Result<Self> {
        let bias = Tensor::zeros(weight.dim(0)?, weight.dtype(), weight.device())?;
        Ok(Self { weight, bias })
    }

    /// `[rows, in]` to `[rows, out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(kernels::linear(x, &self.weight, &self.bias)?)
    }

    /// The same, then GELU.
    pub(super) fn forward_gelu(&self, x: &Tensor) -> Result<Tensor> {
        Ok(kernels::linear_gelu(x, &self.weight, &self.bias)?)
    }
}
