//! `.safetensors`, alone or as an indexed set (`*.safetensors.index.json`).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::Mmap;
use safetensors::{SafeTensorError, SafeTensors};
use serde::Deserialize;

use crate::files;

use super::{
    CheckpointError, Contents,
    element::Element,
    kind::FileKind,
    map_file,
    stored::{Stored, contiguous},
    wrong_kind,
};

/// The part of an index file that matters: which file holds which tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads the header of one file.
pub(super) fn open(path: &Path, map: &Arc<Mmap>) -> Result<Contents, CheckpointError> {
    let damaged = |reason| CheckpointError::Damaged {
        path: path.into(),
        reason,
    };
    let (header, metadata) = SafeTensors::read_metadata(map).map_err(|error| damaged(explain(map, &error)))?;
    let data = header + size_of::<u64>();
    let mut tensors = HashMap::new();
    for (name, info) in metadata.tensors() {
        let (begin, end) = info.data_offsets;
        let storage = data + begin..data + end;
        let stored = Stored::new(
            map,
            storage,
            Element::from_safetensors(info.dtype),
            0,
            info.shape.clone(),
            contiguous(&info.shape),
        );
        let stored = stored.map_err(|reason| CheckpointError::BadTensor {
            name: name.clone(),
            origin: path.display().to_string(),
            reason,
        })?;
        tensors.insert(name, stored);
    }
    if tensors.is_empty() {
        return Err(damaged("it holds no tensors".into()));
    }
    Ok(Contents {
        tensors,
        state_dict: None,
        notes: metadata.metadata().clone().unwrap_or_default(),
    })
}

/// The files that an index names; none when it is not one.
pub(super) fn shards_of(path: &Path, text: &[u8]) -> Vec<PathBuf> {
    let Ok(index) = serde_json::from_slice::<Index>(text) else {
        return Vec::new();
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    // Others are refused when the index is opened.
    let names = names.into_iter().filter(|name| files::is_single_name(name));
    names.map(|name| folder.join(name)).collect()
}

/// Reads the index and the headers of all files it names.
pub(super) fn open_index(path: &Path, text: &[u8]) -> Result<Contents, CheckpointError> {
    let damaged = |reason| CheckpointError::Damaged {
        path: path.into(),
        reason,
    };
    let index: Index = serde_json::from_slice(text)
        .map_err(|error| damaged(format!("it is not an index of safetensors files ({error})")))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, file) in &index.weight_map {
        if !files::is_single_name(file) {
            return Err(damaged(format!(
                "it names the file `{}`, which is not in the same folder",
                file.escape_debug()
            )));
        }
        files.entry(file).or_default().push(tensor);
    }
    if files.is_empty() {
        return Err(damaged("it names no tensors".into()));
    }
    let missing: Vec<_> = files
        .keys()
        .filter(|file| !folder.join(file).is_file())
        .map(|file| format!("`{file}`"))
        .collect();
    if !missing.is_empty() {
        return Err(CheckpointError::MissingShards {
            path: path.into(),
            files: missing,
        });
    }
    let mut tensors = HashMap::new();
    for (file, names) in files {
        let shard = folder.join(file);
        let map = map_file(&shard)?;
        let kind = FileKind::of(&map);
        if kind != FileKind::Safetensors {
            return Err(wrong_kind(&shard, &kind, "a safetensors file"));
        }
        let mut contents = open(&shard, &map)?;
        for name in names {
            let stored = contents.tensors.remove(name).ok_or_else(|| CheckpointError::Missing {
                name: name.into(),
                origin: shard.display().to_string(),
            })?;
            tensors.insert(name.into(), stored);
        }
    }
    Ok(Contents {
        tensors,
        state_dict: None,
        notes: HashMap::new(),
    })
}

/// The header's error in words; the common case is a download that stopped.
fn explain(bytes: &[u8], error: &SafeTensorError) -> String {
    let header = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    let start = header.saturating_add(8);
    let found = bytes.len() as u64;
    match error {
        SafeTensorError::InvalidHeaderLength => {
            format!("its header alone has {header} bytes, but the file has {found}: it is cut off")
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            match data_length(bytes, start).map(|data| start.saturating_add(data)) {
                Some(expected) if found < expected => {
                    format!("it should have {expected} bytes by its header, but has {found}: it is cut off")
                }
                Some(expected) => format!("it should have {expected} bytes by its header, but has {found}"),
                None => "its header does not match its length".into(),
            }
        }
        other => format!("its header cannot be read ({other})"),
    }
}

/// Length of all values by the header.
fn data_length(bytes: &[u8], start: u64) -> Option<u64> {
    let header = bytes.get(8..usize::try_from(start).ok()?)?;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    header
        .values()
        .filter_map(|info| info.get("data_offsets")?.get(1)?.as_u64())
        .max()
}
