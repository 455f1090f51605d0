//! RGB frames in, a video of any form out, under its final name only when it is complete.
//!
//! | form | while it is written | after a kill |
//! |---|---|---|
//! | mp4 | `.NAME.partial.mp4`, in fragments; copied without encoding into a plain mp4 at the end | plays up to the last flush |
//! | webm | `.NAME.partial.webm`, in clusters; copied without encoding to get an index | plays up to the last flush |
//! | gif | `.NAME.partial.gif`, renamed at the end | plays up to the last flush (a kill within a flush: readable by most programs, without end marker) |
//! | y4m, rgb | `.NAME.partial.y4m`, renamed at the end | readable up to the last flush |
//! | png | each picture under its own name as soon as it is complete | every picture is whole |
//! | stdout | bytes go out at every flush | the reader has all up to the last flush |

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Encoder, EncoderInfo, Form, Kept, Metadata, Target, VideoError, VideoSettings, VideoSummary,
    backend::{Backend, open_backend, plain_info},
    destination::Destination,
    error::advice,
    gif::GifStream,
    output::{Output, open_sequence},
    pattern::Pattern,
    pictures::PictureFiles,
    program::{self, Through, through},
    target::{Place, check_stdout},
};

/// Writes RGB frames as a video of any [`Form`].
///
/// Dropped without [`finish`](Self::finish), it leaves what was pushed where [`kept`](Self::kept) says, and nothing at
/// all if that were no frames.
pub struct VideoWriter {
    target: Target,
    settings: VideoSettings,
    info: EncoderInfo,
    /// Frames pushed.
    frames: u64,
    /// Frames that are safe on the disk.
    flushed: u64,
    /// Size of the partial file up to them.
    flushed_bytes: u64,
    /// Whether writing failed: what came after the last flush may then be in pieces.
    failed: bool,
    /// Bytes sent to a stream or written as pictures.
    bytes: Arc<AtomicU64>,
    /// Taken by `finish`.
    backend: Option<Box<dyn Backend>>,
    /// The partial file, or the lock file of a sequence; holds the lock against other runs. None for a stream.
    held: Option<File>,
}

impl std::fmt::Debug for VideoWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VideoWriter")
            .field("target", &self.target)
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}

impl VideoWriter {
    /// Opens a writer for a video that will be at `target`.
    ///
    /// An existing file there stays untouched until [`finish`](Self::finish) replaces it (numbered pictures: until the
    /// first [`push`](Self::push) removes them); refusing to do so is the work of [`Target::check`].
    ///
    /// # Errors
    /// [`VideoError`]: settings out of range, a place that cannot be written to, another run writing it, no encoder,
    /// standard output that is a terminal.
    pub fn create(target: &Target, settings: VideoSettings) -> Result<Self, VideoError> {
        let metadata = settings.metadata.clone();
        Self::create_described(target, settings, |_| metadata)
    }

