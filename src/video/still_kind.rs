//! Kinds of still pictures that the image reader does not know: their names, and how the camera was held.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use image::metadata::Orientation;

/// Largest EXIF data of a WebP file that is read.
const LARGEST_EXIF: u32 = 1 << 20;

/// What a file that begins like this is, for a message; none for what is no still picture.
pub(super) fn name(start: &[u8]) -> Option<&'static str> {
    let at = |at: usize, mark: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(mark));
    let anywhere = |mark: &[u8]| start.windows(mark.len()).any(|part| part == mark);
    if at(4, b"ftyp") {
        let heif = [
            &b"heic"[..],
            b"heix",
            b"heim",
            b"heis",
            b"hevc",
            b"hevx",
            b"mif1",
            b"msf1",
        ];
        if anywhere(b"avif") || anywhere(b"avis") {
            return Some("an AVIF picture");
        }
        return heif.iter().any(|brand| at(8, brand)).then_some("a HEIC picture");
    }
    if at(0, b"RIFF") && at(8, b"WEBP") {
        let animated = at(12, b"VP8X") && start.get(20).is_some_and(|flags| flags & 2 != 0);
        return Some(if animated {
            "an animated WebP picture"
        } else {
            "a WebP picture"
        });
    }
    let marks: [(&[u8], &str); 9] = [
        (b"\xff\x0a", "a JPEG XL picture"),
        (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
        (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
        (b"8BPS", "a Photoshop picture"),
        (b"%PDF", "a PDF document"),
        (b"<svg", "an SVG drawing"),
        (b"<?xml", "an XML file, perhaps an SVG drawing"),
        (b"II*\0", "a TIFF or raw picture"),
        (b"MM\0*", "a TIFF or raw picture"),
    ];
    marks.iter().find(|(mark, _)| at(0, mark)).map(|(_, name)| *name)
}

/// How the picture is to be turned, by the EXIF data of a TIFF or WebP file, which FFmpeg does not look at.
pub(super) fn orientation(path: &Path, start: &[u8]) -> Option<Orientation> {
    let mut file = File::open(path).ok()?;
    let exif = match start {
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => first_directory(&mut file)?,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp_exif(&mut file)?,
        _ => return None,
    };
    Orientation::from_exif_chunk(&exif)
}

/// The first directory of a TIFF file, moved to the beginning of a file of its own: what EXIF data is.
fn first_directory(file: &mut (impl Read + Seek)) -> Option<Vec<u8>> {
    let mut exif = vec![0; 8];
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_exact(&mut exif).ok()?;
    let little = exif[0] == b'I';
    let at = exif[4..8].try_into().ok()?;
    let at = if little {
        u32::from_le_bytes(at)
    } else {
        u32::from_be_bytes(at)
    };
    exif[4..8].copy_from_slice(&if little { 8u32.to_le_bytes() } else { 8u32.to_be_bytes() });
    file.seek(SeekFrom::Start(at.into())).ok()?;
    let mut count = [0; 2];
    file.read_exact(&mut count).ok()?;
    let entries = if little {
        u16::from_le_bytes(count)
    } else {
        u16::from_be_bytes(count)
    };
    exif.extend(count);
    file.take(u64::from(entries) * 12).read_to_end(&mut exif).ok()?;
    Some(exif)
}

/// The chunk `EXIF` of a WebP file.
fn webp_exif(file: &mut (impl Read + Seek)) -> Option<Vec<u8>> {
    let mut at = 12;
    loop {
        let mut head = [0; 8];
        file.seek(SeekFrom::Start(at)).ok()?;
        file.read_exact(&mut head).ok()?;
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        if head.starts_with(b"EXIF") {
            let mut exif = Vec::new();
            file.take(size.min(LARGEST_EXIF).into()).read_to_end(&mut exif).ok()?;
            // Some writers keep the mark that EXIF data has in JPEG files.
            return Some(exif.strip_prefix(b"Exif\0\0").map_or(exif.clone(), <[u8]>::to_vec));
        }
        at += 8 + u64::from(size) + u64::from(size % 2);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A directory with a width and an orientation.
    fn directory(little: bool, orientation: u16) -> Vec<u8> {
        let short = |value: u16| {
            if little {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let long = |value: u32| {
            if little {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let entry = |tag, value| [&short(tag)[..], &short(3), &long(1), &short(value), &short(0)].concat();
        [&short(2)[..], &entry(0x100, 7), &entry(0x112, orientation), &long(0)].concat()
    }

    fn tiff(little: bool, orientation: u16) -> Vec<u8> {
        let (mark, at) = match little {
            true => (b"II*\0", 20u32.to_le_bytes()),
            false => (b"MM\0*", 20u32.to_be_bytes()),
        };
        [&mark[..], &at, &[9; 12], &directory(little, orientation)].concat()
    }

    #[test]
    fn the_orientation_of_tiff_and_webp_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture");
        let found = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            orientation(&path, &bytes[..bytes.len().min(64)])
        };
        for little in [true, false] {
            assert_eq!(found(&tiff(little, 6)), Some(Orientation::Rotate90));
            assert_eq!(found(&tiff(little, 2)), Some(Orientation::FlipHorizontal));
            assert_eq!(found(&tiff(little, 77)), None);
        }
        let chunk = |name: &[u8; 4], content: &[u8]| {
            let pad = vec![0; content.len() % 2];
            [&name[..], &(content.len() as u32).to_le_bytes(), content, &pad].concat()
        };
        let webp = |exif: &[u8]| {
            let chunks = [chunk(b"VP8X", &[8; 10]), chunk(b"VP8 ", &[1; 5]), chunk(b"EXIF", exif)].concat();
            [&b"RIFF"[..], &(4 + chunks.len() as u32).to_le_bytes(), b"WEBP", &chunks].concat()
        };
        assert_eq!(found(&webp(&tiff(true, 8))), Some(Orientation::Rotate270));
        assert_eq!(
            found(&webp(&[b"Exif\0\0", &tiff(false, 3)[..]].concat())),
            Some(Orientation::Rotate180)
        );
        assert_eq!(found(&webp(b"")), None);
        assert_eq!(found(b"RIFF\0\0\0\0WEBPVP8X"), None);
        assert_eq!(found(b"BM"), None);
    }

    #[test]
    fn sizes_that_cannot_be_end_the_search() {
        let endless = [&b"RIFF\0\0\0\0WEBPVP8X"[..], &u32::MAX.to_le_bytes()].concat();
        assert_eq!(webp_exif(&mut Cursor::new(&endless)), None);
        let far = [&b"II*\0"[..], &u32::MAX.to_le_bytes()].concat();
        assert_eq!(first_directory(&mut Cursor::new(&far)), None);
    }

    #[test]
    fn kinds_are_named() {
        for (start, expected) in [
            (&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], Some("a HEIC picture")),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", Some("an AVIF picture")),
            (b"\0\0\0\x18ftypisom\0\0\0\0isom", None),
            (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02", Some("an animated WebP picture")),
            (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x10", Some("a WebP picture")),
            (b"8BPS\0\x01", Some("a Photoshop picture")),
            (b"no image", None),
            (b"", None),
        ] {
            assert_eq!(name(start), expected, "{start:?}");
        }
    }
}
