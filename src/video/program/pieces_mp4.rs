//! Pieces of mp4: the head of the first, the fragments of all.
//!
//! Boxes are those of ISO/IEC 14496-12; the texts are in the `ilst` of iTunes, as FFmpeg writes and reads it.

use super::super::{Metadata, SOFTWARE, VideoSettings};

/// Joins pieces.
#[derive(Default)]
pub(super) struct Joined {
    /// The description of the pictures (`stsd`) and the units of time in a second; none before the first piece.
    head: Option<(Vec<u8>, u32)>,
    /// Number of the last fragment.
    fragments: u32,
}

impl Joined {
    /// What is written of a piece of `frames` frames that begins with frame `first`.
    ///
    /// # Errors
    /// When it is no such piece.
    pub fn take(
        &mut self,
        piece: &[u8],
        (first, frames): (u64, u64),
        settings: &VideoSettings,
    ) -> Result<Vec<u8>, String> {
        let mut out = Vec::with_capacity(piece.len());
        let mut found = 0;
        for (kind, bytes) in boxes(piece)? {
            match &kind {
                b"moov" => {
                    let head = (described(bytes)?.to_vec(), timescale(bytes)?);
                    match &self.head {
                        None => {
                            out.extend(with_texts(bytes, &settings.metadata)?);
                            self.head = Some(head);
                        }
                        Some(known) if *known == head => {}
                        Some(_) => return Err("its pieces differ in how their pictures are coded".to_owned()),
                    }
                }
                b"moof" => {
                    let (_, scale) = self.head.as_ref().ok_or("a fragment comes before its head")?;
                    let start = (first + found) * u64::from(*scale) / u64::from(settings.fps);
                    self.fragments += 1;
                    let (fragment, samples) = moved(bytes, self.fragments, start)?;
                    out.extend(fragment);
                    found += samples;
                }
                b"mdat" => out.extend_from_slice(bytes),
                // Beginnings, once.
                b"ftyp" if self.head.is_none() => out.extend_from_slice(bytes),
                // The end of a piece is not the end of the video.
                _ => {}
            }
        }
        match found == frames {
            true => Ok(out),
            false => Err(format!("there are {found} frames in it instead of {frames}")),
        }
    }
}

type Kind = [u8; 4];

/// The boxes in `bytes`, each whole, with its head.
fn boxes(mut bytes: &[u8]) -> Result<Vec<(Kind, &[u8])>, String> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let broken = || "it is cut off or no mp4".to_owned();
        let (head, _) = bytes.split_first_chunk::<8>().ok_or_else(broken)?;
        let [a, b, c, d, kind @ ..] = *head;
        let size = match u64::from(u32::from_be_bytes([a, b, c, d])) {
            1 => {
                let long = bytes
                    .get(8..16)
                    .and_then(|long| long.first_chunk())
                    .ok_or_else(broken)?;
                u64::from_be_bytes(*long)
            }
            size => size,
        };
        let size = usize::try_from(size)
            .ok()
            .filter(|size| *size >= 8 && *size <= bytes.len());
        let (whole, rest) = bytes.split_at(size.ok_or_else(broken)?);
        all.push((kind, whole));
        bytes = rest;
    }
    Ok(all)
}

/// The content of the box at the end of a way through boxes.
fn inside<'a>(bytes: &'a [u8], way: &[&Kind]) -> Result<&'a [u8], String> {
    let mut content = bytes;
    for wanted in way {
        let found = boxes(content)?.into_iter().find(|(kind, _)| kind == *wanted);
        let (_, found) = found.ok_or_else(|| format!("there is no {} in it", String::from_utf8_lossy(*wanted)))?;
        content = &found[8..];
    }
    Ok(content)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().ok_or_else(|| "a box in it is too short".to_owned())
}

/// How the pictures are coded.
fn described(moov: &[u8]) -> Result<&[u8], String> {
    inside(&moov[8..], &[b"trak", b"mdia", b"minf", b"stbl", b"stsd"])
}

