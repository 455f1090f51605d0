//! Flow-matching schedule and the arithmetic of few-step denoising (docs/algorithms/scheduler.md).

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Steps of the training schedule.
const TRAINING_STEPS: usize = 1000;

/// How a chunk is denoised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SamplerSettings {
    /// Positions in the training schedule, 1000 (pure noise) downwards.
    pub steps: Vec<u32>,
    /// Other steps for the first generated chunk.
    pub first_chunk_steps: Option<Vec<u32>>,
    /// Timestep shift.
    pub shift: f32,
    /// Whether `steps` are positions in the shifted table (true for all published few-step models) or timesteps.
    pub warp: bool,
    /// Timestep at which a finished chunk is written into the cache, 0 to 1000.
    pub context_noise: f64,
}

impl Default for SamplerSettings {
    /// Those of Self Forcing: 1000, 750, 500, 250, warped with shift 5.
    fn default() -> Self {
        Self {
            steps: vec![1000, 750, 500, 250],
            first_chunk_steps: None,
            shift: 5.0,
            warp: true,
            context_noise: 0.0,
        }
    }
}

/// Sampler settings that break a rule.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SamplerError {
    #[error("the list of denoising steps is empty; give at least one, for example 1000,750,500,250")]
    NoSteps,
    #[error(
        "a single denoising step at position {count} of the schedule (1000 is pure noise) leaves noise; did you mean {count} \
         step{}: {}?{}", if *count > 1 { "s" } else { "" }, shown(*count), if *count > 1 { format!(" (--num-steps {count})") } else { String::new() }
    )]
    Count { count: u32 },
    #[error("denoising step {step} is out of range; steps are positions from 1 to 1000")]
    StepOutOfRange { step: u32 },
    #[error("denoising steps must fall, but {after} follows {before}; order them from 1000 downwards")]
    StepsRise { before: u32, after: u32 },
    #[error("timestep shift {shift} is not a positive number; published models use 5")]
    Shift { shift: f32 },
    #[error("context noise {value} is out of range; it is a timestep from 0 to 1000")]
    ContextNoise { value: f64 },
}

/// Largest number that, given alone, is taken for a number of steps and not for a position.
const MOST_COUNTED: u32 = 200;

/// The first of so many even steps.
fn shown(count: u32) -> String {
    const MOST: usize = 6;
    let steps = SamplerSettings::even_steps(count as usize);
    let first: Vec<_> = steps.iter().take(MOST).map(u32::to_string).collect();
    let more = if steps.len() > MOST { ",…" } else { "" };
    format!("{}{more}", first.join(","))
}

impl SamplerSettings {
    /// So many steps, evenly spaced from 1000 downwards: 1000, 750, 500, 250 for four.
    pub fn even_steps(count: usize) -> Vec<u32> {
        let share = |step: usize| ((count - step) as f64 / count as f64 * 1000.0).round() as u32;
        (0..count).map(share).collect()
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The first value that breaks a rule.
    pub fn validate(&self) -> std::result::Result<(), SamplerError> {
        if !(self.shift.is_finite() && self.shift > 0.0) {
            return Err(SamplerError::Shift { shift: self.shift });
        }
        if !(0.0..=1000.0).contains(&self.context_noise) {
            return Err(SamplerError::ContextNoise {
                value: self.context_noise,
            });
        }
        for steps in [Some(&self.steps), self.first_chunk_steps.as_ref()]
            .into_iter()
            .flatten()
        {
            if steps.is_empty() {
                return Err(SamplerError::NoSteps);
            }
            if let [count @ 1..=MOST_COUNTED] = steps[..] {
                return Err(SamplerError::Count { count });
            }
            if let Some(step) = steps.iter().find(|s| !(1..=1000).contains(*s)) {
                return Err(SamplerError::StepOutOfRange { step: *step });
            }
            if let Some(pair) = steps.windows(2).find(|pair| pair[1] >= pair[0]) {
                return Err(SamplerError::StepsRise {
                    before: pair[0],
                    after: pair[1],
                });
            }
        }
        Ok(())
    }
}

/// One denoising step: what the network is told, and the share of noise that goes with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DenoisingStep {
    /// 0 to 1000.
    pub timestep: f32,
    /// 0 to 1.
    pub sigma: f32,
}

/// The shifted schedule: 1000 sigmas from 1 downwards, zero not among them.
#[derive(Debug, Clone)]
pub struct Schedule {
    sigmas: Vec<f32>,
    timesteps: Vec<f32>,
}

impl Schedule {
    /// The table for a shift, bit for bit that of the reference (docs/algorithms/scheduler.md section 1).
    pub fn new(shift: f32) -> Self {
        let step = -0.001f32;
        let unshifted = |i: usize| match i < TRAINING_STEPS / 2 {
            true => step.mul_add(i as f32, 1.0),
            false => -step * (TRAINING_STEPS - i) as f32,
        };
        let sigmas: Vec<f32> = (0..TRAINING_STEPS)
            .map(|i| {
                let u = unshifted(i);
                (shift * u) / (1.0 + (shift - 1.0) * u)
            })
            .collect();
        let timesteps = sigmas.iter().map(|sigma| sigma * TRAINING_STEPS as f32).collect();
        Self { sigmas, timesteps }
    }

    /// All sigmas.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// All timesteps.
    pub fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    /// Index of the table entry nearest to a timestep; the first of equally near ones.
    pub fn index_of(&self, timestep: f32) -> usize {
        let distance = |i: usize| (self.timesteps[i] as f64 - timestep as f64).abs();
        (0..TRAINING_STEPS).fold(0, |best, i| if distance(i) < distance(best) { i } else { best })
    }

