//! Sweeps in TOML files: those of the paper, which are part of the program, and users' own.
//!
//! ```toml
//! description = "for people"
//! seconds = 60
//! seed = "0..4"
//! [cache]
//! policy = "deep-sink"
//! sink = [0, 4, 9]
//! ```
//!
//! Sweeps of worlds have `actions`: a trajectory or a list of them, each walked from every start.
//!
//! Parameters are written as in the config file, with lists and ranges in place of single values; a list of
//! `sampler.steps` is one value, a list of lists several. `[[points]]` with a `label` and parameters of their own give
//! points one by one; each is combined with all values of the parameters outside. `model` and `preset` (of models) may
//! stand in both places, as single values or lists.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{Axis, NamedPoint, SweepError, axis_keys, parameters, systems, values};
use crate::{config::Key, files, models::preset::Preset, text::nearest};

/// Presets that are part of the program.
const EMBEDDED: [(&str, &str); 5] = [
    ("paper-sink", include_str!("../../configs/sweeps/paper-sink.toml")),
    (
        "paper-components",
        include_str!("../../configs/sweeps/paper-components.toml"),
    ),
    ("paper-scorer", include_str!("../../configs/sweeps/paper-scorer.toml")),
    ("paper-systems", include_str!("../../configs/sweeps/paper-systems.toml")),
    ("policies", include_str!("../../configs/sweeps/policies.toml")),
];

/// What a sweep consists of, from a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SweepPreset {
    pub description: Option<String>,
    /// Playing time of a video.
    pub seconds: Option<f64>,
    /// Empty when the file does not say.
    pub seeds: Vec<u64>,
    /// Each parameter that the file sets, in any order.
    pub axes: Vec<Axis>,
    pub points: Vec<NamedPoint>,
    /// What is done in worlds, one after the other; names of files are relative to the folder of the program.
    pub actions: Vec<String>,
}

impl SweepPreset {
    /// Names of the embedded presets.
    pub fn names() -> impl Iterator<Item = &'static str> + Clone {
        EMBEDDED.iter().map(|(name, _)| *name)
    }

    /// An embedded preset by name, or a TOML file by path.
    ///
    /// # Errors
    /// When it is neither, or something is wrong in the file.
    pub fn load(name_or_file: &str) -> Result<Self, SweepError> {
        let path = Path::new(name_or_file);
        if let Some((name, text)) = EMBEDDED.iter().find(|(name, _)| *name == name_or_file) {
            return Self::parse(name, text);
        }
        if Preset::names().contains(&name_or_file) {
            let name = name_or_file.into();
            return Err(SweepError::ModelPreset { name });
        }
        if path.extension().is_none_or(|ending| ending != "toml") {
            return Err(SweepError::UnknownPreset {
                name: name_or_file.into(),
                hint: nearest::hint(name_or_file, Self::names()),
            });
        }
        let text = files::read_settings(path).map_err(|error| SweepError::Unreadable {
            path: path.into(),
            reason: error.to_string(),
        })?;
        Self::parse(name_or_file, &text)
    }

    /// Reads the text of a preset; `file` is what messages call it.
    ///
    /// # Errors
    /// When it is not TOML, or a key or value is wrong, with its line.
    pub fn parse(file: &str, text: &str) -> Result<Self, SweepError> {
        // A byte order mark, as Windows editors write it, is no setting.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let reader = Reader { file, text };
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            reader.wrong(at, error.message())
        })?;
        let mut preset = Self::default();
        for (key, value) in table.get_ref() {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            match (name, value.get_ref()) {
                ("description", DeValue::String(text)) => preset.description = Some(text.to_string()),
                ("seconds", value) => preset.seconds = Some(reader.seconds(value, at)?),
                ("seed", value) => preset.seeds = reader.seeds(value, at)?,
                ("points", DeValue::Array(points)) => {
                    for point in points {
                        preset.points.push(reader.point(point.get_ref(), point.span().start)?);
                    }
                }
                ("cache" | "sampler", DeValue::Table(table)) => preset.axes.extend(reader.axes(name, table)?),
                ("actions", value) => preset.actions = reader.actions(value, at)?,
                (name, value) if systems().any(|key| key.name == name) => {
                    preset.axes.push(reader.axis(name, value, at)?);
                }
                ("description", _) => return Err(reader.wrong(at, "`description` is no text in quotes")),
                ("points", _) => return Err(reader.wrong(at, "`points` is no list of tables, written as [[points]]")),
                ("cache" | "sampler", _) => {
                    return Err(reader.wrong(at, &format!("`{name}` is no table, written as [{name}]")));
                }
                (name, _) => return Err(reader.unknown(at, name)),
            }
        }
        match preset.axes.is_empty() && preset.points.is_empty() && preset.seeds.is_empty() {
            true => Err(reader.wrong(
                0,
                "it sets no parameter; give at least one, for example [cache] with sink = [0, 9]",
            )),
            false => Ok(preset),
        }
    }
}

