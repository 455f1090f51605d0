//! Numbered PNG pictures, and single pictures: each complete when its name appears.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};

use super::{
    Metadata, VideoError, VideoSettings,
    backend::Backend,
    folders::{Trial, beside, check_name, folder_of, make_folder_of},
    pattern::Pattern,
};
use crate::files;

/// Writes each frame as a PNG file.
pub(super) struct PictureFiles {
    pattern: Pattern,
    size: (u32, u32),
    /// The first picture and the metadata in it, for metadata that is set later.
    first: Option<(Vec<u8>, Metadata)>,
    /// Bytes of all pictures.
    bytes: Arc<AtomicU64>,
}

impl PictureFiles {
    pub fn new(pattern: Pattern, settings: &VideoSettings, bytes: Arc<AtomicU64>) -> Self {
        Self {
            pattern,
            size: (settings.width, settings.height),
            first: None,
            bytes,
        }
    }

    fn write(&mut self, rgb: &[u8], at: u64, metadata: &Metadata) -> io::Result<()> {
        let path = self.pattern.picture(at);
        let bytes = write_whole(&path, &self.pattern.partial(), |file| {
            encode_png(file, self.size, rgb, metadata)
        })?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Backend for PictureFiles {
    /// The first picture replaces all of an older video of the same names: a mixture would be worse than a short one.
    fn push(&mut self, rgb: &[u8], at: u64, metadata: &Metadata) -> io::Result<()> {
        if at > 0 {
            return self.write(rgb, at, &Metadata::default());
        }
        for (_, old) in self.pattern.existing()? {
            fs::remove_file(old)?;
        }
        self.write(rgb, 0, metadata)?;
        self.first = Some((rgb.to_vec(), metadata.clone()));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn close(&mut self, metadata: &Metadata) -> io::Result<()> {
        match self.first.take() {
            Some((rgb, written)) if written != *metadata => self.write(&rgb, 0, metadata),
            _ => Ok(()),
        }
    }
}

/// Saves one RGB picture as `.png` or `.jpg`; complete when its name appears.
///
/// # Errors
/// [`VideoError`]: as [`check_picture`], pixels that are not `width * height * 3` bytes, a full disk.
pub fn save_picture(path: &Path, width: u32, height: u32, rgb: &[u8], overwrite: bool) -> Result<(), VideoError> {
    let jpeg = check_picture(path, overwrite)?;
    make_folder_of(path)?;
    let reason = match rgb.len() as u64 == u64::from(width) * u64::from(height) * 3 && !rgb.is_empty() {
        false => format!("{} bytes are no {width}x{height} RGB picture", rgb.len()),
        true => {
            let written = write_whole(path, &partial_of(path), |file| match jpeg {
                true => encode_jpeg(file, (width, height), rgb),
                false => encode_png(file, (width, height), rgb, &Metadata::default()),
            });
            match written {
                Ok(_) => return Ok(()),
                Err(error) => error.to_string(),
            }
        }
    };
    let path = path.to_owned();
    Err(VideoError::Picture { path, reason })
}

/// Checks, before any work is done, that a picture can be saved to `path`. Returns whether it would be a JPEG.
///
/// # Errors
/// [`VideoError`]: another extension than `.png`, `.jpg` or `.jpeg`, a folder, a file that exists while `overwrite` is
/// false, a folder that is missing or may not be written to.
pub fn check_picture(path: &Path, overwrite: bool) -> Result<bool, VideoError> {
    let owned = || path.to_owned();
    let extension = path.extension().and_then(|extension| extension.to_str());
    let jpeg = match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("png") => false,
        Some("jpg" | "jpeg") => true,
        _ => return Err(VideoError::PictureExtension { path: owned() }),
    };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(VideoError::IsFolder {
                path: owned(),
                example: path.join("picture.png"),
            });
        }
        Ok(found) if !found.is_file() => return Err(VideoError::NotAFile { path: owned() }),
        Ok(_) if !overwrite => return Err(VideoError::Exists { path: owned() }),
        _ => {}
    }
    let folder = folder_of(path);
    check_name(path)?;
    let _trial = Trial::new(&folder, path)?;
    let probe = partial_of(path);
    let created = files::create(&probe).and_then(|_| fs::remove_file(&probe));
    created.map_err(|source| VideoError::NotWritable { folder, source })?;
    Ok(jpeg)
}

fn partial_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(beside(&name, "partial", ""))
}

/// Writes a file under the name `partial` and gives it its own when it is complete. Returns its size.
fn write_whole(
    path: &Path,
    partial: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<u64> {
    let attempt = || {
        let mut file = BufWriter::new(files::create(partial)?);
        write(&mut file)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let bytes = file.metadata()?.len();
        fs::rename(partial, path)?;
        Ok(bytes)
    };
    let written = attempt();
    if written.is_err() {
        fs::remove_file(partial).ok();
    }
    written
}

/// PNG with the texts in the keywords that its standard names for them.
fn encode_png(to: &mut impl Write, size: (u32, u32), rgb: &[u8], metadata: &Metadata) -> io::Result<()> {
    let mut encoder = png::Encoder::new(to, size.0, size.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    for (keyword, text) in [("Title", &metadata.title), ("Comment", &metadata.comment)] {
        if let Some(text) = text {
            encoder.add_itxt_chunk(keyword.to_owned(), text.replace('\0', ""))?;
        }
    }
    if *metadata != Metadata::default() {
        encoder.add_text_chunk("Software".to_owned(), super::SOFTWARE.to_owned())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    Ok(writer.finish()?)
}

fn encode_jpeg(to: &mut impl Write, size: (u32, u32), rgb: &[u8]) -> io::Result<()> {
    JpegEncoder::new_with_quality(to, 92)
        .write_image(rgb, size.0, size.1, ExtendedColorType::Rgb8)
        .map_err(io::Error::other)
}
