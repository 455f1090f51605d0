//! Sharpness: variance of the Laplacian.

use multiversion::multiversion;

/// Variance of `4 c - left - right - above - below` over the inner pixels of a luma plane; none without any.
///
/// Source: J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000; the kernel of OpenCV's
/// `Laplacian` with aperture 1.
pub(super) fn sharpness(luma: &[u8], width: usize) -> Option<f64> {
    let height = luma.len() / width;
    if width < 3 || height < 3 {
        return None;
    }
    let (mut sum, mut squares) = (0, 0);
    for row in 1..height - 1 {
        let line = |row: usize| &luma[row * width..(row + 1) * width];
        let (row_sum, row_squares) = row_sums(line(row - 1), line(row), line(row + 1));
        sum += row_sum;
        squares += row_squares;
    }
    let count = ((width - 2) * (height - 2)) as f64;
    let mean = sum as f64 / count;
    Some(squares as f64 / count - mean * mean)
}

/// Sum and sum of squares of the Laplacian of a line.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx2", "x86_64+avx2"))]
fn row_sums(above: &[u8], line: &[u8], below: &[u8]) -> (i64, i64) {
    /// Pixels whose squares, 1020² at most, are summed in 32 bits.
    const PART: usize = 1024;
    let inner = line.len() - 2;
    let (mut sum, mut squares) = (0i64, 0i64);
    for from in (0..inner).step_by(PART) {
        let count = PART.min(inner - from);
        let left = &line[from..][..count];
        let centre = &line[from + 1..][..count];
        let right = &line[from + 2..][..count];
        let above = &above[from + 1..][..count];
        let below = &below[from + 1..][..count];
        let (mut part_sum, mut part_squares) = (0i32, 0i32);
        for at in 0..count {
            let [c, l, r, a, b] = [centre[at], left[at], right[at], above[at], below[at]].map(i32::from);
            let value = 4 * c - l - r - a - b;
            part_sum += value;
            part_squares += value * value;
        }
        sum += i64::from(part_sum);
        squares += i64::from(part_squares);
    }
    (sum, squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_pictures_and_ramps_have_none_and_a_dot_has_its_own() {
        assert_eq!(sharpness(&[9; 12], 4), Some(0.0));
        let ramp: Vec<u8> = (0..25).map(|at| (at % 5 * 10 + at / 5 * 3) as u8).collect();
        assert_eq!(sharpness(&ramp, 5), Some(0.0));
        // 4, and four times -1, of nine inner pixels.
        let mut dot = [0; 25];
        dot[12] = 1;
        assert_eq!(sharpness(&dot, 5), Some(20.0 / 9.0));
        assert_eq!(sharpness(&[1, 2, 3, 4], 2), None);
    }

    #[test]
    fn the_strongest_pattern_on_the_widest_picture_does_not_overflow() {
        let width = 16_384;
        let pattern: Vec<u8> = (0..3 * width)
            .map(|at| if (at % width + at / width) % 2 == 0 { 255 } else { 0 })
            .collect();
        let value = sharpness(&pattern, width).unwrap();
        assert!((value - 1020.0 * 1020.0).abs() < 1.0, "{value}");
    }
}
