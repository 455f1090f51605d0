//! Saved latents of a video: a safetensors file with one tensor `latents` `[frames, channels, height, width]`, as the
//! transformer makes them, and the recipe in its metadata.
//!
//! [`LatentWriter`] writes chunk by chunk into a file beside the final one and holds no chunk after it is written. The
//! header, which tells the number of frames, has room for any number; it is written anew after each chunk, so that the
//! file of a run that was killed is a proper safetensors file up to the last chunk. (Killed between a chunk and its
//! header, the file has bytes too many at its end, which other readers may refuse; [`LatentReader`] leaves them out.)

#![allow(unsafe_code)]

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use memmap2::Mmap;
use serde_json::{Map, Value, json};

use super::{folders::beside, make_folder_of};
use crate::files;

/// Name of the tensor.
const TENSOR: &str = "latents";
/// Name of the recipe in the metadata.
const RECIPE: &str = "recipe";
/// Room in the header for metadata that grows, as that of a run that is stopped early does.
const SPARE: usize = 1 << 10;
/// Longest header that is read, as in the `safetensors` crate.
const LONGEST_HEADER: u64 = 100_000_000;
/// Bytes of the number in front of the header.
const LENGTH_BYTES: usize = size_of::<u64>();

/// What is wrong with a file of latents.
#[derive(Debug, thiserror::Error)]
pub enum LatentError {
    /// The file cannot be read.
    #[error("cannot read latents from `{}`: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// The file holds something else, or less than it says.
    #[error(
        "`{}` does not hold latents: {reason}; expected a safetensors file of `--save-latents` with the tensor `{TENSOR}` \
         [frames, channels, height, width] in f32, bf16 or f16",
        path.display()
    )]
    NotLatents { path: PathBuf, reason: String },
    /// The file cannot be written.
    #[error("cannot write latents to `{}`: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// Another process writes the same file.
    #[error("another run is writing `{}` now: wait for it or choose another name", path.display())]
    Busy { path: PathBuf },
    /// A chunk of another size.
    #[error("a chunk has shape {found:?}, expected [frames, {}, {}, {}]", expected[0], expected[1], expected[2])]
    Chunk { found: Vec<usize>, expected: [usize; 3] },
    /// Metadata longer than the room for it.
    #[error("{bytes} bytes of metadata do not fit into the header, which was made for {room}")]
    Metadata { bytes: usize, room: usize },
    /// A writer that was given nothing.
    #[error("no latents were made, so `{}` was not written", path.display())]
    Nothing { path: PathBuf },
    /// Frames that are not there.
    #[error("latent frames {} to {} were asked for, but `{}` holds {frames}", range.start, range.end, path.display())]
    Range {
        path: PathBuf,
        range: Range<usize>,
        frames: usize,
    },
    /// NaN or infinity.
    #[error("latent frame {frame} in `{}` holds a value that is not finite; the file is damaged", path.display())]
    NotFinite { path: PathBuf, frame: usize },
    /// A tensor could not be moved or converted.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Writes the latents of a video as they come.
#[derive(Debug)]
pub struct LatentWriter {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    /// Channels, height, width.
    frame_shape: [usize; 3],
    frames: usize,
    recipe: String,
    /// Bytes in front of the values.
    header: usize,
    finished: bool,
}