/// A file that is read, for messages.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
}

impl Reader<'_> {
    fn place(&self, at: usize) -> String {
        let line = 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        format!("{}:{line}", self.file)
    }

    fn wrong(&self, at: usize, reason: &str) -> SweepError {
        SweepError::Preset {
            place: self.place(at),
            reason: reason.into(),
        }
    }

    fn unknown(&self, at: usize, name: &str) -> SweepError {
        let known = || {
            axis_keys()
                .map(|key| key.name)
                .chain(["seed", "seconds", "description", "points", "actions"])
        };
        // A parameter outside of its table is nearer than any slip.
        let last = name.rsplit('.').next().unwrap_or(name);
        let moved = known().find(|known| known.rsplit('.').next() == Some(last));
        let hint = match moved.or_else(|| nearest::nearest(name, known())) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => format!("; known are {}", known().collect::<Vec<_>>().join(", ")),
        };
        self.wrong(at, &format!("unknown parameter `{name}`{hint}"))
    }

    fn seconds(&self, value: &DeValue<'_>, at: usize) -> Result<f64, SweepError> {
        let number = match value {
            DeValue::Integer(_) | DeValue::Float(_) => plain(value).and_then(|text| text.parse().ok()),
            _ => None,
        };
        number.ok_or_else(|| self.wrong(at, "`seconds` is no single number: all videos of a sweep are as long"))
    }

    /// Trajectories: a text, or a list of them.
    fn actions(&self, value: &DeValue<'_>, at: usize) -> Result<Vec<String>, SweepError> {
        let text = |value: &DeValue<'_>| match value {
            DeValue::String(text) if !text.trim().is_empty() => Some(text.to_string()),
            _ => None,
        };
        let texts = match value {
            DeValue::Array(items) => items.iter().map(|item| text(item.get_ref())).collect(),
            value => text(value).map(|text| vec![text]),
        };
        let texts: Option<Vec<_>> = texts;
        texts.filter(|texts| !texts.is_empty()).ok_or_else(|| {
            let expected = "`actions` is no text and no list of texts, such as [\"w*48, none*\", \"walk.jsonl\"]";
            self.wrong(at, expected)
        })
    }

    fn seeds(&self, value: &DeValue<'_>, at: usize) -> Result<Vec<u64>, SweepError> {
        let Some(key) = Key::find("seed") else {
            return Ok(Vec::new());
        };
        let texts = self.values(key, value, at)?;
        Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
    }

    /// A model or preset, or a list of them.
    fn axis(&self, name: &str, value: &DeValue<'_>, at: usize) -> Result<Axis, SweepError> {
        let Some(key) = systems().find(|key| key.name == name) else {
            return Err(self.unknown(at, name));
        };
        Ok(Axis {
            key: name.into(),
            values: self.values(key, value, at)?,
        })
    }

    /// The parameters of a group.
    fn axes(&self, group: &str, table: &DeTable<'_>) -> Result<Vec<Axis>, SweepError> {
        let mut axes = Vec::new();
        for (name, value) in table {
            let at = name.span().start;
            let name = format!("{group}.{}", name.get_ref());
            let Some(key) = parameters().find(|key| key.name == name) else {
                return Err(self.unknown(at, &name));
            };
            axes.push(Axis {
                key: name,
                values: self.values(key, value.get_ref(), at)?,
            });
        }
        Ok(axes)
    }

    fn values(&self, key: &Key, value: &DeValue<'_>, at: usize) -> Result<Vec<String>, SweepError> {
        let wrong = || self.wrong(at, &format!("`{}` is no value, list or range", key.name));
        let texts = match value {
            // One list of steps is one value.
            DeValue::Array(items) if key.is_list() && items.iter().all(|item| plain(item.get_ref()).is_some()) => {
                vec![joined(value).ok_or_else(wrong)?]
            }
            DeValue::Array(items) if items.is_empty() => return Err(wrong()),
            DeValue::Array(items) => {
                let items = items.iter().map(|item| joined(item.get_ref()).ok_or_else(wrong));
                items.collect::<Result<_, _>>()?
            }
            value => vec![plain(value).ok_or_else(wrong)?],
        };
        let place = format!("`{}` in `{}`", key.name, self.place(at));
        values(key, &place, texts.iter().map(String::as_str))
    }

    fn point(&self, value: &DeValue<'_>, at: usize) -> Result<NamedPoint, SweepError> {
        let DeValue::Table(table) = value else {
            return Err(self.wrong(at, "a point is no table, written as [[points]]"));
        };
        let mut point = NamedPoint::default();
        for (key, value) in table {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            match (name, value.get_ref()) {
                ("label", DeValue::String(label)) if !label.trim().is_empty() => point.label = label.to_string(),
                ("label", _) => return Err(self.wrong(at, "`label` is no text in quotes")),
                ("cache" | "sampler", DeValue::Table(table)) => {
                    for axis in self.axes(name, table)? {
                        self.set(&mut point, axis, at)?;
                    }
                }
                (name, value) if systems().any(|key| key.name == name) => {
                    let axis = self.axis(name, value, at)?;
                    self.set(&mut point, axis, at)?;
                }
                (name, _) => return Err(self.unknown(at, name)),
            }
        }
        match point.label.is_empty() {
            true => Err(self.wrong(at, "a point has no `label`")),
            false => Ok(point),
        }
    }
}

