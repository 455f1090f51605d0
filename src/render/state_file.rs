//! The two files of a state, as bytes; see [`super::state`]. What is read may come from anybody.

#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use safetensors::{SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::state_slots::{frame_numbers, slot_width, slots, written_slots};
use crate::{
    cache::{CacheSnapshot, FrameSnapshot, LayerSnapshot, ShelfSnapshot},
    files,
    hub::file_hash::hexadecimal,
    recipe::Recipe,
    rollout::{ActionRows, ChunkPlan, HistorySnapshot, LatentChunk, Snapshot},
    vae::pictures_of_latents,
};

/// Number of the format; another one is refused.
const FORMAT: u32 = 1;
/// Key of the header in the metadata.
const KEY: &str = "deepforcing-state";
/// Name of the tensor that holds [`Snapshot::window`].
const WINDOW: &str = "window";
/// Names of the tensors that hold [`Snapshot::actions`], a row per picture.
const KEYBOARD: &str = "actions.keyboard";
const MOUSE: &str = "actions.mouse";
/// Bytes that are hashed at once.
const BLOCK: usize = 1 << 20;
/// Most layers that a state may have: far more than any model.
const MOST_LAYERS: usize = 1024;

/// What a state says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Header {
    format: u32,
    recipe: Recipe,
    /// See [`Snapshot`].
    chunk: usize,
    frame: usize,
    prompt: Option<usize>,
    end: Option<u64>,
    /// First latent frame of the cache's video; absent in states of versions that did not ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<u64>,
    /// Latent frames of the last chunk, where it began a scene.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cut: Option<usize>,
    /// Class of each head, layer by layer, where they were found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head_classes: Option<Vec<Vec<usize>>>,
    layers: usize,
    /// Channels, height and width of a latent frame.
    latent_shape: [usize; 3],
    latent_frames: usize,
    pub(super) latents_sha256: String,
    /// Latent frames of [`Snapshot::window`].
    #[serde(default, skip_serializing_if = "is_zero")]
    window: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Header {
    pub(super) fn new(recipe: &Recipe, snapshot: &Snapshot, shape: [usize; 3], frames: usize, hash: Sha256) -> Self {
        Self {
            format: FORMAT,
            recipe: recipe.clone(),
            chunk: snapshot.chunk,
            frame: snapshot.frame,
            prompt: snapshot.prompt,
            end: snapshot.cache.end,
            origin: snapshot.cache.origin,
            cut: snapshot.cache.cut,
            head_classes: snapshot.cache.head_classes.clone(),
            layers: snapshot.cache.layers.len(),
            latent_shape: shape,
            latent_frames: frames,
            latents_sha256: hexadecimal(&hash.finalize()),
            window: snapshot
                .window
                .as_ref()
                .and_then(|window| window.dims().first().copied())
                .unwrap_or(0),
        }
    }

    /// What of the recipe is not what is asked for now, in words.
    pub(super) fn differences(&self, wanted: &Recipe) -> Vec<String> {
        let (kept, wanted) = (json(&self.recipe), json(wanted));
        let mut found = Vec::new();
        compare("", &kept, &wanted, &mut found);
        found
    }
}

/// A recipe without what does not change pictures or latents.
fn json(recipe: &Recipe) -> serde_json::Value {
    let mut recipe = recipe.clone();
    recipe.notes.clear();
    recipe.complete();
    let mut value = serde_json::to_value(recipe).unwrap_or_default();
    if let Some(value) = value.as_object_mut() {
        // All is encoded anew.
        value.remove("encoding");
    }
    value
}

/// Differences of two values, each with its place, what was kept and what is wanted.
fn compare(place: &str, kept: &serde_json::Value, wanted: &serde_json::Value, found: &mut Vec<String>) {
    use serde_json::Value::{Array, Null, Object};
    let inner = |key: &str| {
        if place.is_empty() {
            key.to_owned()
        } else {
            format!("{place}.{key}")
        }
    };
    match (kept, wanted) {
        (Object(a), Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                compare(
                    &inner(key),
                    a.get(key).unwrap_or(&Null),
                    b.get(key).unwrap_or(&Null),
                    found,
                );
            }
        }
        (Array(a), Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&inner(&(i + 1).to_string()), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{place} is {} there and {} now", short(a), short(b))),
    }
}

/// A value in at most a line.
fn short(value: &serde_json::Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        return text;
    }
    text.chars().take(57).chain("...".chars()).collect()
}

