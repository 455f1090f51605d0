//! RGB frames in, H.264 mp4 out, playable at every moment and under its final name only when complete.
//!
//! While frames come, they go into a fragmented mp4 beside the target (`.NAME.partial.mp4`): a plain mp4 has its index
//! at the end and is unreadable if the program is killed. [`VideoEncoder::finish`] copies the stream, without encoding
//! again, into a plain mp4 with the index in front, and renames that to the target.

use std::{
    fs::{self, File},
    path::Path,
    time::Duration,
};

use ffmpeg_next::{
    self as ffmpeg, Dictionary, Packet, Rational, codec, encoder, ffi,
    format::{self, Pixel},
    frame, media,
};

use super::{
    EncoderInfo, Metadata, VideoError, VideoSettings, VideoSummary,
    codec::{PREFERRED, open_encoder, quiet},
    colour::Converter,
    output::Output,
};

/// Encodes RGB frames into an mp4 file: H.264, yuv420p, BT.709.
///
/// Dropped without [`finish`](Self::finish), it leaves what was pushed in [`partial_path`](Self::partial_path), and
/// nothing at all if that were no frames.
pub struct VideoEncoder {
    output: Output,
    settings: VideoSettings,
    info: EncoderInfo,
    /// Frames pushed.
    frames: u64,
    /// Taken by `finish`.
    stream: Option<FragmentedStream>,
    /// Holds the lock against other runs for the same output.
    _lock: File,
}

impl std::fmt::Debug for VideoEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = &self.output.path;
        f.debug_struct("VideoEncoder")
            .field("path", path)
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}

impl VideoEncoder {
    /// Opens an encoder for a video that will be at `path`, and the partial file beside it.
    ///
    /// An existing file at `path` stays untouched until [`finish`](Self::finish) replaces it; refusing to do so is the
    /// work of [`check_output`](super::check_output).
    ///
    /// # Errors
    /// [`VideoError`]: settings out of range, a path that no mp4 can be written to, another run writing it, no encoder.
    pub fn create(path: &Path, settings: VideoSettings) -> Result<Self, VideoError> {
        Self::create_with(&PREFERRED, path, settings)
    }

    fn create_with(encoders: &[&'static str], path: &Path, settings: VideoSettings) -> Result<Self, VideoError> {
        settings.check()?;
        quiet();
        let output = Output::new(path)?;
        output.check_folder()?;
        let (encoder, info) = open_encoder(encoders, &settings)?;
        let lock = output.open_partial()?;
        match FragmentedStream::create(&output.partial, encoder, &settings) {
            Ok(stream) => Ok(Self {
                output,
                settings,
                info,
                frames: 0,
                stream: Some(stream),
                _lock: lock,
            }),
            Err(error) => {
                fs::remove_file(&output.partial).ok();
                Err(VideoError::Write {
                    path: output.path,
                    frames: 0,
                    reason: error.to_string(),
                })
            }
        }
    }

    /// The encoder in use; differs from libx264 where the installed FFmpeg lacks it.
    pub fn info(&self) -> &EncoderInfo {
        &self.info
    }

    /// Frames pushed so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Where the frames are until the video is finished.
    pub fn partial_path(&self) -> &Path {
        &self.output.partial
    }

    /// Encodes one frame: `height` rows of `width` pixels of red, green, blue.
    ///
    /// Every `keyframe_interval` frames, all frames so far become safe against the end of the program.
    ///
    /// # Errors
    /// [`VideoError::FrameSize`] if `rgb` is not `width * height * 3` long, [`VideoError::Write`] if the disk is full.
    pub fn push(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        let (width, height) = (self.settings.width, self.settings.height);
        let (expected, actual) = (self.settings.frame_bytes(), rgb.len());
        if actual != expected {
            return Err(VideoError::FrameSize {
                frame: self.frames,
                width,
                height,
                expected,
                actual,
            });
        }
        let at = self.frames as i64;
        self.write(|stream| stream.push(rgb, at))?;
        self.frames += 1;
        if self.frames.is_multiple_of(self.settings.keyframe_interval.into()) {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Makes every frame pushed so far safe: if the program is killed now, the partial file plays them all.
    ///
    /// Called after each chunk, since the first chunk of a causal VAE is shorter than a keyframe interval.
    ///
    /// # Errors
    /// [`VideoError::Write`] if the disk is full.
    pub fn flush(&mut self) -> Result<(), VideoError> {
        self.write(FragmentedStream::flush)
    }

    /// Completes the video and gives it its name. Only from now on there is a file at the path given to `create`.
    ///
    /// # Errors
    /// [`VideoError::NoFrames`]; [`VideoError::Finish`] or [`VideoError::Write`] if the disk is full, the partial file
    /// being kept.
    pub fn finish(mut self) -> Result<VideoSummary, VideoError> {
        if self.frames == 0 {
            return Err(VideoError::NoFrames {
                path: self.output.path.clone(),
            });
        }
        self.write(FragmentedStream::close)?;
        self.stream = None;
        let finished = self.publish();
        finished.map_err(|reason| {
            fs::remove_file(&self.output.finishing).ok();
            let (path, partial) = (self.output.path.clone(), self.output.partial.clone());
            VideoError::Finish { path, partial, reason }
        })
    }

    /// Completes the video with the frames there are, for a run that the user interrupts: a proper video under the
    /// final name. `None`, and no file, if no frame was pushed.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_partial(self) -> Result<Option<VideoSummary>, VideoError> {
        if self.frames == 0 {
            Ok(None)
        } else {
            self.finish().map(Some)
        }
    }

    fn write(
        &mut self,
        step: impl FnOnce(&mut FragmentedStream) -> Result<(), ffmpeg::Error>,
    ) -> Result<(), VideoError> {
        let done = self.stream.as_mut().map_or(Err(ffmpeg::Error::Eof), step);
        done.map_err(|error| VideoError::Write {
            path: self.output.path.clone(),
            frames: self.frames,
            reason: error.to_string(),
        })
    }

    fn publish(&self) -> Result<VideoSummary, String> {
        let copied = remux(&self.output.partial, &self.output.finishing, &self.settings);
        let frames = copied.map_err(|error| error.to_string())?;
        if frames != self.frames {
            return Err(format!("only {frames} of {} frames arrived in the file", self.frames));
        }
        let bytes = self.output.publish().map_err(|error| error.to_string())?;
        let duration = Duration::from_secs_f64(frames as f64 / f64::from(self.settings.fps));
        Ok(VideoSummary {
            path: self.output.path.clone(),
            frames,
            duration,
            bytes,
            encoder: self.info.clone(),
        })
    }
}

impl Drop for VideoEncoder {
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        // Nobody is left to hear of an error, and what is on the disk already plays.
        stream.close().ok();
        drop(stream);
        if self.frames == 0 {
            fs::remove_file(&self.output.partial).ok();
        }
    }
}

/// Encoder and fragmented mp4 writer.
struct FragmentedStream {
    encoder: encoder::video::Encoder,
    file: format::context::Output,
    converter: Converter,
    /// Reused from frame to frame.
    rgb: frame::Video,
    packet: Packet,
    encoder_time_base: Rational,
    stream_time_base: Rational,
}

impl FragmentedStream {
    fn create(path: &Path, encoder: encoder::video::Encoder, settings: &VideoSettings) -> Result<Self, ffmpeg::Error> {
        let mut file = format::output_as(&url(path)?, "mp4")?;
        let fps = Rational(settings.fps as i32, 1);
        let encoder_time_base = fps.invert();
        let mut stream = file.add_stream_with(&encoder)?;
        stream.set_time_base(encoder_time_base);
        stream.set_avg_frame_rate(fps);
        file.set_metadata(dictionary(&settings.metadata));
        let flags = "frag_keyframe+empty_moov+default_base_moof";
        file.write_header_with([("movflags", flags), ("flush_packets", "1")].iter().collect())?;
        // Chosen by the muxer when the header is written.
        let stream_time_base = file.stream(0).ok_or(ffmpeg::Error::StreamNotFound)?.time_base();
        let converter = Converter::rgb_to_yuv(settings.width, settings.height)?;
        let rgb = frame::Video::new(Pixel::RGB24, settings.width, settings.height);
        Ok(Self {
            encoder,
            file,
            converter,
            rgb,
            packet: Packet::empty(),
            encoder_time_base,
            stream_time_base,
        })
    }

