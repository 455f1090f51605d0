//! Folders of outputs, which are made as needed, and names beside an output.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::VideoError;

/// Longest file name of usual file systems, in bytes.
pub(super) const LONGEST_NAME: usize = 255;
/// Longest extension that a name beside an output keeps.
const LONGEST_EXTENSION: usize = 32;

/// The folder in which `path` is.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Fails if `folder`, the folder of output `path`, is missing or is no folder.
pub(super) fn check_is_folder(folder: &Path, path: &Path) -> Result<(), VideoError> {
    let (folder, path) = (folder.to_owned(), path.to_owned());
    match fs::metadata(&folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(VideoError::FolderIsFile { folder, path }),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotADirectory => VideoError::FolderIsFile { folder, path },
            io::ErrorKind::NotFound => VideoError::FolderMissing { folder, path },
            _ => VideoError::NotWritable { folder, source: error },
        }),
    }
}

/// Makes the folder of the file `path`, and those above it.
///
/// # Errors
/// [`VideoError`]: one of them is a file, or may not be made.
pub fn make_folder_of(path: &Path) -> Result<(), VideoError> {
    make_folder(&folder_of(path), path)
}

/// Checks that the folder of the file `path` can be made, if it is missing, and leaves none.
///
/// # Errors
/// As [`make_folder_of`].
pub fn check_folder_of(path: &Path) -> Result<(), VideoError> {
    Trial::new(&folder_of(path), path).map(drop)
}

/// Makes `folder`, the folder of output `path`, and those above it.
pub(super) fn make_folder(folder: &Path, path: &Path) -> Result<(), VideoError> {
    let mut trial = Trial::new(folder, path)?;
    trial.made.clear();
    Ok(())
}

/// Folders that are there for the time of a check: what had to be made for it goes with it.
pub(super) struct Trial {
    made: Vec<PathBuf>,
}

impl Trial {
    /// Makes `folder`, the folder of output `path`, and those above it as far as they are missing.
    pub fn new(folder: &Path, path: &Path) -> Result<Self, VideoError> {
        let is_missing = |folder: &&Path| {
            let name = !folder.as_os_str().is_empty();
            name && fs::metadata(folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
        let mut trial = Self { made: Vec::new() };
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Ok(()) => trial.made.push(folder.to_owned()),
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => {
                    let folder = folder_of(folder);
                    return Err(match source.kind() {
                        io::ErrorKind::NotADirectory => VideoError::FolderIsFile {
                            folder,
                            path: path.to_owned(),
                        },
                        _ => VideoError::NotWritable { folder, source },
                    });
                }
            }
        }
        check_is_folder(folder, path)?;
        Ok(trial)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        for folder in self.made.iter().rev() {
            // Unless another process has put something into it.
            fs::remove_dir(folder).ok();
        }
    }
}

/// The name of a hidden file that stands beside the file `stem` + `dotted` for a while: `.clip.partial.mp4`. Of a name so
/// long that this would be too long, the end is replaced by a sign of the whole.
pub(crate) fn beside(stem: &str, what: &str, dotted: &str) -> String {
    let name = format!(".{stem}.{what}{dotted}");
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let hash = Sha256::digest(format!("{stem}{dotted}"));
    let sign: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let dotted = if dotted.len() > LONGEST_EXTENSION { "" } else { dotted };
    let end = format!("-{sign}.{what}{dotted}");
    let room = LONGEST_NAME.saturating_sub(end.len() + 1);
    let cut = (0..=room.min(stem.len())).rev().find(|at| stem.is_char_boundary(*at));
    format!(".{}{end}", &stem[..cut.unwrap_or(0)])
}

/// Refuses a file name that no usual file system takes.
pub(super) fn check_name(path: &Path) -> Result<(), VideoError> {
    let bytes = path.file_name().map_or(0, |name| name.as_encoded_bytes().len());
    match bytes > LONGEST_NAME {
        true => Err(VideoError::NameTooLong {
            path: path.to_owned(),
            bytes,
        }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_and_taken_away() {
        let home = tempfile::tempdir().unwrap();
        let (deep, path) = (home.path().join("a/b/c"), home.path().join("a/b/c/clip.mp4"));
        check_folder_of(&path).unwrap();
        assert!(!home.path().join("a").exists());
        {
            let _trial = Trial::new(&deep, &path).unwrap();
            assert!(deep.is_dir());
        }
        assert!(!home.path().join("a").exists());
        make_folder_of(&path).unwrap();
        assert!(deep.is_dir());
        // Those that were there stay.
        check_folder_of(&path).unwrap();
        assert!(deep.is_dir());
        check_folder_of(Path::new("clip.mp4")).unwrap();
    }

    #[test]
    fn a_file_is_no_folder() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        for name in ["file/clip.mp4", "file/a/clip.mp4"] {
            let error = make_folder_of(&home.path().join(name)).unwrap_err();
            assert!(matches!(error, VideoError::FolderIsFile { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn names_beside_long_names_fit() {
        assert_eq!(beside("red ball", "partial", ".mp4"), ".red ball.partial.mp4");
        for letter in ["a", "é", "🎈"] {
            let stem = letter.repeat(251 / letter.len());
            let names = [
                beside(&stem, "partial", ".mp4"),
                beside(&stem, "finishing", ".mp4"),
                beside(&stem, "partial", ".webm"),
                beside(&stem[letter.len()..], "partial", &format!(".{}", "x".repeat(100))),
                beside(&format!("b{}", &stem[letter.len()..]), "partial", ".mp4"),
            ];
            for (at, name) in names.iter().enumerate() {
                assert!(name.len() <= LONGEST_NAME && !names[..at].contains(name), "{name}");
            }
        }
    }

    #[test]
    fn a_name_of_255_bytes_is_the_longest() {
        assert!(check_name(Path::new(&"a".repeat(255))).is_ok());
        let error = check_name(&Path::new("folder").join("é".repeat(128))).unwrap_err();
        assert!(error.to_string().contains("256 bytes"), "{error}");
    }
}
