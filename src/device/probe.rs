//! What a machine has for computing on a GPU.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    pub name: String,
    /// Bytes.
    pub memory: u64,
    /// Major and minor number.
    pub compute_capability: (i32, i32),
}

/// What compiled kernels are for: the `.target` of PTX, such as `sm_80` or `sm_90a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Compute capability, 10 · major + minor.
    capability: i32,
    reach: Reach,
}

/// Which GPUs kernels run on, beside those of their own compute capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// All newer ones.
    Newer,
    /// Newer ones of the same major number (`f`).
    Family,
    /// No others (`a`).
    Only,
}

impl Target {
    /// Reads it off the text of a module.
    pub fn of_ptx(ptx: &str) -> Option<Self> {
        let line = ptx.lines().find_map(|line| line.trim_start().strip_prefix(".target"))?;
        let name = line.trim_start().strip_prefix("sm_")?;
        let end = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
        let reach = match name[end..].chars().next() {
            Some('a') => Reach::Only,
            Some('f') => Reach::Family,
            _ => Reach::Newer,
        };
        let capability = name[..end].parse().ok()?;
        Some(Self { capability, reach })
    }

    fn runs_on(self, (major, minor): (i32, i32)) -> bool {
        let found = 10 * major + minor;
        match self.reach {
            Reach::Newer => found >= self.capability,
            Reach::Family => found >= self.capability && major == self.capability / 10,
            Reach::Only => found == self.capability,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = (self.capability / 10, self.capability % 10);
        match self.reach {
            Reach::Newer => write!(f, "{major}.{minor} and newer"),
            Reach::Family => write!(f, "{major}.{minor} to {major}.9"),
            Reach::Only => write!(f, "{major}.{minor} alone"),
        }
    }
}

/// A library that this build needs at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// As people call it.
    pub name: &'static str,
    /// File names that would do.
    pub files: &'static [&'static str],
    /// The file that was found.
    pub found: Option<PathBuf>,
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
    /// What the kernels of this build are for: this program's and candle's.
    pub kernels: Vec<Target>,
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
        // One GPU that can be used is enough.
        let unfit = (0..self.gpus.len())
            .map(|number| self.unfit(number))
            .collect::<Option<Vec<_>>>();
        let unfit = unfit.and_then(|reasons| reasons.into_iter().next());
        self.failure.clone().or(unfit)
    }

    /// Why a GPU cannot run the kernels of this build.
    pub fn unfit(&self, number: usize) -> Option<String> {
        let gpu = self.gpus.get(number)?;
        let (major, minor) = gpu.compute_capability;
        let target = self.kernels.iter().find(|target| !target.runs_on((major, minor)))?;
        let remedy = match major {
            ..8 => "GPUs older than Ampere (8.0) cannot be used".to_string(),
            _ => format!("build with CUDA_COMPUTE_CAP={major}{minor}"),
        };
        Some(format!(
            "the compute capability of {} is {major}.{minor}, and this program's kernels are for {target}: {remedy}",
            gpu.name
        ))
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
    fn kernels_say_which_gpus_they_run_on() {
        let ptx = |target: &str| format!("//\n// Compiler\n.version 9.0\n.target {target}\n.address_size 64\n");
        for (target, text, runs, not) in [
            (
                "sm_80",
                "8.0 and newer",
                vec![(8, 0), (8, 9), (9, 0), (12, 0)],
                vec![(7, 5)],
            ),
            ("sm_90a", "9.0 alone", vec![(9, 0)], vec![(8, 9), (10, 0), (12, 0)]),
            ("sm_120a, debug", "12.0 alone", vec![(12, 0)], vec![(12, 1), (9, 0)]),
            ("sm_120f", "12.0 to 12.9", vec![(12, 0), (12, 1)], vec![(9, 0), (13, 0)]),
        ] {
            let read = Target::of_ptx(&ptx(target)).unwrap();
            assert_eq!(read.to_string(), text);
            assert!(runs.into_iter().all(|capability| read.runs_on(capability)), "{target}");
            assert!(!not.into_iter().any(|capability| read.runs_on(capability)), "{target}");
        }
        assert_eq!(Target::of_ptx("nothing of the kind"), None);
        assert_eq!(Target::of_ptx(&ptx("compute")), None);
    }

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
