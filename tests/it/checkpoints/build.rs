//! Archives and pickles, built byte by byte.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device};
use deepforcing::checkpoint::{Checkpoint, CheckpointError, TensorSpec};
use tempfile::TempDir;

// Building archives

/// One entry of a zip archive, with everything that can be wrong about it.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub data: Vec<u8>,
    /// 0 is stored, 8 is deflated.
    pub method: u16,
    /// Size in the directory, if it lies.
    pub claimed: Option<u64>,
    /// Hole in the file before the entry.
    pub gap: u64,
}

pub fn entry(name: &str, data: impl Into<Vec<u8>>) -> Entry {
    Entry {
        name: name.into(),
        data: data.into(),
        method: 0,
        claimed: None,
        gap: 0,
    }
}

pub fn le(bytes: &mut Vec<u8>, fields: &[(u64, usize)]) {
    for (value, width) in fields {
        bytes.extend(&value.to_le_bytes()[..*width]);
    }
}

/// Writes an archive with 64-bit fields throughout, so that any offset is possible.
pub fn write_zip(path: &Path, entries: &[Entry]) {
    let mut file = File::create(path).unwrap();
    let mut directory = Vec::new();
    for e in entries {
        let offset = match e.gap {
            0 => file.stream_position().unwrap(),
            gap => file.seek(SeekFrom::Current(gap as i64)).unwrap(),
        };
        let (length, size) = (e.name.len() as u64, e.claimed.unwrap_or(e.data.len() as u64));
        let mut local = b"PK\x03\x04".to_vec();
        le(
            &mut local,
            &[
                (45, 2),
                (0, 2),
                (e.method.into(), 2),
                (0, 4),
                (0, 4),
                (u32::MAX.into(), 4),
                (u32::MAX.into(), 4),
                (length, 2),
                (20, 2),
            ],
        );
        local.extend(e.name.bytes());
        le(&mut local, &[(1, 2), (16, 2), (size, 8), (size, 8)]);
        file.write_all(&local).unwrap();
        file.write_all(&e.data).unwrap();
        directory.extend(b"PK\x01\x02");
        le(
            &mut directory,
            &[
                (45, 2),
                (45, 2),
                (0, 2),
                (e.method.into(), 2),
                (0, 4),
                (0, 4),
                (u32::MAX.into(), 4),
                (u32::MAX.into(), 4),
                (length, 2),
                (28, 2),
                (0, 2),
                (0, 2),
                (0, 2),
                (0, 4),
                (u32::MAX.into(), 4),
            ],
        );
        directory.extend(e.name.bytes());
        le(&mut directory, &[(1, 2), (24, 2), (size, 8), (size, 8), (offset, 8)]);
    }
    let (start, count) = (file.stream_position().unwrap(), entries.len() as u64);
    let record = start + directory.len() as u64;
    let mut end = b"PK\x06\x06".to_vec();
    le(
        &mut end,
        &[
            (44, 8),
            (45, 2),
            (45, 2),
            (0, 4),
            (0, 4),
            (count, 8),
            (count, 8),
            (directory.len() as u64, 8),
            (start, 8),
        ],
    );
    end.extend(b"PK\x06\x07");
    le(&mut end, &[(0, 4), (record, 8), (1, 4)]);
    end.extend(b"PK\x05\x06");
    le(
        &mut end,
        &[
            (0, 2),
            (0, 2),
            (0xffff, 2),
            (0xffff, 2),
            (u32::MAX.into(), 4),
            (u32::MAX.into(), 4),
            (0, 2),
        ],
    );
    file.write_all(&directory).unwrap();
    file.write_all(&end).unwrap();
}

// Building pickles

pub fn text(value: &str) -> Vec<u8> {
    [b"X", &(value.len() as u32).to_le_bytes()[..], value.as_bytes()].concat()
}

pub fn int(value: i64) -> Vec<u8> {
    [b"\x8a\x08", &value.to_le_bytes()[..]].concat()
}

pub fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", items.concat().as_slice(), b"t"].concat()
}

pub fn ints(values: &[i64]) -> Vec<u8> {
    tuple(&values.iter().map(|v| int(*v)).collect::<Vec<_>>())
}

/// A tensor: storage class, key and count, then offset, shape and strides.
pub fn tensor(class: &str, key: &str, count: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let storage = [
        text("storage"),
        format!("ctorch\n{class}\n").into(),
        text(key),
        text("cpu"),
        int(count),
    ];
    let storage = [tuple(&storage), b"Q".to_vec()].concat();
    let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
    let arguments = tuple(&[
        storage,
        int(offset),
        ints(shape),
        ints(strides),
        b"\x89".to_vec(),
        hooks,
    ]);
    [b"ctorch._utils\n_rebuild_tensor_v2\n", arguments.as_slice(), b"R"].concat()
}

pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let body: Vec<u8> = entries
        .iter()
        .flat_map(|(key, value)| [text(key), value.clone()].concat())
        .collect();
    [b"}(", body.as_slice(), b"u"].concat()
}

pub fn pickle(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

pub fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Entries of an archive with this object and these storages.
pub fn archive(body: &[u8], storages: &[(&str, Vec<u8>)]) -> Vec<Entry> {
    let mut entries = vec![
        entry("some_name/data.pkl", pickle(body)),
        entry("some_name/byteorder", "little"),
    ];
    entries.extend(
        storages
            .iter()
            .map(|(key, data)| entry(&format!("some_name/data/{key}"), data.clone())),
    );
    entries.push(entry("some_name/version", "3\n"));
    entries
}

/// Six floats 0 to 5 as `a` [2, 3] and, transposed, as `b` [3, 2].
pub fn small() -> Vec<Entry> {
    let a = tensor("FloatStorage", "0", 6, 0, &[2, 3], &[3, 1]);
    let b = tensor("FloatStorage", "0", 6, 0, &[3, 2], &[1, 3]);
    archive(
        &dict(&[("a", a), ("b", b)]),
        &[("0", floats(&[0., 1., 2., 3., 4., 5.]))],
    )
}

// Opening

pub struct Folder(pub TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    pub fn zip(&self, entries: &[Entry]) -> PathBuf {
        write_zip(&self.path("model.pt"), entries);
        self.path("model.pt")
    }
}

/// Opens an archive with this object and storages.
pub fn open(body: &[u8], storages: &[(&str, Vec<u8>)]) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open(&Folder::new().zip(&archive(body, storages)))
}

/// The message with which a file is refused.
pub fn refusal(path: &Path) -> String {
    match Checkpoint::open(path) {
        Ok(file) => panic!("accepted, with {:?}", file.names()),
        Err(error) => error.to_string(),
    }
}

pub fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

pub fn values(file: &Checkpoint, name: &str) -> Vec<f32> {
    file.tensor(name, DType::F32, &Device::Cpu)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// Opens and reads everything: may fail, must not panic.
pub fn exercise(path: &Path) {
    let Ok(file) = Checkpoint::open(path) else { return };
    for name in file.names() {
        let _ = file.tensor(&name, DType::F32, &Device::Cpu);
        let _ = file.tensor(&name, DType::BF16, &Device::Cpu);
        let _ = file.rows(&name, &[0, 1], DType::F32, &Device::Cpu);
    }
    let _ = (file.parameters(), file.specs().len());
}

pub fn spec(name: &str, shape: &[usize]) -> TensorSpec {
    TensorSpec {
        name: name.into(),
        shape: shape.into(),
    }
}
