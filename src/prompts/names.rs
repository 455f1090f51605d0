//! A file name for each of several videos.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::Scene;
use crate::text::nearest;

/// Most bytes of an id in a file name.
const LONGEST_ID: usize = 200;
/// Most bytes of a file name: file systems take 255, and names of partial files are a little longer.
const LONGEST_NAME: usize = 230;
const PLACEHOLDERS: [&str; 3] = ["id", "index", "seed"];

/// File names that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// One name for several videos.
    #[error(
        "{scenes} videos cannot all be written to `{pattern}`; put {{id}}, {{index}} or {{seed}} into the name, or give a \
         folder (`out/`)"
    )]
    OneName { scenes: usize, pattern: String },
    /// Two videos would get one file.
    #[error("{first} and {second} would both be written to `{}`; give them different ids or put {{index}} into the name", path.display())]
    Collision {
        first: String,
        second: String,
        path: PathBuf,
    },
    /// A name in braces that is none of ours.
    #[error("`{pattern}`: unknown placeholder {{{name}}}{hint} (a brace that is part of the name is written twice)")]
    Placeholder {
        pattern: String,
        name: String,
        hint: String,
    },
    /// A brace without its partner.
    #[error("`{pattern}`: a brace has no partner; write it twice if it is part of the name")]
    Brace { pattern: String },
    /// Too long for a file system.
    #[error(
        "the file name for {scene} has {bytes} bytes, more than {LONGEST_NAME}; shorten the id or the name pattern"
    )]
    TooLong { scene: String, bytes: usize },
    /// A pattern cannot be cut apart unless it is text.
    #[error("output `{}` is not valid UTF-8; rename it", path.display())]
    NotUtf8 { path: PathBuf },
}

/// Where each video goes.
///
/// `output` is the name of a file, a pattern with `{id}`, `{index}` or `{seed}`, or a folder (it ends in `/` or is one),
/// which stands for `folder/{id}.extension`. Indices count from 0 and have as many digits as the last one; a scene
/// without an id has its index in place of it. `seed` is that of scenes without one. `{{` and `}}` are plain braces.
///
/// # Errors
/// When the pattern cannot be read, or two videos would get one name.
pub fn output_names(scenes: &[Scene], output: &Path, extension: &str, seed: u64) -> Result<Vec<PathBuf>, NameError> {
    let folder = output.as_os_str().as_encoded_bytes().ends_with(b"/") || output.is_dir();
    let pattern = match folder {
        true => output.join(format!("{{id}}.{extension}")),
        false => output.to_owned(),
    };
    // A folder that exists may have braces in its name.
    let (fixed, variable) = match folder {
        true => (Some(output), Path::new(pattern.file_name().unwrap_or_default())),
        false => (None, pattern.as_path()),
    };
    let text = variable
        .to_str()
        .ok_or_else(|| NameError::NotUtf8 { path: output.into() })?;
    let parts = parse(text)?;
    if scenes.len() > 1 && parts.iter().all(|part| matches!(part, Part::Text(_))) {
        return Err(NameError::OneName {
            scenes: scenes.len(),
            pattern: output.display().to_string(),
        });
    }
    let digits = scenes.len().saturating_sub(1).to_string().len();
    let mut taken: HashMap<PathBuf, usize> = HashMap::new();
    let mut names = Vec::with_capacity(scenes.len());
    for (index, scene) in scenes.iter().enumerate() {
        let name = fill(&parts, scene, &format!("{index:0digits$}"), seed);
        let path = fixed.map_or_else(|| PathBuf::from(&name), |folder| folder.join(&name));
        let bytes = path.file_name().map_or(0, |name| name.len());
        if bytes > LONGEST_NAME {
            let scene = scene.label(index);
            return Err(NameError::TooLong { scene, bytes });
        }
        if let Some(first) = taken.insert(compared(&path), index) {
            return Err(NameError::Collision {
                first: scenes[first].label(first),
                second: scene.label(index),
                path,
            });
        }
        names.push(path);
    }
    Ok(names)
}

/// The form in which names are equal; two systems ignore case.
fn compared(path: &Path) -> PathBuf {
    match path.to_str() {
        Some(text) if cfg!(any(target_os = "macos", windows)) => text.to_lowercase().into(),
        _ => path.into(),
    }
}

/// A text as a file name: separators, control characters and what some systems refuse become `_`, dots and spaces at
/// the ends go, and it is cut to 200 bytes.
pub fn safe_file_name(text: &str) -> String {
    let refused = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    let replaced: String = text.chars().map(|c| if refused(c) { '_' } else { c }).collect();
    let ends = |c: char| c == '.' || c.is_whitespace();
    let trimmed = replaced.trim_matches(ends);
    let end = (0..=LONGEST_ID.min(trimmed.len()))
        .rev()
        .find(|end| trimmed.is_char_boundary(*end));
    let cut = trimmed[..end.unwrap_or(0)].trim_end_matches(ends);
    let stem = cut.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let device = ["CON", "PRN", "AUX", "NUL"].contains(&stem.as_str())
        || (stem.len() == 4
            && (stem.starts_with("COM") || stem.starts_with("LPT"))
            && stem.ends_with(|c: char| c.is_ascii_digit()));
    match cut {
        "" => "_".into(),
        // `-` at the front would be taken for a flag by other programs.
        name if device || name.starts_with('-') => {
            let mut name = format!("_{name}");
            while name.len() > LONGEST_ID {
                name.pop();
            }
            name
        }
        name => name.into(),
    }
}

/// A piece of a pattern.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Id,
    Index,
    Seed,
}

