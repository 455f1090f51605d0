//! Pictures before a network sees them: cut to its proportions, made smaller or larger.
//!
//! Own code, because the results are to be those of the libraries that the models were trained with, to the last bit: the
//! 8-bit resizing of Pillow, which rounds between its two directions and computes in 22 bits behind the point, and
//! PyTorch's bicubic interpolation, which does not look at more pixels when it makes a picture smaller.

/// Bits behind the point of the 8-bit resizing's weights.
const PRECISION: u32 = 32 - 8 - 2;
/// Of the bicubic kernel.
const CUBIC: f64 = -0.75;

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub width: usize,
    pub height: usize,
}

/// A part of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub left: usize,
    pub top: usize,
    pub extent: Extent,
}

/// The middle of a picture with the proportions of `target`, its edges on whole pixels, halves to even numbers.
pub fn centre(picture: Extent, target: Extent) -> Cut {
    let Extent { width, height } = picture;
    let wide = |a: usize, b: usize| a as u128 * b as u128;
    let (new_width, new_height) = if wide(height, target.width) > wide(width, target.height) {
        (
            width,
            (wide(width, target.height) / target.width.max(1) as u128) as usize,
        )
    } else {
        (
            (wide(height, target.width) / target.height.max(1) as u128) as usize,
            height,
        )
    };
    // A picture of extreme proportions keeps one row or column.
    let (new_width, new_height) = (new_width.max(1), new_height.max(1));
    let edges = |whole: usize, part: usize| {
        let start = half_to_even(whole - part);
        // Both edges may round to the same place where one row or column is left.
        (start, half_to_even(whole + part).max(start + 1) - start)
    };
    let ((left, width), (top, height)) = (edges(width, new_width), edges(height, new_height));
    Cut {
        left,
        top,
        extent: Extent { width, height },
    }
}

/// Half of a number, rounded to the even neighbour.
fn half_to_even(twice: usize) -> usize {
    let half = twice / 2;
    half + usize::from(twice % 2 == 1 && half % 2 == 1)
}

/// The part `cut` of an RGB picture `width` pixels wide.
pub fn cut_out(rgb: &[u8], width: usize, cut: Cut) -> Vec<u8> {
    let rows = rgb.chunks_exact(3 * width).skip(cut.top).take(cut.extent.height);
    rows.flat_map(|row| &row[3 * cut.left..][..3 * cut.extent.width])
        .copied()
        .collect()
}

/// Weights of the pixels that one pixel of the result is made of.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Those of a triangle whose half base is a pixel of the result, but at least one of the source.
fn triangle(source: usize, target: usize) -> Vec<Taps> {
    let scale = source as f64 / target as f64;
    let support = scale.max(1.0);
    let taps = |place: usize| {
        let centre = (place as f64 + 0.5) * scale;
        // Truncation is meant: the numbers are clipped at 0.
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(source);
        let weight = |at: usize| (1.0 - ((at as f64 - centre + 0.5) / support).abs()).max(0.0);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: f64| (weight / sum * f64::from(1 << PRECISION) + 0.5) as i32;
        Taps {
            first,
            weights: weights.into_iter().map(fixed).collect(),
        }
    };
    (0..target).map(taps).collect()
}

