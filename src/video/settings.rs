//! What a video file is to be like, and what it became.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use super::{Encoder, EncoderChoice, Form, Metadata, VideoError};

/// How a video is encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoSettings {
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Frames per second; Wan2.1 models are trained at 16.
    pub fps: u32,
    /// Quality of mp4 and webm: the constant rate factor of x264, 0 (best) to 51 (worst); 18 is visually close to
    /// lossless. VP9, VP8 and AV1, which count to 63, get it stretched to their scale. The other forms have no such
    /// choice: PNG, y4m and rgb lose nothing but what 8 bits (and 4:2:0 for y4m) lose, a GIF has 256 colours.
    pub crf: u8,
    /// Speed against file size, for mp4 and webm: x264's preset, or the encoder's nearest speed in its real-time mode
    /// (libvpx `cpu-used` 8 for `ultrafast` to 0 for `veryslow`).
    pub preset: Preset,
    /// Encoder of mp4 and webm.
    pub encoder: EncoderChoice,
    /// Number of the GPU that computes the video, if it is one: its encoder is preferred.
    pub gpu: Option<usize>,
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
            encoder: EncoderChoice::Auto,
            gpu: None,
            keyframe_interval: 12,
            metadata,
        }
    }

    /// Bytes of one RGB frame, `width * height * 3`.
    pub fn frame_bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3
    }

    /// Bits per second that suffice for crf 18 to 23, for encoders that know no constant quality.
    pub(super) fn generous_bit_rate(&self) -> usize {
        let pixels_per_second = self.frame_bytes() / 3 * self.fps as usize;
        (pixels_per_second / 4).max(200_000)
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

    /// Checks every number, and that the form can have it.
    ///
    /// # Errors
    /// As [`check`](Self::check); [`VideoError::Setting`] for more than 50 frames per second in a GIF, which players
    /// show slowly, and for a webm encoder in an mp4 or the reverse. Forms that need no encoder take any.
    pub fn check_for(&self, form: Form) -> Result<(), VideoError> {
        self.check()?;
        if let (Form::Mp4 | Form::Webm, EncoderChoice::Named(encoder)) = (form, self.encoder)
            && encoder.form() != form
        {
            return Err(VideoError::Setting {
                name: "encoder",
                value: encoder.to_string(),
                expected: match form {
                    Form::Webm => "libvpx-vp9, libvpx or libsvtav1 for a webm",
                    _ => "libx264, h264_nvenc, libopenh264 or mpeg4 for an mp4",
                },
            });
        }
        if form == Form::Gif && self.fps > 50 {
            return Err(VideoError::Setting {
                name: "fps",
                value: self.fps.to_string(),
                expected: "at most 50 in a GIF, whose players count in hundredths of a second",
            });
        }
        Ok(())
    }
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

    /// `0` for the fastest to `8` for the slowest.
    pub(super) fn slowness(self) -> usize {
        self as usize
    }

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

/// The coding of the pictures in a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// What every player and browser knows.
    H264,
    /// MPEG-4 Part 2: players know it, browsers mostly not.
    Mpeg4,
    Vp9,
    Vp8,
    Av1,
    /// Pictures of 256 colours.
    Gif,
    /// Lossless pictures.
    Png,
    /// Uncompressed YUV or RGB.
    Raw,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H264 => "H.264",
            Self::Mpeg4 => "MPEG-4 Part 2",
            Self::Vp9 => "VP9",
            Self::Vp8 => "VP8",
            Self::Av1 => "AV1",
            Self::Gif => "GIF",
            Self::Png => "PNG",
            Self::Raw => "uncompressed",
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
    /// Encoders tried before this one, in order; empty when the preferred one was there.
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

impl EncoderInfo {
    /// The encoder of FFmpeg; `None` for forms that need none.
    pub fn encoder(&self) -> Option<Encoder> {
        Encoder::of_name(self.name)
    }
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

/// What of an unfinished video is safe on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The readable file; for numbered pictures their names with `%05d` for the number.
    pub path: PathBuf,
    /// Frames in it at least.
    pub frames: u64,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.frames == 1 { "frame is" } else { "frames are" };
        write!(
            f,
            "the first {} {plural} kept in '{}'",
            self.frames,
            self.path.display()
        )
    }
}

/// What a finished video holds.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoSummary {
    /// Where the file is; for numbered pictures their names with `%05d` for the number, `-` for standard output.
    pub path: PathBuf,
    /// Frames in it.
    pub frames: u64,
    /// Playing time, frames / fps.
    pub duration: Duration,
    /// Size of the file, or of all pictures; bytes written to standard output.
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
    fn a_gif_cannot_be_fast() {
        let fast = VideoSettings {
            fps: 60,
            ..VideoSettings::new(64, 64)
        };
        assert!(fast.check_for(Form::Mp4).is_ok());
        assert!(
            fast.check_for(Form::Gif)
                .unwrap_err()
                .to_string()
                .contains("at most 50")
        );
    }

    #[test]
    fn an_encoder_belongs_to_its_form() {
        let vp9 = VideoSettings {
            encoder: "libvpx-vp9".parse().unwrap(),
            ..VideoSettings::new(64, 64)
        };
        for form in [Form::Webm, Form::Gif, Form::Png, Form::Y4m] {
            assert!(vp9.check_for(form).is_ok(), "{form}");
        }
        let error = vp9.check_for(Form::Mp4).unwrap_err().to_string();
        assert!(error.contains("libvpx-vp9") && error.contains("libx264"), "{error}");
    }

    #[test]
    fn presets_have_names() {
        for preset in Preset::ALL {
            assert_eq!(preset.to_string().parse::<Preset>().unwrap(), preset);
        }
        assert!("turbo".parse::<Preset>().unwrap_err().to_string().contains("'turbo'"));
    }
}
