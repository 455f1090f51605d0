//! The tables of an mp4, looked at before FFmpeg makes room for what they claim.
//!
//! A few bytes may claim millions of samples of one size, for each of which a reader keeps an entry. No sample is smaller
//! than a byte of the file.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

/// Boxes that hold boxes on the way to the tables.
const ON_THE_WAY: [&[u8; 4]; 5] = [b"moov", b"trak", b"mdia", b"minf", b"stbl"];
/// Samples that any file may claim: their entries take some 50 MB.
const FEW: u64 = 2_000_000;
/// Boxes in each other on the way to a table.
const DEEPEST: u32 = 8;
/// Boxes that are looked at, those of all depths together; more than any film has in its headers.
const MOST_BOXES: usize = 1 << 16;
/// Bytes of a box's size and kind.
const HEAD: u64 = 8;

/// Refuses an mp4 with more samples than bytes; other files pass. Leaves the file at its start.
pub(super) fn check(file: &mut File) -> Result<(), String> {
    let bytes = file.metadata().map_err(|error| error.to_string())?.len();
    let mut looked = 0;
    let checked = look(file, (0, bytes), bytes.max(FEW), DEEPEST, &mut looked);
    file.rewind().map_err(|error| error.to_string())?;
    match checked {
        Ok(None) => Ok(()),
        Ok(Some(samples)) => Err(format!(
            "it is damaged: it claims {samples} frames or pieces of sound, and has {bytes} bytes"
        )),
        // What is cut off here is cut off for FFmpeg, which says so.
        Err(_) => Ok(()),
    }
}

/// The number of samples of a track that has more than `most`, among the boxes from `at` to `end`.
fn look(
    file: &mut (impl Read + Seek),
    (mut at, end): (u64, u64),
    most: u64,
    depth: u32,
    looked: &mut usize,
) -> io::Result<Option<u64>> {
    while end - at >= HEAD && *looked < MOST_BOXES {
        *looked += 1;
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let [a, b, c, d, kind @ ..] = head;
        let (size, inside) = match u64::from(u32::from_be_bytes([a, b, c, d])) {
            0 => (end - at, at + HEAD),
            1 => {
                let mut long = [0; 8];
                file.read_exact(&mut long)?;
                (u64::from_be_bytes(long), at + 2 * HEAD)
            }
            size => (size, at + HEAD),
        };
        if size < inside - at || size > end - at {
            return Ok(None);
        }
        let next = at + size;
        if ON_THE_WAY.contains(&&kind) && depth > 0 {
            if let Some(samples) = look(file, (inside, next), most, depth - 1, looked)? {
                return Ok(Some(samples));
            }
        } else if let Some(samples) = samples_of(file, &kind, inside, next)?.filter(|samples| *samples > most) {
            return Ok(Some(samples));
        }
        at = next;
    }
    Ok(None)
}

/// Samples that a table of sizes claims; none for other boxes.
fn samples_of(file: &mut (impl Read + Seek), kind: &[u8; 4], at: u64, end: u64) -> io::Result<Option<u64>> {
    // Version and flags, the size of all samples or the bits of each, the count.
    if !matches!(kind, b"stsz" | b"stz2") || end - at < 12 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(at + 8))?;
    let mut count = [0; 4];
    file.read_exact(&mut count)?;
    Ok(Some(u32::from_be_bytes(count).into()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let size = (8 + content.len() as u32).to_be_bytes();
        [&size[..], kind, content].concat()
    }

    fn checked(bytes: &[u8]) -> Result<(), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let result = check(&mut file);
        assert_eq!(file.stream_position().unwrap(), 0);
        result
    }

    fn film(samples: u32) -> Vec<u8> {
        let sizes = [&[0, 0, 0, 0, 0, 0, 0, 1], &samples.to_be_bytes()[..]].concat();
        let table = boxed(b"stbl", &[boxed(b"stsd", &[0; 9]), boxed(b"stsz", &sizes)].concat());
        let track = boxed(b"trak", &boxed(b"mdia", &boxed(b"minf", &table)));
        [boxed(b"ftyp", b"isom"), boxed(b"moov", &track)].concat()
    }

    #[test]
    fn more_samples_than_bytes_are_refused() {
        checked(&film(5)).unwrap();
        let said = checked(&film(100_000_000)).unwrap_err();
        assert!(said.contains("claims 100000000") && said.contains("damaged"), "{said}");
    }

    #[test]
    fn other_files_and_pieces_pass() {
        let whole = film(5);
        for end in 0..whole.len() {
            checked(&whole[..end]).unwrap();
        }
        checked(b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\0").unwrap();
        // Boxes in boxes without an end, and sizes beyond the file.
        checked(&b"\0\0\0\0moov".repeat(999)).unwrap();
        checked(&[&b"\0\0\0\x01moov"[..], &u64::MAX.to_be_bytes()].concat()).unwrap();
    }
}