    fn push(&mut self, rgb: &[u8], at: i64) -> Result<(), ffmpeg::Error> {
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

    /// Ends the current fragment and hands it to the operating system.
    fn flush(&mut self) -> Result<(), ffmpeg::Error> {
        // SAFETY: the context is valid and its header is written; a null packet asks for a flush.
        match unsafe { ffi::av_write_frame(self.file.as_mut_ptr(), std::ptr::null_mut()) } {
            code if code < 0 => Err(code.into()),
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), ffmpeg::Error> {
        self.encoder.send_eof()?;
        self.write_packets()?;
        self.file.write_trailer()
    }
}

/// Copies the video stream of `from` into a plain mp4 with its index in front. Returns the number of frames.
fn remux(from: &Path, to: &Path, settings: &VideoSettings) -> Result<u64, ffmpeg::Error> {
    let mut source = format::input(&url(from)?)?;
    let (index, source_time_base, parameters) = {
        let stream = source
            .streams()
            .best(media::Type::Video)
            .ok_or(ffmpeg::Error::StreamNotFound)?;
        (stream.index(), stream.time_base(), stream.parameters())
    };
    let mut file = format::output_as(&url(to)?, "mp4")?;
    let fps = Rational(settings.fps as i32, 1);
    let mut stream = file.add_stream(encoder::find(codec::Id::None))?;
    stream.set_parameters(parameters);
    stream.set_time_base(fps.invert());
    stream.set_avg_frame_rate(fps);
    // SAFETY: the stream was just made and owns its parameters. Zero lets the muxer choose the tag.
    unsafe { (*(*stream.as_mut_ptr()).codecpar).codec_tag = 0 };
    file.set_metadata(dictionary(&settings.metadata));
    file.write_header_with([("movflags", "faststart")].iter().collect())?;
    let time_base = file.stream(0).ok_or(ffmpeg::Error::StreamNotFound)?.time_base();
    let mut frames = 0;
    let mut packet = Packet::empty();
    loop {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{Codec, read_frames};

    #[test]
    fn the_last_resort_encoder_makes_a_proper_video() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut encoder =
            VideoEncoder::create_with(&["libnothing", "mpeg4"], &path, VideoSettings::new(64, 32)).unwrap();
        let colour = [200u8, 60, 40].repeat(64 * 32);
        for _ in 0..14 {
            encoder.push(&colour).unwrap();
        }
        // The encoder holds nothing back.
        encoder.flush().unwrap();
        assert_eq!(read_frames(encoder.partial_path(), 99).unwrap().frames.len(), 14);
        let summary = encoder.finish().unwrap();
        assert_eq!((summary.frames, summary.encoder.codec), (14, Codec::Mpeg4));
        let clip = read_frames(&path, 99).unwrap();
        assert_eq!((clip.frames.len(), clip.fps), (14, Some(16.0)));
        let worst = clip
            .frames
            .concat()
            .iter()
            .zip(colour.iter().cycle())
            .map(|(a, b)| a.abs_diff(*b))
            .max()
            .unwrap();
        assert!(worst <= 6, "{worst}");
    }
}
