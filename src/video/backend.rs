//! What every form of video has in common, and how the right one is opened.

use std::io;

use super::{
    Codec, Encoder, EncoderInfo, Form, Metadata, VideoError, VideoSettings,
    destination::Destination,
    program::{self, Through, through},
    raw::RawStream,
};

/// Writes one form.
pub(super) trait Backend: Send {
    /// Takes frame `at`; `metadata` is what is known of it by now.
    fn push(&mut self, rgb: &[u8], at: u64, metadata: &Metadata) -> io::Result<()>;
    /// Hands everything pushed to the operating system, in a form that can be read.
    fn flush(&mut self) -> io::Result<()>;
    /// Ends the video.
    fn close(&mut self, metadata: &Metadata) -> io::Result<()>;
}

/// Opens the writing part of a form that is written front to back, once there is something to write to.
pub(super) type OpenBackend = Box<dyn FnOnce(Destination, &VideoSettings) -> io::Result<Box<dyn Backend>>>;

/// The opener for mp4, webm, y4m and rgb; the encoder is found before anything is created.
pub(super) fn open_backend(
    form: Form,
    settings: &VideoSettings,
    encoders: Option<&[Encoder]>,
) -> Result<(OpenBackend, EncoderInfo), VideoError> {
    match form {
        Form::Mp4 | Form::Webm => open_encoded(form, settings, encoders),
        _ => {
            let open: OpenBackend =
                Box::new(move |to, settings| Ok(Box::new(RawStream::create(to.into_write(), form, settings)?)));
            Ok((open, plain_info(form)))
        }
    }
}

fn open_encoded(
    form: Form,
    settings: &VideoSettings,
    encoders: Option<&[Encoder]>,
) -> Result<(OpenBackend, EncoderInfo), VideoError> {
    match through()? {
        #[cfg(feature = "ffmpeg")]
        Through::Libraries => open_linked(form, settings, encoders),
        Through::Program(program) => program::open_encoded(program, form, settings, encoders),
    }
}

#[cfg(feature = "ffmpeg")]
fn open_linked(
    form: Form,
    settings: &VideoSettings,
    encoders: Option<&[Encoder]>,
) -> Result<(OpenBackend, EncoderInfo), VideoError> {
    use super::{
        EncoderChoice,
        codec::{open_encoder, quiet},
        encoded::{EncodedStream, to_io},
    };
    quiet();
    let opened = match (encoders, settings.encoder) {
        (Some(encoders), _) => open_encoder(encoders, settings),
        (None, EncoderChoice::Auto) => open_encoder(Encoder::preferred(form, settings.gpu.is_some()), settings),
        (None, EncoderChoice::Named(encoder)) => open_encoder(&[encoder], settings).map_err(|error| match error {
            VideoError::NoEncoder { rejected } => VideoError::NamedEncoder { rejected },
            error => error,
        }),
    };
    let (encoder, info) = opened?;
    let open: OpenBackend = Box::new(move |to, settings| {
        let stream = EncodedStream::create(to, form, encoder, settings).map_err(to_io)?;
        Ok(Box::new(stream))
    });
    Ok((open, info))
}

/// The encoder that a video of this form and these settings gets, found by opening it; what is opened is closed again.
///
/// # Errors
/// As [`create`](super::VideoWriter::create) for settings and encoder.
pub fn find_encoder(form: Form, settings: &VideoSettings) -> Result<EncoderInfo, VideoError> {
    settings.check_for(form)?;
    match form {
        Form::Mp4 | Form::Webm => open_backend(form, settings, None).map(|(_, info)| info),
        _ => Ok(plain_info(form)),
    }
}

/// For forms that this crate writes by itself.
pub(super) fn plain_info(form: Form) -> EncoderInfo {
    let codec = match form {
        Form::Gif => Codec::Gif,
        Form::Png => Codec::Png,
        _ => Codec::Raw,
    };
    EncoderInfo {
        name: form.as_str(),
        codec,
        rejected: Vec::new(),
    }
}