    /// The same with the metadata that `describe` gives for the encoder, which is chosen before anything is written.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_described(
        target: &Target,
        settings: VideoSettings,
        describe: impl FnOnce(&EncoderInfo) -> Metadata,
    ) -> Result<Self, VideoError> {
        settings.check_for(target.form())?;
        match &target.place {
            Place::File(output) => Self::file(target, output, settings, None, describe),
            Place::Pictures(pattern) => {
                let info = plain_info(Form::Png);
                let metadata = describe(&info);
                Self::pictures(target, pattern, VideoSettings { metadata, ..settings }, info)
            }
            Place::Stdout => {
                check_stdout()?;
                Self::stream_described(io::stdout(), target.form(), settings, describe)
            }
        }
    }

    /// Opens a writer for a stream: standard output, a socket, memory. Bytes are written at every
    /// [`flush`](Self::flush), which is at every keyframe at least.
    ///
    /// # Errors
    /// [`VideoError::StdoutForm`] for a form that cannot be streamed; settings out of range, no encoder.
    pub fn stream(to: impl Write + Send + 'static, form: Form, settings: VideoSettings) -> Result<Self, VideoError> {
        let metadata = settings.metadata.clone();
        Self::stream_described(to, form, settings, |_| metadata)
    }

    fn stream_described(
        to: impl Write + Send + 'static,
        form: Form,
        mut settings: VideoSettings,
        describe: impl FnOnce(&EncoderInfo) -> Metadata,
    ) -> Result<Self, VideoError> {
        settings.check_for(form)?;
        let target = Target::parse("-", Some(form))?;
        let bytes = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            to,
            bytes: Arc::clone(&bytes),
        };
        let (backend, info) = open_backend(form, &settings, None)?;
        settings.metadata = describe(&info);
        let mut writer = Self::new(target, settings, info, None, bytes);
        let opened = backend(Destination::Stream(Box::new(counted)), &writer.settings);
        writer.backend = Some(opened.map_err(|error| writer.failure(&error))?);
        Ok(writer)
    }

    fn file(
        target: &Target,
        output: &Output,
        mut settings: VideoSettings,
        encoders: Option<&[Encoder]>,
        describe: impl FnOnce(&EncoderInfo) -> Metadata,
    ) -> Result<Self, VideoError> {
        output.check_folder()?;
        let form = target.form();
        // Before the file, so that nothing is left behind without an encoder.
        let (backend, info) = match form {
            Form::Gif => (None, plain_info(form)),
            _ => {
                let (backend, info) = open_backend(form, &settings, encoders)?;
                (Some(backend), info)
            }
        };
        settings.metadata = describe(&info);
        let held = output.open_partial()?;
        let opened = held.try_clone().and_then(|file| match backend {
            Some(backend) => backend(Destination::File(file), &settings),
            None => Ok(Box::new(GifStream::create(file, &settings)?) as Box<dyn Backend>),
        });
        let mut writer = Self::new(target.clone(), settings, info, Some(held), Arc::default());
        writer.backend = Some(opened.map_err(|error| writer.failure(&error))?);
        Ok(writer)
    }

    fn pictures(
        target: &Target,
        pattern: &Pattern,
        settings: VideoSettings,
        info: EncoderInfo,
    ) -> Result<Self, VideoError> {
        let held = open_sequence(pattern)?;
        let bytes = Arc::new(AtomicU64::new(0));
        let files = PictureFiles::new(pattern.clone(), &settings, Arc::clone(&bytes));
        let mut writer = Self::new(target.clone(), settings, info, Some(held), bytes);
        writer.backend = Some(Box::new(files));
        Ok(writer)
    }

    fn new(
        target: Target,
        settings: VideoSettings,
        info: EncoderInfo,
        held: Option<File>,
        bytes: Arc<AtomicU64>,
    ) -> Self {
        Self {
            target,
            settings,
            info,
            frames: 0,
            flushed: 0,
            flushed_bytes: 0,
            failed: false,
            bytes,
            backend: None,
            held,
        }
    }

    /// The encoder in use, and those that were preferred to it.
    pub fn info(&self) -> &EncoderInfo {
        &self.info
    }

    /// Where the video goes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Frames pushed so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// What is on the disk if the program is killed now: the frames up to the last flush. None before the first one,
    /// and for a stream.
    pub fn kept(&self) -> Option<Kept> {
        let path = match &self.target.place {
            Place::File(output) => output.partial.clone(),
            Place::Pictures(pattern) => pattern.path(),
            Place::Stdout => return None,
        };
        (self.flushed > 0).then_some(Kept {
            path,
            frames: self.flushed,
        })
    }

    /// Replaces title and comment. Before [`finish`](Self::finish) they reach the final file in every form that has
    /// them; in a stream and in the partial file stands what was known when the writer was opened.
    pub fn set_metadata(&mut self, metadata: Metadata) {
        self.settings.metadata = metadata;
    }

    /// Encodes one frame: `height` rows of `width` pixels of red, green, blue.
    ///
    /// `keyframe_interval` frames after the last flush, all frames so far become safe against the end of the program.
    ///
    /// # Errors
    /// [`VideoError::FrameSize`] if `rgb` is not `width * height * 3` long, [`VideoError::Write`] if the disk is full,
    /// [`VideoError::ReaderGone`] if nobody reads a stream any more.
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
        let at = self.frames;
        self.write(|backend, metadata| backend.push(rgb, at, metadata))?;
        self.frames += 1;
        // A picture is safe by itself.
        let safe = matches!(self.target.place, Place::Pictures(_));
        if safe || self.frames - self.flushed >= u64::from(self.settings.keyframe_interval) {
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
    /// As [`push`](Self::push).
    pub fn flush(&mut self) -> Result<(), VideoError> {
        if self.flushed == self.frames && !self.failed {
            return Ok(());
        }
        self.write(|backend, _| backend.flush())?;
        self.mark_flushed();
        Ok(())
    }

    fn mark_flushed(&mut self) {
        self.flushed = self.frames;
        if let Some(Ok(found)) = self.held.as_ref().map(File::metadata) {
            self.flushed_bytes = found.len();
        }
    }

    /// Completes the video and gives it its name. Only from now on there is a file at its final path.
    ///
    /// mp4 and webm need the space of a second copy for a moment.
    ///
    /// # Errors
    /// [`VideoError::NoFrames`]; [`VideoError::Finish`] or [`VideoError::Write`] if the disk is full, the partial file
    /// being kept; [`VideoError::ReaderGone`].
    pub fn finish(mut self) -> Result<VideoSummary, VideoError> {
        if self.frames == 0 {
            return Err(VideoError::NoFrames {
                path: self.target.path(),
            });
        }
        self.flush()?;
        self.write(|backend, metadata| backend.close(metadata))?;
        self.mark_flushed();
        self.backend = None;
        let bytes = match &self.target.place {
            Place::File(output) => self.publish(output)?,
            Place::Pictures(pattern) => {
                fs::remove_file(pattern.lock()).ok();
                self.bytes.load(Ordering::Relaxed)
            }
            Place::Stdout => self.bytes.load(Ordering::Relaxed),
        };
        Ok(VideoSummary {
            path: self.target.path(),
            frames: self.frames,
            duration: Duration::from_secs_f64(self.frames as f64 / f64::from(self.settings.fps)),
            bytes,
            encoder: self.info.clone(),
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

    fn publish(&self, output: &Output) -> Result<u64, VideoError> {
        let published = match self.target.form() {
            form @ (Form::Mp4 | Form::Webm) => self
                .copy_complete(form, output)
                .and_then(|()| output.publish(&output.finishing).map_err(|error| error.to_string())),
            _ => output.publish(&output.partial).map_err(|error| error.to_string()),
        };
        published.map_err(|reason| {
            fs::remove_file(&output.finishing).ok();
            VideoError::Finish {
                path: output.path.clone(),
                partial: output.partial.clone(),
                reason,
                kept: output.partial.is_file(),
            }
        })
    }

    fn copy_complete(&self, form: Form, output: &Output) -> Result<(), String> {
        let (from, to) = (&output.partial, &output.finishing);
        let frames = match through().map_err(|error| error.to_string())? {
            #[cfg(feature = "ffmpeg")]
            Through::Libraries => super::encoded::remux(from, to, form, &self.settings)?,
            Through::Program(program) => program::complete(&program, from, to, form, &self.settings)?,
        };
        match frames == self.frames {
            true => Ok(()),
            false => Err(format!("only {frames} of {} frames arrived in the file", self.frames)),
        }
    }

    fn write(&mut self, step: impl FnOnce(&mut dyn Backend, &Metadata) -> io::Result<()>) -> Result<(), VideoError> {
        let done = match (&mut self.backend, self.failed) {
            (Some(backend), false) => step(&mut **backend, &self.settings.metadata),
            _ => Err(io::Error::other("it failed before")),
        };
        done.map_err(|error| {
            self.failed = true;
            self.failure(&error)
        })
    }

    fn failure(&self, error: &io::Error) -> VideoError {
        if self.target.is_stdout() && error.kind() == io::ErrorKind::BrokenPipe {
            return VideoError::ReaderGone { frames: self.flushed };
        }
        VideoError::Write {
            path: self.target.path(),
            frames: self.frames,
            reason: error.to_string(),
            advice: advice(error),
            kept: self.kept(),
        }
    }
}

impl Drop for VideoWriter {
    fn drop(&mut self) {
        match self.backend.take() {
            Some(backend) => self.abandon(backend),
            // It could not be opened. Otherwise it is finished, or kept by a failed finish.
            None if self.flushed == 0 => self.tidy(),
            None => {}
        }
        if let Some(held) = &self.held {
            // Closing the file would not end the lock while a child process is being started that still has it.
            held.unlock().ok();
        }
    }
}

impl VideoWriter {
    /// Ends a video that was not finished.
    fn abandon(&mut self, mut backend: Box<dyn Backend>) {
        // Nobody is left to hear of an error, and what is on the disk already plays.
        if !self.failed && (self.frames > 0 || self.target.is_stdout()) {
            match backend.close(&self.settings.metadata) {
                Ok(()) => self.flushed = self.frames,
                Err(_) => self.failed = true,
            }
        }
        drop(backend);
        self.tidy();
    }

    /// Leaves nothing but what can be read.
    fn tidy(&self) {
        match &self.target.place {
            Place::File(output) if self.flushed == 0 => remove(&output.partial),
            // Pieces of a frame after the last flush would look like damage.
            Place::File(_) if self.failed => {
                if let Some(file) = &self.held {
                    file.set_len(self.flushed_bytes).ok();
                }
            }
            Place::Pictures(pattern) => remove(&pattern.lock()),
            Place::File(_) | Place::Stdout => {}
        }
    }
}

fn remove(path: &Path) {
    fs::remove_file(path).ok();
}

/// Counts what goes through.
struct Counted<W> {
    to: W,
    bytes: Arc<AtomicU64>,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(all(test, feature = "ffmpeg"))]
mod tests;
