//! Residual and attention blocks, shared by decoder and encoder.

use candle_core::Tensor;

use crate::{
    checkpoint::{CheckpointError, Weights},
    vae::{CausalConv3d, ConvSpec, History, attention::frame_attention, norm::ChannelNorm},
};

/// The histories of a network's causal convolutions, taken in the order in which they run.
#[derive(Debug, Clone, Default)]
pub(super) struct Histories {
    slots: Vec<History>,
    next: usize,
}

impl Histories {
    /// Starts over with the first convolution.
    pub(super) fn rewind(&mut self) {
        self.next = 0;
    }

    /// History of the next convolution; empty the first time.
    pub(super) fn next(&mut self) -> &mut History {
        if self.next == self.slots.len() {
            self.slots.push(History::default());
        }
        self.next += 1;
        &mut self.slots[self.next - 1]
    }
}

/// A 3×3×3 causal convolution.
pub(super) fn conv3(weights: Weights, from: usize, to: usize) -> Result<CausalConv3d, CheckpointError> {
    CausalConv3d::new(weights, ConvSpec::new(from, to, 3, 3))
}

/// A 1×1×1 convolution.
pub(super) fn conv1(weights: Weights, from: usize, to: usize) -> Result<CausalConv3d, CheckpointError> {
    CausalConv3d::new(weights, ConvSpec::new(from, to, 1, 1))
}

/// `shortcut(x) + conv(silu(norm(conv(silu(norm(x))))))`.
#[derive(Debug)]
pub(super) struct ResidualBlock {
    norms: [ChannelNorm; 2],
    convs: [CausalConv3d; 2],
    shortcut: Option<CausalConv3d>,
}

impl ResidualBlock {
    pub(super) fn new(weights: Weights, from: usize, to: usize) -> Result<Self, CheckpointError> {
        let residual = weights.pp("residual");
        let norm = |name, width| ChannelNorm::new(residual.pp(name), width, 3, true);
        Ok(Self {
            norms: [norm(0, from)?, norm(3, to)?],
            convs: [conv3(residual.pp(2), from, to)?, conv3(residual.pp(6), to, to)?],
            shortcut: if from == to {
                None
            } else {
                Some(conv1(weights.pp("shortcut"), from, to)?)
            },
        })
    }

    pub(super) fn forward(&self, x: &Tensor, histories: &mut Histories) -> candle_core::Result<Tensor> {
        let shortcut = match &self.shortcut {
            Some(conv) => conv.forward(x)?,
            None => x.clone(),
        };
        let h = self.norms[0].forward(x)?;
        let h = self.convs[0].stream(&h, histories.next(), None)?;
        let h = self.norms[1].forward(&h)?;
        self.convs[1].stream(&h, histories.next(), Some(&shortcut))
    }
}

/// Single-head attention within each frame.
#[derive(Debug)]
struct AttentionBlock {
    norm: ChannelNorm,
    to_qkv: CausalConv3d,
    proj: CausalConv3d,
}

impl AttentionBlock {
    fn new(weights: Weights, width: usize) -> Result<Self, CheckpointError> {
        Ok(Self {
            norm: ChannelNorm::new(weights.pp("norm"), width, 2, false)?,
            to_qkv: CausalConv3d::new_2d(weights.pp("to_qkv"), ConvSpec::new(width, 3 * width, 1, 1), true)?,
            proj: CausalConv3d::new_2d(weights.pp("proj"), ConvSpec::new(width, width, 1, 1), true)?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let qkv = self.to_qkv.forward(&self.norm.forward(x)?)?;
        self.proj.forward_add(&frame_attention(&qkv)?, x)
    }
}

/// Residual, attention, residual at the narrowest place.
#[derive(Debug)]
pub(super) struct MiddleBlock {
    before: ResidualBlock,
    attention: AttentionBlock,
    after: ResidualBlock,
}

impl MiddleBlock {
    pub(super) fn new(weights: Weights, width: usize) -> Result<Self, CheckpointError> {
        Ok(Self {
            before: ResidualBlock::new(weights.pp(0), width, width)?,
            attention: AttentionBlock::new(weights.pp(1), width)?,
            after: ResidualBlock::new(weights.pp(2), width, width)?,
        })
    }

    /// `see` is shown the output of each of the three blocks.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        histories: &mut Histories,
        mut see: impl FnMut(usize, &Tensor),
    ) -> candle_core::Result<Tensor> {
        let x = self.before.forward(x, histories)?;
        see(0, &x);
        let x = self.attention.forward(&x)?;
        see(1, &x);
        let x = self.after.forward(&x, histories)?;
        see(2, &x);
        Ok(x)
    }
}

/// Norm, SiLU, 3×3×3 convolution at the end of decoder and encoder.
#[derive(Debug)]
pub(super) struct Head {
    norm: ChannelNorm,
    conv: CausalConv3d,
}

impl Head {
    pub(super) fn new(weights: Weights, from: usize, to: usize) -> Result<Self, CheckpointError> {
        Ok(Self {
            norm: ChannelNorm::new(weights.pp(0), from, 3, true)?,
            conv: conv3(weights.pp(2), from, to)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, histories: &mut Histories) -> candle_core::Result<Tensor> {
        self.conv.stream(&self.norm.forward(x)?, histories.next(), None)
    }
}
