use super::*;

fn load(body: &[u8]) -> Result<Pickle, PickleError> {
    Pickle::load(&[b"\x80\x02", body].concat())
}

fn reason(body: &[u8]) -> String {
    match load(body) {
        Ok(_) => panic!("loaded"),
        Err(PickleError::Forbidden(name)) => format!("forbidden {name}"),
        Err(PickleError::Invalid { reason, .. }) => reason,
    }
}

/// Items of the tuple or list that a pickle builds.
fn items(body: &[u8]) -> Vec<Value> {
    let pickle = load(body).unwrap_or_else(|e| panic!("{e:?}"));
    let (Value::Tuple(ids) | Value::List(ids)) = pickle.root() else {
        panic!("{:?}", pickle.root())
    };
    ids.iter().map(|id| pickle.value(*id).clone()).collect()
}

#[test]
fn numbers_and_constants() {
    let body = b"(N\x88\x89J\xff\xff\xff\xffK\xffM\x01\x02G\x3f\xf0\0\0\0\0\0\0\x8a\0\x8a\x01\x80\x8a\x02\xff\x00\
        \x8b\x09\0\0\x00123456789t.";
    let want = [
        Value::None,
        Value::Bool(true),
        Value::Bool(false),
        Value::Int(-1),
        Value::Int(255),
        Value::Int(513),
        Value::Float(1.0),
        Value::Int(0),
        Value::Int(-128),
        Value::Int(255),
        Value::Other,
    ];
    assert_eq!(items(body), want);
}

#[test]
fn text_and_bytes() {
    let body = b"(X\x02\0\0\0\xc3\xa9\x8c\x01aU\x01bT\x01\0\0\0c\x8d\x01\0\0\0\0\0\0\0dC\x01eB\x01\0\0\0ft.";
    let text = |t: &str| Value::Str(t.into());
    assert_eq!(
        items(body),
        [
            text("é"),
            text("a"),
            text("b"),
            text("c"),
            text("d"),
            Value::Other,
            Value::Other
        ]
    );
}

#[test]
fn containers() {
    assert_eq!(
        items(b"K\x01K\x02K\x03\x87."),
        [Value::Int(1), Value::Int(2), Value::Int(3)]
    );
    assert_eq!(
        items(b"]K\x01a(K\x02K\x03e."),
        [Value::Int(1), Value::Int(2), Value::Int(3)]
    );
    assert_eq!(items(b"(K\x01K\x02l."), [Value::Int(1), Value::Int(2)]);
    for body in [
        &b"}X\x01\0\0\0aK\x01sX\x01\0\0\0bK\x02s."[..],
        b"}(X\x01\0\0\0aK\x01X\x01\0\0\0bK\x02u.",
        b"(X\x01\0\0\0aK\x01X\x01\0\0\0bK\x02d.",
    ] {
        let pickle = load(body).ok().unwrap();
        let entries: Vec<_> = pickle.entries(pickle.root()).collect();
        assert_eq!(entries, [("a", &Value::Int(1)), ("b", &Value::Int(2))]);
    }
}

#[test]
fn stack_and_memo() {
    assert_eq!(items(b"K\x01q\0K\x020h\0\x86."), [Value::Int(1), Value::Int(1)]);
    assert_eq!(
        items(b"K\x01\x94r\x01\0\0\0j\x01\0\0\0\x86."),
        [Value::Int(1), Value::Int(1)]
    );
    assert_eq!(items(b"K\x012\x86."), [Value::Int(1), Value::Int(1)]);
    assert_eq!(items(b"(K\x01(K\x021t."), [Value::Int(1)]);
    assert_eq!(items(b"]q\0h\0a.").len(), 1, "a list may hold itself");
}

#[test]
fn ordered_dict_with_attributes() {
    let body = b"ccollections\nOrderedDict\n)RX\x01\0\0\0aK\x01s}X\x09\0\0\0_metadataNsb.";
    let pickle = load(body).ok().unwrap();
    assert_eq!(
        pickle.entries(pickle.root()).collect::<Vec<_>>(),
        [("a", &Value::Int(1))]
    );
    let pickle = load(b"ccollections\nOrderedDict\n]X\x01\0\0\0aK\x01\x86a\x85R.")
        .ok()
        .unwrap();
    assert_eq!(
        pickle.entries(pickle.root()).collect::<Vec<_>>(),
        [("a", &Value::Int(1))]
    );
    assert_eq!(
        reason(b"ccollections\nOrderedDict\n(]K\x01atR."),
        "an entry of a dict is not a pair"
    );
}

