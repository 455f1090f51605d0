//! Pieces of webm: the head of the first, the clusters of all.
//!
//! Elements are those of EBML (RFC 8794) and Matroska (RFC 9559).

use std::{io::Read, path::Path};

use super::super::Metadata;
use crate::files;

const EBML: u32 = 0x1a45_dfa3;
const SEGMENT: u32 = 0x1853_8067;
const TRACKS: u32 = 0x1654_ae6b;
const INFO: u32 = 0x1549_a966;
const WRITING_APP: u32 = 0x5741;
const TAGS: u32 = 0x1254_c367;
const CLUSTER: u32 = 0x1f43_b675;
const TAG: u32 = 0x7373;
const TARGETS: u32 = 0x63c0;
const SIMPLE_TAG: u32 = 0x67c8;
const TAG_NAME: u32 = 0x45a3;
const TAG_STRING: u32 = 0x4487;
const SIMPLE_BLOCK: u32 = 0xa3;
const BLOCK_GROUP: u32 = 0xa0;

/// Joins pieces.
#[derive(Default)]
pub(super) struct Joined {
    /// What the first piece says of its pictures; none before it.
    tracks: Option<Vec<u8>>,
}

impl Joined {
    /// What is written of a piece of `frames` frames, whose times are those of the video.
    ///
    /// # Errors
    /// When it is no such piece.
    pub fn take(&mut self, piece: &[u8], frames: u64, metadata: &Metadata) -> Result<Vec<u8>, String> {
        let (head, clusters) = parted(piece)?;
        let tracks = tracks(head)?;
        let mut out = Vec::with_capacity(piece.len());
        match &self.tracks {
            None => {
                out.extend(with_texts(head, metadata)?);
                self.tracks = Some(tracks);
            }
            Some(known) if *known == tracks => {}
            Some(_) => return Err("its pieces differ in how their pictures are coded".to_owned()),
        }
        let mut found = 0;
        let mut rest = clusters;
        while !rest.is_empty() {
            let (element, behind) = Element::first(rest)?;
            if element.id == CLUSTER {
                found += blocks(element.content)?;
                out.extend_from_slice(element.whole);
            }
            rest = behind;
        }
        match found == frames {
            true => Ok(out),
            false => Err(format!("there are {found} frames in it instead of {frames}")),
        }
    }
}

struct Element<'a> {
    id: u32,
    content: &'a [u8],
    whole: &'a [u8],
    /// Whether it says that it is longer.
    cut: bool,
}

impl<'a> Element<'a> {
    /// The first element of `bytes` and what is behind it. One of unknown size reaches to the end.
    fn first(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), String> {
        match Self::begun(bytes)? {
            (element, _) if element.cut => Err(broken()),
            whole => Ok(whole),
        }
    }

    /// The same of an element that may be cut off.
    fn begun(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), String> {
        let first = *bytes.first().ok_or_else(broken)?;
        let id_bytes = first.leading_zeros() as usize + 1;
        let id = bytes.get(..id_bytes).filter(|_| id_bytes <= 4).ok_or_else(broken)?;
        let id = id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
        let size = &bytes[id_bytes..];
        let size_bytes = size.first().ok_or_else(broken)?.leading_zeros() as usize + 1;
        let size = size.get(..size_bytes).filter(|_| size_bytes <= 8).ok_or_else(broken)?;
        let value = size.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let most = (1u64 << (7 * size_bytes)) - 1;
        let head = id_bytes + size_bytes;
        let content = &bytes[head..];
        let length = match value & most {
            unknown if unknown == most => content.len(),
            length => usize::try_from(length).unwrap_or(usize::MAX),
        };
        let cut = length > content.len();
        let length = length.min(content.len());
        let (whole, rest) = bytes.split_at(head + length);
        let content = &content[..length];
        let element = Self {
            id,
            content,
            whole,
            cut,
        };
        Ok((element, rest))
    }
}

fn broken() -> String {
    "it is cut off or no webm".to_owned()
}

/// All that stands before the first cluster, and the rest.
fn parted(piece: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let (head, segment) = Element::first(piece)?;
    let (segment, _) = Element::first(segment)?;
    if head.id != EBML || segment.id != SEGMENT {
        return Err("it is no webm".to_owned());
    }
    let mut rest = segment.content;
    while !rest.is_empty() {
        let (element, behind) = Element::first(rest)?;
        if element.id == CLUSTER {
            break;
        }
        rest = behind;
    }
    Ok(piece.split_at(piece.len() - rest.len()))
}

/// The description of the pictures in a head. The number that a track is known by is drawn for every file.
fn tracks(head: &[u8]) -> Result<Vec<u8>, String> {
    const NUMBER: [u8; 3] = [0x73, 0xc5, 0x88];
    let (_, segment) = Element::first(head)?;
    let (segment, _) = Element::first(segment)?;
    let mut rest = segment.content;
    while !rest.is_empty() {
        let (element, behind) = Element::first(rest)?;
        if element.id == TRACKS {
            let mut tracks = element.whole.to_vec();
            let number = tracks.windows(3).position(|part| part == NUMBER);
            let drawn = number.and_then(|at| tracks.get_mut(at + 3..at + 11));
            drawn.into_iter().for_each(|drawn| drawn.fill(0));
            return Ok(tracks);
        }
        rest = behind;
    }
    Err("there are no tracks in it".to_owned())
}

/// Frames in a cluster.
fn blocks(mut cluster: &[u8]) -> Result<u64, String> {
    let mut found = 0;
    while !cluster.is_empty() {
        let (element, rest) = Element::first(cluster)?;
        found += u64::from(matches!(element.id, SIMPLE_BLOCK | BLOCK_GROUP));
        cluster = rest;
    }
    Ok(found)
}

