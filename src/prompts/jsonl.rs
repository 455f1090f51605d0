//! One line of a `.jsonl` prompt file.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use super::{
    LineProblem, Moment, MomentError, Scene, Segment, actions::ActionSource, error::shown, file::check,
    moment::parse_moment,
};
use crate::rollout::{SwitchRule, request::draw_seed};

const PROMPT: &str = "prompt";
pub(super) const PROMPTS: &str = "prompts";
pub(super) const SWITCH: &str = "switch";
pub(super) const ON_SWITCH: &str = "on_switch";
const SWITCH_FRAMES: &str = "switch_frame_indices";
pub(super) const SEED: &str = "seed";
pub(super) const SECONDS: &str = "seconds";
pub(super) const ID: &str = "id";
pub(super) const IMAGE: &str = "image";
pub(super) const ACTIONS: &str = "actions";
/// Settings of the batch that could not make a video.
pub(super) const SETTINGS: &str = "settings";
/// Why a video could not be made, for people.
pub(super) const FAILURE: &str = "error";
/// Which videos of a sweep could not be made, for the sweep.
pub(crate) const VIDEOS: &str = "videos";
pub(super) const KEYS: [&str; 13] = [
    PROMPT,
    PROMPTS,
    SWITCH,
    ON_SWITCH,
    SWITCH_FRAMES,
    SEED,
    SECONDS,
    ID,
    IMAGE,
    ACTIONS,
    SETTINGS,
    FAILURE,
    VIDEOS,
];

/// Reads a line; `folder` is where relative images are.
pub(super) fn scene(line: &str, folder: &Path) -> Result<Scene, LineProblem> {
    let object: Object = serde_json::from_str(line).map_err(|error| LineProblem::Json { reason: reason(&error) })?;
    let fields = Fields::new(object)?;
    let texts = fields.prompts()?;
    for (index, text) in texts.iter().enumerate() {
        check(index + 1, text)?;
    }
    let (starts, rules) = match texts.len() {
        0 => (Vec::new(), Vec::new()),
        count => (fields.starts(count)?, fields.on_switch(count)?),
    };
    let segments = texts.into_iter().zip(starts).zip(rules);
    let (seed, seed_drawn) = fields.seed()?;
    Ok(Scene {
        id: fields.id()?,
        segments: segments
            .map(|((text, start), on_switch)| Segment { text, start, on_switch })
            .collect(),
        seed,
        seed_drawn,
        seconds: fields.seconds()?,
        image: fields.text(IMAGE)?.map(|image| folder.join(image)),
        actions: fields.text(ACTIONS)?.map(|text| ActionSource::new(&text, folder)),
        settings: fields.settings()?,
        line: None,
    })
}

/// The reader's words without its line number, which is always 1.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line 1 column ").next().unwrap_or(&text);
    match error.column() {
        0 => text.into(),
        column => format!("{text} at byte {column}"),
    }
}