impl LatentWriter {
    /// Begins a file for latent frames `[channels, height, width]`; `recipe` goes into its metadata. A file under the
    /// final name is replaced at the end.
    ///
    /// # Errors
    /// When no file can be created beside `path`, or another process is writing it.
    pub fn create(
        path: &Path,
        height: usize,
        width: usize,
        channels: usize,
        recipe: &str,
    ) -> Result<Self, LatentError> {
        let partial = partial_of(path);
        let failed = |source| LatentError::Write {
            path: path.into(),
            source,
        };
        if path.file_name().is_none() || path.is_dir() {
            let reason = "it is a folder; give the name of a file";
            return Err(failed(io::Error::new(io::ErrorKind::IsADirectory, reason)));
        }
        make_folder_of(path).map_err(|error| failed(io::Error::other(error.to_string())))?;
        // Only truncated once locked: it may be another run's.
        let opened = files::open_to_empty(&partial, OpenOptions::new().write(true).truncate(false));
        let file = opened.map_err(failed)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(LatentError::Busy { path: path.into() }),
            // Some network file systems have no locks; that is no reason not to write there.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        file.set_len(0).map_err(failed)?;
        let mut writer = Self {
            path: path.into(),
            partial,
            file,
            frame_shape: [channels, height, width],
            frames: 0,
            recipe: recipe.into(),
            header: 0,
            finished: false,
        };
        // A header for the largest count, so that every smaller one fits.
        let largest = writer.header_text(usize::MAX).len() + SPARE;
        writer.header = (LENGTH_BYTES + largest).next_multiple_of(LENGTH_BYTES);
        writer.write_header()?;
        Ok(writer)
    }

    /// Appends a chunk `[frames, channels, height, width]`.
    ///
    /// # Errors
    /// When it has another shape, or the disk does not take it. What was written before stays readable.
    pub fn push(&mut self, latents: &Tensor) -> Result<(), LatentError> {
        match latents.dims() {
            [_, rest @ ..] if *rest == self.frame_shape => {}
            found => {
                return Err(LatentError::Chunk {
                    found: found.to_vec(),
                    expected: self.frame_shape,
                });
            }
        }
        let values = latents.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let end = self.header as u64 + self.values(self.frames) as u64 * size_of::<f32>() as u64;
        let written = self
            .file
            .seek(SeekFrom::Start(end))
            .and_then(|_| self.file.write_all(&bytes));
        if let Err(source) = written {
            // Half a chunk would make the file one that only this program reads.
            self.file.set_len(end).ok();
            return Err(self.failed(source));
        }
        self.frames += latents.dim(0)?;
        self.write_header()
    }

    /// Replaces the recipe, for instance by one that says that the run was stopped.
    ///
    /// # Errors
    /// When it is longer than the first one by more than a kilobyte, or the disk does not take it.
    pub fn set_recipe(&mut self, recipe: &str) -> Result<(), LatentError> {
        let before = std::mem::replace(&mut self.recipe, recipe.into());
        let (bytes, room) = (self.header_text(usize::MAX).len(), self.header - LENGTH_BYTES);
        if bytes > room {
            self.recipe = before;
            return Err(LatentError::Metadata { bytes, room });
        }
        self.write_header()
    }

    /// Latent frames written so far.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The file that holds them until [`LatentWriter::finish`].
    pub fn partial_path(&self) -> &Path {
        &self.partial
    }

