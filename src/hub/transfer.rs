//! Several files at once: what is missing is told beforehand, and there must be room for all of it.

use super::{Hub, HubError, MissingFile, PullEvent, Source};

/// News of a download of several files.
#[derive(Debug)]
pub enum Transfer<'a> {
    /// What is missing, before the first byte.
    Planned {
        files: &'a [MissingFile],
        /// Whether the variables of the hub want no progress shown.
        no_progress: bool,
    },
    /// A file is next.
    Begun(&'a Source),
    /// News of that file.
    News(PullEvent<'a>),
    /// That file is in the cache; the last news of it says whether it was verified.
    Done(&'a Source),
    /// That file could not be had.
    Failed { source: &'a Source, error: &'a HubError },
}

impl Hub {
    /// Downloads those of `sources` that are not in the cache, after telling how much that is and checking that there is
    /// room for it. Nothing is told when nothing is missing.
    ///
    /// # Errors
    /// When the hub cannot be reached or refuses, the disk is too small, a file is not what it should be, or `cancelled`
    /// says so.
    pub fn pull_missing(
        &self,
        sources: &[Source],
        listen: &mut dyn FnMut(Transfer<'_>),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), HubError> {
        let missing = self.missing(sources, cancelled)?;
        if missing.is_empty() {
            return Ok(());
        }
        listen(Transfer::Planned {
            files: &missing,
            no_progress: self.settings().no_progress_bars.value,
        });
        self.check_space(missing.iter().map(|file| file.bytes - file.have).sum())?;
        for MissingFile { source, .. } in &missing {
            listen(Transfer::Begun(source));
            match self.pull(source, &mut |event| listen(Transfer::News(event)), cancelled) {
                Ok(_) => listen(Transfer::Done(source)),
                Err(error) => {
                    listen(Transfer::Failed { source, error: &error });
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
