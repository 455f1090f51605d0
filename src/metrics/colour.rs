//! CIELAB: mean colour, lightness contrast and chroma of a picture.

use std::sync::LazyLock;

use multiversion::multiversion;

/// A colour in CIELAB (D65): L*, a*, b*.
pub type Lab = [f64; 3];

/// What the pixels of one picture are in CIELAB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Colour {
    /// Mean of all pixels.
    pub mean: Lab,
    /// Standard deviation of L*.
    pub contrast: f64,
    /// Mean of the chroma C* = √(a*² + b*²).
    pub saturation: f64,
}

/// ΔE*ab of CIE 1976: the Euclidean distance.
pub(super) fn delta_e(a: Lab, b: Lab) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

/// Light of an sRGB byte, 0 to 1 (IEC 61966-2-1).
static LIGHT: LazyLock<[f32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|byte| {
        let value = byte as f64 / 255.0;
        let light = match value <= 0.04045 {
            true => value / 12.92,
            false => ((value + 0.055) / 1.055).powf(2.4),
        };
        light as f32
    })
});

/// Pixels that are converted together.
const LANES: usize = 16;

/// Sums over pixels, lane by lane, so that every processor adds in the same order.
struct Sums {
    l: [f64; LANES],
    l_squares: [f64; LANES],
    a: [f64; LANES],
    b: [f64; LANES],
    chroma: [f64; LANES],
}

/// What the RGB bytes of a picture, one pixel at least, are in CIELAB.
pub(super) fn colour(rgb: &[u8]) -> Colour {
    let sums = sums(rgb, &LIGHT);
    let count = (rgb.len() / 3).max(1) as f64;
    let mean = |lanes: &[f64; LANES]| lanes.iter().sum::<f64>() / count;
    let l = mean(&sums.l);
    Colour {
        mean: [l, mean(&sums.a), mean(&sums.b)],
        contrast: (mean(&sums.l_squares) - l * l).max(0.0).sqrt(),
        saturation: mean(&sums.chroma),
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx2", "x86_64+avx2"))]
fn sums(rgb: &[u8], light: &[f32; 256]) -> Sums {
    const ZERO: [f64; LANES] = [0.0; LANES];
    let mut sums = Sums {
        l: ZERO,
        l_squares: ZERO,
        a: ZERO,
        b: ZERO,
        chroma: ZERO,
    };
    for pixels in rgb.chunks(3 * LANES) {
        // Lanes beyond the last pixel stay black, which adds nothing.
        let mut lanes = [[0f32; LANES]; 3];
        for (at, pixel) in pixels.chunks_exact(3).enumerate() {
            for (lane, &byte) in lanes.iter_mut().zip(pixel) {
                lane[at] = light[usize::from(byte)];
            }
        }
        let [red, green, blue] = lanes;
        for at in 0..LANES {
            let [l, a, b] = lab(red[at], green[at], blue[at]);
            let (l64, chroma) = (f64::from(l), f64::from((a * a + b * b).sqrt()));
            sums.l[at] += l64;
            sums.l_squares[at] += l64 * l64;
            sums.a[at] += f64::from(a);
            sums.b[at] += f64::from(b);
            sums.chroma[at] += chroma;
        }
    }
    sums
}

/// CIELAB of light in sRGB's primaries, under D65.
#[inline(always)]
fn lab(r: f32, g: f32, b: f32) -> [f32; 3] {
    // Rows of the matrix to XYZ, each divided by its sum, which is the white.
    let x = (0.412_456_4 * r + 0.357_576_1 * g + 0.180_437_5 * b) / 0.950_47;
    let y = 0.212_672_9 * r + 0.715_152_2 * g + 0.072_175 * b;
    let z = (0.019_333_9 * r + 0.119_192 * g + 0.950_304_1 * b) / 1.088_83;
    let (x, y, z) = (curve(x), curve(y), curve(z));
    [116.0 * (y - CURVE_OF_BLACK), 500.0 * (x - y), 200.0 * (y - z)]
}

const CURVE_OF_BLACK: f32 = 16.0 / 116.0;

/// The cube root, with a straight beginning.
#[inline(always)]
fn curve(t: f32) -> f32 {
    let straight = (24_389.0 / 27.0 / 116.0) * t + CURVE_OF_BLACK;
    // Halley's iteration from a guess by the exponent; unlike the library's function, computed for many lanes at once.
    let mut root = f32::from_bits(t.to_bits() / 3 + 709_921_077);
    for _ in 0..2 {
        let cube = root * root * root;
        root *= (cube + 2.0 * t) / (2.0 * cube + t);
    }
    if t > 216.0 / 24_389.0 { root } else { straight }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 2e-3, "{found} instead of {expected}");
    }

    /// Values of the CIELAB standard's formula for sRGB colours, as published converters give them.
    #[test]
    fn known_colours() {
        for (rgb, lab) in [
            ([0, 0, 0], [0.0, 0.0, 0.0]),
            ([255, 255, 255], [100.0, 0.0, 0.0]),
            ([255, 0, 0], [53.2408, 80.0925, 67.2032]),
            ([0, 255, 0], [87.7347, -86.1827, 83.1793]),
            ([0, 0, 255], [32.2970, 79.1875, -107.8602]),
            ([119, 119, 119], [50.0344, 0.0, 0.0]),
        ] {
            let found = colour(&rgb.repeat(21));
            for (found, expected) in found.mean.into_iter().zip(lab) {
                assert!(
                    (found - expected).abs() < 0.02,
                    "{rgb:?}: {found} instead of {expected}"
                );
            }
            near(found.contrast, 0.0);
            assert!((found.saturation - delta_e([lab[0], 0.0, 0.0], lab)).abs() < 0.02);
        }
    }

    #[test]
    fn contrast_is_the_deviation_of_lightness() {
        let found = colour(&[[0; 3], [255; 3]].concat().repeat(37));
        near(found.mean[0], 50.0);
        near(found.contrast, 50.0);
    }

    proptest! {
        #[test]
        fn the_curve_is_the_cube_root(t in 0.009f32..1.2) {
            prop_assert!((curve(t) - t.cbrt()).abs() < 3e-7);
        }
    }
}
