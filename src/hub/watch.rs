//! What a caller hears of a pull, and how it stops one.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{HubError, Source};

/// Time between looks at whether the user wants to stop.
const TICK: Duration = Duration::from_millis(50);

/// News of a pull.
#[derive(Debug)]
#[non_exhaustive]
pub enum PullEvent<'a> {
    /// A transfer begins; `have` bytes are there already.
    Start { source: &'a Source, bytes: u64, have: u64 },
    /// Bytes that are there now; fewer than before when the server began anew.
    Progress { bytes: u64 },
    /// Nothing comes for a while; `time` is how long, where it is known.
    Waiting { why: &'a Waiting, time: Option<Duration> },
    /// The file is in the cache; `verified`: it has the hash that is stated of it.
    Done {
        source: &'a Source,
        path: &'a Path,
        verified: bool,
    },
}

/// Why a pull waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// The server asked for it.
    RateLimit,
    /// Something failed and will be tried again.
    Failure(String),
    /// Another process downloads the same file.
    OtherProcess,
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RateLimit => f.write_str("the hub asks to wait (too many requests)"),
            Self::Failure(reason) => write!(f, "{reason}; trying again"),
            Self::OtherProcess => f.write_str("another process downloads the same file"),
        }
    }
}

/// The caller of a pull.
pub(super) struct Watch<'a> {
    listen: &'a mut dyn FnMut(PullEvent<'_>),
    cancelled: &'a dyn Fn() -> bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(listen: &'a mut dyn FnMut(PullEvent<'_>), cancelled: &'a dyn Fn() -> bool) -> Self {
        Self { listen, cancelled }
    }

    pub(super) fn tell(&mut self, event: PullEvent<'_>) {
        (self.listen)(event);
    }

    /// An error once the caller wants to stop.
    pub(super) fn check(&self) -> Result<(), HubError> {
        match (self.cancelled)() {
            true => Err(HubError::Cancelled),
            false => Ok(()),
        }
    }

    /// Says why nothing comes, and waits.
    pub(super) fn wait(&mut self, why: Waiting, time: Duration) -> Result<(), HubError> {
        self.tell(PullEvent::Waiting {
            why: &why,
            time: Some(time),
        });
        let until = Instant::now() + time;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(TICK));
        }
    }

    /// One tick of waiting for something of unknown length; said the first time only.
    pub(super) fn tick(&mut self, why: &Waiting, first: bool) -> Result<(), HubError> {
        self.check()?;
        if first {
            self.tell(PullEvent::Waiting { why, time: None });
        }
        thread::sleep(TICK);
        Ok(())
    }
}
