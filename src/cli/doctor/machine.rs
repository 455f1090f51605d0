//! Processor, threads, memory.

use sysinfo::System;

use super::{Report, Section};
use crate::{
    cli::live::bytes_text,
    config::{Environment, Layer, Layers},
};

pub(super) fn examine(environment: &Environment, report: &mut Report) {
    report.sections.push(processor());
    report.sections.push(threads(environment));
    if let Some(value) = environment.get("RAYON_NUM_THREADS")
        && value.to_str().and_then(|text| text.parse::<usize>().ok()).is_none()
    {
        let value = value.to_string_lossy();
        report.problem(
            false,
            format!("RAYON_NUM_THREADS is `{value}`, which is no number of threads; it is passed over"),
            "set it to a whole number, or unset it",
        );
    }
    report.sections.push(memory());
}

/// Extensions of the instruction set that the kernels use or could use, and whether the processor has them.
fn extensions() -> Vec<(&'static str, bool)> {
    #[cfg(target_arch = "x86_64")]
    macro_rules! detect {
        ($($name:tt),+) => { vec![$(($name, std::arch::is_x86_feature_detected!($name))),+] };
    }
    #[cfg(target_arch = "x86_64")]
    return detect!(
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512vnni",
        "avx512bf16"
    );
    #[cfg(target_arch = "aarch64")]
    return vec![("neon", std::arch::is_aarch64_feature_detected!("neon"))];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Vec::new()
}

fn processor() -> Section {
    let extensions = extensions();
    let has = |name: &str| extensions.iter().any(|(known, there)| *known == name && *there);
    // As the kernels choose: `kernels/convolution/inner_loop.rs`, and the targets of `multiversion` in `kernels/`.
    let convolution = match () {
        () if has("avx512f") => "AVX-512",
        () if has("avx2") && has("fma") => "AVX2",
        () if has("neon") => "NEON",
        () => "portable",
    };
    let other = match () {
        () if has("avx512f") && has("avx512bw") && has("avx512vl") => "AVX-512",
        () if has("avx2") && has("fma") => "AVX2",
        () if has("neon") => "NEON",
        () => "portable",
    };
    let mut section = Section::new("processor");
    let present = extensions.iter().filter(|(_, there)| *there).map(|(name, _)| *name);
    section.row("architecture", std::env::consts::ARCH);
    section.row("extensions", present.collect::<Vec<_>>());
    section.row("convolutions use", convolution);
    section.row("other kernels use", other);
    section
}

fn threads(environment: &Environment) -> Section {
    let mut section = Section::new("threads");
    section.row("physical cores", System::physical_core_count());
    section.row(
        "available to this process",
        std::thread::available_parallelism().ok().map(usize::from),
    );
    // A config that cannot be read is told elsewhere.
    let set = Layers::load(Layer::default(), environment)
        .ok()
        .and_then(|layers| layers.threads());
    section.row("used for computing", set.unwrap_or_else(rayon::current_num_threads));
    for name in ["RAYON_NUM_THREADS", "DEEPFORCING_THREADS"] {
        let value = environment.get(name).map(|value| value.to_string_lossy().into_owned());
        section.row(name, value);
    }
    section
}

fn memory() -> Section {
    let mut system = System::new();
    system.refresh_memory();
    let mut section = Section::new("memory");
    section.row("total", bytes_text(system.total_memory()));
    section.row("available", bytes_text(system.available_memory()));
    section.row("swap", bytes_text(system.total_swap()));
    if let Some(limits) = system
        .cgroup_limits()
        .filter(|limits| limits.total_memory < system.total_memory())
    {
        section.row("limit of this container", bytes_text(limits.total_memory));
        section.row("free in this container", bytes_text(limits.free_memory));
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_number_of_threads_is_a_problem_and_no_obstacle() {
        let variables = |value: &str| [("RAYON_NUM_THREADS".into(), value.into())].into_iter().collect();
        let mut report = Report::default();
        examine(&variables("2"), &mut report);
        assert!(report.problems.is_empty());
        examine(&variables("many"), &mut report);
        assert!(report.problems[0].what.contains("`many`") && report.can_generate());
    }
}
