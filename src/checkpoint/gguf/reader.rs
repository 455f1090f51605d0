//! Numbers and texts of a header, one after the other; nothing is believed that does not fit into the file.

use std::ops::Range;

/// Deepest nesting of arrays; files have none at all.
const DEEPEST: usize = 4;
/// Elements of an array that is kept: no tensor has more dimensions.
const FEW: usize = 8;
/// Longest name of a tensor or key; those of files have less than 100 bytes.
const LONGEST_NAME: usize = 1 << 10;

/// Where in the header something is wrong, in words.
pub(super) type Fault = String;

/// Reads a file from its begin.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A value of the metadata. Of arrays only their place is kept: the vocabulary of a text encoder has 256,000 texts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    Array(Array),
}

/// Elements of one type.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    /// Number of the type.
    kind: u32,
    pub(super) count: usize,
    /// Bytes of the elements.
    place: Range<usize>,
    /// The elements, where they are few whole numbers: a shape.
    few: Vec<i128>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The byte that is read next.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| {
            format!(
                "its header asks for {count} bytes at byte {}, but the file has {}: it is cut off, or the header is wrong",
                self.at,
                self.bytes.len()
            )
        })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = self.take(N)?;
        Ok(bytes.first_chunk().copied().unwrap_or([0; N]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of things of at least `least` bytes each.
    pub(super) fn count(&mut self, what: &str, least: usize) -> Result<usize, Fault> {
        let count = self.u64()?;
        let most = self.left() / least;
        let fits = usize::try_from(count).ok().filter(|count| *count <= most);
        fits.ok_or_else(|| format!("its header announces {count} {what}, more than the file has room for"))
    }

    fn text(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.count("bytes of a text", 1)?;
        self.take(length)
    }

    /// The name of a key or tensor.
    pub(super) fn name(&mut self) -> Result<String, Fault> {
        let at = self.at;
        let bytes = self.text()?;
        if bytes.len() > LONGEST_NAME {
            return Err(format!("a name at byte {at} of its header has {} bytes", bytes.len()));
        }
        let name = std::str::from_utf8(bytes);
        Ok(name
            .map_err(|_| format!("a name at byte {at} of its header is no text"))?
            .to_string())
    }

    /// A value of the type with this number. Texts that are no UTF-8 are read as well as they can be.
    pub(super) fn value(&mut self, kind: u32) -> Result<Value, Fault> {
        Ok(match kind {
            0 => Value::Integer(self.array::<1>()?[0].into()),
            1 => Value::Integer(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Integer(self.u32()?.into()),
            5 => Value::Integer(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            8 => Value::Text(String::from_utf8_lossy(self.text()?).into_owned()),
            9 => Value::Array(self.skip_array(0)?),
            10 => Value::Integer(self.u64()?.into()),
            11 => Value::Integer(i64::from_le_bytes(self.array()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(unknown_kind(kind, self.at)),
        })
    }

    /// Goes over an array, and says where it was.
    fn skip_array(&mut self, depth: usize) -> Result<Array, Fault> {
        let kind = self.u32()?;
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            // The least bytes of a text, and of an array.
            8 => 8,
            9 => 12,
            _ => return Err(unknown_kind(kind, self.at)),
        };
        let count = self.count("elements of an array", size)?;
        let from = self.at;
        match kind {
            8 => {
                for _ in 0..count {
                    self.text()?;
                }
            }
            9 if depth >= DEEPEST => return Err(format!("an array at byte {from} of its header is nested too deeply")),
            9 => {
                for _ in 0..count {
                    self.skip_array(depth + 1)?;
                }
            }
            _ => drop(self.take(count * size)?),
        }
        let mut array = Array {
            kind,
            count,
            place: from..self.at,
            few: Vec::new(),
        };
        if count <= FEW {
            let numbers = array.values(self.bytes).map(|value| match value {
                Value::Integer(number) => Some(number),
                _ => None,
            });
            array.few = numbers.collect::<Option<_>>().unwrap_or_default();
        }
        Ok(array)
    }
}

impl Array {
    /// The elements as sizes, if they are that.
    pub(super) fn sizes(&self) -> Option<Vec<usize>> {
        let sizes = self.few.iter().map(|number| usize::try_from(*number).ok());
        sizes
            .collect::<Option<Vec<_>>>()
            .filter(|sizes| sizes.len() == self.count)
    }

    /// The elements, read from the bytes of the file.
    pub(super) fn values(&self, file: &[u8]) -> impl Iterator<Item = Value> {
        let mut reader = Reader::new(file.get(self.place.clone()).unwrap_or_default());
        let kind = self.kind;
        (0..self.count).map_while(move |_| reader.value(kind).ok())
    }

    /// The bytes of an array of bytes.
    pub(super) fn bytes<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        matches!(self.kind, 0 | 1).then(|| file.get(self.place.clone()))?
    }
}

fn unknown_kind(kind: u32, at: usize) -> Fault {
    format!("a value before byte {at} of its header has the unknown type {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    #[test]
    fn arrays_are_passed_over_and_read_later() {
        let texts = [
            8u32.to_le_bytes().to_vec(),
            2u64.to_le_bytes().to_vec(),
            text("a"),
            text("é"),
        ]
        .concat();
        let file = [texts.clone(), vec![9]].concat();
        let mut reader = Reader::new(&file);
        let Value::Array(array) = reader.value(9).unwrap() else {
            panic!()
        };
        assert_eq!((array.count, reader.left()), (2, 1));
        let values: Vec<_> = array.values(&file).collect();
        assert_eq!(values, ["a", "é"].map(|text| Value::Text(text.into())));
        assert_eq!(array.bytes(&file), None);
        let numbers = [0u32.to_le_bytes().to_vec(), 3u64.to_le_bytes().to_vec(), vec![7, 8, 9]].concat();
        let Value::Array(array) = Reader::new(&numbers).value(9).unwrap() else {
            panic!()
        };
        assert_eq!(array.bytes(&numbers), Some(&[7, 8, 9][..]));
        assert_eq!(array.values(&numbers).last(), Some(Value::Integer(9)));
    }

    #[test]
    fn what_does_not_fit_into_the_file_is_refused() {
        let long = |kind: u32, count: u64| [kind.to_le_bytes().to_vec(), count.to_le_bytes().to_vec()].concat();
        for (kind, bytes, part) in [
            (10, vec![1; 7], "cut off"),
            (8, u64::MAX.to_le_bytes().to_vec(), "more than the file has room for"),
            (9, long(0, 1 << 60), "more than the file has room for"),
            (9, long(12, 1), "more than the file has room for"),
            (9, long(13, 0), "unknown type 13"),
            (13, vec![], "unknown type 13"),
        ] {
            let said = Reader::new(&bytes).value(kind).unwrap_err();
            assert!(said.contains(part), "{kind}: {said}");
        }
        // Arrays in arrays in arrays…
        let deep = long(9, 1).repeat(2000);
        assert!(Reader::new(&deep).value(9).unwrap_err().contains("nested too deeply"));
        assert!(
            Reader::new(&text(&"x".repeat(2000)))
                .name()
                .unwrap_err()
                .contains("2000 bytes")
        );
        assert!(
            Reader::new(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff])
                .name()
                .unwrap_err()
                .contains("no text")
        );
    }

    #[test]
    fn numbers_are_read_in_their_own_width() {
        for (kind, bytes, value) in [
            (0, vec![255], Value::Integer(255)),
            (1, vec![255], Value::Integer(-1)),
            (3, vec![254, 255], Value::Integer(-2)),
            (7, vec![1], Value::Bool(true)),
            (6, 0.5f32.to_le_bytes().to_vec(), Value::Float(0.5)),
            (10, u64::MAX.to_le_bytes().to_vec(), Value::Integer(u64::MAX.into())),
        ] {
            assert_eq!(Reader::new(&bytes).value(kind), Ok(value));
        }
    }
}