/// A JSON object with its keys in order, repeated ones included.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object in braces")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// The values of the known keys. `null` is as if the key were not there.
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn new(object: Object) -> Result<Self, LineProblem> {
        let mut fields: Vec<(&'static str, Value)> = Vec::new();
        for (key, value) in object.0 {
            let Some(known) = KEYS.into_iter().find(|known| *known == key) else {
                return Err(LineProblem::unknown_key(&key, &KEYS));
            };
            if fields.iter().any(|(key, _)| *key == known) {
                return Err(LineProblem::RepeatedKey { key: known });
            }
            fields.push((known, value));
        }
        fields.retain(|(_, value)| !value.is_null());
        for (first, second) in [(PROMPT, PROMPTS), (SWITCH, SWITCH_FRAMES)] {
            let has = |key| fields.iter().any(|(known, _)| *known == key);
            if has(first) && has(second) {
                return Err(LineProblem::Both { first, second });
            }
        }
        Ok(Self(fields))
    }

    fn get(&self, key: &str) -> Option<&Value> {
        let field = self.0.iter().find(|(known, _)| *known == key);
        field.map(|(_, value)| value)
    }

    fn text(&self, key: &'static str) -> Result<Option<String>, LineProblem> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.contains('\0') && !text.trim().is_empty() => Ok(Some(text.clone())),
            Some(other) => Err(wrong(key, other, "a text that is not empty")),
        }
    }

    /// An id may be a number, as indices of data sets are.
    fn id(&self) -> Result<Option<String>, LineProblem> {
        match self.get(ID) {
            Some(Value::Number(number)) if number.is_u64() || number.is_i64() => Ok(Some(number.to_string())),
            Some(Value::String(_)) | None => self.text(ID),
            Some(other) => Err(wrong(ID, other, "a text or a whole number")),
        }
    }

    fn prompts(&self) -> Result<Vec<String>, LineProblem> {
        if let Some(prompt) = self.get(PROMPT) {
            return match prompt {
                Value::String(text) => Ok(vec![text.clone()]),
                Value::Array(_) => Err(wrong(PROMPT, prompt, "a text (a list belongs to `prompts`)")),
                other => Err(wrong(PROMPT, other, "a text")),
            };
        }
        let expected = "a list of at least one text";
        let list = match self.get(PROMPTS) {
            // A world has none; whether the model makes worlds is not known here.
            None if self.is_of_a_world() => return Ok(Vec::new()),
            None => return Err(LineProblem::NoPrompt),
            Some(Value::Array(list)) if !list.is_empty() => list,
            Some(other) => return Err(wrong(PROMPTS, other, expected)),
        };
        let texts = list.iter().map(|value| match value {
            Value::String(text) => Ok(text.clone()),
            other => Err(wrong(PROMPTS, other, expected)),
        });
        texts.collect()
    }

    /// Whether it may be a world, and no prompt is missing.
    fn is_of_a_world(&self) -> bool {
        let has = |key| self.get(key).is_some();
        (has(IMAGE) || has(ACTIONS)) && !has(SWITCH) && !has(SWITCH_FRAMES) && !has(ON_SWITCH)
    }

    /// Where each of `count` prompts starts.
    fn starts(&self, count: usize) -> Result<Vec<Moment>, LineProblem> {
        let (key, switches) = match (self.get(SWITCH), self.get(SWITCH_FRAMES)) {
            (Some(value), _) => (SWITCH, list(SWITCH, value)?),
            (None, Some(value)) => (SWITCH_FRAMES, list(SWITCH_FRAMES, value)?),
            (None, None) => {
                let share = |part| match part {
                    0 => Moment::START,
                    part => Moment::Share { part, parts: count },
                };
                return Ok((0..count).map(share).collect());
            }
        };
        if switches.len() != count - 1 {
            return Err(LineProblem::SwitchCount {
                key,
                switches: switches.len(),
                prompts: count,
            });
        }
        let read = |value: &Value| match key {
            SWITCH => switch(value),
            _ => frame(value),
        };
        let starts = switches.iter().map(read);
        std::iter::once(Ok(Moment::START)).chain(starts).collect()
    }

    /// What becomes of the cache where each of `count` prompts takes over; nothing is said of the first one.
    fn on_switch(&self, count: usize) -> Result<Vec<Option<SwitchRule>>, LineProblem> {
        const EXPECTED: &str =
            "\"keep\", \"recache\", \"flush\" or \"cut\", or a list with one of these for each switch";
        let read = |value: &Value| match value {
            Value::Null => Ok(None),
            Value::String(word) if word.parse::<SwitchRule>().is_ok() => Ok(word.parse().ok()),
            other => Err(wrong(ON_SWITCH, other, EXPECTED)),
        };
        let rules = match self.get(ON_SWITCH) {
            None => vec![None; count - 1],
            Some(Value::Array(list)) if list.len() != count - 1 => {
                return Err(LineProblem::SwitchCount {
                    key: ON_SWITCH,
                    switches: list.len(),
                    prompts: count,
                });
            }
            Some(Value::Array(list)) => list.iter().map(read).collect::<Result<_, _>>()?,
            Some(value) => vec![read(value)?; count - 1],
        };
        Ok(std::iter::once(None).chain(rules).collect())
    }

    fn settings(&self) -> Result<BTreeMap<String, String>, LineProblem> {
        let Some(value) = self.get(SETTINGS) else {
            return Ok(BTreeMap::new());
        };
        serde_json::from_value(value.clone())
            .map_err(|_| wrong(SETTINGS, value, "an object of texts, for example {\"model\": \"toy\"}"))
    }

    /// The seed, and whether it was drawn.
    fn seed(&self) -> Result<(Option<u64>, bool), LineProblem> {
        let Some(value) = self.get(SEED) else {
            return Ok((None, false));
        };
        if value.as_i64() == Some(-1) || value.as_str() == Some("random") {
            return Ok((Some(draw_seed()), true));
        }
        let expected = "a whole number from 0 to 18446744073709551615, or -1 (or \"random\") for one that is drawn";
        match value.as_u64() {
            Some(seed) => Ok((Some(seed), false)),
            None => Err(wrong(SEED, value, expected)),
        }
    }

    fn seconds(&self) -> Result<Option<f64>, LineProblem> {
        let Some(value) = self.get(SECONDS) else {
            return Ok(None);
        };
        let seconds = match value {
            Value::String(text) => match parse_moment(text) {
                Ok(Moment::Seconds(seconds)) => Some(seconds),
                _ => None,
            },
            other => other.as_f64(),
        };
        match seconds.filter(|seconds| *seconds > 0.0) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(wrong(
                SECONDS,
                value,
                "a number above 0, or a text such as \"90s\" or \"1:30\"",
            )),
        }
    }
}

