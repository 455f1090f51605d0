//! Packed values of a trace: runs, bits, gaps and levels; see [`super`].

use base64::{Engine, prelude::BASE64_STANDARD};

/// A value and how many neighbours share it.
pub type Run<T> = (T, u64);

/// Joins equal neighbours.
pub fn runs<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Vec<Run<T>> {
    let mut runs: Vec<Run<T>> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => runs.push((value, 1)),
        }
    }
    runs
}

/// How many values the runs stand for.
pub fn total<T>(runs: &[Run<T>]) -> u64 {
    runs.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

/// Bits `0..count`, of which `set` (ascending or not) are 1.
pub fn bits(set: impl IntoIterator<Item = usize>, count: usize) -> String {
    let mut bytes = vec![0u8; count.div_ceil(8)];
    for bit in set {
        if let Some(byte) = bytes.get_mut(bit / 8) {
            *byte |= 0x80 >> (bit % 8);
        }
    }
    BASE64_STANDARD.encode(bytes)
}

/// The bits that are 1, ascending.
///
/// # Errors
/// When the text is no base64, or not of `count` bits.
pub fn set_bits(text: &str, count: usize) -> Result<Vec<usize>, String> {
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| error.to_string())?;
    if bytes.len() != count.div_ceil(8) {
        return Err(format!("{} bytes of bits, expected {}", bytes.len(), count.div_ceil(8)));
    }
    let set: Vec<usize> = (0..bytes.len() * 8)
        .filter(|bit| bytes[bit / 8] & (0x80 >> (bit % 8)) != 0)
        .collect();
    match set.last() {
        Some(last) if *last >= count => Err(format!("bit {last} of {count} is set")),
        _ => Ok(set),
    }
}

/// A byte that is a distance without a token.
const SKIP: u8 = u8::MAX;

/// Ascending `cells` as distances from one to the next, the first one from -1, a byte each; [`SKIP`] is a distance of 255
/// behind which there is no token.
pub fn gaps(cells: &[usize]) -> String {
    let mut bytes = Vec::with_capacity(cells.len());
    let mut next = 0;
    for cell in cells {
        let mut gap = cell + 1 - next;
        while gap >= SKIP.into() {
            bytes.push(SKIP);
            gap -= usize::from(SKIP);
        }
        bytes.push(gap as u8);
        next = cell + 1;
    }
    BASE64_STANDARD.encode(bytes)
}

/// The cells, each below `count`.
///
/// # Errors
/// When the text is no base64, or the cells do not rise or lie beyond `count`.
pub fn cells(text: &str, count: usize) -> Result<Vec<usize>, String> {
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| error.to_string())?;
    let mut cells: Vec<usize> = Vec::with_capacity(bytes.len());
    let mut end = 0;
    for byte in bytes {
        end += usize::from(byte);
        if byte == SKIP {
            continue;
        }
        match cells.last() {
            Some(last) if end <= last + 1 => return Err(format!("cell {last} comes again")),
            _ if end == 0 || end > count => return Err(format!("cell {} of a frame with {count}", end as i64 - 1)),
            _ => cells.push(end - 1),
        }
    }
    Ok(cells)
}

/// One byte per score, from `lowest` (0) to `highest` (255).
pub fn levels(scores: impl Iterator<Item = f32>, lowest: f32, highest: f32) -> String {
    let span = (highest - lowest).max(f32::MIN_POSITIVE);
    let level = |score: f32| ((score - lowest) / span * 255.0).round().clamp(0.0, 255.0) as u8;
    BASE64_STANDARD.encode(scores.map(level).collect::<Vec<u8>>())
}

/// The levels.
///
/// # Errors
/// When the text is no base64.
pub fn unpack_levels(text: &str) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bits_are_as_numpy_reads_them() {
        assert_eq!(bits([0, 9], 10), BASE64_STANDARD.encode([0x80, 0x40]));
        assert_eq!(set_bits(&bits([0, 9], 10), 10), Ok(vec![0, 9]));
        assert!(set_bits("!", 8).is_err() && set_bits(&bits([], 8), 17).is_err());
        assert!(
            set_bits(&BASE64_STANDARD.encode([0xff]), 5).is_err(),
            "bits beyond the end"
        );
    }

    #[test]
    fn gaps_are_as_documented() {
        assert_eq!(gaps(&[0, 1, 256, 511]), BASE64_STANDARD.encode([1, 1, 255, 0, 255, 0]));
        assert_eq!(cells(&gaps(&[0, 1, 256, 511]), 512), Ok(vec![0, 1, 256, 511]));
        assert!(cells(&gaps(&[7]), 7).is_err() && cells("?", 7).is_err());
        assert!(cells(&BASE64_STANDARD.encode([2, 0]), 9).is_err(), "twice the same");
        assert!(cells(&BASE64_STANDARD.encode([0]), 9).is_err(), "before the first");
    }

    #[test]
    fn levels_span_the_scores() {
        assert_eq!(
            unpack_levels(&levels([1.0, 2.0, 3.0].into_iter(), 1.0, 3.0)),
            Ok(vec![0, 128, 255])
        );
        assert_eq!(unpack_levels(&levels([2.0; 2].into_iter(), 2.0, 2.0)), Ok(vec![0, 0]));
    }

    proptest! {
        #[test]
        fn cells_round_trip(count in 1usize..2000, seed in prop::collection::vec(any::<prop::sample::Index>(), 0..400)) {
            let mut cells: Vec<usize> = seed.iter().map(|index| index.index(count)).collect();
            cells.sort_unstable();
            cells.dedup();
            prop_assert_eq!(super::cells(&gaps(&cells), count), Ok(cells));
        }

        #[test]
        fn runs_round_trip(values in prop::collection::vec(0u8..3, 0..200)) {
            let runs = runs(values.iter().copied());
            prop_assert_eq!(total(&runs), values.len() as u64);
            let back: Vec<u8> = runs.iter().flat_map(|(value, count)| vec![*value; *count as usize]).collect();
            prop_assert_eq!(back, values);
        }
    }
}
