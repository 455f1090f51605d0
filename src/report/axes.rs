//! How rows belong together: those of one model, and those that differ in one number alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::study::Row;
use crate::config::Key;

/// Rows of one model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    /// None when there is nothing to tell apart.
    pub label: Option<String>,
    /// Their numbers.
    pub rows: Vec<usize>,
}

/// The one number that rows differ in, as the paper's figure 5 draws metrics against it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Against {
    /// As in the config file.
    pub key: String,
    /// For people: `sink`.
    pub name: String,
    /// What it means.
    pub about: String,
    pub lines: Vec<Line>,
}

/// Rows that are equal in all else.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// What tells it from other lines; empty when there is one.
    pub label: String,
    /// Values, ascending, with the numbers of their rows.
    pub points: Vec<(f64, usize)>,
}

/// The rows of each model and preset, in order of their first rows. Models are told apart only where one has several
/// rows: else each row says it itself.
pub(super) fn groups(rows: &[Row]) -> Vec<Group> {
    let system = |row: &Row| ["model", "preset"].map(|key| row.settings.get(key).cloned());
    let mut places: HashMap<[Option<String>; 2], usize> = HashMap::new();
    let mut groups: Vec<([Option<String>; 2], Vec<usize>)> = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let system = system(row);
        let place = *places.entry(system.clone()).or_insert(groups.len());
        if place == groups.len() {
            groups.push((system, Vec::new()));
        }
        groups[place].1.push(number);
    }
    if groups.len() < 2 || groups.len() == rows.len() {
        let rows = (0..rows.len()).collect();
        return vec![Group { label: None, rows }];
    }
    let distinct = |part: usize| {
        groups
            .iter()
            .map(|(system, _)| &system[part])
            .collect::<BTreeSet<_>>()
            .len()
    };
    let (several_models, systems) = (distinct(0) > 1, groups.len() > distinct(0));
    let label = |[model, preset]: [Option<String>; 2]| {
        let preset = preset.filter(|preset| systems && Some(preset) != model.as_ref());
        let parts = [model.filter(|_| several_models || preset.is_none()), preset];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    let named = groups.into_iter().map(|(system, rows)| Group {
        label: Some(label(system)),
        rows,
    });
    named.collect()
}

