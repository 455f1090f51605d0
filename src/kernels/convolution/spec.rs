//! What a convolution is, but for its weights.

/// Zeros around a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// None.
    Valid,
    /// As many on each side as keep the size at stride 1.
    Same,
    /// One row below and one column right.
    BottomRight,
}

impl Padding {
    /// Rows above (columns left).
    pub(crate) fn before(self, kernel: usize) -> usize {
        if self == Self::Same { kernel / 2 } else { 0 }
    }

    fn total(self, kernel: usize) -> usize {
        match self {
            Self::Valid => 0,
            Self::Same => kernel / 2 * 2,
            Self::BottomRight => 1,
        }
    }
}

/// Everything about a convolution but its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvSpec {
    pub in_channels: usize,
    pub out_channels: usize,
    /// Kernel size in time; the last tap is the current frame.
    pub time_kernel: usize,
    pub time_stride: usize,
    /// Kernel size in rows and columns.
    pub kernel: usize,
    /// Stride in rows and columns.
    pub stride: usize,
    pub padding: Padding,
    /// Double rows and columns (nearest neighbour) before convolving.
    pub upsample: bool,
    /// `max(0, ·)` at the end, after the residual.
    pub relu: bool,
}

impl ConvSpec {
    /// A `time × kernel × kernel` convolution of stride 1 that keeps rows and columns.
    pub fn new(in_channels: usize, out_channels: usize, time_kernel: usize, kernel: usize) -> Self {
        Self {
            in_channels,
            out_channels,
            time_kernel,
            time_stride: 1,
            kernel,
            stride: 1,
            padding: if kernel == 1 { Padding::Valid } else { Padding::Same },
            upsample: false,
            relu: false,
        }
    }

    /// Nearest-neighbour doubling of rows and columns first.
    pub fn upsampled(self) -> Self {
        Self { upsample: true, ..self }
    }

    /// Halves rows and columns: stride 2, zeros below and right only.
    pub fn downsampled(self) -> Self {
        Self {
            stride: 2,
            padding: Padding::BottomRight,
            ..self
        }
    }

    /// ReLU at the end.
    pub fn with_relu(self) -> Self {
        Self { relu: true, ..self }
    }

    /// Weights per pair of channels.
    pub(crate) fn taps(&self) -> usize {
        self.time_kernel * self.kernel * self.kernel
    }

    /// Rows and columns of the output; zero when the input is smaller than the kernel.
    pub(crate) fn output_size(&self, height: usize, width: usize) -> (usize, usize) {
        let size = |n: usize| {
            let n = if self.upsample { 2 * n } else { n } + self.padding.total(self.kernel);
            if n < self.kernel {
                0
            } else {
                (n - self.kernel) / self.stride + 1
            }
        };
        (size(height), size(width))
    }

    /// Frames to remember between calls.
    pub(crate) fn history(&self) -> usize {
        self.time_kernel.saturating_sub(self.time_stride)
    }
}
