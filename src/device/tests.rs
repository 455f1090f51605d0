use super::*;

fn library(name: &'static str, found: bool) -> Library {
    Library {
        name,
        files: &["libone.so.1", "libone.so.2"],
        found: found.then(|| "libone.so.1".into()),
        version: None,
        todo: "install it",
    }
}

/// A build with CUDA on a machine with `gpus` GPUs.
fn machine(gpus: usize) -> Probe {
    let gpu = Gpu {
        name: "Fast".into(),
        memory: 24_000_000_000,
        compute_capability: (9, 0),
    };
    Probe {
        built: true,
        built_for: Some(13000),
        kernel_driver: Some("580.65.06".into()),
        driver_runs: Some(13000),
        kernels: vec![Target::of_ptx(".target sm_80").unwrap()],
        libraries: vec![library("the NVIDIA driver", true), library("cuBLAS", true)],
        gpus: vec![gpu; gpus],
        failure: None,
    }
}

fn decide(device: &str, dtype: &str, probe: &Probe) -> Result<Selection, DeviceError> {
    Selection::decide(device.parse().unwrap(), dtype.parse().unwrap(), probe)
}

#[test]
fn choices_are_read_as_they_are_written() {
    for text in ["auto", "cpu", "cuda", "cuda:3"] {
        assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
    }
    assert_eq!("cuda:0".parse(), Ok(DeviceChoice::Cuda(0)));
    for text in ["gpu", "cuda:", "cuda:-1", "cuda:x", ""] {
        let error = text.parse::<DeviceChoice>().unwrap_err();
        assert!(error.contains("cuda:N"), "{text}: {error}");
    }
    for text in DtypeChoice::NAMES {
        assert_eq!(text.parse::<DtypeChoice>().unwrap().to_string(), *text);
    }
    assert!("f16".parse::<DtypeChoice>().is_err());
}

#[test]
fn a_gpu_computes_in_bf16_and_the_cpu_in_f32() {
    let told = |device, dtype, probe: &Probe| decide(device, dtype, probe).map(|selection| selection.to_string());
    let machine = machine(2);
    for (device, dtype, expected) in [
        ("auto", "auto", "cuda, bf16"),
        ("auto", "f32", "cuda, f32"),
        ("cuda:1", "auto", "cuda:1, bf16"),
        ("cpu", "auto", "cpu, f32"),
        ("cpu", "f32", "cpu, f32"),
    ] {
        assert_eq!(
            told(device, dtype, &machine).as_deref(),
            Ok(expected),
            "{device} {dtype}"
        );
    }
    assert_eq!(told("cpu", "bf16", &machine), Err(DeviceError::Bf16OnCpu));
    let recorded = decide("cuda:1", "auto", &machine).unwrap();
    assert_eq!((recorded.kind(), recorded.dtype_name()), ("cuda", "bf16"));
}

#[test]
fn a_build_without_cuda_says_how_to_get_one() {
    let probe = Probe::none();
    assert_eq!(decide("auto", "auto", &probe), Ok(Selection::cpu()));
    let error = decide("cuda:1", "auto", &probe).unwrap_err();
    let message = error.to_string();
    assert!(
        error.is_usage() && message.contains("`cuda:1`") && message.contains("--features cuda,cudnn"),
        "{message}"
    );
}

#[test]
fn auto_goes_on_without_what_is_missing_and_cuda_refuses() {
    let mut probe = machine(1);
    probe.libraries[1].found = None;
    let fallback = decide("auto", "auto", &probe).unwrap();
    assert_eq!(fallback.to_string(), "cpu, f32");
    let note = fallback.note.unwrap();
    assert!(
        note.contains("cuBLAS (libone.so.1 or libone.so.2) is missing: install it"),
        "{note}"
    );
    let message = decide("cuda", "auto", &probe).unwrap_err().to_string();
    assert!(
        message.contains("cuBLAS") && message.contains("--device cpu"),
        "{message}"
    );
    probe.libraries[0].found = None;
    let obstacle = probe.obstacle().unwrap();
    assert!(
        obstacle.contains("the NVIDIA driver (") && obstacle.contains("are missing"),
        "{obstacle}"
    );

    let none = decide("auto", "bf16", &machine(0));
    assert_eq!(none, Err(DeviceError::Bf16OnCpu));
    let message = decide("cuda:4", "auto", &machine(1)).unwrap_err().to_string();
    assert!(message.contains("has 1 GPU,"), "{message}");
}

#[test]
fn an_old_driver_is_named_with_its_version() {
    let mut probe = machine(1);
    probe.driver_runs = Some(12040);
    let obstacle = probe.obstacle().unwrap();
    for part in ["580.65.06", "up to 12.4", "built for 13.0", "toolkit of CUDA 12.4"] {
        assert!(obstacle.contains(part), "{obstacle} should say {part}");
    }
    probe.driver_runs = Some(13020);
    assert_eq!(probe.obstacle(), None);
    // Kernels of a later minor version are unknown to the driver, too.
    probe.built_for = Some(13030);
    assert!(probe.obstacle().unwrap().contains("up to 13.2"));
}

#[test]
fn a_gpu_that_cannot_run_the_kernels_is_passed_over() {
    let mut probe = machine(2);
    probe.gpus[0].compute_capability = (7, 5);
    // The second one will do.
    assert_eq!(decide("auto", "auto", &probe).unwrap().gpu(), Some(1));
    let message = decide("cuda", "auto", &probe).unwrap_err().to_string();
    for part in ["`cuda`", "7.5", "8.0 and newer", "--device cpu"] {
        assert!(message.contains(part), "{message} should say {part}");
    }
    assert!(decide("cuda:1", "auto", &probe).is_ok());
    // None will do.
    probe.gpus[1].compute_capability = (8, 9);
    probe.kernels.push(Target::of_ptx(".target sm_90a").unwrap());
    probe.gpus.swap(0, 1);
    let fallback = decide("auto", "auto", &probe).unwrap();
    assert_eq!(fallback.gpu(), None);
    let note = fallback.note.unwrap();
    for part in ["8.9", "9.0 alone", "CUDA_COMPUTE_CAP=89"] {
        assert!(note.contains(part), "{note} should say {part}");
    }
}

#[test]
fn this_build_opens_the_cpu() {
    let compute = Selection::choose(DeviceChoice::Cpu, DtypeChoice::Auto)
        .unwrap()
        .open()
        .unwrap();
    compute.synchronize().unwrap();
    assert!(compute.device.is_cpu() && compute.memory().is_none());
}
