//! The picture that colour, motion and repetition are computed on: reduced until its shorter side is small.

/// Rows or columns beyond which a picture is reduced.
const SHORT_SIDE: usize = 256;

/// By which whole number a picture's sides are divided: the smallest that leaves a shorter side of 256 at most.
pub(super) fn reduction(width: usize, height: usize) -> usize {
    width.min(height).div_ceil(SHORT_SIDE).max(1)
}

/// A picture whose pixels are means of `reduction` × `reduction` pixels, rounded. What does not fill a pixel, at the
/// right and below, is left out.
#[derive(Debug, Default)]
pub(super) struct WorkPicture {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
    /// Sums of the bytes of `reduction` rows, column by column.
    sums: Vec<u32>,
}

impl WorkPicture {
    /// Takes a picture of `width` columns.
    pub fn fill(&mut self, rgb: &[u8], width: usize, reduction: usize) {
        let height = rgb.len() / 3 / width;
        (self.width, self.height) = (width / reduction, height / reduction);
        self.rgb.clear();
        if reduction == 1 {
            self.rgb.extend_from_slice(rgb);
            return;
        }
        self.sums.resize(self.width * reduction * 3, 0);
        self.rgb.resize(self.width * self.height * 3, 0);
        let rows = rgb.chunks_exact(width * 3 * reduction);
        for (rows, reduced) in rows.zip(self.rgb.chunks_exact_mut(self.width * 3)) {
            match reduction {
                // Sizes of the usual videos, for which the loops are unrolled.
                2 => reduce_rows(rows, width, 2, &mut self.sums, reduced),
                3 => reduce_rows(rows, width, 3, &mut self.sums, reduced),
                _ => reduce_rows(rows, width, reduction, &mut self.sums, reduced),
            }
        }
    }
}

/// One row of reduced pixels, of `reduction` rows of `width` pixels.
#[inline(always)]
fn reduce_rows(rows: &[u8], width: usize, reduction: usize, sums: &mut [u32], reduced: &mut [u8]) {
    sums.fill(0);
    for row in rows.chunks_exact(width * 3) {
        for (sum, &byte) in sums.iter_mut().zip(row) {
            *sum += u32::from(byte);
        }
    }
    let area = (reduction * reduction) as u32;
    for (pixels, pixel) in sums.chunks_exact(3 * reduction).zip(reduced.chunks_exact_mut(3)) {
        let mut total = [area / 2; 3];
        for column in pixels.chunks_exact(3) {
            for (total, sum) in total.iter_mut().zip(column) {
                *total += sum;
            }
        }
        for (byte, total) in pixel.iter_mut().zip(total) {
            *byte = (total / area) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_reduced_only_as_far_as_needed() {
        let sizes = [
            (1, 1, 1),
            (96, 96, 1),
            (256, 300, 1),
            (832, 480, 2),
            (1920, 1080, 5),
            (7680, 4320, 17),
            (16_384, 1, 1),
        ];
        for (width, height, expected) in sizes {
            assert_eq!(reduction(width, height), expected, "{width}x{height}");
        }
    }

    #[test]
    fn pixels_are_rounded_means_and_what_is_left_over_is_left_out() {
        let grey = [0, 1, 9, 1, 0, 9, 9, 9, 9];
        let rgb: Vec<u8> = grey.iter().flat_map(|&grey| [grey, 2 * grey, 200]).collect();
        let mut work = WorkPicture::default();
        work.fill(&rgb, 3, 2);
        assert_eq!((work.width, work.height, &work.rgb[..]), (1, 1, &[1, 1, 200][..]));
        work.fill(&rgb, 3, 1);
        assert_eq!((work.width, work.height), (3, 3));
        assert_eq!(work.rgb, rgb);
    }
}
