//! Measures in a line of a manifest: what can be looked up is left out, and so are digits that mean nothing.

use serde::{Serialize, Serializer, ser::Error};
use serde_json::Value;

use crate::metrics::Report;

/// Digits of a number.
const DIGITS: i32 = 7;

/// What the catalogue tells of every metric.
const KNOWN: [&str; 4] = ["name", "unit", "formula", "source"];

pub(super) fn metrics<S: Serializer>(report: &Option<Report>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut value = serde_json::to_value(report).map_err(S::Error::custom)?;
    let measured = value.get_mut("metrics").and_then(Value::as_array_mut);
    for measured in measured.into_iter().flatten() {
        if let Some(measured) = measured.as_object_mut() {
            measured.retain(|key, _| !KNOWN.contains(&key.as_str()));
        }
    }
    round(&mut value);
    value.serialize(serializer)
}

fn round(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(round),
        Value::Object(values) => values.values_mut().for_each(round),
        Value::Number(number) if number.is_f64() => {
            let rounded = number.as_f64().map(rounded).and_then(serde_json::Number::from_f64);
            if let Some(rounded) = rounded {
                *number = rounded;
            }
        }
        _ => {}
    }
}

fn rounded(number: f64) -> f64 {
    let digits = (DIGITS - 1) as usize;
    // Through text: a product with a power of ten would not be the nearest number of that many digits.
    format!("{number:.digits$e}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, Options};

    #[derive(Serialize)]
    struct Line {
        #[serde(serialize_with = "metrics")]
        metrics: Option<Report>,
    }

    #[test]
    fn a_line_is_short_and_reads_back() {
        let mut measuring = Metrics::new(32, 32, 16.0, Options::default()).unwrap();
        for at in 0..960usize {
            let pixel = |pixel: usize| ((pixel * 31 + at * (7 + at % 3)) % 256) as u8;
            measuring
                .push(&(0..32 * 32 * 3).map(pixel).collect::<Vec<_>>())
                .unwrap();
        }
        let report = measuring.finish().unwrap();
        let text = serde_json::to_string(&Line {
            metrics: Some(report.clone()),
        })
        .unwrap();
        assert!(!text.contains("formula") && !text.contains("VBench"), "{text}");
        // A minute of video.
        assert!(text.len() < 25_000, "{}", text.len());
        let read: Value = serde_json::from_str(&text).unwrap();
        let read: Report = serde_json::from_value(read["metrics"].clone()).unwrap();
        assert_eq!(read.per_second.len(), 60);
        for (read, made) in read.metrics.iter().zip(&report.metrics) {
            assert_eq!(read.metric, made.metric);
            let (read, made) = (read.whole.unwrap_or(0.0), made.whole.unwrap_or(0.0));
            assert!((read - made).abs() <= made.abs() * 1e-6, "{read} {made}");
        }
    }

    #[test]
    fn numbers_keep_seven_digits() {
        for (number, expected) in [
            (0.0, 0.0),
            (1.0 / 3.0, 0.3333333),
            (-123456.789, -123456.8),
            (2e-9 / 3.0, 6.666667e-10),
        ] {
            assert_eq!(rounded(number), expected);
        }
    }
}
