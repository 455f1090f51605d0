//! Direct convolution on the CPU: packed tiles and a register-blocked inner loop.
//!
//! A band of output rows is one task. The task packs the input it needs, with its border of zeros, into a buffer that
//! stays in the second-level cache, and keeps rows at a fixed distance there. A tap of the kernel is then a constant
//! offset, so that one loop over `(input channel, tap)` with 8 × 48 sums in registers serves every kernel size, stride
//! and nearest-neighbour upsampling; only packing differs.
//!
//! Measured on whole 3×3×3 layers of widths 8 to 384, AVX-512, per second of one core: 180–230 GFLOP/s. The ways that
//! lost are in `benches/vae.rs`: `gemm` reaches 114 on an im2col tile before the cost of the im2col, and less with one
//! matrix product per tap; candle's conv2d per frame of the kernel reaches 30 and less on narrow layers.
//!
//! Every output element is one chain of additions in the order (bias, channels, taps), whatever the tiling: results
//! are bitwise equal for any number of frames per call and any number of threads.

use std::{cell::RefCell, ops::Range};

use rayon::prelude::*;

use super::{
    inner_loop::{LANE, STEP, multiply_add},
    spec::{ConvSpec, Padding},
};

/// Bytes of packed input that one task works on at a time.
const INPUT_BUDGET: usize = 384 << 10;
/// Bytes of sums that one task works on at a time.
const SUMS_BUDGET: usize = 1 << 20;
/// Columns per tile at most.
const MAX_COLUMNS: usize = 160;
/// Rows per task at most.
const MAX_ROWS: usize = 8;

thread_local! {
    /// Packed input and sums, kept between calls.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// One call: `frames` are the input frames `[in, height, width]` from the oldest history frame on; `None` is zeros and
/// occurs only at the front.
pub(super) struct Call<'a> {
    pub spec: &'a ConvSpec,
    /// From [`pack_weight`].
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub frames: &'a [Option<&'a [f32]>],
    pub height: usize,
    pub width: usize,
    /// Added to the output, same shape.
    pub residual: Option<&'a [f32]>,
}

/// Rearranges a weight into `[out / 8, in, tap, 8]` (missing output channels are zero).
///
/// `at(out, in, tap)` is the index in `weight`; taps run over time, rows, columns.
pub(super) fn pack_weight(spec: &ConvSpec, weight: &[f32], at: impl Fn(usize, usize, usize) -> usize) -> Vec<f32> {
    let taps = spec.taps();
    let mut packed = vec![0f32; spec.out_channels.div_ceil(LANE) * LANE * spec.in_channels * taps];
    for out in 0..spec.out_channels {
        for input in 0..spec.in_channels {
            for tap in 0..taps {
                let to = (((out / LANE) * spec.in_channels + input) * taps + tap) * LANE + out % LANE;
                packed[to] = weight[at(out, input, tap)];
            }
        }
    }
    packed
}

/// Runs the convolution into `out`, `[frames, out, height, width]`.
pub(super) fn convolve(call: &Call, out: &mut [f32]) {
    let spec = call.spec;
    let (height, width) = spec.output_size(call.height, call.width);
    let plane = height * width;
    if out.is_empty() {
        return;
    }
    let threads = rayon::current_num_threads();
    let rows = (height / (2 * threads)).clamp(2, MAX_ROWS).min(height);
    let bands = height.div_ceil(rows);
    // Few bands: share the output channels out as well, at the price of packing the input more than once.
    let groups = (2 * threads)
        .div_ceil(bands)
        .min(spec.out_channels.div_ceil(LANE))
        .max(1);
    let group = spec.out_channels.div_ceil(LANE).div_ceil(groups) * LANE;

    // tasks[band, group] holds the rows it writes, in the order (frame, channel).
    let group_count = spec.out_channels.div_ceil(group);
    let mut tasks: Vec<Vec<&mut [f32]>> = (0..bands * group_count).map(|_| Vec::new()).collect();
    for (index, out_plane) in out.chunks_mut(plane).enumerate() {
        let channel = index % spec.out_channels;
        for (band, out_rows) in out_plane.chunks_mut(rows * width).enumerate() {
            tasks[band * group_count + channel / group].push(out_rows);
        }
    }
    tasks.into_par_iter().enumerate().for_each(|(index, mut slices)| {
        let (band, group_index) = (index / group_count, index % group_count);
        let channels = group_index * group..((group_index + 1) * group).min(spec.out_channels);
        let y = band * rows..((band + 1) * rows).min(height);
        SCRATCH.with_borrow_mut(|(input, sums)| convolve_band(call, channels, y, &mut slices, input, sums));
    });
}

