//! The frames of a video, one after the other, with the moment at which each is shown.

#![allow(unsafe_code)]

use std::path::Path;

use ffmpeg_next::{
    self as ffmpeg, Packet, Rescale, codec, decoder, ffi,
    format::{self, Pixel, stream::Disposition},
    frame, media, rescale,
};
use image::{DynamicImage, RgbImage, RgbaImage, metadata::Orientation};

use super::{
    clip::MAX_SIDE,
    colour::Converter,
    ffmpeg_text::{container, error_text},
    input::open_input,
    probe::is_fragmented,
    still::{check_size, opaque},
};

/// A video that is being decoded.
pub(super) struct Decoder {
    input: format::context::Input,
    decoder: decoder::Video,
    stream: usize,
    packet: Packet,
    /// Whether the file has no more packets.
    ended: bool,
    /// Whether a file that ends in the middle of a frame is no failure: what a killed run leaves.
    may_break_off: bool,
    /// Seconds per unit of time.
    unit: f64,
    /// Frames per second on average.
    pub rate: Option<f64>,
    /// When the first frame is shown, in seconds.
    pub start: Option<f64>,
    orientation: Option<Orientation>,
    /// Size of all frames, known after the first.
    size: Option<(u32, u32)>,
    converter: Option<Converter>,
}

/// A frame as decoded, and the second at which it is shown.
pub(super) struct Timed {
    pub frame: frame::Video,
    pub time: Option<f64>,
}

/// Memory for the pictures that threads of a decoder work on at once, in bytes.
const IN_WORK: u64 = 512 << 20;