/// What the rows differ in, if it is one number.
pub(super) fn against(rows: &[Row]) -> Option<Against> {
    let drawn = || rows.iter().enumerate().filter(|(_, row)| row.skipped.is_none());
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (key, value) in drawn().flat_map(|(_, row)| &row.settings) {
        values.entry(key).or_default().insert(value);
    }
    let mut numeric = values.iter().filter(|(_, values)| {
        let numbers = values.iter().all(|value| number(value).is_some());
        numbers && values.len() > 1
    });
    let (Some((key, _)), None) = (numeric.next(), numeric.next()) else {
        return None;
    };
    let name = key.rsplit('.').next().unwrap_or(key).replace('-', " ");
    let mut places: HashMap<Vec<(&str, &str)>, usize> = HashMap::new();
    let mut lines: Vec<Line> = Vec::new();
    for (row, settings) in drawn() {
        let Some(value) = settings.settings.get(*key).and_then(|value| number(value)) else {
            continue;
        };
        let others = settings.settings.iter().filter(|(other, _)| other != key);
        let rest: Vec<_> = others.map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let place = *places.entry(rest).or_insert(lines.len());
        if place == lines.len() {
            let own = format!("{name} ");
            let parts = settings.label.split(", ").filter(|part| !part.starts_with(&own));
            lines.push(Line {
                label: parts.collect::<Vec<_>>().join(", "),
                points: Vec::new(),
            });
        }
        lines[place].points.push((value, row));
    }
    for line in &mut lines {
        line.points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    }
    let any = lines.iter().any(|line| line.points.len() > 1);
    any.then(|| Against {
        about: Key::find(key).map_or_else(String::new, |key| key.about.into()),
        key: (*key).into(),
        name,
        lines,
    })
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// The place of each row's colour on the ramp: models after each other, numbers by size.
pub(super) fn colour_places(rows: &[Row], groups: &[Group], against: Option<&Against>) -> Vec<usize> {
    let mut keys: Vec<(usize, usize, usize)> = (0..rows.len()).map(|row| (0, usize::MAX, row)).collect();
    for (place, group) in groups.iter().enumerate() {
        for row in &group.rows {
            keys[*row].0 = place;
        }
    }
    for (line, Line { points, .. }) in against.iter().flat_map(|against| &against.lines).enumerate() {
        for (place, (_, row)) in points.iter().enumerate() {
            (keys[*row].1, keys[*row].2) = (line, place);
        }
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|row| keys[*row]);
    let mut places = vec![0; rows.len()];
    for (place, row) in order.into_iter().enumerate() {
        places[row] = place;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &str, settings: &[(&str, &str)]) -> Row {
        Row {
            label: label.into(),
            settings: settings
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            ..Row::default()
        }
    }

    fn sink(model: &str, sink: &str) -> Row {
        let label = format!("{model}, sink {sink}");
        row(&label, &[("model", model), ("preset", model), ("cache.sink", sink)])
    }

    #[test]
    fn models_are_grouped_where_one_has_several_rows() {
        let rows = [sink("a", "0"), sink("b", "0"), sink("a", "9")];
        let found = groups(&rows);
        let labels: Vec<_> = found.iter().map(|group| group.label.as_deref().unwrap()).collect();
        assert_eq!(labels, ["a", "b"]);
        assert_eq!((&found[0].rows[..], &found[1].rows[..]), (&[0, 2][..], &[1][..]));
        for alone in [&rows[..1], &rows[..2]] {
            assert_eq!(groups(alone)[0].label, None);
            assert_eq!(groups(alone)[0].rows.len(), alone.len());
        }
        let of = |preset: &str, sink: &str| row("", &[("model", "toy"), ("preset", preset), ("cache.sink", sink)]);
        let found = groups(&[of("longlive", "3"), of("longlive", "4"), of("toy", "3"), of("toy", "4")]);
        let labels: Vec<_> = found.iter().map(|group| group.label.as_deref().unwrap()).collect();
        assert_eq!(labels, ["longlive", "toy"]);
    }

    #[test]
    fn a_number_in_which_rows_differ_is_an_axis() {
        let mut rows = vec![
            sink("a", "9"),
            sink("a", "14"),
            sink("b", "9"),
            sink("b", "4"),
            sink("a", "4"),
        ];
        let found = against(&rows).unwrap();
        assert_eq!((found.key.as_str(), found.name.as_str()), ("cache.sink", "sink"));
        assert!(!found.about.is_empty());
        let [a, b] = &found.lines[..] else { panic!("{found:?}") };
        assert_eq!((a.label.as_str(), b.label.as_str()), ("a", "b"));
        assert_eq!(a.points, [(4.0, 4), (9.0, 0), (14.0, 1)]);
        assert_eq!(b.points, [(4.0, 3), (9.0, 2)]);
        // By model, then by size, whatever the order of the rows.
        assert_eq!(colour_places(&rows, &groups(&rows), Some(&found)), [1, 2, 4, 3, 0]);
        // What is not made does not count, and what differs in two numbers is no line.
        rows[1].skipped = Some("reason".into());
        assert_eq!(against(&rows).unwrap().lines[0].points.len(), 2);
        rows[0].settings.insert("cache.window".into(), "7".into());
        rows[4].settings.insert("cache.window".into(), "9".into());
        assert_eq!(against(&rows), None);
        // Nor is a single value, or words.
        assert_eq!(against(&rows[2..3]), None);
        let policy = |policy: &str| row("", &[("cache.policy", policy)]);
        assert_eq!(against(&[policy("fifo"), policy("sink")]), None);
        let places = colour_places(&rows, &groups(&rows), None);
        assert_eq!(places, [0, 1, 3, 4, 2]);
    }
}
