//! Sizes in bytes, as people write them.

use std::{fmt, str::FromStr};

/// Bytes, written with a unit: `12GB`, `11.5 GiB`, `800MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Units with their bytes, largest first.
const UNITS: [(&str, f64); 4] = [
    ("GIB", (1u64 << 30) as f64),
    ("MIB", (1u64 << 20) as f64),
    ("GB", 1e9),
    ("MB", 1e6),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a size with its unit, for example 12GB, 11.5GiB or 900MB".to_string();
        let upper = text.trim().to_ascii_uppercase();
        let unit = UNITS
            .iter()
            .find_map(|(name, bytes)| Some((upper.strip_suffix(name)?, bytes)));
        let (number, bytes) = unit.ok_or_else(expected)?;
        let number: f64 = number.trim().parse().map_err(|_| expected())?;
        match number.is_finite() && number > 0.0 && number * bytes < 1e15 {
            true => Ok(Self((number * bytes).round() as u64)),
            false => Err(expected()),
        }
    }
}

impl fmt::Display for ByteSize {
    /// In a form that is read back to the same number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = match self.0 >= 1_000_000_000 {
            true => ("GB", 1e9),
            false => ("MB", 1e6),
        };
        write!(f, "{}{unit}", self.0 as f64 / bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, written) in [
            ("12GB", 12_000_000_000, "12GB"),
            (" 11.5 gib", 12_348_030_976, "12.348030976GB"),
            ("900MB", 900_000_000, "900MB"),
            ("512MiB", 536_870_912, "536.870912MB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, written));
            assert_eq!(written.parse(), Ok(size));
        }
        for text in ["12", "GB", "-1GB", "0GB", "infGB", "1e9GB", "12 apples"] {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert!(error.contains("11.5GiB"), "{text}: {error}");
        }
    }
}
