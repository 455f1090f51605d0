//! Files of a video: checks before any work is done, names while it is being written, the final rename.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::{
    VideoError,
    folders::{Trial, beside, check_name, folder_of, make_folder},
    pattern::Pattern,
};
use crate::files;

/// A video's final path and the names beside it that are used until it is complete.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Output {
    /// The final name; nothing incomplete ever stands under it.
    pub path: PathBuf,
    /// What is written so far: readable at any time up to the last flush.
    pub partial: PathBuf,
    /// The complete video while it is copied out of `partial`.
    pub finishing: PathBuf,
    pub folder: PathBuf,
}

impl Output {
    /// Takes apart the name; changes nothing.
    ///
    /// # Errors
    /// When the name is that of a folder, or is none.
    pub fn new(path: &Path) -> Result<Self, VideoError> {
        let owned = || path.to_owned();
        let ends_as_folder = path.as_os_str().as_encoded_bytes().last() == Some(&b'/');
        if path.is_dir() || ends_as_folder || path.file_name().is_none() {
            return Err(VideoError::IsFolder {
                path: owned(),
                example: path.join("video.mp4"),
            });
        }
        let (Some(_), Some(stem)) = (path.to_str(), path.file_stem().and_then(|stem| stem.to_str())) else {
            return Err(VideoError::NotUtf8 { path: owned() });
        };
        check_name(path)?;
        // With the extension, or a.mp4 and a.webm would share a partial file.
        let extension = path.extension().and_then(|extension| extension.to_str());
        let dotted = extension.map_or_else(String::new, |extension| format!(".{extension}"));
        let folder = folder_of(path);
        Ok(Self {
            path: owned(),
            partial: folder.join(beside(stem, "partial", &dotted)),
            finishing: folder.join(beside(stem, "finishing", &dotted)),
            folder,
        })
    }

    /// Everything that would keep a video from being written here.
    ///
    /// # Errors
    /// The first thing that would keep the video from being written.
    pub fn check(&self, overwrite: bool) -> Result<(), VideoError> {
        let path = || self.path.clone();
        match fs::metadata(&self.path) {
            Ok(found) if found.is_dir() => {
                return Err(VideoError::IsFolder {
                    path: path(),
                    example: self.path.join("video.mp4"),
                });
            }
            Ok(found) if !found.is_file() => return Err(VideoError::NotAFile { path: path() }),
            Ok(_) if !overwrite => return Err(VideoError::Exists { path: path() }),
            _ => {}
        }
        self.check_folder()?;
        match files::open(&self.partial) {
            Ok(partial) => is_free(&partial, &self.path, &self.partial),
            Err(_) => Ok(()),
        }
    }

    /// Creates and removes a file in the folder, with a name as long as any that will be needed; a folder that is missing
    /// is made for it.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub fn check_folder(&self) -> Result<(), VideoError> {
        let _trial = Trial::new(&self.folder, &self.path)?;
        let created = files::create(&self.finishing).and_then(|_| fs::remove_file(&self.finishing));
        created.map_err(|source| VideoError::NotWritable {
            folder: self.folder.clone(),
            source,
        })
    }

    /// Creates the partial file and locks it against other runs; the lock ends with the returned file or the process.
    ///
    /// An older partial file, left by a run that was killed, is emptied.
    ///
    /// # Errors
    /// When it cannot be created, or another run is writing it.
    pub fn open_partial(&self) -> Result<File, VideoError> {
        make_folder(&self.folder, &self.path)?;
        open_locked(&self.partial, &self.folder, &self.path)
    }

    /// Makes the complete file `from` durable, gives it its final name and removes the partial file.
    /// Returns its size in bytes.
    ///
    /// # Errors
    /// When the disk fails; the video is then still in `from`.
    pub fn publish(&self, from: &Path) -> io::Result<u64> {
        let file = File::open(from)?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        fs::rename(from, &self.path)?;
        // The video is complete: neither an unsynced folder entry nor a leftover is worth failing for.
        if let Ok(folder) = File::open(&self.folder) {
            folder.sync_all().ok();
        }
        if from != self.partial {
            fs::remove_file(&self.partial).ok();
        }
        Ok(bytes)
    }
}

/// Everything that would keep numbered pictures from being written.
pub(super) fn check_sequence(pattern: &Pattern, overwrite: bool) -> Result<(), VideoError> {
    let folder = &pattern.folder;
    let not_writable = |source| VideoError::NotWritable {
        folder: folder.clone(),
        source,
    };
    check_name(&pattern.picture(0))?;
    let _trial = Trial::new(folder, &pattern.path())?;
    if !overwrite && let Some((_, path)) = pattern.existing().map_err(not_writable)?.into_iter().next() {
        return Err(VideoError::Exists { path });
    }
    if let Ok(held) = files::open(&pattern.lock()) {
        return is_free(&held, &pattern.path(), folder);
    }
    let probe = pattern.partial();
    files::create(&probe)
        .and_then(|_| fs::remove_file(&probe))
        .map_err(not_writable)
}

/// Makes the folder of a sequence, if it is missing, and locks the sequence against other runs.
pub(super) fn open_sequence(pattern: &Pattern) -> Result<File, VideoError> {
    let folder = &pattern.folder;
    make_folder(folder, &pattern.path())?;
    open_locked(&pattern.lock(), folder, &pattern.path())
}

fn open_locked(held: &Path, folder: &Path, path: &Path) -> Result<File, VideoError> {
    let not_writable = |source| VideoError::NotWritable {
        folder: folder.to_owned(),
        source,
    };
    let opened = files::open_to_empty(held, OpenOptions::new().write(true).truncate(false));
    let file = opened.map_err(not_writable)?;
    // Only emptied once locked: it may be another run's.
    lock(&file, path, held)?;
    file.set_len(0).map_err(not_writable)?;
    Ok(file)
}

fn is_free(held: &File, path: &Path, partial: &Path) -> Result<(), VideoError> {
    lock(held, path, partial)?;
    // Closing the file would not end the lock while a child process is being started that still has it.
    held.unlock().ok();
    Ok(())
}

fn lock(held: &File, path: &Path, partial: &Path) -> Result<(), VideoError> {
    match held.try_lock() {
        Err(TryLockError::WouldBlock) => Err(VideoError::Busy {
            path: path.to_owned(),
            partial: partial.to_owned(),
        }),
        // Some network file systems have no locks; that is no reason not to write there.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_beside_the_output() {
        let output = Output::new(Path::new("some/where/red ball.mp4")).unwrap();
        assert_eq!(output.partial, Path::new("some/where/.red ball.partial.mp4"));
        assert_eq!(output.finishing, Path::new("some/where/.red ball.finishing.mp4"));
        assert_eq!(
            Output::new(Path::new("a.MP4")).unwrap().partial,
            Path::new("./.a.partial.MP4")
        );
        assert_eq!(
            Output::new(Path::new("raw")).unwrap().partial,
            Path::new("./.raw.partial")
        );
    }

    #[test]
    fn folders_are_refused() {
        for name in ["", "..", "/", "clip.mp4/"] {
            assert!(
                matches!(Output::new(Path::new(name)), Err(VideoError::IsFolder { .. })),
                "{name:?}"
            );
        }
    }
}