    /// Makes the file durable and gives it its final name, which is returned.
    ///
    /// # Errors
    /// When nothing was pushed, or the disk fails; the partial file then stays.
    pub fn finish(mut self) -> Result<PathBuf, LatentError> {
        if self.frames == 0 {
            return Err(LatentError::Nothing {
                path: self.path.clone(),
            });
        }
        let renamed = self
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.partial, &self.path));
        renamed.map_err(|source| self.failed(source))?;
        self.finished = true;
        Ok(self.path.clone())
    }

    fn values(&self, frames: usize) -> usize {
        self.frame_shape
            .iter()
            .fold(frames, |count, n| count.saturating_mul(*n))
    }

    fn header_text(&self, frames: usize) -> String {
        let [channels, height, width] = self.frame_shape;
        let bytes = self.values(frames).saturating_mul(size_of::<f32>());
        let header = json!({
            "__metadata__": { "format": "pt", RECIPE: self.recipe },
            TENSOR: { "dtype": "F32", "shape": [frames, channels, height, width], "data_offsets": [0, bytes] },
        });
        header.to_string()
    }

    /// Writes the header for what is there now, filled up with spaces.
    fn write_header(&mut self) -> Result<(), LatentError> {
        let text = self.header_text(self.frames);
        let room = self.header - LENGTH_BYTES;
        let mut bytes = (room as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(self.header, b' ');
        let written = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.write_all(&bytes));
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> LatentError {
        LatentError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for LatentWriter {
    /// A file without latents is of use to nobody.
    fn drop(&mut self) {
        if !self.finished && self.frames == 0 {
            fs::remove_file(&self.partial).ok();
        }
    }
}

/// Where a file is while it is being written: hidden beside its final name.
fn partial_of(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(beside(&stem, "partial", ".safetensors"))
}

/// Number format of saved latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    F32,
    F16,
    Bf16,
}

/// Saved latents, read chunk by chunk. The file must not be changed while it is open.
#[derive(Debug)]
pub struct LatentReader {
    path: PathBuf,
    map: Mmap,
    /// Where the values begin.
    data: usize,
    stored: Stored,
    shape: [usize; 4],
    recipe: Option<String>,
}

impl LatentReader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// When it cannot be read, is no safetensors file, is cut off, or has no tensor `latents` of a fitting shape.
    pub fn open(path: &Path) -> Result<Self, LatentError> {
        let unreadable = |error: io::Error| LatentError::Unreadable {
            path: path.into(),
            reason: error.to_string(),
        };
        let mut file = files::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let unfit = |reason: String| LatentError::NotLatents {
            path: path.into(),
            reason,
        };
        if !metadata.is_file() {
            return Err(unfit("it is not an ordinary file".into()));
        }
        let (header, data) = read_header(&mut file, metadata.len()).map_err(unfit)?;
        let (stored, shape, place) = tensor_of(&header).map_err(unfit)?;
        let there = metadata.len() - data;
        if place.end > there {
            let bytes = place.end;
            return Err(unfit(format!(
                "its values should have {bytes} bytes, but there are {there}: it is cut off"
            )));
        }
        let recipe = header.get("__metadata__").and_then(|metadata| metadata.get(RECIPE));
        let recipe = recipe.and_then(Value::as_str).map(str::to_owned);
        // SAFETY: the map is only read. That nobody shortens the file meanwhile is part of the contract of the type;
        // finished files are replaced by renaming, not rewritten in place.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        files::maps::note(&map, path);
        Ok(Self {
            path: path.into(),
            map,
            data: usize::try_from(data + place.start).map_err(|_| unfit("it is too large for this machine".into()))?,
            stored,
            shape,
            recipe,
        })
    }

    /// Refuses latents of another number of channels than a decoder takes.
    ///
    /// # Errors
    /// [`LatentError::NotLatents`] with the shape.
    pub fn check_channels(&self, expected: usize) -> Result<(), LatentError> {
        match self.shape {
            [_, channels, ..] if channels == expected => Ok(()),
            [_, channels, ..] => Err(LatentError::NotLatents {
                path: self.path.clone(),
                reason: format!(
                    "its tensor has shape {:?}, with {channels} channels instead of {expected}",
                    self.shape
                ),
            }),
        }
    }

    /// Frames, channels, height, width.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The recipe in the metadata, if there is one: the JSON of a [`crate::recipe::Recipe`].
    pub fn recipe(&self) -> Option<&str> {
        self.recipe.as_deref()
    }

    /// Some of the frames, `[frames, channels, height, width]` in f32.
    ///
    /// # Errors
    /// When frames are not there or hold values that are not finite.
    pub fn read(&self, range: Range<usize>, device: &Device) -> Result<Tensor, LatentError> {
        let [frames, channels, height, width] = self.shape;
        if range.start >= range.end || range.end > frames {
            return Err(LatentError::Range {
                path: self.path.clone(),
                range,
                frames,
            });
        }
        let per_frame = channels * height * width;
        let size = match self.stored {
            Stored::F32 => size_of::<f32>(),
            Stored::F16 | Stored::Bf16 => size_of::<f16>(),
        };
        let frame_bytes = per_frame * size;
        let bytes = &self.map[self.data + range.start * frame_bytes..self.data + range.end * frame_bytes];
        let values: Vec<f32> = match self.stored {
            Stored::F32 => {
                let (words, _) = bytes.as_chunks::<4>();
                words.iter().map(|word| f32::from_le_bytes(*word)).collect()
            }
            Stored::F16 => {
                let (words, _) = bytes.as_chunks::<2>();
                words.iter().map(|word| f16::from_le_bytes(*word).to_f32()).collect()
            }
            Stored::Bf16 => {
                let (words, _) = bytes.as_chunks::<2>();
                words.iter().map(|word| bf16::from_le_bytes(*word).to_f32()).collect()
            }
        };
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(LatentError::NotFinite {
                path: self.path.clone(),
                frame: range.start + at / per_frame,
            });
        }
        let shape = (range.len(), channels, height, width);
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(device)?)
    }
}