/// Bytes of a state's tensors.
pub(super) fn bytes(snapshot: &Snapshot) -> u64 {
    let of = |tensor: &Tensor| (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
    let layer = |layer: &LayerSnapshot| {
        let queries: u64 = layer.queries.iter().map(of).sum();
        let shelf = layer
            .shelf
            .as_ref()
            .map_or(0, |shelf| of(&shelf.raw) + of(&shelf.values));
        let tokens = of(&layer.raw) + of(&layer.rotated) + of(&layer.values);
        tokens + queries + shelf + (layer.slots.len() * slot_width(&layer.slots) * size_of::<i64>()) as u64
    };
    let history = snapshot.history.as_ref();
    let history = history.map_or(0, |history| {
        of(&history.latents) + (history.frames.len() * size_of::<i64>()) as u64
    });
    let frames = snapshot.cache.frames.iter().flatten();
    let frames: u64 = frames.map(|window| of(&window.keys) + of(&window.values)).sum();
    snapshot.cache.layers.iter().map(layer).sum::<u64>() + frames + history + snapshot.window.as_ref().map_or(0, of)
}

/// Writes a state; nobody sees the file before it is complete.
pub(super) fn write(path: &Path, header: &Header, snapshot: &Snapshot) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    for (i, layer) in snapshot.cache.layers.iter().enumerate() {
        tensors.push((
            format!("{i}.slots"),
            written_slots(&layer.slots).map_err(|e| words(&e))?,
        ));
        if let Some(shelf) = &layer.shelf {
            let frames = shelf.frames.iter().map(|frame| *frame as i64).collect::<Vec<_>>();
            let frames = Tensor::from_vec(frames, shelf.frames.len(), &Device::Cpu);
            tensors.push((format!("{i}.shelf"), frames.map_err(|e| words(&e))?));
            tensors.push((format!("{i}.shelf-keys"), shelf.raw.clone()));
            tensors.push((format!("{i}.shelf-values"), shelf.values.clone()));
        }
        for (name, tensor) in [
            ("keys", &layer.raw),
            ("rotated", &layer.rotated),
            ("values", &layer.values),
        ] {
            tensors.push((format!("{i}.{name}"), tensor.clone()));
        }
        if !layer.queries.is_empty() {
            let queries = Tensor::stack(&layer.queries, 0).map_err(|e| words(&e))?;
            tensors.push((format!("{i}.queries"), queries));
        }
    }
    for (i, windows) in snapshot.cache.frames.iter().enumerate() {
        for (branch, window) in windows.iter().enumerate() {
            tensors.push((frame_name(i, branch, "keys"), window.keys.clone()));
            tensors.push((frame_name(i, branch, "values"), window.values.clone()));
        }
    }
    if let Some(rows) = &snapshot.actions {
        tensors.extend(action_tensors(rows).map_err(|e| words(&e))?);
    }
    if let Some(history) = &snapshot.history {
        let frames = history.frames.iter().map(|frame| *frame as i64).collect::<Vec<_>>();
        let frames = Tensor::from_vec(frames, history.frames.len(), &Device::Cpu);
        tensors.push(("history.frames".into(), frames.map_err(|e| words(&e))?));
        tensors.push(("history.latents".into(), history.latents.clone()));
    }
    if let Some(window) = &snapshot.window {
        tensors.push((WINDOW.into(), window.clone()));
    }
    let header = serde_json::to_string(header).map_err(|e| words(&e))?;
    let metadata = HashMap::from([(KEY.to_string(), header)]);
    // A leftover or a link of that name is not written through.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(words(&error)),
        _ => {}
    }
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|e| words(&e))
}

/// Name of the keys or values of a window of frames.
fn frame_name(layer: usize, branch: usize, what: &str) -> String {
    format!("{layer}.frames.{branch}.{what}")
}

/// The rows as they are kept.
fn action_tensors(rows: &ActionRows) -> candle_core::Result<Vec<(String, Tensor)>> {
    let count = rows.keyboard().len();
    let keyboard = Tensor::from_vec(rows.keyboard().concat(), (count, rows.keys()), &Device::Cpu)?;
    let mut tensors = vec![(KEYBOARD.to_owned(), keyboard)];
    if let Some(mouse) = rows.mouse() {
        let mouse = Tensor::from_vec(mouse.concat(), (count, 2), &Device::Cpu)?;
        tensors.push((MOUSE.to_owned(), mouse));
    }
    Ok(tensors)
}

/// A state that was read, not checked beyond its form.
pub(super) struct Content {
    map: Mmap,
}

