//! FFmpeg and its encoders.

use super::{Report, Section};

/// Encoders that this program can use, and those that make a video without special hardware.
#[cfg(feature = "ffmpeg")]
const ENCODERS: [(&str, bool); 6] = [
    ("libx264", true),
    ("h264_nvenc", false),
    ("libopenh264", true),
    ("mpeg4", true),
    ("libvpx-vp9", true),
    ("libsvtav1", true),
];

#[cfg(feature = "ffmpeg")]
pub(super) fn examine(report: &mut Report) {
    use ffmpeg_next as ffmpeg;

    let mut section = Section::new("ffmpeg");
    if let Err(error) = ffmpeg::init() {
        report.problem(
            true,
            format!("FFmpeg does not start: {error}"),
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
    for (name, software) in ENCODERS {
        match ffmpeg::encoder::find_by_name(name) {
            Some(_) => {
                usable |= software && matches!(name, "libx264" | "libopenh264" | "mpeg4");
                present.push(name);
            }
            None => absent.push(name),
        }
    }
    let has_x264 = present.contains(&"libx264");
    section.row("encoders", present);
    section.row("encoders not there", absent);
    report.sections.push(section);
    let todo = "install an FFmpeg with libx264; Debian and Ubuntu have it in libavcodec";
    if !usable {
        report.problem(true, "FFmpeg has no encoder that can write an mp4 on any machine", todo);
    } else if !has_x264 {
        report.problem(false, "FFmpeg has no libx264; videos are larger with what there is instead", todo);
    }
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
