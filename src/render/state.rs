//! The state of a video in the making, beside it on disk, so that a run that was stopped or killed can be continued.
//!
//! | file | holds |
//! |---|---|
//! | `.NAME.state` | a [`Snapshot`] at a chunk boundary with the video's recipe: safetensors, replaced as a whole |
//! | `.NAME.latents` | latents of all chunks so far, f32, `[frames, channels, height, width]` without a header; locked by the run that writes it |
//!
//! Pictures are not kept: the latents are decoded and encoded again when a run is continued, which gives the file that
//! an unbroken run writes, whatever its form.
//!
//! A thread writes both, in order; one snapshot is on its way at most. Taking and writing snapshots may take two hundredths
//! of the time ([`SHARE`]), so the cache of a large model is written seldom.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use candle_core::{DType, Tensor};
use sha2::{Digest, Sha256};

use super::{
    pipeline::Keeping,
    state_file::{self, Header, LatentLog},
};
use crate::{
    Result,
    hub::free_bytes,
    recipe::Recipe,
    rollout::{ChunkPlan, LatentChunk, Snapshot, SpanError, spans::Spans},
    video::{Target, hidden_name, make_folder_of},
};

/// Snapshots may take one part in this many of the time.
const SHARE: u32 = 50;
/// Chunks of latents that may wait to be written.
const WAITING: usize = 16;
/// Room on the disk that is left for the video, in snapshots.
const SPARE: u64 = 2;

/// Why a run cannot be continued, or its state not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is no state.
    #[error(
        "nothing to resume: there is no state of an earlier run of `{}` (`{}`); leave out --resume to begin the video",
        video.display(), state.display()
    )]
    Nothing { video: PathBuf, state: PathBuf },
    /// Standard output leaves nothing beside it.
    #[error("a video on standard output cannot be resumed: nothing is kept beside it; write it to a file with -o")]
    Stdout,
    /// A trace holds all of a video.
    #[error(
        "--resume does not go together with --trace: a trace holds every chunk of a video; leave out --trace, or begin \
         anew with --overwrite and without --resume"
    )]
    Trace,
    /// The state is that of another video.
    #[error(
        "the state in `{}` is that of another video: {}; ask for the same video again, or begin anew with --overwrite \
         and without --resume", path.display(), differences.join("; ")
    )]
    Differs { path: PathBuf, differences: Vec<String> },
    /// The file is damaged or something else.
    #[error(
        "`{}` is no state that a video can be continued from: {reason}; begin anew with --overwrite and without --resume",
        path.display()
    )]
    NotState { path: PathBuf, reason: String },
    /// Another process makes the same video.
    #[error("another run is making `{}` now: wait for it or choose another name", video.display())]
    Busy { video: PathBuf },
    /// The files cannot be opened.
    #[error("cannot keep a state beside the video, in `{}`: {source}; --no-state keeps none", path.display())]
    Open { path: PathBuf, source: io::Error },
}

/// Where the state of a video is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatePaths {
    /// The video, for messages.
    pub video: PathBuf,
    pub state: PathBuf,
    pub latents: PathBuf,
    /// A snapshot on its way to `state`.
    writing: PathBuf,
}

impl StatePaths {
    /// Beside the video; `None` for standard output.
    pub fn beside(target: &Target) -> Option<Self> {
        let state = target.beside(&format!("{}.state", target.form()))?;
        let name = state.file_name()?.to_string_lossy().into_owned();
        let stem = name.strip_suffix(".state").unwrap_or(&name);
        let folder = state.parent().unwrap_or(Path::new(""));
        Some(Self::named(folder, stem, &target.path()))
    }

    /// Files `.STEM.state` and `.STEM.latents` in `folder`, for the video `video`.
    pub fn named(folder: &Path, stem: &str, video: &Path) -> Self {
        let named = |what: &str| folder.join(hidden_name(stem, what, ""));
        Self {
            video: video.to_owned(),
            state: named("state"),
            latents: named("latents"),
            writing: named("state.part"),
        }
    }

    /// Whether an earlier run has left a state.
    pub fn exist(&self) -> bool {
        self.state.is_file()
    }

    /// Removes the state.
    pub fn remove(&self) {
        for path in [&self.writing, &self.state, &self.latents] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::debug!("cannot remove `{}`: {error}", path.display());
                }
                _ => {}
            }
        }
    }
}

/// Whether a run continues an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The video is begun, whatever is there.
    Never,
    /// Continued where the state is that of this video, else begun.
    IfThere,
    /// Refused unless it can be continued.
    Must,
}

/// What is kept of a video in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateOptions {
    pub paths: StatePaths,
    pub resume: Resume,
}