/// The output channels `channels` of the rows `y`, all frames.
fn convolve_band(
    call: &Call,
    channels: Range<usize>,
    y: Range<usize>,
    slices: &mut [&mut [f32]],
    input: &mut Vec<f32>,
    sums: &mut Vec<f32>,
) {
    let (_, width) = call.spec.output_size(call.height, call.width);
    let tiles = width.div_ceil(MAX_COLUMNS);
    let columns = width.div_ceil(tiles);
    let frames = slices.len() / channels.len();
    for start in (0..width).step_by(columns) {
        let x = start..(start + columns).min(width);
        let tile = Tile::new(call, y.clone(), x);
        let at_once = (SUMS_BUDGET / (4 * channels.len() * tile.positions)).clamp(1, frames);
        for first in (0..frames).step_by(at_once) {
            let t = first..(first + at_once).min(frames);
            tile.accumulate(&channels, &t, input, sums);
            tile.store(&channels, &t, sums, slices);
        }
    }
}

/// A rectangle of output positions and the layout of its packed input.
///
/// Packed input is `[channel, frame, phase, row, column]`; phases are the residues of the spatial stride, so that
/// neighbouring outputs read neighbouring inputs at any stride.
struct Tile<'a> {
    call: &'a Call<'a>,
    y: Range<usize>,
    x: Range<usize>,
    /// Distance of two rows, in the packed input and in the sums.
    pitch: usize,
    /// Packed rows per phase.
    rows: usize,
    /// Output positions in the sums, junk between rows included, padded to [`STEP`].
    positions: usize,
}

impl<'a> Tile<'a> {
    fn new(call: &'a Call<'a>, y: Range<usize>, x: Range<usize>) -> Self {
        let spec = call.spec;
        let (_, width) = spec.output_size(call.height, call.width);
        let reach = (spec.kernel - 1) / spec.stride;
        // Over a whole padded row the zero right of one row is the zero left of the next: one column serves both.
        let shared = spec.padding == Padding::Same && x.len() == width && reach > 0;
        let pitch = x.len() + reach - usize::from(shared);
        let rows = y.len() + reach;
        let positions = ((y.len() - 1) * pitch + x.len()).next_multiple_of(STEP);
        Self {
            call,
            y,
            x,
            pitch,
            rows,
            positions,
        }
    }

    fn phases(&self) -> usize {
        self.call.spec.stride * self.call.spec.stride
    }

    /// Length of one packed frame of one channel.
    fn frame_len(&self) -> usize {
        self.phases() * self.rows * self.pitch
    }

    /// Sums `[frame, channel (padded to lanes), position]` over all input channels.
    fn accumulate(&self, channels: &Range<usize>, t: &Range<usize>, input: &mut Vec<f32>, sums: &mut Vec<f32>) {
        let spec = self.call.spec;
        let taps = spec.taps();
        let first_frame = t.start * spec.time_stride;
        let frames = (t.len() - 1) * spec.time_stride + spec.time_kernel;
        // The last step may read past the last row.
        let channel_len = frames * self.frame_len() + STEP;
        let block = (INPUT_BUDGET / (4 * channel_len))
            .clamp(8, spec.in_channels.max(8))
            .min(spec.in_channels);
        let offsets = self.tap_offsets();
        self.start_sums(channels, t.len(), sums);
        if input.len() < block * channel_len {
            input.resize(block * channel_len, 0.0);
        }
        for start in (0..spec.in_channels).step_by(block) {
            let inputs = start..(start + block).min(spec.in_channels);
            for (channel, packed) in inputs.clone().zip(input.chunks_mut(channel_len)) {
                self.pack_channel(channel, first_frame, frames, packed);
            }
            for lane in channels.clone().step_by(LANE) {
                let weight = &self.call.weight[lane / LANE * spec.in_channels * taps * LANE..];
                let weight = &weight[inputs.start * taps * LANE..inputs.end * taps * LANE];
                let count = (channels.end - lane).min(LANE);
                for frame in 0..t.len() {
                    let oldest = frame * spec.time_stride;
                    let missing = (oldest..oldest + spec.time_kernel)
                        .take_while(|&f| self.call.frames[first_frame + f].is_none())
                        .count();
                    let sums = &mut sums[(frame * padded(channels) + lane - channels.start) * self.positions..];
                    multiply_add(
                        weight,
                        &input[oldest * self.frame_len()..],
                        channel_len,
                        &offsets,
                        missing * spec.kernel * spec.kernel,
                        &mut sums[..LANE * self.positions],
                        count,
                    );
                }
            }
        }
    }

