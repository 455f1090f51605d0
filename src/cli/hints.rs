//! What to do next, for errors whose message cannot say it because the library does not know of commands.

use crate::{Error, config::ConfigError, video::VideoError};

/// Lines to print after an error.
pub(super) fn of(error: &Error) -> Vec<String> {
    let hint = match error {
        Error::UnknownPreset { .. } => "`deepforcing config show --preset NAME` prints what a preset sets",
        Error::Setting(ConfigError::UnknownKey { .. } | ConfigError::Value { .. }) => {
            "`deepforcing config show` prints every setting and where it comes from"
        }
        Error::Setting(ConfigError::Read { .. } | ConfigError::Syntax { .. }) => {
            "`deepforcing config path` prints which file is read"
        }
        Error::Video(VideoError::NoFfmpeg { .. } | VideoError::Program { .. } | VideoError::NoEncoder { .. }) => {
            "`deepforcing doctor` says which FFmpeg is used, and lists its encoders"
        }
        _ => return Vec::new(),
    };
    vec![hint.into()]
}
