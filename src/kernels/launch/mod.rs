//! What is handed to the GPU: kernels by name with their grids and arguments, made from addresses and sizes alone.
//!
//! Nothing here touches a device. [`super::cuda`] carries launches out on one; the tests carry them out in an emulator
//! that runs the same kernel sources on the CPU, so that names, argument order, grids and index arithmetic are checked
//! on machines without a GPU.

mod convolution;
mod video;

use candle_core::{Result, bail};

pub(crate) use {convolution::*, video::*};

/// Type of the elements that a kernel works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Element {
    F32,
    Bf16,
}

impl Element {
    #[cfg(feature = "cuda")]
    pub(crate) fn of(dtype: candle_core::DType, operation: &str) -> Result<Self> {
        match dtype {
            candle_core::DType::F32 => Ok(Self::F32),
            candle_core::DType::BF16 => Ok(Self::Bf16),
            other => bail!("{operation} works on f32 and bf16 on a GPU, was given {other:?}"),
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arg {
    /// Address of device memory; 0 where the kernel takes null.
    Pointer(u64),
    Int(i32),
    Unsigned(u32),
    Long(i64),
    Float(f32),
    Conv(ConvShape),
}

/// One launch.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub kernel: String,
    pub grid: [u32; 3],
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    pub args: Vec<Arg>,
}

/// Threads of a block unless a kernel wants another number.
const BLOCK: u32 = 256;

impl Launch {
    fn new(kernel: String, grid: [usize; 3], args: Vec<Arg>) -> Result<Self> {
        let [x, y, z] = grid;
        if x > i32::MAX as usize || y > 65_535 || z > 65_535 {
            bail!("{kernel}: a grid of {grid:?} blocks is more than a GPU takes");
        }
        Ok(Self {
            kernel,
            grid: [x as u32, y as u32, z as u32],
            block: BLOCK,
            shared: 0,
            args,
        })
    }

    /// A thread for each of `count` elements.
    fn flat(kernel: String, count: usize, args: Vec<Arg>) -> Result<Self> {
        Self::new(kernel, [count.div_ceil(BLOCK as usize), 1, 1], args)
    }

    fn with_block(self, block: u32) -> Self {
        Self { block, ..self }
    }

    /// Nothing to do: a GPU refuses grids without blocks.
    pub(crate) fn is_empty(&self) -> bool {
        self.grid.contains(&0)
    }
}

fn pointer(at: u64) -> Arg {
    Arg::Pointer(at)
}

fn int(value: usize) -> Result<Arg> {
    match i32::try_from(value) {
        Ok(value) => Ok(Arg::Int(value)),
        Err(_) => bail!("a size of {value} is more than a kernel takes"),
    }
}

fn unsigned(value: usize) -> Result<Arg> {
    match u32::try_from(value) {
        Ok(value) => Ok(Arg::Unsigned(value)),
        Err(_) => bail!("a count of {value} is more than a kernel takes"),
    }
}

fn long(value: usize) -> Arg {
    Arg::Long(value as i64)
}

/// `name_f32`, or `name_f32_wide` when rows of `width` elements at `pointers` can be accessed `pack` elements at once.
fn by_width(name: &str, element: Element, width: usize, pack: usize, pointers: &[u64]) -> (String, usize) {
    let aligned = |at: &u64| at.is_multiple_of((pack * element.bytes()) as u64);
    let suffix = element.suffix();
    if width.is_multiple_of(pack) && pointers.iter().all(aligned) {
        (format!("{name}_{suffix}_wide"), pack)
    } else {
        (format!("{name}_{suffix}"), 1)
    }
}

/// Elements of 16 bytes.
fn sixteen_bytes(element: Element) -> usize {
    16 / element.bytes()
}

/// Sizes of tokens and of the rows of modulation that `shared` tokens in a row have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens {
    pub tokens: usize,
    pub dim: usize,
    pub shared: usize,
}

pub(crate) fn modulated_norm(e: Element, out: u64, inputs: [u64; 3], sizes: Tokens, eps: f32) -> Result<Launch> {
    let [x, scale, shift] = inputs;
    let (name, _) = by_width(
        "modulated_norm",
        e,
        sizes.dim,
        sixteen_bytes(e),
        &[out, x, scale, shift],
    );
    let mut args = [out, x, scale, shift].map(pointer).to_vec();
    args.extend([int(sizes.dim)?, int(sizes.shared)?, Arg::Float(eps)]);
    Launch::new(name, [sizes.tokens, 1, 1], args)
}

pub(crate) fn layer_norm(e: Element, out: u64, inputs: [u64; 3], sizes: Tokens, eps: f32) -> Result<Launch> {
    let [x, gain, bias] = inputs;
    let (name, _) = by_width("layer_norm", e, sizes.dim, sixteen_bytes(e), &[out, x, gain, bias]);
    let mut args = [out, x, gain, bias].map(pointer).to_vec();
    args.extend([int(sizes.dim)?, Arg::Float(eps)]);
    Launch::new(name, [sizes.tokens, 1, 1], args)
}

pub(crate) fn rms_norm(e: Element, out: u64, x: u64, gain: u64, sizes: Tokens, eps: f32) -> Result<Launch> {
    let (name, _) = by_width("rms_norm", e, sizes.dim, sixteen_bytes(e), &[out, x, gain]);
    let mut args = [out, x, gain].map(pointer).to_vec();
    args.extend([int(sizes.dim)?, Arg::Float(eps)]);
    Launch::new(name, [sizes.tokens, 1, 1], args)
}

pub(crate) fn gated_residual(e: Element, out: u64, inputs: [u64; 3], sizes: Tokens) -> Result<Launch> {
    let [x, y, gate] = inputs;
    let (name, _) = by_width("gated_residual", e, sizes.dim, sixteen_bytes(e), &[out, x, y, gate]);
    let mut args = [out, x, y, gate].map(pointer).to_vec();
    args.extend([int(sizes.dim)?, int(sizes.shared)?]);
    Launch::new(name, [sizes.tokens, 1, 1], args)
}

/// `x`, `out` `[tokens, heads, 2·pairs]`; `cos`, `sin` `[tokens, pairs]` in f32.
pub(crate) fn rotate(e: Element, out: u64, inputs: [u64; 3], sizes: [usize; 3]) -> Result<Launch> {
    let [tokens, heads, pairs] = sizes;
    let [x, cos, sin] = inputs;
    let (name, pack) = by_width("rotate", e, 2 * pairs, sixteen_bytes(e), &[out, x]);
    let mut args = [out, x, cos, sin].map(pointer).to_vec();
    args.extend([int(heads)?, int(pairs)?]);
    Ok(Launch::new(name, [tokens, 1, 1], args)?.with_block(threads_of_row(2 * heads * pairs / pack)))
}

/// Threads for so many packs of a row: whole warps, at most [`BLOCK`].
fn threads_of_row(packs: usize) -> u32 {
    packs.clamp(1, BLOCK as usize).next_multiple_of(32) as u32
}

/// What follows the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Identity = 0,
    Silu = 1,
    GeluTanh = 2,
}

