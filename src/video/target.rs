//! Where a video goes and in which form, from what stands behind `-o` and `--format`.

use std::{
    fmt, fs,
    io::IsTerminal,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use super::{
    VideoError,
    folders::LONGEST_NAME,
    output::{Output, check_sequence},
    pattern::Pattern,
    program::through,
};

/// The form of a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// H.264 in mp4: every player and browser. On standard output in fragments.
    Mp4,
    /// VP9 in webm (VP8 or AV1 where the installed FFmpeg has no VP9).
    Webm,
    /// An endless animation of 256 colours per picture.
    Gif,
    /// Numbered PNG pictures.
    Png,
    /// Uncompressed YUV 4:2:0 with a header, for video tools.
    Y4m,
    /// Uncompressed RGB, 3 bytes per pixel, without any header.
    Rgb,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 6] = [Self::Mp4, Self::Webm, Self::Gif, Self::Png, Self::Y4m, Self::Rgb];

    /// The name for `--format`, which is the extension as well.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Webm => "webm",
            Self::Gif => "gif",
            Self::Png => "png",
            Self::Y4m => "y4m",
            Self::Rgb => "rgb",
        }
    }

    /// Whether it can be written to standard output.
    pub fn streams(self) -> bool {
        matches!(self, Self::Mp4 | Self::Webm | Self::Y4m | Self::Rgb)
    }

    /// Whether title and comment can be stored in it.
    pub fn holds_metadata(self) -> bool {
        matches!(self, Self::Mp4 | Self::Webm | Self::Gif | Self::Png)
    }

    fn of_extension(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?;
        let is = |form: &Self| form.as_str().eq_ignore_ascii_case(extension);
        Self::ALL.into_iter().find(is)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Form {
    type Err = VideoError;

    fn from_str(name: &str) -> Result<Self, VideoError> {
        let named = Self::ALL.into_iter().find(|form| form.as_str() == name);
        named.ok_or_else(|| VideoError::UnknownForm { name: name.to_owned() })
    }
}

/// Where a video goes, and in which form.
///
/// | text | form |
/// |---|---|
/// | `clip.mp4`, `clip.webm`, `clip.gif`, `clip.y4m`, `clip.rgb` | as the extension says |
/// | `frame_%05d.png`, `frame_{frame}.png` | PNG pictures, numbered from 0 |
/// | `folder/` | PNG pictures `frame_00000.png` ... in it; it is made if needed |
/// | `-` | standard output: fragmented mp4, or what `--format` says |
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    form: Form,
    pub(super) place: Place,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    File(Output),
    Pictures(Pattern),
    Stdout,
}

impl Target {
    /// Reads an output name and a form, which decides where the name does not. Touches no file.
    ///
    /// # Errors
    /// [`VideoError`]: an extension that stands for no form, or for another one; a PNG name without or with more than
    /// one number; a folder; a form that cannot go to standard output.
    pub fn parse(path: impl AsRef<Path>, form: Option<Form>) -> Result<Self, VideoError> {
        let path = path.as_ref();
        if path == Path::new("-") {
            let form = form.unwrap_or(Form::Mp4);
            return match form.streams() {
                true => Ok(Self {
                    form,
                    place: Place::Stdout,
                }),
                false => Err(VideoError::StdoutForm { form }),
            };
        }
        let folder = path.as_os_str().as_encoded_bytes().last() == Some(&b'/');
        let of_name = match folder {
            true => Some(Form::Png),
            false => Form::of_extension(path),
        };
        let form = match (of_name, form) {
            (Some(extension), Some(format)) if extension != format => {
                let path = path.to_owned();
                return Err(VideoError::FormConflict {
                    path,
                    extension,
                    format,
                });
            }
            (Some(form), _) | (None, Some(form)) => form,
            (None, None) => {
                // Says rather that it is a folder, if it is.
                Output::new(path)?;
                return Err(VideoError::Extension { path: path.to_owned() });
            }
        };
        let place = match form {
            Form::Png if folder || of_name.is_none() => Place::Pictures(Pattern::in_folder(path)),
            Form::Png => Place::Pictures(Pattern::parse(path)?),
            _ => Place::File(Output::new(path)?),
        };
        let target = Self { form, place };
        match target.path().to_str() {
            Some(text) if !text.contains('\0') => Ok(target),
            _ => Err(VideoError::NotUtf8 { path: path.to_owned() }),
        }
    }