#[test]
fn tensors_and_parameters() {
    let storage = b"(X\x07\0\0\0storagectorch\nHalfStorage\nX\x02\0\0\x0012X\x03\0\0\0cpuK\x08tQ";
    let arguments = [b"(".as_slice(), storage, b"K\x02K\x01K\x03\x86K\x03K\x01\x86\x89Nt"].concat();
    let tensor = [b"ctorch._utils\n_rebuild_tensor_v2\n", arguments.as_slice(), b"R"].concat();
    let parameter = [
        b"ctorch._utils\n_rebuild_parameter\n",
        tensor.as_slice(),
        b"\x89N\x87R.",
    ]
    .concat();
    let subclass = [
        b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\nctorch.nn.parameter\nParameter\n",
        arguments.as_slice(),
        b"}tR.",
    ]
    .concat();
    for body in [[tensor.as_slice(), b"."].concat(), parameter, subclass] {
        let pickle = load(&body).unwrap_or_else(|e| panic!("{e:?}"));
        let Value::Tensor(tensor) = pickle.root() else {
            panic!("{:?}", pickle.root())
        };
        assert_eq!(
            (tensor.offset, tensor.shape.as_slice(), tensor.strides.as_slice()),
            (2, &[1, 3][..], &[3, 1][..])
        );
        assert_eq!(tensor.element, crate::checkpoint::element::Element::F16);
        let Value::Storage(storage) = pickle.value(tensor.storage) else {
            panic!()
        };
        assert_eq!((storage.key.as_str(), storage.count), ("12", 8));
    }
}

#[test]
fn negated_views_are_refused() {
    let storage = b"(X\x07\0\0\0storagectorch\nHalfStorage\nX\x02\0\0\x0012X\x03\0\0\0cpuK\x08tQ";
    let tensor = [
        b"ctorch._utils\n_rebuild_tensor_v2\n(",
        storage.as_slice(),
        b"K\0K\x01\x85K\x01\x85\x89N",
    ]
    .concat();
    assert!(load(&[tensor.as_slice(), b"}tR."].concat()).is_ok());
    let negated = [tensor.as_slice(), b"}X\x03\0\0\0neg\x88stR."].concat();
    assert_eq!(reason(&negated), "a tensor is a negated or conjugated view");
}

#[test]
fn everything_else_is_refused_by_name() {
    assert_eq!(reason(b"cos\nsystem\n(X\x02\0\0\0idtR."), "forbidden os.system");
    assert_eq!(reason(b"cposix\nsystem\n."), "forbidden posix.system");
    assert_eq!(
        reason(b"X\x08\0\0\0builtinsX\x04\0\0\0eval\x93."),
        "forbidden builtins.eval"
    );
    assert_eq!(reason(b"(X\x02\0\0\0idios\nsystem\n."), "forbidden os.system");
    assert_eq!(reason(b"ctorch\nload\n."), "forbidden torch.load");
    assert_eq!(reason(b"c\x1b[2Jx\ny\n."), "forbidden \\u{1b}[2Jx.y");
    assert_eq!(reason(b"K\x01)R."), "it calls an integer");
    assert_eq!(reason(b"X\x01\0\0\0xQ."), "a storage is not described by a tuple");
}

#[test]
fn broken_programs_are_refused() {
    for body in [
        &b""[..],
        b".",
        b"0.",
        b"(.",
        b"t.",
        b"e.",
        b"(K\x01d.",
        b"K\x01a.",
        b"K\x01K\x02K\x03s.",
        b"h\x05.",
        b"X\xff\xff\xff\x7f.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x8b\xff\xff\xff\xff.",
        b"\xff.",
        b"I1\n.",
        b"K\x01(2.",
        b"K\x01(0",
        b"cos",
        b"K\x01r\xff\xff\xff\xff.",
        b"ctorch\nFloatStorage\n)R.",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
    ] {
        assert!(load(body).is_err(), "{body:?}");
    }
    assert!(Pickle::load(b"\x80\x01N.").is_err(), "protocol 1");
}

#[test]
fn bombs_build_no_more_than_they_say() {
    // Each list holds the one before twice: 2^200 leaves when unfolded.
    let mut bomb = b"]q\0".to_vec();
    for _ in 0..200 {
        bomb.extend(b"0](h\0h\0eq\0");
    }
    bomb.push(b'.');
    assert!(load(&bomb).is_ok());
    // A million nested tuples: nothing recurses.
    let deep = [vec![b')'], vec![0x85; 1_000_000], vec![b'.']].concat();
    assert!(load(&deep).is_ok());
    // More values than any model needs.
    let many = [vec![b'N'; MAX_VALUES + 1], vec![b'.']].concat();
    assert_eq!(reason(&many), "it builds too many values");
    // One long list, copied again and again.
    let mut copies = [b"](".as_slice(), &b"NN\x86".repeat(10_000), b"eq\0"].concat();
    copies.extend(b"0ccollections\nOrderedDict\nh\0\x85R".repeat(1_000));
    copies.push(b'.');
    assert_eq!(reason(&copies), "it builds too many values");
}