/// Opens a state.
///
/// # Errors
/// Why it is none.
pub(super) fn read(path: &Path) -> Result<(Header, Content), String> {
    let file = files::open(path).map_err(|error| error.to_string())?;
    // SAFETY: the map is only read. States are replaced by renaming and belong to the run that holds the lock of the
    // latents beside them.
    let map = unsafe { Mmap::map(&file) }.map_err(|error| error.to_string())?;
    files::maps::note(&map, path);
    let (_, metadata) = SafeTensors::read_metadata(&map).map_err(|error| format!("it is damaged ({error})"))?;
    let text = metadata.metadata().as_ref().and_then(|all| all.get(KEY));
    let text = text.ok_or("it is a file of another kind")?;
    let header: Header = serde_json::from_str(text).map_err(|error| format!("its header is damaged ({error})"))?;
    if header.format != FORMAT {
        return Err(format!(
            "it has format {}, this program reads {FORMAT}; take the version that wrote it, {}",
            header.format, header.recipe.version
        ));
    }
    if header.layers > MOST_LAYERS || header.latent_frames != header.frame {
        return Err("its header contradicts itself".into());
    }
    Ok((header, Content { map }))
}

impl Content {
    /// The snapshot; whether it fits the model shows when it is restored.
    pub(super) fn snapshot(&self, header: &Header) -> Result<Snapshot, String> {
        let tensors = SafeTensors::deserialize(&self.map).map_err(|error| format!("it is damaged ({error})"))?;
        let get = |name: String| -> Result<Tensor, String> {
            let view = tensors.tensor(&name).map_err(|_| format!("`{name}` is missing"))?;
            tensor(&view).map_err(|error| format!("`{name}`: {error}"))
        };
        let layer = |i: usize| -> Result<LayerSnapshot, String> {
            let queries = match tensors.tensor(&format!("{i}.queries")) {
                Ok(view) => {
                    let all = tensor(&view).map_err(|error| error.to_string())?;
                    let count = all.dim(0).map_err(|error| error.to_string())?;
                    let each = (0..count).map(|row| all.get(row)?.copy());
                    each.collect::<candle_core::Result<_>>().map_err(|e| e.to_string())?
                }
                Err(_) => Vec::new(),
            };
            Ok(LayerSnapshot {
                slots: slots(&get(format!("{i}.slots"))?).ok_or(format!("`{i}.slots` is damaged"))?,
                raw: get(format!("{i}.keys"))?,
                rotated: get(format!("{i}.rotated"))?,
                values: get(format!("{i}.values"))?,
                queries,
                shelf: match tensors.tensor(&format!("{i}.shelf")) {
                    Ok(_) => Some(ShelfSnapshot {
                        frames: frame_numbers(&get(format!("{i}.shelf"))?).ok_or(format!("`{i}.shelf` is damaged"))?,
                        raw: get(format!("{i}.shelf-keys"))?,
                        values: get(format!("{i}.shelf-values"))?,
                    }),
                    Err(_) => None,
                },
            })
        };
        let history = if tensors.tensor("history.frames").is_ok() {
            Some(HistorySnapshot {
                frames: frame_numbers(&get("history.frames".into())?).ok_or("`history.frames` is damaged")?,
                latents: get("history.latents".into())?,
            })
        } else {
            None
        };
        Ok(Snapshot {
            chunk: header.chunk,
            frame: header.frame,
            prompt: header.prompt,
            cache: CacheSnapshot {
                end: header.end,
                origin: header.origin,
                cut: header.cut,
                head_classes: header.head_classes.clone(),
                layers: (0..header.layers).map(layer).collect::<Result<_, _>>()?,
                frames: (0..header.layers)
                    .map(|i| frame_windows(&tensors, i))
                    .collect::<Result<_, _>>()?,
            },
            history,
            actions: actions(&tensors, header.frame)?,
            window: self.window(header, get)?,
        })
    }
}

impl Content {
    /// The noisy latents, of as many latent frames as the header says, each of the size of those that are done.
    fn window(
        &self,
        header: &Header,
        get: impl Fn(String) -> Result<Tensor, String>,
    ) -> Result<Option<Tensor>, String> {
        if header.window == 0 {
            return Ok(None);
        }
        let window = get(WINDOW.into())?;
        let [channels, height, width] = header.latent_shape;
        let expected = [header.window, channels, height, width];
        if window.dims() != expected {
            return Err(format!("`{WINDOW}` is {:?}, expected {expected:?}", window.dims()));
        }
        Ok(Some(window))
    }
}

fn tensor(view: &TensorView<'_>) -> candle_core::Result<Tensor> {
    let dtype = DType::try_from(view.dtype())?;
    Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)
}