fn parse(pattern: &str) -> Result<Vec<Part>, NameError> {
    let brace = || NameError::Brace {
        pattern: pattern.into(),
    };
    let (mut parts, mut text) = (Vec::new(), String::new());
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let open = rest[at..].starts_with('{');
        let same = if open { '{' } else { '}' };
        if let Some(after) = after.strip_prefix(same) {
            text.push(same);
            rest = after;
            continue;
        }
        let (name, after) = after.split_once('}').filter(|_| open).ok_or_else(brace)?;
        let part = match name {
            "id" => Part::Id,
            "index" => Part::Index,
            "seed" => Part::Seed,
            _ => {
                return Err(NameError::Placeholder {
                    pattern: pattern.into(),
                    name: name.into(),
                    hint: nearest::hint(name, PLACEHOLDERS),
                });
            }
        };
        parts.push(Part::Text(std::mem::take(&mut text)));
        parts.push(part);
        rest = after;
    }
    text.push_str(rest);
    parts.push(Part::Text(text));
    Ok(parts)
}

fn fill(parts: &[Part], scene: &Scene, index: &str, seed: u64) -> String {
    let value = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Id => scene.id.as_deref().map_or_else(|| index.into(), safe_file_name),
        Part::Index => index.into(),
        Part::Seed => scene.seed.unwrap_or(seed).to_string(),
    };
    parts.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scenes(ids: &[Option<&str>]) -> Vec<Scene> {
        let scene = |(line, id): (usize, &Option<&str>)| Scene {
            id: id.map(Into::into),
            line: Some(line + 1),
            ..Scene::of_prompt("a")
        };
        ids.iter().enumerate().map(scene).collect()
    }

    fn names(ids: &[Option<&str>], output: &str) -> Result<Vec<String>, NameError> {
        let paths = output_names(&scenes(ids), Path::new(output), "mp4", 7)?;
        Ok(paths.iter().map(|path| path.display().to_string()).collect())
    }

    #[test]
    fn names_follow_the_pattern() {
        assert_eq!(names(&[None], "video.mp4").unwrap(), ["video.mp4"]);
        assert_eq!(names(&[Some("x")], "new/").unwrap(), ["new/x.mp4"]);
        assert_eq!(
            names(&[Some("a/b"), None], "new/").unwrap(),
            ["new/a_b.mp4", "new/1.mp4"]
        );
        assert_eq!(
            names(&[None, None], "{{{seed}}}-{index}.webm").unwrap(),
            ["{7}-0.webm", "{7}-1.webm"]
        );
        let many = names(&[None; 11], "out/{index}.mp4").unwrap();
        assert_eq!((many[0].as_str(), many[10].as_str()), ("out/00.mp4", "out/10.mp4"));
        let pictures = names(&[None], "out/frame_%05d.png").unwrap();
        assert_eq!(pictures, ["out/frame_%05d.png"]);
    }

    #[test]
    fn a_folder_that_exists_needs_no_slash() {
        let folder = tempfile::tempdir().unwrap();
        let braces = folder.path().join("a {folder}");
        std::fs::create_dir(&braces).unwrap();
        let found = output_names(&scenes(&[Some("x"), None]), &braces, "gif", 7).unwrap();
        assert_eq!(found, [braces.join("x.gif"), braces.join("1.gif")]);
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        assert!(matches!(
            names(&[None, None], "a.mp4"),
            Err(NameError::OneName { scenes: 2, .. })
        ));
        let error = names(&[Some("a/b"), None, Some("a?b")], "out/")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`a/b` (line 1) and `a?b` (line 3) would both be written to `out/a_b.mp4`"),
            "{error}"
        );
        assert!(matches!(
            names(&[None, Some("0")], "out/"),
            Err(NameError::Collision { .. })
        ));
        let same_seed = names(&[None, None], "{seed}.mp4").unwrap_err().to_string();
        assert!(
            same_seed.contains("the prompt of line 1 and the prompt of line 2"),
            "{same_seed}"
        );
        let unknown = names(&[None], "{idx}.mp4").unwrap_err().to_string();
        assert!(unknown.contains("did you mean `id`?"), "{unknown}");
        for pattern in ["a{id.mp4", "a}.mp4", "{"] {
            assert!(
                matches!(names(&[None], pattern), Err(NameError::Brace { .. })),
                "{pattern}"
            );
        }
        let long = "x".repeat(100);
        let pattern = format!("{long}{{id}}.mp4");
        assert!(matches!(
            names(&[Some(&"é".repeat(300))], &pattern),
            Err(NameError::TooLong { .. })
        ));
    }

    #[test]
    fn unsafe_names_become_safe() {
        for (text, name) in [
            ("../../etc/passwd", "_.._etc_passwd"),
            ("..", "_"),
            ("", "_"),
            (" . ", "_"),
            ("a\0b\nc", "a_b_c"),
            ("nul", "_nul"),
            ("Com1.x", "_Com1.x"),
            ("-rf", "_-rf"),
            ("grüner Ball", "grüner Ball"),
        ] {
            assert_eq!(safe_file_name(text), name, "{text:?}");
        }
        assert_eq!(safe_file_name(&"é".repeat(300)).len(), 200);
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_safe_name(text in any::<String>()) {
            let name = safe_file_name(&text);
            prop_assert!(!name.is_empty() && name.len() <= LONGEST_ID);
            prop_assert!(!name.contains(['/', '\\', '\0']) && name != "." && name != "..");
            prop_assert_eq!(safe_file_name(&name), name, "twice is as once");
        }

        #[test]
        fn any_pattern_is_read_or_refused(pattern in any::<String>()) {
            let _ = names(&[Some("a"), None], &pattern);
        }
    }
}