/// In place over `count` elements in rows of `width`; `bias` 0: none.
pub(crate) fn bias_activation(
    e: Element,
    x: u64,
    bias: u64,
    count: usize,
    width: usize,
    kind: Activation,
) -> Result<Launch> {
    let (name, pack) = by_width("bias_activation", e, width, sixteen_bytes(e), &[x, bias]);
    let args = vec![
        pointer(x),
        pointer(bias),
        long(count),
        int(width)?,
        Arg::Int(kind as i32),
    ];
    Launch::flat(name, count / pack, args)
}

/// `groups` sums of `rows` rows each, to f32.
pub(crate) fn sum_rows(e: Element, out: u64, x: u64, groups: usize, rows: usize, width: usize) -> Result<Launch> {
    let args = vec![pointer(out), pointer(x), int(rows)?, int(width)?];
    let launch = Launch::new(
        format!("sum_rows_{}", e.suffix()),
        [width.div_ceil(32), groups, 1],
        args,
    )?;
    Ok(launch.with_block(1024))
}

/// `queries` in f32; f32 scores.
pub(crate) fn token_scores(
    e: Element,
    scores: u64,
    keys: u64,
    queries: u64,
    tokens: usize,
    width: usize,
    scale: f32,
) -> Result<Launch> {
    let (name, _) = by_width("token_scores", e, width, sixteen_bytes(e), &[keys]);
    let args = vec![
        pointer(scores),
        pointer(keys),
        pointer(queries),
        int(tokens)?,
        int(width)?,
        Arg::Float(scale),
    ];
    Launch::new(name, [tokens.div_ceil(BLOCK as usize / 32), 1, 1], args)
}

/// `tags` are those of the first candidate, `first` its slot.
pub(crate) fn select_top(
    chosen: u64,
    scores: u64,
    tags: u64,
    candidates: usize,
    count: usize,
    limit: u32,
    first: usize,
) -> Result<Launch> {
    let args = vec![
        pointer(chosen),
        pointer(scores),
        pointer(tags),
        int(candidates)?,
        int(count)?,
        Arg::Unsigned(limit),
        unsigned(first)?,
    ];
    Ok(Launch::new("select_top".into(), [usize::from(count > 0), 1, 1], args)?.with_block(1024))
}

pub(crate) fn count_chosen(tags: u64, chosen: u64, count: usize, slots: usize) -> Result<Launch> {
    let args = vec![pointer(tags), pointer(chosen), int(count)?, unsigned(slots)?];
    Launch::flat("count_chosen".into(), count, args)
}