/// Units of time in a second.
fn timescale(moov: &[u8]) -> Result<u32, String> {
    let header = inside(&moov[8..], &[b"trak", b"mdia", b"mdhd"])?;
    let at = if header.first() == Some(&1) { 20 } else { 12 };
    Ok(u32::from_be_bytes(number(header, at)?))
}

/// A fragment with another number and start, in units of time, and how many frames are in it.
fn moved(moof: &[u8], number_of: u32, start: u64) -> Result<(Vec<u8>, u64), String> {
    let mut content = Vec::new();
    let mut samples = 0;
    for (kind, bytes) in boxes(&moof[8..])? {
        match &kind {
            b"mfhd" => content.extend(boxed(b"mfhd", &[&[0; 4][..], &number_of.to_be_bytes()].concat())),
            b"traf" => {
                let mut track = Vec::new();
                for (kind, bytes) in boxes(&bytes[8..])? {
                    if &kind == b"trun" {
                        samples += u64::from(u32::from_be_bytes(number(bytes, 12)?));
                    }
                    match (&kind, bytes.get(8)) {
                        // Only the wide one has room for a long video; places in the fragment are kept.
                        (b"tfdt", Some(1)) => {
                            track.extend(boxed(b"tfdt", &[&[1, 0, 0, 0][..], &start.to_be_bytes()].concat()));
                        }
                        (b"tfdt", _) => return Err("its times are too short".to_owned()),
                        _ => track.extend_from_slice(bytes),
                    }
                }
                content.extend(boxed(b"traf", &track));
            }
            _ => content.extend_from_slice(bytes),
        }
    }
    Ok((boxed(b"moof", &content), samples))
}

fn boxed(kind: &Kind, content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len() + 8).unwrap_or(u32::MAX);
    [&size.to_be_bytes()[..], kind, content].concat()
}

/// The head of a fragmented mp4 with other texts. Nothing in it counts bytes of the file, so it may grow.
///
/// # Errors
/// When it is none.
pub(super) fn with_texts(moov: &[u8], metadata: &Metadata) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    for (kind, bytes) in boxes(&moov[8..])? {
        if &kind != b"udta" {
            content.extend_from_slice(bytes);
        }
    }
    content.extend(texts(metadata));
    Ok(boxed(b"moov", &content))
}

/// The box of the texts.
fn texts(metadata: &Metadata) -> Vec<u8> {
    let program = Some(SOFTWARE.to_owned());
    let items = [
        (b"\xa9nam", &metadata.title),
        (b"\xa9too", &program),
        (b"\xa9cmt", &metadata.comment),
    ];
    let mut list = Vec::new();
    for (kind, text) in items {
        if let Some(text) = text {
            // Kind 1 is UTF-8; the language is any.
            let data = [&[0, 0, 0, 1, 0, 0, 0, 0][..], text.replace('\0', "").as_bytes()].concat();
            list.extend(boxed(kind, &boxed(b"data", &data)));
        }
    }
    let handler = boxed(b"hdlr", b"\0\0\0\0\0\0\0\0mdirappl\0\0\0\0\0\0\0\0\0");
    let meta = boxed(b"meta", &[&[0; 4][..], &handler, &boxed(b"ilst", &list)].concat());
    boxed(b"udta", &meta)
}

