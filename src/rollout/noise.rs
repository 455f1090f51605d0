//! Gaussian noise of a rollout (docs/algorithms/self_forcing.md section 2).

use candle_core::{Device, Result, Tensor, bail};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};

/// Where the noise of a rollout comes from. Frames are counted over the generated ones, from 0.
pub trait NoiseSource: Send {
    /// Initial noise of generated frames `first..first + shape[0]`; `shape` is `[frames, channels, height, width]`.
    ///
    /// # Errors
    /// When there is none, or on a device failure.
    fn initial(&mut self, first: usize, shape: [usize; 4], device: &Device) -> Result<Tensor>;

    /// Fresh noise for the same frames after denoising step `step`.
    ///
    /// # Errors
    /// As [`NoiseSource::initial`].
    fn renoise(&mut self, step: usize, first: usize, shape: [usize; 4], device: &Device) -> Result<Tensor>;
}

/// Noise from a seed: ChaCha12 with one stream per latent frame and draw, made on the CPU, normal numbers by the
/// ziggurat method, values in the order channel, row, column.
///
/// A frame's noise depends on the seed, the frame's number and the draw alone: not on the device, the chunk size, the
/// length of the video, or on what was rendered before.
pub struct SeededNoise {
    seed: u64,
}

/// Draws of a frame that have a stream of their own.
const DRAWS: u64 = 1 << 10;

impl SeededNoise {
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    fn draw(&self, draw: u64, first: usize, shape: [usize; 4], device: &Device) -> Result<Tensor> {
        let [frames, channels, height, width] = shape;
        let per_frame = channels * height * width;
        let mut values: Vec<f32> = Vec::with_capacity(frames * per_frame);
        for frame in first..first + frames {
            let mut generator = ChaCha12Rng::seed_from_u64(self.seed);
            generator.set_stream(frame as u64 * DRAWS + draw);
            values.extend((0..per_frame).map(|_| -> f32 { StandardNormal.sample(&mut generator) }));
        }
        Tensor::from_vec(values, &shape, device)
    }
}

impl NoiseSource for SeededNoise {
    fn initial(&mut self, first: usize, shape: [usize; 4], device: &Device) -> Result<Tensor> {
        self.draw(0, first, shape, device)
    }

    fn renoise(&mut self, step: usize, first: usize, shape: [usize; 4], device: &Device) -> Result<Tensor> {
        self.draw(1 + step as u64, first, shape, device)
    }
}

/// Noise that was recorded elsewhere.
pub struct RecordedNoise {
    /// `[generated frames, channels, height, width]`.
    pub initial: Tensor,
    /// `[steps − 1, generated frames, channels, height, width]`; absent for one-step sampling.
    pub renoise: Option<Tensor>,
}

impl NoiseSource for RecordedNoise {
    fn initial(&mut self, first: usize, shape: [usize; 4], device: &Device) -> Result<Tensor> {
        self.initial.narrow(0, first, shape[0])?.to_device(device)
    }

    fn renoise(&mut self, step: usize, first: usize, shape: [usize; 4], device: &Device) -> Result<Tensor> {
        let Some(renoise) = &self.renoise else {
            bail!("no noise was recorded for denoising step {step}");
        };
        renoise.get(step)?.narrow(0, first, shape[0])?.to_device(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(t: Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_frames_noise_does_not_depend_on_the_chunk_it_is_drawn_in() {
        let mut noise = SeededNoise::new(7);
        let both = values(noise.initial(4, [2, 3, 4, 5], &Device::Cpu).unwrap());
        let second = values(noise.initial(5, [1, 3, 4, 5], &Device::Cpu).unwrap());
        assert_eq!(both[60..], second);
        let other_draw = values(noise.renoise(0, 5, [1, 3, 4, 5], &Device::Cpu).unwrap());
        let other_seed = values(SeededNoise::new(8).initial(5, [1, 3, 4, 5], &Device::Cpu).unwrap());
        assert!(second != other_draw && second != other_seed);
    }

    #[test]
    fn it_is_standard_normal() {
        let v = values(SeededNoise::new(1).initial(0, [10, 16, 16, 16], &Device::Cpu).unwrap());
        let mean = v.iter().map(|x| *x as f64).sum::<f64>() / v.len() as f64;
        let variance = v.iter().map(|x| (*x as f64 - mean).powi(2)).sum::<f64>() / v.len() as f64;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }
}
