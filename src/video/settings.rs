//! What a video file is to be like, and what it became.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use super::VideoError;

/// How a video is encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoSettings {
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Frames per second; Wan2.1 models are trained at 16.
    pub fps: u32,
    /// Constant rate factor of x264: 0 (lossless) to 51 (worst); 18 is visually close to lossless.
    pub crf: u8,
    /// Speed against file size.
    pub preset: Preset,
    /// Frames from one keyframe to the next; 12 are one chunk of three latent frames.
    pub keyframe_interval: u32,
    /// Written into the file for players to show.
    pub metadata: Metadata,
}

impl VideoSettings {
    /// The defaults for a picture size: 16 frames per second, crf 18, preset `veryfast`, a keyframe every 12 frames.
    pub fn new(width: u32, height: u32) -> Self {
        let (preset, metadata) = (Preset::default(), Metadata::default());
        Self {
            width,
            height,
            fps: 16,
            crf: 18,
            preset,
            keyframe_interval: 12,
            metadata,
        }
    }

    /// Bytes of one RGB frame, `width * height * 3`.
    pub fn frame_bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`VideoError::Size`] for odd or absurd sizes, [`VideoError::Setting`] for the others.
    pub fn check(&self) -> Result<(), VideoError> {
        let (width, height) = (self.width, self.height);
        let fits = |side: u32| side.is_multiple_of(2) && (2..=16384).contains(&side);
        if !fits(width) || !fits(height) {
            return Err(VideoError::Size { width, height });
        }
        let setting = |name, value: u32, expected| {
            Err(VideoError::Setting {
                name,
                value: value.to_string(),
                expected,
            })
        };
        if !(1..=240).contains(&self.fps) {
            return setting("fps", self.fps, "between 1 and 240");
        }
        if self.crf > 51 {
            return setting("crf", self.crf.into(), "between 0 and 51");
        }
        if !(1..=10_000).contains(&self.keyframe_interval) {
            return setting("keyframe_interval", self.keyframe_interval, "between 1 and 10000");
        }
        Ok(())
    }
}

/// Texts stored in the file. NUL characters, which mp4 cannot hold, are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Usually the prompt.
    pub title: Option<String>,
    /// Usually seed and settings.
    pub comment: Option<String>,
}

/// Speed presets of x264, fastest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    Ultrafast,
    Superfast,
    /// Without look-ahead, which the encoder does not use, slower presets gain little: at 832x480 on the same loaded
    /// machine, `medium` took five times as long and its file was not smaller.
    #[default]
    Veryfast,
    Faster,
    Fast,
    Medium,
    Slow,
    Slower,
    Veryslow,
}

impl Preset {
    /// Every preset, fastest first.
    pub const ALL: [Self; 9] = [
        Self::Ultrafast,
        Self::Superfast,
        Self::Veryfast,
        Self::Faster,
        Self::Fast,
        Self::Medium,
        Self::Slow,
        Self::Slower,
        Self::Veryslow,
    ];

    /// The name that x264 uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ultrafast => "ultrafast",
            Self::Superfast => "superfast",
            Self::Veryfast => "veryfast",
            Self::Faster => "faster",
            Self::Fast => "fast",
            Self::Medium => "medium",
            Self::Slow => "slow",
            Self::Slower => "slower",
            Self::Veryslow => "veryslow",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Preset {
    type Err = VideoError;

    fn from_str(name: &str) -> Result<Self, VideoError> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.as_str() == name)
            .ok_or_else(|| VideoError::Setting {
                name: "preset",
                value: format!("'{name}'"),
                expected: "one of ultrafast, superfast, veryfast, faster, fast, medium, slow, slower, veryslow",
            })
    }
}

/// The video format inside the mp4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// What every player and browser knows.
    H264,
    /// MPEG-4 Part 2: players know it, browsers mostly not.
    Mpeg4,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H264 => "H.264",
            Self::Mpeg4 => "MPEG-4 Part 2",
        })
    }
}

/// The encoder that writes a video, and those that were preferred to it but could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderInfo {
    /// FFmpeg's name of the encoder, for example `libx264`.
    pub name: &'static str,
    /// What it produces.
    pub codec: Codec,
    /// Encoders tried before this one, in order; empty when the preferred `libx264` was there.
    pub rejected: Vec<RejectedEncoder>,
}

/// An encoder that could not be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedEncoder {
    /// FFmpeg's name of the encoder.
    pub name: &'static str,
    /// Why it could not be used.
    pub reason: String,
}

impl fmt::Display for EncoderInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.codec, self.name)?;
        if !self.rejected.is_empty() {
            write!(f, ", as {}", list_rejected(&self.rejected))?;
        }
        Ok(())
    }
}

pub(super) fn list_rejected(rejected: &[RejectedEncoder]) -> String {
    let each: Vec<_> = rejected
        .iter()
        .map(|encoder| format!("{}: {}", encoder.name, encoder.reason))
        .collect();
    each.join(", ")
}

/// What a finished video file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoSummary {
    /// Where the file is.
    pub path: PathBuf,
    /// Frames in it.
    pub frames: u64,
    /// Playing time, frames / fps.
    pub duration: Duration,
    /// Size of the file.
    pub bytes: u64,
    /// The encoder that wrote it.
    pub encoder: EncoderInfo,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let good = VideoSettings::new(832, 480);
        assert!(good.check().is_ok());
        for (width, height) in [(833, 480), (832, 481), (0, 480), (832, 0), (20_000, 480)] {
            let error = VideoSettings {
                width,
                height,
                ..good.clone()
            }
            .check()
            .unwrap_err();
            assert!(matches!(error, VideoError::Size { .. }), "{width}x{height}: {error}");
        }
        for bad in [
            VideoSettings { fps: 0, ..good.clone() },
            VideoSettings {
                crf: 52,
                ..good.clone()
            },
            VideoSettings {
                keyframe_interval: 0,
                ..good.clone()
            },
        ] {
            assert!(matches!(bad.check(), Err(VideoError::Setting { .. })), "{bad:?}");
        }
    }

    #[test]
    fn presets_have_names() {
        for preset in Preset::ALL {
            assert_eq!(preset.to_string().parse::<Preset>().unwrap(), preset);
        }
        assert!("turbo".parse::<Preset>().unwrap_err().to_string().contains("'turbo'"));
    }
}