/// The beginning of a fragmented mp4, up to its first fragment, with other texts, and how long it was in the file.
///
/// # Errors
/// When it is none.
pub(super) fn head_with_texts(start: &[u8], metadata: &Metadata) -> Result<(Vec<u8>, u64), String> {
    let mut head = Vec::new();
    let mut rest = start;
    let mut passed = 0;
    while let Some((size, kind)) = rest.split_first_chunk::<4>() {
        let size = u32::from_be_bytes(*size) as usize;
        let whole = rest.get(..size).filter(|_| size >= 8).ok_or("it has no whole head")?;
        passed += size as u64;
        rest = &rest[size..];
        if kind.starts_with(b"moov") {
            head.extend(with_texts(whole, metadata)?);
            return Ok((head, passed));
        }
        head.extend_from_slice(whole);
    }
    Err("it has no head".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moov(scale: u32) -> Vec<u8> {
        let mdhd = boxed(b"mdhd", &[&[0; 12][..], &scale.to_be_bytes(), &[0; 8]].concat());
        let table = boxed(b"minf", &boxed(b"stbl", &boxed(b"stsd", b"avc1")));
        let track = boxed(b"trak", &boxed(b"mdia", &[mdhd, table].concat()));
        boxed(b"moov", &[track, boxed(b"udta", b"old")].concat())
    }

    fn fragment(samples: u32) -> Vec<u8> {
        let run = [&[0, 0, 2, 5][..], &samples.to_be_bytes(), &[0; 4]].concat();
        let track = [
            boxed(b"tfdt", &[&[1, 0, 0, 0][..], &[0; 8]].concat()),
            boxed(b"trun", &run),
        ]
        .concat();
        let header = boxed(b"mfhd", &[0, 0, 0, 0, 0, 0, 0, 1]);
        [
            boxed(b"moof", &[header, boxed(b"traf", &track)].concat()),
            boxed(b"mdat", &[7; 9]),
        ]
        .concat()
    }

    fn piece(scale: u32, samples: &[u32]) -> Vec<u8> {
        let fragments: Vec<u8> = samples.iter().flat_map(|&samples| fragment(samples)).collect();
        [boxed(b"ftyp", b"iso5"), moov(scale), fragments, boxed(b"mfra", b"end")].concat()
    }

    fn settings() -> VideoSettings {
        VideoSettings {
            metadata: Metadata {
                title: Some("a \0ball".into()),
                comment: None,
            },
            ..VideoSettings::new(96, 64)
        }
    }

    #[test]
    fn pieces_follow_each_other() {
        let mut joined = Joined::default();
        let first = joined.take(&piece(16384, &[9]), (0, 9), &settings()).unwrap();
        let kinds = |bytes: &[u8]| boxes(bytes).unwrap().iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
        assert_eq!(kinds(&first), [*b"ftyp", *b"moov", *b"moof", *b"mdat"]);
        let (_, moov) = boxes(&first).unwrap()[1];
        assert!(moov.windows(6).any(|part| part == b"a ball") && !moov.windows(3).any(|part| part == b"old"));
        let second = joined.take(&piece(16384, &[12, 3]), (9, 15), &settings()).unwrap();
        assert_eq!(kinds(&second), [*b"moof", *b"mdat", *b"moof", *b"mdat"]);
        let all = boxes(&second).unwrap();
        for (at, (number_of, start)) in [(0, (2u32, 9 * 1024u64)), (2, (3, 21 * 1024))] {
            let moof = &all[at].1[8..];
            assert_eq!(inside(moof, &[b"mfhd"]).unwrap()[4..], number_of.to_be_bytes());
            assert_eq!(inside(moof, &[b"traf", b"tfdt"]).unwrap()[4..], start.to_be_bytes());
        }
    }

    #[test]
    fn pieces_of_another_kind_or_length_are_refused() {
        let mut joined = Joined::default();
        let refused =
            |joined: &mut Joined, piece: &[u8], frames| joined.take(piece, (0, frames), &settings()).unwrap_err();
        assert!(refused(&mut joined, &piece(16384, &[9]), 8).contains("9 frames in it instead of 8"));
        assert!(refused(&mut joined, &piece(12288, &[9]), 9).contains("differ"));
        let whole = piece(16384, &[9]);
        assert!(refused(&mut Joined::default(), &whole[..whole.len() - 15], 9).contains("cut off"));
        assert!(refused(&mut Joined::default(), b"no mp4 at all", 9).contains("no mp4"));
        assert!(refused(&mut Joined::default(), b"", 9).contains("0 frames"));
    }

    #[test]
    fn texts_may_be_changed_later() {
        let file = piece(16384, &[9]);
        let (head, passed) = head_with_texts(&file, &settings().metadata).unwrap();
        assert_eq!(&file[passed as usize..][4..8], b"moof");
        assert!(head.windows(6).any(|part| part == b"a ball"));
        assert!(head_with_texts(&file[..40], &Metadata::default()).is_err());
    }
}