/// A head with the texts behind it, which must not be in it yet.
fn with_texts(head: &[u8], metadata: &Metadata) -> Result<Vec<u8>, String> {
    let (beginning, segment) = Element::first(head)?;
    let (segment, _) = Element::first(segment)?;
    // In a segment of known size, nothing could be added.
    let start = segment.content.as_ptr() as usize - head.as_ptr() as usize;
    let size = &head[beginning.whole.len() + 4..start];
    let unknown = size.first().is_some_and(|first| *first == 0xff >> (size.len() - 1))
        && size[1..].iter().all(|byte| *byte == 0xff);
    if !unknown {
        return Err("its segment has a fixed size".to_owned());
    }
    let texts = [("TITLE", &metadata.title), ("COMMENT", &metadata.comment)];
    let tags: Vec<u8> = texts
        .into_iter()
        .filter_map(|(name, text)| {
            let text = text.as_ref()?.replace('\0', "");
            let name = element(TAG_NAME, name.as_bytes());
            Some(element(
                SIMPLE_TAG,
                &[name, element(TAG_STRING, text.as_bytes())].concat(),
            ))
        })
        .flatten()
        .collect();
    if tags.is_empty() {
        return Ok(head.to_vec());
    }
    let tag = element(TAG, &[element(TARGETS, &[]), tags].concat());
    Ok([head, &element(TAGS, &tag)].concat())
}

fn element(id: u32, content: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    let id = &id[id.iter().take_while(|byte| **byte == 0).count()..];
    // Always in eight bytes.
    let size = (1u64 << 56 | content.len() as u64).to_be_bytes();
    [id, &size, content].concat()
}

/// The beginning of a webm up to its first cluster, with other texts, and how long it was in the file.
///
/// # Errors
/// When it is none.
pub(super) fn head_with_texts(start: &[u8], metadata: &Metadata) -> Result<(Vec<u8>, u64), String> {
    let (beginning, segment) = Element::first(start)?;
    if beginning.id != EBML {
        return Err("it is no webm".to_owned());
    }
    let (segment, _) = Element::first(segment)?;
    let mut head = start[..start.len() - segment.content.len()].to_vec();
    let mut rest = segment.content;
    while !rest.is_empty() {
        // The first cluster may be cut off where the beginning is.
        if rest.starts_with(&CLUSTER.to_be_bytes()) {
            break;
        }
        let (element, behind) = Element::first(rest)?;
        // All tags are of what was written here.
        if element.id != TAGS {
            head.extend_from_slice(element.whole);
        }
        rest = behind;
    }
    Ok((with_texts(&head, metadata)?, (start.len() - rest.len()) as u64))
}

/// The program that wrote a file, as it says at its beginning.
pub(super) fn writing_app(path: &Path) -> Option<String> {
    let mut start = Vec::new();
    files::open(path).ok()?.take(1 << 20).read_to_end(&mut start).ok()?;
    let (_, segment) = Element::first(&start).ok()?;
    let mut content = segment;
    for wanted in [SEGMENT, INFO, WRITING_APP] {
        content = loop {
            let (element, rest) = Element::begun(content).ok()?;
            if element.id == wanted {
                break element.content;
            }
            content = rest;
        };
    }
    Some(String::from_utf8_lossy(content).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(frames: usize) -> Vec<u8> {
        element(
            CLUSTER,
            &[element(0xe7, &[5]), element(SIMPLE_BLOCK, b"frame").repeat(frames)].concat(),
        )
    }

    fn piece(coded: &[u8], frames: &[usize]) -> Vec<u8> {
        let clusters: Vec<u8> = frames.iter().flat_map(|&frames| cluster(frames)).collect();
        let segment = [&SEGMENT.to_be_bytes()[..], &[1, 255, 255, 255, 255, 255, 255, 255]].concat();
        let tags = element(TAGS, b"");
        [element(EBML, b"webm"), segment, element(TRACKS, coded), tags, clusters].concat()
    }

    fn metadata(title: &str) -> Metadata {
        Metadata {
            title: Some(title.into()),
            comment: Some("recipe".into()),
        }
    }

    fn holds(bytes: &[u8], text: &str) -> bool {
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    }

    #[test]
    fn pieces_follow_each_other() {
        let mut joined = Joined::default();
        let first = joined.take(&piece(b"vp9", &[9]), 9, &metadata("a \0ball")).unwrap();
        assert!(holds(&first, "a ball") && holds(&first, "recipe") && first.ends_with(&cluster(9)));
        let second = joined.take(&piece(b"vp9", &[10, 2]), 12, &metadata("")).unwrap();
        assert_eq!(second, [cluster(10), cluster(2)].concat());
        // As files have it.
        let (head, passed) = head_with_texts(&first, &metadata("another")).unwrap();
        assert!(holds(&head, "another") && !holds(&head, "a ball"));
        assert_eq!(&first[passed as usize..], cluster(9));
    }

    #[test]
    fn pieces_of_another_kind_or_length_are_refused() {
        let mut joined = Joined::default();
        let refused =
            |joined: &mut Joined, piece: &[u8], frames| joined.take(piece, frames, &metadata("")).unwrap_err();
        assert!(refused(&mut joined, &piece(b"vp9", &[9]), 8).contains("9 frames in it instead of 8"));
        assert!(refused(&mut joined, &piece(b"vp8", &[9]), 9).contains("differ"));
        let whole = piece(b"vp9", &[9]);
        for broken in [&whole[..whole.len() - 2], b"no webm at all", b"", &whole[..30]] {
            assert!(joined.take(broken, 9, &metadata("")).is_err());
        }
    }
}
