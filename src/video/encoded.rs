//! H.264 and VP9: RGB frames in, a file that can be cut off anywhere out, and its copy into one that can be searched.
//!
//! While frames come, they go into a fragmented mp4 (or webm clusters): a plain mp4 has its index at the end and is
//! unreadable if the program is killed. When all are there, [`remux`] copies the stream, without encoding again.

#![allow(unsafe_code)]

use std::{
    ffi::CString,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ffmpeg_next::{
    self as ffmpeg, Dictionary, Packet, Rational, codec, encoder, ffi,
    format::{
        self, Pixel,
        context::{Input, StreamIo},
    },
    frame, media,
};

use super::{
    Form, Metadata, VideoSettings, backend::Backend, colour::Converter, destination::Destination,
    ffmpeg_text::error_text, input::open_own,
};
use crate::files;

/// Encoder and writer of a file that can be cut off anywhere: mp4 in fragments, or webm in clusters.
pub(super) struct EncodedStream {
    to: Destination,
    /// What FFmpeg wrote since the last flush.
    pending: Pending,
    encoder: encoder::video::Encoder,
    file: format::context::Output,
    converter: Converter,
    /// Reused from frame to frame.
    rgb: frame::Video,
    packet: Packet,
    encoder_time_base: Rational,
    stream_time_base: Rational,
}

impl EncodedStream {
    /// Opens the file with its header, for frames of `encoder`.
    ///
    /// # Errors
    /// When FFmpeg cannot write the form, or the file.
    pub fn create(
        to: Destination,
        form: Form,
        encoder: encoder::video::Encoder,
        settings: &VideoSettings,
    ) -> Result<Self, ffmpeg::Error> {
        let pending = Pending::default();
        // The muxer goes back to put in the sizes of its headers, which works within the buffer only: it must hold the
        // texts and more.
        let texts = [&settings.metadata.title, &settings.metadata.comment];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let io = StreamIo::from_write_with_capacity(pending.clone(), (1 << 20) + 4 * texts)?;
        let mut file = format::output_to_stream(io, None, Some(form.as_str()))?;
        let fps = Rational(settings.fps as i32, 1);
        let encoder_time_base = fps.invert();
        let mut stream = file.add_stream_with(&encoder)?;
        stream.set_time_base(encoder_time_base);
        stream.set_avg_frame_rate(fps);
        let options: &[_] = match form {
            Form::Webm => &[("flush_packets", "0")],
            _ => &[
                ("movflags", "frag_keyframe+empty_moov+default_base_moof"),
                ("flush_packets", "0"),
            ],
        };
        write_header(&mut file, &settings.metadata, options)?;
        // Chosen by the muxer when the header is written.
        let stream_time_base = file.stream(0).ok_or(ffmpeg::Error::StreamNotFound)?.time_base();
        let converter = Converter::rgb_to_yuv(settings.width, settings.height)?;
        let rgb = frame::Video::new(Pixel::RGB24, settings.width, settings.height);
        Ok(Self {
            to,
            pending,
            encoder,
            file,
            converter,
            rgb,
            packet: Packet::empty(),
            encoder_time_base,
            stream_time_base,
        })
    }

    fn encode(&mut self, rgb: &[u8], at: i64) -> Result<(), ffmpeg::Error> {
        let row_bytes = self.rgb.width() as usize * 3;
        let stride = self.rgb.stride(0);
        let padded_rows = self.rgb.data_mut(0).chunks_mut(stride);
        for (padded, row) in padded_rows.zip(rgb.chunks_exact(row_bytes)) {
            padded[..row_bytes].copy_from_slice(row);
        }
        // A fresh one each time: the encoder may keep a reference.
        let mut yuv = frame::Video::empty();
        self.converter.run(&self.rgb, &mut yuv)?;
        yuv.set_pts(Some(at));
        self.encoder.send_frame(&yuv)?;
        self.write_packets()
    }

    fn write_packets(&mut self) -> Result<(), ffmpeg::Error> {
        loop {
            match self.encoder.receive_packet(&mut self.packet) {
                Ok(()) => {}
                Err(
                    ffmpeg::Error::Eof
                    | ffmpeg::Error::Other {
                        errno: ffmpeg::error::EAGAIN,
                    },
                ) => return Ok(()),
                Err(error) => return Err(error),
            }
            self.packet.set_stream(0);
            // Encoders leave it unset; the last frame would then last no time.
            self.packet.set_duration(1);
            self.packet.rescale_ts(self.encoder_time_base, self.stream_time_base);
            self.packet.write(&mut self.file)?;
        }
    }

    /// Ends the current fragment.
    fn end_fragment(&mut self) -> Result<(), ffmpeg::Error> {
        // SAFETY: the context is valid and its header is written; a null packet asks for a flush.
        match unsafe { ffi::av_write_frame(self.file.as_mut_ptr(), std::ptr::null_mut()) } {
            code if code < 0 => Err(code.into()),
            _ => self.flush_bytes(),
        }
    }

    fn flush_bytes(&mut self) -> Result<(), ffmpeg::Error> {
        // SAFETY: the context is valid and has had its writer from its creation on.
        let code = unsafe {
            let to = (*self.file.as_mut_ptr()).pb;
            ffi::avio_flush(to);
            (*to).error
        };
        if code < 0 { Err(code.into()) } else { Ok(()) }
    }

    fn end(&mut self) -> Result<(), ffmpeg::Error> {
        self.encoder.send_eof()?;
        self.write_packets()?;
        self.file.write_trailer()?;
        self.flush_bytes()
    }
}

impl Backend for EncodedStream {
    fn push(&mut self, rgb: &[u8], at: u64, _metadata: &Metadata) -> io::Result<()> {
        self.encode(rgb, at as i64).map_err(to_io)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.end_fragment().map_err(to_io)?;
        self.to.take(&self.pending.bytes())
    }

    fn close(&mut self, _metadata: &Metadata) -> io::Result<()> {
        self.end().map_err(to_io)?;
        self.to.take(&self.pending.bytes())
    }
}

/// Memory into which FFmpeg writes.
#[derive(Clone, Default)]
struct Pending(Arc<Mutex<Vec<u8>>>);

impl Pending {
    /// Takes what is in it.
    fn bytes(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps the reason: a full disk, a reader that has gone.
pub(super) fn to_io(error: ffmpeg::Error) -> io::Error {
    match error {
        ffmpeg::Error::Other { errno } => io::Error::from_raw_os_error(errno),
        other => io::Error::other(error_text(other)),
    }
}

/// Copies the video stream of `from` into a new file `to` that players can search: an mp4 with its index in front, or a
/// webm with a duration and an index. Returns the number of frames.
pub(super) fn remux(from: &Path, to: &Path, form: Form, settings: &VideoSettings) -> Result<u64, String> {
    let source = open_own(from)?;
    let made = files::create(to).map_err(|error| error.to_string())?;
    copy(source, &place_of(&made, to), form, settings).map_err(|error| to_io(error).to_string())
}

/// The name by which FFmpeg opens a file that was just made: that of the open file where the system has one, so that a
/// link which others put in its place meanwhile is not followed.
fn place_of(made: &File, path: &Path) -> PathBuf {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;

        let open = PathBuf::from(format!("/proc/self/fd/{}", made.as_raw_fd()));
        if open.exists() {
            return open;
        }
    }
    let _ = made;
    path.to_owned()
}

fn copy(mut source: Input, to: &Path, form: Form, settings: &VideoSettings) -> Result<u64, ffmpeg::Error> {
    let (index, source_time_base, parameters) = {
        let stream = source
            .streams()
            .best(media::Type::Video)
            .ok_or(ffmpeg::Error::StreamNotFound)?;
        (stream.index(), stream.time_base(), stream.parameters())
    };
    let mut file = format::output_as(&url(to)?, form.as_str())?;
    let fps = Rational(settings.fps as i32, 1);
    let mut stream = file.add_stream(encoder::find(codec::Id::None))?;
    stream.set_parameters(parameters);
    stream.set_time_base(fps.invert());
    stream.set_avg_frame_rate(fps);
    // SAFETY: the stream was just made and owns its parameters. Zero lets the muxer choose the tag.
    unsafe { (*(*stream.as_mut_ptr()).codecpar).codec_tag = 0 };
    let options: &[_] = match form {
        // Not known to every FFmpeg; without it the index is at the end.
        Form::Webm => &[("cues_to_front", "1")],
        _ => &[("movflags", "faststart")],
    };
    write_header(&mut file, &settings.metadata, options)?;
    let time_base = file.stream(0).ok_or(ffmpeg::Error::StreamNotFound)?.time_base();
    let mut frames = 0;
    loop {
        // Reading does not release what the packet held; dropping it does.
        let mut packet = Packet::empty();
        match packet.read(&mut source) {
            Ok(()) if packet.stream() != index => continue,
            Ok(()) => {}
            Err(ffmpeg::Error::Eof) => break,
            Err(error) => return Err(error),
        }
        packet.set_stream(0);
        packet.set_position(-1);
        packet.rescale_ts(source_time_base, time_base);
        packet.write(&mut file)?;
        frames += 1;
    }
    file.write_trailer()?;
    Ok(frames)
}

fn write_header(
    file: &mut format::context::Output,
    metadata: &Metadata,
    options: &[(&str, &str)],
) -> Result<(), ffmpeg::Error> {
    file.set_metadata(dictionary(metadata));
    let options: Dictionary = options.iter().collect();
    // SAFETY: the context is valid, the dictionary is handed over and what is left of it freed. FFmpeg names itself as
    // the program when a file is initialised, so ours is set between that and the header.
    unsafe {
        let mut options = options.disown();
        let code = ffi::avformat_init_output(file.as_mut_ptr(), &mut options);
        ffi::av_dict_free(&mut options);
        if code < 0 {
            return Err(code.into());
        }
    }
    let program = CString::new(super::SOFTWARE).unwrap_or_default();
    for key in [c"encoder", c"encoding_tool"] {
        // SAFETY: as above; both texts are copied.
        let code = unsafe { ffi::av_dict_set(&mut (*file.as_mut_ptr()).metadata, key.as_ptr(), program.as_ptr(), 0) };
        if code < 0 {
            return Err(code.into());
        }
    }
    file.write_header().map(|_| ())
}

fn dictionary(metadata: &Metadata) -> Dictionary<'static> {
    let texts = [("title", &metadata.title), ("comment", &metadata.comment)];
    let set = texts
        .into_iter()
        .filter_map(|(key, text)| Some((key.to_owned(), text.as_ref()?.replace('\0', ""))));
    set.collect()
}

/// `path` as FFmpeg takes it. Without the protocol, a colon in the name would be read as one.
pub(super) fn url(path: &Path) -> Result<String, ffmpeg::Error> {
    match path.to_str() {
        Some(path) if !path.contains('\0') => Ok(format!("file:{path}")),
        _ => Err(ffmpeg::Error::Other {
            errno: ffmpeg::error::EINVAL,
        }),
    }
}