    /// Where each tap reads, relative to an output position, from the oldest frame that its output sees.
    fn tap_offsets(&self) -> Vec<usize> {
        let ConvSpec {
            time_kernel,
            kernel,
            stride,
            ..
        } = *self.call.spec;
        let mut offsets = Vec::with_capacity(self.call.spec.taps());
        for dt in 0..time_kernel {
            for dy in 0..kernel {
                for dx in 0..kernel {
                    let phase = dy % stride * stride + dx % stride;
                    let row = phase * self.rows + dy / stride;
                    offsets.push(dt * self.frame_len() + row * self.pitch + dx / stride);
                }
            }
        }
        offsets
    }

    fn start_sums(&self, channels: &Range<usize>, frames: usize, sums: &mut Vec<f32>) {
        let needed = frames * padded(channels) * self.positions;
        if sums.len() < needed {
            sums.resize(needed, 0.0);
        }
        for (index, row) in sums[..needed].chunks_mut(self.positions).enumerate() {
            let channel = channels.start + index % padded(channels);
            row.fill(
                self.call
                    .bias
                    .and_then(|bias| bias.get(channel))
                    .copied()
                    .unwrap_or(0.0),
            );
        }
    }

    /// Copies one input channel of all frames with its border of zeros.
    fn pack_channel(&self, channel: usize, first_frame: usize, frames: usize, packed: &mut [f32]) {
        let Call {
            spec, height, width, ..
        } = *self.call;
        let scale = if spec.upsample { 2 } else { 1 };
        let before = spec.padding.before(spec.kernel) as isize;
        packed[frames * self.frame_len()..].fill(0.0);
        for frame in 0..frames {
            let Some(source) = self.call.frames[first_frame + frame] else {
                continue;
            };
            let source = &source[channel * height * width..(channel + 1) * height * width];
            let packed = &mut packed[frame * self.frame_len()..(frame + 1) * self.frame_len()];
            for (index, target) in packed.chunks_mut(self.pitch).enumerate() {
                let (phase, row) = (index / self.rows, index % self.rows);
                let (phase_y, phase_x) = (phase / spec.stride, phase % spec.stride);
                let row = ((self.y.start + row) * spec.stride + phase_y) as isize - before;
                if row < 0 || row >= (height * scale) as isize {
                    target.fill(0.0);
                    continue;
                }
                let from = row as usize / scale * width;
                let left = (self.x.start * spec.stride + phase_x) as isize - before;
                pack_row(&source[from..from + width], left, spec.stride, scale, target);
            }
        }
    }

    /// Adds the residual, applies the activation, and writes the rows of the tile.
    fn store(&self, channels: &Range<usize>, t: &Range<usize>, sums: &[f32], slices: &mut [&mut [f32]]) {
        let spec = self.call.spec;
        let (height, width) = spec.output_size(self.call.height, self.call.width);
        for (index, sums) in (0..t.len() * padded(channels)).zip(sums.chunks(self.positions)) {
            let (frame, channel) = (t.start + index / padded(channels), index % padded(channels));
            if channel >= channels.len() {
                continue;
            }
            let out = &mut slices[frame * channels.len() + channel];
            for row in 0..self.y.len() {
                let sums = &sums[row * self.pitch..][..self.x.len()];
                let out = &mut out[row * width + self.x.start..][..self.x.len()];
                out.copy_from_slice(sums);
                if let Some(residual) = self.call.residual {
                    let plane = frame * spec.out_channels + channels.start + channel;
                    let from = (plane * height + self.y.start + row) * width + self.x.start;
                    for (out, residual) in out.iter_mut().zip(&residual[from..]) {
                        *out += residual;
                    }
                }
                if spec.relu {
                    for out in out {
                        *out = out.max(0.0);
                    }
                }
            }
        }
    }
}

/// Rows of sums per frame: missing output channels have zero weights.
fn padded(channels: &Range<usize>) -> usize {
    channels.len().next_multiple_of(LANE)
}

/// `target[j] = row[(left + j·stride) / scale]`, zero outside the row.
fn pack_row(row: &[f32], left: isize, stride: usize, scale: usize, target: &mut [f32]) {
    let size = (row.len() * scale) as isize;
    if stride == 1 && scale == 1 {
        let begin = left.clamp(0, size);
        let skip = ((begin - left) as usize).min(target.len());
        let count = ((size - begin) as usize).min(target.len() - skip);
        target[..skip].fill(0.0);
        target[skip..skip + count].copy_from_slice(&row[begin as usize..begin as usize + count]);
        target[skip + count..].fill(0.0);
        return;
    }
    for (j, value) in target.iter_mut().enumerate() {
        let column = left + (j * stride) as isize;
        *value = if (0..size).contains(&column) {
            row[column as usize / scale]
        } else {
            0.0
        };
    }
}
