//! The header of a GGUF file: metadata, and where which tensor lies (docs/algorithms/gguf.md section 1).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    block_type::{self, BlockType},
    reader::{Fault, Reader, Value},
};

/// Least bytes of a pair of key and value, and of the record of a tensor.
const LEAST_PAIR: usize = 13;
const LEAST_RECORD: usize = 24;
/// More dimensions than any model has.
const MAX_DIMENSIONS: usize = 8;
/// Without a word of the file, tensors begin at multiples of this.
const ALIGNMENT: u64 = 32;

/// A header.
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: Vec<Record>,
}

/// A tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) name: String,
    /// Outermost dimension first.
    pub(super) shape: Vec<usize>,
    pub(super) kind: Kind,
    /// Its bytes in the file; empty for types that are not read.
    pub(super) place: Range<usize>,
}

/// What the values of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F16,
    Bf16,
    Blocks(&'static BlockType),
    /// Known by name only.
    Named(&'static str),
    Unknown(u32),
}

/// What is wrong with a header.
#[derive(Debug, PartialEq)]
pub(super) enum HeaderError {
    Damaged(String),
    /// A file that may be good, of a kind that is not read; what it is, and what to do.
    Unsupported(String, &'static str),
}

impl From<Fault> for HeaderError {
    fn from(reason: Fault) -> Self {
        Self::Damaged(reason)
    }
}

impl Kind {
    fn of(number: u32) -> Self {
        match (number, BlockType::of(number), block_type::other(number)) {
            (0, ..) => Self::F32,
            (1, ..) => Self::F16,
            (30, ..) => Self::Bf16,
            (_, Some(blocks), _) => Self::Blocks(blocks),
            (_, _, Some(name)) => Self::Named(name),
            _ => Self::Unknown(number),
        }
    }

    /// Values and bytes of the smallest unit; none for types that are not read.
    fn unit(self) -> Option<(usize, usize)> {
        Some(match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Blocks(kind) => (kind.values(), kind.bytes()),
            Self::Named(_) | Self::Unknown(_) => return None,
        })
    }
}

/// A tensor as its record says it.
struct Raw {
    name: String,
    shape: Vec<usize>,
    kind: Kind,
    offset: u64,
    /// None for types that are not read.
    bytes: Option<u64>,
}

impl Header {
    /// Reads the header of a file that begins with `GGUF`.
    ///
    /// # Errors
    /// When it contradicts itself or the length of the file, or is of another version.
    pub(super) fn read(file: &[u8]) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(file);
        reader.take(4)?;
        check_version(reader.u32()?)?;
        let tensors = reader.count("tensors", LEAST_RECORD)?;
        let pairs = reader.count("pairs of metadata", LEAST_PAIR)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..pairs {
            let key = reader.name()?;
            let kind = reader.u32()?;
            let value = reader.value(kind)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(format!("its metadata has the key `{}` twice", key.escape_debug()).into());
            }
        }
        check_parts(&metadata)?;
        let mut names = BTreeSet::new();
        let mut raw = Vec::new();
        for _ in 0..tensors {
            let tensor = Raw::read(&mut reader)?;
            if !names.insert(tensor.name.clone()) {
                return Err(format!("it has the tensor `{}` twice", tensor.name.escape_debug()).into());
            }
            raw.push(tensor);
        }
        let alignment = alignment(&metadata)?;
        let start = (reader.position() as u64).checked_next_multiple_of(alignment);
        let start = start.ok_or_else(|| Fault::from("its header has no end"))?;
        let tensors = place(raw, start, alignment, file.len() as u64)?;
        Ok(Self { metadata, tensors })
    }
}

impl Raw {
    fn read(reader: &mut Reader) -> Result<Self, Fault> {
        let name = reader.name()?;
        let shown = name.escape_debug();
        let dimensions = reader.u32()? as usize;
        if dimensions > MAX_DIMENSIONS {
            return Err(format!("tensor `{shown}` has {dimensions} dimensions"));
        }
        let mut shape = Vec::with_capacity(dimensions);
        for _ in 0..dimensions {
            shape.push(reader.u64()?);
        }
        shape.reverse();
        let kind = Kind::of(reader.u32()?);
        let offset = reader.u64()?;
        let too_large = || format!("tensor `{shown}` has the shape {shape:?}: the product of the dimensions overflows");
        // Zeros count as one: no product of some of the dimensions may overflow either.
        let most = shape.iter().try_fold(1u64, |n, d| n.checked_mul((*d).max(1)));
        let most = most.filter(|n| i64::try_from(*n).is_ok()).ok_or_else(too_large)?;
        let count = if shape.contains(&0) { 0 } else { most };
        let sizes: Option<Vec<usize>> = shape.iter().map(|size| usize::try_from(*size).ok()).collect();
        let bytes = match kind.unit() {
            None => None,
            Some((values, bytes)) => {
                let row = shape.last().copied().unwrap_or(1);
                if !row.is_multiple_of(values as u64) {
                    return Err(format!(
                        "tensor `{shown}` has rows of {row} values, which is no multiple of the {values} that a block has"
                    ));
                }
                Some(
                    (count / values as u64)
                        .checked_mul(bytes as u64)
                        .ok_or_else(too_large)?,
                )
            }
        };
        Ok(Self {
            shape: sizes.ok_or_else(too_large)?,
            name,
            kind,
            offset,
            bytes,
        })
    }
}

