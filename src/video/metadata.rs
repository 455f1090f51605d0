//! Texts in a video file: the prompt and how the video was made.
//!
//! | form | title and comment are stored as |
//! |---|---|
//! | mp4 | the `©nam` and `©cmt` items that players show, the program in `©too` |
//! | webm | the segment title and the tag `COMMENT`, the program as writing application |
//! | gif | comment extensions that begin with `Title: ` and `Comment: ` |
//! | png | iTXt texts `Title` and `Comment` of the first picture |
//! | y4m, rgb | not at all |

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use super::{VideoError, probe::container_metadata};
use crate::files;

/// Bytes of the longest text that is read from a PNG or GIF: a recipe with prompts of many pages has a tenth. A packed
/// text can be a thousand times as long as the file.
const LONGEST_TEXT: usize = 4 << 20;

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
/// [`VideoError::NoMetadata`] if it has neither title nor comment; [`VideoError::NoFfmpeg`] for a video without FFmpeg.
pub fn read_metadata(path: &Path) -> Result<Metadata, VideoError> {
    let unreadable = |reason: String| VideoError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    if path.is_dir() {
        return Err(unreadable("it is a folder".to_owned()));
    }
    let mut start = [0; 8];
    let mut file = files::open(path).map_err(|error| unreadable(error.to_string()))?;
    let read = file.read(&mut start).map_err(|error| unreadable(error.to_string()))?;
    let metadata = match &start[..read] {
        [] => return Err(unreadable("it is empty".to_owned())),
        PNG => of_png(file).map_err(unreadable)?,
        [b'G', b'I', b'F', b'8', ..] => {
            let comments = gif_comments(BufReader::new(file)).map_err(unreadable)?;
            of_comments(comments.iter().map(|comment| String::from_utf8_lossy(comment)))
        }
        _ => container_metadata(path)?,
    };
    if metadata == Metadata::default() {
        return Err(VideoError::NoMetadata { path: path.to_owned() });
    }
    Ok(metadata)
}

/// The first bytes of every PNG.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The head of a PNG and all its texts, those behind the pixels too.
fn png_texts(mut file: File) -> Result<png::Info<'static>, String> {
    file.rewind().map_err(|error| error.to_string())?;
    let reader = png::Decoder::new(BufReader::new(file)).read_info();
    let mut reader = reader.map_err(|error| error.to_string())?;
    reader.finish().ok();
    Ok(reader.info().clone())
}

fn of_png(file: File) -> Result<Metadata, String> {
    let mut info = png_texts(file)?;
    let mut text = |keyword: &str| {
        if let Some(text) = info.utf8_text.iter_mut().find(|text| text.keyword == keyword) {
            let packed = text.decompress_text_with_limit(LONGEST_TEXT);
            return packed_text(packed.and_then(|()| text.get_text()));
        }
        let mut compressed = info.compressed_latin1_text.iter_mut();
        if let Some(text) = compressed.find(|text| text.keyword == keyword) {
            let packed = text.decompress_text_with_limit(LONGEST_TEXT);
            return packed_text(packed.and_then(|()| text.get_text()));
        }
        let mut plain = info.uncompressed_latin1_text.iter();
        Ok(plain.find(|text| text.keyword == keyword).map(|text| text.text.clone()))
    };
    Ok(Metadata {
        title: text("Title")?,
        comment: text("Comment")?,
    })
}

/// Refuses a PNG whose texts FFmpeg, which unpacks them all, would unpack into more than there is room for. Other files
/// pass, and damaged ones.
pub(super) fn check_png(file: &File) -> Result<(), String> {
    let mut file = file.try_clone().map_err(|error| error.to_string())?;
    let mut start = [0; PNG.len()];
    let known = file.rewind().and_then(|()| file.read_exact(&mut start));
    if known.is_err() || start != *PNG {
        return Ok(());
    }
    let Ok(mut info) = png_texts(file) else { return Ok(()) };
    for text in &mut info.utf8_text {
        packed_text(text.decompress_text_with_limit(LONGEST_TEXT))?;
    }
    for text in &mut info.compressed_latin1_text {
        packed_text(text.decompress_text_with_limit(LONGEST_TEXT))?;
    }
    Ok(())
}

/// What was unpacked; nothing of a text that is damaged.
fn packed_text<T>(unpacked: Result<T, png::DecodingError>) -> Result<Option<T>, String> {
    match unpacked {
        Ok(text) => Ok(Some(text)),
        Err(png::DecodingError::Format(error)) if error.to_string().contains("decompression space") => Err(too_long()),
        Err(_) => Ok(None),
    }
}

