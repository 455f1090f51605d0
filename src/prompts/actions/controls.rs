//! The controls of a model: which keys there are, what they are called, and what they do.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    Action, ActionProblem,
    schemes::{GTA_DRIVE, TEMPLERUN, UNIVERSAL},
};
use crate::text::nearest::nearest;

/// A control scheme (docs/algorithms/world_actions.md section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controls {
    /// Walking and looking around, in any scene.
    Universal,
    /// Driving.
    GtaDrive,
    /// Running along a track.
    Templerun,
}

/// What a scheme consists of: one row of the table.
pub struct Scheme {
    /// As presets and recipes name it.
    pub name: &'static str,
    /// For people.
    pub about: &'static str,
    /// Names of the keyboard columns.
    pub columns: &'static [&'static str],
    /// Columns that are 1 where nothing is pressed.
    pub none: u8,
    /// Whether a row has one column that is 1, and never several.
    pub one_key: bool,
    pub mouse: Option<Mouse>,
    pub keys: &'static [Key],
    /// Actions of the published random trajectories with their weights (docs/algorithms/world_actions.md section 4).
    pub mixture: &'static [(&'static str, u32)],
}

/// Movement of the mouse in a picture.
pub struct Mouse {
    /// What a key does.
    pub step: f32,
    /// Largest vertical and horizontal movement: what the published actions have.
    pub most: [f32; 2],
}

/// A key of a scheme.
pub struct Key {
    /// Of the published tool; empty where it has none.
    pub letter: &'static str,
    /// Plain name; the first one is written.
    pub names: &'static [&'static str],
    pub effect: Effect,
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Sets these keyboard columns.
    Press(u8),
    /// Moves the mouse by so many steps, vertically and horizontally.
    Turn([i8; 2]),
    /// Does nothing.
    Rest(Rest),
}

/// What is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// No movement; the mouse may be moved.
    Keyboard,
    /// The mouse is still; keys may be pressed.
    Mouse,
    Both,
}

/// A direction of the mouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    Vertical,
    Horizontal,
}

impl Axis {
    const ALL: [Self; 2] = [Self::Vertical, Self::Horizontal];

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Vertical => "vertical",
            Self::Horizontal => "horizontal",
        }
    }
}

impl Key {
    /// The plain name.
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or(self.letter)
    }

    /// All names that it goes by.
    pub fn all_names(&self) -> impl Iterator<Item = &'static str> {
        let letter = (!self.letter.is_empty()).then_some(self.letter);
        letter.into_iter().chain(self.names.iter().copied())
    }
}

/// A word without case and without what joins words.
fn normal(word: &str) -> String {
    let letters = word.chars().filter(|c| !matches!(c, '-' | '_') && !c.is_whitespace());
    letters.flat_map(char::to_lowercase).collect()
}

impl Controls {
    /// Every scheme.
    pub const ALL: [Self; 3] = [Self::Universal, Self::GtaDrive, Self::Templerun];

