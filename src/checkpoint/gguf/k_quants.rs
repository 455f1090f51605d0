//! Blocks of 256 values with scales for each 16 or 32 of them (docs/algorithms/gguf.md section 2).
//!
//! Products are taken in the order in which ggml takes them, in f32, so that every value has the same bits.

use super::legacy::{IQ4, half};

/// 16 scales and least values, codes of 2 bits, `d`, `dmin`.
#[inline(always)]
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, codes) = (&block[..16], &block[16..80]);
    let (d, dmin) = (half(block, 80), half(block, 82));
    for (j, out) in out.chunks_exact_mut(16).enumerate() {
        let (h, shift, g) = (j / 8, j % 8 / 2 * 2, j % 2);
        let scale = d * f32::from(scales[j] & 15);
        let least = dmin * f32::from(scales[j] >> 4);
        for (code, out) in codes[32 * h + 16 * g..].iter().zip(out) {
            *out = scale * f32::from(code >> shift & 3) - least;
        }
    }
}

/// Third bits, codes of 2 bits, 16 scales of 6 bits, `d`.
#[inline(always)]
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (third, codes, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half(block, 108);
    for (j, out) in out.chunks_exact_mut(16).enumerate() {
        let (h, k, g) = (j / 8, j % 8 / 2, j % 2);
        let low = scales[j % 8] >> (4 * (j / 8)) & 15;
        let high = scales[8 + j % 4] >> (2 * (j / 4)) & 3;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        let codes = codes[32 * h + 16 * g..].iter().zip(&third[16 * g..]);
        for ((code, third), out) in codes.zip(out) {
            let value = (code >> (2 * k) & 3) | (third >> (4 * h + k) & 1) << 2;
            *out = scale * (f32::from(value) - 4.0);
        }
    }
}

/// Scale and least value of sub-block `j` of 8, in 6 bits each.
#[inline(always)]
fn scale_and_least(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, least) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (
            packed[j + 4] & 15 | (packed[j - 4] >> 6) << 4,
            packed[j + 4] >> 4 | (packed[j] >> 6) << 4,
        )
    };
    (f32::from(scale), f32::from(least))
}

/// `d`, `dmin`, scales, codes of 4 bits: two sub-blocks of 32 in the halves of the same bytes.
#[inline(always)]
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin, scales, codes) = (half(block, 0), half(block, 2), &block[4..16], &block[16..]);
    for (j, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, least) = scale_and_least(scales, j);
        let (scale, least) = (d * scale, dmin * least);
        for (code, out) in codes[32 * (j / 2)..].iter().zip(out) {
            *out = scale * f32::from(code >> (4 * (j % 2)) & 15) - least;
        }
    }
}

/// As [`q4_k`], with a fifth bit for each code.
#[inline(always)]
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin, scales) = (half(block, 0), half(block, 2), &block[4..16]);
    let (fifth, codes) = (&block[16..48], &block[48..]);
    for (j, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, least) = scale_and_least(scales, j);
        let (scale, least) = (d * scale, dmin * least);
        for ((code, fifth), out) in codes[32 * (j / 2)..].iter().zip(fifth).zip(out) {
            let code = (code >> (4 * (j % 2)) & 15) | (fifth >> j & 1) << 4;
            *out = scale * f32::from(code) - least;
        }
    }
}

/// Low four bits, high two bits, 16 scales, `d`.
#[inline(always)]
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half(block, 208);
    for (j, out) in out.chunks_exact_mut(16).enumerate() {
        // Half of the block, quarter of the half, half of the quarter.
        let (h, k, g) = (j / 8, j % 8 / 2, j % 2);
        let scale = d * f32::from(scales[j].cast_signed());
        let low = low[64 * h + 32 * (k % 2) + 16 * g..].iter();
        for ((low, high), out) in low.zip(&high[32 * h + 16 * g..]).zip(out) {
            let code = (low >> (4 * (k / 2)) & 15) | (high >> (2 * k) & 3) << 4;
            *out = scale * (f32::from(code) - 32.0);
        }
    }
}

/// `d`, high and low bits of 8 scales, codes of 4 bits.
#[inline(always)]
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    for (j, out) in out.chunks_exact_mut(32).enumerate() {
        let low = block[4 + j / 2] >> (4 * (j % 2)) & 15;
        let scale = d * (f32::from(low | ((high >> (2 * j) & 3) as u8) << 4) - 32.0);
        let (first, second) = out.split_at_mut(16);
        for ((code, first), second) in block[8 + 16 * j..].iter().zip(first).zip(second) {
            *first = scale * IQ4[usize::from(code & 15)];
            *second = scale * IQ4[usize::from(code >> 4)];
        }
    }
}
