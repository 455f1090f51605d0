//! FFmpeg and its encoders.

use super::{Report, Section};
#[cfg(feature = "ffmpeg")]
use crate::video::{Encoder, Form, VideoSettings, find_encoder};

#[cfg(feature = "ffmpeg")]
pub(super) fn examine(report: &mut Report) {
    use ffmpeg_next as ffmpeg;

    let mut section = Section::new("ffmpeg");
    if let Err(error) = ffmpeg::init() {
        report.problem(
            true,
            format!("FFmpeg does not start: {}", crate::video::error_text(error)),
            "install FFmpeg's libraries again",
        );
    }
    for (name, version) in [
        ("libavcodec", ffmpeg::codec::version()),
        ("libavformat", ffmpeg::format::version()),
        ("libavutil", ffmpeg::util::version()),
        ("libswscale", ffmpeg::software::scaling::version()),
    ] {
        section.row(name, version_text(version));
    }
    let (mut present, mut absent, mut usable) = (Vec::new(), Vec::new(), false);
    for encoder in Encoder::ALL {
        match ffmpeg::encoder::find_by_name(encoder.name()) {
            Some(_) => {
                usable |= encoder.form() == Form::Mp4 && encoder != Encoder::Nvenc;
                present.push(encoder.name());
            }
            None => absent.push(encoder.name()),
        }
    }
    let has_x264 = present.contains(&Encoder::X264.name());
    for (name, gpu) in [("mp4 on the CPU", None), ("mp4 on a GPU", Some(0))] {
        section.row(name, chosen(gpu));
    }
    section.row("encoders", present);
    section.row("encoders not there", absent);
    report.sections.push(section);
    let todo = "install an FFmpeg with libx264; Debian and Ubuntu have it in libavcodec";
    if !usable {
        report.problem(true, "FFmpeg has no encoder that can write an mp4 on any machine", todo);
    } else if !has_x264 {
        report.problem(
            false,
            "FFmpeg has no libx264; videos are larger with what there is instead",
            todo,
        );
    }
}

/// What encodes an mp4 of the usual size.
#[cfg(feature = "ffmpeg")]
fn chosen(gpu: Option<usize>) -> String {
    let settings = VideoSettings {
        gpu,
        ..VideoSettings::new(832, 480)
    };
    find_encoder(Form::Mp4, &settings).map_or_else(|error| error.to_string(), |info| info.to_string())
}

#[cfg(not(feature = "ffmpeg"))]
pub(super) fn examine(report: &mut Report) {
    let mut section = Section::new("ffmpeg");
    section.row("encoders", Vec::<String>::new());
    report.sections.push(section);
    report.problem(
        true,
        "this build has no video encoder: it was compiled without the feature `ffmpeg`",
        "build it again without --no-default-features",
    );
}

/// FFmpeg's packed version numbers.
#[cfg(feature = "ffmpeg")]
fn version_text(version: u32) -> String {
    format!("{}.{}.{}", version >> 16, version >> 8 & 0xff, version & 0xff)
}

#[cfg(all(test, feature = "ffmpeg"))]
mod tests {
    use super::*;

    #[test]
    fn versions_are_unpacked() {
        assert_eq!(version_text(0x3d_13_65), "61.19.101");
    }

    #[test]
    fn the_ffmpeg_of_this_build_is_reported() {
        let mut report = Report::default();
        examine(&mut report);
        let names: Vec<_> = report.sections[0].rows.iter().map(|row| row.name.as_str()).collect();
        assert!(names.contains(&"libavcodec") && names.contains(&"encoders"));
    }
}
