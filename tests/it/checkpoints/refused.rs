//! Damaged, hostile and mistaken files: each is refused with a message that helps, and nothing panics.

use candle_core::{DType, Device, Tensor};
use deepforcing::checkpoint::{Checkpoint, CheckpointError};
use proptest::prelude::*;

use crate::checkpoints::build::*;

#[test]
fn names_and_shapes_must_match_exactly() {
    let file = Checkpoint::open(&Folder::new().zip(&small())).unwrap();
    file.require(&[spec("a", &[2, 3]), spec("b", &[3, 2])], &[]).unwrap();
    file.require(&[spec("a", &[2, 3])], &["b"]).unwrap();
    let wanted: Vec<_> = (0..15)
        .map(|i| spec(&format!("w{i:02}"), &[1]))
        .chain([spec("a", &[3, 2])])
        .collect();
    let error = file.require(&wanted, &[]).unwrap_err();
    assert_says(
        &error.to_string(),
        &[
            "model.pt",
            "15 missing",
            "`w09`",
            "… and 5 more",
            "1 unexpected: `b`",
            "`a` has shape [2, 3], expected [3, 2]",
        ],
    );
    let CheckpointError::Mismatch(mismatch) = error else {
        panic!()
    };
    assert_eq!(
        (mismatch.missing.len(), mismatch.unexpected, mismatch.misshapen.len()),
        (15, vec!["b".into()], 1)
    );

    let x = || tensor("FloatStorage", "0", 1, 0, &[1], &[1]);
    let vae = open(
        &dict(&[("decoder.conv1.weight", x()), ("decoder.middle.0.x", x())]),
        &[("0", floats(&[1.]))],
    )
    .unwrap();
    let wan = [spec("blocks.0.self_attn.q.weight", &[1]), spec("head.modulation", &[1])];
    let error = vae.require(&wan, &[]).unwrap_err().to_string();
    assert_says(&error, &["looks like a Wan VAE", "not like a Wan diffusion model"]);
}

#[test]
fn values_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY] {
        let body = dict(&[("x", tensor("FloatStorage", "0", 3, 0, &[3], &[1]))]);
        let file = open(&body, &[("0", floats(&[1., bad, 1e6]))]).unwrap();
        let error = file.tensor("x", DType::F32, &Device::Cpu).unwrap_err().to_string();
        assert_says(&error, &["`x`", "not finite", "model.pt"]);
    }
}

#[test]
fn pickles_that_run_code_are_refused_by_name() {
    let marker = std::env::temp_dir().join(format!("deepforcing-pwned-{}", std::process::id()));
    let command = tuple(&[text(&format!("touch {}", marker.display()))]);
    let call = |function: &[u8]| [function, command.as_slice(), b"R"].concat();
    let cases: [(&str, Vec<u8>); 8] = [
        ("os.system", call(b"cos\nsystem\n")),
        ("posix.system", call(b"cposix\nsystem\n")),
        (
            "nt.system",
            call(&[text("nt"), text("system"), b"\x93".to_vec()].concat()),
        ),
        ("builtins.eval", call(b"cbuiltins\neval\n")),
        ("__builtin__.exec", call(b"c__builtin__\nexec\n")),
        (
            "subprocess.Popen",
            [b"csubprocess\nPopen\n", command.as_slice(), b"\x81"].concat(),
        ),
        ("os.system", [b"(", text("x").as_slice(), b"ios\nsystem\n"].concat()),
        ("torch.hub.load", call(b"ctorch.hub\nload\n")),
    ];
    for (name, body) in cases {
        // As the whole object, and hidden in a state dict that is not even used.
        for body in [
            body.clone(),
            dict(&[("critic", body), ("w", tensor("FloatStorage", "0", 1, 0, &[1], &[1]))]),
        ] {
            let error = open(&body, &[("0", floats(&[1.]))]).err().unwrap();
            assert!(
                matches!(&error, CheckpointError::ForbiddenClass { class, .. } if class == name),
                "{error}"
            );
            assert_says(&error.to_string(), &[name, "nothing was executed", "model.pt"]);
        }
    }
    assert!(!marker.exists());
}

