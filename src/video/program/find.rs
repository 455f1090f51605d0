//! Which `ffmpeg` is used: the one that was named, else the linked libraries, else one that is found.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::{
    super::VideoError,
    child::{Input, Running},
};
use crate::files::python;

/// The variable that names the program.
const VARIABLE: &str = "DEEPFORCING_FFMPEG";
/// The oldest version whose options are the ones used here.
const OLDEST: (u32, u32) = (4, 2);
/// Name of the program's file.
const NAME: &str = if cfg!(windows) { "ffmpeg.exe" } else { "ffmpeg" };

/// A program `ffmpeg` that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FfmpegProgram {
    /// Its file.
    pub path: PathBuf,
    /// Where its name comes from.
    pub origin: Origin,
    /// What it says its version is, for example `5.1.9-0+deb12u1`.
    pub version: String,
    /// Major and minor version; none for a build from between two versions.
    pub number: Option<(u32, u32)>,
}

/// Where the name of a program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The flag `--ffmpeg`.
    Flag,
    /// The variable `DEEPFORCING_FFMPEG`.
    Variable,
    /// Found in the folder of this program.
    Beside,
    /// Brought by the Python package imageio-ffmpeg of the environment that this program is in.
    Package,
    /// Found in the `PATH`.
    Path,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "named by --ffmpeg",
            Self::Variable => "named by DEEPFORCING_FFMPEG",
            Self::Beside => "beside this program",
            Self::Package => "from the package imageio-ffmpeg",
            Self::Path => "in the PATH",
        })
    }
}

/// What encodes and reads.
pub(in super::super) enum Through {
    /// FFmpeg's libraries.
    #[cfg(feature = "ffmpeg")]
    Libraries,
    /// The program.
    Program(Arc<FfmpegProgram>),
}

/// The program that the user named with a flag.
static NAMED: OnceLock<PathBuf> = OnceLock::new();
/// What was found, with the name that was looked for: looking starts the program once.
static FOUND: Mutex<Option<(Option<PathBuf>, Arc<FfmpegProgram>)>> = Mutex::new(None);

/// Encodes and reads with the program `path` from now on, in place of FFmpeg's libraries or what would be found.
///
/// # Errors
/// [`VideoError::Program`] if it cannot be used.
pub fn use_program(path: &Path) -> Result<(), VideoError> {
    checked(path, Origin::Flag)?;
    NAMED.set(path.to_owned()).ok();
    Ok(())
}

/// What encodes and reads videos in this process.
///
/// # Errors
/// [`VideoError::Program`] if the program that was named cannot be used; [`VideoError::NoFfmpeg`] if FFmpeg is neither
/// linked nor found.
pub(in super::super) fn through() -> Result<Through, VideoError> {
    let named = named();
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, program)) = &*found
        && *of == named.as_ref().map(|(path, _)| path.clone())
    {
        return Ok(Through::Program(Arc::clone(program)));
    }
    let program = match &named {
        Some((path, origin)) => Arc::new(checked(path, *origin)?),
        #[cfg(feature = "ffmpeg")]
        None => return Ok(Through::Libraries),
        #[cfg(not(feature = "ffmpeg"))]
        None => Arc::new(search()?),
    };
    *found = Some((named.map(|(path, _)| path), Arc::clone(&program)));
    Ok(Through::Program(program))
}

/// The program that encodes and reads videos in this process; none if that are the linked libraries.
///
/// # Errors
/// As for reading and writing a video.
pub fn program_in_use() -> Result<Option<Arc<FfmpegProgram>>, VideoError> {
    Ok(match through()? {
        #[cfg(feature = "ffmpeg")]
        Through::Libraries => None,
        Through::Program(program) => Some(program),
    })
}

fn named() -> Option<(PathBuf, Origin)> {
    if let Some(path) = NAMED.get() {
        return Some((path.clone(), Origin::Flag));
    }
    let of_variable = env::var_os(VARIABLE).filter(|value| !value.is_empty());
    of_variable.map(|path| (PathBuf::from(path), Origin::Variable))
}

/// The first program that is found and can be used.
#[cfg(not(feature = "ffmpeg"))]
fn search() -> Result<FfmpegProgram, VideoError> {
    let mut unusable = Vec::new();
    for (path, origin) in candidates() {
        match checked(&path, origin) {
            Ok(program) => return Ok(program),
            Err(error) => unusable.push(error.to_string()),
        }
    }
    Err(VideoError::NoFfmpeg { unusable })
}

/// All programs that are found, in the order in which they are taken, and why one of them cannot be used.
pub fn found_programs() -> Vec<Result<FfmpegProgram, VideoError>> {
    let all = named().into_iter().chain(candidates());
    all.map(|(path, origin)| checked(&path, origin)).collect()
}

