//! Model files as named tensors (docs/algorithms/checkpoints.md).
//!
//! [`Checkpoint`] is a file (or an indexed set of files); [`Weights`] is what a network's constructor asks for its
//! tensors, by name and shape. Files are mapped into memory and each tensor is read when it is asked for, so that a
//! file is never held twice.

#![allow(unsafe_code)]

mod describe;
mod element;
mod error;
mod folder;
pub mod gguf;
mod key_map;
mod kind;
mod layout;
pub mod lora;
mod pickle;
mod require;
mod safetensors_file;
mod scaled;
#[cfg(feature = "cuda")]
mod staged_cuda;
mod staging;
mod stored;
mod torch_file;
mod torch_objects;
mod weights;
pub(crate) mod write;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;

use crate::files;

pub use describe::Description;
pub use error::CheckpointError;
pub use folder::{model_files, weights_in};
pub use key_map::KeyMap;
pub(crate) use key_map::LORA;
pub use layout::{Layout, LayoutError, Naming, Network};
pub use require::Mismatch;
pub use scaled::ScaledError;
pub use weights::{Change, TensorSpec, Weights};

use kind::FileKind;
use layout::Entry;
use stored::{Label, Stored};

/// How to read a model file; the default suits the published files.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Key of the state dict to take from a `.pt` file, for instance `generator`. By default the first of
    /// `generator_ema`, `generator`, `model`, `state_dict` and the like that is there, else the file itself is the state
    /// dict, or else the only dict with tensors in it.
    pub state_dict: Option<String>,
    /// How names in the file become names of the model.
    pub key_map: KeyMap,
}

/// An opened model file: names, shapes and data of its tensors.
///
/// Cheap to clone; tensors are read when asked for. The file must not be changed while it is open.
#[derive(Clone)]
pub struct Checkpoint {
    path: PathBuf,
    state_dict: Option<String>,
    tensors: Arc<BTreeMap<String, Stored>>,
    notes: Arc<HashMap<String, String>>,
    /// Where the network that was looked for is in the file.
    layout: Option<Arc<Layout>>,
}

/// What a file holds, under the names in the file.
struct Contents {
    tensors: HashMap<String, Stored>,
    /// Key of the state dict that was chosen.
    state_dict: Option<String>,
    /// What the header says beside the tensors.
    notes: HashMap<String, String>,
}

impl Checkpoint {
    /// Opens `.safetensors`, `.safetensors.index.json`, `.gguf`, `.pt` or `.pth`.
    ///
    /// Only names and shapes are read. Nothing in the file is executed.
    ///
    /// # Errors
    /// When the file is missing, damaged, of another kind than its name says, or asks for classes that do not belong
    /// into a state dict.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// Opens a file with a chosen state dict or naming.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; also when the state dict is not there.
    pub fn open_with(path: &Path, options: &OpenOptions) -> Result<Self, CheckpointError> {
        let wanted = options.state_dict.as_deref();
        let contents = read(path, wanted)?;
        if let (Some(key), None) = (wanted, &contents.state_dict) {
            return Err(CheckpointError::NoStateDict {
                path: path.into(),
                reason: format!("state dict `{key}` was asked for, but this kind of file holds a single one"),
                found: "leave the key out".into(),
            });
        }
        Ok(Self {
            path: path.into(),
            state_dict: contents.state_dict,
            notes: Arc::new(contents.notes),
            tensors: Arc::new(rename(path, contents.tensors, options.key_map)?),
            layout: None,
        })
    }

    /// Opens the tensors of one network in a file, under the names that the network has here, whatever tool wrote it:
    /// prefixes, other names, scales of 8-bit weights, other networks beside it. `prefer` is the state dict to take, or the
    /// beginning of the prefix, where the file has several networks of the kind and one is called so.
    ///
    /// Only names and shapes are read, and what describes quantised layers.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; also when the network is not in the file, or is there more than once, or in a form that
    /// cannot be read.
    pub fn open_network(path: &Path, network: Network, prefer: Option<&str>) -> Result<Self, CheckpointError> {
        let contents = match read(path, prefer) {
            // Converted files hold the preferred state dict only.
            Err(CheckpointError::NoStateDict { .. }) if prefer.is_some() => read(path, None)?,
            contents => contents?,
        };
        let entry = |(name, stored): (&'_ String, &'_ Stored)| (name.clone(), stored.shape().to_vec());
        // In the order of names: of several faults, always the same one is told.
        let named: BTreeMap<String, Vec<usize>> = contents.tensors.iter().map(entry).collect();
        let entries: Vec<_> = named.iter().map(|(name, shape)| Entry { name, shape }).collect();
        let at = |source| CheckpointError::Layout {
            path: path.into(),
            source: Box::new(source),
        };
        let layout = Layout::find(network, &entries, prefer).map_err(at)?;
        let tensors = arrange(path, &layout, &contents)?;
        Ok(Self {
            path: path.into(),
            state_dict: contents.state_dict,
            notes: Arc::new(contents.notes),
            tensors: Arc::new(tensors),
            layout: Some(Arc::new(layout)),
        })
    }

