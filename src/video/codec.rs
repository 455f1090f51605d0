//! Opening an encoder of FFmpeg: the first that is wanted and works.

use std::sync::Once;

use ffmpeg_next::{
    self as ffmpeg, Dictionary, codec, color, encoder,
    format::Pixel,
    log::{self, Level},
};

use super::{Codec, Encoder, EncoderInfo, RejectedEncoder, VideoError, VideoSettings, ffmpeg_text::error_text};

/// Keeps FFmpeg from printing, and gives its return codes their texts: they come back as [`VideoError`].
pub(super) fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        ffmpeg::init().ok();
        log::set_level(Level::Quiet);
    });
}

/// Opens the first of `encoders` that works with `settings`, for yuv420p BT.709 with headers apart from packets,
/// as mp4 wants them. No encoder in its options here holds frames back: a frame sent is a packet to be had.
pub(super) fn open_encoder(
    encoders: &[Encoder],
    settings: &VideoSettings,
) -> Result<(encoder::video::Encoder, EncoderInfo), VideoError> {
    let mut rejected = Vec::new();
    for &wanted in encoders {
        let (name, codec) = (wanted.name(), wanted.codec());
        let opened = match encoder::find_by_name(name) {
            Some(codec) => open(wanted, codec, settings).map_err(error_text),
            None => Err("not in this FFmpeg".to_owned()),
        };
        match opened {
            Ok(encoder) => return Ok((encoder, EncoderInfo { name, codec, rejected })),
            Err(reason) => rejected.push(RejectedEncoder { name, reason }),
        }
    }
    Err(VideoError::NoEncoder { rejected })
}

fn open(
    wanted: Encoder,
    codec: ffmpeg::Codec,
    settings: &VideoSettings,
) -> Result<encoder::video::Encoder, ffmpeg::Error> {
    let mut video = codec::context::Context::new_with_codec(codec).encoder().video()?;
    video.set_width(settings.width);
    video.set_height(settings.height);
    video.set_format(Pixel::YUV420P);
    video.set_time_base((1, settings.fps as i32));
    video.set_frame_rate(Some((settings.fps as i32, 1)));
    video.set_gop(settings.keyframe_interval);
    video.set_max_b_frames(0);
    video.set_colorspace(color::Space::BT709);
    video.set_color_range(color::Range::MPEG);
    video.set_color_primaries(color::Primaries::BT709);
    video.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
    let flags = match wanted {
        Encoder::Mpeg4 => codec::Flags::GLOBAL_HEADER | codec::Flags::QSCALE,
        _ => codec::Flags::GLOBAL_HEADER,
    };
    video.set_flags(flags);
    let options = match wanted.codec() {
        Codec::H264 | Codec::Mpeg4 => mp4_options(wanted, &mut video, settings),
        _ => webm_options(wanted, &mut video, settings),
    };
    video.open_with(options)
}

fn mp4_options(wanted: Encoder, video: &mut encoder::video::Video, settings: &VideoSettings) -> Dictionary<'static> {
    let crf = settings.crf.to_string();
    match wanted {
        Encoder::X264 => {
            let preset = settings.preset.as_str();
            // zerolatency: a killed run loses no frame to look-ahead. Scene cuts would move the keyframes.
            [
                ("preset", preset),
                ("crf", &crf),
                ("tune", "zerolatency"),
                ("sc_threshold", "0"),
            ]
            .iter()
            .collect()
        }
        Encoder::Nvenc => {
            // The GPU that computes; FFmpeg would take the first.
            let gpu = settings.gpu.unwrap_or(0).to_string();
            [
                ("rc", "constqp"),
                ("qp", &*crf),
                ("zerolatency", "1"),
                ("delay", "0"),
                ("gpu", &*gpu),
            ]
            .iter()
            .collect()
        }
        Encoder::OpenH264 => {
            // It has no constant quality: a bit rate generous enough for crf 18 to 23.
            video.set_bit_rate(settings.generous_bit_rate());
            Dictionary::new()
        }
        _ => {
            // mpeg4's quantiser 1..31; crf 18 looks like quantiser 3.
            video.set_global_quality(i32::from(settings.crf / 6).clamp(1, 31) * ffmpeg::ffi::FF_QP2LAMBDA);
            Dictionary::new()
        }
    }
}

/// None of them looks ahead: a killed run loses no frame to it.
fn webm_options(wanted: Encoder, video: &mut encoder::video::Video, settings: &VideoSettings) -> Dictionary<'static> {
    // From x264's 0..51 to 0..63.
    let crf = (u32::from(settings.crf) * 63 / 51).max(4).to_string();
    let slowness = settings.preset.slowness();
    let speed = (8 - slowness).to_string();
    match wanted {
        Encoder::Vp9 | Encoder::Vp8 => {
            let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(16));
            video.set_threading(codec::threading::Config::count(threads));
            // VP8 takes the bit rate as a limit for its constant quality, VP9 as one that is not wanted.
            let limit = if wanted == Encoder::Vp8 {
                settings.generous_bit_rate()
            } else {
                0
            };
            video.set_bit_rate(limit);
            let mut options: Dictionary = [
                ("crf", &*crf),
                ("deadline", "realtime"),
                ("cpu-used", &speed),
                ("lag-in-frames", "0"),
                ("auto-alt-ref", "0"),
            ]
            .iter()
            .collect();
            if wanted == Encoder::Vp9 {
                options.set("row-mt", "1");
            }
            options
        }
        _ => {
            let preset = (12 - slowness).to_string();
            [
                ("crf", &*crf),
                ("preset", &preset),
                ("svtav1-params", "pred-struct=1:lookahead=0"),
            ]
            .iter()
            .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether this FFmpeg has it and it opens for a picture of the usual size.
    fn works(encoder: Encoder) -> bool {
        quiet();
        open_encoder(&[encoder], &VideoSettings::new(832, 480)).is_ok()
    }

    #[test]
    fn an_encoder_that_does_not_open_is_replaced_and_reported() {
        quiet();
        // Smaller than NVENC takes, so that it is refused where there is a GPU as well.
        let settings = VideoSettings::new(32, 32);
        let (_, info) = open_encoder(&[Encoder::Nvenc, Encoder::Mpeg4], &settings).unwrap();
        assert_eq!((info.name, info.codec), ("mpeg4", Codec::Mpeg4));
        assert_eq!(info.rejected.len(), 1);
        let said = info.to_string();
        assert!(said.starts_with("MPEG-4 Part 2 (mpeg4), as h264_nvenc: "), "{said}");
    }

    #[test]
    fn without_any_encoder_all_are_named() {
        let error = open_encoder(&[Encoder::Nvenc], &VideoSettings::new(32, 32));
        let error = error.err().unwrap().to_string();
        assert!(error.contains("h264_nvenc") && error.contains("libx264"), "{error}");
    }

    #[test]
    fn a_gpu_encodes_where_it_can_and_x264_elsewhere() {
        let settings = VideoSettings::new(832, 480);
        let (_, info) = open_encoder(Encoder::preferred(super::super::Form::Mp4, true), &settings).unwrap();
        let wanted = match (works(Encoder::Nvenc), works(Encoder::X264)) {
            (true, _) => "h264_nvenc",
            (false, true) => "libx264",
            (false, false) => return eprintln!("skipped: this FFmpeg has neither NVENC nor x264"),
        };
        assert_eq!(info.name, wanted);
        assert_eq!(info.rejected.len(), usize::from(wanted == "libx264"));
    }
}
