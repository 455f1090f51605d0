//! Flags that say what is denoised: length, seed, size, steps.

use std::str::FromStr;

use clap::Args;

use super::{config::effective_preset, printer::Printer};
use crate::{
    Result,
    config::{Layer, Layers},
    prompts::{Moment, parse_moment},
    rollout::request::{PictureSize, draw_seed},
    rollout::sampler::SamplerSettings,
};

/// What is denoised.
#[derive(Args, Default)]
#[command(next_help_heading = "Video")]
pub(super) struct VideoFlags {
    /// Length, as 60, 90s, 1:30 or 1m30s; it is that of what is generated: a start from --image or --extend comes before
    /// it [default: 5]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = parse_seconds)]
    pub seconds: Option<f64>,
    /// Length in frames of the video (four to a latent frame, the first has one) in place of --seconds
    #[arg(long, alias = "num-frames", value_name = "N", conflicts_with = "seconds",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub frames: Option<u32>,
    /// Seed of the noise: the same seed and settings give the same video; random (or -1) draws one and says which
    /// [default: 0]
    #[arg(long, value_name = "N|random", allow_negative_numbers = true)]
    pub seed: Option<SeedFlag>,
    /// Picture size in pixels; both sides are multiples of 16 [default: the preset's]
    #[arg(long, value_name = "WxH")]
    pub size: Option<PictureSize>,
    /// Number of denoising steps of a chunk: the preset's where it has as many, else evenly spaced ones
    #[arg(long, alias = "num-inference-steps", value_name = "N", conflicts_with = "steps",
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub num_steps: Option<u16>,
    /// Denoising steps of a chunk, positions in the schedule from 1000 downwards, for example 1000,750,500,250
    /// [default: the preset's]
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    pub steps: Option<Vec<u32>>,
    /// Timestep shift of the schedule [default: the preset's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub shift: Option<f32>,
}

impl VideoFlags {
    /// Puts what was typed over `layer`.
    pub fn over(&self, layer: Layer) -> Layer {
        Layer {
            seconds: self.seconds,
            seed: self.seed.map(|seed| seed.value),
            size: self.size,
            sampler_steps: self.steps.clone(),
            sampler_shift: self.shift,
            ..layer
        }
    }

    /// The layers with what only the preset can tell: the steps that a number of them means, the seconds of a number of
    /// frames. Says which seed was drawn.
    ///
    /// # Errors
    /// When there is no such preset.
    pub fn complete(&self, layers: Layers, printer: &Printer) -> Result<Layers> {
        if let Some(SeedFlag { value, drawn: true }) = self.seed {
            printer.note(&format!(
                "drawn seed: {value}; --seed {value} makes the same video again"
            ));
        }
        if self.num_steps.is_none() && self.frames.is_none() {
            return Ok(layers);
        }
        let (name, preset) = effective_preset(&layers)?;
        let fps = layers.resolve(&name, &preset).fps.value;
        let steps = self
            .num_steps
            .map(usize::from)
            .map(|count| match preset.sampler.steps.len() == count {
                true => preset.sampler.steps,
                false => SamplerSettings::even_steps(count),
            });
        Ok(layers.with(Layer {
            sampler_steps: steps,
            seconds: self.frames.map(|frames| f64::from(frames) / f64::from(fps)),
            ..Layer::default()
        }))
    }

    /// Whether the seed was drawn, because any will do.
    pub fn seed_drawn(&self) -> bool {
        self.seed.is_some_and(|seed| seed.drawn)
    }
}

/// A seed on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeedFlag {
    pub value: u64,
    pub drawn: bool,
}

impl FromStr for SeedFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-1" || text.eq_ignore_ascii_case("random") {
            let value = draw_seed();
            return Ok(Self { value, drawn: true });
        }
        match text.parse() {
            Ok(value) => Ok(Self { value, drawn: false }),
            Err(_) => Err(format!(
                "expected a whole number from 0 to {}, or random (or -1) for one that is drawn",
                u64::MAX
            )),
        }
    }
}

/// A length: seconds as a number, or a time with units or colons.
pub(super) fn parse_seconds(text: &str) -> Result<f64, String> {
    if let Ok(seconds) = text.trim().parse() {
        return Ok(seconds);
    }
    match parse_moment(text) {
        Ok(Moment::Seconds(seconds)) => Ok(seconds),
        Ok(_) => {
            Err("expected a length such as 60, 60s, 1:30 or 1m30s; a number of frames is given by --frames".into())
        }
        Err(_) => Err("expected a length such as 60, 60s, 1:30, 1m30s or 1h".into()),
    }
}

/// A whole rate; those of television (23.976, 29.97, 59.94) are taken for the whole one beside them.
pub(super) fn parse_fps(text: &str) -> Result<u32, String> {
    let expected = || "expected a whole number from 1 to 240".to_string();
    let rate: f64 = text.trim().parse().map_err(|_| expected())?;
    let whole = rate.round();
    let television = (whole / 1.001 - rate).abs() < 0.005;
    match (1.0..=240.0).contains(&whole) && (rate == whole || television) {
        true => Ok(whole as u32),
        false => Err(format!("{}; files have whole frames per second", expected())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("60", 60.0),
            ("60s", 60.0),
            ("1h", 3600.0),
            ("1:30", 90.0),
            ("1m30s", 90.0),
            ("0.5", 0.5),
        ] {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for text in ["", "long", "1:5", "60x"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
        assert!(parse_seconds("40f").unwrap_err().contains("--frames"));
    }

    #[test]
    fn seeds_are_numbers_or_drawn() {
        assert_eq!("7".parse(), Ok(SeedFlag { value: 7, drawn: false }));
        for text in ["-1", "random", "Random"] {
            let seed: SeedFlag = text.parse().unwrap();
            assert!(seed.drawn && seed.value <= u32::MAX.into(), "{text}");
        }
        for text in ["-2", "1.5", "", "seven"] {
            assert!(
                text.parse::<SeedFlag>()
                    .unwrap_err()
                    .contains("from 0 to 18446744073709551615"),
                "{text}"
            );
        }
    }

    #[test]
    fn rates_of_television_are_whole() {
        for (text, rate) in [
            ("16", 16),
            ("24.0", 24),
            ("23.976", 24),
            ("23.98", 24),
            ("29.97", 30),
            ("59.94", 60),
        ] {
            assert_eq!(parse_fps(text), Ok(rate), "{text}");
        }
        for text in ["0", "241", "12.5", "-3", "x", "nan"] {
            assert!(parse_fps(text).is_err(), "{text}");
        }
    }
}
