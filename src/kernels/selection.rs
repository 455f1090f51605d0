//! Events of the cache without the host: scores, the choice of the best, moving what stays, rotating what moved.
//!
//! A cache on a GPU keeps two u32 tags per slot, its cell (`row · columns + column`) and how often it was chosen.

#[cfg(feature = "cuda")]
use candle_core::DType;
use candle_core::{D, Result, Tensor, bail};

#[cfg(feature = "cuda")]
use super::{cuda, cuda::Operand, launch};
use super::{keep_rows, rotate};

/// Products of keys `[tokens, heads, head_dim]` with a sum of queries `[heads·head_dim]` (f32), times `scale`:
/// `[tokens]` in f32.
///
/// # Errors
/// When shapes disagree.
pub fn token_scores(keys: &Tensor, queries: &Tensor, scale: f64) -> Result<Tensor> {
    let (tokens, heads, dim) = keys.dims3()?;
    if queries.elem_count() != heads * dim {
        bail!(
            "token_scores: queries {:?} do not fit keys {:?}",
            queries.dims(),
            keys.dims()
        );
    }
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = keys.device() {
        let operand = Operand::of(keys, "token_scores")?;
        let queries = Operand::of(queries, "token_scores")?.require(DType::F32, "token_scores")?;
        let scores = cuda::empty(tokens, DType::F32, keys.device())?;
        let launch = launch::token_scores(
            operand.element("token_scores")?,
            Operand::of(&scores, "token_scores")?.at,
            operand.at,
            queries,
            tokens,
            heads * dim,
            scale as f32,
        )?;
        cuda::run(device, &launch)?;
        return Ok(scores);
    }
    let products = keys
        .reshape((tokens, heads * dim))?
        .matmul(&queries.reshape((heads * dim, 1))?)?;
    (products * scale)?.squeeze(D::Minus1)
}

/// Indices of the `count` highest scores among the eligible, ascending. Equal scores go to the lower index.
pub fn best(scores: &[f32], eligible: impl Fn(usize) -> bool, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|i| eligible(*i)).collect();
    let better = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if count < order.len() {
        order.select_nth_unstable_by(count, better);
        order.truncate(count);
    }
    order.sort_unstable();
    order
}

/// [`best`] on the device of the scores (f32, `[candidates]`): slots, counted from `first`, as u32 `[count]`. A slot is
/// eligible that was chosen fewer than `limit` times (0: no limit) by the `tags` `[candidates, 2]`; there must be
/// `count` of them. The choice is counted in the tags.
///
/// # Errors
/// When shapes disagree.
pub fn choose_on_device(scores: &Tensor, tags: &Tensor, count: usize, limit: u32, first: usize) -> Result<Tensor> {
    let candidates = scores.dims1()?;
    if tags.dims() != [candidates, 2] {
        bail!("choose: tags {:?} do not fit {candidates} scores", tags.dims());
    }
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = scores.device() {
        let chosen = cuda::empty(count, DType::U32, scores.device())?;
        let chosen_at = Operand::of(&chosen, "choose")?.at;
        let scores = Operand::of(scores, "choose")?.require(DType::F32, "choose")?;
        let tags = Operand::of(tags, "choose")?.require(DType::U32, "choose")?;
        cuda::run(
            device,
            &launch::select_top(chosen_at, scores, tags, candidates, count, limit, first)?,
        )?;
        // The tags begin at slot `first`, the choice is counted from slot 0.
        let all_tags = tags - 8 * first as u64;
        cuda::run(
            device,
            &launch::count_chosen(all_tags, chosen_at, count, first + candidates)?,
        )?;
        return Ok(chosen);
    }
    let mut counts = tags.to_vec2::<u32>()?;
    let chosen = best(&scores.to_vec1::<f32>()?, |i| limit == 0 || counts[i][1] < limit, count);
    for index in &chosen {
        counts[*index][1] += 1;
    }
    tags.slice_set(&Tensor::new(counts, tags.device())?, 0, 0)?;
    let chosen: Vec<u32> = chosen.iter().map(|index| (first + index) as u32).collect();
    Tensor::new(chosen, scores.device())
}

/// Which of `rows` rows stay: the first `stay`, then those at the indices `chosen` (u32, rising, between the two
/// others), then all from `tail` on.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    pub stay: usize,
    pub chosen: Option<&'a Tensor>,
    pub tail: usize,
    pub rows: usize,
}