    /// Its row of the table.
    pub fn scheme(self) -> &'static Scheme {
        match self {
            Self::Universal => &UNIVERSAL,
            Self::GtaDrive => &GTA_DRIVE,
            Self::Templerun => &TEMPLERUN,
        }
    }

    /// The scheme of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        let name = normal(name);
        Self::ALL
            .into_iter()
            .find(|controls| normal(controls.scheme().name) == name)
    }

    /// Whether the model reads the mouse.
    pub fn has_mouse(self) -> bool {
        self.scheme().mouse.is_some()
    }

    /// Nothing pressed.
    pub fn none(self) -> Action {
        Action {
            keys: self.scheme().none,
            mouse: [0.0; 2],
        }
    }

    /// A keyboard row.
    pub fn columns(self, keys: u8) -> Vec<f32> {
        let columns = 0..self.scheme().columns.len();
        columns
            .map(|column| if (keys >> column) & 1 == 1 { 1.0 } else { 0.0 })
            .collect()
    }

    /// The key of a name, of its letter or of a plain name.
    pub fn key(self, name: &str) -> Option<&'static Key> {
        let name = normal(name);
        let mut keys = self.scheme().keys.iter();
        keys.find(|key| key.all_names().any(|known| normal(known) == name))
    }

    /// The key of a name.
    ///
    /// # Errors
    /// When there is none: with the scheme that has it, or with the nearest one.
    pub(super) fn known_key(self, name: &str) -> Result<&'static Key, ActionProblem> {
        if let Some(key) = self.key(name) {
            return Ok(key);
        }
        let mut others = Self::ALL.into_iter().filter(|other| *other != self);
        let other = others.find(|other| other.key(name).is_some());
        let plain = self.scheme().keys.iter().map(Key::name);
        Err(match other {
            Some(other) => ActionProblem::OtherControls {
                key: name.into(),
                controls: self,
                other,
                known: plain.collect::<Vec<_>>().join(", "),
            },
            None => ActionProblem::UnknownKey {
                hint: match nearest(name, plain.clone()) {
                    Some(near) => format!("; did you mean `{near}`?"),
                    None => format!(": {}", plain.collect::<Vec<_>>().join(", ")),
                },
                key: name.into(),
                controls: self,
            },
        })
    }

    /// Whether a row of the keyboard and the mouse is one that the model knows.
    ///
    /// # Errors
    /// With what it is not.
    pub(super) fn check(self, action: Action) -> Result<(), ActionProblem> {
        let scheme = self.scheme();
        if scheme.one_key && action.keys.count_ones() != 1 {
            let none = self.columns(scheme.none);
            return Err(ActionProblem::OneKey {
                controls: self,
                pressed: action.keys.count_ones(),
                none: none.iter().map(f32::to_string).collect::<Vec<_>>().join(", "),
            });
        }
        let most = scheme.mouse.as_ref().map_or([0.0; 2], |mouse| mouse.most);
        for ((axis, value), most) in Axis::ALL.into_iter().zip(action.mouse).zip(most) {
            if value.is_nan() || value.abs() > most {
                let controls = self;
                return Err(match scheme.mouse {
                    None => ActionProblem::NoMouse { controls },
                    Some(_) => ActionProblem::MouseRange {
                        axis: axis.words(),
                        value,
                        most,
                        controls,
                    },
                });
            }
        }
        Ok(())
    }

    /// An action in plain names of keys, joined by `+`.
    pub fn text(self, action: Action) -> String {
        let scheme = self.scheme();
        let mut words = Vec::new();
        for column in 0..scheme.columns.len() {
            let bit = 1 << column;
            if action.keys & bit & !scheme.none != 0 {
                words.extend(self.name_of(Effect::Press(bit)).map(str::to_owned));
            }
        }
        if let Some(mouse) = &scheme.mouse {
            for (axis, value) in action.mouse.into_iter().enumerate() {
                let mut steps = [0; 2];
                steps[axis] = if value > 0.0 { 1 } else { -1 };
                let name = self.name_of(Effect::Turn(steps)).filter(|_| value != 0.0);
                words.extend(name.map(|name| match value.abs() {
                    strength if strength == mouse.step => name.to_owned(),
                    strength => format!("{name}={strength}"),
                }));
            }
        }
        if words.is_empty() {
            return "none".into();
        }
        words.join("+")
    }

    fn name_of(self, effect: Effect) -> Option<&'static str> {
        let mut keys = self.scheme().keys.iter();
        keys.find(|key| key.effect == effect).map(Key::name)
    }
}

impl fmt::Display for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme().name)
    }
}

impl std::str::FromStr for Controls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(|controls| controls.scheme().name);
        Self::of_name(text).ok_or_else(|| format!("expected one of {}", names.join(", ")))
    }
}

impl Serialize for Controls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.scheme().name)
    }
}

impl<'de> Deserialize<'de> for Controls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse()
            .map_err(|expected| de::Error::custom(format!("unknown controls `{name}`, {expected}")))
    }
}
