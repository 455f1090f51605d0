//! The types of values in GGUF files, as one table (docs/algorithms/gguf.md section 2).

use multiversion::multiversion;

use super::{k_quants as k, legacy as l};

/// A type whose values lie in blocks that share scales.
#[derive(Clone, Copy)]
pub struct BlockType {
    /// Number in files.
    number: u32,
    /// As ggml names it: `Q4_K`.
    name: &'static str,
    /// Values of a block.
    values: usize,
    /// Bytes of a block.
    bytes: usize,
    /// Decodes whole blocks: `bytes · n` into `values · n` numbers.
    decode: fn(&[u8], &mut [f32]),
}

impl BlockType {
    /// Its number in files.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// As ggml names it: `Q4_K`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Number of values in a block.
    pub fn values(&self) -> usize {
        self.values
    }

    /// Number of bytes of a block.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Decodes whole blocks; what is behind the last whole block on either side is left alone.
    pub fn decode(&self, blocks: &[u8], out: &mut [f32]) {
        (self.decode)(blocks, out);
    }

    /// The type of this [name](Self::name).
    pub fn named(name: &str) -> Option<&'static Self> {
        BLOCK_TYPES.iter().find(|kind| kind.name == name)
    }

    /// The type with this number in a file.
    pub(super) fn of(number: u32) -> Option<&'static Self> {
        BLOCK_TYPES.iter().find(|kind| kind.number == number)
    }

    /// All types, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        BLOCK_TYPES.iter()
    }
}

impl PartialEq for BlockType {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for BlockType {}

impl std::fmt::Debug for BlockType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Makes the table: number in files, name, values and bytes of a block, and what decodes one.
macro_rules! block_types {
    ($($number:literal $name:literal $values:literal / $bytes:literal $block:path;)*) => {
        static BLOCK_TYPES: &[BlockType] = &[$(BlockType {
            number: $number,
            name: $name,
            values: $values,
            bytes: $bytes,
            decode: {
                #[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx2", "x86_64+avx2"))]
                fn decode(blocks: &[u8], out: &mut [f32]) {
                    let blocks = blocks.as_chunks::<$bytes>().0.iter();
                    for (block, out) in blocks.zip(out.as_chunks_mut::<$values>().0) {
                        $block(block, out);
                    }
                }
                decode
            },
        },)*];
    };
}

block_types! {
    2 "Q4_0" 32 / 18 l::q4_0;
    3 "Q4_1" 32 / 20 l::q4_1;
    6 "Q5_0" 32 / 22 l::q5_0;
    7 "Q5_1" 32 / 24 l::q5_1;
    8 "Q8_0" 32 / 34 l::q8_0;
    10 "Q2_K" 256 / 84 k::q2_k;
    11 "Q3_K" 256 / 110 k::q3_k;
    12 "Q4_K" 256 / 144 k::q4_k;
    13 "Q5_K" 256 / 176 k::q5_k;
    14 "Q6_K" 256 / 210 k::q6_k;
    20 "IQ4_NL" 32 / 18 l::iq4_nl;
    23 "IQ4_XS" 256 / 136 k::iq4_xs;
}

/// Types that are known by name and not read.
const OTHERS: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (39, "MXFP4"),
];

/// Name of a type that is not read, if it has one.
pub(super) fn other(number: u32) -> Option<&'static str> {
    OTHERS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_row_fit_each_other() {
        let mut numbers: Vec<u32> = BLOCK_TYPES.iter().map(|kind| kind.number).collect();
        numbers.extend(OTHERS.iter().map(|(number, _)| *number));
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
        for kind in BlockType::all() {
            assert_eq!(BlockType::named(kind.name()), Some(kind));
            assert!(256 % kind.values() == 0, "{kind:?}");
        }
        assert_eq!(BlockType::of(12), BlockType::named("Q4_K"));
        assert_eq!((BlockType::of(0), other(16), other(99)), (None, Some("IQ2_XXS"), None));
    }

    #[test]
    fn whole_blocks_are_decoded_and_no_others() {
        for kind in BlockType::all() {
            let mut block = vec![0x53u8; kind.bytes() * 2 + 1];
            block.iter_mut().step_by(3).for_each(|byte| *byte = 0x1a);
            let (mut one, mut two) = (vec![f32::NAN; kind.values() + 3], vec![f32::NAN; kind.values() * 2]);
            kind.decode(&block, &mut one);
            kind.decode(&block, &mut two);
            assert!(two.iter().all(|value| value.is_finite()), "{kind:?}");
            assert_eq!(one[..kind.values()], two[..kind.values()], "{kind:?}");
            assert!(one[kind.values()..].iter().all(|value| value.is_nan()), "{kind:?}");
            kind.decode(&block[..kind.bytes() - 1], &mut one);
        }
    }

    #[test]
    fn codes_lie_where_the_table_says() {
        let one = half::f16::ONE.to_le_bytes();
        let decoded = |name: &str, block: &[u8]| {
            let mut out = vec![0.0; 256];
            BlockType::named(name).unwrap().decode(block, &mut out);
            out
        };
        // Code 9 in the low half of byte 3, code 2 in the high half.
        let mut block = [vec![one[0], one[1]], vec![0x88; 16]].concat();
        block[2 + 3] = 0x29;
        let values = decoded("Q4_0", &block);
        assert_eq!((values[3], values[19], values[4]), (1.0, -6.0, 0.0));
        let mut block = [vec![one[0], one[1]], vec![0; 32]].concat();
        block[2 + 5] = 0x80;
        assert_eq!(decoded("Q8_0", &block)[5], -128.0);
        // Sub-block 5 of Q4_K has the scale 33 and the least value 18: high bits of bytes 1 and 5, all of byte 9.
        let mut block = [&one[..], &one[..], &[0; 140][..]].concat();
        (block[4 + 1], block[4 + 5], block[4 + 9]) = (2 << 6, 1 << 6, 1 | 2 << 4);
        block[16 + 64 + 7] = 3 << 4;
        assert_eq!(decoded("Q4_K", &block)[5 * 32 + 7], 33.0 * 3.0 - 18.0);
    }
}