/// Refuses versions that are not read.
fn check_version(version: u32) -> Result<(), HeaderError> {
    const AGAIN: &str = "convert the model again with a current tool, or get its `.safetensors` version";
    let unsupported = |what: String| Err(HeaderError::Unsupported(what, AGAIN));
    match version {
        2 | 3 => Ok(()),
        1 => unsupported("it is GGUF of version 1, whose counts have 32 bits; 2 and 3 are read".into()),
        _ if (1..=99).contains(&version.swap_bytes()) => {
            unsupported("it is a GGUF file for big-endian machines; those of little-endian ones are read".into())
        }
        4..=99 => unsupported(format!("it is GGUF of version {version}; 2 and 3 are read")),
        _ => Err(HeaderError::Damaged(format!(
            "its version is {version}; expected 2 or 3"
        ))),
    }
}

/// Refuses a part of a file that was split.
fn check_parts(metadata: &BTreeMap<String, Value>) -> Result<(), HeaderError> {
    let integer = |key: &str| match metadata.get(key) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    };
    match integer("split.count") {
        Some(parts) if parts > 1 => {
            let number = integer("split.no").map_or("a".to_string(), |no| no.saturating_add(1).to_string());
            Err(HeaderError::Unsupported(
                format!("it is part {number} of {parts} of a split model"),
                "join the parts first: `llama-gguf-split --merge FIRST-PART OUT.gguf`",
            ))
        }
        _ => Ok(()),
    }
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, Fault> {
    match metadata.get("general.alignment") {
        None => Ok(ALIGNMENT),
        Some(Value::Integer(number)) => u64::try_from(*number)
            .ok()
            .filter(|number| number.is_power_of_two() && *number <= 1 << 31)
            .ok_or_else(|| format!("its `general.alignment` is {number}; expected a power of two")),
        Some(_) => Err("its `general.alignment` is no whole number".into()),
    }
}

/// Finds the bytes of each tensor; they are inside of the file and belong to one tensor each.
fn place(raw: Vec<Raw>, start: u64, alignment: u64, length: u64) -> Result<Vec<Record>, Fault> {
    let mut spans = Vec::with_capacity(raw.len());
    for (index, tensor) in raw.iter().enumerate() {
        let shown = tensor.name.escape_debug();
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(format!(
                "tensor `{shown}` begins at {}, which is no multiple of the alignment {alignment}",
                tensor.offset
            ));
        }
        let from = start.checked_add(tensor.offset);
        let to = from.and_then(|from| from.checked_add(tensor.bytes.unwrap_or(0)));
        let (Some(from), Some(to)) = (from, to) else {
            return Err(beyond(tensor, tensor.offset, length));
        };
        spans.push((from, to, index));
    }
    spans.sort_unstable();
    let mut end = start;
    // Whether each tensor follows the one before without a gap, as all tools write them.
    let mut dense = true;
    for (from, to, index) in spans.iter().copied().filter(|(from, to, _)| from < to) {
        if from < end {
            return Err(format!(
                "tensor `{}` begins inside of another one",
                raw[index].name.escape_debug()
            ));
        }
        dense &= end.checked_next_multiple_of(alignment) == Some(from);
        if to > length && !dense {
            return Err(beyond(&raw[index], from, length));
        }
        end = to;
    }
    if end > length {
        return Err(format!(
            "it should have {end} bytes by its header, but has {length}: it is cut off"
        ));
    }
    let beyond_end = spans.iter().find(|(from, _, _)| *from > length);
    if let Some((from, _, index)) = beyond_end {
        return Err(beyond(&raw[*index], *from, length));
    }
    let mut places = vec![0..0; raw.len()];
    for (from, to, index) in spans {
        let small = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        places[index] = small(from)..small(to);
    }
    let record = |(tensor, place): (Raw, Range<usize>)| Record {
        name: tensor.name,
        shape: tensor.shape,
        kind: tensor.kind,
        place,
    };
    Ok(raw.into_iter().zip(places).map(record).collect())
}

fn beyond(tensor: &Raw, from: u64, length: u64) -> Fault {
    let bytes = tensor.bytes.unwrap_or(0);
    format!(
        "tensor `{}` has {bytes} bytes at {from}, which is beyond the end of the file ({length} bytes)",
        tensor.name.escape_debug()
    )
}