/// The state of one video while it is made.
///
/// Dropped without [`State::finish`], it goes unless an earlier run had left it: nothing was rendered that could be
/// continued.
pub(super) struct State {
    paths: StatePaths,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    /// To end the writer by, whoever else could still send to it.
    sender: SyncSender<Message>,
    /// Whether there is something to go on from.
    kept: bool,
}

/// A state that was opened.
pub(super) struct Opened {
    pub state: State,
    pub keeping: Box<dyn Keeping>,
    pub earlier: Option<Earlier>,
}

/// What an earlier run has left.
pub(super) struct Earlier {
    pub snapshot: Snapshot,
    pub latents: LatentLog,
}

#[derive(Default)]
struct Shared(Mutex<Progress>);

/// What the writing thread tells.
#[derive(Default)]
struct Progress {
    /// A snapshot is on its way.
    busy: bool,
    /// No further one before this moment.
    rest: Option<Instant>,
    trouble: Option<String>,
    /// No state is kept any more.
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Opens the files of the video of `recipe`, and reads what an earlier run left where that is wanted.
    ///
    /// # Errors
    /// [`StateError`]; with [`Resume::IfThere`] only when another process makes the video or the folder cannot be
    /// written.
    pub(super) fn open(options: &StateOptions, recipe: &Recipe, channels: usize) -> Result<Opened, StateError> {
        let paths = options.paths.clone();
        if options.resume == Resume::Must && !paths.exist() {
            return Err(StateError::Nothing {
                video: paths.video,
                state: paths.state,
            });
        }
        let mut log = open_log(&paths)?;
        let shape = [channels, recipe.video.latent_height(), recipe.video.latent_width()];
        let earlier = match options.resume {
            Resume::Never => None,
            Resume::IfThere => read(&paths, recipe, shape).ok(),
            Resume::Must => Some(read(&paths, recipe, shape)?),
        };
        let open = |source| StateError::Open {
            path: paths.latents.clone(),
            source,
        };
        let (earlier, hash, bytes) = match earlier {
            Some((snapshot, latents, hash)) => {
                let bytes = latents.bytes();
                (Some(Earlier { snapshot, latents }), hash, bytes)
            }
            None => {
                // What is left of another run would no longer fit the latents.
                fs::remove_file(&paths.state).ok();
                (None, Sha256::new(), 0)
            }
        };
        log.set_len(bytes)
            .and_then(|()| log.seek(SeekFrom::End(0)))
            .map_err(open)?;
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = sync_channel(WAITING);
        let writing = Writing {
            paths: paths.clone(),
            log,
            hash,
            frames: earlier.as_ref().map_or(0, |earlier| earlier.latents.frames()),
            shape,
            recipe: recipe.clone(),
            shared: shared.clone(),
        };
        let writer = thread::spawn(move || writing.run(&receiver));
        let keeper = Keeper {
            sender: sender.clone(),
            shared: shared.clone(),
            begun: None,
        };
        let state = Self {
            paths,
            shared,
            writer: Some(writer),
            sender,
            kept: earlier.is_some(),
        };
        let keeping = Box::new(keeper);
        Ok(Opened {
            state,
            keeping,
            earlier,
        })
    }

    /// Why no state is kept any more; told once.
    pub(super) fn trouble(&self) -> Option<String> {
        self.shared.lock().trouble.take()
    }

    /// Waits until everything is on disk. `kept`: whether the video can be continued; one that is complete, or of which
    /// nothing was made, needs no state.
    pub(super) fn finish(mut self, kept: bool) {
        self.kept = kept;
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // One that has given up has gone.
        let _ = self.sender.send(Message::End);
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::debug!("the thread that writes the state has panicked");
        }
        if !self.kept {
            self.paths.remove();
        }
    }
}

/// Where the earlier chunks of a video begin and end.
pub(super) fn earlier_chunks(recipe: &Recipe, frames: usize) -> Result<Vec<ChunkPlan>, SpanError> {
    let rollout = recipe.rollout;
    let spans = Spans::new(recipe.given(), rollout.chunk, rollout.first_frame_alone)?;
    let (mut plans, mut start) = (Vec::new(), 0);
    while start < frames {
        let plan = spans.at(start);
        start += plan.frames;
        plans.push(plan);
    }
    Ok(plans)
}

/// Opens the file of latents and locks it against other runs.
fn open_log(paths: &StatePaths) -> Result<File, StateError> {
    let path = &paths.latents;
    make_folder_of(path).map_err(|error| StateError::Open {
        path: path.clone(),
        source: io::Error::other(error.to_string()),
    })?;
    let opened = open_own(
        path,
        OpenOptions::new().read(true).write(true).create(true).truncate(false),
    );
    let file = opened.map_err(|source| StateError::Open {
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(StateError::Busy {
            video: paths.video.clone(),
        }),
        // Some network file systems have no locks; that is no reason not to write there.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Opens a file of our own beside the video: never through a symbolic link that somebody else put there.
fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(flags.bits() as i32);
    }
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not an ordinary file",
        ));
    }
    Ok(file)
}

