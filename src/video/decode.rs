//! The frames of a video, one after the other, with the moment at which each is shown.

use std::path::Path;

use ffmpeg_next::{
    self as ffmpeg, Packet, Rescale, codec, decoder, ffi,
    format::{self, stream::Disposition},
    frame, media, rescale,
};
use image::{DynamicImage, RgbImage, metadata::Orientation};

use super::{
    clip::MAX_SIDE,
    codec::quiet,
    colour::Converter,
    encoded::url,
    probe::{is_fragmented, top_level_boxes},
    still::check_size,
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

/// Opens a file as FFmpeg sees it, or says why it cannot be opened.
pub(super) fn open_input(path: &Path) -> Result<format::context::Input, String> {
    quiet();
    match std::fs::metadata(path) {
        Err(error) => return Err(error.to_string()),
        Ok(found) if found.is_dir() => return Err("it is a folder, not a video file".to_owned()),
        Ok(found) if found.is_file() && found.len() == 0 => return Err("it is empty".to_owned()),
        Ok(_) => {}
    }
    let opened = url(path).and_then(|url| format::input(&url));
    let reason = match opened {
        Ok(input) if input.nb_streams() > 0 => return Ok(input),
        Ok(_) => "there is nothing in it".to_owned(),
        Err(error) => error.to_string(),
    };
    let boxes = top_level_boxes(path).unwrap_or_default();
    let begins = boxes.first().is_some_and(|name| name == "ftyp");
    Err(match begins && !boxes.iter().any(|name| name == "moov") {
        true => "it has no index (moov): its recording or download was interrupted, and it cannot be played".to_owned(),
        false => format!("it is not a video that FFmpeg can open: {reason}"),
    })
}

/// The stream with the moving picture; a cover of a piece of music is none.
pub(super) fn video_stream(input: &format::context::Input) -> Result<format::stream::Stream<'_>, String> {
    let stream = input.streams().best(media::Type::Video);
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
        let text = |error: ffmpeg::Error| format!("its video cannot be decoded: {error}");
        let mut context = codec::context::Context::from_parameters(parameters).map_err(text)?;
        context.set_threading(codec::threading::Config::count(0));
        let rate = f64::from(stream.avg_frame_rate());
        let unit = f64::from(stream.time_base());
        let start = stream.start_time();
        let (index, orientation) = (stream.index(), orientation(&stream));
        let webm = input.format().name().contains("matroska");
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
        let format = self.input.format();
        format.name().ends_with("_pipe") || format.name() == "image2"
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
                Err(error) => return Err(error.to_string()),
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
            Ok(()) => self
                .decoder
                .send_packet(&self.packet)
                .map_err(|error| error.to_string()),
            Err(error) if error == ffmpeg::Error::Eof || self.may_break_off => {
                self.ended = true;
                self.decoder.send_eof().map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
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

    /// Columns that make the pixels square.
    fn display_width(&mut self, frame: &frame::Video) -> u32 {
        // SAFETY: context, stream and frame are valid, and only read.
        let aspect = unsafe {
            let input = self.input.as_mut_ptr();
            let stream = *(*input).streams.add(self.stream);
            ffi::av_guess_sample_aspect_ratio(input, stream, frame.as_ptr().cast_mut())
        };
        if aspect.num <= 0 || aspect.den <= 0 {
            return frame.width();
        }
        let width = (f64::from(frame.width()) * f64::from(aspect.num) / f64::from(aspect.den)).round();
        match (1.0..=f64::from(MAX_SIDE)).contains(&width) {
            true => width as u32,
            false => frame.width(),
        }
    }

    /// `frame` as RGB with square pixels, upright.
    ///
    /// # Errors
    /// When FFmpeg cannot convert the frame.
    pub fn rgb(&mut self, frame: &frame::Video) -> Result<RgbImage, String> {
        let width = self.display_width(frame);
        let text = |error: ffmpeg::Error| format!("its pixels cannot be converted: {error}");
        let converter = match &mut self.converter {
            Some(converter) if converter.takes(frame) => converter,
            none => {
                // Tools that write y4m today, this one included, mean BT.709.
                let modern = self.input.format().name().contains("yuv4mpegpipe");
                none.insert(Converter::frame_to_rgb(frame, width, modern).map_err(text)?)
            }
        };
        let mut rgb = frame::Video::empty();
        converter.run(frame, &mut rgb).map_err(text)?;
        let row_bytes = rgb.width() as usize * 3;
        let rows = rgb.data(0).chunks(rgb.stride(0)).take(rgb.height() as usize);
        let bytes = rows.flat_map(|row| &row[..row_bytes]).copied().collect();
        let picture = RgbImage::from_raw(rgb.width(), rgb.height(), bytes).ok_or("its pixels are incomplete")?;
        let orientation = self.orientation.or_else(|| {
            let data = frame.side_data(frame::side_data::Type::DisplayMatrix)?;
            of_matrix(data.data())
        });
        match orientation {
            None | Some(Orientation::NoTransforms) => Ok(picture),
            Some(orientation) => {
                let mut picture = DynamicImage::ImageRgb8(picture);
                picture.apply_orientation(orientation);
                Ok(picture.into_rgb8())
            }
        }
    }
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
