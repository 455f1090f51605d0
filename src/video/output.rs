//! Where a video goes: checks before any work is done, names while it is being written, the final rename.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::VideoError;

/// Checks, before any model is loaded, that a video can be written to `path`.
///
/// A file is really created beside `path` and removed again, since permission bits do not tell the whole story.
///
/// # Errors
/// [`VideoError`]: the path is a folder, has another extension than `.mp4`, its folder is missing or not writable, it
/// exists and `overwrite` is false, another run is writing it, or this build has no encoder.
pub fn check_output(path: &Path, overwrite: bool) -> Result<(), VideoError> {
    if cfg!(not(feature = "ffmpeg")) {
        return Err(VideoError::NoFfmpeg);
    }
    let output = Output::new(path)?;
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(VideoError::NotAFile { path: path.to_owned() }),
        Ok(_) if !overwrite => return Err(VideoError::Exists { path: path.to_owned() }),
        _ => {}
    }
    output.check_folder()?;
    output.check_free()
}

/// A video's final path and the names beside it that are used until it is complete.
#[derive(Clone, Debug)]
pub(super) struct Output {
    /// The final name; nothing incomplete ever stands under it.
    pub path: PathBuf,
    /// Frames encoded so far, as a fragmented mp4: playable at any time.
    pub partial: PathBuf,
    /// The complete video while it is copied out of `partial`.
    pub finishing: PathBuf,
    folder: PathBuf,
}

#[cfg_attr(not(feature = "ffmpeg"), allow(dead_code))]
impl Output {
    /// Takes apart the name; touches no file.
    pub fn new(path: &Path) -> Result<Self, VideoError> {
        let owned = || path.to_owned();
        let ends_as_folder = path
            .as_os_str()
            .as_encoded_bytes()
            .last()
            .is_some_and(|&byte| byte == b'/');
        if path.is_dir() || ends_as_folder || path.file_name().is_none() {
            return Err(VideoError::IsFolder {
                path: owned(),
                example: path.join("video.mp4"),
            });
        }
        let text = path.to_str().ok_or_else(|| VideoError::NotUtf8 { path: owned() })?;
        let is_mp4 = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("mp4"));
        let (Some(stem), true) = (
            path.file_stem().and_then(|stem| stem.to_str()),
            is_mp4 && !text.contains('\0'),
        ) else {
            return Err(VideoError::Extension { path: owned() });
        };
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let partial = folder.join(format!(".{stem}.partial.mp4"));
        let finishing = folder.join(format!(".{stem}.finishing.mp4"));
        Ok(Self {
            path: owned(),
            partial,
            finishing,
            folder,
        })
    }

    /// Creates and removes a file in the folder, with a name as long as any that will be needed.
    pub fn check_folder(&self) -> Result<(), VideoError> {
        let (folder, path) = (self.folder.clone(), self.path.clone());
        match fs::metadata(&folder) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(VideoError::FolderIsFile { folder, path }),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(VideoError::FolderIsFile { folder, path });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VideoError::FolderMissing { folder, path });
            }
            Err(source) => return Err(VideoError::NotWritable { folder, source }),
        }
        let created = File::create(&self.finishing).and_then(|_| fs::remove_file(&self.finishing));
        created.map_err(|source| VideoError::NotWritable { folder, source })
    }

    /// Fails if another process is writing the same video.
    fn check_free(&self) -> Result<(), VideoError> {
        match File::open(&self.partial) {
            Ok(partial) => self.lock(&partial),
            Err(_) => Ok(()),
        }
    }

    /// Creates the partial file and locks it against other runs; the lock ends with the returned file or the process.
    ///
    /// An older partial file, left by a run that was killed, is replaced.
    pub fn open_partial(&self) -> Result<File, VideoError> {
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.partial);
        let file = opened.map_err(|source| VideoError::NotWritable {
            folder: self.folder.clone(),
            source,
        })?;
        // Only truncated once locked: it may be another run's.
        self.lock(&file)?;
        Ok(file)
    }

    fn lock(&self, partial: &File) -> Result<(), VideoError> {
        match partial.try_lock() {
            Err(TryLockError::WouldBlock) => Err(VideoError::Busy {
                path: self.path.clone(),
                partial: self.partial.clone(),
            }),
            // Some network file systems have no locks; that is no reason not to write there.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        }
    }

    /// Makes the complete file in `finishing` durable, gives it its final name and removes the partial file.
    /// Returns its size in bytes.
    pub fn publish(&self) -> io::Result<u64> {
        let file = File::open(&self.finishing)?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        fs::rename(&self.finishing, &self.path)?;
        // The video is complete: neither an unsynced folder entry nor a leftover is worth failing for.
        if let Ok(folder) = File::open(&self.folder) {
            folder.sync_all().ok();
        }
        fs::remove_file(&self.partial).ok();
        Ok(bytes)
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
            Path::new("./.a.partial.mp4")
        );
    }

    #[test]
    fn names_that_are_no_video_file_are_refused() {
        for name in ["", "..", "/", "clip.mp4/"] {
            assert!(
                matches!(Output::new(Path::new(name)), Err(VideoError::IsFolder { .. })),
                "{name:?}"
            );
        }
        for name in ["clip", "clip.avi", ".mp4", "clip.mp4.gz"] {
            let error = Output::new(Path::new(name)).unwrap_err();
            assert!(
                matches!(error, VideoError::Extension { .. }) && error.to_string().contains(".mp4"),
                "{name:?}"
            );
        }
    }
}
