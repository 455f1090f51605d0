//! Blocks of 32 values with one scale (docs/algorithms/gguf.md section 2).
//!
//! Products are taken in the order in which ggml takes them, in f32, so that every value has the same bits.

use half::f16;

/// Values of IQ4's 16 codes.
pub(super) const IQ4: [f32; 16] = [
    -127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.,
];

/// The f16 at byte `at`.
#[inline(always)]
pub(super) fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// `d`, then 16 bytes of two codes each: the low ones are values 0…15, the high ones 16…31.
#[inline(always)]
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block, 0);
    let (low, high) = out.split_at_mut(16);
    for ((code, low), high) in block[2..].iter().zip(low).zip(high) {
        *low = d * (f32::from(code & 15) - 8.0);
        *high = d * (f32::from(code >> 4) - 8.0);
    }
}

/// As [`q4_0`], with the least value in place of a middle.
#[inline(always)]
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    let (low, high) = out.split_at_mut(16);
    for ((code, low), high) in block[4..].iter().zip(low).zip(high) {
        *low = d * f32::from(code & 15) + m;
        *high = d * f32::from(code >> 4) + m;
    }
}

/// The fifth bits of 32 codes, each worth 16.
#[inline(always)]
fn fifth_bits(block: &[u8], at: usize) -> [u8; 32] {
    let bits = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let mut fifth = [0; 32];
    for (i, fifth) in fifth.iter_mut().enumerate() {
        *fifth = ((bits >> i) & 1) as u8 * 16;
    }
    fifth
}

#[inline(always)]
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let (d, fifth) = (half(block, 0), fifth_bits(block, 2));
    for i in 0..16 {
        let code = block[6 + i];
        out[i] = d * (f32::from(code & 15 | fifth[i]) - 16.0);
        out[i + 16] = d * (f32::from(code >> 4 | fifth[i + 16]) - 16.0);
    }
}

#[inline(always)]
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m, fifth) = (half(block, 0), half(block, 2), fifth_bits(block, 4));
    for i in 0..16 {
        let code = block[8 + i];
        out[i] = d * f32::from(code & 15 | fifth[i]) + m;
        out[i + 16] = d * f32::from(code >> 4 | fifth[i + 16]) + m;
    }
}

#[inline(always)]
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for (code, out) in block[2..].iter().zip(out) {
        *out = d * f32::from(code.cast_signed());
    }
}

#[inline(always)]
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block, 0);
    let (low, high) = out.split_at_mut(16);
    for ((code, low), high) in block[2..].iter().zip(low).zip(high) {
        *low = d * IQ4[usize::from(code & 15)];
        *high = d * IQ4[usize::from(code >> 4)];
    }
}
