//! Temporal flickering as VBench computes it.

use multiversion::multiversion;

/// Mean absolute difference of two pictures over all pixels and channels: `calculate_mae` of
/// [vbench/temporal_flickering.py](https://github.com/Vchitect/VBench/blob/master/vbench/temporal_flickering.py).
pub(super) fn mean_difference(a: &[u8], b: &[u8]) -> f64 {
    sum_of_differences(a, b) as f64 / a.len().max(1) as f64
}

/// The score of a mean of [`mean_difference`] over adjacent pictures: `cal_score` of the same file.
pub(super) fn score(mean: f64) -> f64 {
    (255.0 - mean) / 255.0
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx2", "x86_64+avx2"))]
fn sum_of_differences(a: &[u8], b: &[u8]) -> u64 {
    /// Bytes whose differences are summed in 32 bits.
    const PART: usize = 1 << 16;
    let mut total = 0;
    // Loops, as a closure would be called for every byte: adaptors are not compiled for the same processor.
    for (a, b) in a.chunks(PART).zip(b.chunks(PART)) {
        let mut sum = 0u32;
        for (a, b) in a.iter().zip(b) {
            sum += (i32::from(*a) - i32::from(*b)).unsigned_abs();
        }
        total += u64::from(sum);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_any_length_are_exact() {
        let a: Vec<u8> = (0..200_003).map(|at| (at * 7 % 256) as u8).collect();
        let b: Vec<u8> = (0..200_003).map(|at| (at * 13 % 251) as u8).collect();
        let expected: u64 = a.iter().zip(&b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        assert_eq!(sum_of_differences(&a, &b), expected);
        assert_eq!(mean_difference(&[0; 9], &[255; 9]), 255.0);
        assert_eq!(score(0.0), 1.0);
        assert_eq!(score(255.0), 0.0);
    }
}
