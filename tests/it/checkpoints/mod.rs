//! Model files as they come, and (in `refused`) as they should not come.

pub mod build;
mod refused;

use build::*;
use candle_core::{DType, Device, Tensor};
use deepforcing::checkpoint::{Checkpoint, KeyMap, OpenOptions, Weights};

#[test]
fn tensors_are_views_of_storages() {
    let file = Checkpoint::open(&Folder::new().zip(&small())).unwrap();
    assert_eq!(file.names(), ["a", "b"]);
    assert_eq!(file.specs(), [spec("a", &[2, 3]), spec("b", &[3, 2])]);
    assert_eq!(
        (file.parameters(), file.state_dict(), file.stored_dtype("a")),
        (12, None, Some("f32"))
    );
    assert_eq!(values(&file, "a"), [0., 1., 2., 3., 4., 5.]);
    assert_eq!(values(&file, "b"), [0., 3., 1., 4., 2., 5.]);
    let rows = file.rows("b", &[2, 2, 0], DType::F32, &Device::Cpu).unwrap();
    assert_eq!(rows.to_vec2::<f32>().unwrap(), [[2., 5.], [2., 5.], [0., 3.]]);
    let error = file.rows("b", &[3], DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert_says(&error, &["row 3", "`b`", "3 rows", "model.pt"]);
}

#[test]
fn every_number_format_is_read() {
    let half = |v: f32| half::f16::from_f32(v).to_le_bytes().to_vec();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("DoubleStorage", 3f64.to_le_bytes().into()),
        ("FloatStorage", 3f32.to_le_bytes().into()),
        ("HalfStorage", half(3.)),
        ("BFloat16Storage", half::bf16::from_f32(3.).to_le_bytes().into()),
        ("LongStorage", 3i64.to_le_bytes().into()),
        ("IntStorage", 3i32.to_le_bytes().into()),
        ("ShortStorage", 3i16.to_le_bytes().into()),
        ("CharStorage", vec![3]),
        ("ByteStorage", vec![3]),
    ];
    for (class, bytes) in cases {
        let file = open(&dict(&[("x", tensor(class, "7", 1, 0, &[], &[]))]), &[("7", bytes)]).unwrap();
        for dtype in [
            DType::F32,
            DType::BF16,
            DType::F16,
            DType::F64,
            DType::I64,
            DType::U32,
            DType::U8,
        ] {
            let x = file.tensor("x", dtype, &Device::Cpu).unwrap();
            assert_eq!((x.dtype(), x.dims().len()), (dtype, 0));
            assert_eq!(
                x.to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap(),
                3.,
                "{class} {dtype:?}"
            );
        }
    }
    // Listed, but cannot be read.
    let complex = dict(&[("x", tensor("ComplexFloatStorage", "0", 1, 0, &[1], &[1]))]);
    let file = open(&complex, &[("0", vec![0; 8])]).unwrap();
    let error = file.tensor("x", DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert_says(&error, &["`x`", "complex64", "save it as"]);
}

#[test]
fn the_state_dict_is_chosen() {
    let x = |v: i64| tensor("FloatStorage", "0", 3, v, &[1], &[1]);
    let state = |name: &str, v: i64| {
        dict(&[
            (name, x(v)),
            ("note", text("not a tensor")),
            ("step", int(3)),
            ("none", b"N".into()),
        ])
    };
    let storage = [("0", floats(&[0., 1., 2.]))];
    let all = dict(&[
        ("critic", state("model.w", 0)),
        ("generator", state("model.w", 1)),
        ("generator_ema", state("model._fsdp_wrapped_module.w", 2)),
        ("step", int(1000)),
        ("lr", b"G\x3f\xf0\0\0\0\0\0\0".into()),
        ("history", b"](K\x01NX\x01\0\0\0ae".into()),
    ]);
    let folder = Folder::new();
    let path = folder.zip(&archive(&all, &storage));
    let file = Checkpoint::open(&path).unwrap();
    assert_eq!(
        (file.state_dict(), file.names(), values(&file, "w")),
        (Some("generator_ema"), vec!["w".into()], vec![2.])
    );
    let with = |key: &str, key_map| {
        Checkpoint::open_with(
            &path,
            &OpenOptions {
                state_dict: Some(key.into()),
                key_map,
            },
        )
    };
    let file = with("critic", KeyMap::Verbatim).unwrap();
    assert_eq!(
        (file.names(), values(&file, "model.w")),
        (vec!["model.w".into()], vec![0.])
    );
    let error = with("ema", KeyMap::Wan).err().unwrap().to_string();
    assert_says(&error, &["`ema`", "`generator` (1 tensors)", "`critic`"]);

    let several = dict(&[("first", state("w", 1)), ("second", state("w", 2)), ("step", int(1))]);
    assert_says(
        &open(&several, &storage).err().unwrap().to_string(),
        &[
            "no tensors",
            "`first` (1 tensors)",
            "`state-dict = \"first\"`",
            "[files]",
            "--preset",
        ],
    );
    // A single one needs no choice, whatever it is called.
    for name in ["state_dict", "weights of the last epoch"] {
        let only = dict(&[("step", int(1)), ("empty", dict(&[])), (name, state("_orig_mod.w", 2))]);
        let file = open(&only, &storage).unwrap();
        assert_eq!((file.state_dict(), values(&file, "w")), (Some(name), vec![2.]));
    }
    assert_says(
        &open(&int(1), &[]).err().unwrap().to_string(),
        &["an integer", "expected a dict"],
    );
    assert_says(&open(b"}", &[]).err().unwrap().to_string(), &["no tensors"]);
    let both = dict(&[("model.w", x(0)), ("w", x(1))]);
    assert_says(
        &open(&both, &storage).err().unwrap().to_string(),
        &["`model.w`", "`w`", "two models"],
    );
}

#[test]
fn safetensors_and_indexed_sets_are_read() {
    let folder = Folder::new();
    let x = Tensor::arange(0f32, 6., &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
    let save = |name: &str, tensor: &str| {
        candle_core::safetensors::save(&[(tensor, x.clone())].into(), folder.path(name)).unwrap();
    };
    save("one.safetensors", "model.a");
    save("two.safetensors", "b");
    let one = Checkpoint::open(&folder.path("one.safetensors")).unwrap();
    assert_eq!(
        (one.names(), values(&one, "a")),
        (vec!["a".into()], vec![0., 1., 2., 3., 4., 5.])
    );

    let index = |map: &str| {
        folder.write(
            "set.safetensors.index.json",
            format!("{{\"metadata\":{{}},\"weight_map\":{map}}}").as_bytes(),
        )
    };
    let set = Checkpoint::open(&index(r#"{"model.a":"one.safetensors","b":"two.safetensors"}"#)).unwrap();
    assert_eq!(set.names(), ["a", "b"]);
    assert_eq!(values(&set, "b"), values(&one, "a"));
    let error = refusal(&index(
        r#"{"a":"one.safetensors","b":"three.safetensors","c":"four.safetensors"}"#,
    ));
    assert_says(&error, &["`three.safetensors`", "`four.safetensors`", "not beside it"]);
    let error = refusal(&index(r#"{"a":"../one.safetensors"}"#));
    assert_says(&error, &["../one.safetensors", "same folder"]);
    assert_says(
        &refusal(&index(r#"{"c":"one.safetensors"}"#)),
        &["`c`", "one.safetensors"],
    );
    folder.write("page.safetensors", b"<html>");
    assert_says(
        &refusal(&index(r#"{"c":"page.safetensors"}"#)),
        &["page.safetensors", "web page"],
    );
    assert_says(&refusal(&index("3")), &["index"]);
    let key = OpenOptions {
        state_dict: Some("generator".into()),
        ..Default::default()
    };
    let error = Checkpoint::open_with(&folder.path("one.safetensors"), &key)
        .err()
        .unwrap()
        .to_string();
    assert_says(&error, &["`generator`", "single one"]);
}

#[test]
fn files_over_four_gigabytes_are_read_in_place() {
    let folder = Folder::new();
    let mut entries = archive(
        &dict(&[("x", tensor("FloatStorage", "0", 2, 0, &[2], &[1]))]),
        &[("0", floats(&[8., 9.]))],
    );
    // A hole: the file takes a few kilobytes of the disk.
    entries[2].gap = 5 << 30;
    let path = folder.zip(&entries);
    assert!(path.metadata().unwrap().len() > 5 << 30);
    assert_eq!(values(&Checkpoint::open(&path).unwrap(), "x"), [8., 9.]);
}

#[test]
fn weights_ask_by_name_and_shape() {
    let file = Checkpoint::open(&Folder::new().zip(&small())).unwrap();
    let weights = Weights::from_checkpoint(file, DType::F32, &Device::Cpu);
    assert_eq!(weights.get([2, 3], "a").unwrap().dims(), [2, 3]);
    assert_eq!(weights.get_as([2, 3], "a", [6]).unwrap().dims(), [6]);
    assert_says(
        &weights.get([3, 3], "a").unwrap_err().to_string(),
        &["`a`", "[2, 3]", "[3, 3]", "model.pt"],
    );
    assert_says(
        &weights.pp("x").get([3], "y").unwrap_err().to_string(),
        &["`x.y`", "model.pt"],
    );
    assert_eq!(
        weights.rows([2, 3], "a", &[1]).unwrap().to_vec2::<f32>().unwrap(),
        [[3., 4., 5.]]
    );
}
