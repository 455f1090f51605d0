//! What can be wrong with a model file.

use std::path::PathBuf;

use super::{layout::LayoutError, require::Mismatch, scaled::ScaledError};

/// What is wrong with a model file, with which part of it, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be opened or read.
    #[error("cannot read `{}`: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// The content is not that of a model file, or not of the kind that the file name promises.
    #[error("`{}` is {found}, expected {expected}; {advice}", path.display())]
    WrongKind {
        path: PathBuf,
        found: String,
        expected: &'static str,
        advice: String,
    },
    /// The content contradicts itself or ends too early.
    #[error("`{}` is damaged: {reason}; download it again", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// A valid file that uses something this reader does not do.
    #[error("`{}`: {reason}; {advice}", path.display())]
    Unsupported {
        path: PathBuf,
        reason: String,
        advice: &'static str,
    },
    /// The pickle asks for a class or function that is not part of a state dict.
    #[error(
        "`{}` asks to call `{class}`, which is not part of a plain state dict; nothing was executed. \
         Do not trust this file, or save only its tensors again (`safetensors.torch.save_file`)",
        path.display()
    )]
    ForbiddenClass { path: PathBuf, class: String },
    /// There is no state dict to take tensors from.
    #[error("`{}`: {reason}; {found}", path.display())]
    NoStateDict {
        path: PathBuf,
        reason: String,
        found: String,
    },
    /// Two tensors get the same name once wrapper prefixes are removed.
    #[error("`{}`: `{first}` and `{second}` are both the tensor `{name}`; the file mixes two models", path.display())]
    SameName {
        path: PathBuf,
        name: String,
        first: String,
        second: String,
    },
    /// The index names files that are not there.
    #[error(
        "`{}` needs {} that {} not beside it: {}; download the whole set",
        path.display(),
        if files.len() == 1 { "a file" } else { "files" },
        if files.len() == 1 { "is" } else { "are" },
        files.join(", ")
    )]
    MissingShards { path: PathBuf, files: Vec<String> },
    /// A tensor that the model needs is not in the file.
    #[error("tensor `{name}` is missing from `{origin}`; check that the file belongs to this model")]
    Missing { name: String, origin: String },
    /// A tensor has another shape than the model needs.
    #[error(
        "tensor `{name}` in `{origin}` has shape {found:?}, expected {expected:?}; \
         check that the file belongs to this model"
    )]
    Shape {
        name: String,
        origin: String,
        found: Vec<usize>,
        expected: Vec<usize>,
    },
    /// Names or shapes do not match those of the model.
    #[error(transparent)]
    Mismatch(Box<Mismatch>),
    /// Shape, strides and storage of a tensor contradict each other.
    #[error("tensor `{name}` in `{origin}` is damaged: {reason}; download the file again")]
    BadTensor {
        name: String,
        origin: String,
        reason: String,
    },
    /// A tensor is stored in a number format that this reader does not know.
    #[error(
        "tensor `{name}` in `{origin}` is stored as {dtype}, which is not supported; save it as f32, bf16 or f16 again"
    )]
    StoredDtype {
        name: String,
        origin: String,
        dtype: String,
    },
    /// A row of a matrix lies outside of it.
    #[error("row {row} of tensor `{name}` in `{origin}` was asked for, but it has {count} rows")]
    Row {
        name: String,
        origin: String,
        row: u32,
        count: usize,
    },
    /// A tensor holds NaN or infinite values.
    #[error("tensor `{name}` in `{origin}` holds a value that is not finite; the file is damaged, download it again")]
    NotFinite { name: String, origin: String },
    /// A tensor of 8 bits holds NaN or infinite values.
    #[error(
        "tensor `{name}` in `{origin}` ({dtype}) holds {count} values that are not finite: whoever converted the model let \
         values overflow, or the file is damaged; get another conversion"
    )]
    FaultyConversion {
        name: String,
        origin: String,
        count: usize,
        dtype: &'static str,
    },
    /// A tensor is in the file twice, with different values.
    #[error(
        "tensor `{name}` is in `{origin}` under two names (`shared.weight` and `encoder.embed_tokens.weight`) with different \
         values, one of which is noise: the file was saved by a faulty version of transformers; get another one"
    )]
    Twins { name: String, origin: String },
    /// The names of the file are not those of the network.
    #[error("`{}`: {source}", path.display())]
    Layout { path: PathBuf, source: Box<LayoutError> },
    /// Weights of 8 bits that cannot be read.
    #[error("`{}`: {source}", path.display())]
    Scaled { path: PathBuf, source: Box<ScaledError> },
    /// A tensor holds a value that the wanted dtype cannot hold.
    #[error("tensor `{name}` in `{origin}` holds a value too large for {dtype}; use bf16 or f32")]
    TooLarge {
        name: String,
        origin: String,
        dtype: &'static str,
    },
    /// Moving a tensor to the device failed.
    #[error("tensor `{name}`: {source}")]
    Device { name: String, source: candle_core::Error },
}
