//! The folder of a batch, and who may write in it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{BatchError, Shard};
use crate::files;

/// A folder that this process may write in while the value lives.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    work: PathBuf,
    _locks: Vec<File>,
}

impl OutputFolder {
    /// Makes the folder if needed and takes its lock. What a killed process left in work is removed.
    ///
    /// # Errors
    /// When it cannot be written, or another process works on the same part.
    pub fn take(path: &Path, shard: Shard) -> Result<Self, BatchError> {
        let failed = |error: io::Error| BatchError::Folder {
            path: path.into(),
            reason: error.to_string(),
        };
        fs::create_dir_all(path).map_err(failed)?;
        // Shards share the folder's lock; a process without a shard holds it alone.
        let whole = shard.count == 1;
        let mut locks = vec![lock(path, ".batch.lock", whole)?];
        if !whole {
            locks.push(lock(path, &format!(".batch{}.lock", shard.suffix()), true)?);
        }
        let work = path.join(format!(".work{}", shard.suffix()));
        match fs::remove_dir_all(&work) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => fs::create_dir(&work).map_err(failed)?,
        }
        Ok(Self {
            path: path.into(),
            work,
            _locks: locks,
        })
    }

    /// Where the video in work is written.
    pub fn in_work(&self, extension: &str) -> PathBuf {
        self.work.join(format!("video.{extension}"))
    }

    /// Gives a complete video its name, replacing what has it. Folders in the name are made.
    ///
    /// # Errors
    /// When it cannot be moved, or the name leads out of the folder.
    pub fn finish(&self, made: &Path, name: &str) -> Result<PathBuf, BatchError> {
        let path = self.path.join(name);
        let folder = path.parent().unwrap_or(&self.path);
        let inside = match files::is_inside(name) {
            true => files::check_inside(&self.path, Path::new(name)),
            false => Err(io::Error::other("its name leads out of the folder")),
        };
        let moved = inside
            .and_then(|()| fs::create_dir_all(folder))
            .and_then(|()| fs::rename(made, &path));
        match moved {
            Ok(()) => {
                // The name must not be lost while the manifest tells of it. Some systems cannot sync a folder.
                File::open(folder).and_then(|folder| folder.sync_all()).ok();
                Ok(path)
            }
            Err(error) => Err(BatchError::Write {
                path,
                reason: error.to_string(),
            }),
        }
    }

    /// Removes what is in work.
    pub fn discard(&self) {
        let entries = fs::read_dir(&self.work).into_iter().flatten().flatten();
        for entry in entries {
            if let Err(error) = fs::remove_file(entry.path()) {
                tracing::debug!("cannot remove `{}`: {error}", entry.path().display());
            }
        }
    }
}

impl Drop for OutputFolder {
    /// Keeps what is still in the folder of the video in work.
    fn drop(&mut self) {
        fs::remove_dir(&self.work).ok();
    }
}

fn lock(folder: &Path, name: &str, alone: bool) -> Result<File, BatchError> {
    let failed = |error: io::Error| BatchError::Folder {
        path: folder.into(),
        reason: format!("cannot lock `{name}`: {error}"),
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).truncate(false);
    let mut file = files::open_to_empty(&folder.join(name), &mut options).map_err(failed)?;
    let locked = match alone {
        true => file.try_lock(),
        false => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only a process that is alone has written its number.
            let read = (&mut file).take(20).read_to_string(&mut holder);
            let holder = match holder.trim().parse::<u32>() {
                Ok(id) if read.is_ok() => format!(" (process {id})"),
                _ => String::new(),
            };
            return Err(BatchError::Busy {
                path: folder.into(),
                holder,
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    if alone {
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(failed)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_put_outside_of_the_folder() {
        let around = tempfile::tempdir().unwrap();
        let (folder, other) = (around.path().join("out"), around.path().join("other"));
        fs::create_dir(&other).unwrap();
        let taken = OutputFolder::take(&folder, Shard::ALL).unwrap();
        let made = taken.in_work("mp4");
        let absolute = other.join("a.mp4").display().to_string();
        #[cfg(unix)]
        std::os::unix::fs::symlink(&other, folder.join("link")).unwrap();
        let names = ["../a.mp4", "a/../../a.mp4", "", absolute.as_str(), "link/a.mp4"];
        for name in names {
            fs::write(&made, "video").unwrap();
            let said = taken.finish(&made, name).unwrap_err().to_string();
            assert!(said.contains("out of the folder"), "{name}: {said}");
        }
        taken.finish(&made, "a/b.mp4").unwrap();
        assert!(folder.join("a/b.mp4").is_file());
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
        assert!(!around.path().join("a.mp4").exists());
    }

    #[test]
    #[cfg(unix)]
    fn a_lock_that_is_a_link_is_left_alone() {
        let around = tempfile::tempdir().unwrap();
        let (folder, victim) = (around.path().join("out"), around.path().join("victim"));
        fs::create_dir(&folder).unwrap();
        fs::write(&victim, "pride").unwrap();
        std::os::unix::fs::symlink(&victim, folder.join(".batch.lock")).unwrap();
        let said = OutputFolder::take(&folder, Shard::ALL).unwrap_err().to_string();
        assert!(said.contains(".batch.lock") && said.contains("symbolic link"), "{said}");
        assert_eq!(fs::read_to_string(victim).unwrap(), "pride");
    }
}
