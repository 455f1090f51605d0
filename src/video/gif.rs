//! Animated GIF: an own palette for each picture, endless, ended properly after every flush.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
};

use gif::{AnyExtension, Encoder, EncodingError, Extension, Frame, Repeat};

use super::{Metadata, VideoSettings, backend::Backend, metadata::to_comments};

/// Trade of quality against time in the choice of a palette, 1 to 30.
const SPEED: i32 = 10;

/// Writes a GIF whose end marker is overwritten by the next pictures, so that it is whole after every flush.
pub(super) struct GifStream {
    /// Into memory: what it holds goes to the file at once.
    encoder: Encoder<Vec<u8>>,
    file: File,
    /// Whether the file ends in an end marker.
    ended: bool,
    width: u16,
    height: u16,
    fps: u64,
    /// The metadata that the file has.
    written: Metadata,
}

impl GifStream {
    /// Begins the animation.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(file: File, settings: &VideoSettings) -> io::Result<Self> {
        // `VideoSettings::check` keeps both below 2^16.
        let (width, height) = (settings.width as u16, settings.height as u16);
        let mut encoder = Encoder::new(Vec::new(), width, height, &[]).map_err(to_io)?;
        encoder.set_repeat(Repeat::Infinite).map_err(to_io)?;
        let mut stream = Self {
            encoder,
            file,
            ended: false,
            width,
            height,
            fps: settings.fps.into(),
            written: Metadata::default(),
        };
        stream.write_metadata(&settings.metadata)?;
        Ok(stream)
    }

    fn write_metadata(&mut self, metadata: &Metadata) -> io::Result<()> {
        for comment in to_comments(metadata) {
            let kind = AnyExtension(Extension::Comment as u8);
            self.encoder
                .write_raw_extension(kind, &[comment.as_bytes()])
                .map_err(to_io)?;
        }
        self.written = metadata.clone();
        Ok(())
    }
}

impl Backend for GifStream {
    fn push(&mut self, rgb: &[u8], at: u64, _metadata: &Metadata) -> io::Result<()> {
        let mut frame = Frame::from_rgb_speed(self.width, self.height, rgb, SPEED);
        // Hundredths of a second, rounded so that their sum does not drift.
        let moment = |at: u64| (at * 200 + self.fps) / (2 * self.fps);
        frame.delay = (moment(at + 1) - moment(at)) as u16;
        self.encoder.write_frame(&frame).map_err(to_io)
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(self.encoder.get_mut());
        if bytes.is_empty() {
            return Ok(());
        }
        if self.ended {
            self.file.seek(SeekFrom::Current(-1))?;
        }
        self.ended = false;
        self.file.write_all(&[&bytes[..], b";"].concat())?;
        self.ended = true;
        Ok(())
    }

    /// Adds metadata that was set late; the last in a file counts.
    fn close(&mut self, metadata: &Metadata) -> io::Result<()> {
        if *metadata != self.written {
            self.write_metadata(metadata)?;
        }
        self.flush()
    }
}

fn to_io(error: EncodingError) -> io::Error {
    match error {
        EncodingError::Io(error) => error,
        other => io::Error::other(other),
    }
}
