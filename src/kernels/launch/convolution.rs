//! Launches of convolutions and of what they need around them.

use candle_core::Result;

#[cfg(any(test, feature = "cudnn"))]
use super::long;
use super::{Arg, BLOCK, Element, Launch, int, pointer};

/// `ConvShape` of `conv.cu`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct ConvShape {
    pub in_channels: i32,
    pub padded: i32,
    pub out_channels: i32,
    pub height: i32,
    pub width: i32,
    pub out_height: i32,
    pub out_width: i32,
    pub time_kernel: i32,
    pub time_stride: i32,
    pub kernel: i32,
    pub stride: i32,
    pub before: i32,
    pub upsample: i32,
    pub relu: i32,
}

/// Addresses of a convolution; `bias` and `residual` may be 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvPointers {
    pub out: u64,
    pub x: u64,
    pub weight: u64,
    pub bias: u64,
    pub residual: u64,
}

/// Channels of a packed weight are padded to a multiple of this.
pub(crate) const CONV_DEPTH: usize = 32;

/// `frames` result frames; on tensor cores for bf16.
pub(crate) fn conv(e: Element, at: ConvPointers, frames: usize, shape: ConvShape) -> Result<Launch> {
    let ConvPointers {
        out,
        x,
        weight,
        bias,
        residual,
    } = at;
    let mut args = [out, x, weight, bias, residual].map(pointer).to_vec();
    args.push(Arg::Conv(shape));
    let positions = shape.out_height as usize * shape.out_width as usize;
    let channels = shape.out_channels as usize;
    if e == Element::Bf16 && weight.is_multiple_of(16) {
        let grid = [positions.div_ceil(128), channels.div_ceil(64), frames];
        return Ok(Launch::new("conv_tiles_bf16".into(), grid, args)?.with_block(128));
    }
    let grid = [positions.div_ceil(BLOCK as usize), channels, frames];
    Launch::new(format!("conv_direct_{}", e.suffix()), grid, args)
}

/// Bias, residual and ReLU over `[frames, channels, positions]`, in place.
#[cfg(any(test, feature = "cudnn"))]
pub(crate) fn conv_finish(
    e: Element,
    out: u64,
    bias: u64,
    residual: u64,
    [frames, channels, positions]: [usize; 3],
    relu: bool,
) -> Result<Launch> {
    let mut args = [out, bias, residual].map(pointer).to_vec();
    args.extend([int(channels)?, int(positions)?, Arg::Int(relu.into())]);
    let grid = [positions.div_ceil(BLOCK as usize), channels, frames];
    Launch::new(format!("conv_finish_{}", e.suffix()), grid, args)
}

/// `planes` planes of `height × width` to twice the rows and columns.
#[cfg(any(test, feature = "cudnn"))]
pub(crate) fn upsample(e: Element, out: u64, x: u64, planes: usize, height: usize, width: usize) -> Result<Launch> {
    let all = 4 * planes * height * width;
    let args = vec![pointer(out), pointer(x), long(all), int(height)?, int(width)?];
    Launch::flat(format!("upsample_{}", e.suffix()), all, args)
}

/// Sizes of frames to convolve with channels side by side.
#[cfg(any(test, feature = "cudnn"))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frames {
    /// New ones and those remembered of the stream before them, of which the first `missing` are zeros.
    pub fresh: usize,
    pub history: usize,
    pub missing: usize,
    pub channels: usize,
    /// Of the result, rows and columns doubled where that is asked for.
    pub height: usize,
    pub width: usize,
    pub doubled: bool,
}

#[cfg(feature = "cudnn")]
impl Frames {
    /// Whether the kernels of this layout take so many channels and positions.
    pub(crate) fn fits(channels: usize, positions: usize) -> bool {
        channels.is_multiple_of(8) && positions.is_multiple_of(2)
    }
}

/// Positions and channels of a tile of `layout.cu`.
#[cfg(any(test, feature = "cudnn"))]
const TILE: [usize; 2] = [64, 32];

/// Remembered and fresh frames `[frames, channels, positions]` to one `[history + fresh, positions, channels]`; bf16.
#[cfg(any(test, feature = "cudnn"))]
pub(crate) fn channels_last(out: u64, [remembered, fresh]: [u64; 2], of: Frames) -> Result<Launch> {
    let positions = of.height * of.width;
    let mut args = [out, remembered, fresh].map(pointer).to_vec();
    args.extend([
        int(of.missing)?,
        int(of.history)?,
        int(of.channels)?,
        int(positions)?,
        int(of.width)?,
        Arg::Int(of.doubled.into()),
    ]);
    let grid = [
        positions.div_ceil(TILE[0]),
        of.channels.div_ceil(TILE[1]),
        of.history + of.fresh,
    ];
    Launch::new("channels_last_bf16".into(), grid, args)
}

/// `x` `[frames, positions, channels]` to `out` `[frames, channels, positions]`, plus bias and residual (0 for none), then
/// ReLU if asked for; bf16.
#[cfg(any(test, feature = "cudnn"))]
pub(crate) fn channels_first(
    out: u64,
    x: u64,
    [bias, residual]: [u64; 2],
    [frames, channels, positions]: [usize; 3],
    relu: bool,
) -> Result<Launch> {
    let mut args = [out, x, bias, residual].map(pointer).to_vec();
    args.extend([int(channels)?, int(positions)?, Arg::Int(relu.into())]);
    let grid = [positions.div_ceil(TILE[0]), channels.div_ceil(TILE[1]), frames];
    Launch::new("channels_first_bf16".into(), grid, args)
}
