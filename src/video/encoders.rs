//! The encoders of FFmpeg that this program can use, and which of them a video wants.

use std::{fmt, str::FromStr};

use super::{Codec, Form};

/// An encoder, for mp4 or webm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    X264,
    /// On NVIDIA GPUs.
    Nvenc,
    OpenH264,
    Mpeg4,
    Vp9,
    Vp8,
    SvtAv1,
}

impl Encoder {
    /// All, those for mp4 first.
    pub const ALL: [Self; 7] = [
        Self::X264,
        Self::Nvenc,
        Self::OpenH264,
        Self::Mpeg4,
        Self::Vp9,
        Self::Vp8,
        Self::SvtAv1,
    ];

    /// FFmpeg's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::X264 => "libx264",
            Self::Nvenc => "h264_nvenc",
            Self::OpenH264 => "libopenh264",
            Self::Mpeg4 => "mpeg4",
            Self::Vp9 => "libvpx-vp9",
            Self::Vp8 => "libvpx",
            Self::SvtAv1 => "libsvtav1",
        }
    }

    /// What it makes.
    pub fn codec(self) -> Codec {
        match self {
            Self::X264 | Self::Nvenc | Self::OpenH264 => Codec::H264,
            Self::Mpeg4 => Codec::Mpeg4,
            Self::Vp9 => Codec::Vp9,
            Self::Vp8 => Codec::Vp8,
            Self::SvtAv1 => Codec::Av1,
        }
    }

    /// The form that it is used for.
    pub fn form(self) -> Form {
        match self {
            Self::Vp9 | Self::Vp8 | Self::SvtAv1 => Form::Webm,
            _ => Form::Mp4,
        }
    }

    /// The encoder of this name, as FFmpeg has it.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoder| encoder.name() == name)
    }

    /// Those for a form in order of preference: what is there and works first is taken. On a GPU (`on_gpu`) its own
    /// encoder leaves the processor alone; elsewhere it is there for an FFmpeg that has no other.
    pub fn preferred(form: Form, on_gpu: bool) -> &'static [Self] {
        match (form, on_gpu) {
            (Form::Webm, _) => &[Self::Vp9, Self::Vp8, Self::SvtAv1],
            (_, true) => &[Self::Nvenc, Self::X264, Self::OpenH264, Self::Mpeg4],
            (_, false) => &[Self::X264, Self::Nvenc, Self::OpenH264, Self::Mpeg4],
        }
    }
}

impl fmt::Display for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The encoder that a user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncoderChoice {
    /// The first of [`Encoder::preferred`] that works.
    #[default]
    Auto,
    /// This one or none.
    Named(Encoder),
}

impl EncoderChoice {
    /// Names accepted on a command line.
    pub const NAMES: &'static [&'static str] = &[
        "auto",
        "libx264",
        "h264_nvenc",
        "libopenh264",
        "mpeg4",
        "libvpx-vp9",
        "libvpx",
        "libsvtav1",
    ];

    /// The encoder, when one was named.
    pub fn named(self) -> Option<Encoder> {
        match self {
            Self::Auto => None,
            Self::Named(encoder) => Some(encoder),
        }
    }
}

impl FromStr for EncoderChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, Encoder::of_name(text)) {
            ("auto", _) => Ok(Self::Auto),
            (_, Some(encoder)) => Ok(Self::Named(encoder)),
            _ => Err(format!("expected one of {}", Self::NAMES.join(", "))),
        }
    }
}

impl fmt::Display for EncoderChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.named().map_or("auto", Encoder::name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_ffmpeg() {
        let names: Vec<&str> = Encoder::ALL.into_iter().map(Encoder::name).collect();
        assert_eq!(EncoderChoice::NAMES[1..], names);
        for name in EncoderChoice::NAMES {
            assert_eq!(name.parse::<EncoderChoice>().unwrap().to_string(), *name);
        }
        assert!("h265".parse::<EncoderChoice>().unwrap_err().contains("h264_nvenc"));
    }

    #[test]
    fn a_gpu_encodes_its_own_videos() {
        let first = |form, on_gpu| Encoder::preferred(form, on_gpu)[0];
        assert_eq!(first(Form::Mp4, false), Encoder::X264);
        assert_eq!(first(Form::Mp4, true), Encoder::Nvenc);
        assert_eq!(first(Form::Webm, true), Encoder::Vp9);
        for form in [Form::Mp4, Form::Webm] {
            for on_gpu in [false, true] {
                let mut preferred = Encoder::preferred(form, on_gpu).to_vec();
                preferred.retain(|encoder| encoder.form() == form);
                let all = Encoder::ALL.into_iter().filter(|encoder| encoder.form() == form);
                assert_eq!(preferred.len(), all.count(), "{form} {on_gpu}");
            }
        }
    }
}
