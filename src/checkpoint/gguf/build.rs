//! GGUF files for tests.

/// A value of the metadata.
#[derive(Clone)]
pub(crate) enum Meta {
    U32(u32),
    U16(u16),
    F32(f32),
    Bool(bool),
    Text(String),
    Bytes(Vec<u8>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Texts(Vec<String>),
}

/// A file in the making; fields may be wrong.
#[derive(Clone)]
pub(crate) struct Gguf {
    pub(crate) version: u32,
    pub(crate) alignment: usize,
    pub(crate) metadata: Vec<(String, Meta)>,
    pub(crate) tensors: Vec<Tensor>,
}

#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// Outermost dimension first.
    pub(crate) shape: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) bytes: Vec<u8>,
    /// In place of the next free one.
    pub(crate) offset: Option<u64>,
}

impl Default for Gguf {
    fn default() -> Self {
        Self {
            version: 3,
            alignment: 32,
            metadata: Vec::new(),
            tensors: Vec::new(),
        }
    }
}

impl Gguf {
    pub(crate) fn with(mut self, key: &str, value: Meta) -> Self {
        self.metadata.push((key.into(), value));
        self
    }

    pub(crate) fn tensor(mut self, name: &str, shape: &[u64], kind: u32, bytes: Vec<u8>) -> Self {
        self.tensors.push(Tensor {
            name: name.into(),
            shape: shape.into(),
            kind,
            bytes,
            offset: None,
        });
        self
    }

    /// A tensor of f32 with the values 0, 1, 2…
    pub(crate) fn floats(self, name: &str, shape: &[u64]) -> Self {
        let count = shape.iter().product::<u64>();
        let bytes = (0..count).flat_map(|value| (value as f32).to_le_bytes()).collect();
        self.tensor(name, shape, 0, bytes)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut head = b"GGUF".to_vec();
        head.extend(self.version.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            text(&mut head, key);
            value.write(&mut head);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            text(&mut head, &tensor.name);
            head.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor
                .shape
                .iter()
                .rev()
                .for_each(|size| head.extend(size.to_le_bytes()));
            head.extend(tensor.kind.to_le_bytes());
            head.extend(tensor.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&tensor.bytes);
            data.resize(data.len().next_multiple_of(self.alignment), 0);
        }
        head.resize(head.len().next_multiple_of(self.alignment), 0);
        head.extend(data);
        head
    }
}

impl Meta {
    fn write(&self, to: &mut Vec<u8>) {
        let mut put = |kind: u32, bytes: &[u8]| {
            to.extend(kind.to_le_bytes());
            to.extend(bytes);
        };
        match self {
            Self::U32(number) => put(4, &number.to_le_bytes()),
            Self::U16(number) => put(2, &number.to_le_bytes()),
            Self::F32(number) => put(6, &number.to_le_bytes()),
            Self::Bool(flag) => put(7, &[u8::from(*flag)]),
            Self::Text(value) => {
                put(8, &[]);
                text(to, value);
            }
            Self::Bytes(values) => put(9, &array(0, values.iter().map(|byte| vec![*byte]))),
            Self::I32s(values) => put(9, &array(5, values.iter().map(|value| value.to_le_bytes().to_vec()))),
            Self::F32s(values) => put(9, &array(6, values.iter().map(|value| value.to_le_bytes().to_vec()))),
            Self::Texts(values) => {
                let texts = values.iter().map(|value| {
                    let mut bytes = Vec::new();
                    text(&mut bytes, value);
                    bytes
                });
                put(9, &array(8, texts));
            }
        }
    }
}

fn array(kind: u32, elements: impl ExactSizeIterator<Item = Vec<u8>>) -> Vec<u8> {
    let count = elements.len() as u64;
    let mut bytes = [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    bytes.extend(elements.flatten());
    bytes
}

fn text(to: &mut Vec<u8>, text: &str) {
    to.extend((text.len() as u64).to_le_bytes());
    to.extend(text.as_bytes());
}
