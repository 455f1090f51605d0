//! The toy model that is part of the program: unpacked once, for those who have not downloaded any other.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::files;

/// A file of the bundled model.
struct Bundled {
    name: &'static str,
    content: &'static [u8],
    /// Part of the folder's name, so that every version of the model has its own.
    sha256: &'static str,
}

#[cfg(feature = "bundled-model")]
macro_rules! bundled {
    ($($name:literal $sha256:literal,)*) => {
        &[$(Bundled {
            name: $name,
            content: include_bytes!(concat!("../../weights/toy/", $name)),
            sha256: $sha256,
        }),*]
    };
}

#[cfg(feature = "bundled-model")]
const FILES: &[Bundled] = bundled! {
    "config.json" "86af1f9825fb3b719c194b35a1614d6f78b7fa7f8f957576f874841a5e033e23",
    "diffusion_pytorch_model.safetensors" "37082ce4b8096354c5fb6c9c42208f0dc431ab05c42c3af53013d94175dcfbfd",
    "Wan2.1_VAE.pth" "8969abbb4ac36fdd1b366cba5f9f0ec9d483ffcc44a4724226b7e439b979f304",
    "models_t5_umt5-xxl-enc-bf16.pth" "7fb569847050cae0b4dd3443dddffbcb76a84397e478ee60bddf366d14a0bd05",
    "google/umt5-xxl/tokenizer.json" "42641273f5296ac202d10f5f7f988885d20209b7fb9b2f73e7217c8ef946c4ed",
};
#[cfg(not(feature = "bundled-model"))]
const FILES: &[Bundled] = &[];

/// Whether this program was built with the model in it.
pub const IS_AVAILABLE: bool = !FILES.is_empty();

/// Why the bundled model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundledError {
    #[error(
        "this program was built without the toy model (cargo feature `bundled-model`); give a folder of model files or \
         the name of another model"
    )]
    NotBuiltIn,
    #[error("cannot unpack the toy model to `{}`: {reason}; set DEEPFORCING_CACHE to a folder that can be written", folder.display())]
    Unpack { folder: PathBuf, reason: String },
}

/// The folder of the bundled model, below `cache` or else in the folder for temporary files. Files that are there and
/// intact are not written again.
///
/// # Errors
/// When the program was built without it, or neither folder can be written.
pub fn unpack(cache: Option<&Path>) -> Result<PathBuf, BundledError> {
    if !IS_AVAILABLE {
        return Err(BundledError::NotBuiltIn);
    }
    let name = format!("toy-{}", version());
    let own = cache.map(|cache| cache.join("bundled").join(&name));
    if let Some(folder) = &own {
        match unpack_to(folder) {
            Ok(()) => return Ok(folder.clone()),
            Err(error) => tracing::debug!("cannot unpack the toy model to `{}`: {error}", folder.display()),
        }
    }
    // Anybody may write in the folder for temporary files, so ours must be ours alone.
    let temporary = std::env::temp_dir().join(format!("deepforcing-{}{name}", user()));
    match files::private_folder(&temporary).and_then(|()| unpack_to(&temporary)) {
        Ok(()) => Ok(temporary),
        Err(error) => Err(BundledError::Unpack {
            folder: own.unwrap_or(temporary),
            reason: error.to_string(),
        }),
    }
}

/// The first digits of all hashes.
fn version() -> String {
    FILES
        .iter()
        .map(|file| file.sha256.get(..4).unwrap_or_default())
        .collect()
}

/// The number of the user, where users have one.
#[cfg(unix)]
fn user() -> String {
    format!("{}-", rustix::process::geteuid().as_raw())
}

#[cfg(not(unix))]
fn user() -> String {
    String::new()
}

fn unpack_to(folder: &Path) -> io::Result<()> {
    for file in FILES {
        let path = folder.join(file.name);
        // All of it is compared: a file that another user or a broken disk left must not be taken for ours.
        if files::read(&path, file.content.len() as u64).is_ok_and(|found| found == file.content) {
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // Renamed into place: another process may be reading, or writing the same.
        let draft = path.with_extension(format!("{}.draft", std::process::id()));
        let placed = files::write(&draft, file.content).and_then(|()| fs::rename(&draft, &path));
        if placed.is_err() {
            let _ = fs::remove_file(&draft);
        }
        placed?;
    }
    Ok(())
}

#[cfg(all(test, feature = "bundled-model"))]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::{
        hub::file_hash::hexadecimal,
        models::preset::Preset,
        models::{DecoderKind, ModelFiles},
    };

    #[test]
    fn the_stated_hashes_are_those_of_the_files() {
        for file in FILES {
            let found = hexadecimal(&Sha256::digest(file.content));
            assert_eq!(found, file.sha256, "{}: state its new hash here", file.name);
        }
    }

    #[test]
    fn the_model_is_whole_after_unpacking() {
        let cache = tempfile::tempdir().unwrap();
        let folder = unpack(Some(cache.path())).unwrap();
        assert!(folder.starts_with(cache.path()));
        let names = Preset::load(Preset::BUNDLED).unwrap().files;
        ModelFiles::find(&folder, &names, DecoderKind::Wan).unwrap();
    }

    #[test]
    fn intact_files_stay_and_damaged_ones_are_replaced() {
        let cache = tempfile::tempdir().unwrap();
        let folder = unpack(Some(cache.path())).unwrap();
        let (config, vae) = (folder.join("config.json"), folder.join("Wan2.1_VAE.pth"));
        let changed = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let before = changed(&config);
        let size = fs::metadata(&vae).unwrap().len();
        let mut damaged = fs::read(&vae).unwrap();
        damaged[1000] ^= 1;
        fs::write(&vae, damaged).unwrap();
        assert_eq!(unpack(Some(cache.path())).unwrap(), folder);
        assert_eq!(changed(&config), before);
        let content = fs::read(&vae).unwrap();
        assert_eq!(content.len() as u64, size);
        assert!(FILES.iter().any(|file| file.content == content));
        let left: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(
            left.iter().all(|name| !name.to_string_lossy().contains("draft")),
            "{left:?}"
        );
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_no_obstacle() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // A file where a folder should be.
        let folder = unpack(Some(file.path())).unwrap();
        assert!(folder.starts_with(std::env::temp_dir()) && folder.join("config.json").is_file());
        assert_eq!(unpack(None).unwrap(), folder);
    }
}