/// Files that may be the program: beside this program, of its Python environment, in the `PATH`; each once.
fn candidates() -> Vec<(PathBuf, Origin)> {
    let mut found: Vec<(PathBuf, Origin)> = Vec::new();
    let mut add = |path: PathBuf, origin| {
        let known = found.iter().any(|(other, _)| same_file(other, &path));
        if path.is_file() && !known {
            found.push((path, origin));
        }
    };
    let folder = env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.to_owned()));
    if let Some(folder) = &folder {
        add(folder.join(NAME), Origin::Beside);
        for path in python::ffmpeg_programs(folder) {
            add(path, Origin::Package);
        }
    }
    for folder in env::var_os("PATH").iter().flat_map(env::split_paths) {
        // An empty entry would mean the folder in which the user happens to be.
        if folder.is_absolute() {
            add(folder.join(NAME), Origin::Path);
        }
    }
    found
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The program in a file, if it is one that can be used.
fn checked(path: &Path, origin: Origin) -> Result<FfmpegProgram, VideoError> {
    let unusable = |reason: String| VideoError::Program {
        path: path.to_owned(),
        origin: origin.to_string(),
        reason,
    };
    let file = located(path).map_err(unusable)?;
    let arguments = ["-hide_banner", "-version"].map(Into::into);
    let mut running = Running::start(&file, &arguments, Input::None, None)
        .map_err(|error| unusable(format!("it cannot be started ({error})")))?;
    let said = running.read_to_end(1 << 20);
    let end = running.end();
    let said = said.map_err(|error| unusable(error.to_string()))?;
    let said = String::from_utf8_lossy(&said);
    let Some(version) = said.lines().next().and_then(version_of) else {
        let why = end.err().map_or_else(String::new, |reason| format!(": {reason}"));
        return Err(unusable(format!(
            "it is not the program ffmpeg, as it does not say its version{why}"
        )));
    };
    let number = number_of(version);
    match number {
        Some(number) if number < OLDEST => Err(unusable(format!(
            "it is version {version}, and {}.{} or newer is needed",
            OLDEST.0, OLDEST.1
        ))),
        _ => Ok(FfmpegProgram {
            path: file,
            origin,
            version: version.to_owned(),
            number,
        }),
    }
}

/// The file that a name stands for; a bare name is looked for in the `PATH`, as a shell does it.
fn located(path: &Path) -> Result<PathBuf, String> {
    let bare = path.components().count() == 1 && !path.exists();
    let in_path = || {
        let folders = env::var_os("PATH")?;
        env::split_paths(&folders)
            .map(|folder| folder.join(path))
            .find(|file| file.is_file())
    };
    let file = match bare {
        true => in_path().ok_or_else(|| "there is no such file, and none in the PATH".to_owned())?,
        false => path.to_owned(),
    };
    match file.metadata() {
        Err(error) => Err(error.to_string()),
        Ok(found) if found.is_dir() => Err(format!(
            "it is a folder: name the program in it, for example `{}`",
            file.join(NAME).display()
        )),
        Ok(found) if !found.is_file() => Err("it is not a program".to_owned()),
        // A child must not look for it in its own folder.
        Ok(_) => std::path::absolute(&file).map_err(|error| error.to_string()),
    }
}

/// The version in the first line: `ffmpeg version 5.1.9-0+deb12u1 Copyright …`.
fn version_of(line: &str) -> Option<&str> {
    line.strip_prefix("ffmpeg version ")?.split_whitespace().next()
}

/// `n7.0.2-static` is 7.0; a build from the development's history (`N-113007-g8d24a28d06`, `git-2024-…`) has no number.
fn number_of(version: &str) -> Option<(u32, u32)> {
    let version = version.strip_prefix('n').unwrap_or(version);
    let mut parts = version.split(|letter: char| !letter.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    // Builds of one day begin with the year.
    (major < 1000).then_some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_builders_write_them() {
        for (line, number) in [
            (
                "ffmpeg version 5.1.9-0+deb12u1 Copyright (c) 2000-2026 the FFmpeg developers",
                Some((5, 1)),
            ),
            ("ffmpeg version n9.0.2-17-g2a571b6068-20260930 Copyright", Some((9, 0))),
            ("ffmpeg version 7.0.2-static https://example.org", Some((7, 0))),
            ("ffmpeg version 8 Copyright", Some((8, 0))),
            ("ffmpeg version N-113007-g8d24a28d06 Copyright", None),
            ("ffmpeg version 2024-03-01-git Copyright", None),
        ] {
            assert_eq!(number_of(version_of(line).unwrap()), number, "{line}");
        }
        assert_eq!(version_of("avconv version 12"), None);
        assert_eq!(version_of("ffmpeg version "), None);
    }

    #[test]
    fn what_is_no_program_is_refused_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text");
        std::fs::write(&text, "no program").unwrap();
        for (path, says) in [
            (folder.path().to_owned(), "it is a folder: name the program in it"),
            (folder.path().join("missing/ffmpeg"), "No such file"),
            (PathBuf::from("no-such-program-anywhere"), "none in the PATH"),
            (text, "cannot be started"),
        ] {
            let said = checked(&path, Origin::Variable).unwrap_err().to_string();
            assert!(said.contains(says) && said.contains("DEEPFORCING_FFMPEG"), "{said}");
        }
    }
}
