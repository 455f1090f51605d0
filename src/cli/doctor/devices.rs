//! CPU and GPUs: what is chosen, what is there, and what is missing.

use super::{Report, Section};
use crate::{
    cli::live::bytes_text,
    config::{Environment, Layer, Layers},
    device::{DeviceChoice, DtypeChoice, Probe, Selection},
};

pub(super) fn examine(environment: &Environment, report: &mut Report) {
    // A config that cannot be read is told elsewhere.
    let layers = Layers::load(Layer::default(), environment).ok();
    let (device, dtype) = layers.map_or_else(Default::default, |layers| layers.device());
    show(&Probe::of_machine(), device, dtype, report);
}

fn show(probe: &Probe, device: DeviceChoice, dtype: DtypeChoice, report: &mut Report) {
    let mut section = Section::new("device");
    section.row("asked for", format!("{device}, {dtype}"));
    match Selection::decide(device, dtype, probe) {
        Ok(selection) => section.row("used", selection.to_string()),
        Err(error) => {
            section.row("used", "none");
            report.problem(
                true,
                error.to_string(),
                "change --device, --dtype or the setting of that name",
            );
        }
    }
    section.row("NVIDIA driver", probe.kernel_driver.clone());
    for library in &probe.libraries {
        let text = match (&library.found, &library.version) {
            (None, _) => "missing".into(),
            (Some(file), None) => file.display().to_string(),
            (Some(file), Some(version)) => format!("{}, {version}", file.display()),
        };
        section.row(library.name, text);
    }
    for (number, gpu) in probe.gpus.iter().enumerate() {
        let (major, minor) = gpu.compute_capability;
        let text = format!(
            "{}, {}, compute capability {major}.{minor}",
            gpu.name,
            bytes_text(gpu.memory)
        );
        section.row(DeviceChoice::Cuda(number).to_string(), text);
    }
    report.sections.push(section);
    if let Some(driver) = probe.kernel_driver.as_ref().filter(|_| !probe.built) {
        report.problem(
            false,
            format!("there is an NVIDIA driver ({driver}), and this program was built without CUDA"),
            "build it with `cargo build --release --features cuda,cudnn` to compute on the GPU",
        );
    } else if let Some(obstacle) = probe.obstacle() {
        report.problem(
            false,
            format!("no GPU can be used: {obstacle}"),
            "or leave it: the CPU is used",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_without_a_build_for_it_is_told() {
        let mut report = Report::default();
        let probe = Probe {
            kernel_driver: Some("580.65.06".into()),
            ..Probe::none()
        };
        show(&probe, DeviceChoice::Auto, DtypeChoice::Auto, &mut report);
        assert!(report.can_generate() && report.problems[0].what.contains("580.65.06"));
        show(&probe, DeviceChoice::Cuda(1), DtypeChoice::Auto, &mut report);
        assert!(!report.can_generate());
    }
}