/// Moves the rows that stay to the front of each buffer, in order and in place: on a GPU one kernel per three buffers
/// of equally wide rows. What lies behind them afterwards is unspecified. Rows are along the first axis.
///
/// # Errors
/// When the buffers differ in their rows, or on a device failure.
pub fn keep_chosen_rows(buffers: &[&Tensor], kept: Kept<'_>) -> Result<()> {
    for buffer in buffers {
        if buffer.dims().first().is_none_or(|rows| *rows < kept.rows) || kept.tail > kept.rows || kept.stay > kept.tail
        {
            bail!("keep_rows: {} rows do not fit {:?}", kept.rows, buffer.dims());
        }
    }
    #[cfg(feature = "cuda")]
    if let Some(candle_core::Device::Cuda(device)) = buffers.first().map(|b| b.device()) {
        let (chosen, count) = match kept.chosen {
            Some(chosen) => {
                let operand = Operand::of(chosen, "keep_rows")?;
                (operand.require(DType::U32, "keep_rows")?, operand.count)
            }
            None => (0, 0),
        };
        let moves = launch::Moves {
            stay: kept.stay,
            chosen,
            count,
            tail: kept.tail,
            rows: kept.rows,
        };
        for some in buffers.chunks(3) {
            let mut at = Vec::with_capacity(3);
            let mut width = 0;
            for buffer in some {
                let operand = Operand::of(buffer, "keep_rows")?;
                let row = operand.count / buffer.dim(0)? * operand.dtype.size_in_bytes();
                if width != 0 && width != row {
                    bail!("keep_rows: buffers of different width");
                }
                width = row;
                at.push(operand.at);
            }
            cuda::run(device, &launch::keep_rows(&at, width, moves)?)?;
        }
        return Ok(());
    }
    let chosen = match kept.chosen {
        Some(chosen) => chosen.to_vec1::<u32>()?,
        None => Vec::new(),
    };
    let indices: Vec<usize> = (0..kept.stay)
        .chain(chosen.into_iter().map(|i| i as usize))
        .chain(kept.tail..kept.rows)
        .collect();
    for buffer in buffers {
        keep_rows(buffer, &indices)?;
    }
    Ok(())
}

/// Slots in a row whose keys are rotated anew.
#[derive(Debug, Clone, Copy)]
pub struct SlotRun {
    pub first: usize,
    pub slots: usize,
    /// Slots that share a temporal position.
    pub per_frame: usize,
    /// Temporal positions of the table of angles.
    pub frames: usize,
    /// Rows and columns of the picture, in tokens.
    pub rows: usize,
    pub columns: usize,
    /// Pairs of channels that rotate with frame, row and column.
    pub pairs: [usize; 3],
}

/// Writes keys of a run into `rotated`, from `raw` (both `[capacity, heads, head_dim]`): the temporal position by the
/// place in the run, row and column by the `tags`. `angles` is what [`crate::cache::rope::Rope::table`] gives.
///
/// # Errors
/// When shapes disagree.
pub fn rotate_slots(rotated: &Tensor, raw: &Tensor, tags: &Tensor, angles: &Tensor, run: SlotRun) -> Result<()> {
    let (capacity, _, dim) = raw.dims3()?;
    let [time, row, column] = run.pairs;
    let table = run.frames * time + (run.rows + run.columns) * row;
    let fits = rotated.dims() == raw.dims()
        && dim == 2 * (time + row + column)
        && row == column
        && run.first + run.slots <= capacity
        && run.slots <= run.frames * run.per_frame
        && tags.dims() == [capacity, 2]
        && angles.elem_count() == 2 * table;
    if !fits {
        bail!("rotate_slots: {run:?} does not fit keys {:?}", raw.dims());
    }
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = raw.device() {
        let of = launch::SlotRotation {
            first: run.first,
            slots: run.slots,
            heads: raw.dim(1)?,
            time_pairs: time,
            space_pairs: row,
            per_frame: run.per_frame,
            frames: run.frames,
            rows: run.rows,
            columns: run.columns,
        };
        let from = Operand::of(raw, "rotate_slots")?;
        let launch = launch::rotate_slots(
            from.element("rotate_slots")?,
            Operand::of(rotated, "rotate_slots")?.require(from.dtype, "rotate_slots")?,
            from.at,
            Operand::of(tags, "rotate_slots")?.require(DType::U32, "rotate_slots")?,
            Operand::of(angles, "rotate_slots")?.require(DType::F32, "rotate_slots")?,
            of,
        )?;
        return cuda::run(device, &launch);
    }
    let cells = tags.narrow(0, run.first, run.slots)?.to_vec2::<u32>()?;
    let angles = angles.flatten_all()?.to_vec1::<f32>()?;
    let (mut cos, mut sin) = (Vec::new(), Vec::new());
    for (slot, cell) in cells.iter().enumerate() {
        let cell = cell[0] as usize;
        let parts = [
            (slot / run.per_frame * time, time),
            (run.frames * time + cell / run.columns * row, row),
            (run.frames * time + run.rows * row + cell % run.columns * row, column),
        ];
        for (start, pairs) in parts {
            for pair in angles[2 * start..2 * (start + pairs)].chunks_exact(2) {
                cos.push(pair[0]);
                sin.push(pair[1]);
            }
        }
    }
    let shape = (run.slots, dim / 2);
    let (cos, sin) = (
        Tensor::from_vec(cos, shape, raw.device())?,
        Tensor::from_vec(sin, shape, raw.device())?,
    );
    let turned = rotate(&raw.narrow(0, run.first, run.slots)?, &cos, &sin)?;
    rotated.slice_set(&turned, 0, run.first)
}