/// Threads for pictures of a size: each has some of them in work. 0 lets FFmpeg choose.
fn threads(width: i32, height: i32) -> usize {
    let bytes = u64::try_from(width).unwrap_or(0) * u64::try_from(height).unwrap_or(0) * 3;
    let most = IN_WORK
        .checked_div(bytes)
        .map_or(usize::MAX, |most| (most as usize).max(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if most >= cores { 0 } else { most }
}

/// The stream with the moving picture; a cover of a piece of music is none.
pub(super) fn video_stream(input: &format::context::Input) -> Result<format::stream::Stream<'_>, String> {
    let stream = match input.format().name() {
        // The sizes of one icon.
        "ico" => {
            let area = |stream: &format::stream::Stream| {
                let parameters = stream.parameters();
                // SAFETY: the parameters live as long as the stream.
                let (width, height) = unsafe { ((*parameters.as_ptr()).width, (*parameters.as_ptr()).height) };
                i64::from(width) * i64::from(height)
            };
            input.streams().max_by_key(area)
        }
        _ => input.streams().best(media::Type::Video),
    };
    match stream {
        Some(stream) if stream.disposition().contains(Disposition::ATTACHED_PIC) => {
            Err("it holds sound and a cover picture, but no video".to_owned())
        }
        Some(stream) => Ok(stream),
        None if input.streams().best(media::Type::Audio).is_some() => {
            Err("it holds sound, but no video stream".to_owned())
        }
        None => Err("it holds no video stream".to_owned()),
    }
}

impl Decoder {
    /// Opens a video or an animation at its first frame.
    ///
    /// # Errors
    /// Why it cannot be read as a video.
    pub fn open(path: &Path) -> Result<Self, String> {
        let input = open_input(path)?;
        let stream = video_stream(&input)?;
        let parameters = stream.parameters();
        // SAFETY: the parameters live as long as the stream.
        let (width, height) = unsafe { ((*parameters.as_ptr()).width, (*parameters.as_ptr()).height) };
        // Not known before the first frame for some formats.
        if width > 0 && height > 0 {
            check_size(width as u32, height as u32)?;
        }
        let text = |error: ffmpeg::Error| format!("its video cannot be decoded: {}", error_text(error));
        let mut context = codec::context::Context::from_parameters(parameters).map_err(text)?;
        context.set_threading(codec::threading::Config::count(threads(width, height)));
        let rate = f64::from(stream.avg_frame_rate());
        let unit = f64::from(stream.time_base());
        let start = stream.start_time();
        let (index, orientation) = (stream.index(), orientation(&stream));
        let webm = container(&input).contains("matroska");
        Ok(Self {
            decoder: context.decoder().video().map_err(text)?,
            stream: index,
            packet: Packet::empty(),
            ended: false,
            may_break_off: webm || is_fragmented(path),
            unit,
            rate: (rate.is_finite() && rate > 0.0).then_some(rate),
            start: (start != ffi::AV_NOPTS_VALUE).then_some(start as f64 * unit),
            orientation,
            size: None,
            converter: None,
            input,
        })
    }

    /// Whether the file is an image, not a video.
    pub fn is_image(&self) -> bool {
        container(&self.input).ends_with("_pipe")
    }

    /// Number of streams of the file.
    pub fn streams(&self) -> usize {
        self.input.nb_streams() as usize
    }

    /// Turns the pictures so, whatever the file says.
    pub fn turn(&mut self, orientation: Orientation) {
        self.orientation = Some(orientation);
    }

    /// Goes to a keyframe some time before the last `seconds` of a long video. Returns whether it did; if not, or if
    /// what follows is no use, the file has to be opened again.
    pub fn skip_to_last(&mut self, seconds: f64) -> bool {
        /// Keyframes can be far apart.
        const MARGIN: f64 = 12.0;
        let duration = self.input.duration() as f64 / f64::from(ffi::AV_TIME_BASE);
        let (Some(start), true) = (self.start, duration > seconds + 3.0 * MARGIN) else {
            return false;
        };
        let to = start + duration - seconds - MARGIN;
        let to = ((to * 1e6) as i64).rescale((1, 1_000_000), rescale::TIME_BASE);
        self.input.seek(to, ..to).is_ok()
    }

    /// The next frame; none after the last.
    ///
    /// # Errors
    /// Why the rest cannot be decoded.
    pub fn next(&mut self) -> Result<Option<Timed>, String> {
        loop {
            let mut frame = frame::Video::empty();
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => {
                    self.check(&frame)?;
                    let time = frame.timestamp().map(|at| at as f64 * self.unit);
                    return Ok(Some(Timed { frame, time }));
                }
                Err(ffmpeg::Error::Eof) => return Ok(None),
                Err(ffmpeg::Error::Other {
                    errno: ffmpeg::error::EAGAIN,
                }) if self.ended => return Ok(None),
                Err(ffmpeg::Error::Other {
                    errno: ffmpeg::error::EAGAIN,
                }) => self.feed()?,
                Err(error) => return Err(error_text(error)),
            }
        }
    }

    /// Gives the decoder a packet, or tells it that there are no more.
    fn feed(&mut self) -> Result<(), String> {
        // Reading does not release what the packet held; dropping it does.
        self.packet = Packet::empty();
        let read = match self.packet.read(&mut self.input) {
            Ok(()) if self.packet.stream() != self.stream => return Ok(()),
            Ok(()) if self.packet.is_corrupt() => Err(ffmpeg::Error::InvalidData),
            other => other,
        };
        match read {
            Ok(()) => self.decoder.send_packet(&self.packet).map_err(error_text),
            Err(error) if error == ffmpeg::Error::Eof || self.may_break_off => {
                self.ended = true;
                self.decoder.send_eof().map_err(error_text)
            }
            Err(error) => Err(error_text(error)),
        }
    }

    fn check(&mut self, frame: &frame::Video) -> Result<(), String> {
        let size = (frame.width(), frame.height());
        check_size(size.0, size.1)?;
        match *self.size.get_or_insert(size) == size {
            true => Ok(()),
            false => Err("its picture size changes on the way".to_owned()),
        }
    }

    /// Columns that make the pixels square. A file can claim pixels of any shape, so the size as shown has the limits of
    /// the size as stored.
    fn display_width(&mut self, frame: &frame::Video) -> Result<u32, String> {
        // SAFETY: context, stream and frame are valid, and only read.
        let aspect = unsafe {
            let input = self.input.as_mut_ptr();
            let stream = *(*input).streams.add(self.stream);
            ffi::av_guess_sample_aspect_ratio(input, stream, frame.as_ptr().cast_mut())
        };
        if aspect.num <= 0 || aspect.den <= 0 {
            return Ok(frame.width());
        }
        let width = (f64::from(frame.width()) * f64::from(aspect.num) / f64::from(aspect.den)).round();
        let width = match (1.0..=f64::from(MAX_SIDE)).contains(&width) {
            true => width as u32,
            false => frame.width(),
        };
        check_size(width, frame.height())?;
        Ok(width)
    }

    /// `frame` as RGB with square pixels, upright.
    ///
    /// # Errors
    /// When FFmpeg cannot convert the frame.
    pub fn rgb(&mut self, frame: &frame::Video) -> Result<RgbImage, String> {
        let width = self.display_width(frame)?;
        let text = |error: ffmpeg::Error| format!("its pixels cannot be converted: {}", error_text(error));
        let converter = match &mut self.converter {
            Some(converter) if converter.takes(frame) => converter,
            none => {
                // Tools that write y4m today, this one included, mean BT.709.
                let modern = container(&self.input).contains("yuv4mpegpipe");
                none.insert(Converter::frame_to_rgb(frame, Pixel::RGB24, width, modern).map_err(text)?)
            }
        };
        let mut rgb = frame::Video::empty();
        converter.run(frame, &mut rgb).map_err(text)?;
        let row_bytes = rgb.width() as usize * 3;
        let rows = rgb.data(0).chunks(rgb.stride(0)).take(rgb.height() as usize);
        let bytes = rows.flat_map(|row| &row[..row_bytes]).copied().collect();
        let picture = RgbImage::from_raw(rgb.width(), rgb.height(), bytes).ok_or("its pixels are incomplete")?;
        Ok(self.upright(frame, picture))
    }

    /// As [`Decoder::rgb`], with transparent parts laid on black.
    pub fn opaque(&mut self, frame: &frame::Video) -> Result<RgbImage, String> {
        if !has_alpha(frame.format()) {
            return self.rgb(frame);
        }
        let width = self.display_width(frame)?;
        let text = |error: ffmpeg::Error| format!("its pixels cannot be converted: {}", error_text(error));
        let mut rgba = frame::Video::empty();
        let mut converter = Converter::frame_to_rgb(frame, Pixel::RGBA, width, false).map_err(text)?;
        converter.run(frame, &mut rgba).map_err(text)?;
        let row_bytes = rgba.width() as usize * 4;
        let rows = rgba.data(0).chunks(rgba.stride(0)).take(rgba.height() as usize);
        let bytes = rows.flat_map(|row| &row[..row_bytes]).copied().collect();
        let picture = RgbaImage::from_raw(rgba.width(), rgba.height(), bytes).ok_or("its pixels are incomplete")?;
        Ok(self.upright(frame, opaque(DynamicImage::ImageRgba8(picture))))
    }

    /// The picture of `frame`, turned as file or frame say.
    fn upright(&self, frame: &frame::Video, picture: RgbImage) -> RgbImage {
        let orientation = self.orientation.or_else(|| {
            let data = frame.side_data(frame::side_data::Type::DisplayMatrix)?;
            of_matrix(data.data())
        });
        match orientation {
            None | Some(Orientation::NoTransforms) => picture,
            Some(orientation) => {
                let mut picture = DynamicImage::ImageRgb8(picture);
                picture.apply_orientation(orientation);
                picture.into_rgb8()
            }
        }
    }
}

