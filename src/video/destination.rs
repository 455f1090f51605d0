//! Where the bytes of a video go, so that a kill at any moment leaves them readable.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
};

/// A file that is written from front to back, or a stream.
pub(super) enum Destination {
    File(File),
    Stream(Box<dyn Write + Send>),
}

const MOOF: &[u8; 4] = b"moof";

impl Destination {
    /// Writes whole fragments of mp4 (or anything else), and hands them to the operating system.
    ///
    /// # Errors
    /// When the disk or the reader does not take them.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stream(to) => {
                to.write_all(bytes)?;
                to.flush()
            }
            Self::File(file) => {
                let mut rest = bytes;
                while let Some(next) = second_moof(rest) {
                    let (fragment, later) = rest.split_at(next);
                    write_fragment(file, fragment)?;
                    rest = later;
                }
                write_fragment(file, rest)
            }
        }
    }

    pub fn into_write(self) -> Box<dyn Write + Send> {
        match self {
            Self::File(file) => Box::new(file),
            Self::Stream(to) => to,
        }
    }
}

/// Writes a fragment so that a kill in the middle leaves a readable file: players refuse a file that ends within the
/// box `moof` (FFmpeg's reader does), but skip a cut `free` box. So the box is called that until all is written.
fn write_fragment(file: &mut File, fragment: &[u8]) -> io::Result<()> {
    let [a, b, c, d, b'm', b'o', b'o', b'f', rest @ ..] = fragment else {
        return file.write_all(fragment);
    };
    let start = file.stream_position()?;
    file.write_all(&[&[*a, *b, *c, *d], &b"free"[..], rest].concat())?;
    file.seek(SeekFrom::Start(start + 4))?;
    file.write_all(MOOF)?;
    file.seek(SeekFrom::End(0)).map(|_| ())
}

/// Where a fragment begins in `bytes`, other than at the start.
fn second_moof(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let head = bytes.get(at..at + 8)?;
        if at > 0 && head.ends_with(MOOF) {
            return Some(at);
        }
        let size = u32::from_be_bytes(*head.first_chunk()?) as usize;
        at = at.checked_add(size).filter(|_| size >= 8)?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn fragments_are_found_and_written_as_they_are() {
        let boxed = |kind: &[u8; 4], bytes: usize| {
            let size = (8 + bytes as u32).to_be_bytes();
            [&size[..], kind, &vec![7; bytes]].concat()
        };
        let fragments = [
            boxed(b"ftyp", 4),
            boxed(MOOF, 9),
            boxed(b"mdat", 30),
            boxed(MOOF, 5),
            boxed(b"mdat", 1),
        ]
        .concat();
        assert_eq!(second_moof(&fragments), Some(12));
        assert_eq!(second_moof(&fragments[12..]), Some(17 + 38));
        assert_eq!(second_moof(&fragments[12 + 17 + 38..]), None);
        assert_eq!(second_moof(b"\0\0\0\0abcdefgh"), None);
        let mut file = tempfile::tempfile().unwrap();
        let mut destination = Destination::File(file.try_clone().unwrap());
        for part in [&fragments[..12], &fragments[12..], b""] {
            destination.take(part).unwrap();
        }
        let mut written = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut written).unwrap();
        assert_eq!(written, fragments);
    }
}
