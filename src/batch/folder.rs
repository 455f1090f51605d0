//! The folder of a batch, and who may write in it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{BatchError, Shard};

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
    /// When it cannot be moved.
    pub fn finish(&self, made: &Path, name: &str) -> Result<PathBuf, BatchError> {
        let path = self.path.join(name);
        let folder = path.parent().unwrap_or(&self.path);
        match fs::create_dir_all(folder).and_then(|()| fs::rename(made, &path)) {
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
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(folder.join(name)).map_err(failed)?;
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
