//! Pages that comments cite exist, and so do the sections.

use std::{collections::BTreeSet, path::Path, sync::LazyLock};

use regex::Regex;

use crate::docs::pages::{files, read, root};

const FOLDER: &str = "docs/algorithms/";

/// A page, and the sections of it that are meant.
static CITATION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"([\w./]*\b)(\w+\.md)(?: sections? (\d+)(?: (?:to|and) (\d+))?)?").unwrap());

/// Comments of a source file, consecutive lines joined.
fn comments(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for line in text.lines() {
        let line = line.trim_start();
        match line.strip_prefix("//") {
            Some(comment) => {
                let last = all.last_mut().unwrap();
                last.push(' ');
                last.push_str(comment.trim_start_matches(['/', '!']).trim());
            }
            None => all.push(String::new()),
        }
    }
    all.retain(|comment| !comment.is_empty());
    all
}

/// Numbers of the sections of a page: `## 3. Title`.
fn sections(page: &str) -> BTreeSet<usize> {
    let heading = Regex::new(r"(?m)^## (\d+)\. ").unwrap();
    heading
        .captures_iter(page)
        .map(|found| found[1].parse().unwrap())
        .collect()
}

/// What is wrong with the citations of a comment.
fn faults(comment: &str, names: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for found in CITATION.captures_iter(comment) {
        let (folder, name) = (&found[1], &found[2]);
        let path = format!("{folder}{name}");
        if names.contains(name) && folder != FOLDER {
            faults.push(format!("`{path}` should be `{FOLDER}{name}`"));
        } else if (found.get(3).is_some() && !root().join(&path).is_file())
            || (folder == FOLDER && !names.contains(name))
        {
            faults.push(format!("there is no page `{path}`"));
        } else if let Some(first) = found.get(3) {
            let number = |text: &str| text.parse::<usize>().unwrap();
            let first = number(first.as_str());
            let last = found.get(4).map_or(first, |last| number(last.as_str()));
            let known = sections(&read(Path::new(&path)));
            let missing = (first..=last).filter(|section| !known.contains(section));
            faults.extend(missing.map(|section| format!("`{path}` has no section {section}")));
        }
    }
    faults
}

#[test]
fn cited_pages_and_sections_exist() {
    let pages = files("docs/algorithms", &[".md"]);
    let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let names: BTreeSet<String> = pages.iter().map(name).filter(|name| name != "README.md").collect();
    let (mut cited, mut wrong) = (0, Vec::new());
    for folder in ["src", "tests", "benches"] {
        for path in files(folder, &[".rs", ".cu", ".h", ".cpp"]) {
            if path == Path::new("tests/it/docs/citations.rs") {
                continue;
            }
            for comment in comments(&read(&path)) {
                cited += comment.matches(FOLDER).count();
                let faults = faults(&comment, &names);
                wrong.extend(faults.into_iter().map(|fault| format!("{}: {fault}", path.display())));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cited >= 10, "only {cited} citations were found");
}

#[test]
fn a_wrong_citation_is_found() {
    let names = BTreeSet::from(["scheduler.md".to_string()]);
    let count = |comment: &str| faults(comment, &names).len();
    assert_eq!(count("as in docs/algorithms/scheduler.md section 1"), 0);
    assert_eq!(count("writes `table.md` and plots"), 0);
    assert_eq!(count("as in docs/algorithms/scheduler.md sections 4 to 6"), 1);
    assert_eq!(count("as in scheduler.md section 1"), 1);
    assert_eq!(count("as in docs/algorithms/nothing.md"), 1);
    assert_eq!(count("as in nothing.md section 2"), 1);
    assert_eq!(
        comments("let a = 1;\n/// of docs/algorithms/a.md\n/// section 3\nfn b() {}")[0].trim(),
        "of docs/algorithms/a.md section 3"
    );
}

#[test]
fn sections_of_a_page_are_numbered_from_1() {
    for path in files("docs/algorithms", &[".md"]) {
        let found: Vec<usize> = sections(&read(&path)).into_iter().collect();
        let expected: Vec<usize> = (1..=found.len()).collect();
        assert_eq!(found, expected, "{}", path.display());
    }
}
