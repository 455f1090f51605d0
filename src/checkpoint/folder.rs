//! The weights file in a folder of one network, and folders that hold something else.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{CheckpointError, shards_of};

/// Endings of model files.
pub const ENDINGS: &[&str] = &[
    ".safetensors",
    ".safetensors.index.json",
    ".pt",
    ".pth",
    ".bin",
    ".ckpt",
    ".gguf",
];

/// Names that the one weights file of a folder has, as diffusers and transformers save it.
const WHOLE: &[&str] = &[
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "pytorch_model.bin",
];

/// Endings of files that hold parts of training states, as flat slices, and what merges them.
const SLICES: &[(&str, &str)] = &[("optim_states.pt", ZERO), (".distcp", FSDP)];
/// The same by the beginnings of their names.
const SLICE_NAMES: &[(&str, &str)] = &[
    ("bf16_zero_pp_rank_", ZERO),
    ("zero_pp_rank_", ZERO),
    ("fp16_zero_pp_rank_", ZERO),
];

const ZERO: &str = "merge it first: `python zero_to_fp32.py FOLDER OUT`, which DeepSpeed saves beside it";
const FSDP: &str = "merge it first: `python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER OUT.pt`";

/// Most entries of a folder that are looked at.
const MOST: usize = 4096;

/// Refuses a part of a sharded training state by its name.
pub(super) fn refuse_slices(path: &Path) -> Result<(), CheckpointError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let by_ending = SLICES.iter().find(|(ending, _)| name.ends_with(ending));
    let by_start = || SLICE_NAMES.iter().find(|(start, _)| name.starts_with(start));
    match by_ending.or_else(by_start) {
        Some((_, advice)) => Err(CheckpointError::Unsupported {
            path: path.into(),
            reason: "it is a part of a sharded training state, which holds flat slices of tensors".into(),
            advice,
        }),
        None => Ok(()),
    }
}

/// The one file, or index of parts, that a folder holds the weights of a network in.
///
/// # Errors
/// When there is none, or more than one, or the folder holds a training state.
pub fn weights_in(folder: &Path) -> Result<PathBuf, CheckpointError> {
    let files = model_files(folder)?;
    for file in &files {
        refuse_slices(file)?;
    }
    let named = |file: &&PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".safetensors.index.json") || WHOLE.contains(&name.as_ref())
    };
    let usual: Vec<&PathBuf> = files.iter().filter(named).collect();
    match (usual.as_slice(), files.as_slice()) {
        ([one], _) => Ok((*one).clone()),
        ([], [one]) => Ok(one.clone()),
        _ => Err(super::directory(folder)),
    }
}

/// The model files in a folder, sorted, without the parts that an index among them names.
///
/// # Errors
/// When the folder cannot be read.
pub fn model_files(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let unreadable = |error: std::io::Error| CheckpointError::Unreadable {
        path: folder.into(),
        reason: error.to_string(),
    };
    let entries = std::fs::read_dir(folder).map_err(unreadable)?.take(MOST).flatten();
    let is_model = |path: &PathBuf| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_ascii_lowercase();
        let hidden = name.starts_with('.');
        let known = ENDINGS.iter().chain(&[".distcp"]).any(|ending| name.ends_with(ending));
        known && !hidden && path.is_file()
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_model).collect();
    let parts: BTreeSet<PathBuf> = files.iter().flat_map(|file| shards_of(file)).collect();
    files.retain(|file| !parts.contains(file));
    files.sort();
    Ok(files)
}
