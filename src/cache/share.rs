//! A share of a whole, as a parameter.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

/// A number from 0 to 1. Compared by its bits, so that settings that hold it can be compared and told apart.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(transparent)]
pub struct Share(f64);

impl Share {
    pub const ZERO: Self = Self(0.0);

    /// `None` unless the number is from 0 to 1.
    pub fn new(number: f64) -> Option<Self> {
        // The sum gives a negative zero its sign back.
        (0.0..=1.0).contains(&number).then_some(Self(number + 0.0))
    }

    /// `thousandths` of a whole, for defaults; more than a whole is a whole.
    pub const fn thousandths(thousandths: u32) -> Self {
        Self(if thousandths < 1000 {
            thousandths as f64 / 1000.0
        } else {
            1.0
        })
    }

    pub fn get(self) -> f64 {
        self.0
    }

    /// What is missing to the whole.
    #[must_use]
    pub fn rest(self) -> Self {
        Self(1.0 - self.0)
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Share {}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.trim().parse().ok().and_then(Self::new);
        number.ok_or_else(|| "expected a number from 0 to 1".into())
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| serde::de::Error::custom(format!("{number} is no number from 0 to 1")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shares_are_taken() {
        for (text, number) in [
            ("0.1", Some(0.1)),
            ("1", Some(1.0)),
            (" 0 ", Some(0.0)),
            ("-0.0", Some(0.0)),
        ] {
            assert_eq!(text.parse().ok(), number.and_then(Share::new), "{text}");
        }
        for text in ["1.01", "-0.1", "nan", "inf", "", "a"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
            assert!(serde_json::from_str::<Share>(text).is_err(), "{text}");
        }
        assert_eq!(serde_json::from_str::<Share>("0.999").unwrap(), Share::thousandths(999));
        assert_eq!(serde_json::to_string(&Share::thousandths(10)).unwrap(), "0.01");
    }
}
