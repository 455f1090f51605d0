//! What a video file holds.

use std::{
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use serde::Serialize;

use super::{
    Metadata, VideoError,
    program::{self, Through, through},
};

/// What a video file holds, as [`probe`] finds it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probe {
    /// FFmpeg's name of the container, for example `mov,mp4,m4a,3gp,3g2,mj2`.
    pub container: String,
    /// FFmpeg's name of the coding, for example `h264`.
    pub codec: String,
    /// FFmpeg's name of the pixel format, for example `yuv420p`.
    pub pixel_format: String,
    /// Columns as stored.
    pub width: u32,
    /// Rows as stored.
    pub height: u32,
    /// Degrees by which a player turns the picture clockwise; a mirrored one is 0, or through the program ffmpeg what
    /// it says.
    pub rotation: u32,
    /// Frames per second on average.
    pub fps: Option<f64>,
    /// Number of frames; counted where the file does not say it.
    pub frames: u64,
    /// Playing time in seconds.
    pub duration: Option<f64>,
    /// How numbers stand for colours.
    pub colour: Colour,
    /// Whether the index of an mp4 comes before its frames, so that it plays while it is being downloaded; none for
    /// other containers and for fragmented mp4, which needs no index.
    pub faststart: Option<bool>,
    /// Whether it is an mp4 in fragments, as a run leaves it that was killed.
    pub fragmented: bool,
    /// The program that wrote the file.
    pub program: Option<String>,
    /// Title and comment.
    pub metadata: Metadata,
}

/// Colour tags by FFmpeg's names, for example `bt709`; none where the file does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Colour {
    /// Matrix between RGB and YUV.
    pub space: Option<&'static str>,
    pub primaries: Option<&'static str>,
    pub transfer: Option<&'static str>,
    /// `tv` (limited) or `pc` (full).
    pub range: Option<&'static str>,
}

/// Looks at a video file without decoding it.
///
/// # Errors
/// [`VideoError::Unreadable`] if the file is missing or holds no video; [`VideoError::NoFfmpeg`] without FFmpeg.
pub fn probe(path: &Path) -> Result<Probe, VideoError> {
    let found = match through()? {
        #[cfg(feature = "ffmpeg")]
        Through::Libraries => with_ffmpeg::probe(path),
        Through::Program(program) => program::probe(&program, path),
    };
    found.map_err(|reason| VideoError::Unreadable {
        path: path.to_owned(),
        reason,
    })
}

/// Types of the whole boxes of an mp4 file, in order; nonsense or nothing for other files.
pub(super) fn top_level_boxes(path: &Path) -> io::Result<Vec<String>> {
    /// More than any file has that is not damaged, and little enough to be quick.
    const MOST: usize = 1 << 20;
    let mut file = crate::files::open(path)?;
    let length = file.metadata()?.len();
    let (mut at, mut names) = (0, Vec::new());
    while length - at >= 8 && names.len() < MOST {
        let mut head = [0; 16];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head[..8])?;
        let [a, b, c, d, kind @ ..] = head.first_chunk::<8>().copied().unwrap_or_default();
        let size = match u64::from(u32::from_be_bytes([a, b, c, d])) {
            0 => length - at,
            1 if length - at >= 16 => {
                file.read_exact(&mut head[8..])?;
                head[8..].iter().fold(0, |size, &byte| size << 8 | u64::from(byte))
            }
            size => size,
        };
        let text = kind.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
        if !text || !(8..=length - at).contains(&size) {
            break;
        }
        names.push(kind.iter().map(|&byte| char::from(byte)).collect());
        at += size;
    }
    Ok(names)
}

/// Whether `path` is an mp4 in fragments.
pub(super) fn is_fragmented(path: &Path) -> bool {
    let boxes = top_level_boxes(path).unwrap_or_default();
    boxes.first().is_some_and(|name| name == "ftyp") && boxes.iter().any(|name| name == "moof")
}

/// Whether the index of an mp4 comes before its frames.
pub(super) fn index_first(path: &Path) -> bool {
    let boxes = top_level_boxes(path).unwrap_or_default();
    let at = |wanted: &str| boxes.iter().position(|name| name == wanted);
    match (at("moov"), at("mdat")) {
        (Some(index), Some(frames)) => index < frames,
        (index, _) => index.is_some(),
    }
}

/// Title and comment of a video.
pub(super) fn container_metadata(path: &Path) -> Result<Metadata, VideoError> {
    match through()? {
        #[cfg(feature = "ffmpeg")]
        Through::Libraries => match super::input::open_input(path) {
            Ok(input) => Ok(with_ffmpeg::metadata(&input)),
            Err(reason) => Err(VideoError::Unreadable {
                path: path.to_owned(),
                reason,
            }),
        },
        Through::Program(program) => program::container_metadata(&program, path),
    }
}

