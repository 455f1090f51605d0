//! Values of a parameter as people write them: lists and ranges.

use std::path::Path;

use super::{SweepError, systems};
use crate::config::Key;

/// Most values of a parameter.
const MOST: usize = 10_000;

/// The values of `key` in `texts`, each once, in the form that the config file has them; `place` is what messages call
/// them by.
///
/// Values are separated by commas, or by semicolons where a value is a list itself (`sampler.steps`). Of whole numbers
/// there are ranges as in a shell, to which both ends belong: `0..4` is 0, 1, 2, 3, 4, and `0..20..5` is 0, 5, 10, 15, 20.
/// A model or preset may be a path: what is there under a name with commas is one value.
///
/// # Errors
/// The first value that the setting does not accept, a range that goes down, or too many values.
pub fn values<'a>(key: &Key, place: &str, texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, SweepError> {
    let separator = if key.is_list() { ';' } else { ',' };
    let names = systems().any(|system| system == key);
    let split = |text: &'a str| -> Vec<&'a str> {
        match names && Path::new(text).exists() {
            true => vec![text],
            false => text.split(separator).collect(),
        }
    };
    let mut values: Vec<String> = Vec::new();
    for text in texts.into_iter().flat_map(split) {
        let text = text.trim();
        if names && text.is_empty() {
            return Err(SweepError::Value {
                place: place.into(),
                value: text.into(),
                reason: "expected names or paths, separated by commas".into(),
            });
        }
        let range = if names { None } else { range(place, text)? };
        for value in range.unwrap_or_else(|| vec![text.into()]) {
            let normal = key.normal(&value).map_err(|reason| SweepError::Value {
                place: place.into(),
                value,
                reason,
            })?;
            if !values.contains(&normal) {
                values.push(normal);
            }
        }
        if values.len() > MOST {
            return Err(too_many(place));
        }
    }
    Ok(values)
}

/// The numbers of a range; none when `text` is no range.
fn range(place: &str, text: &str) -> Result<Option<Vec<String>>, SweepError> {
    let Some((first, rest)) = text.split_once("..") else {
        return Ok(None);
    };
    let wrong = || SweepError::Range {
        place: place.into(),
        range: text.into(),
    };
    let (last, step) = rest.split_once("..").unwrap_or((rest, "1"));
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
    let (first, last, step) = (number(first)?, number(last)?, number(step)?);
    if step == 0 {
        return Err(wrong());
    }
    if first > last {
        return Err(SweepError::RangeDown {
            place: place.into(),
            range: text.into(),
            low: last,
            high: first,
        });
    }
    if (last - first) / step >= MOST as u64 {
        return Err(too_many(place));
    }
    let steps = 0..=(last - first) / step;
    Ok(Some(steps.map(|at| (first + at * step).to_string()).collect()))
}

fn too_many(place: &str) -> SweepError {
    SweepError::TooManyValues {
        place: place.into(),
        most: MOST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: &str, texts: &[&str]) -> Result<Vec<String>, String> {
        let key = Key::find(key).unwrap();
        values(key, &key.flag(), texts.iter().copied()).map_err(|error| error.to_string())
    }

    #[test]
    fn lists_and_ranges() {
        assert_eq!(of("cache.sink", &["0, 4,9", "4"]).unwrap(), ["0", "4", "9"]);
        assert_eq!(of("seed", &["0..4"]).unwrap(), ["0", "1", "2", "3", "4"]);
        assert_eq!(
            of("cache.window", &["3..3,0..20..5,012..14"]).unwrap(),
            ["3", "0", "5", "10", "15", "20", "12", "13", "14"]
        );
        assert_eq!(of("cache.window", &["0..9..4"]).unwrap(), ["0", "4", "8"]);
        assert_eq!(
            of("sampler.steps", &["1000, 500;1000", "1000,500"]).unwrap(),
            ["1000,500", "1000"]
        );
        assert_eq!(of("sampler.shift", &["5,7.50"]).unwrap(), ["5", "7.5"]);
        assert_eq!(of("cache.policy", &["fifo,deep-sink"]).unwrap(), ["fifo", "deep-sink"]);
        assert_eq!(of("model", &["toy, ../models/x"]).unwrap(), ["toy", "../models/x"]);
        let folder = tempfile::tempdir().unwrap();
        let comma = folder.path().join("a,b").display().to_string();
        assert_eq!(of("model", &[&comma]).unwrap().len(), 2);
        std::fs::create_dir(&comma).unwrap();
        assert_eq!(of("model", &[&comma]).unwrap(), [comma]);
        let last = u64::MAX.to_string();
        assert_eq!(of("seed", &[&format!("{last}..{last}")]).unwrap(), [last]);
    }

    #[test]
    fn what_cannot_be_is_named_with_what_is_expected() {
        let cases: [(&str, &str, &[&str]); 10] = [
            ("model", "toy,,longlive", &["--model", "``", "names or paths"]),
            ("seed", "9..2", &["--seed", "`9..2`", "goes down", "2..9"]),
            ("seed", "0..18446744073709551615", &["--seed", "10000"]),
            ("seed", "0..", &["`0..`", "0..20..5"]),
            ("seed", "1..5..0", &["`1..5..0`", "FIRST..LAST..STEP"]),
            ("cache.sink", "4,,9", &["--sink", "``", "whole number"]),
            ("cache.sink", "-1", &["`-1`", "whole number"]),
            (
                "cache.policy",
                "fifo,deepsink",
                &["--policy", "`deepsink`", "did you mean `deep-sink`"],
            ),
            ("sampler.steps", "1000,1001", &["--steps", "1001"]),
            ("sampler.shift", "0", &["--shift", "above 0"]),
        ];
        for (key, text, parts) in cases {
            let error = of(key, &[text]).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}
