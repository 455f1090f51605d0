//! The values of a strided tensor as runs that lie densely, and their conversion.

use rayon::prelude::*;

use super::{
    super::{
        element::{Source, Target},
        scaled::Scales,
    },
    Bad,
};

/// Values that one thread converts at a time.
pub(super) const CHUNK: usize = 1 << 16;

/// Converts parts of a tensor, on all threads.
pub(super) struct Fill<'a> {
    pub(super) runs: &'a Runs,
    pub(super) file: &'a [u8],
    pub(super) scales: Option<&'a Scales>,
}

impl Fill<'_> {
    /// Values number `from`, `from + 1`, … into `out`.
    pub(super) fn of<S: Source, T: Target>(&self, from: usize, out: &mut [T]) -> Result<(), Bad> {
        if out.len() <= CHUNK {
            return self.runs.fill::<S, T>(self.file, self.scales, from, out);
        }
        out.par_chunks_mut(CHUNK).enumerate().try_for_each(|(chunk, out)| {
            self.runs
                .fill::<S, T>(self.file, self.scales, from + chunk * CHUNK, out)
        })
    }
}

/// A sub-tensor at byte `start`.
pub(super) struct Part<'a> {
    pub(super) start: usize,
    /// Number of its first value in the tensor.
    pub(super) first: usize,
    pub(super) shape: &'a [usize],
    pub(super) strides: &'a [usize],
}

/// A strided tensor as runs of equally spaced values: adjacent dimensions that lie densely are one.
pub(super) struct Runs {
    start: usize,
    /// Number of the first value in the tensor.
    first: usize,
    /// Outer dimensions: length and stride in bytes.
    outer: Vec<(usize, usize)>,
    /// Length and stride in bytes of the innermost dimension.
    inner: (usize, usize),
}

impl Runs {
    pub(super) fn new(part: &Part, size: usize) -> Self {
        let mut dims: Vec<(usize, usize)> = Vec::with_capacity(part.shape.len() + 1);
        for (&length, &stride) in part.shape.iter().zip(part.strides) {
            let stride = stride * size;
            match dims.last_mut() {
                _ if length == 1 => {}
                Some(outer) if outer.1 == length * stride => *outer = (outer.0 * length, stride),
                _ => dims.push((length, stride)),
            }
        }
        let inner = dims.pop().unwrap_or((1, size));
        Self {
            start: part.start,
            first: part.first,
            outer: dims,
            inner,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.outer.iter().map(|(length, _)| length).product::<usize>() * self.inner.0
    }

    /// First byte of run number `run`.
    fn position(&self, mut run: usize) -> usize {
        let mut at = self.start;
        for (length, stride) in self.outer.iter().rev() {
            at += run % length * stride;
            run /= length;
        }
        at
    }

    /// Converts values number `from`, `from + 1`, … into `out`.
    fn fill<S: Source, T: Target>(
        &self,
        file: &[u8],
        scales: Option<&Scales>,
        from: usize,
        out: &mut [T],
    ) -> Result<(), Bad> {
        let (length, stride) = self.inner;
        let mut done = 0;
        while done < out.len() {
            let (run, column) = ((from + done) / length, (from + done) % length);
            let mut take = (length - column).min(out.len() - done);
            let scale = scales.map(|scales| {
                let at = self.first + from + done;
                take = take.min(scales.run - at % scales.run);
                scales.values.get(at / scales.run).copied().unwrap_or(f32::NAN)
            });
            let begin = self.position(run) + column * stride;
            let end = begin + (take - 1) * stride + S::SIZE;
            let bytes = file.get(begin..end).ok_or(Bad::OutOfFile)?;
            let out_run = &mut out[done..done + take];
            let dense = || bytes.chunks_exact(S::SIZE).map(S::read);
            let spread = || (0..take).map(|i| S::read(bytes.get(i * stride..).unwrap_or_default()));
            match (stride == S::SIZE, scale) {
                (true, None) => convert_run(dense(), out_run)?,
                (false, None) => convert_run(spread(), out_run)?,
                // The product in f32, which is then rounded once.
                (true, Some(scale)) => convert_run(dense().map(|value| value.as_f32() * scale), out_run)?,
                (false, Some(scale)) => convert_run(spread().map(|value| value.as_f32() * scale), out_run)?,
            }
            done += take;
        }
        Ok(())
    }
}

/// Converts value by value; one pass, so that a file is read once.
pub(super) fn convert_run<S: Source, T: Target>(values: impl Iterator<Item = S>, out: &mut [T]) -> Result<(), Bad> {
    let (mut finite, mut fits) = (true, true);
    for (slot, value) in out.iter_mut().zip(values) {
        let converted = T::convert(value);
        finite &= value.is_finite();
        fits &= converted.fits();
        *slot = converted;
    }
    match (finite, fits) {
        (false, _) => Err(Bad::NotFinite),
        (true, false) => Err(Bad::TooLarge),
        (true, true) => Ok(()),
    }
}