    /// The form of the video.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Whether the video goes to standard output, where nothing else may then be written.
    pub fn is_stdout(&self) -> bool {
        matches!(self.place, Place::Stdout)
    }

    /// The final path; for numbered pictures with `%05d` in place of the number, for standard output `-`.
    pub fn path(&self) -> PathBuf {
        match &self.place {
            Place::File(output) => output.path.clone(),
            Place::Pictures(pattern) => pattern.path(),
            Place::Stdout => PathBuf::from("-"),
        }
    }

    /// A file that belongs to the video: `clip.mp4` with `json` is `clip.json`, `frames/frame_%05d.png` is
    /// `frames.json`. None for standard output.
    pub fn beside(&self, extension: &str) -> Option<PathBuf> {
        match &self.place {
            Place::File(output) => {
                let stem = output.path.file_stem().unwrap_or_default().to_string_lossy();
                let room = LONGEST_NAME.saturating_sub(extension.len() + 1);
                // An extension may be longer than that of the video.
                let end = (0..=room.min(stem.len())).rev().find(|at| stem.is_char_boundary(*at));
                let name = format!("{}.{extension}", &stem[..end.unwrap_or(0)]);
                Some(output.path.with_file_name(name))
            }
            Place::Pictures(pattern) => {
                let folder = lexical(&pattern.folder);
                let name = folder.file_name().unwrap_or("frames".as_ref()).to_owned();
                let mut file = name;
                file.push(format!(".{extension}"));
                Some(match folder.parent() {
                    Some(parent) => parent.join(file),
                    None => PathBuf::from(file),
                })
            }
            Place::Stdout => None,
        }
    }

