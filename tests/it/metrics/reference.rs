//! The formulas in numpy: `reference.py` made `reference.json`.

use deepforcing::metrics::{Metrics, Options};
use serde_json::Value;

use crate::metrics::clips;

#[test]
fn numpy_gives_the_same_values() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("reference.json")).unwrap();
    let mut compared = 0;
    for case in &cases {
        let number = |name: &str| case[name].as_f64().unwrap();
        let (width, height) = (number("width") as usize, number("height") as usize);
        let options = Options {
            sink_pictures: number("sink_pictures") as u64,
            ..Options::default()
        };
        let mut metrics = Metrics::new(width, height, number("fps"), options).unwrap();
        for t in 0..number("pictures") as usize {
            metrics.push(&clips::reference(width, height, t)).unwrap();
        }
        let report = metrics.finish().unwrap();
        for (part, values) in case["values"].as_object().unwrap() {
            for (key, expected) in values.as_object().unwrap() {
                let expected = expected.as_f64().unwrap();
                let measured = report.metric(key).unwrap();
                let found = match part.as_str() {
                    "whole" => measured.whole,
                    "first" => measured.first,
                    "last" => measured.last,
                    _ => measured.change,
                };
                let found = found.unwrap_or_else(|| panic!("{part} {key} is none"));
                // Colours are computed in single precision.
                let off = (found - expected).abs() / expected.abs().max(1.0);
                assert!(
                    off < 2e-5,
                    "{width}x{height} {part} {key}: {found} instead of {expected}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 60, "{compared}");
}