#[test]
fn tensors_outside_of_their_storage_are_refused() {
    let max = i64::MAX;
    type Case<'a> = (&'a str, i64, i64, &'a [i64], &'a [i64]);
    let cases: &[Case] = &[
        ("shorter storage", 6, 0, &[6], &[1]),
        ("shape", 4, 0, &[5], &[1]),
        ("offset", 4, 4, &[1], &[1]),
        ("strides", 4, 0, &[2, 2], &[3, 1]),
        ("offset overflow", 4, max, &[1], &[1]),
        ("stride overflow", 4, 0, &[2, 2], &[max, max]),
        ("shape overflow", 4, 0, &[max, max, max], &[1, 1, 1]),
        ("repeated values", 4, 0, &[1 << 40], &[0]),
        ("negative shape", 4, 0, &[-1], &[1]),
        ("negative stride", 4, 3, &[4], &[-1]),
        ("negative offset", 4, -1, &[1], &[1]),
        ("negative count", -4, 0, &[1], &[1]),
        ("longer storage", 3, 0, &[1], &[1]),
        ("ranks", 4, 0, &[1, 1], &[1]),
        ("too many dimensions", 4, 0, &[1; 65], &[1; 65]),
        ("empty, absurd", 4, 0, &[0, max, max], &[1, 1, 1]),
    ];
    for (what, count, offset, shape, strides) in cases {
        let body = dict(&[("x", tensor("FloatStorage", "0", *count, *offset, shape, strides))]);
        let error = open(&body, &[("0", floats(&[0.; 4]))])
            .err()
            .unwrap_or_else(|| panic!("{what} was accepted"));
        assert_says(&error.to_string(), &["model.pt", "damaged"]);
    }
    let error = open(&dict(&[("x", tensor("FloatStorage", "1", 1, 0, &[1], &[1]))]), &[])
        .err()
        .unwrap();
    assert_says(&error.to_string(), &["`x`", "data/1"]);
}

#[test]
fn archives_that_lie_are_refused() {
    let folder = Folder::new();
    let change = |change: fn(&mut Vec<Entry>)| {
        let mut entries = small();
        change(&mut entries);
        refusal(&folder.zip(&entries))
    };
    assert_says(&change(|e| e[2].claimed = Some(1 << 40)), &["data/0", "beyond the end"]);
    assert_says(&change(|e| e[2].claimed = Some(u64::MAX)), &["data/0"]);
    assert_says(&change(|e| e[0].claimed = Some(1 << 40)), &["data.pkl"]);
    assert_says(&change(|e| e[2].method = 8), &["data/0", "compressed", "torch.save"]);
    assert_says(&change(|e| e[0].method = 8), &["data.pkl", "compressed"]);
    assert_says(&change(|e| e[1].data = b"big".into()), &["big-endian"]);
    assert_says(&change(|e| e[1].data = b"?".into()), &["byteorder"]);
    assert_says(&change(|e| drop(e.remove(0))), &["without `data.pkl`"]);
    assert_says(&change(|e| drop(e.remove(2))), &["data/0"]);
    assert_says(
        &change(|e| e.push(entry("some_name/constants.pkl", ""))),
        &["TorchScript"],
    );
    assert_says(&change(|e| *e = vec![entry("arr.npy", "")]), &["NumPy"]);

    // A directory that claims more entries than memory could hold.
    let path = folder.zip(&small());
    let mut bytes = std::fs::read(&path).unwrap();
    let record = bytes.windows(4).rposition(|w| w == b"PK\x06\x06").unwrap();
    bytes[record + 24..record + 40].fill(0x3f);
    assert_says(&refusal(&folder.write("model.pt", &bytes)), &["claims", "entries"]);
}

