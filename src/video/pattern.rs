//! Names of numbered pictures: `frame_%05d.png`, `frame_{frame}.png`, or a folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{VideoError, folders::beside};

/// Digits of `{frame}` and of the names in a folder.
const DIGITS: usize = 5;

/// Where the pictures of a sequence are: a folder, and file names that differ in a number. The first picture is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The folder of the pictures; created if need be.
    pub folder: PathBuf,
    before: String,
    /// Digits at least; more when the number needs them.
    digits: usize,
    after: String,
}

impl Pattern {
    /// Pictures called `frame_00000.png` and so on in `folder`.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            before: "frame_".to_owned(),
            digits: DIGITS,
            after: ".png".to_owned(),
        }
    }

    /// Takes apart a path whose file name has one place for the number: `%d`, `%05d` (any width up to 9) or `{frame}`.
    /// `%%` stands for one `%`.
    ///
    /// # Errors
    /// When the name has no number, or more than one.
    pub fn parse(path: &Path) -> Result<Self, VideoError> {
        let refuse = |reason| {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("frame");
            let clean: String = stem.chars().filter(|c| !"%{}".contains(*c)).collect();
            Err(VideoError::Pattern {
                path: path.to_owned(),
                reason,
                example: format!("{clean}_%05d.png"),
            })
        };
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let in_folder = folder.to_string_lossy();
        if in_folder.contains("{frame}") || has_number(&in_folder) {
            return refuse("has the number in a folder's name");
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(parts) = split(name) else {
            return refuse("has a % that stands for no number (write %% for a %)");
        };
        match <[(String, Option<usize>); 2]>::try_from(parts) {
            Ok([(before, Some(digits)), (after, None)]) => Ok(Self {
                folder,
                before,
                digits,
                after,
            }),
            Ok(_) => refuse("has no place for the number"),
            Err(parts) if parts.len() < 2 => refuse("names a single picture"),
            Err(_) => refuse("has more than one place for the number"),
        }
    }

    /// The path of picture `number`.
    pub fn picture(&self, number: u64) -> PathBuf {
        let Self {
            before, digits, after, ..
        } = self;
        self.folder.join(format!("{before}{number:0digits$}{after}"))
    }

    /// The number of the picture called `name`, if it is one of this sequence.
    fn number(&self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        let wide = digits.len() == self.digits || (digits.len() > self.digits && !digits.starts_with('0'));
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        (wide && all).then(|| digits.parse().ok())?
    }

    /// The path with `%05d` in place of the number, whichever way it was given.
    pub fn path(&self) -> PathBuf {
        self.folder.join(self.name())
    }

    fn name(&self) -> String {
        let escaped = |text: &str| text.replace('%', "%%");
        let (before, after) = (escaped(&self.before), escaped(&self.after));
        match self.digits {
            1 => format!("{before}%d{after}"),
            digits => format!("{before}%0{digits}d{after}"),
        }
    }

    /// Where a picture stands until it is complete.
    pub fn partial(&self) -> PathBuf {
        self.folder.join(beside(&self.name(), "partial", ""))
    }

    /// Held by the run that writes the pictures.
    pub fn lock(&self) -> PathBuf {
        self.folder.join(beside(&self.name(), "lock", ""))
    }

    /// Pictures of this sequence that are there, with their numbers, in order.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn existing(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if let Some(number) = entry.file_name().to_str().and_then(|name| self.number(name)) {
                found.push((number, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Whether `text` has a place for a number in the manner of printf.
pub(super) fn has_number(text: &str) -> bool {
    split(text).is_none_or(|parts| parts.len() > 1)
}

/// The texts between numbers, each but the last with the width of the number after it. None if a `%` is no number.
fn split(name: &str) -> Option<Vec<(String, Option<usize>)>> {
    let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), name);
    loop {
        if let Some(after) = rest.strip_prefix("%%") {
            text.push('%');
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{frame}") {
            parts.push((std::mem::take(&mut text), Some(DIGITS)));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('%') {
            let (width, after) = after.split_once('d')?;
            let digits = match width {
                "" => 1,
                _ => width.strip_prefix('0')?.parse().ok().filter(|n| (1..=9).contains(n))?,
            };
            parts.push((std::mem::take(&mut text), Some(digits)));
            rest = after;
        } else if let Some(next) = rest.chars().next() {
            text.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            parts.push((text, None));
            return Some(parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(path: &str) -> String {
        Pattern::parse(Path::new(path))
            .unwrap()
            .picture(7)
            .display()
            .to_string()
    }

    #[test]
    fn numbers_are_written_as_asked() {
        assert_eq!(first("out/frame_%05d.png"), "out/frame_00007.png");
        assert_eq!(first("%d.png"), "./7.png");
        assert_eq!(first("a{frame}b.png"), "./a00007b.png");
        assert_eq!(first("100%%_%03d.png"), "./100%_007.png");
        let pattern = Pattern::parse(Path::new("%02d.png")).unwrap();
        assert_eq!(pattern.picture(12345), Path::new("./12345.png"));
        assert_eq!(Pattern::in_folder(Path::new("x")).path(), Path::new("x/frame_%05d.png"));
        assert_eq!(
            Pattern::parse(Path::new("9%%{frame}.png")).unwrap().path(),
            Path::new("./9%%%05d.png")
        );
    }

    #[test]
    fn only_own_pictures_are_recognised() {
        let pattern = Pattern::parse(Path::new("f%03d.png")).unwrap();
        for (name, number) in [("f000.png", 0), ("f012.png", 12), ("f1234.png", 1234)] {
            assert_eq!(pattern.number(name), Some(number), "{name}");
        }
        for name in [
            "f12.png",
            "f0012.png",
            "f01x.png",
            "g012.png",
            "f012.jpg",
            "f+12.png",
            "f.png",
        ] {
            assert_eq!(pattern.number(name), None, "{name}");
        }
    }

    #[test]
    fn names_without_one_number_are_refused() {
        for (name, says) in [
            ("clip.png", "single picture"),
            ("a%d_%d.png", "more than one"),
            ("a%s.png", "no number"),
            ("50%.png", "no number"),
            ("a%10d.png", "no number"),
            ("f%05d/a.png", "folder's name"),
            ("{frame}/a%d.png", "folder's name"),
        ] {
            let error = Pattern::parse(Path::new(name)).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("_%05d.png"), "{name}: {error}");
        }
    }
}