/// The windows of frames of a layer; none in most models.
fn frame_windows(tensors: &SafeTensors<'_>, layer: usize) -> Result<Vec<FrameSnapshot>, String> {
    let mut windows = Vec::new();
    loop {
        let get = |what: &str| tensors.tensor(&frame_name(layer, windows.len(), what));
        let (Ok(keys), Ok(values)) = (get("keys"), get("values")) else {
            return Ok(windows);
        };
        let read = |view: &TensorView<'_>| tensor(view).map_err(|error| format!("layer {layer}: {error}"));
        let window = FrameSnapshot {
            keys: read(&keys)?,
            values: read(&values)?,
        };
        windows.push(window);
    }
}

/// The rows of actions up to latent frame `frame`, if the state has any.
fn actions(tensors: &SafeTensors<'_>, frame: usize) -> Result<Option<ActionRows>, String> {
    let get = |name: &str| -> Result<Option<Vec<Vec<f32>>>, String> {
        let Ok(view) = tensors.tensor(name) else {
            return Ok(None);
        };
        let rows = tensor(&view).and_then(|rows| rows.to_vec2::<f32>());
        rows.map(Some).map_err(|error| format!("`{name}`: {error}"))
    };
    let Some(keyboard) = get(KEYBOARD)? else {
        return Ok(None);
    };
    let moves = |row: Vec<f32>| <[f32; 2]>::try_from(row).map_err(|_| format!("`{MOUSE}` is damaged"));
    let mouse = get(MOUSE)?;
    let moved = |rows: Vec<Vec<f32>>| rows.into_iter().map(moves).collect::<Result<Vec<_>, String>>();
    let mouse = mouse.map(moved).transpose()?;
    let first = pictures_of_latents(frame).checked_sub(keyboard.len());
    let first = first.ok_or("it has more actions than pictures")?;
    let rows = ActionRows::starting_at(first, keyboard, mouse);
    rows.map(Some).map_err(|error| error.to_string())
}

/// The latents of the chunks so far.
pub(super) struct LatentLog {
    path: PathBuf,
    frames: usize,
    shape: [usize; 3],
}

impl LatentLog {
    /// The first `frames` latent frames of a file, each of `shape`.
    pub(super) fn open(path: &Path, frames: usize, shape: [usize; 3]) -> Result<Self, String> {
        let log = Self {
            path: path.to_owned(),
            frames,
            shape,
        };
        let there = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
        if there < log.bytes() {
            return Err(format!(
                "it should have {} bytes and has {there}: it is cut off",
                log.bytes()
            ));
        }
        Ok(log)
    }

    pub(super) fn frames(&self) -> usize {
        self.frames
    }

    /// Bytes of these frames.
    pub(super) fn bytes(&self) -> u64 {
        let values = self
            .shape
            .iter()
            .fold(self.frames as u64, |n, side| n.saturating_mul(*side as u64));
        values.saturating_mul(size_of::<f32>() as u64)
    }

    /// The log and its hash, when that is the one that the state states.
    pub(super) fn checked(self, stated: &str) -> Result<(Self, Sha256), String> {
        let file = files::open(&self.path).map_err(|error| error.to_string())?;
        let (mut file, mut hash) = (BufReader::with_capacity(BLOCK, file.take(self.bytes())), Sha256::new());
        loop {
            let block = file.fill_buf().map_err(|error| error.to_string())?;
            if block.is_empty() {
                break;
            }
            hash.update(block);
            let read = block.len();
            file.consume(read);
        }
        if hexadecimal(&hash.clone().finalize()) != stated {
            return Err("its latents are not those that the state was made with".into());
        }
        Ok((self, hash))
    }

    /// The latents, chunk by chunk.
    pub(super) fn chunks(
        &self,
        plans: Vec<ChunkPlan>,
    ) -> crate::Result<impl Iterator<Item = crate::Result<LatentChunk>> + use<>> {
        let mut file = BufReader::new(files::open(&self.path).map_err(candle_core::Error::from)?);
        let [channels, height, width] = self.shape;
        let chunk = move |(index, plan): (usize, ChunkPlan)| {
            let mut bytes = vec![0; plan.frames * channels * height * width * size_of::<f32>()];
            file.read_exact(&mut bytes).map_err(candle_core::Error::from)?;
            let shape = (plan.frames, channels, height, width);
            let latents =
                Tensor::from_raw_buffer(&bytes, DType::F32, &[shape.0, shape.1, shape.2, shape.3], &Device::Cpu)?;
            Ok(LatentChunk { index, plan, latents })
        };
        Ok(plans.into_iter().enumerate().map(chunk))
    }
}
