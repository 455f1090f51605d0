//! Pictures in, pieces of a video out: mp4 or webm.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::{
    super::{
        Encoder, EncoderInfo, Form, Metadata, VideoError, VideoSettings,
        backend::{Backend, OpenBackend},
        destination::Destination,
    },
    child::{Input, Running},
    find::FfmpegProgram,
    options, pieces_mp4, pieces_webm,
};

/// Most bytes of a piece, which is in memory until it is written: a second or so of the largest pictures.
const LARGEST_PIECE: u64 = 2 << 30;

/// The opener of mp4 and webm; the encoder is found before anything is created.
pub(in super::super) fn open_encoded(
    program: Arc<FfmpegProgram>,
    form: Form,
    settings: &VideoSettings,
    encoders: Option<&[Encoder]>,
) -> Result<(OpenBackend, EncoderInfo), VideoError> {
    let (encoder, info) = options::working(&program, form, settings, encoders)?;
    let open: OpenBackend =
        Box::new(move |to, settings| Ok(Box::new(PieceStream::create(to, program, (form, encoder), settings)?)));
    Ok((open, info))
}

/// How the pieces of a form become one video.
enum Joined {
    Mp4(pieces_mp4::Joined),
    Webm(pieces_webm::Joined),
}

impl Joined {
    fn of(form: Form) -> Self {
        match form {
            Form::Webm => Self::Webm(pieces_webm::Joined::default()),
            _ => Self::Mp4(pieces_mp4::Joined::default()),
        }
    }

    /// What is written of a piece of `frames` frames that begins with frame `first`.
    fn take(&mut self, piece: &[u8], (first, frames): (u64, u64), settings: &VideoSettings) -> Result<Vec<u8>, String> {
        match self {
            Self::Mp4(joined) => joined.take(piece, (first, frames), settings),
            Self::Webm(joined) => joined.take(piece, frames, &settings.metadata),
        }
    }
}

/// Writer of a file that can be cut off anywhere: mp4 in fragments, or webm in clusters.
pub(super) struct PieceStream {
    to: Destination,
    program: Arc<FfmpegProgram>,
    form: Form,
    encoder: Encoder,
    settings: VideoSettings,
    /// The run that makes the next piece; started before its first picture comes, as that takes a moment.
    work: Option<Work>,
    /// Frames in the pieces that are written.
    frames: u64,
    join: Joined,
}

struct Work {
    running: Running,
    piece: JoinHandle<io::Result<Vec<u8>>>,
    frames: u64,
}

impl PieceStream {
    /// Starts the run for the first piece.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn create(
        to: Destination,
        program: Arc<FfmpegProgram>,
        (form, encoder): (Form, Encoder),
        settings: &VideoSettings,
    ) -> io::Result<Self> {
        let mut stream = Self {
            to,
            program,
            form,
            encoder,
            settings: settings.clone(),
            work: None,
            frames: 0,
            join: Joined::of(form),
        };
        stream.begin()?;
        Ok(stream)
    }

    fn begin(&mut self) -> io::Result<()> {
        let arguments = options::encoding(&self.program, self.form, self.encoder, &self.settings, self.frames);
        let mut running = Running::start(&self.program.path, &arguments, Input::Pipe, None).map_err(|error| {
            let program = self.program.path.display();
            io::Error::other(format!("`{program}` cannot be started: {error}"))
        })?;
        let output = running.output();
        let piece = thread::spawn(move || match output {
            Some(output) => output.all(LARGEST_PIECE),
            None => Ok(Vec::new()),
        });
        self.work = Some(Work {
            running,
            piece,
            frames: 0,
        });
        Ok(())
    }

    /// Ends the run of the piece and writes what it made.
    fn end_piece(&mut self) -> io::Result<()> {
        match self.work.take() {
            Some(work) if work.frames > 0 => {
                let frames = work.frames;
                let piece = work.end().map_err(io::Error::other)?;
                let bytes = self.join.take(&piece, (self.frames, frames), &self.settings);
                let bytes =
                    bytes.map_err(|reason| io::Error::other(format!("what ffmpeg gives is of no use: {reason}")))?;
                self.to.take(&bytes)?;
                self.frames += frames;
                Ok(())
            }
            none => {
                self.work = none;
                Ok(())
            }
        }
    }
}

impl Work {
    /// The piece.
    ///
    /// # Errors
    /// Why there is none.
    fn end(self) -> Result<Vec<u8>, String> {
        self.running.end()?;
        let piece = self.piece.join().map_err(|_| "its output cannot be read".to_owned())?;
        piece.map_err(|error| error.to_string())
    }
}

impl Backend for PieceStream {
    fn push(&mut self, rgb: &[u8], _at: u64, _metadata: &Metadata) -> io::Result<()> {
        if self.work.is_none() {
            self.begin()?;
        }
        let Some(work) = &mut self.work else { return Ok(()) };
        if work.running.write(rgb).is_ok() {
            work.frames += 1;
            return Ok(());
        }
        // It takes no more: how it ended is the reason, not the broken pipe.
        let ended = self.work.take().map(Work::end);
        Err(io::Error::other(match ended {
            Some(Err(reason)) => reason,
            _ => "ffmpeg ended before it had all pictures".to_owned(),
        }))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.end_piece()?;
        if self.work.is_none() {
            // While the next pictures are made. What goes wrong is said when they come.
            self.begin().ok();
        }
        Ok(())
    }

    fn close(&mut self, _metadata: &Metadata) -> io::Result<()> {
        self.end_piece()?;
        self.work = None;
        Ok(())
    }
}
