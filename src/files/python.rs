//! The Python environment that this program is installed in: what other packages brought there.
//!
//! A wheel puts programs into `bin`; `lib/python3.N/site-packages` is beside it, also when the environment was moved.

use std::path::{Path, PathBuf};

/// Libraries of NVIDIA's packages of this name.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(crate) fn nvidia_libraries(file: &str) -> Vec<PathBuf> {
    let program = std::env::current_exe().ok();
    let packages = program.as_deref().and_then(Path::parent).map(site_packages);
    packages
        .into_iter()
        .flatten()
        .flat_map(|packages| nvidia_in(&packages, file))
        .collect()
}

fn nvidia_in(packages: &Path, file: &str) -> Vec<PathBuf> {
    let folders = inside(&packages.join("nvidia"), "");
    let files = folders.into_iter().map(|folder| folder.join("lib").join(file));
    files.filter(|path| path.is_file()).collect()
}

/// Programs that the package imageio-ffmpeg brought into the environment whose programs are in `folder`.
pub(crate) fn ffmpeg_programs(folder: &Path) -> Vec<PathBuf> {
    let packages = site_packages(folder).into_iter();
    packages
        .flat_map(|packages| inside(&packages.join("imageio_ffmpeg/binaries"), "ffmpeg-"))
        .collect()
}

/// Folders of packages of the environment whose programs are in `folder`.
fn site_packages(folder: &Path) -> Vec<PathBuf> {
    let Some(environment) = folder.parent() else {
        return Vec::new();
    };
    let mut libraries = inside(&environment.join("lib"), "python3");
    libraries.push(environment.join("Lib"));
    libraries
        .iter()
        .map(|library| library.join("site-packages"))
        .filter(|packages| packages.is_dir())
        .collect()
}

/// What is in a folder and has a name that begins so, in the order of names.
fn inside(folder: &Path, begins: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(begins.as_bytes()))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_found_beside_the_programs_of_an_environment() {
        let root = tempfile::tempdir().unwrap();
        let packages = root.path().join("lib/python3.12/site-packages");
        for file in [
            "imageio_ffmpeg/binaries/ffmpeg-linux-x86_64-v7.0.2",
            "imageio_ffmpeg/binaries/README.md",
            "nvidia/cu13/lib/libcublas.so.13",
            "nvidia/cudnn/lib/libcudnn.so.9",
        ] {
            std::fs::create_dir_all(packages.join(file).parent().unwrap()).unwrap();
            std::fs::write(packages.join(file), "").unwrap();
        }
        let bin = root.path().join("bin");
        let ffmpeg = packages.join("imageio_ffmpeg/binaries/ffmpeg-linux-x86_64-v7.0.2");
        assert_eq!(ffmpeg_programs(&bin), [ffmpeg]);
        assert_eq!(site_packages(&bin), std::slice::from_ref(&packages));
        assert_eq!(
            nvidia_in(&packages, "libcudnn.so.9"),
            [packages.join("nvidia/cudnn/lib/libcudnn.so.9")]
        );
        assert!(nvidia_in(&packages, "libcurand.so.10").is_empty());
        assert!(ffmpeg_programs(&root.path().join("elsewhere/bin")).is_empty());
        assert!(site_packages(Path::new("/")).is_empty());
    }
}