#[cfg(feature = "ffmpeg")]
mod with_ffmpeg {
    use std::path::Path;

    use ffmpeg_next::{self as ffmpeg, Packet, codec, ffi, format};
    use image::metadata::Orientation;

    use super::{
        super::{
            decode::{orientation, video_stream},
            ffmpeg_text::{codec_name, colours, container, error_text, pixel_format, tag},
            input::open_input,
        },
        Colour, Metadata, Probe, index_first, is_fragmented,
    };

    pub(super) fn probe(path: &Path) -> Result<Probe, String> {
        let mut input = open_input(path)?;
        let stream = video_stream(&input)?;
        let parameters = stream.parameters();
        let decoder = codec::context::Context::from_parameters(parameters)
            .and_then(|context| context.decoder().video())
            .map_err(|error| format!("its video cannot be decoded: {}", error_text(error)))?;
        let fps = f64::from(stream.avg_frame_rate());
        let duration = match (stream.duration(), input.duration()) {
            (own, _) if own > 0 => Some(own as f64 * f64::from(stream.time_base())),
            (_, all) if all > 0 => Some(all as f64 / f64::from(ffi::AV_TIME_BASE)),
            _ => None,
        };
        let (index, told) = (stream.index(), stream.frames());
        let container = container(&input);
        let mp4 = container.contains("mp4");
        let fragmented = mp4 && is_fragmented(path);
        let program = [c"encoding_tool", c"encoder"].iter().find_map(|key| tag(&input, key));
        let mut found = Probe {
            codec: codec_name(decoder.id()),
            pixel_format: pixel_format(decoder.format()),
            width: decoder.width(),
            height: decoder.height(),
            rotation: match orientation(&stream) {
                Some(Orientation::Rotate90) => 90,
                Some(Orientation::Rotate180) => 180,
                Some(Orientation::Rotate270) => 270,
                _ => 0,
            },
            fps: (fps.is_finite() && fps > 0.0).then_some(fps),
            frames: u64::try_from(told).unwrap_or(0),
            duration,
            colour: colour(&decoder),
            faststart: (mp4 && !fragmented).then(|| index_first(path)),
            fragmented,
            program,
            metadata: metadata(&input),
            container,
        };
        drop(decoder);
        if found.frames == 0 || fragmented {
            found.frames = count(&mut input, index);
        }
        if found.duration.is_none() || fragmented {
            found.duration = found.fps.map(|fps| found.frames as f64 / fps);
        }
        Ok(found)
    }

    fn colour(decoder: &codec::decoder::Video) -> Colour {
        let [space, primaries, transfer, range] = colours(decoder);
        Colour {
            space,
            primaries,
            transfer,
            range,
        }
    }

    /// Whole packets of the stream.
    fn count(input: &mut format::context::Input, stream: usize) -> u64 {
        let mut frames = 0;
        loop {
            // Reading does not release what the packet held; dropping it does.
            let mut packet = Packet::empty();
            match packet.read(input) {
                Ok(()) if packet.stream() == stream && !packet.is_corrupt() => frames += 1,
                Ok(()) => {}
                Err(ffmpeg::Error::Other {
                    errno: ffmpeg::error::EAGAIN,
                }) => {}
                Err(_) => return frames,
            }
        }
    }

    pub(super) fn metadata(input: &format::context::Input) -> Metadata {
        let text = |key| tag(input, key).filter(|text| !text.is_empty());
        Metadata {
            title: text(c"title"),
            comment: text(c"comment"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_listed_as_far_as_they_go() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let list = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            top_level_boxes(file.path()).unwrap()
        };
        let plain = |size: u32, kind: &str| [&size.to_be_bytes()[..], kind.as_bytes()].concat();
        assert_eq!(list(&plain(8, "ftyp").repeat(2)), ["ftyp", "ftyp"]);
        let long = [
            plain(1, "mdat"),
            24u64.to_be_bytes().to_vec(),
            vec![0; 8],
            plain(8, "moov"),
        ]
        .concat();
        assert_eq!(list(&long), ["mdat", "moov"]);
        assert_eq!(list(&plain(0, "mdat")), ["mdat"]);
        assert_eq!(list(&[plain(9, "mdat"), plain(4, "a\0\0\0")].concat()), ["mdat"]);
        assert!(list(b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\0").is_empty());
        assert!(list(b"").is_empty());
        // Cut off, and sizes that would never end.
        assert_eq!(list(&plain(9, "free")), [""; 0]);
        assert_eq!(list(&plain(7, "free")), [""; 0]);
        let endless = [plain(1, "free"), u64::MAX.to_be_bytes().to_vec()].concat();
        assert_eq!(list(&endless), [""; 0]);
    }
}