#[test]
fn files_of_another_kind_are_named() {
    let folder = Folder::new();
    let zip = std::fs::read(folder.zip(&small())).unwrap();
    let x = Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap();
    candle_core::safetensors::save(&[("x", x)].into(), folder.path("x.safetensors")).unwrap();
    let safetensors = std::fs::read(folder.path("x.safetensors")).unwrap();
    let legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
    let cases: &[(&str, &[u8], &[&str])] = &[
        (
            "m.safetensors",
            &zip,
            &["a zip archive", "expected a safetensors file", "rename", "`.pt`"],
        ),
        (
            "m.pth",
            &safetensors,
            &["a safetensors file", "rename", "`.safetensors`"],
        ),
        ("m.pt", legacy, &["old format", "before PyTorch 1.6", "save"]),
        ("m.pt", b"", &["empty", "download"]),
        ("m.safetensors", b"", &["empty", "download"]),
        (
            "m.pth",
            b"<!DOCTYPE html>\n<html><body>404",
            &["web page", "download it again"],
        ),
        (
            "m.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
            &["git-lfs pointer", "git lfs pull"],
        ),
        ("m.safetensors", b"Entry not found", &["text", "Entry not found"]),
        ("m.pt", b"\x80\x02}q\0.", &["a bare Python pickle", "save"]),
        ("m.pt", b"GGUF\x03\0\0\0", &["GGUF"]),
        ("m.bin2", b"\0\x01\x02\x03", &["unknown kind"]),
        (
            "m.safetensors.index.json",
            &safetensors,
            &["a safetensors file", "expected an index"],
        ),
        ("m.json", b"[]", &["index"]),
    ];
    for (name, bytes, says) in cases {
        let error = refusal(&folder.write(name, bytes));
        assert_says(&error, says);
        assert_says(&error, &[name]);
    }
    assert_says(
        &refusal(folder.0.path()),
        &["a folder", "name one of the files in it", "model.pt"],
    );
    assert_says(&refusal(&folder.path("absent.pt")), &["absent.pt", "cannot read"]);
}

#[test]
fn files_cut_off_anywhere_are_refused() {
    let folder = Folder::new();
    let bytes = std::fs::read(folder.zip(&small())).unwrap();
    for length in 0..bytes.len() {
        let path = folder.write("cut.pt", &bytes[..length]);
        assert!(Checkpoint::open(&path).is_err(), "accepted with {length} bytes");
    }
    assert_says(&refusal(&folder.path("cut.pt")), &["cut off", "download it again"]);
    let x = Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap();
    candle_core::safetensors::save(&[("x", x)].into(), folder.path("x.safetensors")).unwrap();
    let bytes = std::fs::read(folder.path("x.safetensors")).unwrap();
    for length in 0..bytes.len() {
        let path = folder.write("cut.safetensors", &bytes[..length]);
        assert!(Checkpoint::open(&path).is_err(), "accepted with {length} bytes");
    }
    let (length, cut) = (bytes.len(), bytes.len() - 1);
    assert_says(
        &refusal(&folder.path("cut.safetensors")),
        &[&length.to_string(), &cut.to_string(), "cut off"],
    );
    // The pickle alone, cut at every byte, in an otherwise valid archive.
    let entries = small();
    for length in 0..entries[0].data.len() {
        let mut entries = entries.clone();
        entries[0].data.truncate(length);
        assert!(
            Checkpoint::open(&folder.zip(&entries)).is_err(),
            "accepted a pickle of {length} bytes"
        );
    }
}

/// Places in a file and the bytes to put there.
fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_files_never_panic(changes in changes()) {
        let folder = Folder::new();
        let mut bytes = std::fs::read(folder.zip(&small())).unwrap();
        for (at, value) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        exercise(&folder.write("changed.pt", &bytes));
    }

    #[test]
    fn changed_pickles_never_panic(changes in changes()) {
        let mut entries = small();
        for (at, value) in &changes {
            let at = at.index(entries[0].data.len());
            entries[0].data[at] = *value;
        }
        exercise(&Folder::new().zip(&entries));
    }

    #[test]
    fn random_pickles_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        exercise(&Folder::new().zip(&archive(&body, &[])));
    }

    #[test]
    fn changed_safetensors_never_panic(changes in changes()) {
        let header = concat!(
            r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"#,
            r#""b":{"dtype":"BF16","shape":[],"data_offsets":[16,18]}}"#
        ).as_bytes();
        let mut bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 18]].concat();
        for (at, value) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        exercise(&Folder::new().write("changed.safetensors", &bytes));
    }

    #[test]
    fn random_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0usize..4) {
        let (name, magic): (_, &[u8]) = [
            ("x.pt", &b"PK\x03\x04"[..]),
            ("x.safetensors", b"\x20\0\0\0\0\0\0\0{"),
            ("x.pth", b"\x80\x02"),
            ("x.json", b"{"),
        ][kind];
        exercise(&Folder::new().write(name, &[magic, &bytes].concat()));
    }
}
