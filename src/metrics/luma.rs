//! Luma of a picture, its histogram, and how far two histograms are apart.

use multiversion::multiversion;

/// Number of grey levels.
pub(super) const LEVELS: usize = 256;

/// BT.709 luma of RGB bytes: (54 R + 183 G + 19 B + 128) / 256, rounded down.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx2", "x86_64+avx2"))]
pub(super) fn luma(rgb: &[u8], luma: &mut [u8]) {
    for (grey, pixel) in luma.iter_mut().zip(rgb.chunks_exact(3)) {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u16::from);
        *grey = ((54 * r + 183 * g + 19 * b + 128) >> 8) as u8;
    }
}

/// How many pixels have each grey level.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram(Box<[u64; LEVELS]>);

impl Histogram {
    pub fn empty() -> Self {
        Self(Box::new([0; LEVELS]))
    }

    pub fn of(luma: &[u8]) -> Self {
        // Four counters for each level: neighbouring pixels are often equal, and would wait for each other.
        let mut counts = [[0u32; LEVELS]; 4];
        let (fours, rest) = luma.as_chunks::<4>();
        for four in fours {
            for (counts, &grey) in counts.iter_mut().zip(four) {
                counts[usize::from(grey)] += 1;
            }
        }
        for &grey in rest {
            counts[0][usize::from(grey)] += 1;
        }
        let mut histogram = Self::empty();
        for (level, total) in histogram.0.iter_mut().enumerate() {
            *total = counts.iter().map(|counts| u64::from(counts[level])).sum();
        }
        histogram
    }

    pub fn add(&mut self, other: &Self) {
        for (own, more) in self.0.iter_mut().zip(other.0.iter()) {
            *own += more;
        }
    }

    /// Earth mover's distance in grey levels: the sum of what the cumulative shares of pixels differ. How far, on
    /// average, a pixel's luma has to be moved to make one histogram of the other.
    pub fn distance(&self, other: &Self) -> f64 {
        let total = |histogram: &Self| histogram.0.iter().sum::<u64>().max(1) as f64;
        let (own_total, other_total) = (total(self), total(other));
        let (mut own, mut others, mut distance) = (0, 0, 0.0);
        for (a, b) in self.0.iter().zip(other.0.iter()) {
            own += a;
            others += b;
            distance += (own as f64 / own_total - others as f64 / other_total).abs();
        }
        distance
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grey_keeps_its_level_and_primaries_have_their_weights() {
        let rgb = [
            [0, 0, 0],
            [77, 77, 77],
            [255, 255, 255],
            [255, 0, 0],
            [0, 255, 0],
            [0, 0, 255],
        ]
        .concat();
        let mut grey = [0; 6];
        luma(&rgb, &mut grey);
        assert_eq!(grey, [0, 77, 255, 54, 182, 19]);
    }

    proptest! {
        /// A shift by n levels is a distance of n, whatever the picture.
        #[test]
        fn a_shift_is_its_own_distance(greys in prop::collection::vec(0u8..200, 1..200), shift in 0u8..55) {
            let shifted: Vec<u8> = greys.iter().map(|grey| grey + shift).collect();
            let (before, after) = (Histogram::of(&greys), Histogram::of(&shifted));
            prop_assert!((before.distance(&after) - f64::from(shift)).abs() < 1e-9);
            prop_assert_eq!(before.distance(&after), after.distance(&before));
        }
    }
}
