//! Which heads of a model are static, as a parameter.

use std::{fmt, io::Read, path::Path, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::files;

/// Words of 64 heads: more than any model has.
const WORDS: usize = 32;
/// Most bytes of a file.
const MOST_BYTES: u64 = 1 << 20;
/// The text of no profile.
const NONE: &str = "none";

/// Static and dynamic heads of a model, layer by layer (docs/algorithms/policies.md section 8). As a text it is
/// `30x12:…`, the heads as hexadecimal digits, so that a recipe needs no file; a user gives a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadProfile {
    /// Bit `layer·heads + head`: the head is static.
    bits: [u64; WORDS],
    layers: u16,
    heads: u16,
}

/// A file as the release of Forcing-KV has it.
#[derive(Deserialize)]
struct ProfileFile {
    #[serde(alias = "static_heads")]
    r#static: Vec<Vec<usize>>,
    #[serde(alias = "dynamic_heads")]
    dynamic: Vec<Vec<usize>>,
}

impl HeadProfile {
    /// The profile with these static heads in each layer.
    ///
    /// # Errors
    /// When there are too many layers or heads, or a head is none.
    pub fn of(layers: &[Vec<usize>], heads: usize) -> Result<Self, String> {
        if layers.is_empty() || heads == 0 || layers.len().saturating_mul(heads) > WORDS * 64 {
            return Err(format!("{} layers of {heads} heads are not a model's", layers.len()));
        }
        let mut profile = Self {
            bits: [0; WORDS],
            layers: layers.len() as u16,
            heads: heads as u16,
        };
        for (layer, of_layer) in layers.iter().enumerate() {
            for head in of_layer {
                if *head >= heads {
                    return Err(format!("layer {layer} has {heads} heads, and head {head} is listed"));
                }
                let bit = layer * heads + head;
                profile.bits[bit / 64] |= 1 << (bit % 64);
            }
        }
        Ok(profile)
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.layers == 0
    }

    /// Layers, and heads of each.
    pub fn size(&self) -> (usize, usize) {
        (self.layers.into(), self.heads.into())
    }

    /// Whether a head is static.
    pub fn is_static(&self, layer: usize, head: usize) -> bool {
        let bit = layer * usize::from(self.heads) + head;
        let word = self.bits.get(bit / 64).copied().unwrap_or(0);
        word >> (bit % 64) & 1 == 1
    }

    /// Heads of a layer that are dynamic.
    pub fn dynamic(&self, layer: usize) -> Vec<usize> {
        let heads = 0..usize::from(self.heads);
        heads.filter(|head| !self.is_static(layer, *head)).collect()
    }

    /// Reads a file that lists static and dynamic heads of every layer.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(path: &Path) -> Result<Self, String> {
        let file = files::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut text = String::new();
        let read = file.take(MOST_BYTES + 1).read_to_string(&mut text);
        read.map_err(|error| format!("{}: {error}", path.display()))?;
        if text.len() as u64 > MOST_BYTES {
            return Err(format!("{} is too large for a list of heads", path.display()));
        }
        Self::of_json(&text).map_err(|reason| format!("{} is no profile of heads: {reason}", path.display()))
    }

    fn of_json(text: &str) -> Result<Self, String> {
        let file: ProfileFile = serde_json::from_str(text).map_err(|error| {
            format!("{error}; expected {{\"static\": [[0, 3], …], \"dynamic\": [[1, 2], …]}}, a list for each layer")
        })?;
        if file.r#static.len() != file.dynamic.len() {
            let (fixed, dynamic) = (file.r#static.len(), file.dynamic.len());
            return Err(format!("static heads of {fixed} layers, dynamic heads of {dynamic}"));
        }
        let count = |(fixed, dynamic): (&Vec<usize>, &Vec<usize>)| fixed.len() + dynamic.len();
        let heads = file.r#static.iter().zip(&file.dynamic).map(count).max().unwrap_or(0);
        for (layer, both) in file.r#static.iter().zip(&file.dynamic).enumerate() {
            let mut all: Vec<usize> = both.0.iter().chain(both.1).copied().collect();
            all.sort_unstable();
            if all.iter().copied().ne(0..heads) {
                return Err(format!("layer {layer} does not list each of its {heads} heads once"));
            }
        }
        Self::of(&file.r#static, heads)
    }

    fn of_text(text: &str) -> Option<Self> {
        let (size, digits) = text.split_once(':')?;
        let (layers, heads) = size.split_once('x')?;
        let (layers, heads): (u16, u16) = (layers.parse().ok()?, heads.parse().ok()?);
        let count = usize::from(layers) * usize::from(heads);
        if count == 0 || count > WORDS * 64 || digits.len() != count.div_ceil(4) {
            return None;
        }
        let mut bits = [0; WORDS];
        for (i, digit) in digits.chars().enumerate() {
            bits[i / 16] |= u64::from(digit.to_digit(16)?) << (4 * (i % 16));
        }
        let beyond = (count..digits.len() * 4).any(|bit| bits[bit / 64] >> (bit % 64) & 1 == 1);
        (!beyond).then_some(Self { bits, layers, heads })
    }
}

impl fmt::Display for HeadProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str(NONE);
        }
        write!(f, "{}x{}:", self.layers, self.heads)?;
        let count = usize::from(self.layers) * usize::from(self.heads);
        (0..count.div_ceil(4)).try_for_each(|i| write!(f, "{:x}", self.bits[i / 16] >> (4 * (i % 16)) & 15))
    }
}

impl FromStr for HeadProfile {
    type Err = String;

    /// The text of a profile, or a file that has one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            NONE => Ok(Self::default()),
            text => Self::of_text(text).map_or_else(|| Self::read(Path::new(text)), Ok),
        }
    }
}

impl Serialize for HeadProfile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HeadProfile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == NONE {
            return Ok(Self::default());
        }
        // What is in a recipe or a preset names no file of this machine.
        Self::of_text(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no profile of heads")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_its_text() {
        let profile = HeadProfile::of(&[vec![0, 1], vec![1, 3], vec![0]], 4).unwrap();
        assert_eq!(profile.to_string(), "3x4:3a1");
        assert_eq!("3x4:3a1".parse(), Ok(profile));
        assert_eq!(serde_json::from_str::<HeadProfile>("\"3x4:3a1\"").unwrap(), profile);
        assert_eq!(profile.dynamic(1), [0, 2]);
        assert_eq!("none".parse(), Ok(HeadProfile::default()));
        for text in ["3x4:3a", "3x4:3g1", "0x4:", "99x99:0", "1x1:2", "/nowhere/at/all.json"] {
            assert!(text.parse::<HeadProfile>().is_err(), "{text}");
        }
    }

    #[test]
    fn files_must_list_every_head_once() {
        let read = HeadProfile::of_json;
        let good = r#"{"static_heads": [[0], []], "dynamic_heads": [[1], [1, 0]]}"#;
        assert_eq!(read(good).unwrap().to_string(), "2x2:1");
        for (bad, words) in [
            (r#"{"static": [[0]], "dynamic": []}"#, "of 1 layers"),
            (r#"{"static": [[0]], "dynamic": [[0]]}"#, "layer 0"),
            (r#"{"static": [[0], []], "dynamic": [[1], [0]]}"#, "layer 1"),
            ("[]", "expected"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }
}
