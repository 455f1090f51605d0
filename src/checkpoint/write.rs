//! A `.safetensors` file, written tensor by tensor under another name until it is whole.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use serde_json::{Map, Value, json};

use crate::files;

/// Values that are turned into bytes at a time.
const PIECE: usize = 1 << 16;

/// A tensor that is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    pub name: String,
    pub shape: Vec<usize>,
    /// f32, bf16 or f16.
    pub dtype: DType,
}

impl Planned {
    /// Bytes of its values.
    pub fn bytes(&self) -> u64 {
        let values = self.shape.iter().map(|size| *size as u64).fold(1, u64::saturating_mul);
        values.saturating_mul(self.dtype.size_in_bytes() as u64)
    }
}

/// A file in work. What is dropped before [`SafetensorsWriter::finish`] leaves nothing behind.
pub struct SafetensorsWriter {
    file: Option<BufWriter<File>>,
    partial: PathBuf,
    path: PathBuf,
    /// Those that are still to come, in order.
    left: VecDeque<Planned>,
    header: Vec<u8>,
}

impl SafetensorsWriter {
    /// Writes the header of a file with these tensors, which are then given to [`SafetensorsWriter::write`] in the same
    /// order. `notes` become its metadata.
    ///
    /// # Errors
    /// When the file cannot be made or the disk does not take the header.
    pub fn create(path: &Path, tensors: &[Planned], notes: &BTreeMap<String, String>) -> io::Result<Self> {
        let header = header(tensors, notes)?;
        let mut hidden = OsString::from(".");
        hidden.push(path.file_name().unwrap_or_default());
        hidden.push(".partial");
        let partial = path.with_file_name(hidden);
        let mut writer = Self {
            file: Some(BufWriter::with_capacity(1 << 20, files::create(&partial)?)),
            partial,
            path: path.into(),
            left: tensors.to_vec().into(),
            header,
        };
        let length = (writer.header.len() as u64).to_le_bytes();
        let bytes = [&length[..], &writer.header].concat();
        writer.put(&bytes)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => Err(io::Error::other("the file is closed")),
        }
    }

    /// Writes the next tensor, which is contiguous and on the CPU.
    ///
    /// # Errors
    /// When it is not the one that the header announces, or the disk does not take it.
    pub fn write(&mut self, tensor: &Tensor) -> io::Result<()> {
        let planned = self.left.pop_front();
        let planned = planned.ok_or_else(|| io::Error::other("more tensors than the header announces"))?;
        if tensor.dims() != planned.shape || tensor.dtype() != planned.dtype {
            return Err(io::Error::other(format!(
                "tensor `{}` is {:?} {:?}, announced as {:?} {:?}",
                planned.name,
                tensor.dtype(),
                tensor.dims(),
                planned.dtype,
                planned.shape
            )));
        }
        let tensor = tensor.to_device(&Device::Cpu).and_then(|tensor| tensor.contiguous());
        let tensor = tensor.map_err(io::Error::other)?;
        let (storage, layout) = tensor.storage_and_layout();
        let range = layout.start_offset()..layout.start_offset() + tensor.elem_count();
        match &*storage {
            Storage::Cpu(CpuStorage::F32(values)) => self.values(&values[range], |value| value.to_le_bytes()),
            Storage::Cpu(CpuStorage::BF16(values)) => self.values(&values[range], |value| value.to_le_bytes()),
            Storage::Cpu(CpuStorage::F16(values)) => self.values(&values[range], |value| value.to_le_bytes()),
            _ => Err(io::Error::other(format!(
                "tensors of {:?} are not written",
                tensor.dtype()
            ))),
        }
    }

    fn values<T: Copy, const N: usize>(&mut self, values: &[T], bytes: impl Fn(T) -> [u8; N]) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(PIECE * N);
        for piece in values.chunks(PIECE) {
            buffer.clear();
            buffer.extend(piece.iter().flat_map(|value| bytes(*value)));
            self.put(&buffer)?;
        }
        Ok(())
    }

    /// Puts a text of the same length in the place of one that stands once in the header.
    ///
    /// # Errors
    /// When it does not, or the disk fails.
    pub fn replace_in_header(&mut self, old: &str, new: &str) -> io::Result<()> {
        let windows = self.header.windows(old.len().max(1)).enumerate();
        let mut found = windows
            .filter(|(_, window)| *window == old.as_bytes())
            .map(|(at, _)| at);
        let (at, again) = (found.next(), found.next());
        let once = at.filter(|_| again.is_none() && old.len() == new.len());
        let (Some(at), Some(file)) = (once, &mut self.file) else {
            return Err(io::Error::other(format!("`{old}` does not stand once in the header")));
        };
        self.header[at..at + new.len()].copy_from_slice(new.as_bytes());
        file.seek(SeekFrom::Start(8 + at as u64))?;
        file.write_all(new.as_bytes())?;
        file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    /// Gives the whole file its name, and tells how many bytes it has.
    ///
    /// # Errors
    /// When tensors are missing, or the disk fails.
    pub fn finish(mut self) -> io::Result<u64> {
        if let Some(next) = self.left.front() {
            return Err(io::Error::other(format!("tensor `{}` was not written", next.name)));
        }
        let file = self.file.take().ok_or_else(|| io::Error::other("the file is closed"))?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        fs::rename(&self.partial, &self.path)?;
        self.partial.clear();
        Ok(bytes)
    }
}

