//! Tests of reading and converting stored tensors.

#![allow(unsafe_code)]

use super::*;

fn label() -> Label<'static> {
    Label {
        name: "x",
        path: Path::new("x.pt"),
    }
}

fn mapped(values: &[f32]) -> Arc<Mmap> {
    let file = tempfile::NamedTempFile::new().unwrap();
    // One leading byte: nothing is aligned.
    let bytes: Vec<u8> = std::iter::once(7)
        .chain(values.iter().flat_map(|v| v.to_le_bytes()))
        .collect();
    std::fs::write(file.path(), bytes).unwrap();
    // SAFETY: the temporary file is not changed afterwards.
    Arc::new(unsafe { Mmap::map(&std::fs::File::open(file.path()).unwrap()) }.unwrap())
}

fn stored(values: &[f32], offset: usize, shape: &[usize], strides: &[usize]) -> Result<Stored, String> {
    let file = mapped(values);
    Stored::new(
        &file,
        1..1 + 4 * values.len(),
        Element::F32,
        offset,
        shape.to_vec(),
        strides.to_vec(),
    )
}

fn values(stored: &Stored, dtype: DType) -> Result<Vec<f64>, CheckpointError> {
    let tensor = stored.read(label(), dtype, &Device::Cpu)?;
    assert_eq!((tensor.dims(), tensor.dtype()), (stored.shape(), dtype));
    Ok(tensor
        .to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap())
}

#[test]
fn strides_are_followed() {
    let data: Vec<f32> = (0..30).map(|v| v as f32).collect();
    type Case<'a> = (usize, &'a [usize], &'a [usize], &'a [f64]);
    let cases: &[Case] = &[
        (0, &[2, 3], &[3, 1], &[0., 1., 2., 3., 4., 5.]),
        (5, &[2, 3], &[1, 2], &[5., 7., 9., 6., 8., 10.]),
        (1, &[2, 2, 2], &[10, 1, 4], &[1., 5., 2., 6., 11., 15., 12., 16.]),
        (29, &[], &[], &[29.]),
        (3, &[3, 1], &[0, 9], &[3., 3., 3.]),
        (0, &[0, 4], &[4, 1], &[]),
        (2, &[2, 1, 2], &[2, 7, 1], &[2., 3., 4., 5.]),
    ];
    for (offset, shape, strides, want) in cases {
        let stored = stored(&data, *offset, shape, strides).unwrap();
        for dtype in [DType::F32, DType::BF16, DType::F64, DType::I64, DType::U8, DType::I32] {
            assert_eq!(
                values(&stored, dtype).unwrap(),
                *want,
                "{shape:?} {strides:?} {dtype:?}"
            );
        }
    }
}

#[test]
fn large_transposed_tensor_is_read_in_parallel() {
    let (rows, columns) = (700, 300);
    let data: Vec<f32> = (0..rows * columns).map(|v| v as f32).collect();
    let transposed = stored(&data, 0, &[columns, rows], &[1, columns]).unwrap();
    let got = values(&transposed, DType::F32).unwrap();
    for (i, value) in got.iter().enumerate() {
        assert_eq!(*value, ((i % rows) * columns + i / rows) as f64);
    }
    let rows = transposed
        .read_rows(&[3, 0, 299], label(), DType::F32, &Device::Cpu)
        .unwrap();
    assert_eq!(rows.dims(), [3, 700]);
    assert_eq!(rows.to_vec2::<f32>().unwrap()[2][1], 599.);
    let error = transposed
        .read_rows(&[300], label(), DType::F32, &Device::Cpu)
        .unwrap_err();
    assert!(error.to_string().contains("row 300"), "{error}");
}

#[test]
fn what_lies_outside_is_refused() {
    let data = [0f32; 8];
    let bad: &[(usize, &[usize], &[usize])] = &[
        (0, &[9], &[1]),
        (8, &[1], &[1]),
        (9, &[0], &[1]),
        (0, &[2, 2], &[7, 2]),
        (usize::MAX, &[1], &[1]),
        (0, &[usize::MAX, 2], &[1, 1]),
        (0, &[2, 2], &[usize::MAX, 1]),
        (0, &[1 << 40], &[0]),
        (0, &[2], &[1, 1]),
        (0, &[0, usize::MAX, usize::MAX], &[1, 1, 1]),
    ];
    for (offset, shape, strides) in bad {
        assert!(
            stored(&data, *offset, shape, strides).is_err(),
            "{offset} {shape:?} {strides:?}"
        );
    }
    assert!(stored(&data, 8, &[0], &[1]).is_ok());
    let strides_not_taken = stored(&data, 7, &[1, 1], &[usize::MAX, usize::MAX]).unwrap();
    assert_eq!(values(&strides_not_taken, DType::F32).unwrap(), [0.]);
    let empty = stored(&data, 0, &[usize::MAX, 0], &[usize::MAX, usize::MAX]).unwrap();
    assert!(values(&empty, DType::F32).unwrap().is_empty());
}

#[test]
fn values_that_are_not_finite_are_refused() {
    let nan = stored(&[0., f32::NAN], 0, &[2], &[1]).unwrap();
    assert!(matches!(
        values(&nan, DType::BF16),
        Err(CheckpointError::NotFinite { .. })
    ));
    let large = stored(&[0., 1e5], 0, &[2], &[1]).unwrap();
    assert!(matches!(
        values(&large, DType::F16),
        Err(CheckpointError::TooLarge { .. })
    ));
    assert!(values(&large, DType::BF16).is_ok());
}
