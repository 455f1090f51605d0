//! `.pt` and `.pth`: the zip archives of `torch.save`.
//!
//! `<root>/data.pkl` describes the objects, `<root>/data/<key>` holds the values of one storage each, uncompressed, so
//! that tensors are read in place from the mapped file. `<root>` is whatever the file was first saved as.

use std::{
    collections::HashMap,
    io::Cursor,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::Mmap;
use zip::{CompressionMethod, ZipArchive};

use super::{
    CheckpointError, Contents,
    key_map::choose_state_dict,
    pickle::{Pickle, PickleError, Value},
    stored::Stored,
    torch_objects::TensorRef,
};

/// No description of a model is longer (1000 tensors take about 100 kB).
const MAX_PICKLE: usize = 32 << 20;

/// No archive of a model has more entries.
const MAX_ENTRIES: u64 = 1 << 20;

/// Reads the description of all tensors of the chosen state dict; `wanted` forces one.
pub(super) fn open(path: &Path, map: &Arc<Mmap>, wanted: Option<&str>) -> Result<Contents, CheckpointError> {
    let mut archive = Archive::open(path, map)?;
    let pickle = archive.pickle()?;
    let state_dict = find_state_dict(path, &pickle, wanted)?;
    let dict = match &state_dict {
        // Of equal keys the last counts.
        Some(key) => pickle
            .entries(pickle.root())
            .filter(|(name, _)| name == key)
            .last()
            .map(|(_, dict)| dict),
        None => Some(pickle.root()),
    };
    let mut tensors = HashMap::new();
    for (name, value) in dict.into_iter().flat_map(|dict| pickle.entries(dict)) {
        match value {
            Value::Tensor(tensor) => drop(tensors.insert(name, tensor)),
            _ => drop(tensors.remove(name)),
        }
    }
    let tensors = tensors
        .into_iter()
        .map(|(name, tensor)| Ok((name.into(), archive.stored(&pickle, name, tensor)?)));
    Ok(Contents {
        tensors: tensors.collect::<Result<_, CheckpointError>>()?,
        state_dict,
        notes: HashMap::new(),
    })
}

/// Key of the state dict to take; none if the whole file is one.
fn find_state_dict(path: &Path, pickle: &Pickle, wanted: Option<&str>) -> Result<Option<String>, CheckpointError> {
    let no_state_dict = |reason: String, found: String| CheckpointError::NoStateDict {
        path: path.into(),
        reason,
        found,
    };
    let root = pickle.root();
    if !matches!(root, Value::Dict(_)) {
        let reason = format!("it holds {}, expected a dict of tensors", root.describe());
        return Err(no_state_dict(reason, "save the model's `state_dict()`".into()));
    }
    let count = |value| {
        pickle
            .entries(value)
            .filter(|(_, value)| matches!(value, Value::Tensor(_)))
            .count()
    };
    let dicts: Vec<_> = pickle
        .entries(root)
        .filter(|(_, value)| matches!(value, Value::Dict(_)))
        .map(|(name, value)| (name, count(value)))
        .collect();
    let found = || match dicts
        .iter()
        .filter(|(_, tensors)| *tensors > 0)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [] => "it holds no state dict with tensors".to_string(),
        dicts => {
            let names: Vec<_> = dicts
                .iter()
                .take(10)
                .map(|(name, count)| format!("`{}` ({count} tensors)", printable(name)))
                .collect();
            if dicts.iter().all(|(name, _)| name.ends_with("_lora")) {
                return format!(
                    "it has {}: it is a LoRA; give the model itself, and this file with --lora",
                    names.join(", ")
                );
            }
            let key = printable(dicts[0].0);
            format!(
                "it has {}; choose one of them by its key: `state-dict = \"{key}\"` under [files] in a preset (.toml) given \
                 with --preset, or save one alone (`torch.save(file[\"{key}\"], path)`)",
                names.join(", ")
            )
        }
    };
    let chosen = choose_state_dict(&dicts, wanted).map_err(|reason| no_state_dict(reason, found()))?;
    if chosen.is_none() && count(root) == 0 {
        let mut holding = dicts.iter().filter(|(_, tensors)| *tensors > 0);
        if let (Some((only, _)), None) = (holding.next(), holding.next()) {
            return Ok(Some((*only).to_string()));
        }
        return Err(no_state_dict("there are no tensors at its top level".into(), found()));
    }
    Ok(chosen.map(str::to_string))
}