    /// Sigma of the table entry nearest to a timestep; for 0 that is the smallest sigma, not zero.
    pub fn sigma_of(&self, timestep: f32) -> f32 {
        self.sigmas[self.index_of(timestep)]
    }

    /// The denoising steps of a list; see [`SamplerSettings::steps`].
    pub fn denoising_steps(&self, steps: &[u32], warp: bool) -> Vec<DenoisingStep> {
        let timestep = |step: u32| match warp {
            true => {
                let position = TRAINING_STEPS.saturating_sub(step as usize);
                self.timesteps.get(position).copied().unwrap_or(0.0)
            }
            false => step as f32,
        };
        let with_sigma = |timestep| DenoisingStep {
            timestep,
            sigma: self.sigma_of(timestep),
        };
        steps.iter().map(|step| with_sigma(timestep(*step))).collect()
    }
}

/// `(1 − σ)·x0 + σ·noise`, in f64, rounded to the dtype of `noise`. `sigmas` holds one value for all frames (axis 0) or
/// one per frame.
///
/// # Errors
/// When shapes do not fit, or on a device failure.
pub fn add_noise(x0: &Tensor, noise: &Tensor, sigmas: &[f32]) -> Result<Tensor> {
    let (sigma, x0, noise64) = (per_frame(sigmas, x0)?, wide(x0)?, wide(noise)?);
    let clean = x0.broadcast_mul(&(1.0 - &sigma)?)?;
    (clean + noise64.broadcast_mul(&sigma)?)?.to_dtype(noise.dtype())
}

/// Clean estimate `x_t − σ·flow`, in f64, rounded to the dtype of `flow`.
///
/// # Errors
/// When shapes do not fit, or on a device failure.
pub fn flow_to_x0(noisy: &Tensor, flow: &Tensor, sigmas: &[f32]) -> Result<Tensor> {
    let scaled = wide(flow)?.broadcast_mul(&per_frame(sigmas, flow)?)?;
    (wide(noisy)? - scaled)?.to_dtype(flow.dtype())
}

/// Flow `(x_t − x0)/σ` between a noisy and a clean tensor, in f64, rounded to the dtype of `x0`.
///
/// # Errors
/// When shapes do not fit, or on a device failure.
pub fn x0_to_flow(noisy: &Tensor, x0: &Tensor, sigmas: &[f32]) -> Result<Tensor> {
    (wide(noisy)? - wide(x0)?)?
        .broadcast_div(&per_frame(sigmas, x0)?)?
        .to_dtype(x0.dtype())
}

fn wide(tensor: &Tensor) -> Result<Tensor> {
    tensor.to_dtype(DType::F64)
}

/// `[frames or 1, 1, 1, 1]`, in f64.
fn per_frame(sigmas: &[f32], like: &Tensor) -> Result<Tensor> {
    let values: Vec<f64> = sigmas.iter().map(|s| *s as f64).collect();
    Tensor::from_vec(values, (sigmas.len(), 1, 1, 1), like.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_steps_come_out() {
        let steps = Schedule::new(5.0).denoising_steps(&[1000, 750, 500, 250], true);
        let timesteps: Vec<f32> = steps.iter().map(|s| s.timestep).collect();
        assert_eq!(timesteps, [1000.0, 937.5, 833.3333, 625.0]);
        assert_eq!(steps[2].sigma, 0.8333333);
    }

    #[test]
    fn timestep_zero_has_the_smallest_sigma_of_the_table() {
        let schedule = Schedule::new(5.0);
        assert_eq!(schedule.index_of(0.0), 999);
        assert_eq!(schedule.index_of(2000.0), 0);
        assert!((schedule.sigma_of(0.0) - 0.0049801).abs() < 1e-6);
    }

    #[test]
    fn even_steps_are_those_of_the_published_models() {
        let even = SamplerSettings::even_steps;
        assert_eq!(even(4), SamplerSettings::default().steps);
        assert_eq!(
            (even(1), even(2), even(3)),
            (vec![1000], vec![1000, 500], vec![1000, 667, 333])
        );
        for count in 1..=1000 {
            let steps = even(count);
            assert_eq!(steps.len(), count);
            let settings = SamplerSettings {
                steps,
                ..SamplerSettings::default()
            };
            assert_eq!(settings.validate(), Ok(()), "{count}");
        }
    }

    #[test]
    fn impossible_settings_are_named() {
        let with = |change: fn(&mut SamplerSettings)| {
            let mut settings = SamplerSettings::default();
            change(&mut settings);
            settings.validate()
        };
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(with(|s| s.steps.clear()), Err(SamplerError::NoSteps));
        let count = with(|s| s.steps = vec![4]).unwrap_err().to_string();
        assert!(
            count.contains("did you mean 4 steps: 1000,750,500,250? (--num-steps 4)"),
            "{count}"
        );
        assert!(
            with(|s| s.steps = vec![50])
                .unwrap_err()
                .to_string()
                .contains("1000,980,960,940,920,900,…?")
        );
        assert_eq!(with(|s| s.steps = vec![1000]), Ok(()));
        assert!(matches!(
            with(|s| s.steps[0] = 1001),
            Err(SamplerError::StepOutOfRange { .. })
        ));
        assert!(matches!(
            with(|s| s.steps[1] = 100),
            Err(SamplerError::StepsRise { .. })
        ));
        assert!(matches!(with(|s| s.shift = 0.0), Err(SamplerError::Shift { .. })));
        assert!(matches!(
            with(|s| s.context_noise = -1.0),
            Err(SamplerError::ContextNoise { .. })
        ));
    }
}
