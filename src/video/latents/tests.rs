//! Tests of saved latents: they survive, killed runs stay readable, other files are refused.

use safetensors::SafeTensors;
use tempfile::TempDir;

use super::*;

const HEIGHT: usize = 4;
const WIDTH: usize = 6;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn chunk(frames: usize, first: f32) -> Tensor {
    let count = (frames * 16 * HEIGHT * WIDTH) as f32;
    let values = Tensor::arange(first, first + count, &Device::Cpu).unwrap();
    values.reshape((frames, 16, HEIGHT, WIDTH)).unwrap()
}

fn writer(path: &Path) -> LatentWriter {
    LatentWriter::create(path, HEIGHT, WIDTH, 16, "{\"seed\": 7}").unwrap()
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// A safetensors file by another writer.
fn foreign(path: &Path, name: &str, tensor: &Tensor) {
    let tensors = std::collections::HashMap::from([(name.to_string(), tensor.clone())]);
    candle_core::safetensors::save(&tensors, path).unwrap();
}

fn refusal(path: &Path) -> String {
    let error = LatentReader::open(path).unwrap_err();
    assert!(matches!(error, LatentError::NotLatents { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn latents_survive_and_are_read_in_parts() {
    let folder = folder();
    let path = folder.path().join("sea.safetensors");
    let mut writer = writer(&path);
    writer.push(&chunk(3, 0.0)).unwrap();
    writer.push(&chunk(1, 1000.0)).unwrap();
    assert!(!path.exists() && writer.partial_path().exists());
    let partial = writer.partial_path().to_owned();
    assert_eq!((writer.frames(), writer.finish().unwrap()), (4, path.clone()));
    assert!(!partial.exists());

    let reader = LatentReader::open(&path).unwrap();
    assert_eq!(
        (reader.shape(), reader.recipe()),
        ([4, 16, HEIGHT, WIDTH], Some("{\"seed\": 7}"))
    );
    let last = reader.read(2..4, &Device::Cpu).unwrap();
    let want = Tensor::cat(&[chunk(3, 0.0).narrow(0, 2, 1).unwrap(), chunk(1, 1000.0)], 0).unwrap();
    assert_eq!(values(&last), values(&want));
    for range in [0..5, 4..5, 2..2] {
        assert!(matches!(
            reader.read(range, &Device::Cpu),
            Err(LatentError::Range { frames: 4, .. })
        ));
    }
}

#[test]
fn other_readers_read_the_file() {
    let folder = folder();
    let path = folder.path().join("sea.safetensors");
    let mut writer = writer(&path);
    writer.push(&chunk(2, 5.0)).unwrap();
    writer.finish().unwrap();
    let bytes = fs::read(&path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["recipe"], "{\"seed\": 7}");
    let tensor = &candle_core::safetensors::load(&path, &Device::Cpu).unwrap()["latents"];
    assert_eq!(values(tensor), values(&chunk(2, 5.0)));
}

#[test]
fn what_a_killed_run_leaves_is_readable() {
    let folder = folder();
    let path = folder.path().join("sea.safetensors");
    let mut writer = writer(&path);
    for i in 0..12 {
        writer.push(&chunk(1, i as f32)).unwrap();
        let bytes = fs::read(writer.partial_path()).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.tensor("latents").unwrap().shape(), [i + 1, 16, HEIGHT, WIDTH]);
    }
    // Killed while the next chunk was being written, before its header.
    let partial = writer.partial_path().to_owned();
    std::mem::forget(writer);
    let mut bytes = fs::read(&partial).unwrap();
    bytes.extend([1; 77]);
    let left = folder.path().join("left.safetensors");
    fs::write(&left, bytes).unwrap();
    let reader = LatentReader::open(&left).unwrap();
    assert_eq!(
        values(&reader.read(11..12, &Device::Cpu).unwrap()),
        values(&chunk(1, 11.0))
    );
}

#[test]
fn the_recipe_can_be_replaced() {
    let folder = folder();
    let path = folder.path().join("sea.safetensors");
    let mut writer = writer(&path);
    writer.push(&chunk(1, 0.0)).unwrap();
    writer.set_recipe("{\"seed\": 7, \"pictures-written\": 5}").unwrap();
    let too_long = "x".repeat(5000);
    assert!(matches!(
        writer.set_recipe(&too_long),
        Err(LatentError::Metadata { .. })
    ));
    writer.finish().unwrap();
    let reader = LatentReader::open(&path).unwrap();
    assert_eq!(reader.recipe(), Some("{\"seed\": 7, \"pictures-written\": 5}"));
}

#[test]
fn a_writer_refuses_what_does_not_fit() {
    let folder = folder();
    let path = folder.path().join("sea.safetensors");
    let mut first = writer(&path);
    let wrong = Tensor::zeros((1, 16, WIDTH, HEIGHT), DType::F32, &Device::Cpu).unwrap();
    assert!(matches!(first.push(&wrong), Err(LatentError::Chunk { .. })));
    let second = LatentWriter::create(&path, HEIGHT, WIDTH, 16, "");
    assert!(matches!(second, Err(LatentError::Busy { .. })));
    let partial = first.partial_path().to_owned();
    assert!(matches!(first.finish(), Err(LatentError::Nothing { .. })));
    assert!(
        !partial.exists() && !path.exists(),
        "nothing stays of a file without latents"
    );
    fs::write(folder.path().join("file"), "").unwrap();
    let nowhere = folder.path().join("file/folder.safetensors");
    assert!(matches!(
        LatentWriter::create(&nowhere, 1, 1, 16, ""),
        Err(LatentError::Write { .. })
    ));
    assert!(matches!(
        LatentWriter::create(folder.path(), 1, 1, 16, ""),
        Err(LatentError::Write { .. })
    ));
}

#[test]
fn a_full_disk_is_an_error() {
    // Writes to this device fail as on a full disk.
    let full = Path::new("/dev/full");
    let Ok(file) = OpenOptions::new().write(true).open(full) else {
        return;
    };
    let folder = folder();
    let mut writer = writer(&folder.path().join("sea.safetensors"));
    writer.file = file;
    let error = writer.push(&chunk(1, 0.0)).unwrap_err();
    assert!(matches!(error, LatentError::Write { .. }), "{error}");
    assert_eq!(writer.frames(), 0);
}

#[test]
fn half_precision_is_read() {
    let folder = folder();
    let path = folder.path().join("sea.safetensors");
    let small = (chunk(2, -300.0) / 8.0).unwrap();
    for dtype in [DType::F16, DType::BF16, DType::F32] {
        let stored = small.to_dtype(dtype).unwrap();
        foreign(&path, "latents", &stored);
        let reader = LatentReader::open(&path).unwrap();
        assert_eq!(reader.recipe(), None);
        let want = stored.to_dtype(DType::F32).unwrap().narrow(0, 1, 1).unwrap();
        assert_eq!(
            values(&reader.read(1..2, &Device::Cpu).unwrap()),
            values(&want),
            "{dtype:?}"
        );
    }
}

#[test]
fn other_files_are_refused() {
    let folder = folder();
    let path = folder.path().join("x.safetensors");
    assert!(matches!(LatentReader::open(&path), Err(LatentError::Unreadable { .. })));
    let of_folder = LatentReader::open(folder.path()).unwrap_err();
    assert!(of_folder.to_string().contains("it is a folder"), "{of_folder}");
    for bytes in [&b""[..], b"1234", b"a red balloon", b"\x02\0\0\0\0\0\0\0[]", &[255; 64]] {
        fs::write(&path, bytes).unwrap();
        assert!(refusal(&path).contains("no safetensors file"));
    }
    foreign(&path, "weights", &chunk(1, 0.0));
    assert!(refusal(&path).contains("no tensor `latents`, but `weights`"));
    foreign(&path, "latents", &chunk(1, 0.0).to_dtype(DType::F64).unwrap());
    assert!(refusal(&path).contains("stored as F64"));
    foreign(&path, "latents", &chunk(1, 0.0).get(0).unwrap());
    assert!(refusal(&path).contains("shape [16, 4, 6]"));
    foreign(&path, "latents", &chunk(2, 0.0));
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(refusal(&path).contains("cut off"));
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let folder = folder();
    let path = folder.path().join("x.safetensors");
    let write = |info: Value| {
        let text = json!({ "latents": info }).to_string();
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend([0; 64]);
        fs::write(&path, bytes).unwrap();
    };
    let huge = 1u64 << 40;
    for info in [
        json!({"dtype": "F32", "shape": [1, 1, 2, 2], "data_offsets": [0, 8]}),
        json!({"dtype": "F32", "shape": [1, 1, 2, 2], "data_offsets": [16, 0]}),
        json!({"dtype": "F32", "shape": [huge, huge, 2, 2], "data_offsets": [0, 8]}),
        json!({"dtype": "F32", "shape": [0, 1, 2, 2], "data_offsets": [0, 0]}),
        json!({"dtype": "F32", "shape": [-1, 1, 2, 2], "data_offsets": [0, 8]}),
        json!({"dtype": "F32", "shape": [1, 1, 2, 2], "data_offsets": [huge, huge + 16]}),
        json!({"dtype": 7}),
        json!(7),
    ] {
        write(info);
        refusal(&path);
    }
    write(json!({"dtype": "F32", "shape": [1, 1, 2, 2], "data_offsets": [8, 24]}));
    assert!(LatentReader::open(&path).is_ok());
}

#[test]
fn values_that_are_not_finite_are_named() {
    let folder = folder();
    let path = folder.path().join("x.safetensors");
    let bad = (chunk(1, 1.0) * f64::NAN).unwrap();
    foreign(&path, "latents", &Tensor::cat(&[chunk(2, 0.0), bad], 0).unwrap());
    let reader = LatentReader::open(&path).unwrap();
    assert!(reader.read(0..2, &Device::Cpu).is_ok());
    assert!(matches!(
        reader.read(1..3, &Device::Cpu),
        Err(LatentError::NotFinite { frame: 2, .. })
    ));
}
