//! The grid of a sweep, from flags and a preset.

use clap::Args;

use super::super::cache_flags::CacheLists;
use crate::{
    config::Key,
    sweep::{Axis, Grid, SweepError, SweepPreset, axis_keys, values},
};

/// Parameters that can take several values.
#[derive(Args, Default)]
#[command(next_help_heading = "Grid (lists 0,4,9 and ranges 0..4 and 0..20..5, to which both ends belong)")]
pub(super) struct GridFlags {
    #[command(flatten)]
    cache: CacheLists,
    /// Denoising steps of a chunk; several lists are separated by semicolons: '1000,750,500,250;1000,500'
    #[arg(long, value_name = "LIST;LIST")]
    steps: Vec<String>,
    /// Timestep shift of the schedule
    #[arg(long, value_name = "LIST")]
    shift: Vec<String>,
    /// Seeds of the noise: every prompt is rendered with each of them, with the same noise at every point [default: 0]
    #[arg(long, value_name = "LIST")]
    seed: Vec<String>,
}

/// Which models were typed, and which presets of models; lists of them.
#[derive(Default)]
pub(super) struct SystemFlags {
    pub model: Option<String>,
    pub preset: Option<String>,
}

impl SystemFlags {
    fn given(&self, key: &Key) -> &[String] {
        let given = match key.name {
            "model" => &self.model,
            "preset" => &self.preset,
            _ => &None,
        };
        given.as_slice()
    }
}

/// The flag that sets a parameter of a sweep, whose `--preset` is one of sweeps.
fn flag(key: &Key) -> String {
    match key.name {
        "preset" => "--model-preset".into(),
        _ => key.flag(),
    }
}

/// What is rendered.
pub(super) struct Spec {
    pub grid: Grid,
    /// Empty when nobody says.
    pub seeds: Vec<u64>,
    pub seconds: Option<f64>,
    /// Trajectories of the preset.
    pub actions: Vec<String>,
}

impl GridFlags {
    fn given(&self, key: &Key) -> &[String] {
        match key.name {
            "sampler.steps" => &self.steps,
            "sampler.shift" => &self.shift,
            "seed" => &self.seed,
            _ => self.cache.given(key),
        }
    }

    fn values(&self, key: &Key, systems: &SystemFlags) -> Result<Vec<String>, SweepError> {
        let given = self.given(key).iter().chain(systems.given(key));
        values(key, &flag(key), given.map(String::as_str))
    }

    /// Flags over what the preset says.
    ///
    /// # Errors
    /// On values that a parameter does not take, or flags for what the points of the preset set themselves.
    pub fn over(&self, preset: SweepPreset, preset_name: &str, systems: &SystemFlags) -> Result<Spec, SweepError> {
        let mut axes = Vec::new();
        for key in axis_keys() {
            let typed = self.values(key, systems)?;
            let own = || preset.points.iter().any(|point| point.settings.contains_key(key.name));
            if !typed.is_empty() && own() {
                return Err(SweepError::PointsSet {
                    preset: preset_name.into(),
                    key: key.name.into(),
                    flag: flag(key),
                });
            }
            let of_preset = || preset.axes.iter().find(|axis| axis.key == key.name);
            let values = match typed.is_empty() {
                false => Some(typed),
                true => of_preset().map(|axis| axis.values.clone()),
            };
            if let Some(values) = values {
                let key = key.name.into();
                axes.push(Axis { key, values });
            }
        }
        let typed = match Key::find("seed") {
            Some(key) => self.values(key, systems)?,
            None => Vec::new(),
        };
        Ok(Spec {
            seeds: match typed.is_empty() {
                false => typed.iter().filter_map(|seed| seed.parse().ok()).collect(),
                true => preset.seeds,
            },
            seconds: preset.seconds,
            actions: preset.actions,
            grid: Grid {
                axes,
                named: preset.points,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Grids {
        #[command(flatten)]
        grid: GridFlags,
    }

    #[test]
    fn every_parameter_of_a_grid_has_a_flag() {
        for key in crate::sweep::parameters().chain(Key::find("seed")) {
            let grid = Grids::parse_from(["x", &key.flag(), "1,2", &key.flag(), "3"]).grid;
            assert_eq!(grid.given(key), ["1,2", "3"], "{}", key.name);
        }
    }
}
