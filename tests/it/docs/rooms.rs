//! Imports between the rooms (folders and files directly below `src`) go one way.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use regex::Regex;

use crate::docs::pages::{files, read};

/// Who imports whom. Tests may look anywhere; `error` gathers the errors of all, and is known to all.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files("src", &[".rs"]) {
        let inner = path.strip_prefix("src").unwrap();
        let room = inner.components().next().unwrap().as_os_str().to_string_lossy();
        let room = room.trim_end_matches(".rs").to_string();
        let name = path.file_stem().unwrap().to_string_lossy();
        let of_tests = name == "tests"
            || name.ends_with("_tests")
            || inner
                .components()
                .any(|c| c.as_os_str() == "emulated" || c.as_os_str() == "tests");
        if ["lib", "main", "error"].contains(&room.as_str()) || of_tests {
            continue;
        }
        let text = code(&read(&path));
        edges
            .entry(room.clone())
            .or_default()
            .extend(used(&text).into_iter().filter(|used| *used != room));
    }
    let rooms: BTreeSet<String> = edges.keys().cloned().collect();
    for used in edges.values_mut() {
        used.retain(|used| rooms.contains(used));
    }
    edges
}

/// A source without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let end = Regex::new(r"#\[cfg\(test\)\]\s*mod tests \{").unwrap();
    let text = end.find(text).map_or(text, |found| &text[..found.start()]);
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n")
}

/// Rooms that a source names, as `crate::room` or in `use crate::{room…, …}`.
fn used(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    let name = Regex::new(r"^\s*(\w+)").unwrap();
    for (at, found) in text.match_indices("crate::") {
        let rest = &text[at + found.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            rooms.extend(name.captures(rest).map(|found| found[1].to_string()));
            continue;
        };
        let (mut depth, mut item) = (1, String::new());
        for c in group.chars() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth == 0 || (depth == 1 && c == ',') {
                rooms.extend(name.captures(&item).map(|found| found[1].to_string()));
                item.clear();
            } else {
                item.push(c);
            }
            if depth == 0 {
                break;
            }
        }
    }
    rooms
}

/// A circle among the rooms, if there is one.
fn circle(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut left = edges.clone();
    // Who imports nothing that is left is in no circle.
    while let Some(free) = left.iter().find(|(_, used)| !used.iter().any(|u| left.contains_key(u))) {
        let free = free.0.clone();
        left.remove(&free);
    }
    let Some(start) = left.keys().next() else {
        return Vec::new();
    };
    let mut way = vec![start.clone()];
    loop {
        let next = left[way.last().unwrap()]
            .iter()
            .find(|used| left.contains_key(*used))
            .unwrap();
        if let Some(at) = way.iter().position(|room| room == next) {
            way.drain(..at);
            way.push(next.clone());
            return way;
        }
        way.push(next.clone());
    }
}

#[test]
fn imports_between_rooms_go_one_way() {
    let edges = imports();
    assert!(
        edges["cache"].contains("kernels") && edges["cli"].contains("render"),
        "{edges:?}"
    );
    let circle = circle(&edges);
    assert!(circle.is_empty(), "a circle of imports: {}", circle.join(" -> "));
}

#[test]
fn a_circle_is_found() {
    let source = "use crate::{\n    Error,\n    a::{B, C},\n    d::e,\n};\nfn f() -> crate::g::H {}";
    assert_eq!(used(source), ["Error", "a", "d", "g"].map(String::from).into());
    let edge = |from: &str, to: &[&str]| (from.to_string(), to.iter().map(|room| room.to_string()).collect());
    let open = BTreeMap::from([edge("a", &["b"]), edge("b", &["c"]), edge("c", &[])]);
    assert!(circle(&open).is_empty());
    let closed = BTreeMap::from([edge("a", &["b"]), edge("b", &["c"]), edge("c", &["b"])]);
    assert_eq!(circle(&closed), ["b", "c", "b"]);
}

#[test]
fn every_room_stands_in_the_map_of_the_crate_and_in_contributing() {
    let (map, page) = (read(Path::new("src/lib.rs")), read(Path::new("CONTRIBUTING.md")));
    for room in imports().keys() {
        let named = map.contains(&format!("[`{room}`]")) || map.contains(&format!("[`mod@{room}`]"));
        assert!(named || room == "cli", "{room} is not in the table of src/lib.rs");
        assert!(
            page.contains(&format!("`{room}`")),
            "{room} is not in the table of CONTRIBUTING.md"
        );
    }
}
