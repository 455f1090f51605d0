//! Which attention is recorded: layers, heads and chunks, as users write them.

use std::str::FromStr;

use super::TraceError;

/// Largest number that is believed; a larger one is a slip.
const LARGEST: usize = 9999;

/// Numbers of layers or heads: `all`, or a list of numbers and ranges such as `0,3-5`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Numbers {
    #[default]
    All,
    /// In order, each once.
    These(Vec<usize>),
}

impl Numbers {
    /// The numbers, of `count` that there are.
    ///
    /// # Errors
    /// The first number that there is not.
    pub fn below(&self, count: usize) -> Result<Vec<usize>, usize> {
        match self {
            Self::All => Ok((0..count).collect()),
            Self::These(numbers) => match numbers.iter().find(|number| **number >= count) {
                Some(number) => Err(*number),
                None => Ok(numbers.clone()),
            },
        }
    }

    /// The layers, of `layers` that there are.
    ///
    /// # Errors
    /// [`TraceError::NoLayer`].
    pub fn layers(&self, layers: usize) -> Result<Vec<usize>, TraceError> {
        self.below(layers)
            .map_err(|layer| TraceError::NoLayer { layer, layers })
    }
}

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let number = |text: &str| match text.trim().parse() {
            Ok(number) if number <= LARGEST => Ok(number),
            _ => Err(format!(
                "`{text}` is not a number: expected all, or numbers and ranges such as 0,3-5"
            )),
        };
        let mut numbers = Vec::new();
        for part in text.split(',') {
            match part.split_once('-') {
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last)?);
                    if first > last {
                        return Err(format!("range `{part}` ends before it begins"));
                    }
                    numbers.extend(first..=last);
                }
                None => numbers.push(number(part)?),
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(Self::These(numbers))
    }
}

/// Layers, and the heads of each: `LAYERS[:HEADS]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadChoice {
    pub layers: Numbers,
    pub heads: Numbers,
}

impl FromStr for HeadChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once(':') {
            Some((layers, heads)) => Self {
                layers: layers.parse()?,
                heads: heads.parse()?,
            },
            None => Self {
                layers: text.parse()?,
                heads: Numbers::All,
            },
        })
    }
}

/// The heads that are chosen in each layer, in order; none for most layers.
///
/// # Errors
/// When a layer or head does not exist.
pub fn chosen_heads(choices: &[HeadChoice], layers: usize, heads: usize) -> Result<Vec<Vec<usize>>, TraceError> {
    let mut chosen = vec![Vec::new(); layers];
    for choice in choices {
        let of_layer = choice.heads.below(heads);
        let of_layer = of_layer.map_err(|head| TraceError::NoHead { head, heads })?;
        for layer in choice.layers.layers(layers)? {
            chosen[layer].extend_from_slice(&of_layer);
        }
    }
    for heads in &mut chosen {
        heads.sort_unstable();
        heads.dedup();
    }
    Ok(chosen)
}

/// The chunks at which attention is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// Those for which room was made.
    Event,
    /// Every so many chunks, from the first one on.
    Chunks(u64),
}

impl Default for Every {
    fn default() -> Self {
        Self::Chunks(1)
    }
}

impl Every {
    /// Whether chunk `chunk` is one; `event`: whether room was made for it.
    pub fn wants(self, chunk: u64, event: bool) -> bool {
        match self {
            Self::Event => event,
            Self::Chunks(chunks) => chunk.is_multiple_of(chunks),
        }
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("event", _) => Ok(Self::Event),
            (_, Ok(chunks)) if chunks > 0 => Ok(Self::Chunks(chunks)),
            _ => Err("expected a number of chunks from 1 on, or event".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(texts: &[&str]) -> Result<Vec<Vec<usize>>, TraceError> {
        let choices: Vec<HeadChoice> = texts.iter().map(|text| text.parse().unwrap()).collect();
        chosen_heads(&choices, 4, 3)
    }

    #[test]
    fn lists_ranges_and_pairs() {
        assert_eq!(chosen(&[]).unwrap(), vec![vec![]; 4] as Vec<Vec<usize>>);
        assert_eq!(chosen(&["all"]).unwrap(), vec![vec![0, 1, 2]; 4]);
        assert_eq!(chosen(&["0,2-3:1"]).unwrap(), [vec![1], vec![], vec![1], vec![1]]);
        assert_eq!(
            chosen(&["1:2,0", "3:1", "1:2"]).unwrap(),
            [vec![], vec![0, 2], vec![], vec![1]]
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert!(matches!(
            chosen(&["4"]),
            Err(TraceError::NoLayer { layer: 4, layers: 4 })
        ));
        assert!(matches!(
            chosen(&["0:2-3"]),
            Err(TraceError::NoHead { head: 3, heads: 3 })
        ));
        for wrong in ["", "x", "1,", "3-1", "0:", "99999", "-1"] {
            assert!(wrong.parse::<HeadChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn chunks_are_chosen() {
        let wants = |text: &str, event| {
            (0..5)
                .filter(|chunk| text.parse::<Every>().unwrap().wants(*chunk, event))
                .count()
        };
        assert_eq!(
            (
                wants("1", false),
                wants("2", false),
                wants("event", false),
                wants("event", true)
            ),
            (5, 3, 0, 5)
        );
        assert!("0".parse::<Every>().is_err() && "often".parse::<Every>().is_err());
    }
}