/// Names from a file, cut and without control characters.
fn printable(name: &str) -> String {
    name.chars().take(100).flat_map(char::escape_debug).collect()
}

/// The zip archive around pickle and storages.
struct Archive<'a> {
    path: PathBuf,
    map: &'a Arc<Mmap>,
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Entries start with it: `archive/`, or empty.
    root: String,
    /// Places of the storages looked at so far.
    places: HashMap<String, Range<usize>>,
}

impl<'a> Archive<'a> {
    fn open(path: &Path, map: &'a Arc<Mmap>) -> Result<Self, CheckpointError> {
        let bytes: &[u8] = map;
        let damaged = |reason: String| CheckpointError::Damaged {
            path: path.into(),
            reason,
        };
        check_entry_count(bytes).map_err(damaged)?;
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| {
            let length = bytes.len();
            damaged(format!(
                "the directory at the end of the zip archive is missing or broken ({error}); \
                 the file is probably cut off after {length} bytes"
            ))
        })?;
        let pickles = zip.file_names().filter_map(|name| name.strip_suffix("data.pkl"));
        let root = pickles
            .filter(|root| root.is_empty() || root.ends_with('/'))
            .min_by_key(|root| root.len());
        let Some(root) = root.map(str::to_string) else {
            return Err(CheckpointError::WrongKind {
                path: path.into(),
                found: match zip.file_names().any(|name| name.ends_with(".npy")) {
                    true => "a NumPy archive".into(),
                    false => "a zip archive without `data.pkl`".into(),
                },
                expected: "what `torch.save` writes",
                advice: "name the model file itself".into(),
            });
        };
        if zip.index_for_name(&format!("{root}constants.pkl")).is_some() {
            return Err(CheckpointError::Unsupported {
                path: path.into(),
                reason: "it is a TorchScript program, not a state dict".into(),
                advice: "save the model's `state_dict()`",
            });
        }
        let mut archive = Self {
            path: path.into(),
            map,
            zip,
            root,
            places: HashMap::new(),
        };
        archive.check_byte_order()?;
        Ok(archive)
    }

    fn damaged(&self, reason: String) -> CheckpointError {
        CheckpointError::Damaged {
            path: self.path.clone(),
            reason,
        }
    }

    /// Where the bytes of entry `<root><name>` lie; `None` if there is no such entry.
    fn place(&mut self, name: &str) -> Result<Option<Range<usize>>, CheckpointError> {
        let full = format!("{}{name}", self.root);
        let Some(index) = self.zip.index_for_name(&full) else {
            return Ok(None);
        };
        let entry = self.zip.by_index_raw(index).map(|e| {
            (
                e.data_start(),
                e.compressed_size(),
                e.size(),
                e.compression(),
                e.encrypted(),
            )
        });
        let broken = |error| format!("zip entry `{}` cannot be found ({error})", printable(&full));
        let (start, stored, size, method, encrypted) = entry.map_err(|error| self.damaged(broken(error)))?;
        if method != CompressionMethod::Stored || encrypted {
            let how = if encrypted {
                "encrypted".to_string()
            } else {
                format!("compressed ({method})")
            };
            return Err(CheckpointError::Unsupported {
                path: self.path.clone(),
                reason: format!(
                    "zip entry `{}` is {how}, so it cannot be read in place",
                    printable(&full)
                ),
                advice: "unpack the archive and pack it again without compression, or save it again with `torch.save`",
            });
        }
        let end = start
            .and_then(|start| start.checked_add(size))
            .and_then(|end| usize::try_from(end).ok());
        match (start.and_then(|start| usize::try_from(start).ok()), end) {
            (Some(start), Some(end)) if end <= self.map.len() && stored == size => Ok(Some(start..end)),
            _ => Err(self.damaged(format!(
                "zip entry `{}` of {size} bytes reaches beyond the end of the file ({} bytes)",
                printable(&full),
                self.map.len()
            ))),
        }
    }

    /// Files before PyTorch 2.1 do not say; they are little-endian.
    fn check_byte_order(&mut self) -> Result<(), CheckpointError> {
        let Some(place) = self.place("byteorder")? else {
            return Ok(());
        };
        match self.map.get(place) {
            Some(b"little") => Ok(()),
            Some(b"big") => Err(CheckpointError::Unsupported {
                path: self.path.clone(),
                reason: "its values are stored big-endian".into(),
                advice: "save it again on an ordinary (little-endian) machine",
            }),
            _ => Err(self.damaged("its entry `byteorder` says neither `little` nor `big`".into())),
        }
    }

    fn pickle(&mut self) -> Result<Pickle, CheckpointError> {
        let place = self.place("data.pkl")?.unwrap_or_default();
        if place.len() > MAX_PICKLE {
            return Err(self.damaged(format!(
                "its `data.pkl` has {} bytes, expected at most {MAX_PICKLE}",
                place.len()
            )));
        }
        Pickle::load(self.map.get(place).unwrap_or_default()).map_err(|error| match error {
            PickleError::Forbidden(class) => CheckpointError::ForbiddenClass {
                path: self.path.clone(),
                class,
            },
            PickleError::Invalid { at, reason } => self.damaged(format!("in its `data.pkl`, byte {at}: {reason}")),
        })
    }

    fn stored(&mut self, pickle: &Pickle, name: &str, tensor: &TensorRef) -> Result<Stored, CheckpointError> {
        let bad = |path: &Path, reason: String| CheckpointError::BadTensor {
            name: printable(name),
            origin: path.display().to_string(),
            reason,
        };
        let Value::Storage(storage) = pickle.value(tensor.storage) else {
            return Err(bad(&self.path, "it has no storage".into()));
        };
        let place = match self.places.get(&storage.key) {
            Some(place) => place.clone(),
            None => {
                let entry = format!("data/{}", storage.key);
                let missing = |path: &Path| bad(path, format!("the archive has no entry `{}`", printable(&entry)));
                let place = self.place(&entry)?.ok_or_else(|| missing(&self.path))?;
                self.places.insert(storage.key.clone(), place.clone());
                place
            }
        };
        // The size by the pickle and that by the archive must agree, except for formats that cannot be read.
        if let Some(size) = storage.element.map_or(Some(1), |element| element.size())
            && place.len() / size != storage.count
        {
            let (count, found) = (storage.count, place.len() / size);
            let reason = format!(
                "its storage should hold {count} values, but entry `data/{}` has {found}",
                storage.key
            );
            return Err(bad(&self.path, reason));
        }
        let TensorRef {
            element,
            offset,
            shape,
            strides,
            ..
        } = tensor;
        Stored::new(self.map, place, *element, *offset, shape.clone(), strides.clone())
            .map_err(|reason| bad(&self.path, reason))
    }
}

/// The zip reader makes room for as many entries as the archive claims to have. In an archive of the 64-bit kind that
/// can be any number: refuses what cannot be true.
fn check_entry_count(bytes: &[u8]) -> Result<(), String> {
    const RECORD: &[u8] = b"PK\x06\x06";
    // The record lies just before the end; the comment after it has at most 64 kB.
    let tail = bytes.get(bytes.len().saturating_sub(128 << 10)..).unwrap_or_default();
    let records = tail.windows(40).filter(|window| window.starts_with(RECORD));
    let counts = records.filter_map(|record| record.last_chunk().map(|count| u64::from_le_bytes(*count)));
    match counts.max() {
        Some(count) if count > MAX_ENTRIES => Err(format!("its zip directory claims {count} entries")),
        _ => Ok(()),
    }
}