    /// Where the network of [`Checkpoint::open_network`] is in the file; none for files opened otherwise.
    pub fn layout(&self) -> Option<&Layout> {
        self.layout.as_deref()
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Key of the state dict that was taken from the file; none if the whole file is one.
    pub fn state_dict(&self) -> Option<&str> {
        self.state_dict.as_deref()
    }

    /// What the header of a `.safetensors` file says under a key of its own (`__metadata__`), or the metadata of a GGUF file.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }

    /// All that [`Checkpoint::note`] gives.
    pub fn notes(&self) -> &HashMap<String, String> {
        &self.notes
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    /// Names and shapes of all tensors, sorted by name.
    pub fn specs(&self) -> Vec<TensorSpec> {
        let spec = |(name, stored): (&String, &Stored)| TensorSpec {
            name: name.clone(),
            shape: stored.shape().to_vec(),
        };
        self.tensors.iter().map(spec).collect()
    }

    /// Number of values in all tensors.
    pub fn parameters(&self) -> usize {
        let count = |stored: &Stored| stored.shape().iter().product::<usize>();
        self.tensors.values().map(count).fold(0, usize::saturating_add)
    }

    /// Shape of a tensor, if the file has it.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|stored| stored.shape().to_vec())
    }

    /// Number format in which a tensor is stored (`f32`, `bf16`, …), if the file has it.
    pub fn stored_dtype(&self, name: &str) -> Option<&'static str> {
        self.tensors.get(name).map(|stored| stored.element().name())
    }

    /// Reads one tensor and converts it.
    ///
    /// # Errors
    /// When it is missing, holds values that are not finite or too large for `dtype`, or is stored in a format that
    /// is not supported.
    pub fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor, CheckpointError> {
        self.find(name)?.read(self.label(name), dtype, device)
    }

    /// Reads only the given rows (indices along dimension 0) of a matrix: `[rows.len(), columns]`.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`]; also when a row lies outside of the matrix.
    pub fn rows(&self, name: &str, rows: &[u32], dtype: DType, device: &Device) -> Result<Tensor, CheckpointError> {
        self.find(name)?.read_rows(rows, self.label(name), dtype, device)
    }

    fn find(&self, name: &str) -> Result<&Stored, CheckpointError> {
        self.tensors.get(name).ok_or_else(|| CheckpointError::Missing {
            name: name.into(),
            origin: self.path.display().to_string(),
        })
    }

    fn label<'a>(&'a self, name: &'a str) -> Label<'a> {
        Label { name, path: &self.path }
    }
}

/// The files that an index names, in its folder; none for other files, or an index that cannot be read.
pub fn shards_of(path: &Path) -> Vec<PathBuf> {
    let is_index = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().ends_with(".index.json"));
    match is_index.then(|| files::read(path, files::LONGEST_TEXT)) {
        Some(Ok(text)) => safetensors_file::shards_of(path, &text),
        _ => Vec::new(),
    }
}

/// The networks whose tensors are in a file, each with what stands before its names.
///
/// # Errors
/// As [`Checkpoint::open`].
pub fn networks_in(path: &Path) -> Result<Vec<(Network, String)>, CheckpointError> {
    let contents = read(path, None)?;
    Ok(layout::networks(contents.tensors.keys().map(String::as_str)))
}