fn too_long() -> String {
    format!("its text is longer than {} MB", LONGEST_TEXT >> 20)
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

/// The comment extensions of a GIF, as far as it is whole; pictures are passed over.
fn gif_comments(mut gif: impl BufRead + Seek) -> Result<Vec<Vec<u8>>, String> {
    let mut comments = Vec::new();
    match walk_gif(&mut gif, &mut comments) {
        Err(GifEnd::TooLong) => Err(too_long()),
        // Ends at the end marker, or where the file ends.
        Ok(()) | Err(GifEnd::Io) => Ok(comments),
    }
}

/// Why a GIF is not read any further.
enum GifEnd {
    Io,
    TooLong,
}

impl From<io::Error> for GifEnd {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

fn walk_gif(gif: &mut (impl BufRead + Seek), comments: &mut Vec<Vec<u8>>) -> Result<(), GifEnd> {
    const PALETTE: u8 = 0x80;
    const COMMENT_LABEL: u8 = 0xfe;
    let palette_bytes = |flags: u8| match flags & PALETTE {
        0 => 0,
        _ => 3i64 << ((flags & 7) + 1),
    };
    gif.seek(SeekFrom::Start(10))?;
    let flags = byte(gif)?;
    gif.seek_relative(2 + palette_bytes(flags))?;
    loop {
        match byte(gif)? {
            b'!' => match byte(gif)? {
                COMMENT_LABEL => {
                    let known: usize = comments.iter().map(Vec::len).sum();
                    comments.push(sub_blocks(gif, LONGEST_TEXT.saturating_sub(known))?);
                }
                _ => pass_sub_blocks(gif)?,
            },
            b',' => {
                gif.seek_relative(8)?;
                let flags = byte(gif)?;
                // The palette and the size of the codes.
                gif.seek_relative(palette_bytes(flags) + 1)?;
                pass_sub_blocks(gif)?;
            }
            _ => return Ok(()),
        }
    }
}

fn byte(gif: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    gif.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// The data of the sub-blocks that follow.
fn sub_blocks(gif: &mut impl Read, most: usize) -> Result<Vec<u8>, GifEnd> {
    let mut data = Vec::new();
    loop {
        let size = usize::from(byte(gif)?);
        if size == 0 {
            return Ok(data);
        }
        if data.len() + size > most {
            return Err(GifEnd::TooLong);
        }
        let before = data.len();
        data.resize(before + size, 0);
        gif.read_exact(&mut data[before..])?;
    }
}

fn pass_sub_blocks(gif: &mut (impl BufRead + Seek)) -> io::Result<()> {
    loop {
        match byte(gif)? {
            0 => return Ok(()),
            size => gif.seek_relative(size.into())?,
        }
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
            let comments = gif_comments(io::Cursor::new(bytes)).unwrap();
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
    #[test]
    fn comments_without_end_are_refused() {
        let head = b"GIF89a\x02\0\x02\0\0\0\0!\xfe";
        let block = [&[255u8][..], &[b'x'; 255]].concat();
        let bytes = [&head[..], &block.repeat(LONGEST_TEXT / 255 + 1), &[0]].concat();
        let said = gif_comments(io::Cursor::new(&bytes)).unwrap_err();
        assert!(said.contains("longer than 4 MB"), "{said}");
        // In many comments as well.
        let many = [
            &head[..],
            &[&block[..], &[0], b"!\xfe"].concat().repeat(LONGEST_TEXT / 255 + 1),
        ]
        .concat();
        assert!(gif_comments(io::Cursor::new(&many)).is_err());
    }

    /// A PNG with a packed text, in Latin-1 or UTF-8.
    fn with_text(latin: bool, length: usize) -> File {
        let text = "a".repeat(length);
        let mut bytes = Vec::new();
        let encoder = png::Encoder::new(&mut bytes, 1, 1);
        let mut writer = encoder.write_header().unwrap();
        match latin {
            true => {
                let mut chunk = png::text_metadata::ZTXtChunk::new("Comment", text);
                chunk.compress_text().unwrap();
                writer.write_text_chunk(&chunk).unwrap();
            }
            false => {
                let mut chunk = png::text_metadata::ITXtChunk::new("Comment", text);
                chunk.compressed = true;
                chunk.compress_text().unwrap();
                writer.write_text_chunk(&chunk).unwrap();
            }
        }
        writer.write_image_data(&[0]).unwrap();
        writer.finish().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &bytes).unwrap();
        file
    }

    #[test]
    fn packed_texts_are_unpacked_up_to_a_limit() {
        for latin in [true, false] {
            let short = with_text(latin, 1000);
            check_png(&short).unwrap();
            assert_eq!(of_png(short).unwrap().comment.unwrap().len(), 1000);
            let long = with_text(latin, 60_000_000);
            assert!(long.metadata().unwrap().len() < 300_000);
            for said in [check_png(&long).unwrap_err(), of_png(long).unwrap_err()] {
                assert!(said.contains("longer than 4 MB"), "{said}");
            }
        }
        let mut other = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut other, b"\x89PNG, nearly").unwrap();
        check_png(&other).unwrap();
    }
}
