//! Whether settings can be used together, and which of them nobody typed just now.

use super::{Origin, Settings};
use crate::{Error, Result, models::preset::Preset, rollout::request::VideoLength};

impl Settings {
    /// Checks the whole set, as a video without anything special of its own would be made with it.
    ///
    /// # Errors
    /// The first rule that is broken, with where the settings come from that may be the cause.
    pub fn check(&self, preset: &Preset) -> Result<()> {
        self.check_rules(preset).map_err(|error| self.explained(error))
    }

    fn check_rules(&self, preset: &Preset) -> Result<()> {
        let rollout = preset.rollout;
        self.size.value.checked()?;
        let length = VideoLength::of_seconds(
            self.seconds.value,
            self.fps.value,
            rollout.chunk,
            rollout.first_frame_alone,
        )?;
        self.sampler(&preset.sampler).validate()?;
        let policy = self.cache().resolve(rollout.chunk, length.latent_frames)?;
        policy.check_first_frame(rollout.first_frame_alone)?;
        Ok(())
    }

    /// An error about settings, with where those of them come from that are neither on the command line nor the preset's:
    /// they are easily forgotten.
    pub fn explained(&self, error: Error) -> Error {
        let groups: &[&str] = match &error {
            Error::Policy(_) | Error::Plan(_) => &["cache."],
            Error::Sampler(_) => &["sampler."],
            Error::Request(_) | Error::Span(_) => &["size", "seconds", "fps"],
            _ => return error,
        };
        let entries = self.entries();
        let remote = entries.iter().filter(|entry| {
            let concerned = groups.iter().any(|group| entry.key.starts_with(group));
            concerned && matches!(entry.origin, Origin::Environment { .. } | Origin::File { .. })
        });
        let origins: Vec<_> = remote
            .map(|entry| {
                let value = entry.text.as_deref().unwrap_or_default();
                format!("{} = {value} comes from {}", entry.key, entry.origin)
            })
            .collect();
        match origins.is_empty() {
            true => error,
            false => Error::SettingsFrom {
                source: Box::new(error),
                origins: origins.join(", "),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Key, Layer, Layers};

    fn checked(variables: &[(&str, &str)], flags: Layer) -> Result<()> {
        let environment: Environment = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let preset = Preset::load("toy").unwrap();
        Layers::load(flags, &environment)
            .unwrap()
            .resolve("toy", &preset)
            .check(&preset)
    }

    #[test]
    fn origins_are_named() {
        checked(&[], Layer::default()).unwrap();
        let error = checked(
            &[("DEEPFORCING_CACHE_SINK", "19"), ("DEEPFORCING_FPS", "8")],
            Layer::default(),
        );
        let error = error.unwrap_err();
        let said = error.to_string();
        assert!(
            error.is_usage() && said.contains("cache.sink = 19 comes from variable DEEPFORCING_CACHE_SINK"),
            "{said}"
        );
        assert!(!said.contains("FPS"), "{said}");
        let mut typed = Layer::default();
        typed.set(Key::find("cache.sink").unwrap(), "19").unwrap();
        let said = checked(&[], typed).unwrap_err().to_string();
        assert!(!said.contains("comes from"), "{said}");
        let error = checked(&[("DEEPFORCING_SECONDS", "0.001")], Layer::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("DEEPFORCING_SECONDS"), "{error}");
    }
}