    /// Whether both are the same place, however it is written (`./a.mp4`, `b/../a.mp4`, through a linked folder).
    pub fn same_place(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    /// What is equal for two targets exactly when they are the same place: an absolute path without detours.
    pub fn key(&self) -> PathBuf {
        if self.is_stdout() {
            return PathBuf::from("-");
        }
        let path = self.path();
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = fs::canonicalize(folder)
            .or_else(|_| std::path::absolute(folder))
            .unwrap_or_else(|_| folder.to_owned());
        lexical(&folder.join(path.file_name().unwrap_or_default()))
    }

    /// Checks, before any model is loaded, that the video can be written.
    ///
    /// A file (or the folder of numbered pictures) is really created and removed again, since permission bits do not
    /// tell the whole story.
    ///
    /// # Errors
    /// [`VideoError`]: the place is a folder or device, its folder is missing or not writable, it exists and
    /// `overwrite` is false, another run is writing it, standard output is a terminal, or there is no
    /// FFmpeg.
    pub fn check(&self, overwrite: bool) -> Result<(), VideoError> {
        if matches!(self.form, Form::Mp4 | Form::Webm) {
            through()?;
        }
        match &self.place {
            Place::File(output) => output.check(overwrite),
            Place::Pictures(pattern) => check_sequence(pattern, overwrite),
            Place::Stdout => check_stdout(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_stdout() {
            true => f.write_str("standard output"),
            false => self.path().display().fmt(f),
        }
    }
}

/// Binary data makes a mess of a terminal.
pub(super) fn check_stdout() -> Result<(), VideoError> {
    match std::io::stdout().is_terminal() {
        true => Err(VideoError::Terminal),
        false => Ok(()),
    }
}

/// `path` without `.` and `name/..`, as far as that can be told without looking.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(clean.components().next_back(), Some(Component::Normal(_))) => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text, None).unwrap()
    }

    #[test]
    fn names_tell_the_form() {
        for (text, form, path) in [
            ("a/clip.mp4", Form::Mp4, "a/clip.mp4"),
            ("clip.MP4", Form::Mp4, "clip.MP4"),
            ("clip.webm", Form::Webm, "clip.webm"),
            ("clip.gif", Form::Gif, "clip.gif"),
            ("clip.y4m", Form::Y4m, "clip.y4m"),
            ("clip.rgb", Form::Rgb, "clip.rgb"),
            ("x_{frame}.png", Form::Png, "./x_%05d.png"),
            ("frames/", Form::Png, "frames/frame_%05d.png"),
            ("-", Form::Mp4, "-"),
        ] {
            let target = target(text);
            assert_eq!((target.form(), &*target.path()), (form, Path::new(path)), "{text}");
        }
        assert_eq!(Target::parse("-", Some(Form::Y4m)).unwrap().form(), Form::Y4m);
        assert_eq!(Target::parse("raw", Some(Form::Rgb)).unwrap().path(), Path::new("raw"));
        assert_eq!(
            Target::parse("frames", Some(Form::Png)).unwrap().path(),
            Path::new("frames/frame_%05d.png")
        );
    }

    #[test]
    fn names_that_tell_no_form_are_refused() {
        let refused = |text: &str, form: Option<Form>| Target::parse(text, form).unwrap_err();
        for name in ["clip", "clip.avi", ".mp4", "clip.mp4.gz"] {
            let error = refused(name, None);
            assert!(matches!(error, VideoError::Extension { .. }), "{name}: {error}");
            assert!(
                Form::ALL.iter().all(|form| error.to_string().contains(form.as_str())),
                "{error}"
            );
        }
        for name in ["", "..", "/.."] {
            assert!(matches!(refused(name, None), VideoError::IsFolder { .. }), "{name:?}");
        }
        assert!(matches!(refused("clip.png", None), VideoError::Pattern { .. }));
        assert!(matches!(
            refused("a.mp4", Some(Form::Gif)),
            VideoError::FormConflict { .. }
        ));
        assert!(matches!(refused("-", Some(Form::Gif)), VideoError::StdoutForm { .. }));
        assert!(matches!(refused("a\0b.mp4", None), VideoError::NotUtf8 { .. }));
        assert!("avi".parse::<Form>().unwrap_err().to_string().contains("webm"));
    }

    #[test]
    fn one_place_has_many_names() {
        for (one, other) in [
            ("a.mp4", "./a.mp4"),
            ("a.mp4", "none/../a.mp4"),
            ("x/", "x//frame_%05d.png"),
            ("x/frame_{frame}.png", "./x/"),
            ("-", "-"),
        ] {
            assert!(target(one).same_place(&target(other)), "{one} {other}");
        }
        let absolute = std::env::current_dir().unwrap().join("a.mp4");
        assert!(target("a.mp4").same_place(&Target::parse(absolute, None).unwrap()));
        for (one, other) in [("a.mp4", "b.mp4"), ("a.mp4", "a.webm"), ("x/", "y/"), ("-", "./a.mp4")] {
            assert!(!target(one).same_place(&target(other)), "{one} {other}");
        }
    }

    #[test]
    fn companions_stand_beside_the_video() {
        let beside = |text: &str| target(text).beside("json");
        assert_eq!(beside("a/clip.mp4"), Some("a/clip.json".into()));
        assert_eq!(beside("a/frames/"), Some("a/frames.json".into()));
        assert_eq!(beside("x_%d.png"), Some("frames.json".into()));
        assert_eq!(beside("-"), None);
        let long = beside(&format!("a/{}.mp4", "é".repeat(125))).unwrap();
        assert_eq!(long, PathBuf::from(format!("a/{}.json", "é".repeat(125))));
        let longest = beside(&format!("{}é.mp4", "a".repeat(249))).unwrap();
        assert_eq!(longest, PathBuf::from(format!("{}.json", "a".repeat(249))));
    }
}
