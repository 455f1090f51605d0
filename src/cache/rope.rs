//! Rotary position embeddings over three axes, from integer positions: no table, no last frame
//! (docs/algorithms/causal_dit.md section 4).

use candle_core::{Device, Result, Tensor};

/// Position of a token on the three axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenPosition {
    /// Latent frame; may be negative.
    pub time: i64,
    pub row: u32,
    pub column: u32,
}

/// Frequencies of the pairs of adjacent channels of a head.
#[derive(Debug, Clone)]
pub struct Rope {
    time: Vec<f64>,
    row: Vec<f64>,
    column: Vec<f64>,
}

/// Cosines and sines, `[tokens, head_dim/2]` each, f32.
#[derive(Clone)]
pub struct Angles {
    pub cos: Tensor,
    pub sin: Tensor,
}

impl Rope {
    /// With `c = head_dim/2`, the first `c − 2·⌊c/3⌋` pairs rotate with the frame, the next `⌊c/3⌋` with the row, the
    /// last `⌊c/3⌋` with the column; pair `i` of `n` at frequency `10000^(−i/n)`.
    pub fn new(head_dim: usize) -> Self {
        let pairs = head_dim / 2;
        let spatial = pairs / 3;
        let frequencies = |n: usize| (0..n).map(|i| 10000f64.powf(-(i as f64) / n as f64)).collect();
        Self {
            time: frequencies(pairs - 2 * spatial),
            row: frequencies(spatial),
            column: frequencies(spatial),
        }
    }

    /// Pairs of channels that rotate with frame, row and column.
    pub fn pairs(&self) -> [usize; 3] {
        [self.time.len(), self.row.len(), self.column.len()]
    }

    /// Angles of tokens, computed in f64 and rounded once.
    ///
    /// # Errors
    /// On a device failure.
    pub fn angles(&self, positions: impl Iterator<Item = TokenPosition>, device: &Device) -> Result<Angles> {
        let pairs = self.pairs().iter().sum::<usize>();
        let (mut time, mut rows, mut columns) = (Axis::new(&self.time), Axis::new(&self.row), Axis::new(&self.column));
        let (mut cos, mut sin, mut tokens) = (Vec::new(), Vec::new(), 0);
        for position in positions {
            tokens += 1;
            let parts = [
                time.at(position.time),
                rows.at(position.row.into()),
                columns.at(position.column.into()),
            ];
            for part in parts {
                cos.extend(part.iter().map(|(c, _)| *c));
                sin.extend(part.iter().map(|(_, s)| *s));
            }
        }
        Ok(Angles {
            cos: Tensor::from_vec(cos, (tokens, pairs), device)?,
            sin: Tensor::from_vec(sin, (tokens, pairs), device)?,
        })
    }

    /// Pairs (cosine, sine), computed in f64 and rounded once: those of the frame at each of `times`, then those of the
    /// row at each of `rows` rows, then those of the column at each of `columns` columns.
    pub fn table(&self, times: &[i64], rows: usize, columns: usize) -> Vec<f32> {
        let pairs = |frequencies: &[f64], position: i64| -> Vec<f32> {
            let angle = |f: &f64| (position as f64 * f).sin_cos();
            let both = |(sin, cos): (f64, f64)| [cos as f32, sin as f32];
            frequencies.iter().map(angle).flat_map(both).collect()
        };
        let times = times.iter().flat_map(|time| pairs(&self.time, *time));
        let rows = (0..rows as i64).flat_map(|row| pairs(&self.row, row));
        let columns = (0..columns as i64).flat_map(|column| pairs(&self.column, column));
        times.chain(rows).chain(columns).collect()
    }

    /// Angles of a chunk: `frames` latent frames from position `start`, tokens ordered frame, row, column.
    ///
    /// # Errors
    /// On a device failure.
    pub fn chunk_angles(
        &self,
        start: i64,
        frames: usize,
        rows: usize,
        columns: usize,
        device: &Device,
    ) -> Result<Angles> {
        let positions = (0..frames as i64).flat_map(|frame| {
            (0..rows as u32).flat_map(move |row| {
                (0..columns as u32).map(move |column| TokenPosition {
                    time: start + frame,
                    row,
                    column,
                })
            })
        });
        self.angles(positions, device)
    }
}

/// Cosines and sines of one axis, remembered per position: neighbours share most of theirs.
struct Axis<'a> {
    frequencies: &'a [f64],
    known: std::collections::HashMap<i64, Vec<(f32, f32)>>,
}

impl<'a> Axis<'a> {
    fn new(frequencies: &'a [f64]) -> Self {
        Self {
            frequencies,
            known: Default::default(),
        }
    }

    fn at(&mut self, position: i64) -> &[(f32, f32)] {
        self.known.entry(position).or_insert_with(|| {
            let angle = |f: &f64| (position as f64 * f).sin_cos();
            let pair = |(sin, cos): (f64, f64)| (cos as f32, sin as f32);
            self.frequencies.iter().map(angle).map(pair).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_shared_out_as_the_table_says() {
        for (head_dim, time, row, column) in [(128, 22, 21, 21), (80, 14, 13, 13), (64, 12, 10, 10), (48, 8, 8, 8)] {
            let rope = Rope::new(head_dim);
            assert_eq!(
                (rope.time.len(), rope.row.len(), rope.column.len()),
                (time, row, column)
            );
        }
    }

    #[test]
    fn far_positions_keep_their_precision() {
        let rope = Rope::new(128);
        let angles = rope.chunk_angles(1_000_003, 1, 1, 1, &Device::Cpu).unwrap();
        let cos = angles.cos.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!((cos[0] as f64 - 1_000_003f64.cos()).abs() < 1e-7);
    }
}
