//! Texts in a video file: the prompt and how the video was made.
//!
//! | form | title and comment are stored as |
//! |---|---|
//! | mp4 | the `©nam` and `©cmt` items that players show, the program in `©too` |
//! | webm | the segment title and the tag `COMMENT`, the program as writing application |
//! | gif | comment extensions that begin with `Title: ` and `Comment: ` |
//! | png | iTXt texts `Title` and `Comment` of the first picture |
//! | y4m, rgb | not at all |

use std::{fs, io::BufReader, path::Path};

use super::VideoError;

/// Texts stored in the file. NUL characters, which mp4 cannot hold, are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Metadata {
    /// Usually the prompt.
    pub title: Option<String>,
    /// How the video was made: its recipe.
    pub comment: Option<String>,
}

/// Reads title and comment of an mp4, webm, PNG or GIF file (by content, not by name), of a partial file that a killed
/// run left, or of any other kind of video that FFmpeg knows.
///
/// # Errors
/// [`VideoError::Unreadable`] if the file is missing, damaged or neither video nor picture;
/// [`VideoError::NoMetadata`] if it has neither title nor comment; [`VideoError::NoFfmpeg`] for a video in a build
/// without FFmpeg.
pub fn read_metadata(path: &Path) -> Result<Metadata, VideoError> {
    let unreadable = |reason: String| VideoError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    if path.is_dir() {
        return Err(unreadable("it is a folder".to_owned()));
    }
    let mut start = [0; 8];
    let mut file = fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let read = std::io::Read::read(&mut file, &mut start).map_err(|error| unreadable(error.to_string()))?;
    drop(file);
    let metadata = match &start[..read] {
        [] => return Err(unreadable("it is empty".to_owned())),
        b"\x89PNG\r\n\x1a\n" => of_png(path).map_err(unreadable)?,
        [b'G', b'I', b'F', b'8', ..] => {
            let bytes = fs::read(path).map_err(|error| unreadable(error.to_string()))?;
            of_comments(
                gif_comments(&bytes)
                    .iter()
                    .map(|comment| String::from_utf8_lossy(comment)),
            )
        }
        _ => of_container(path)?,
    };
    if metadata == Metadata::default() {
        return Err(VideoError::NoMetadata { path: path.to_owned() });
    }
    Ok(metadata)
}

#[cfg(feature = "ffmpeg")]
fn of_container(path: &Path) -> Result<Metadata, VideoError> {
    super::probe::container_metadata(path)
}

#[cfg(not(feature = "ffmpeg"))]
fn of_container(_path: &Path) -> Result<Metadata, VideoError> {
    Err(VideoError::NoFfmpeg)
}

fn of_png(path: &Path) -> Result<Metadata, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let mut reader = png::Decoder::new(BufReader::new(file))
        .read_info()
        .map_err(|error| error.to_string())?;
    // Texts may stand behind the pixels.
    reader.finish().ok();
    let info = reader.info();
    let text = |keyword: &str| {
        let international = info.utf8_text.iter().find(|text| text.keyword == keyword);
        let compressed = info.compressed_latin1_text.iter().find(|text| text.keyword == keyword);
        let plain = info
            .uncompressed_latin1_text
            .iter()
            .find(|text| text.keyword == keyword);
        international
            .and_then(|text| text.get_text().ok())
            .or_else(|| compressed.and_then(|text| text.get_text().ok()))
            .or_else(|| plain.map(|text| text.text.clone()))
    };
    Ok(Metadata {
        title: text("Title"),
        comment: text("Comment"),
    })
}

const TITLE: &str = "Title: ";
const COMMENT: &str = "Comment: ";

/// The comments of a GIF that stand for `metadata`.
pub(super) fn to_comments(metadata: &Metadata) -> Vec<String> {
    [(TITLE, &metadata.title), (COMMENT, &metadata.comment)]
        .into_iter()
        .filter_map(|(key, text)| Some(format!("{key}{}", text.as_ref()?.replace('\0', ""))))
        .collect()
}

/// The last title and the last comment; a text without our beginning is a comment by another program.
fn of_comments(comments: impl Iterator<Item = impl AsRef<str>>) -> Metadata {
    let mut metadata = Metadata::default();
    for comment in comments {
        let comment = comment.as_ref();
        if let Some(title) = comment.strip_prefix(TITLE) {
            metadata.title = Some(title.to_owned());
        } else {
            metadata.comment = Some(comment.strip_prefix(COMMENT).unwrap_or(comment).to_owned());
        }
    }
    metadata
}

/// The comment extensions of a GIF, as far as it is whole.
fn gif_comments(bytes: &[u8]) -> Vec<Vec<u8>> {
    const PALETTE: u8 = 0x80;
    let palette_bytes = |flags: u8| {
        if flags & PALETTE == 0 {
            0
        } else {
            3 << ((flags & 7) + 1)
        }
    };
    let mut comments = Vec::new();
    let walk = || {
        let mut at = 13 + palette_bytes(*bytes.get(10)?);
        loop {
            match *bytes.get(at)? {
                b'!' => {
                    let (data, next) = sub_blocks(bytes, at + 2)?;
                    if bytes[at + 1] == 0xfe {
                        comments.push(data);
                    }
                    at = next;
                }
                b',' => {
                    let pixels = at + 11 + palette_bytes(*bytes.get(at + 9)?);
                    at = sub_blocks(bytes, pixels)?.1;
                }
                _ => return None,
            }
        }
    };
    // Ends at the end marker, or where the file ends.
    let _: Option<()> = { walk }();
    comments
}

/// The data of the sub-blocks from `at`, and where they end.
fn sub_blocks(bytes: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut data = Vec::new();
    loop {
        let size = usize::from(*bytes.get(at)?);
        at += 1;
        if size == 0 {
            return Some((data, at));
        }
        data.extend_from_slice(bytes.get(at..at + size)?);
        at += size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gif_comments_are_found_among_pictures() {
        let mut encoder = gif::Encoder::new(Vec::new(), 2, 2, &[0, 0, 0, 255, 255, 255]).unwrap();
        let comment = |encoder: &mut gif::Encoder<Vec<u8>>, text: &str| {
            let kind = gif::AnyExtension(0xfe);
            encoder.write_raw_extension(kind, &[text.as_bytes()]).unwrap();
        };
        comment(&mut encoder, "Title: a");
        for _ in 0..2 {
            let frame = gif::Frame::from_rgb_speed(2, 2, &[9; 12], 10);
            encoder.write_frame(&frame).unwrap();
        }
        comment(&mut encoder, &format!("Comment: {}", "x".repeat(1000)));
        comment(&mut encoder, "Title: b");
        let mut bytes = encoder.into_inner().unwrap();
        let read = |bytes: &[u8]| {
            let comments = gif_comments(bytes);
            of_comments(comments.iter().map(|comment| String::from_utf8_lossy(comment)))
        };
        let metadata = read(&bytes);
        assert_eq!(
            (metadata.title.unwrap(), metadata.comment.unwrap().len()),
            ("b".into(), 1000)
        );
        // Cut off within the last one.
        bytes.truncate(bytes.len() - 5);
        assert_eq!(read(&bytes).title.unwrap(), "a");
        assert_eq!(read(&bytes[..9]), Metadata::default());
    }
}
