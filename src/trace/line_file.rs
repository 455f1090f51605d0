//! The file of a trace while it is written.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{TraceError, format::Line};
use crate::{files, video::make_folder_of};

/// A file that grows by whole lines. The first failure is kept, and nothing is written after it: the video goes on.
pub(super) struct LineFile {
    path: PathBuf,
    /// Where it stands until it is whole; none where the path is a device, which is written as it is.
    partial: Option<PathBuf>,
    file: File,
    /// Lines that are not written yet.
    waiting: Vec<u8>,
    /// Bytes of the lines that are.
    written: u64,
    /// Chunks that are.
    pub chunks: u64,
    pub failure: Option<io::Error>,
}

impl LineFile {
    pub fn create(path: &Path) -> Result<Self, TraceError> {
        make_folder_of(path).map_err(|error| TraceError::Folder {
            path: path.into(),
            reason: error.to_string(),
        })?;
        let failed = |source| TraceError::Create {
            path: path.into(),
            source,
        };
        let device = fs::metadata(path).is_ok_and(|found| !found.is_file());
        let partial = (!device).then(|| partial_of(path));
        let file = match &partial {
            Some(partial) => open_emptied(partial),
            None => OpenOptions::new().write(true).open(path),
        };
        Ok(Self {
            path: path.into(),
            partial,
            file: file.map_err(failed)?,
            waiting: Vec::new(),
            written: 0,
            chunks: 0,
            failure: None,
        })
    }

    pub fn push(&mut self, line: &Line) {
        if self.failure.is_some() {
            return;
        }
        match serde_json::to_writer(&mut self.waiting, line) {
            Ok(()) => self.waiting.push(b'\n'),
            Err(error) => self.failure = Some(error.into()),
        }
    }

    /// Writes the waiting lines in one go.
    pub fn flush(&mut self) {
        if self.failure.is_some() {
            return;
        }
        match self.file.write_all(&self.waiting) {
            Ok(()) => self.written += self.waiting.len() as u64,
            Err(error) => {
                // Half a line is of use to nobody.
                self.file.set_len(self.written).ok();
                self.failure = Some(error);
            }
        }
        self.waiting.clear();
    }

    /// Gives the file its name, if all of it is there.
    pub fn finish(&mut self) -> Result<(), TraceError> {
        if self.failure.is_none()
            && let Some(partial) = &self.partial
            && let Err(error) = fs::rename(partial, &self.path)
        {
            self.failure = Some(error);
        }
        match self.failure.take() {
            Some(source) => Err(TraceError::Write {
                path: self.path.clone(),
                chunks: self.chunks,
                source,
            }),
            None => Ok(()),
        }
    }
}

/// Where a trace is while it is written: hidden beside its final name.
pub fn partial_of(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map(|extension| extension.to_string_lossy());
    let dotted = extension.map_or_else(String::new, |extension| format!(".{extension}"));
    path.with_file_name(format!(".{stem}.partial{dotted}"))
}

/// Opens a partial file and empties what a killed run left in it; that of another run that goes on is left alone.
fn open_emptied(partial: &Path) -> io::Result<File> {
    let file = files::open_to_empty(partial, OpenOptions::new().write(true).truncate(false))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(io::Error::other("another run is writing it now")),
        // Some network file systems have no locks; that is no reason not to write there.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    file.set_len(0)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::{super::format::End, *};

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let path = Path::new("/dev/full");
        if !path.exists() {
            return;
        }
        let mut file = LineFile::create(path).unwrap();
        let end = Line::End(End {
            chunks: 0,
            complete: true,
        });
        file.push(&end);
        file.flush();
        assert!(file.failure.is_some());
        file.push(&end);
        assert!(file.waiting.is_empty(), "nothing is held after a failure");
    }

    #[test]
    fn a_trace_has_its_name_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        let partial = folder.path().join(".t.partial.jsonl");
        assert_eq!(partial_of(&path), partial);
        // A killed run's, which is replaced, and one that goes on, which is not.
        fs::write(&partial, "an older one").unwrap();
        let mut file = LineFile::create(&path).unwrap();
        let said = LineFile::create(&path).err().unwrap().to_string();
        assert!(said.contains("another run"), "{said}");
        let end = End {
            chunks: 0,
            complete: true,
        };
        file.push(&Line::End(end));
        file.flush();
        assert!(partial.exists() && !path.exists());
        file.finish().unwrap();
        assert!(!partial.exists() && fs::read_to_string(&path).unwrap().starts_with("{\"kind\":\"end\""));
        file.failure = Some(io::Error::other("the disk is full"));
        assert!(file.finish().is_err());
    }

    #[test]
    #[cfg(unix)]
    fn a_partial_name_that_is_a_link_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "pride").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join(".t.partial.jsonl")).unwrap();
        assert!(LineFile::create(&folder.path().join("t.jsonl")).is_err());
        assert_eq!(fs::read_to_string(victim).unwrap(), "pride");
    }
}