/// Whether pixels of a format can be transparent.
fn has_alpha(format: Pixel) -> bool {
    let alpha = format.descriptor().is_some_and(|descriptor| {
        // SAFETY: descriptors are static.
        let flags = unsafe { (*descriptor.as_ptr()).flags };
        flags & u64::from(ffi::AV_PIX_FMT_FLAG_ALPHA as u32) != 0
    });
    alpha || format == Pixel::PAL8
}

/// How a video that was taken with a turned camera is to be turned.
pub(super) fn orientation(stream: &format::stream::Stream) -> Option<Orientation> {
    let mut data = stream.side_data();
    let matrix = data.find(|data| data.kind() == codec::packet::side_data::Type::DisplayMatrix)?;
    of_matrix(matrix.data())
}

/// The turn that a display matrix stands for: x' = a x + c y, y' = b x + d y.
fn of_matrix(bytes: &[u8]) -> Option<Orientation> {
    let numbers: Vec<i32> = bytes
        .chunks_exact(4)
        .map(|number| i32::from_ne_bytes([number[0], number[1], number[2], number[3]]))
        .collect();
    let &[a, b, _, c, d, ..] = &numbers[..] else {
        return None;
    };
    let straight = a.unsigned_abs().min(d.unsigned_abs()) > b.unsigned_abs().max(c.unsigned_abs());
    Some(match straight {
        true => match (a > 0, d > 0) {
            (true, true) => Orientation::NoTransforms,
            (false, true) => Orientation::FlipHorizontal,
            (true, false) => Orientation::FlipVertical,
            (false, false) => Orientation::Rotate180,
        },
        false => match (b > 0, c > 0) {
            (true, false) => Orientation::Rotate90,
            (false, true) => Orientation::Rotate270,
            (true, true) => Orientation::Rotate90FlipH,
            (false, false) => Orientation::Rotate270FlipH,
        },
    })
}