/// Reads what a file holds, by the kind that its content and its name tell.
fn read(path: &Path, wanted: Option<&str>) -> Result<Contents, CheckpointError> {
    folder::refuse_slices(path)?;
    let map = map_file(path)?;
    let kind = FileKind::of(&map);
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    match (extension.as_str(), &kind) {
        ("json", FileKind::Json) => safetensors_file::open_index(path, &map),
        ("json", _) => Err(wrong_kind(path, &kind, "an index (JSON text)")),
        ("safetensors", FileKind::Safetensors) => safetensors_file::open(path, &map),
        ("safetensors", _) => Err(wrong_kind(path, &kind, "a safetensors file")),
        ("pt" | "pth" | "bin" | "ckpt", FileKind::Zip) => torch_file::open(path, &map, wanted),
        ("pt" | "pth" | "bin" | "ckpt", _) => Err(wrong_kind(
            path,
            &kind,
            "a zip archive as `torch.save` writes since PyTorch 1.6",
        )),
        ("gguf", FileKind::Gguf) => gguf::open(path, &map),
        ("gguf", _) => Err(wrong_kind(path, &kind, "a GGUF file")),
        (_, FileKind::Zip) => torch_file::open(path, &map, wanted),
        (_, FileKind::Safetensors) => safetensors_file::open(path, &map),
        (_, FileKind::Gguf) => gguf::open(path, &map),
        _ => Err(wrong_kind(
            path,
            &kind,
            "a `.safetensors`, `.gguf`, `.pt` or `.pth` file",
        )),
    }
}

/// The tensors of a network under its own names, with their scales.
fn arrange(path: &Path, layout: &Layout, contents: &Contents) -> Result<BTreeMap<String, Stored>, CheckpointError> {
    let find = |stored: &String| contents.tensors.get(stored).cloned();
    let mut tensors = BTreeMap::new();
    for (name, stored) in &layout.tensors {
        let Some(mut tensor) = find(stored) else { continue };
        if let Some(twin) = layout.twins.get(name).and_then(find) {
            let origin = path.display().to_string();
            let differs = || CheckpointError::Twins {
                name: name.clone(),
                origin,
            };
            tensor.set_twin(twin).then_some(()).ok_or_else(differs)?;
        }
        tensors.insert(name.clone(), tensor);
    }
    scaled::attach(layout, &mut tensors, &contents.tensors, &contents.notes).map_err(|source| {
        CheckpointError::Scaled {
            path: path.into(),
            source: Box::new(source),
        }
    })?;
    let unreadable = tensors.iter().find(|(_, tensor)| !tensor.element().is_readable());
    if let Some((name, tensor)) = unreadable {
        return Err(CheckpointError::StoredDtype {
            name: layout.stored_name(name),
            origin: path.display().to_string(),
            dtype: tensor.element().to_string(),
        });
    }
    Ok(tensors)
}

/// Gives all tensors the names of the model.
fn rename(
    path: &Path,
    tensors: HashMap<String, Stored>,
    key_map: KeyMap,
) -> Result<BTreeMap<String, Stored>, CheckpointError> {
    let mut renamed = BTreeMap::new();
    let mut origins: HashMap<String, String> = HashMap::new();
    for (stored_name, stored) in tensors {
        let name = key_map.apply(&stored_name);
        if let Some(first) = origins.insert(name.clone(), stored_name.clone()) {
            return Err(CheckpointError::SameName {
                path: path.into(),
                name,
                first,
                second: stored_name,
            });
        }
        renamed.insert(name, stored);
    }
    Ok(renamed)
}

/// Maps a file into memory.
fn map_file(path: &Path) -> Result<Arc<Mmap>, CheckpointError> {
    let unreadable = |error: std::io::Error| CheckpointError::Unreadable {
        path: path.into(),
        reason: error.to_string(),
    };
    if path.is_dir() {
        return Err(directory(path));
    }
    let file = files::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.len() == 0 {
        return Err(wrong_kind(path, &FileKind::Empty, "a model file"));
    }
    // SAFETY: the map is only read. That nobody shortens the file meanwhile is part of the contract of `Checkpoint`;
    // model files are replaced by renaming, not rewritten in place.
    let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
    files::maps::note(&map, path);
    Ok(Arc::new(map))
}

fn wrong_kind(path: &Path, kind: &FileKind, expected: &'static str) -> CheckpointError {
    CheckpointError::WrongKind {
        path: path.into(),
        found: kind.to_string(),
        expected,
        advice: kind.advice().into(),
    }
}

/// The error for a folder, with the files in it that could be meant.
fn directory(path: &Path) -> CheckpointError {
    let is_model = |name: &String| {
        [".safetensors", ".safetensors.index.json", ".gguf", ".pt", ".pth"]
            .iter()
            .any(|ending| name.ends_with(ending))
    };
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(is_model)
        .collect();
    names.sort();
    names.truncate(5);
    CheckpointError::WrongKind {
        path: path.into(),
        found: "a folder".into(),
        expected: "a `.safetensors`, `.safetensors.index.json`, `.gguf`, `.pt` or `.pth` file",
        advice: match names.is_empty() {
            true => "name the model file itself".into(),
            false => format!("name one of the files in it: {}", names.join(", ")),
        },
    }
}