fn list<'a>(key: &'static str, value: &'a Value) -> Result<&'a [Value], LineProblem> {
    match value {
        Value::Array(list) => Ok(list),
        other => Err(wrong(key, other, "a list, one entry for each prompt after the first")),
    }
}

/// An entry of `switch`.
fn switch(value: &Value) -> Result<Moment, LineProblem> {
    let expected = "seconds as a number, or a text such as \"12s\", \"1:30\" or \"40f\" (latent frame 40)";
    let of_text = |text: &str| parse_moment(text).map_err(|source| LineProblem::Moment { key: SWITCH, source });
    match value {
        Value::String(text) => of_text(text),
        Value::Number(number) => match number.as_f64() {
            // The limits are those of a text.
            Some(seconds) if seconds >= 0.0 => match of_text(&format!("{seconds}s")) {
                Err(LineProblem::Moment {
                    source: MomentError::TooLarge { .. },
                    key,
                }) => {
                    let text = number.to_string();
                    let source = MomentError::TooLarge { text };
                    Err(LineProblem::Moment { key, source })
                }
                moment => moment,
            },
            _ => Err(wrong(SWITCH, value, expected)),
        },
        other => Err(wrong(SWITCH, other, expected)),
    }
}

/// An entry of `switch_frame_indices`.
fn frame(value: &Value) -> Result<Moment, LineProblem> {
    match value.as_u64() {
        Some(frame) => parse_moment(&format!("{frame}f")).map_err(|source| LineProblem::Moment {
            key: SWITCH_FRAMES,
            source,
        }),
        None => Err(wrong(SWITCH_FRAMES, value, "latent frames as whole numbers")),
    }
}

fn wrong(key: &'static str, value: &Value, expected: &'static str) -> LineProblem {
    let found = match value {
        Value::Array(list) if list.is_empty() => "an empty list".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        Value::String(text) if text.is_empty() => "an empty text".into(),
        other => shown(&other.to_string()),
    };
    LineProblem::Value { key, found, expected }
}
