//! What a file is, judged by its first bytes.

use std::fmt;

/// Kind of a file by content; names in messages come from [`fmt::Display`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileKind {
    Empty,
    Safetensors,
    /// A zip archive: what `torch.save` writes since PyTorch 1.6.
    Zip,
    /// The format of `torch.save` before 1.6, or with `_use_new_zipfile_serialization=False`.
    LegacyTorch,
    Pickle,
    Gguf,
    Gzip,
    Hdf5,
    LfsPointer,
    Html,
    Json,
    /// Other text, with its first line.
    Text(String),
    Unknown,
}

/// The magic number 0x1950a86a20f9469cfc6c, pickled: `torch.save` before 1.6 starts with it after the protocol byte.
const LEGACY_TORCH_MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// No header of a model file is longer; the same limit as in the `safetensors` crate.
const MAX_SAFETENSORS_HEADER: u64 = 100_000_000;

impl FileKind {
    /// Judges the content; only the first kilobyte is looked at.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let head = bytes.get(..1024).unwrap_or(bytes);
        match head {
            [] => Self::Empty,
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Self::Zip,
            [0x80, 0..=5, rest @ ..] if rest.starts_with(LEGACY_TORCH_MAGIC) => Self::LegacyTorch,
            _ if head.get(257..262) == Some(b"ustar") => Self::LegacyTorch,
            [0x80, 2..=5, ..] => Self::Pickle,
            [b'G', b'G', b'U', b'F', ..] => Self::Gguf,
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x89, b'H', b'D', b'F', ..] => Self::Hdf5,
            [a, b, c, d, e, f, g, h, b'{', ..]
                if u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) <= MAX_SAFETENSORS_HEADER =>
            {
                Self::Safetensors
            }
            _ => Self::of_text(head),
        }
    }

    fn of_text(head: &[u8]) -> Self {
        // The window may cut a character in two.
        let text = match std::str::from_utf8(head) {
            Ok(text) => text,
            Err(error) if error.error_len().is_none() && head.len() == 1024 => {
                std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
            }
            Err(_) => return Self::Unknown,
        };
        if text.contains(|c: char| c.is_control() && !c.is_whitespace()) {
            return Self::Unknown;
        }
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let lower = text.to_ascii_lowercase();
        if text.starts_with("version https://git-lfs") {
            Self::LfsPointer
        } else if ["<!doctype", "<html", "<?xml", "<head", "<body"]
            .iter()
            .any(|tag| lower.starts_with(tag))
        {
            Self::Html
        } else if text.starts_with(['{', '[']) {
            Self::Json
        } else {
            let line = text.lines().next().unwrap_or_default().trim_end();
            Self::Text(line.chars().take(60).collect())
        }
    }

    /// What to do with a file of this kind in place of a model file.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Safetensors => "rename it so that its name ends in `.safetensors`",
            Self::Zip => "rename it so that its name ends in `.pt` or `.pth`",
            Self::LegacyTorch | Self::Pickle => {
                "load it in PyTorch and save its state dict again with a current `torch.save` or as `.safetensors`"
            }
            Self::LfsPointer => "fetch the real file with `git lfs pull` or download it from its repository",
            Self::Html | Self::Text(_) => {
                "the server sent a page in place of the file: check the address and whether the repository asks for a \
                 log-in, then download it again"
            }
            Self::Gzip => "unpack it first",
            Self::Gguf => "rename it so that its name ends in `.gguf`",
            Self::Hdf5 => "get the `.safetensors` or `.pt` version of the model",
            Self::Json => "name the model file itself, or its `*.safetensors.index.json`",
            Self::Empty | Self::Unknown => "download it again",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Safetensors => f.write_str("a safetensors file"),
            Self::Zip => f.write_str("a zip archive (as `torch.save` writes)"),
            Self::LegacyTorch => {
                f.write_str("a PyTorch file in the old format from before PyTorch 1.6 (not a zip archive)")
            }
            Self::Pickle => f.write_str("a bare Python pickle"),
            Self::Gguf => f.write_str("a GGUF file"),
            Self::Gzip => f.write_str("a gzip archive"),
            Self::Hdf5 => f.write_str("an HDF5 file"),
            Self::LfsPointer => f.write_str("a git-lfs pointer (a stand-in of a few lines, not the file itself)"),
            Self::Html => f.write_str("a web page (HTML)"),
            Self::Json => f.write_str("JSON text"),
            Self::Text(line) => write!(f, "text, beginning with {line:?}"),
            Self::Unknown => f.write_str("of an unknown kind"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_content() {
        let cases: &[(&[u8], FileKind)] = &[
            (b"", FileKind::Empty),
            (b"PK\x03\x04rest", FileKind::Zip),
            (
                b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
                FileKind::LegacyTorch,
            ),
            (b"\x80\x02}q\0.", FileKind::Pickle),
            (b"\x08\0\0\0\0\0\0\0{}      ", FileKind::Safetensors),
            (b"version https://git-lfs.github.com/spec/v1\noid", FileKind::LfsPointer),
            (b"\n <!DOCTYPE html><html>", FileKind::Html),
            (b"{\"error\": 404}", FileKind::Json),
            (b"Entry not found\n", FileKind::Text("Entry not found".into())),
            (b"\0\x01\x02\x03\x04", FileKind::Unknown),
            (b"\xff\xfe\xfd", FileKind::Unknown),
        ];
        for (bytes, kind) in cases {
            assert_eq!(FileKind::of(bytes), *kind);
        }
    }

    #[test]
    fn text_cut_inside_a_character_is_still_text() {
        let text = "é".repeat(600);
        assert!(matches!(
            FileKind::of(&text.as_bytes()[..1023]),
            FileKind::Unknown | FileKind::Text(_)
        ));
        assert!(matches!(FileKind::of(format!("a{text}").as_bytes()), FileKind::Text(_)));
    }
}
