//! FFmpeg and its encoders: the linked libraries or a program.

use super::{Report, Section};
use crate::video::{
    Encoder, Form, VideoError, VideoSettings, find_encoder, found_programs, program_encoders, program_in_use,
};

/// What to do without a good encoder.
const TODO: &str = "install an FFmpeg with libx264 (apt install ffmpeg; pip install imageio-ffmpeg), or name one with \
                    --ffmpeg or DEEPFORCING_FFMPEG";

pub(super) fn examine(report: &mut Report) {
    let mut section = Section::new("ffmpeg");
    let present = match program_in_use() {
        Ok(Some(program)) => {
            section.row("used", format!("the program `{}`", program.path.display()));
            section.row("version", program.version.as_str());
            section.row("found", program.origin.to_string());
            match program_encoders(&program) {
                Ok(present) => present,
                Err(reason) => {
                    report.problem(
                        true,
                        format!("the program ffmpeg does not tell its encoders: {reason}"),
                        TODO,
                    );
                    Vec::new()
                }
            }
        }
        Ok(None) => linked(&mut section, report),
        Err(error) => {
            section.row("used", "none");
            // Other forms can still be written.
            let fatal = matches!(error, VideoError::Program { .. });
            report.problem(fatal, error.to_string(), TODO);
            Vec::new()
        }
    };
    let programs = found_programs();
    let others = programs.iter().map(|found| match found {
        Ok(program) => format!("{} ({}, {})", program.path.display(), program.version, program.origin),
        Err(error) => error.to_string(),
    });
    section.row("programs found", others.collect::<Vec<_>>());
    if !present.is_empty() {
        told(&mut section, &present, report);
    }
    report.sections.push(section);
}

/// Encoders, and which of them are chosen.
fn told(section: &mut Section, present: &[Encoder], report: &mut Report) {
    for (name, gpu) in [("mp4 on the CPU", None), ("mp4 on a GPU", Some(0))] {
        section.row(name, chosen(gpu));
    }
    let names = |there: bool| {
        let all = Encoder::ALL
            .into_iter()
            .filter(|encoder| present.contains(encoder) == there);
        all.map(Encoder::name).collect::<Vec<_>>()
    };
    section.row("encoders", names(true));
    section.row("encoders not there", names(false));
    let usable = |encoder: &Encoder| encoder.form() == Form::Mp4 && *encoder != Encoder::Nvenc;
    if !present.iter().any(usable) {
        report.problem(true, "FFmpeg has no encoder that can write an mp4 on any machine", TODO);
    } else if !present.contains(&Encoder::X264) {
        report.problem(
            false,
            "FFmpeg has no libx264; videos are larger with what there is instead",
            TODO,
        );
    }
}

/// What encodes an mp4 of the usual size.
fn chosen(gpu: Option<usize>) -> String {
    let settings = VideoSettings {
        gpu,
        ..VideoSettings::new(832, 480)
    };
    find_encoder(Form::Mp4, &settings).map_or_else(|error| error.to_string(), |info| info.to_string())
}

/// Versions and encoders of the linked libraries.
#[cfg(feature = "ffmpeg")]
fn linked(section: &mut Section, report: &mut Report) -> Vec<Encoder> {
    use ffmpeg_next as ffmpeg;

    if let Err(error) = ffmpeg::init() {
        report.problem(
            true,
            format!("FFmpeg does not start: {}", crate::video::error_text(error)),
            "install FFmpeg's libraries again",
        );
    }
    section.row("used", "libraries that this program was built with");
    for (name, version) in [
        ("libavcodec", ffmpeg::codec::version()),
        ("libavformat", ffmpeg::format::version()),
        ("libavutil", ffmpeg::util::version()),
        ("libswscale", ffmpeg::software::scaling::version()),
    ] {
        section.row(name, version_text(version));
    }
    let there = |encoder: &Encoder| ffmpeg::encoder::find_by_name(encoder.name()).is_some();
    Encoder::ALL.into_iter().filter(there).collect()
}

#[cfg(not(feature = "ffmpeg"))]
fn linked(_section: &mut Section, _report: &mut Report) -> Vec<Encoder> {
    Vec::new()
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
