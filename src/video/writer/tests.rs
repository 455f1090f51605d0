//! Tests of the writer with encoders of their own.

use super::*;
use crate::video::{Codec, read_frames};

#[test]
fn the_last_resort_encoder_makes_a_proper_video() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::parse(folder.path().join("clip.mp4"), None).unwrap();
    let Place::File(output) = &target.place else {
        unreachable!()
    };
    let settings = VideoSettings::new(64, 32);
    let none = |_: &EncoderInfo| Metadata::default();
    let mut writer = VideoWriter::file(&target, output, settings, Some(&[Encoder::Mpeg4]), none).unwrap();
    let colour = [200u8, 60, 40].repeat(64 * 32);
    for _ in 0..14 {
        writer.push(&colour).unwrap();
    }
    // The encoder holds nothing back.
    writer.flush().unwrap();
    assert_eq!(read_frames(&output.partial, 99).unwrap().frames.len(), 14);
    let summary = writer.finish().unwrap();
    assert_eq!((summary.frames, summary.encoder.codec), (14, Codec::Mpeg4));
    let clip = read_frames(&output.path, 99).unwrap();
    assert_eq!((clip.frames.len(), clip.fps), (14, Some(16.0)));
    let pixels = clip.frames.concat();
    let off = pixels.iter().zip(colour.iter().cycle()).map(|(a, b)| a.abs_diff(*b));
    assert!(off.max().unwrap() <= 6);
}

#[test]
fn webm_has_other_encoders_to_fall_back_on() {
    let folder = tempfile::tempdir().unwrap();
    for encoder in [Encoder::Vp8, Encoder::SvtAv1] {
        let name = encoder.name();
        if ffmpeg_next::encoder::find_by_name(name).is_none() {
            eprintln!("skipped: this FFmpeg has no {name}");
            continue;
        }
        let target = Target::parse(folder.path().join(format!("{name}.webm")), None).unwrap();
        let Place::File(output) = &target.place else {
            unreachable!()
        };
        let settings = VideoSettings::new(128, 96);
        let none = |_: &EncoderInfo| Metadata::default();
        let mut writer = VideoWriter::file(&target, output, settings, Some(&[encoder]), none).unwrap();
        for _ in 0..9 {
            writer.push(&[200u8, 60, 40].repeat(128 * 96)).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(read_frames(&output.path, 99).unwrap().frames.len(), 9, "{name}");
    }
}
