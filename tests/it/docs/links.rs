//! Links between pages, paths and `make` targets that pages name.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use regex::Regex;

use crate::docs::pages::{Page, files, guides, read, root};

/// The anchor that a heading gets.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(path: &Path) -> BTreeSet<String> {
    let page = Page::read(path);
    let headings = page.prose.iter().filter(|line| line.starts_with('#'));
    headings.map(|line| slug(line.trim_start_matches('#'))).collect()
}

/// What is wrong with a link from a page.
fn fault(page: &Path, link: &str) -> Option<String> {
    if link.starts_with("http://") || link.starts_with("https://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => page.to_path_buf(),
        file => page.parent().unwrap_or(Path::new("")).join(file),
    };
    if !root().join(&target).exists() {
        return Some(format!("{}: nothing is at `{link}`", page.display()));
    }
    let known = anchor.is_empty() || anchor.starts_with('L') || anchors(&target).contains(anchor);
    (!known).then(|| format!("{}: no heading for `{link}`", page.display()))
}

#[test]
fn links_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let (mut checked, mut wrong) = (0, Vec::new());
    for page in files("", &[".md"]) {
        for line in Page::read(&page).prose {
            for found in link.captures_iter(&line) {
                checked += 1;
                wrong.extend(fault(&page, &found[1]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 100, "only {checked} links were found");
    assert!(fault(Path::new("README.md"), "docs/nothing.md").is_some());
    assert!(fault(Path::new("README.md"), "docs/algorithms/vae.md#nothing").is_some());
}

#[test]
fn every_page_of_docs_can_be_reached_from_the_readme() {
    let link = Regex::new(r"\]\(([^)\s#]+\.md)(?:#[^)]*)?\)").unwrap();
    let mut reached = BTreeSet::new();
    let mut open = vec![PathBuf::from("README.md")];
    while let Some(page) = open.pop() {
        let folder = root().join(&page).parent().unwrap().to_path_buf();
        if !reached.insert(root().join(&page).canonicalize().unwrap()) {
            continue;
        }
        let text = Page::read(&page).prose.join("\n");
        let local = link.captures_iter(&text).filter(|found| !found[1].starts_with("http"));
        let targets = local
            .map(|found| folder.join(&found[1]))
            .filter(|target| target.is_file());
        let relative = |target: PathBuf| {
            let target = target.canonicalize().unwrap();
            target
                .strip_prefix(root().canonicalize().unwrap())
                .unwrap()
                .to_path_buf()
        };
        open.extend(targets.map(relative));
    }
    for page in guides() {
        let path = root().join(&page).canonicalize().unwrap();
        assert!(
            reached.contains(&path),
            "no way leads from README.md to {}",
            page.display()
        );
    }
}

#[test]
fn paths_and_make_targets_that_pages_name_exist() {
    let path = Regex::new(r"^(src|tests|docs|configs|scripts|benches|weights|build)/[\w./-]+$").unwrap();
    let make = Regex::new(r"^make ([a-z-]+)").unwrap();
    let makefile = read(Path::new("Makefile"));
    let targets: BTreeSet<&str> = Regex::new(r"(?m)^([a-z-]+):")
        .unwrap()
        .captures_iter(&makefile)
        .map(|found| found.get(1).unwrap().as_str())
        .collect();
    let mut wrong = Vec::new();
    for page in guides() {
        let content = Page::read(&page);
        for text in content.spans().iter().chain(&content.code) {
            let text = text.trim();
            let first = text.split(' ').next().unwrap_or("");
            if path.is_match(first) && !root().join(first).exists() {
                wrong.push(format!("{}: there is no `{first}`", page.display()));
            }
            if let Some(found) = make.captures(text)
                && !targets.contains(&found[1])
            {
                wrong.push(format!("{}: there is no target for `{text}`", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