impl Drop for SafetensorsWriter {
    fn drop(&mut self) {
        if !self.partial.as_os_str().is_empty() {
            self.file = None;
            fs::remove_file(&self.partial).ok();
        }
    }
}

/// The header, padded so that values begin at a multiple of 8 bytes.
fn header(tensors: &[Planned], notes: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut entries = Map::new();
    if !notes.is_empty() {
        entries.insert("__metadata__".into(), json!(notes));
    }
    let mut at = 0u64;
    for tensor in tensors {
        let dtype = match tensor.dtype {
            DType::F32 => "F32",
            DType::BF16 => "BF16",
            DType::F16 => "F16",
            other => return Err(io::Error::other(format!("tensors of {other:?} are not written"))),
        };
        let end = at.saturating_add(tensor.bytes());
        let entry = json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [at, end]});
        entries.insert(tensor.name.clone(), entry);
        at = end;
    }
    let mut bytes = Value::Object(entries).to_string().into_bytes();
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    fn planned(name: &str, shape: &[usize], dtype: DType) -> Planned {
        Planned {
            name: name.into(),
            shape: shape.into(),
            dtype,
        }
    }

    fn tensor(shape: &[usize], dtype: DType) -> Tensor {
        let tensor = Tensor::randn(0f32, 1., shape, &Device::Cpu).unwrap();
        tensor.to_dtype(dtype).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let plan = [
            planned("w", &[300, 300], DType::F32),
            planned("b", &[3], DType::BF16),
            planned("h", &[2, 2], DType::F16),
            planned("none", &[0, 4], DType::F32),
        ];
        let tensors: Vec<_> = plan.iter().map(|plan| tensor(&plan.shape, plan.dtype)).collect();
        let notes = BTreeMap::from([("hash".into(), "????".into()), ("format".into(), "pt".into())]);
        let mut writer = SafetensorsWriter::create(&path, &plan, &notes).unwrap();
        for tensor in &tensors {
            assert!(!path.exists());
            writer.write(tensor).unwrap();
        }
        writer.replace_in_header("????", "abcd").unwrap();
        assert!(writer.replace_in_header("????", "abcd").is_err());
        // In more than one place.
        assert!(writer.replace_in_header("F32", "F33").is_err());
        assert!(writer.replace_in_header("abcd", "x").is_err());
        let start = 8 + writer.header.len() as u64;
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes, start + 360_000 + 6 + 8);
        let file = Checkpoint::open(&path).unwrap();
        assert_eq!((file.note("hash"), file.note("format")), (Some("abcd"), Some("pt")));
        for (plan, want) in plan.iter().zip(&tensors) {
            let got = file.tensor(&plan.name, plan.dtype, &Device::Cpu).unwrap();
            let bits = |tensor: &Tensor| {
                let tensor = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
                tensor.to_vec1::<f32>().unwrap()
            };
            assert_eq!((got.dims(), bits(&got)), (want.dims(), bits(want)));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let plan = [planned("w", &[2], DType::F32), planned("v", &[2], DType::F32)];
        let mut writer = SafetensorsWriter::create(&path, &plan, &BTreeMap::new()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        writer.write(&tensor(&[2], DType::F32)).unwrap();
        let said = writer.finish().unwrap_err().to_string();
        assert!(said.contains("`v` was not written"), "{said}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut writer = SafetensorsWriter::create(&path, &plan, &BTreeMap::new()).unwrap();
        assert!(writer.write(&tensor(&[3], DType::F32)).is_err());
        assert!(SafetensorsWriter::create(&path, &[planned("i", &[1], DType::I64)], &BTreeMap::new()).is_err());
    }
}
