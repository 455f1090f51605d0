//! What a machine has for computing on a GPU.

use std::{fs, path::Path};

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    pub name: String,
    /// Bytes.
    pub memory: u64,
    /// Major and minor number.
    pub compute_capability: (i32, i32),
}

/// A library that this build needs at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// As people call it.
    pub name: &'static str,
    /// File names that would do.
    pub files: &'static [&'static str],
    /// The file that was found.
    pub found: Option<&'static str>,
    /// Its version, if it tells.
    pub version: Option<String>,
    /// What to do when it is missing.
    pub todo: &'static str,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probe {
    /// Whether this build can use a GPU.
    pub built: bool,
    /// CUDA version that this build was made for, as 1000 · major + 10 · minor.
    pub built_for: Option<i32>,
    /// Version of the kernel's NVIDIA driver, known in every build.
    pub kernel_driver: Option<String>,
    /// Highest CUDA version that the driver runs, in the same form as `built_for`.
    pub driver_runs: Option<i32>,
    /// The driver's library first.
    pub libraries: Vec<Library>,
    pub gpus: Vec<Gpu>,
    /// Why GPUs could not be counted.
    pub failure: Option<String>,
}

impl Probe {
    /// Nothing at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// What this machine has. Loads the libraries of CUDA in builds that use them.
    pub fn of_machine() -> Self {
        let mut probe = Self {
            built: cfg!(feature = "cuda"),
            kernel_driver: kernel_driver(Path::new("/proc/driver/nvidia/version")),
            ..Self::default()
        };
        #[cfg(feature = "cuda")]
        super::cuda::probe(&mut probe);
        // Without the feature there is nothing to add.
        let _ = &mut probe;
        probe
    }

    /// What is in the way of using a GPU, and what to do about it.
    pub fn obstacle(&self) -> Option<String> {
        let missing: Vec<&Library> = self
            .libraries
            .iter()
            .filter(|library| library.found.is_none())
            .collect();
        if let Some(first) = missing.first() {
            let names = missing
                .iter()
                .map(|library| format!("{} ({})", library.name, library.files.join(" or ")));
            let names = names.collect::<Vec<_>>().join(", ");
            let plural = if missing.len() == 1 { "is" } else { "are" };
            return Some(format!("{names} {plural} missing: {}", first.todo));
        }
        // Kernels are in a form that the driver compiles, which a driver older than the compiler does not know.
        if let (Some(runs), Some(needed)) = (self.driver_runs, self.built_for)
            && runs < needed
        {
            let driver = self.kernel_driver.as_ref().map(|driver| format!(" {driver}"));
            return Some(format!(
                "the NVIDIA driver{} runs CUDA up to {}, and this program was built for {}: update the driver, or build \
                 with a toolkit of CUDA {} or older",
                driver.unwrap_or_default(),
                version_text(runs),
                version_text(needed),
                version_text(runs)
            ));
        }
        self.failure.clone()
    }
}

/// `13000` is 13.0.
pub fn version_text(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// Version in the first line of the kernel module's file: `NVRM version: NVIDIA UNIX ... Kernel Module  580.65.06 ...`.
fn kernel_driver(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let mut words = text.lines().next()?.split_whitespace();
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    words.find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_its_driver() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("version");
        assert_eq!(kernel_driver(&file), None);
        let lines = [
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12.2",
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs@x)\n",
        ];
        for (line, version) in lines.into_iter().zip(["550.54.15", "580.65.06"]) {
            fs::write(&file, line).unwrap();
            assert_eq!(kernel_driver(&file).as_deref(), Some(version));
        }
        fs::write(&file, "nothing of the kind").unwrap();
        assert_eq!(kernel_driver(&file), None);
    }
}