/// The header as JSON, and where the values begin.
fn read_header(file: &mut File, file_bytes: u64) -> Result<(Map<String, Value>, u64), String> {
    let mut length = [0; LENGTH_BYTES];
    let no_header = || "it is no safetensors file".to_string();
    file.read_exact(&mut length).map_err(|_| no_header())?;
    let length = u64::from_le_bytes(length);
    let data = length.saturating_add(LENGTH_BYTES as u64);
    if length > LONGEST_HEADER {
        return Err(no_header());
    }
    if data > file_bytes {
        return Err("its header is cut off, or it is no safetensors file".into());
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text).map_err(|error| error.to_string())?;
    let header = serde_json::from_slice(&text).map_err(|_| no_header())?;
    Ok((header, data))
}

/// Format and shape of the tensor, and its place among the values.
fn tensor_of(header: &Map<String, Value>) -> Result<(Stored, [usize; 4], Range<u64>), String> {
    let Some(tensor) = header.get(TENSOR) else {
        let names = header.keys().filter(|name| *name != "__metadata__");
        let names: Vec<_> = names.take(5).map(|name| format!("`{}`", name.escape_debug())).collect();
        return Err(format!(
            "it has no tensor `{TENSOR}`, but {}",
            if names.is_empty() {
                "none at all".into()
            } else {
                names.join(", ")
            }
        ));
    };
    let (stored, size) = match tensor.get("dtype").and_then(Value::as_str) {
        Some("F32") => (Stored::F32, 4),
        Some("F16") => (Stored::F16, 2),
        Some("BF16") => (Stored::Bf16, 2),
        other => return Err(format!("`{TENSOR}` is stored as {}", other.unwrap_or("nothing"))),
    };
    let numbers = |key: &str| -> Option<Vec<u64>> {
        let list = tensor.get(key)?.as_array()?;
        list.iter().map(Value::as_u64).collect()
    };
    let shape = numbers("shape").unwrap_or_default();
    let sizes: Option<Vec<usize>> = shape.iter().map(|n| usize::try_from(*n).ok()).collect();
    let (Some(sizes), Some(count)) = (sizes, shape.iter().try_fold(size, |a: u64, n| a.checked_mul(*n))) else {
        return Err(format!("`{TENSOR}` has the absurd shape {shape:?}"));
    };
    let shape: [usize; 4] = match sizes.try_into() {
        Ok(shape) if count > 0 => shape,
        _ => return Err(format!("`{TENSOR}` has shape {shape:?}")),
    };
    match numbers("data_offsets").as_deref() {
        Some([start, end]) if end.checked_sub(*start) == Some(count) => Ok((stored, shape, *start..*end)),
        _ => Err(format!("the place of `{TENSOR}` contradicts its shape {shape:?}")),
    }
}

#[cfg(test)]
mod tests;
