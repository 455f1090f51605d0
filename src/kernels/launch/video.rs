//! Launches of the video autoencoders, but for their convolutions.

use candle_core::Result;

use super::{Arg, BLOCK, Element, Launch, by_width, int, long, pointer};

/// Pictures `[frames, 3, positions]` to bytes `[frames, positions, 3]`.
pub(crate) fn pictures_to_bytes(e: Element, out: u64, x: u64, frames: usize, positions: usize) -> Result<Launch> {
    let all = frames * positions;
    let args = vec![pointer(out), pointer(x), long(all), long(positions)];
    Launch::flat(format!("pictures_to_bytes_{}", e.suffix()), all, args)
}

/// `x`, `out` `[frames, channels, plane]`, `gamma` `[channels]`.
pub(crate) fn channel_norm(
    e: Element,
    out: u64,
    x: u64,
    gamma: u64,
    [frames, channels, plane]: [usize; 3],
    silu: bool,
) -> Result<Launch> {
    let (name, pack) = by_width("channel_norm", e, plane, 4, &[out, x]);
    let args = vec![
        pointer(out),
        pointer(x),
        pointer(gamma),
        int(channels)?,
        long(plane),
        Arg::Int(silu.into()),
    ];
    Launch::new(name, [(plane / pack).div_ceil(BLOCK as usize), frames, 1], args)
}

/// In place over rows of `width`.
pub(crate) fn softmax_rows(e: Element, scores: u64, rows: usize, width: usize, scale: f32) -> Result<Launch> {
    let args = vec![pointer(scores), int(width)?, Arg::Float(scale)];
    Launch::new(format!("softmax_rows_{}", e.suffix()), [rows, 1, 1], args)
}