/// Which rows stay: the first `stay`, then those at the `count` indices at `chosen` (u32, rising), then all from `tail`
/// to `rows`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moves {
    pub stay: usize,
    pub chosen: u64,
    pub count: usize,
    pub tail: usize,
    pub rows: usize,
}

/// Moves rows of one to three buffers to the front, in place. `width` is in bytes and even.
pub(crate) fn keep_rows(buffers: &[u64], width: usize, moves: Moves) -> Result<Launch> {
    let &[a, ref more @ ..] = buffers else {
        bail!("keep_rows: no buffer");
    };
    if more.len() > 2 || !width.is_multiple_of(2) {
        bail!("keep_rows: {} buffers of rows of {width} bytes", buffers.len());
    }
    let by = |bytes: usize| width.is_multiple_of(bytes) && buffers.iter().all(|at| at.is_multiple_of(bytes as u64));
    // Columns of a block, of which it has as many lanes as threads are left, and its threads.
    let (name, units, columns, block) = match (by(16), width == 8 && by(8)) {
        (true, _) => ("keep_rows_wide", width / 16, 4, BLOCK),
        (_, true) => ("keep_rows_tags", 1, 1, 1024),
        _ => ("keep_rows_narrow", width / 2, 4, BLOCK),
    };
    let moved = moves.count + moves.rows.saturating_sub(moves.tail);
    let other = |i: usize| more.get(i).copied().unwrap_or(0);
    let args = vec![
        pointer(a),
        pointer(other(0)),
        pointer(other(1)),
        int(units)?,
        unsigned(moves.stay)?,
        pointer(moves.chosen),
        unsigned(moves.count)?,
        unsigned(moves.tail)?,
        unsigned(moved)?,
        unsigned(moves.rows)?,
    ];
    let columns = if moved == 0 { 0 } else { units.div_ceil(columns) };
    Ok(Launch::new(name.into(), [columns, buffers.len(), 1], args)?.with_block(block))
}

/// Slots whose keys are rotated anew, and the table of angles for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotRotation {
    pub first: usize,
    pub slots: usize,
    pub heads: usize,
    pub time_pairs: usize,
    pub space_pairs: usize,
    /// Slots that share a temporal position.
    pub per_frame: usize,
    /// Rows of the table: temporal positions, rows and columns of the picture.
    pub frames: usize,
    pub rows: usize,
    pub columns: usize,
}

pub(crate) fn rotate_slots(
    e: Element,
    rotated: u64,
    raw: u64,
    tags: u64,
    angles: u64,
    of: SlotRotation,
) -> Result<Launch> {
    let pairs = of.time_pairs + 2 * of.space_pairs;
    let (name, pack) = by_width("rotate_slots", e, 2 * pairs, sixteen_bytes(e), &[rotated, raw]);
    let mut args = [rotated, raw, tags, angles].map(pointer).to_vec();
    args.extend([
        unsigned(of.first)?,
        int(of.heads)?,
        int(of.time_pairs)?,
        int(of.space_pairs)?,
        unsigned(of.per_frame)?,
        unsigned(of.frames)?,
        unsigned(of.rows)?,
        unsigned(of.columns)?,
    ]);
    let launch = Launch::new(name, [of.slots, 1, 1], args)?;
    Ok(Launch {
        shared: (8 * pairs) as u32,
        ..launch.with_block(threads_of_row(2 * of.heads * pairs / pack))
    })
}

/// Sizes of an attention call; tokens are `heads·dim` elements apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionSizes {
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    pub dim: usize,
    pub scale: f32,
}

/// On tensor cores where type, width and alignment allow, else row by row (head widths up to 256).
pub(crate) fn attention(e: Element, out: u64, inputs: [u64; 3], sizes: AttentionSizes) -> Result<Launch> {
    let [q, k, v] = inputs;
    let (heads, dim) = (sizes.heads, sizes.dim);
    let mut args = [out, q, k, v].map(pointer).to_vec();
    args.extend([int(sizes.queries)?, int(sizes.keys)?, int(heads * dim)?]);
    let aligned = [out, q, k, v].iter().all(|at| at.is_multiple_of(16));
    if e == Element::Bf16 && matches!(dim, 64 | 128) && aligned {
        args.push(Arg::Float(sizes.scale));
        let grid = [sizes.queries.div_ceil(64), heads, 1];
        return Ok(Launch::new(format!("attention_tiles_{dim}"), grid, args)?.with_block(128));
    }
    if dim > 256 {
        bail!("attention on a GPU takes heads of up to 256 channels, was given {dim}");
    }
    args.extend([int(dim)?, Arg::Float(sizes.scale)]);
    let warps = BLOCK as usize / 32;
    let launch = Launch::new(
        format!("attention_rows_{}", e.suffix()),
        [sizes.queries.div_ceil(warps), heads, 1],
        args,
    )?;
    Ok(Launch {
        shared: (warps * dim * 4) as u32,
        ..launch
    })
}
