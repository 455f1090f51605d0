//! What numbers were measured on.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::device::{Probe, Selection};

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Machine {
    pub system: String,
    pub processor: String,
    pub cores: Option<usize>,
    /// Threads to compute with.
    pub threads: usize,
    /// Bytes.
    pub memory: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Version of the NVIDIA driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Libraries of CUDA with their versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub libraries: Vec<String>,
}

impl Machine {
    /// This machine, with the GPU that is selected.
    pub fn this(selection: &Selection) -> Self {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        let name = |text: Option<String>| text.unwrap_or_else(|| "unknown".into());
        let mut machine = Self {
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor: name(processor()),
            cores: sysinfo::System::physical_core_count(),
            threads: rayon::current_num_threads(),
            memory: system.total_memory(),
            gpu: None,
            driver: None,
            libraries: Vec::new(),
        };
        if let Some(number) = selection.gpu() {
            let probe = Probe::of_machine();
            machine.gpu = probe.gpus.get(number).map(|gpu| gpu.name.clone());
            machine.driver = probe.kernel_driver;
            let known = probe.libraries.into_iter().filter_map(|library| {
                let version = library.version?;
                Some(format!("{} {version}", library.name))
            });
            machine.libraries = known.collect();
        }
        machine
    }
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The most memory that this process has taken so far, in bytes; `None` where the system does not tell.
pub fn peak_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Memory that this process takes now, in bytes.
pub fn memory_now() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}
