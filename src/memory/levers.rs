//! What a user can change to need less memory.

use std::fmt;

use crate::{cache::CacheSettings, models::DecoderKind};

/// What a user can change to need less memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Levers {
    pub cache: CacheSettings,
    pub chunk: usize,
    pub decoder: DecoderKind,
}

impl fmt::Display for Levers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Make the pictures smaller with --size")?;
        // The length of the video is nothing to policies that have a least window.
        match self.cache.knobs(self.chunk, self.chunk).least_window(self.chunk) {
            None => f.write_str(
                ", make the video shorter or keep fewer frames with another --policy (`global` keeps every frame)",
            )?,
            Some(least) if self.cache.window > least => {
                write!(f, ", keep fewer frames with a --window below {}", self.cache.window)?;
            }
            Some(_) => write!(
                f,
                ", keep fewer frames with a --window below {} (with smaller --sink and --budget)",
                self.cache.window
            )?,
        }
        match self.decoder {
            DecoderKind::Wan => f.write_str(", or decode with the small decoder, --vae tae"),
            DecoderKind::Tae => Ok(()),
        }
    }
}
