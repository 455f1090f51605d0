//! Random changes to files.

/// Numbers that break things: sizes, counts, lengths.
const NUMBERS: [u64; 10] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    u64::MAX >> 1,
    u64::MAX,
];
/// Texts that break things: names, numbers, ends.
const TEXTS: [&str; 22] = [
    "../../x",
    "/dev/zero",
    "null",
    "-1",
    "1e999",
    "99999999999999999999",
    "\"",
    "{",
    "[[[[[[[[",
    "}",
    "\\u0000",
    "\u{1b}[2J",
    "\u{202e}",
    "\0",
    "\n",
    ",",
    "NaN",
    "1e-320",
    "\u{fffd}",
    "é",
    "[]",
    "{}",
];

pub struct Mutator(u64);

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 for an empty range.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// One of the seeds with one to eight changes.
    pub fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..1 + self.below(8) {
            self.change(&mut bytes, seeds);
        }
        bytes
    }

    /// Headers are short and matter most.
    fn place(&mut self, length: usize) -> usize {
        match self.below(2) {
            0 => self.below(length.min(256)),
            _ => self.below(length),
        }
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.place(bytes.len());
        let rest = bytes.len() - at.min(bytes.len());
        match self.below(9) {
            0 if rest > 0 => bytes[at] ^= 1 << self.below(8),
            1 if rest > 0 => bytes[at] = self.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = at + self.below(rest.min(64));
                drop(bytes.drain(at..end));
            }
            4 => {
                let piece = bytes[at..at + self.below(rest.min(64))].to_vec();
                let times = 1 + self.below(4);
                bytes.splice(at..at, piece.repeat(times));
            }
            5 => {
                let number = NUMBERS[self.below(NUMBERS.len())];
                let width = [1, 2, 4, 8][self.below(4)].min(rest);
                let little = number.to_le_bytes();
                let big = number.to_be_bytes();
                let number = if self.below(2) == 0 {
                    &little[..width]
                } else {
                    &big[8 - width..]
                };
                bytes[at..at + width].copy_from_slice(number);
            }
            6 => {
                let text = TEXTS[self.below(TEXTS.len())];
                bytes.splice(at..at, text.bytes());
            }
            7 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len());
                let to = from + self.below((other.len() - from).min(256));
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => self.change_number(bytes),
        }
    }

    /// Puts another number in the place of one that is written in digits.
    fn change_number(&mut self, bytes: &mut Vec<u8>) {
        let from = self.place(bytes.len());
        let digit = |byte: &u8| byte.is_ascii_digit();
        let Some(start) = bytes.iter().skip(from).position(digit).map(|at| at + from) else {
            return;
        };
        let length = bytes[start..].iter().take_while(|byte| digit(byte)).count();
        let number = match self.below(3) {
            0 => TEXTS[3 + self.below(3)].to_owned(),
            1 => NUMBERS[self.below(NUMBERS.len())].to_string(),
            _ => self.below(300).to_string(),
        };
        bytes.splice(start..start + length, number.bytes());
    }
}
