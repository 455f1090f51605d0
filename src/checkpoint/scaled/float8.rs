//! Floating-point numbers of 8 bits (docs/algorithms/weights_fp8.md section 1).

use super::super::element::Source;

/// One sign bit, 4 of exponent, 3 of mantissa; no infinity.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct E4m3(u8);

/// One sign bit, 5 of exponent, 2 of mantissa.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct E5m2(u8);

static E4M3: [f32; 256] = table(3, 7, false);
static E5M2: [f32; 256] = table(2, 15, true);

/// The value of every code. `ieee`: the largest exponent is for infinity and NaN; otherwise only the code of all ones is
/// NaN.
const fn table(mantissa_bits: u32, bias: i32, ieee: bool) -> [f32; 256] {
    let mut values = [0f32; 256];
    let mut code = 0;
    while code < 256 {
        let magnitude = (code & 0x7f) as u32;
        let exponent = (magnitude >> mantissa_bits) as i32;
        let mantissa = magnitude & ((1 << mantissa_bits) - 1);
        let last = 0x7f >> mantissa_bits;
        let value = if ieee && exponent == last {
            if mantissa == 0 { f32::INFINITY } else { f32::NAN }
        } else if !ieee && magnitude == 0x7f {
            f32::NAN
        } else if exponent == 0 {
            mantissa as f32 * power_of_two(1 - bias - mantissa_bits as i32)
        } else {
            (mantissa + (1 << mantissa_bits)) as f32 * power_of_two(exponent - bias - mantissa_bits as i32)
        };
        values[code] = if code & 0x80 == 0 { value } else { -value };
        code += 1;
    }
    values
}

/// 2 to the power of a small number.
const fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

macro_rules! source {
    ($($type:ident, $table:ident;)*) => {$(
        impl Source for $type {
            const SIZE: usize = 1;
            #[inline(always)]
            fn read(bytes: &[u8]) -> Self { Self(bytes.first().copied().unwrap_or_default()) }
            #[inline(always)]
            fn is_finite(self) -> bool { self.as_f32().is_finite() }
            #[inline(always)]
            fn as_f32(self) -> f32 { $table[usize::from(self.0)] }
            #[inline(always)]
            fn as_f64(self) -> f64 { self.as_f32().into() }
            #[inline(always)]
            fn as_i64(self) -> i64 { self.as_f32() as i64 }
        }
    )*};
}

source! {
    E4m3, E4M3;
    E5m2, E5M2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_values_of_the_formats() {
        for (code, value) in [
            (0x00, 0.0),
            (0x01, 0.001953125),
            (0x08, 0.015625),
            (0x38, 1.0),
            (0x40, 2.0),
            (0xb8, -1.0),
            (0x7e, 448.0),
        ] {
            assert_eq!(E4m3::read(&[code]).as_f32(), value, "{code:02x}");
        }
        assert_eq!(E4m3::read(&[0x80]).as_f32().to_bits(), (-0f32).to_bits());
        for (code, value) in [(0x01, 2f32.powi(-16)), (0x3c, 1.0), (0x7b, 57344.0), (0xbc, -1.0)] {
            assert_eq!(E5m2::read(&[code]).as_f32(), value, "{code:02x}");
        }
        let odd = |finite: fn(u8) -> bool| (0..=255).filter(|code| !finite(*code)).collect::<Vec<u8>>();
        assert_eq!(odd(|code| E4m3::read(&[code]).is_finite()), [0x7f, 0xff]);
        let e5m2 = [0x7c, 0x7d, 0x7e, 0x7f, 0xfc, 0xfd, 0xfe, 0xff];
        assert_eq!(odd(|code| E5m2::read(&[code]).is_finite()), e5m2);
    }

    #[test]
    fn sixteen_bits_hold_every_value() {
        for code in 0..=255 {
            for value in [E4m3::read(&[code]).as_f32(), E5m2::read(&[code]).as_f32()] {
                if value.is_finite() {
                    assert_eq!(half::bf16::from_f32(value).to_f32(), value);
                    assert_eq!(half::f16::from_f32(value).to_f32(), value);
                }
            }
        }
    }
}