/// One pixel's channel from `value` of the source's pixels.
fn weigh(taps: &Taps, value: impl Fn(usize) -> u8) -> u8 {
    let pixels = taps.weights.iter().enumerate();
    let sum: i32 = pixels
        .map(|(i, weight)| i32::from(value(taps.first + i)) * weight)
        .sum();
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

/// Resizes an RGB picture in 8 bits, bilinear, averaging over all pixels when it is made smaller.
pub fn resize(rgb: &[u8], from: Extent, to: Extent) -> Vec<u8> {
    let columns = triangle(from.width, to.width);
    let mut narrow = Vec::with_capacity(3 * to.width * from.height);
    for row in rgb.chunks_exact(3 * from.width.max(1)).take(from.height) {
        for taps in &columns {
            narrow.extend((0..3).map(|channel| weigh(taps, |x| row[3 * x + channel])));
        }
    }
    let stride = 3 * to.width;
    let mut out = Vec::with_capacity(stride * to.height);
    for taps in &triangle(from.height, to.height) {
        out.extend((0..stride).map(|at| weigh(taps, |y| narrow[y * stride + at])));
    }
    out
}

/// The middle of an RGB picture in the size `target`.
pub fn fit(rgb: &[u8], picture: Extent, target: Extent) -> Vec<u8> {
    let cut = centre(picture, target);
    resize(&cut_out(rgb, picture.width, cut), cut.extent, target)
}

/// 8-bit RGB as three planes in −1…1, as the autoencoder and the vision tower take a picture: `v/255`, then
/// `(v − 0.5)/0.5`.
pub fn planes(rgb: &[u8]) -> Vec<f32> {
    let channel = |channel: usize| rgb.iter().skip(channel).step_by(3);
    (0..3)
        .flat_map(channel)
        .map(|value| (f32::from(*value) / 255.0 - 0.5) / 0.5)
        .collect()
}

/// Resizes a plane to `side`×`side`: bicubic with a = −0.75, pixel centres at halves, without averaging, edges repeated.
pub fn bicubic(plane: &[f32], from: Extent, side: usize) -> Vec<f32> {
    let axis = |source: usize| -> Vec<[(usize, f64); 4]> {
        let scale = source as f64 / side as f64;
        let taps = |place: usize| {
            let real = scale * (place as f64 + 0.5) - 0.5;
            let at = real.floor();
            let fraction = real - at;
            let distances = [1.0 + fraction, fraction, 1.0 - fraction, 2.0 - fraction];
            std::array::from_fn(|i| {
                let index = (at as i64 + i as i64 - 1).clamp(0, source as i64 - 1);
                (index as usize, cubic(distances[i]))
            })
        };
        (0..side).map(taps).collect()
    };
    let (columns, rows) = (axis(from.width), axis(from.height));
    let mut out = Vec::with_capacity(side * side);
    for row in &rows {
        for column in &columns {
            let along = |y: usize| -> f64 {
                let taps = column.iter();
                taps.map(|(x, weight)| f64::from(plane[y * from.width + x]) * weight)
                    .sum()
            };
            out.push(row.iter().map(|(y, weight)| along(*y) * weight).sum::<f64>() as f32);
        }
    }
    out
}

/// The kernel of cubic convolution at a distance below 2.
fn cubic(x: f64) -> f64 {
    if x <= 1.0 {
        ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0
    } else {
        ((CUBIC * x - 5.0 * CUBIC) * x + 8.0 * CUBIC) * x - 4.0 * CUBIC
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extent(width: usize, height: usize) -> Extent {
        Extent { width, height }
    }

    #[test]
    fn the_middle_is_cut_out() {
        let target = extent(80, 44);
        let cut = |width, height| {
            let Cut { left, top, extent } = centre(extent(width, height), target);
            (left, top, extent.width, extent.height)
        };
        // Numbers from the reference's own rounding.
        assert_eq!(cut(123, 51), (16, 0, 92, 51));
        assert_eq!(cut(67, 120), (0, 42, 67, 36));
        assert_eq!(cut(91, 51), (0, 0, 91, 50));
        assert_eq!(cut(80, 44), (0, 0, 80, 44));
        assert_eq!(cut(1, 1), (0, 0, 1, 1));
    }

    #[test]
    fn a_picture_of_the_right_size_stays() {
        let rgb: Vec<u8> = (0..8 * 4 * 3).map(|n| (n * 7 % 256) as u8).collect();
        assert_eq!(fit(&rgb, extent(8, 4), extent(8, 4)), rgb);
        let plane: Vec<f32> = (0..25).map(|n| n as f32).collect();
        assert_eq!(bicubic(&plane, extent(5, 5), 5), plane);
    }

    #[test]
    fn a_smaller_picture_averages_all_that_it_covers() {
        // A triangle over all four: weights 0.625, 0.875, 0.875 and 0.625 of 3.
        let rgb = [0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0];
        assert_eq!(resize(&rgb, extent(4, 1), extent(1, 1)), [149; 3]);
    }

    proptest! {
        #[test]
        fn any_size_becomes_any_other_and_grey_stays_grey(
            width in 1usize..60, height in 1usize..60, target_width in 1usize..40, target_height in 1usize..40, grey: u8,
        ) {
            let (from, to) = (extent(width, height), extent(target_width, target_height));
            let cut = centre(from, to);
            prop_assert!(cut.left + cut.extent.width <= width && cut.top + cut.extent.height <= height);
            let fitted = fit(&vec![grey; 3 * width * height], from, to);
            prop_assert_eq!(fitted, vec![grey; 3 * target_width * target_height]);
            let plane = bicubic(&vec![f32::from(grey); width * height], from, 7);
            prop_assert!(plane.iter().all(|value| (value - f32::from(grey)).abs() < 1e-3));
        }
    }
}
