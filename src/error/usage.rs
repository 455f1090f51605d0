//! Which errors are faults of the call (they end the program with another exit code), and how common ones are made.

use std::path::Path;

use super::Error;
use crate::{render::state::StateError, text::TextError};

impl Error {
    /// Whether the fault lies in what was asked for, not in files or devices.
    pub fn is_usage(&self) -> bool {
        if let Self::SettingsFrom { source, .. } = self {
            return source.is_usage();
        }
        if let Self::Setting(error) = self {
            return error.is_usage();
        }
        if let Self::Bench(error) = self {
            return error.is_usage();
        }
        if let Self::Device(error) = self {
            return error.is_usage();
        }
        if let Self::Batch(error) = self {
            return error.is_usage();
        }
        if let Self::Sweep(error) = self {
            return error.is_usage();
        }
        if let Self::Trace(error) = self {
            return error.is_usage();
        }
        if let Self::Video(error) = self {
            return error.is_usage();
        }
        if let Self::Trajectory(error) = self {
            return error.is_usage();
        }
        if let Self::Convert(error) = self {
            return error.is_usage();
        }
        matches!(
            self,
            Self::Text(TextError::EmptyPrompt { .. })
                | Self::Policy(_)
                | Self::Request(_)
                | Self::Moment(_)
                | Self::Switch(_)
                | Self::SwitchForMany { .. }
                | Self::SwitchTwice
                | Self::StdoutTaken
                | Self::NothingToTell { .. }
                | Self::SidecarOfStdout
                | Self::SameOutput { .. }
                | Self::ResumeOfMany { .. }
                | Self::State(StateError::Stdout | StateError::Trace)
                | Self::Name(_)
                | Self::Sampler(_)
                | Self::Span(_)
                | Self::Rolling(_)
                | Self::Actions(_)
                | Self::FrameWindow { .. }
                | Self::ActionWindow { .. }
                | Self::LoraCount { .. }
                | Self::UnknownPreset { .. }
                | Self::UnknownModel { .. }
        )
    }

    pub(crate) fn config(path: &Path, reason: impl ToString) -> Self {
        Self::Config {
            path: path.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn not_a_transformer(origin: String, reason: String) -> Self {
        Self::NotATransformer { origin, reason }
    }
}