impl Reader<'_> {
    /// Gives a point the one value of an axis.
    fn set(&self, point: &mut NamedPoint, axis: Axis, at: usize) -> Result<(), SweepError> {
        let [value] = &axis.values[..] else {
            let reason = format!("`{}` of a point has several values; a point has one of each", axis.key);
            return Err(self.wrong(at, &reason));
        };
        point.settings.insert(axis.key, value.clone());
        Ok(())
    }
}

/// A value that is neither list nor table, as people write it.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Some(number.to_string()),
            Err(_) => Some(number.to_string()),
        },
        DeValue::Float(number) => Some(number.as_str().into()),
        _ => None,
    }
}

/// A value, or a list as one value.
fn joined(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| plain(item.get_ref())).collect();
            items.map(|items| items.join(","))
        }
        value => plain(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(preset: &SweepPreset) -> Vec<(&str, Vec<&str>)> {
        let mut axes: Vec<_> = preset
            .axes
            .iter()
            .map(|axis| (axis.key.as_str(), axis.values.iter().map(String::as_str).collect()))
            .collect();
        axes.sort();
        axes
    }

    #[test]
    fn the_presets_of_the_paper_are_those_of_the_paper() {
        let sink = SweepPreset::load("paper-sink").unwrap();
        assert_eq!(
            axes(&sink),
            [
                ("cache.policy", vec!["deep-sink"]),
                ("cache.sink", vec!["0", "4", "9", "12", "14", "18"]),
                ("cache.window", vec!["21"]),
            ]
        );
        let scorer = SweepPreset::load("paper-scorer").unwrap();
        assert_eq!(
            axes(&scorer)[3],
            ("cache.scorer", vec!["denoising", "past", "both", "random"])
        );
        let components = SweepPreset::load("paper-components").unwrap();
        let policies: Vec<_> = components
            .points
            .iter()
            .map(|point| point.settings["cache.policy"].as_str())
            .collect();
        assert_eq!(policies, ["fifo", "deep-sink", "deep-forcing"]);
        let systems = SweepPreset::load("paper-systems").unwrap();
        let presets: Vec<_> = systems
            .points
            .iter()
            .map(|point| (point.label.as_str(), point.settings["preset"].as_str()))
            .collect();
        assert_eq!(
            presets,
            [
                ("CausVid", "causvid"),
                ("Self Forcing", "self-forcing"),
                ("Rolling Forcing", "rolling-forcing"),
                ("LongLive", "longlive"),
                ("Deep Forcing", "deep-forcing"),
            ]
        );
        assert!(presets.iter().all(|(_, preset)| Preset::load(preset).is_ok()));
        for name in SweepPreset::names() {
            assert_eq!(SweepPreset::load(name).unwrap().seconds, Some(60.0));
        }
    }

    #[test]
    fn values_are_written_as_people_like() {
        let text = "\u{feff}seed = \"0..2\"\nseconds = 2.5\ncache.sink = \"0..8..4\"\n[sampler]\nsteps = [[1000, 500], \"1000\"]\nshift = 5\n";
        let preset = SweepPreset::parse("my.toml", text).unwrap();
        assert_eq!((preset.seconds, &preset.seeds[..]), (Some(2.5), &[0, 1, 2][..]));
        assert_eq!(
            axes(&preset),
            [
                ("cache.sink", vec!["0", "4", "8"]),
                ("sampler.shift", vec!["5"]),
                ("sampler.steps", vec!["1000,500", "1000"]),
            ]
        );
        let text = "model = \"toy\"\npreset = [\"longlive\", \"../own.toml\"]\n";
        let systems = SweepPreset::parse("my.toml", text).unwrap();
        assert_eq!(
            axes(&systems),
            [("model", vec!["toy"]), ("preset", vec!["longlive", "../own.toml"])]
        );
        let one = SweepPreset::parse("my.toml", "sampler.steps = [1000, 500]").unwrap();
        assert_eq!(axes(&one), [("sampler.steps", vec!["1000,500"])]);
    }

    #[test]
    fn mistakes_are_told_with_their_lines() {
        let cases: [(&str, &[&str]); 16] = [
            (
                "[cache]\nsnik = 3",
                &[
                    "my.toml:2",
                    "unknown parameter `cache.snik`; did you mean `cache.sink`?",
                ],
            ),
            (
                "sink = [0, 4]",
                &["my.toml:1", "unknown parameter `sink`; did you mean `cache.sink`?"],
            ),
            ("[cahce]\nsink = 3", &["my.toml:1", "unknown parameter `cahce`"]),
            ("seeds = 3", &["did you mean `seed`?"]),
            ("seed = \"9..2\"", &["`seed` in `my.toml:1`", "goes down"]),
            ("seed = [1, -2]", &["`-2`", "whole number"]),
            ("\n[cache]\nsink = [0, \"x\"]", &["`cache.sink` in `my.toml:3`", "`x`"]),
            ("cache.sink = true", &["`cache.sink` is no value"]),
            ("cache.sink = []", &["`cache.sink` is no value"]),
            ("seconds = [1, 2]", &["no single number"]),
            ("description = 3", &["no text"]),
            ("description = \"nothing\"", &["sets no parameter"]),
            ("a b", &["my.toml:1"]),
            ("[[points]]\ncache.sink = 3", &["no `label`"]),
            (
                "[[points]]\nlabel = \"a\"\ncache.sink = [3, 4]",
                &["`cache.sink` of a point has several values"],
            ),
            (
                "[[points]]\nlabel = \"a\"\nname = \"b\"",
                &["my.toml:3", "unknown parameter `name`"],
            ),
        ];
        for (text, parts) in cases {
            let error = SweepPreset::parse("my.toml", text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }

    #[test]
    fn names_that_are_none_are_told_apart() {
        let said = |name| SweepPreset::load(name).unwrap_err().to_string();
        assert!(
            said("paper-snik").contains("did you mean `paper-sink`?"),
            "{}",
            said("paper-snik")
        );
        assert!(said("deep-forcing").contains("--model deep-forcing"));
        assert!(said("there/is/none.toml").contains("there/is/none.toml"));
    }
}