/// The state of an earlier run of the video of `recipe`; the hash goes on with further latents.
fn read(paths: &StatePaths, recipe: &Recipe, shape: [usize; 3]) -> Result<(Snapshot, LatentLog, Sha256), StateError> {
    let not_state = |path: &Path| {
        let path = path.to_owned();
        move |reason: String| StateError::NotState {
            path: path.clone(),
            reason,
        }
    };
    let (header, content) = state_file::read(&paths.state).map_err(not_state(&paths.state))?;
    let differences = header.differences(recipe);
    if !differences.is_empty() {
        return Err(StateError::Differs {
            path: paths.state.clone(),
            differences,
        });
    }
    let snapshot = content.snapshot(&header).map_err(not_state(&paths.state))?;
    let log = LatentLog::open(&paths.latents, snapshot.frame, shape);
    let (log, hash) = log
        .and_then(|log| log.checked(&header.latents_sha256))
        .map_err(not_state(&paths.latents))?;
    Ok((snapshot, log, hash))
}

/// What the pipeline tells.
struct Keeper {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
    /// When the snapshot in work was begun.
    begun: Option<Instant>,
}

enum Message {
    /// Nothing comes after it.
    End,
    Latents(Tensor),
    Snapshot {
        snapshot: Box<Snapshot>,
        took: Duration,
    },
}

impl Keeping for Keeper {
    fn latents(&mut self, chunk: &LatentChunk) {
        // A writer that has given up has said so.
        let _ = self.sender.send(Message::Latents(chunk.latents.clone()));
    }

    fn wants_snapshot(&mut self, last: bool) -> bool {
        let mut progress = self.shared.lock();
        let rested = progress.rest.is_none_or(|rest| Instant::now() >= rest);
        let wanted = !progress.ended && (last || (!progress.busy && rested));
        if wanted {
            progress.busy = true;
            self.begun = Some(Instant::now());
        }
        wanted
    }

    fn snapshot(&mut self, snapshot: Snapshot) {
        let took = self.begun.take().map_or(Duration::ZERO, |begun| begun.elapsed());
        let snapshot = Box::new(snapshot);
        let _ = self.sender.send(Message::Snapshot { snapshot, took });
    }
}

/// The thread that writes.
struct Writing {
    paths: StatePaths,
    log: File,
    /// Of all latents.
    hash: Sha256,
    frames: usize,
    /// Channels, height and width of a latent frame.
    shape: [usize; 3],
    recipe: Recipe,
    shared: Arc<Shared>,
}

impl Writing {
    fn run(mut self, messages: &Receiver<Message>) {
        for message in messages {
            let done = match message {
                Message::End => return,
                Message::Latents(latents) => self.append(&latents),
                Message::Snapshot { snapshot, took } => self.write(&snapshot, took),
            };
            if let Err(reason) = done {
                fs::remove_file(&self.paths.writing).ok();
                let mut progress = self.shared.lock();
                progress.ended = true;
                progress.trouble = Some(reason);
                return;
            }
        }
    }

    fn append(&mut self, latents: &Tensor) -> Result<(), String> {
        let values = latents
            .to_dtype(DType::F32)
            .and_then(|latents| latents.flatten_all()?.to_vec1::<f32>())
            .map_err(|error| error.to_string())?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.hash.update(&bytes);
        self.frames += latents.dim(0).map_err(|error| error.to_string())?;
        self.log.write_all(&bytes).map_err(|error| error.to_string())
    }

    fn write(&mut self, snapshot: &Snapshot, took: Duration) -> Result<(), String> {
        let begun = Instant::now();
        let bytes = state_file::bytes(snapshot);
        let folder = self
            .paths
            .state
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Some(free) = free_bytes(folder.unwrap_or(Path::new(".")))
            && free < bytes.saturating_mul(SPARE)
        {
            return Err(format!("it has {bytes} bytes, and {free} are free on the disk"));
        }
        let header = Header::new(&self.recipe, snapshot, self.shape, self.frames, self.hash.clone());
        let part = self.paths.writing.clone();
        state_file::write(&part, &header, snapshot)?;
        fs::rename(&part, &self.paths.state).map_err(|error| error.to_string())?;
        let cost = took + begun.elapsed();
        let mut progress = self.shared.lock();
        progress.busy = false;
        progress.rest = Some(Instant::now() + cost * SHARE);
        Ok(())
    }
}
